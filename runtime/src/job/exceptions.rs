//! The failures of a job, newest first and bounded (`web.exception-history-size`). Shown by REST.

use std::collections::VecDeque;

use serde::Serialize;

use crate::ids::{AttemptId, SubtaskId};
use crate::ports::ErrorKind;

/// Failures remembered with one root cause; a whole cluster that loses one node says the same many times.
const CONCURRENT: usize = 32;

/// One failure as it was reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Where; `None` is the job itself (a checkpoint, an enumerator, a restore).
    pub subtask: Option<SubtaskId>,
    /// Name of the subtask as shown to users: `vertex (1/4)`.
    pub subtask_name: Option<String>,
    /// What can be done.
    pub kind: ErrorKind,
    /// What happened and what to do.
    pub message: String,
    /// The node it happened on, if known.
    pub location: Option<String>,
}

impl Failure {
    /// A failure of the job itself.
    #[must_use]
    pub fn of_job(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { subtask: None, subtask_name: None, kind, message: message.into(), location: None }
    }
}

/// One entry of the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExceptionEntry {
    /// The message.
    pub message: String,
    /// Whether the job may be restarted after it: `retry`, `fix-input` or `give-up`.
    pub kind: &'static str,
    /// When it was reported.
    pub timestamp_ms: i64,
    /// Name of the subtask.
    pub subtask_name: Option<String>,
    /// The node.
    pub location: Option<String>,
    /// The deployment, as `epoch.attempt`.
    pub attempt: String,
    /// Failures of the same deployment that followed.
    pub concurrent: Vec<ExceptionEntry>,
}

/// The last failures of a job.
#[derive(Clone, Debug, Default)]
pub struct ExceptionHistory {
    size: usize,
    entries: VecDeque<ExceptionEntry>,
    truncated: bool,
}

impl ExceptionHistory {
    pub(super) fn new(size: usize) -> Self {
        Self { size, entries: VecDeque::new(), truncated: false }
    }

    /// The history of a job of which one failure is remembered, and not where or when it was.
    #[must_use]
    pub fn of_remembered(message: String) -> Self {
        let mut history = Self::new(1);
        let failure = Failure::of_job(ErrorKind::GiveUp, message);
        history.root_cause(failure, AttemptId::default(), 0);
        history
    }

    /// The root causes, newest first.
    pub fn entries(&self) -> impl Iterator<Item = &ExceptionEntry> {
        self.entries.iter().rev()
    }

    /// The newest root cause.
    #[must_use]
    pub fn latest(&self) -> Option<&ExceptionEntry> {
        self.entries.back()
    }

    /// Whether older entries were forgotten.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }

    pub(super) fn root_cause(&mut self, failure: Failure, attempt: AttemptId, now_ms: i64) {
        self.entries.push_back(entry(failure, attempt, now_ms));
        if self.entries.len() > self.size {
            self.entries.pop_front();
            self.truncated = true;
        }
    }

    pub(super) fn concurrent(&mut self, failure: Failure, attempt: AttemptId, now_ms: i64) {
        if let Some(root) = self.entries.back_mut() {
            if root.concurrent.len() < CONCURRENT {
                root.concurrent.push(entry(failure, attempt, now_ms));
            }
        } else {
            self.root_cause(failure, attempt, now_ms);
        }
    }
}

fn entry(failure: Failure, attempt: AttemptId, timestamp_ms: i64) -> ExceptionEntry {
    let kind = match failure.kind {
        ErrorKind::Retry => "retry",
        ErrorKind::FixInput => "fix-input",
        ErrorKind::GiveUp => "give-up",
    };
    ExceptionEntry {
        message: failure.message,
        kind,
        timestamp_ms,
        subtask_name: failure.subtask_name,
        location: failure.location,
        attempt: attempt.to_string(),
        concurrent: Vec::new(),
    }
}
