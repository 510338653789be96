//! Why the server could not be started.

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
}

impl Error {
    /// Whether another program (or another run) has the port.
    #[must_use]
    pub fn is_address_in_use(&self) -> bool {
        let Self::Bind { source, .. } = self;
        source.kind() == std::io::ErrorKind::AddrInUse
    }
}
