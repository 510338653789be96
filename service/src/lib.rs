//! The REST server: Flink's v1 paths and shapes over whatever can answer for a cluster, and Prometheus' `/metrics`.
//!
//! | question | module |
//! |---|---|
//! | what a cluster must answer | [`api`] |
//! | which paths exist | [`routes`] |
//! | how it starts and stops | [`server`] |
//! | who answers, and where clients are sent otherwise | [`leading`] |
//! | what Prometheus scrapes of a process that serves no REST | [`scrape`] |
//! | what runs in the background, by trigger id | [`operations`] |
//! | how parameters are read and errors are written | [`exchange`] |
//!
//! ```no_run
//! # async fn example(api: std::sync::Arc<dyn millstream_service::ClusterApi>) -> Result<(), millstream_service::Error> {
//! let server = millstream_service::Server::start("127.0.0.1", 0, api).await?;
//! println!("http://{}/v1/jobs/overview", server.local_address());
//! server.shutdown(std::time::Duration::from_secs(1)).await;
//! # Ok(())
//! # }
//! ```
#![deny(missing_docs)]

pub mod api;
mod error;
pub mod exchange;
pub mod leading;
pub mod operations;
pub mod routes;
pub mod scrape;
pub mod server;

pub use api::{Answer, ApiError, ClusterApi, MetricsOf};
pub use error::Error;
pub use leading::Leading;
pub use scrape::Scrape;
pub use server::Server;
