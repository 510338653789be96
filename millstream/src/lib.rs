//! Millstream: a stateful stream processor with Apache Flink's semantics. A program that links this library and calls
//! its API *is* the whole system.
//!
//! | question | module |
//! |---|---|
//! | how a job is written | [`stream`], [`prelude`] |
//! | which jobs come with Millstream | [`mod@jobs`] |
//! | how a job is tested without a cluster | [`harness`] |
//! | what can go wrong before it runs | [`error`] |
//! | the command line of such a program | [`main`] |
//! | which build a program is | [`executable`] |
//! | how jobs are submitted to a cluster and looked after | [`client`] |
//!
//! ```no_run
//! use millstream::prelude::*;
//!
//! #[derive(Clone, serde::Serialize, serde::Deserialize)]
//! struct Transaction {
//!     user_id: u64,
//!     time: Timestamp,
//!     amount_cents: u64,
//! }
//!
//! #[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
//! struct SpendingPattern {
//!     user_id: u64,
//!     transactions: u64,
//!     amount_cents: u64,
//! }
//!
//! impl Aggregate for SpendingPattern {
//!     type In = Transaction;
//!     type Accumulator = Self;
//!     type Out = Self;
//!
//!     fn create(&self) -> Self {
//!         Self::default()
//!     }
//!
//!     fn add(&self, pattern: &mut Self, transaction: Transaction) {
//!         pattern.user_id = transaction.user_id;
//!         pattern.transactions += 1;
//!         pattern.amount_cents += transaction.amount_cents;
//!     }
//!
//!     fn result(&self, pattern: Self, _window: Window) -> Self {
//!         pattern
//!     }
//! }
//!
//! fn spending_alerts(env: &Environment) -> millstream::Result<()> {
//!     env.from_source("transactions", FileSource::<Transaction>::json_lines("data/transactions"))
//!         .assign_watermarks(Watermarks::bounded_out_of_orderness(seconds(5)), |t| t.time)
//!         .key_by(|t| t.user_id)
//!         .window(Tumbling::event_time(minutes(5)))
//!         .aggregate(SpendingPattern::default())
//!         .filter(|pattern| pattern.transactions > 10)
//!         .sink_to("alerts", FileSink::json_lines("out/alerts"));
//!     Ok(())
//! }
//! ```
#![deny(missing_docs)]

mod cli;
pub mod client;
pub mod error;
pub mod executable;
pub mod harness;
pub mod jobs;
mod launcher;
mod node;
pub mod prelude;
mod run;
mod serve;
pub mod stream;
mod watchdog;

pub use cli::main;
pub use error::{Error, Result};
