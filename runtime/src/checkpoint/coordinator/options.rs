//! Settings of the coordinator (`execution.checkpointing.*`).

use serde::{Deserialize, Serialize};

use crate::element::{CheckpointingMode, Overtaking, Purpose};

/// When checkpoints are made, how long they may take and how many are kept. The default is Flink's, without an interval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Milliseconds between the starts of two periodic checkpoints; `None` makes none of its own accord.
    pub interval_ms: Option<i64>,
    /// Milliseconds after which a checkpoint that is not acknowledged by all is aborted.
    pub timeout_ms: i64,
    /// Milliseconds at least between the end of a checkpoint and the start of the next periodic one. If it is above
    /// 0, only one checkpoint is pending at a time.
    pub min_pause_ms: i64,
    /// Pending checkpoints and savepoints at most, at least 1.
    pub max_concurrent: u32,
    /// Checkpoints in a row that may fail; one more fails the job. `None` tolerates all.
    pub tolerable_failed: Option<u32>,
    /// Completed checkpoints kept; at least 2, because commits of the newest may have begun when it turns out damaged.
    pub num_retained: u32,
    /// Whether channels wait for each other.
    pub mode: CheckpointingMode,
    /// Milliseconds that a barrier of a checkpoint may wait at a subtask before it overtakes rows; 0 overtakes at once,
    /// `None` never. Counts exactly once and with one checkpoint at a time only; savepoints never overtake.
    pub aligned_timeout_ms: Option<u64>,
    /// Checkpoints remembered for the statistics (`web.checkpoints.history`).
    pub history_size: usize,
    /// Requests by hand that may wait; the next one is refused.
    pub max_queued_requests: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            interval_ms: None,
            timeout_ms: 600_000,
            min_pause_ms: 0,
            max_concurrent: 1,
            tolerable_failed: Some(0),
            num_retained: 2,
            mode: CheckpointingMode::ExactlyOnce,
            aligned_timeout_ms: None,
            history_size: 10,
            max_queued_requests: 16,
        }
    }
}

impl Options {
    /// Pending checkpoints at most: a minimal pause leaves room for one.
    #[must_use]
    pub fn max_pending(&self) -> usize {
        if self.min_pause_ms > 0 { 1 } else { self.max_concurrent.max(1) as usize }
    }

    /// Whether the barriers of a checkpoint may overtake rows. One behind which subtasks end may not: what it overtook
    /// would never be processed.
    #[must_use]
    pub fn overtaking(&self, purpose: Purpose) -> Overtaking {
        let allowed = self.mode == CheckpointingMode::ExactlyOnce && self.max_concurrent == 1;
        match (purpose, self.aligned_timeout_ms) {
            (Purpose::Checkpoint, Some(0)) if allowed => Overtaking::Now,
            (Purpose::Checkpoint, Some(timeout_ms)) if allowed => Overtaking::After { timeout_ms },
            (Purpose::Checkpoint | Purpose::Savepoint | Purpose::StopWithSavepoint | Purpose::Final, _) => {
                Overtaking::Never
            }
        }
    }

    /// Completed checkpoints kept, never below two.
    #[must_use]
    pub fn retained(&self) -> usize {
        self.num_retained.max(2) as usize
    }
}
