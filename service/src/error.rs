//! Why a server could not be started.

/// A server that cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be bound.
    #[error("the REST server cannot listen on {address}:{port}: {source}; set rest.port to a free port, or to 0")]
    Bind {
        /// What was asked for.
        address: String,
        /// What was asked for.
        port: u16,
        /// What the system says.
        source: std::io::Error,
    },
    /// No port for Prometheus can be bound.
    #[error(
        "metrics cannot be served on any port of {address}:{first}-{last}: {source}; set metrics.reporter.prom.port to a free port or a wider range"
    )]
    BindMetrics {
        /// What was asked for.
        address: String,
        /// The first port that was tried.
        first: u16,
        /// The last port that was tried.
        last: u16,
        /// What the system says of the last.
        source: std::io::Error,
    },
}

impl Error {
    /// Whether another program (or another run) has the port.
    #[must_use]
    pub fn is_address_in_use(&self) -> bool {
        let (Self::Bind { source, .. } | Self::BindMetrics { source, .. }) = self;
        source.kind() == std::io::ErrorKind::AddrInUse
    }
}
