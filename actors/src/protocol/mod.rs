//! What a job master and a task manager say to each other: plain data, the same in one process as over a link. A job
//! master knows subtasks by their ids only; whatever can arrive late carries the attempt it is about. An attempt is the
//! deployment of one region; a task manager has as many of a job as there are regions with subtasks on it.
//!
//! - [`deploy`]: what a task manager needs to run its part of an attempt
//! - [`gateway`]: how the messages get there

pub mod deploy;
pub mod gateway;
#[cfg(test)]
mod tests;

use millstream_runtime::checkpoint::coordinator::AckMetrics;
use millstream_runtime::checkpoint::manifest::Ack;
use millstream_runtime::element::{Barrier, Purpose};
use millstream_runtime::ids::{AttemptId, CheckpointId, SubtaskId};
use millstream_runtime::ports::source::Split;
use millstream_runtime::ports::{ErrorKind, PortError};
use millstream_runtime::time::Timestamp;
use millstream_state::log::LogPosition;
use serde::{Deserialize, Serialize};

use crate::metrics::subtask::SubtaskReading;

pub use deploy::{ChannelOptions, Deploy, TaskDeployment, TaskRestore};
pub use gateway::{Answers, TaskManagerGateway};

/// What a task manager is told about one job. Messages arrive in the order in which they were sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToTaskManager {
    /// Run these subtasks. Attempts of a job come in order: one older than another already known is answered with
    /// `Stopped`.
    Deploy(Box<Deploy>),
    /// For subtasks of an attempt that runs here; for any other attempt it is nothing.
    Order(AttemptId, Order),
    /// Stop every subtask of the attempt; answered with `Stopped` when none is left, also when there was none.
    Stop(AttemptId),
    /// Stop every attempt up to this one: the master that deployed them is lost.
    StopAll(AttemptId),
    /// The leader will send nothing more about the job: let go of what is kept open for it. Answered with `Released`.
    /// Nothing happens if the job has a newer attempt than this here.
    Release(AttemptId),
}

impl ToTaskManager {
    /// The attempt that it is about.
    #[must_use]
    pub fn attempt(&self) -> AttemptId {
        match self {
            Self::Deploy(deploy) => deploy.attempt,
            Self::Order(attempt, _) | Self::Stop(attempt) | Self::StopAll(attempt) | Self::Release(attempt) => *attempt,
        }
    }
}

/// What running subtasks are told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Order {
    /// Splits from the enumerator for one source subtask, in order with the triggers.
    Assign {
        /// The reader.
        subtask: SubtaskId,
        /// The splits.
        splits: SplitAssignment,
    },
    /// Take a checkpoint: for all sources of the attempt here.
    Trigger {
        /// The barrier to send.
        barrier: Barrier,
        /// End the input before it.
        drain: bool,
    },
    /// A checkpoint is complete: for all subtasks of the attempt here.
    Complete {
        /// Its number.
        checkpoint: CheckpointId,
        /// What it was for.
        purpose: Purpose,
        /// The place of its record in the job's log.
        position: Option<LogPosition>,
    },
    /// A checkpoint will not complete: for all subtasks of the attempt here.
    Abort(CheckpointId),
}

/// Splits for one reader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitAssignment {
    /// The splits.
    pub splits: Vec<Split>,
    /// The first assignment of the attempt.
    pub initial: bool,
    /// There will be no more.
    pub last: bool,
    /// Rows of these splits at or below it are late.
    pub floor: Timestamp,
}

/// What a task manager tells about one job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromTaskManager {
    /// A subtask tells something.
    Subtask {
        /// Which one.
        id: SubtaskId,
        /// Of which deployment.
        attempt: AttemptId,
        /// What it tells.
        report: SubtaskReport,
    },
    /// A subtask's actor has stopped for certain.
    Gone {
        /// Which one.
        id: SubtaskId,
        /// Of which deployment.
        attempt: AttemptId,
    },
    /// The deployment could not be made: nothing of it runs here.
    NotDeployed {
        /// Which deployment.
        attempt: AttemptId,
        /// Why.
        reason: Refusal,
    },
    /// Nothing of this attempt runs here or ever will.
    Stopped(AttemptId),
    /// The job is let go of.
    Released(AttemptId),
    /// What the subtasks measure, told every now and then while an attempt runs.
    Readings {
        /// Of which deployment.
        attempt: AttemptId,
        /// By subtask.
        readings: Vec<(SubtaskId, SubtaskReading)>,
    },
}

/// Why something could not be done, as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What can be done.
    pub kind: ErrorKind,
    /// For users.
    pub message: String,
}

impl From<PortError> for Refusal {
    fn from(PortError { kind, message }: PortError) -> Self {
        Self { kind, message }
    }
}

/// What a subtask tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SubtaskReport {
    /// Its operators are open.
    Running,
    /// Its state for a checkpoint is durable.
    Acked(Box<Ack>, AckMetrics),
    /// It cannot take a checkpoint.
    Declined {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Why.
        reason: String,
    },
    /// Its keyed state takes more memory than it may, and a checkpoint would let some of it leave.
    ShortOfMemory,
    /// All of its inputs have ended.
    EndOfData,
    /// The job is complete and everything it had is committed.
    Finished,
    /// It has failed and stopped.
    Failed(Refusal),
}
