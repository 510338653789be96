//! One checkpoint on its way: who has acknowledged, and how far its record is. Owned by the coordinator.

use std::collections::{BTreeMap, BTreeSet};

use super::command::{EnumeratorSnapshot, Record, RequestId, Retained};
use crate::checkpoint::manifest::SubtaskState;
use crate::element::Purpose;
use crate::ids::{AttemptId, CheckpointId, SubtaskId};

/// How far a pending checkpoint is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Waits for the enumerators.
    Enumerators,
    /// Triggers are out; waits for subtasks.
    Acks,
    /// All have acknowledged; waits for its turn to be recorded.
    Acked,
    /// Its record is being written: from here on only the writer knows whether it exists, so it is not aborted.
    Writing {
        /// Outcomes that were undecided so far.
        undecided: u32,
    },
    /// The outcome was not to be learnt; asked again at this time.
    Undecided {
        /// Outcomes that were undecided so far.
        undecided: u32,
        /// When to ask again.
        retry_ms: i64,
    },
}

/// A checkpoint that is neither complete nor aborted.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) checkpoint: CheckpointId,
    /// The deployments of all regions when it was triggered.
    pub(super) attempts: BTreeSet<AttemptId>,
    pub(super) purpose: Purpose,
    pub(super) drain: bool,
    pub(super) request: Option<RequestId>,
    pub(super) triggered_ms: i64,
    pub(super) phase: Phase,
    pub(super) enumerators: Vec<EnumeratorSnapshot>,
    pub(super) acked: BTreeMap<SubtaskId, SubtaskState>,
    /// Names of all segments acknowledged, to tell what the next checkpoint has added.
    pub(super) paths: BTreeSet<String>,
}

impl Pending {
    /// The newest of its deployments, for whoever names it after one.
    pub(super) fn attempt(&self) -> AttemptId {
        self.attempts.last().copied().unwrap_or_default()
    }

    /// Whether it may still be aborted: not once its record may exist.
    pub(super) fn is_abortable(&self) -> bool {
        match self.phase {
            Phase::Enumerators | Phase::Acks | Phase::Acked => true,
            Phase::Writing { .. } | Phase::Undecided { .. } => false,
        }
    }

    /// Whether nothing else may be pending beside it.
    pub(super) fn is_exclusive(&self) -> bool {
        is_exclusive(self.purpose)
    }

    /// Whether the sources have been told to end their input for good.
    pub(super) fn has_ended_input(&self) -> bool {
        self.drain && self.phase != Phase::Enumerators
    }

    /// Hands the collected parts over to the writer.
    pub(super) fn take_record(&mut self, retained: Vec<Retained>) -> Record {
        Record {
            checkpoint: self.checkpoint,
            attempt: self.attempt(),
            purpose: self.purpose,
            request: self.request,
            triggered_ms: self.triggered_ms,
            subtasks: std::mem::take(&mut self.acked).into_iter().collect(),
            enumerators: std::mem::take(&mut self.enumerators),
            retained,
        }
    }
}

/// Stops and the final checkpoint run alone: behind them nothing may come.
pub(super) fn is_exclusive(purpose: Purpose) -> bool {
    match purpose {
        Purpose::StopWithSavepoint | Purpose::Final => true,
        Purpose::Checkpoint | Purpose::Savepoint => false,
    }
}

/// Whether files and life belong to the user.
pub(super) fn is_savepoint(purpose: Purpose) -> bool {
    match purpose {
        Purpose::Savepoint | Purpose::StopWithSavepoint => true,
        Purpose::Checkpoint | Purpose::Final => false,
    }
}
