//! Starts and stops the server. Used by `run`, `cluster` and `node`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::api::ClusterApi;
use crate::error::Error;
use crate::leading::Leading;
use crate::operations::Operations;
use crate::routes::{self, Site};

/// How long connections that are in the middle of an answer may take at the end.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// A running server. Dropping it ends it at once.
#[derive(Debug)]
pub struct Server {
    local_address: SocketAddr,
    operations: Arc<Operations>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Server {
    /// Listens on the address for a cluster that this process leads to its end; port 0 takes a free one.
    ///
    /// # Errors
    /// When the address cannot be bound, see [`Error::is_address_in_use`].
    pub async fn start(address: &str, port: u16, api: Arc<dyn ClusterApi>) -> Result<Self, Error> {
        let (_always, leading) = watch::channel(Leading::Here(api));
        Self::follow(address, port, leading).await
    }

    /// Listens on the address for a cluster whose leader changes: every path answers for the cluster while this process
    /// leads, with a redirection to the leader (307) while another one does, and with 503 while none is known.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn follow(address: &str, port: u16, leading: watch::Receiver<Leading>) -> Result<Self, Error> {
        let bind = |source| Error::Bind { address: address.to_string(), port, source };
        let listener = TcpListener::bind((address, port)).await.map_err(bind)?;
        let local_address = listener.local_addr().map_err(bind)?;
        let operations = Arc::new(Operations::default());
        let router = routes::router(Site { leading, operations: operations.clone(), address: local_address });
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let stopped = async {
                // The sender dropped means the same as the sender used.
                let _ = stopped.await;
            };
            if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped).await {
                tracing::error!(%error, "the REST server ended");
            }
        });
        tracing::info!(address = %local_address, "REST server listens");
        Ok(Self { local_address, operations, stop: Some(stop), task })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// Ends it. Waits up to `grace` until clients have read the outcome of every operation they started.
    pub async fn shutdown(mut self, grace: Duration) {
        self.operations.drained(grace).await;
        if let Some(stop) = self.stop.take() {
            // It may have ended by itself.
            let _ = stop.send(());
        }
        // A client that keeps its connection open must not keep the process alive: drop ends what is left.
        let _ = tokio::time::timeout(LAST_ANSWERS, &mut self.task).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}
