//! What can go wrong before a job runs and where a user's own code reports that it did. Used by the API, the jobs and
//! the command line.

use millstream_runtime::graph::chaining::PlanError;
use millstream_runtime::ports::{ErrorKind, PortError};

/// What a job's own code answers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a program that links Millstream. The text is shown to users as it stands.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The command line or the job's own options are wrong.
    #[error("{0}")]
    Usage(String),
    /// The graph of the job cannot be deployed.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A connector, a state or an operator failed.
    #[error(transparent)]
    Port(#[from] PortError),
}

impl Error {
    /// An error in what the user typed; says what to type instead.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    /// What can be done about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Usage(_) | Self::Plan(_) => ErrorKind::FixInput,
            Self::Port(error) => error.kind,
        }
    }
}
