//! When a checkpoint starts: requests by hand first, in order, then the final one, then the periodic ones.

use std::collections::{BTreeMap, BTreeSet};

use super::command::{Command, Request, RequestError};
use super::pending::{Pending, Phase, is_exclusive};
use super::{Coordinator, Running};
use crate::element::Purpose;
use crate::ids::{AttemptId, CheckpointId, SubtaskId};

/// A checkpoint to be started.
struct Start {
    purpose: Purpose,
    drain: bool,
    request: Option<Request>,
}

impl Coordinator {
    /// A checkpoint, savepoint or stop is asked for. It ignores interval and pause, waits for its turn, and is always
    /// answered with [`Command::Answer`].
    pub fn trigger_requested(&mut self, request: Request, now_ms: i64, out: &mut Vec<Command>) {
        let refused = if self.deposed {
            Some(RequestError::Deposed)
        } else if request.purpose == Purpose::Final {
            Some(RequestError::NotRequestable)
        } else {
            match &self.running {
                None => Some(RequestError::NotRunning),
                Some(_) if !self.is_whole() => Some(RequestError::NotRunning),
                Some(running) if running.closed || self.is_stopping() => Some(RequestError::Stopping),
                Some(_) if self.queue.len() >= self.options.max_queued_requests => {
                    Some(RequestError::QueueFull(self.queue.len()))
                }
                Some(_) => None,
            }
        };
        if let Some(refusal) = refused {
            out.push(Command::Answer { request: request.id, result: Err(refusal) });
            return;
        }
        self.queue.push_back(request);
        self.advance(now_ms, out);
    }

    /// A subtask of a deployment waits for a checkpoint: the next periodic one starts as soon as none is in its way and the
    /// pause is over. In a job without periodic checkpoints nothing follows.
    pub fn hastened(&mut self, subtask: SubtaskId, attempt: AttemptId, now_ms: i64, out: &mut Vec<Command>) {
        if self.running.as_ref().is_some_and(|running| running.attempt_of(subtask) == Some(attempt)) {
            self.next_periodic_ms = self.next_periodic_ms.min(now_ms);
            self.advance(now_ms, out);
        }
    }

    /// Whether a stop waits, or a stop or the final checkpoint is pending.
    fn is_stopping(&self) -> bool {
        let waits = self.queue.iter().any(|request| is_exclusive(request.purpose));
        waits || self.pending.values().any(Pending::is_exclusive)
    }

    pub(super) fn start_due(&mut self, now_ms: i64, out: &mut Vec<Command>) {
        while let Some(start) = self.next_start(now_ms) {
            self.start(start, now_ms, out);
        }
    }

    fn next_start(&mut self, now_ms: i64) -> Option<Start> {
        if !self.may_start() {
            return None;
        }
        if let Some(request) = self.queue.front().copied() {
            if is_exclusive(request.purpose) && !self.pending.is_empty() {
                return None;
            }
            self.queue.pop_front();
            let drain = request.drain && request.purpose == Purpose::StopWithSavepoint;
            return Some(Start { purpose: request.purpose, drain, request: Some(request) });
        }
        if self.next_start_ms()? > now_ms {
            return None;
        }
        let ended = self.running.as_ref().is_some_and(Running::is_at_end);
        let purpose = if ended { Purpose::Final } else { Purpose::Checkpoint };
        Some(Start { purpose, drain: false, request: None })
    }

    /// Whether anything may start at all, now.
    fn may_start(&self) -> bool {
        let open = self.is_whole() && self.running.as_ref().is_some_and(|running| !running.closed);
        let alone = self.pending.values().any(Pending::is_exclusive);
        let undecided = self.pending.values().any(|pending| matches!(pending.phase, Phase::Undecided { .. }));
        open && !alone && !undecided && self.pending.len() < self.options.max_pending()
    }

    /// When the next final or periodic checkpoint is due; `None` when only another event can bring it.
    fn next_start_ms(&self) -> Option<i64> {
        if !self.may_start() || !self.queue.is_empty() {
            return None;
        }
        if self.running.as_ref().is_some_and(Running::is_at_end) {
            return self.pending.is_empty().then(|| self.final_retry_ms.unwrap_or(i64::MIN));
        }
        self.options.interval_ms?;
        let pause = self.last_end_ms.map_or(i64::MIN, |end| end.saturating_add(self.options.min_pause_ms));
        Some(self.next_periodic_ms.max(pause))
    }

    fn start(&mut self, start: Start, now_ms: i64, out: &mut Vec<Command>) {
        let Start { purpose, drain, request } = start;
        let running = self.running.as_ref().expect("nothing starts without a deployment");
        let attempts = running.attempts();
        let newest = attempts.last().copied().unwrap_or_default();
        let checkpoint = self.next_id;
        self.next_id = CheckpointId(checkpoint.0 + 1);
        if purpose == Purpose::Checkpoint && request.is_none() {
            // At least 1 ms ahead: an interval of 0 must not start checkpoints without end in one event.
            self.next_periodic_ms = now_ms.saturating_add(self.options.interval_ms.unwrap_or(0).max(1));
        }
        self.statistics.triggered(checkpoint, purpose, newest, now_ms, running.subtasks());
        let pending = Pending {
            checkpoint,
            attempts,
            purpose,
            drain,
            request: request.map(|request| request.id),
            triggered_ms: now_ms,
            phase: Phase::Enumerators,
            enumerators: Vec::new(),
            acked: BTreeMap::new(),
            paths: BTreeSet::new(),
        };
        self.pending.insert(checkpoint, pending);
        out.push(Command::SnapshotEnumerators { checkpoint });
    }

    /// Wishes for the next time at which time alone changes something.
    pub(super) fn wish_wake(&mut self, now_ms: i64, out: &mut Vec<Command>) {
        let pending = self.pending.values().filter_map(|pending| match pending.phase {
            Phase::Enumerators | Phase::Acks | Phase::Acked => {
                Some(pending.triggered_ms.saturating_add(self.options.timeout_ms))
            }
            Phase::Writing { .. } => None,
            Phase::Undecided { retry_ms, .. } => Some(retry_ms),
        });
        let next = pending.chain(self.next_start_ms()).min().map(|at| at.max(now_ms));
        if let Some(at) = next
            && self.wake_ms != Some(at)
        {
            self.wake_ms = Some(at);
            out.push(Command::WakeAt(at));
        }
    }
}
