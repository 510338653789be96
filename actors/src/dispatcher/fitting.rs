//! Jobs at the parallelism that they are wanted at, or as near to it as their slots allow: a job that lost slots is made to
//! fit those that are left, and grows again when others come. A job at another parallelism is made anew from its record and
//! deployed from its newest checkpoint.

use std::sync::Arc;
use std::time::Duration;

use millstream_runtime::element::Purpose;
use millstream_runtime::ids::JobId;
use millstream_runtime::ports::PortError;
use millstream_state::log::{ClusterRecord, JobRecord};
use ractor::RpcReplyPort;

use super::actor::{DispatcherState, Myself};
use super::message::{After, DispatcherMessage, Remade, Submission};
use crate::world::blocking;

/// How long the checkpoint before a rescale may take; without it the job goes on from an older one.
const CHECKPOINT_WITHIN: Duration = Duration::from_secs(5);

/// Where a rescale is answered.
type Reply = RpcReplyPort<Result<(), PortError>>;

/// A job and its slots.
pub(super) struct Fit {
    /// What it is made from, at the parallelism it is wanted at.
    record: JobRecord,
    /// Slots that it wants.
    wanted: u32,
    /// Slots that it was made for.
    made_for: u32,
    /// Slots that it is about to be made for.
    towards: Option<u32>,
    /// Counts the makings, so that an older one is told from the newest.
    making: u64,
}

impl Fit {
    /// A job as it was submitted.
    pub fn new(record: JobRecord, wanted: u32) -> Self {
        Self { record, wanted, made_for: wanted, towards: None, making: 0 }
    }

    /// What it should be made for with so many slots; `None` when it is, or while there is nothing to run on.
    fn target(&self, held: u32, adaptive: bool) -> Option<u32> {
        let fits = if adaptive { held } else { self.wanted * u32::from(held >= self.wanted) };
        Some(self.wanted.min(fits)).filter(|target| *target > 0 && *target != self.made_for)
    }
}

impl DispatcherState {
    /// Has every job made to fit that does not: at once when it gets all it wants, otherwise when its slots have been the
    /// same for a while, since a lost node often comes back.
    pub(super) fn adapt(&mut self, myself: &Myself) {
        let mut at_once = Vec::new();
        for job in self.jobs.iter_mut().filter(|job| !job.ended) {
            let (id, fit) = (job.handle.id(), &mut job.fit);
            let target = fit.target(self.slots.held(id), self.scheduling.adaptive);
            if target == fit.towards {
                continue;
            }
            fit.towards = target;
            fit.making += 1;
            let making = fit.making;
            match target {
                None => {}
                Some(target) if target == fit.wanted => at_once.push(id),
                Some(_) => {
                    myself.send_after(self.scheduling.stabilization, move || DispatcherMessage::Stabilized(id, making));
                }
            }
        }
        at_once.into_iter().for_each(|job| self.make(myself, job));
    }

    pub(super) fn stabilized(&mut self, myself: &Myself, job: JobId, making: u64) {
        if self.fit(job).is_some_and(|fit| fit.making == making) {
            self.make(myself, job);
        }
    }

    fn fit(&mut self, job: JobId) -> Option<&mut Fit> {
        self.jobs.iter_mut().find(|known| known.handle.id() == job && !known.ended).map(|known| &mut known.fit)
    }

    /// Makes a job for the slots that it has.
    fn make(&mut self, myself: &Myself, job: JobId) {
        let (submissions, executor) = (Arc::clone(&self.submissions), Arc::clone(&self.world.blocking));
        let Some(fit) = self.fit(job) else { return };
        let (Some(target), making) = (fit.towards, fit.making) else { return };
        let record = if target == fit.wanted { fit.record.clone() } else { submissions.rescaled(&fit.record, target) };
        let dispatcher = myself.clone();
        drop(tokio::spawn(async move {
            let made = blocking(&*executor, move || submissions.submission(&record)).await;
            let submission = made.and_then(|made| made);
            drop(dispatcher.cast(DispatcherMessage::Remade(Box::new(Remade { job, making, submission }))));
        }));
    }

    pub(super) fn remade(&mut self, myself: &Myself, remade: Remade) {
        let Remade { job, making, submission } = remade;
        let held = self.slots.held(job);
        let Some(known) = self.jobs.iter_mut().find(|known| known.handle.id() == job && !known.ended) else { return };
        let fit = &mut known.fit;
        let Some(target) = fit.towards.filter(|_| fit.making == making) else { return };
        let (graph, record) = match submission {
            Ok(Submission { graph, record, .. }) => (graph, record),
            Err(error) => {
                tracing::error!(%job, "the job cannot be made for {target} slots, it waits for {}: {error}", fit.wanted);
                return;
            }
        };
        if graph.parallelism() > held {
            // Operators that set their own number of subtasks.
            tracing::warn!(%job, "the job needs {} slots at least and has {held}: it waits", graph.parallelism());
            return;
        }
        tracing::info!(%job, slots = target, wanted = fit.wanted, "the job is made to fit its slots");
        fit.towards = None;
        fit.made_for = target;
        // A checkpoint now is the one that it goes on from: less is read twice. Without one it is the newest.
        let handle = known.handle.clone();
        drop(tokio::spawn(async move {
            let newest = handle.trigger(Purpose::Checkpoint, false, None);
            let _newest = tokio::time::timeout(CHECKPOINT_WITHIN, newest).await;
            handle.redeploy(graph, record);
        }));
        self.adapt(myself);
    }

    /// What a job is to be is made first: what is wrong with it is answered, and nothing is recorded.
    pub(super) fn rescale(&mut self, myself: &Myself, job: JobId, parallelism: u32, reply: Reply) {
        let (submissions, executor) = (Arc::clone(&self.submissions), Arc::clone(&self.world.blocking));
        let Some(fit) = self.fit(job) else {
            let unknown = PortError::fix_input(format!("the job {job} does not run"));
            drop(reply.send(Err(unknown)));
            return;
        };
        if parallelism == 0 {
            drop(reply.send(Err(PortError::fix_input("a job needs a parallelism of at least 1"))));
            return;
        }
        let record = submissions.rescaled(&fit.record, parallelism);
        let dispatcher = myself.clone();
        drop(tokio::spawn(async move {
            let made = blocking(&*executor, move || submissions.submission(&record)).await;
            let made = Box::new(made.and_then(|made| made));
            drop(dispatcher.cast(DispatcherMessage::Rescalable(job, made, reply)));
        }));
    }

    pub(super) fn rescalable(
        &mut self,
        myself: &Myself,
        job: JobId,
        made: Result<Submission, PortError>,
        reply: Reply,
    ) {
        match made {
            Ok(submission) => {
                let record = ClusterRecord::Rescaled { job, record: Box::new(submission.record.clone()) };
                self.journal.push(record, After::Rescale(job, Box::new(submission), reply));
                self.write_record(myself);
            }
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    /// A job is wanted at another parallelism, whoever leads. With too few slots it runs as before until they are there, or
    /// with what there is.
    pub(super) fn rescaled(&mut self, myself: &Myself, job: JobId, submission: Submission) {
        let Submission { record, graph, .. } = submission;
        let Some(fit) = self.fit(job) else { return };
        fit.record = record;
        fit.wanted = graph.parallelism();
        fit.towards = None;
        // Given back before its subtasks are gone: whoever gets them may start a moment too early, and is slower for it.
        let grants = self.slots.claim(job, graph.parallelism());
        self.grant(myself, grants);
    }
}
