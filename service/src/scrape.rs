//! The endpoint that Prometheus scrapes: every process has its own, also those that serve no REST.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use millstream_actors::metrics::Registry;
use millstream_actors::metrics::prometheus::CONTENT_TYPE;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::error::Error;

/// A running endpoint. Dropping it ends it at once.
#[derive(Debug)]
pub struct Scrape {
    local_address: SocketAddr,
    task: JoinHandle<()>,
}

impl Scrape {
    /// Serves what is registered under `/metrics` on the first of these ports that is free; port 0 takes any free one.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start(address: &str, ports: RangeInclusive<u16>, registry: Arc<Registry>) -> Result<Self, Error> {
        let (first, last) = (*ports.start(), *ports.end());
        let refused = |source| Error::BindMetrics { address: address.to_string(), first, last, source };
        let mut bound = Err(refused(std::io::ErrorKind::InvalidInput.into()));
        for port in ports {
            bound = TcpListener::bind((address, port)).await.map_err(refused);
            if bound.is_ok() {
                break;
            }
        }
        let listener = bound?;
        let local_address = listener.local_addr().map_err(refused)?;
        let router = Router::new().route("/metrics", get(move || std::future::ready(answer(&registry))));
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the endpoint for Prometheus ended");
            }
        });
        tracing::info!("Prometheus can scrape http://{local_address}/metrics");
        Ok(Self { local_address, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }
}

fn answer(registry: &Registry) -> axum::response::Response {
    match registry.prometheus() {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    }
}

impl Drop for Scrape {
    fn drop(&mut self) {
        self.task.abort();
    }
}
