//! What the coordinator asks for and answers: the whole vocabulary between it and the job manager's actor.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::checkpoint::manifest::SubtaskState;
use crate::element::{Barrier, Purpose};
use crate::ids::{AttemptId, CheckpointId, OperatorUid, SubtaskId, VertexId};

/// Number of a request by hand, given by the caller; its answer carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId(pub u64);

/// What is asked for by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its number.
    pub id: RequestId,
    /// A checkpoint now, a savepoint, or a savepoint behind which the job stops.
    pub purpose: Purpose,
    /// With a stop: let all windows and timers fire first, as at the end of the input.
    pub drain: bool,
}

/// Snapshot of a source's enumerator: the vertex, its operator and the state.
pub type EnumeratorSnapshot = (VertexId, OperatorUid, Vec<u8>);

/// The parts of a manifest that the coordinator has collected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// The newest of the deployments it was triggered for.
    pub attempt: AttemptId,
    /// What it is for.
    pub purpose: Purpose,
    /// The request it answers, if it was asked for by hand.
    pub request: Option<RequestId>,
    /// Processing time of the trigger.
    pub triggered_ms: i64,
    /// What every subtask has acknowledged, by vertex and index.
    pub subtasks: Vec<(SubtaskId, SubtaskState)>,
    /// What the enumerators have snapshotted.
    pub enumerators: Vec<EnumeratorSnapshot>,
    /// The checkpoints that can be restored once the record is written, oldest first, for the slot of the log.
    pub retained: Vec<Retained>,
}

/// A completed checkpoint that can be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retained {
    /// Its number.
    pub checkpoint: CheckpointId,
    /// What it was made for: savepoints are the user's and never deleted.
    pub purpose: Purpose,
}

/// What the job manager must do now. Commands of one event are carried out in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Snapshot all enumerators, after every earlier assignment is on its way to its reader.
    SnapshotEnumerators {
        /// For this checkpoint.
        checkpoint: CheckpointId,
    },
    /// Send the barrier to every source subtask, behind the assignments.
    SendTriggers {
        /// The barrier; each deployment gets it under its own number.
        barrier: Barrier,
        /// The deployments of all regions.
        attempts: BTreeSet<AttemptId>,
        /// End the input before the barrier (stop with drain).
        drain: bool,
    },
    /// Write manifest and log slot. At most one record is being written at a time. The writer keeps the record until
    /// the outcome is known.
    WriteRecord(Box<Record>),
    /// Find out what became of the record that was undecided, and write it again if it is absent.
    RetryRecord {
        /// Of this checkpoint.
        checkpoint: CheckpointId,
    },
    /// Tell every subtask that the checkpoint, and with it all cuts up to it, is complete.
    NotifyComplete {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// The deployments it was triggered for that still run: what came in the place of others was restored from it.
        attempts: BTreeSet<AttemptId>,
        /// Plain savepoints commit nothing and cover no cuts.
        purpose: Purpose,
    },
    /// Delete these completed checkpoints: the record just written no longer names them.
    Drop {
        /// Oldest first, no savepoints.
        checkpoints: Vec<CheckpointId>,
    },
    /// Tell every subtask that the checkpoint will not complete. Nothing is deleted.
    Abort {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// The deployments it was triggered for that still run.
        attempts: BTreeSet<AttemptId>,
        /// Why.
        reason: AbortReason,
    },
    /// The job fails; its restart strategy decides what follows.
    FailJob {
        /// Why, for users.
        reason: String,
    },
    /// The answer to a request by hand.
    Answer {
        /// The request.
        request: RequestId,
        /// The checkpoint that is durable now, or why there is none.
        result: Result<CheckpointId, RequestError>,
    },
    /// Call `tick` at this time; replaces an earlier wish.
    WakeAt(i64),
    /// The deployment of a region has ended and no record is in doubt: the newest restorable checkpoint is known.
    Settled {
        /// It; `None` means a start from nothing or from what the job was given.
        newest: Option<CheckpointId>,
    },
    /// Another leader has the log: stop everything without writing or deleting.
    StepDown,
}

/// Why a checkpoint was aborted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AbortReason {
    /// A subtask could not snapshot.
    #[error("subtask {subtask} declined it: {reason}")]
    Declined {
        /// The subtask.
        subtask: SubtaskId,
        /// Its words.
        reason: String,
    },
    /// An enumerator could not snapshot.
    #[error("an enumerator could not be snapshotted: {0}")]
    EnumeratorFailed(String),
    /// Not everything was acknowledged in time.
    #[error("it expired before all subtasks had acknowledged it (execution.checkpointing.timeout)")]
    Expired,
    /// A later one has completed.
    #[error("checkpoint {0} completed before it")]
    Subsumed(CheckpointId),
    /// A deployment it was triggered for is gone.
    #[error("deployment {0} ended")]
    AttemptEnded(AttemptId),
    /// The job is deployed as another graph.
    #[error("the job is deployed as another graph")]
    Redeployed,
    /// Manifest or slot certainly not written.
    #[error("its record could not be written: {0}")]
    RecordFailed(String),
}

impl AbortReason {
    /// Whether it counts against the tolerable failures: restarts and subsumption are nobody's failure.
    #[must_use]
    pub fn counts_as_failure(&self) -> bool {
        match self {
            Self::Declined { .. } | Self::EnumeratorFailed(_) | Self::Expired | Self::RecordFailed(_) => true,
            Self::Subsumed(_) | Self::AttemptEnded(_) | Self::Redeployed => false,
        }
    }
}

/// Why a request by hand has no checkpoint to show.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Too many wait already.
    #[error("{0} requests for checkpoints and savepoints are waiting already; try again when they are done")]
    QueueFull(usize),
    /// Not every region runs.
    #[error("the job is not running; try again when it is")]
    NotRunning,
    /// A stop or the final checkpoint is under way.
    #[error("the job is stopping")]
    Stopping,
    /// Not something to be asked for.
    #[error("final checkpoints are made at the end of the input, not by request")]
    NotRequestable,
    /// It was started and aborted.
    #[error("checkpoint {checkpoint} failed: {reason}")]
    Failed {
        /// Its number.
        checkpoint: CheckpointId,
        /// Why.
        reason: AbortReason,
    },
    /// Another leader has taken over; whether the checkpoint exists is known to it only.
    #[error("another leader has taken over the job; ask it")]
    Deposed,
}

/// How an acknowledgement was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckReply {
    /// Counted.
    Success,
    /// The subtask had acknowledged this checkpoint before.
    Duplicate,
    /// No such checkpoint or no such subtask.
    Unknown,
    /// From another deployment.
    Stale,
    /// The checkpoint was aborted or subsumed meanwhile.
    Discarded,
}

/// How any other event was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Obeyed.
    Accepted,
    /// About a deployment or checkpoint that is not (or no longer) waited for: nothing was done.
    Stale,
}

/// Why a deployment cannot be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The one before has not ended.
    #[error("deployment {0} is still running")]
    Running(AttemptId),
    /// What the job would be restored from is not known yet.
    #[error("whether checkpoint {0} is recorded is not decided yet; wait for `Settled`")]
    Undecided(CheckpointId),
    /// Not newer than the last.
    #[error("deployment {0} is not newer than the last one")]
    NotNewer(AttemptId),
    /// Another leader has the log.
    #[error("another leader has taken over the job")]
    Deposed,
}
