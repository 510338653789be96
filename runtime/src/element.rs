//! What travels on a channel, in order with the data: batches, watermarks, idleness, barriers and the end.

use serde::{Deserialize, Serialize};

use crate::ids::{AttemptId, CheckpointId};
use crate::time::Timestamp;

/// One element of a channel, generic in the payload so that the machines can be tested with plain numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Element<B> {
    /// Rows; the only element that costs credit.
    Batch(B),
    /// No later row on this channel has a timestamp at or below this, unless it is late.
    Watermark(Timestamp),
    /// The channel is left out of the watermark minimum until `Active`.
    Idle,
    /// The channel takes part in the watermark minimum again.
    Active,
    /// The cut between two checkpoints.
    Barrier(Barrier),
    /// No more rows; only barriers may follow.
    EndOfInput,
}

/// Marks the place of a checkpoint in every channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Barrier {
    /// The checkpoint it belongs to.
    pub checkpoint: CheckpointId,
    /// The deployment it was triggered for.
    pub attempt: AttemptId,
    /// What the snapshot is for.
    pub purpose: Purpose,
    /// Whether channels wait for each other.
    pub mode: CheckpointingMode,
    /// Whether it may be taken ahead of rows that came before it.
    pub overtaking: Overtaking,
    /// When it was triggered, in milliseconds since the epoch: every subtask tells how long it was on its way.
    pub triggered_ms: i64,
}

/// What a snapshot is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// Recovery; incremental.
    Checkpoint,
    /// Kept by the user, self-contained; never commits transactions.
    Savepoint,
    /// A savepoint after which the job stops; commits after its record is written.
    StopWithSavepoint,
    /// The last checkpoint of a bounded job, taken behind the end of every input.
    Final,
}

/// Whether a barrier may overtake rows: those that it overtakes are part of the checkpoint (FLIP-76).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Overtaking {
    /// It stays behind every row before it.
    #[default]
    Never,
    /// Where it has waited so long, it is taken ahead of what it waits for, and goes on as [`Now`](Self::Now).
    After {
        /// Milliseconds at one subtask.
        timeout_ms: u64,
    },
    /// It is taken at once, ahead of everything that waits.
    Now,
}

/// `execution.checkpointing.mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckpointingMode {
    /// A subtask holds back the channels whose barrier has come until all have.
    #[default]
    ExactlyOnce,
    /// A subtask goes on reading; a restore may see rows twice.
    AtLeastOnce,
}
