//! Flink's job states, and when each was entered. Shown by REST and the command line as they stand.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a job is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum JobStatus {
    /// Accepted, not yet handed to its job manager.
    Initializing,
    /// Its first deployment is under way.
    Created,
    /// All subtasks run.
    Running,
    /// Failed for good; its subtasks are being cancelled.
    Failing,
    /// Ended by a failure.
    Failed,
    /// A user wants it cancelled; its subtasks are being cancelled.
    Cancelling,
    /// Ended by a user.
    Canceled,
    /// Ended at the end of its input or by a stop with savepoint.
    Finished,
    /// Failed; waits for its old subtasks to go, for its delay, and for the new ones to run.
    Restarting,
    /// Given up here because another leader goes on with it.
    Suspended,
}

impl JobStatus {
    /// All states in Flink's order.
    pub const ALL: [Self; 10] = [
        Self::Initializing,
        Self::Created,
        Self::Running,
        Self::Failing,
        Self::Failed,
        Self::Cancelling,
        Self::Canceled,
        Self::Finished,
        Self::Restarting,
        Self::Suspended,
    ];

    /// Flink's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Initializing => "INITIALIZING",
            Self::Created => "CREATED",
            Self::Running => "RUNNING",
            Self::Failing => "FAILING",
            Self::Failed => "FAILED",
            Self::Cancelling => "CANCELLING",
            Self::Canceled => "CANCELED",
            Self::Finished => "FINISHED",
            Self::Restarting => "RESTARTING",
            Self::Suspended => "SUSPENDED",
        }
    }

    /// Ended wherever it might run: nobody will go on with it.
    #[must_use]
    pub const fn is_globally_terminal(self) -> bool {
        matches!(self, Self::Failed | Self::Canceled | Self::Finished)
    }

    /// Ended here.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        self.is_globally_terminal() || matches!(self, Self::Suspended)
    }
}

impl fmt::Display for JobStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// When each state was last entered, in milliseconds since the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatusTimestamps([i64; 10]);

impl StatusTimestamps {
    /// When the state was last entered; 0 if never, as Flink shows it.
    #[must_use]
    pub fn get(&self, status: JobStatus) -> i64 {
        self.0[status as usize]
    }

    /// Every state with its time, in Flink's order.
    pub fn iter(&self) -> impl Iterator<Item = (JobStatus, i64)> {
        JobStatus::ALL.into_iter().map(|status| (status, self.get(status)))
    }

    pub(super) fn set(&mut self, status: JobStatus, now_ms: i64) {
        self.0[status as usize] = now_ms;
    }
}

impl Serialize for StatusTimestamps {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(status, at)| (status.name(), at)))
    }
}
