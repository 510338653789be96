//! What can go wrong with links, and what can be done about it.

use std::path::PathBuf;

use millstream_runtime::ids::NodeId;
use millstream_runtime::ports::ErrorKind;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A certificate or key file cannot be read or written.
    #[error("{path}: {problem}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// Certificates are there, but no link can be made with them.
    #[error("{0}")]
    Certificate(String),
    /// The socket or the randomness of the machine cannot be used.
    #[error("{0}")]
    System(String),
    /// There is no link to that node just now.
    #[error("there is no link to node {0}")]
    NotLinked(NodeId),
    /// A control message is longer than allowed.
    #[error("a control message of {bytes} bytes, the limit is {limit}")]
    TooLong {
        /// Its bytes.
        bytes: usize,
        /// [`Options::max_control_bytes`](crate::Options::max_control_bytes).
        limit: u32,
    },
    /// The peer reads too slowly; the link was given up.
    #[error("node {0} does not read its control messages; the link was given up")]
    Backlog(NodeId),
}

impl Error {
    /// What can be done about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::File { .. } | Self::Certificate(_) | Self::System(_) | Self::TooLong { .. } => ErrorKind::FixInput,
            Self::NotLinked(_) | Self::Backlog(_) => ErrorKind::Retry,
        }
    }
}
