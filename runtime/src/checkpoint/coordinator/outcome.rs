//! How a checkpoint ends: its record is written and it is complete, or it is given up; and what follows for the job.

use std::collections::BTreeSet;

use super::command::{AbortReason, Command, RequestError, Retained};
use super::pending::{Phase, is_savepoint};
use super::{Coordinator, FINAL_RETRY_PAUSE_MS, RECENT};
use crate::element::Purpose;
use crate::ids::{AttemptId, CheckpointId};

impl Coordinator {
    /// One record at a time, oldest first.
    pub(super) fn write_next_record(&mut self, out: &mut Vec<Command>) {
        if self.is_recording() {
            return;
        }
        let Some(pending) = self.pending.values_mut().find(|pending| pending.phase == Phase::Acked) else { return };
        self.retained_next = self.retained.clone();
        let kept = Retained { checkpoint: pending.checkpoint, purpose: pending.purpose };
        match pending.purpose {
            // A plain savepoint is the user's: it commits nothing, so older checkpoints stay the place to fall back to.
            Purpose::Savepoint => {}
            // Its commits may begin behind this record, so nothing older may be restored silently; but it deletes nothing.
            Purpose::StopWithSavepoint => self.retained_next.push(kept),
            Purpose::Checkpoint | Purpose::Final => {
                self.retained_next.push(kept);
                let surplus = self.retained_next.len().saturating_sub(self.options.retained());
                self.retained_next.drain(..surplus);
            }
        }
        pending.phase = Phase::Writing { undecided: 0 };
        out.push(Command::WriteRecord(Box::new(pending.take_record(self.retained_next.clone()))));
    }

    /// Its record exists: only now is it complete.
    pub(super) fn complete(&mut self, checkpoint: CheckpointId, now_ms: i64, out: &mut Vec<Command>) {
        let pending = self.pending.remove(&checkpoint).expect("the caller has looked it up");
        let retained = std::mem::take(&mut self.retained_next);
        let dropped: Vec<_> = std::mem::replace(&mut self.retained, retained)
            .into_iter()
            .filter(|old| !self.retained.contains(old) && !is_savepoint(old.purpose))
            .map(|old| old.checkpoint)
            .collect();
        self.statistics.completed(checkpoint, is_savepoint(pending.purpose), now_ms);
        self.recently_completed.push_back(checkpoint);
        if self.recently_completed.len() > RECENT {
            self.recently_completed.pop_front();
        }
        let attempts = self.still_running(&pending.attempts);
        if let Some(running) = self.running.as_mut().filter(|_| !attempts.is_empty()) {
            running.closed |= pending.is_exclusive();
            out.push(Command::NotifyComplete { checkpoint, attempts, purpose: pending.purpose });
        }
        if !dropped.is_empty() {
            self.statistics.discarded(&dropped);
            out.push(Command::Drop { checkpoints: dropped });
        }
        if pending.purpose != Purpose::Savepoint {
            self.failures_in_a_row = 0;
            self.last_paths = pending.paths;
            self.last_end_ms = Some(now_ms);
            let subsumed: Vec<_> = self
                .pending
                .range(..checkpoint)
                .filter(|(_, older)| !is_savepoint(older.purpose))
                .map(|(older, _)| *older)
                .collect();
            for older in subsumed {
                self.abort(older, AbortReason::Subsumed(checkpoint), now_ms, out);
            }
        }
        if let Some(request) = pending.request {
            out.push(Command::Answer { request, result: Ok(checkpoint) });
        }
    }

    /// Gives a checkpoint up and deletes nothing: its segments may be part of the next one.
    pub(super) fn abort(&mut self, checkpoint: CheckpointId, reason: AbortReason, now_ms: i64, out: &mut Vec<Command>) {
        let pending = self.pending.remove(&checkpoint).expect("the caller has looked it up");
        self.statistics.failed(checkpoint, reason.to_string(), now_ms);
        let attempts = self.still_running(&pending.attempts);
        out.push(Command::Abort { checkpoint, attempts, reason: reason.clone() });
        if let Some(request) = pending.request {
            let result = Err(RequestError::Failed { checkpoint, reason: reason.clone() });
            out.push(Command::Answer { request, result });
        }
        if pending.purpose == Purpose::Final {
            let pause = self.options.interval_ms.unwrap_or(FINAL_RETRY_PAUSE_MS).max(self.options.min_pause_ms);
            self.final_retry_ms = Some(now_ms.saturating_add(pause));
        }
        if !is_savepoint(pending.purpose) {
            self.last_end_ms = Some(now_ms);
        }
        if !reason.counts_as_failure() {
            return;
        }
        if pending.has_ended_input() {
            self.fail_job(format!("stop with drain failed after its input was ended: {reason}"), out);
        } else if !is_savepoint(pending.purpose) {
            self.failures_in_a_row += 1;
            if self.options.tolerable_failed.is_some_and(|tolerable| self.failures_in_a_row > tolerable) {
                let failures = std::mem::take(&mut self.failures_in_a_row);
                self.fail_job(
                    format!(
                        "checkpoint {checkpoint} failed, {failures} in a row, more than \
                         execution.checkpointing.tolerable-failed-checkpoints allows: {reason}"
                    ),
                    out,
                );
            }
        }
    }

    /// Gives up all that are pending but for one whose record may exist.
    pub(super) fn abort_all(&mut self, reason: AbortReason, now_ms: i64, out: &mut Vec<Command>) {
        let abortable = self.pending.values().filter(|pending| pending.is_abortable());
        let abortable: Vec<CheckpointId> = abortable.map(|pending| pending.checkpoint).collect();
        for checkpoint in abortable {
            self.abort(checkpoint, reason.clone(), now_ms, out);
        }
    }

    fn still_running(&self, attempts: &BTreeSet<AttemptId>) -> BTreeSet<AttemptId> {
        self.running.as_ref().map(|running| &running.attempts() & attempts).unwrap_or_default()
    }

    fn fail_job(&mut self, reason: String, out: &mut Vec<Command>) {
        if let Some(running) = self.running.as_mut().filter(|running| !running.closed) {
            running.closed = true;
            out.push(Command::FailJob { reason });
            // Nothing starts in this deployment any more: whoever waits need not wait for its end.
            self.refuse_waiting(out);
        }
    }

    pub(super) fn refuse_waiting(&mut self, out: &mut Vec<Command>) {
        for request in self.queue.drain(..) {
            out.push(Command::Answer { request: request.id, result: Err(RequestError::NotRunning) });
        }
    }

    /// Says what can be restored, once a region does not run and no record is in doubt.
    pub(super) fn settle(&mut self, out: &mut Vec<Command>) {
        if !self.is_whole() && !self.is_recording() {
            out.push(Command::Settled { newest: self.retained.last().map(|kept| kept.checkpoint) });
        }
    }
}
