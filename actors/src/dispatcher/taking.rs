//! Jobs of an earlier leader, from when this one knows them until they run here. None is given up by itself: whatever is in
//! the way may pass, or be repaired. A user may cancel one that only nodes of another build could run.

use std::sync::Arc;

use millstream_runtime::ids::JobId;
use millstream_runtime::ports::{ErrorKind, PortError};
use millstream_state::log::{ClusterRecord, JobLog, JobRecord, KnownJob, TerminalState};
use ractor::RpcReplyPort;

use super::actor::{AGAIN, DispatcherState, Myself};
use super::message::{After, DispatcherMessage, Submission};
use crate::launch::sealed::{SealedJob, Sealing};

/// A job of the leader before.
pub(super) struct Taking {
    record: JobRecord,
    /// Why it does not run here yet.
    trouble: Option<String>,
    /// It was cancelled, and that is being recorded: it does not begin any more.
    cancelled: bool,
}

impl Taking {
    pub fn new(record: JobRecord) -> Self {
        Self { record, trouble: None, cancelled: false }
    }

    /// What is known of it, and why it does not run.
    pub fn known(&self) -> (KnownJob, Option<String>) {
        (KnownJob { record: self.record.clone(), ended: None }, self.trouble.clone())
    }
}

impl DispatcherState {
    /// Goes on with a job of an earlier leader.
    pub(super) fn take_up(&self, myself: &Myself, job: JobId, log: Option<JobLog>) {
        let Some(taking) = self.taking.get(&job).filter(|taking| !taking.cancelled) else { return };
        let (record, submissions) = (taking.record.clone(), Arc::clone(&self.submissions));
        self.prepare(myself, job, None, move || {
            let Submission { record, graph, options } = submissions.submission(&record)?;
            Ok(Sealing { job, log, record, graph, options })
        });
    }

    /// It can be started here, or not.
    pub(super) async fn prepared_again(&mut self, myself: &Myself, job: JobId, sealed: Result<SealedJob, PortError>) {
        if self.taking.get(&job).is_none_or(|taking| taking.cancelled) {
            return;
        }
        let started = match sealed {
            Ok(sealed) => self.start(myself, job, sealed).await.map(drop),
            Err(error) => Err(error),
        };
        match started {
            Ok(()) => drop(self.taking.remove(&job)),
            Err(error) => self.not_taken_up(myself, job, &error),
        }
    }

    fn not_taken_up(&mut self, myself: &Myself, job: JobId, error: &PortError) {
        tracing::error!(%job, "the job cannot go on here: {error}");
        if let Some(taking) = self.taking.get_mut(&job) {
            taking.trouble = Some(error.message.clone());
        }
        if error.kind == ErrorKind::Retry {
            myself.send_after(AGAIN, move || DispatcherMessage::TakeUp(job));
        }
    }

    /// Cancels a job that does not run here yet, or was cancelled before it did: answers false for any other.
    pub(super) fn cancel_taking(&mut self, myself: &Myself, job: JobId, reply: RpcReplyPort<Result<bool, PortError>>) {
        let Some(taking) = self.taking.get_mut(&job) else {
            let ended = self.ended_before.get(&job).and_then(|known| known.ended.as_ref());
            drop(reply.send(Ok(matches!(ended, Some(TerminalState::Canceled)))));
            return;
        };
        taking.cancelled = true;
        self.journal.push(ClusterRecord::Ended { job, state: TerminalState::Canceled }, After::Cancelled(job, reply));
        self.write_record(myself);
    }

    /// That it was cancelled is recorded.
    pub(super) fn taking_cancelled(&mut self, job: JobId) {
        // Asked for twice, it is recorded twice.
        if let Some(Taking { record, .. }) = self.taking.remove(&job) {
            tracing::info!(%job, "cancelled before it went on here");
            self.ended_before.insert(job, KnownJob { record, ended: Some(TerminalState::Canceled) });
        }
    }
}
