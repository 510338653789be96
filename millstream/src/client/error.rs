//! What goes wrong between a command and its server, and with which exit code the command ends.

/// A command that the server did not carry out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answers: exit code 4.
    #[error(
        "no cluster answers at {url}: {reason}; start one, or name its place with -D rest.address=… and -D rest.port=…"
    )]
    NotReachable {
        /// The server.
        url: String,
        /// What the system says.
        reason: String,
    },
    /// The connection broke before the answer came: exit code 4.
    #[error(
        "{url} gave no answer ({reason}): whether the request was carried out is not known, `list` and `describe` show it"
    )]
    Unanswered {
        /// The server.
        url: String,
        /// What the system says.
        reason: String,
    },
    /// The server does not do it; the message is its own.
    #[error("{message}")]
    Refused {
        /// HTTP status code.
        status: u16,
        /// All its errors, a line each.
        message: String,
    },
    /// The operation was started and failed: exit code 1.
    #[error("the {what} failed: {reason}")]
    OperationFailed {
        /// Checkpoint or savepoint.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// The operation takes longer than the command waits: exit code 1.
    #[error("the {what} is still in progress; its outcome will be at {path}")]
    StillRunning {
        /// Checkpoint or savepoint.
        what: &'static str,
        /// Where to ask for it.
        path: String,
    },
    /// The job's id is not one: exit code 2.
    #[error("{reason}; `millstream list` shows the ids of jobs")]
    BadId {
        /// What is wrong.
        reason: String,
    },
    /// The job's name is not one: exit code 2.
    #[error("'{name}' is no name of a job; `millstream jobs` shows those of this program")]
    BadName {
        /// What was given.
        name: String,
    },
    /// The address of the server is not one: exit code 2.
    #[error("'{address}' is not of the form http://HOST:PORT")]
    BadAddress {
        /// What was given.
        address: String,
    },
    /// This program does not know which build it is: exit code 1.
    #[error("{reason}")]
    Executable {
        /// Why.
        reason: String,
    },
    /// The answer is not of the form expected: exit code 4, it is no such cluster.
    #[error("{url} does not answer like a Millstream or Flink cluster: {reason}")]
    Unexpected {
        /// The server.
        url: String,
        /// What is wrong.
        reason: String,
    },
}

impl Error {
    /// The exit code of a command that ends with it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotReachable { .. }
            | Self::Unanswered { .. }
            | Self::Unexpected { .. }
            | Self::Refused { status: 503, .. } => 4,
            // A conflict is about the state of the job, the others about what was asked.
            Self::Refused { status: 409, .. } => 3,
            Self::Refused { status: 400..=499, .. }
            | Self::BadId { .. }
            | Self::BadName { .. }
            | Self::BadAddress { .. } => 2,
            Self::Refused { .. }
            | Self::OperationFailed { .. }
            | Self::StillRunning { .. }
            | Self::Executable { .. } => 1,
        }
    }
}
