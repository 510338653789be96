//! Operations that run in the background: started with a trigger id, asked for with it until they are completed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Names an operation; 32 hex digits. Starting twice with the same id starts once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TriggerId(pub [u8; 16]);

impl fmt::Display for TriggerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TriggerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TriggerId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // One parser for all ids of this form.
        text.parse::<millstream_runtime::ids::JobId>().map(|id| Self(id.0))
    }
}

/// How far an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StatusName {
    /// Not yet begun.
    Queued,
    /// Begun.
    InProgress,
    /// Ended, well or not.
    Completed,
}

/// An operation and, once completed, what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperationStatus {
    /// Not yet begun.
    Queued,
    /// Begun.
    InProgress,
    /// Succeeded.
    Completed(OperationResult),
    /// Failed.
    Failed(FailureCause),
}

impl OperationStatus {
    /// The name in `status.id`.
    #[must_use]
    pub fn name(&self) -> StatusName {
        match self {
            Self::Queued => StatusName::Queued,
            Self::InProgress => StatusName::InProgress,
            Self::Completed(_) | Self::Failed(_) => StatusName::Completed,
        }
    }
}

/// What a successful operation made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OperationResult {
    /// A savepoint.
    Savepoint {
        /// Where it lies.
        location: String,
    },
    /// A checkpoint.
    Checkpoint {
        /// Its number.
        #[serde(rename = "checkpointId")]
        checkpoint_id: u64,
    },
    /// Nothing to name.
    Done {},
}

/// Why an operation failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FailureCause {
    /// Kind of failure.
    pub class: String,
    /// The message with its causes.
    pub stack_trace: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trigger_ids_are_32_hex_digits() {
        let id: TriggerId = "000102030405060708090a0b0c0d0eff".parse().expect("32 hex digits");
        assert_eq!(id.to_string(), "000102030405060708090a0b0c0d0eff");
        assert!("0001".parse::<TriggerId>().is_err());
    }
}
