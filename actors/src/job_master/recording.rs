//! Records on their way into the job's log, and what follows when they are there: checkpoints, and the job's end.

use std::time::Duration;

use millstream_runtime::ids::NodeId;
use millstream_runtime::job::JobStatus;
use millstream_state::log::{AppendOutcome, TerminalState};
use ractor::ActorRef;

use super::actor::{JobMasterState, Releasing};
use super::handle::JobOutcome;
use super::message::JobMasterMessage;
use super::prepare::strays_at_the_end;
use super::records::{Outcome, RecordOutcome, TerminalRecorded};
use crate::metrics::job::Availability;
use crate::protocol::ToTaskManager;

type Myself = ActorRef<JobMasterMessage>;

impl JobMasterState {
    pub(super) fn write_record_when_free(&mut self, myself: &Myself) {
        if self.record.is_none() {
            return;
        }
        let Some(mut ledger) = self.ledger.take() else { return };
        let Some(mut work) = self.record.take() else { return };
        let myself = myself.clone();
        self.blueprint.world.blocking.run(Box::new(move || {
            let outcome = ledger.write(&mut work);
            drop(myself.cast(JobMasterMessage::Recorded(Box::new(RecordOutcome { ledger, work, outcome }))));
        }));
    }

    pub(super) async fn recorded(&mut self, myself: &Myself, recorded: RecordOutcome) {
        let RecordOutcome { ledger, mut work, outcome } = recorded;
        self.ledger = Some(ledger);
        if let Some(cleaning) = work.made_unreachable() {
            self.clean(myself, cleaning);
        }
        let checkpoint = work.checkpoint();
        let now_ms = self.now_ms();
        let mut commands = Vec::new();
        match outcome {
            Outcome::Written { location, .. } => {
                self.locations.insert(checkpoint, location);
                if self.locations.len() > 64 {
                    self.locations.pop_first();
                }
                self.coordinator.record_written(checkpoint, now_ms, &mut commands);
            }
            Outcome::Undecided(reason) => {
                tracing::warn!(%checkpoint, "not known whether its record was written, asking again: {reason}");
                self.record = Some(work);
                self.coordinator.record_undecided(checkpoint, now_ms, &mut commands);
            }
            Outcome::Failed(error) => {
                tracing::warn!(%checkpoint, "its record could not be written: {error}");
                self.coordinator.record_failed(checkpoint, error.message, now_ms, &mut commands);
            }
            Outcome::Deposed => self.coordinator.deposed(&mut commands),
        }
        self.carry_out(myself, commands).await;
        self.ledger_free(myself);
    }

    /// The ledger is at home: whoever waits for it goes on.
    pub(super) fn ledger_free(&mut self, myself: &Myself) {
        self.deploy_when_settled(myself);
        self.write_terminal_when_free(myself);
    }

    pub(super) fn write_terminal_when_free(&mut self, myself: &Myself) {
        if self.terminal_wanted.is_none() || self.record.is_some() {
            return;
        }
        let Some(mut ledger) = self.ledger.take() else { return };
        let Some(status) = self.terminal_wanted.take() else { return };
        let state = match status {
            JobStatus::Finished if self.stopped_with.is_some() => TerminalState::Stopped,
            JobStatus::Finished => TerminalState::Finished,
            JobStatus::Failed => TerminalState::Failed { reason: self.last_failure().unwrap_or_default() },
            _ => TerminalState::Canceled,
        };
        self.terminal_status = Some(status);
        let myself = myself.clone();
        self.blueprint.world.blocking.run(Box::new(move || {
            let outcome = ledger.write_terminal(state);
            drop(myself.cast(JobMasterMessage::TerminalRecorded(Box::new(TerminalRecorded { ledger, outcome }))));
        }));
    }

    fn last_failure(&self) -> Option<String> {
        self.job.exceptions().latest().map(|entry| entry.message.clone())
    }

    pub(super) async fn terminal_recorded(&mut self, myself: &Myself, recorded: TerminalRecorded) {
        self.ledger = Some(recorded.ledger);
        let now_ms = self.now_ms();
        let mut commands = Vec::new();
        match recorded.outcome {
            Ok(AppendOutcome::Written(_)) => {
                if let Some(strays) = self.ledger.as_deref().and_then(strays_at_the_end) {
                    self.clean(myself, strays);
                }
                self.job.terminal_recorded(now_ms, &mut commands);
            }
            Ok(AppendOutcome::Deposed { .. }) => {
                self.job.leadership_lost(now_ms, &mut commands);
            }
            Ok(AppendOutcome::Undecided { reason }) => self.retry_terminal(myself, &reason),
            Err(error) => self.retry_terminal(myself, &error.message),
        }
        self.carry_out_job(myself, commands).await;
    }

    /// Nobody is told of the end before its record is there; a store that is away is asked again.
    fn retry_terminal(&mut self, myself: &Myself, reason: &str) {
        tracing::warn!("the end of the job could not be recorded, trying again in a second: {reason}");
        self.terminal_wanted = self.terminal_status;
        let again = myself.clone();
        again.send_after(Duration::from_secs(1), || JobMasterMessage::LedgerFree);
    }

    /// The job has ended. Nodes let go of it before whoever waits is told, who may start the next run over the same
    /// folders.
    pub(super) fn release_nodes(&mut self, status: JobStatus) {
        self.ended_ms = Some(self.now_ms());
        let newest = self.job.attempt().unwrap_or_default();
        let on = self.nodes.ids();
        on.iter().for_each(|node| self.nodes.send(node, ToTaskManager::Release(newest)));
        self.releasing = Some(Releasing { status, on });
        self.reached_terminal_when_released();
    }

    /// A node has let go of the job.
    pub(super) fn released(&mut self, node: &NodeId) {
        if let Some(releasing) = &mut self.releasing {
            releasing.on.remove(node);
        }
        self.reached_terminal_when_released();
    }

    /// Nor is anybody told before the files are gone that nobody needs: the next run, or the end of the process, would
    /// leave them there. Another leader does not wait for that.
    pub(super) fn reached_terminal_when_released(&mut self) {
        let cleaned = self.cleanings.are_done();
        let is_over = |releasing: &mut Releasing| {
            releasing.on.is_empty() && (cleaned || releasing.status == JobStatus::Suspended)
        };
        if let Some(Releasing { status, .. }) = self.releasing.take_if(is_over) {
            self.reached_terminal(status);
        }
    }

    fn reached_terminal(&mut self, status: JobStatus) {
        self.node = None;
        self.metrics.metrics().set_availability(Availability::Ended);
        let outcome = JobOutcome {
            status,
            savepoint: self.stopped_with.clone(),
            failure: if status == JobStatus::Failed { self.last_failure() } else { None },
            refused: status == JobStatus::Failed && self.refused,
        };
        for reply in self.waiting_for_end.drain(..) {
            drop(reply.send(outcome.clone()));
        }
        self.outcome = Some(outcome);
    }
}
