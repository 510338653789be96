//! Jobs at the parallelism that they are wanted at, or as near to it as their slots allow: a job that lost slots is made to
//! fit those that are left, and grows again when others come. A job at another parallelism is made anew from its record and
//! deployed from its newest checkpoint.

use std::sync::Arc;
use std::time::Duration;

use millstream_runtime::element::Purpose;
use millstream_runtime::graph::JobGraph;
use millstream_runtime::ids::JobId;
use millstream_runtime::job::slots::Grant;
use millstream_runtime::ports::PortError;
use millstream_state::log::{ClusterRecord, JobRecord};
use ractor::RpcReplyPort;

use super::actor::{Dispatched, DispatcherState, Myself};
use super::message::{After, DispatcherMessage, Remade, SchedulingMode, Submission};
use crate::world::blocking;

/// How long the checkpoint before a rescale may take; without it the job goes on from an older one.
const CHECKPOINT_WITHIN: Duration = Duration::from_secs(5);

/// Where a rescale is answered.
type Reply = RpcReplyPort<Result<(), PortError>>;

/// A job and its slots.
pub(super) struct Fit {
    /// What it is made from, at the parallelism it is wanted at.
    record: JobRecord,
    /// The graph made from that.
    graph: Arc<JobGraph>,
    /// Slots that it wants: those that the graph needs, or its share of all.
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
    pub fn new(record: JobRecord, graph: Arc<JobGraph>) -> Self {
        let made_for = graph.parallelism();
        Self { record, graph, wanted: made_for, made_for, towards: None, making: 0 }
    }

    /// What it should be made for with so many slots; `None` when it is, or while there is nothing to run on.
    fn target(&self, held: u32, mode: SchedulingMode) -> Option<u32> {
        let fits = if mode != SchedulingMode::Whole || held >= self.wanted { held.min(self.wanted) } else { 0 };
        Some(fits).filter(|target| *target > 0 && *target != self.made_for)
    }
}

impl DispatcherState {
    /// Has every job made to fit that does not: at once when it gets all it wants, otherwise when its slots have been the
    /// same for a while, since a lost node often comes back.
    pub(super) fn adapt(&mut self, myself: &Myself) {
        let mut at_once = Vec::new();
        let is_reactive = self.scheduling.mode == SchedulingMode::Reactive;
        for job in self.jobs.iter_mut().filter(|job| !job.ended) {
            let (id, fit) = (job.handle.id(), &mut job.fit);
            let target = fit.target(self.slots.held(id), self.scheduling.mode);
            if target == fit.towards {
                continue;
            }
            fit.towards = target;
            fit.making += 1;
            let making = fit.making;
            match target {
                None => {}
                // A share that shrinks with a lost node may soon be what it was.
                Some(target) if target == fit.wanted && (target > fit.made_for || !is_reactive) => at_once.push(id),
                Some(_) => {
                    myself.send_after(self.scheduling.stabilization, move || DispatcherMessage::Stabilized(id, making));
                }
            }
        }
        at_once.into_iter().for_each(|job| self.make(myself, job));
    }

    /// Where jobs share all slots: has each claim an equal part of them, those that came first one more if need be, and none
    /// more than it can have subtasks.
    pub(super) fn share_out(&mut self) -> Vec<Grant> {
        if self.scheduling.mode != SchedulingMode::Reactive {
            return Vec::new();
        }
        let slots: u32 = self.slots.nodes().map(|(_, slots, _)| slots).sum();
        let running: Vec<&mut Dispatched> = self.jobs.iter_mut().filter(|job| !job.ended).collect();
        let jobs = u32::try_from(running.len()).unwrap_or(u32::MAX);
        let mut grants = Vec::new();
        for (index, job) in (0..jobs).zip(running) {
            let limit = job.fit.graph.vertices.iter().map(|vertex| u32::from(vertex.max_parallelism)).min();
            let share = slots / jobs + u32::from(index < slots % jobs);
            job.fit.wanted = share.clamp(1, limit.unwrap_or(1).max(1));
            grants.extend(self.slots.claim(job.handle.id(), job.fit.wanted));
        }
        grants
    }

    pub(super) fn stabilized(&mut self, myself: &Myself, job: JobId, making: u64) {
        if self.fit(job).is_some_and(|fit| fit.making == making) {
            self.make(myself, job);
        }
    }

    fn fit(&mut self, job: JobId) -> Option<&mut Fit> {
        self.jobs.iter_mut().find(|known| known.handle.id() == job && !known.ended).map(|known| &mut known.fit)
    }

    /// Makes a job for the slots that it has: what is wanted is made already.
    fn make(&mut self, myself: &Myself, job: JobId) {
        let Some(fit) = self.fit(job) else { return };
        let (Some(target), making) = (fit.towards, fit.making) else { return };
        let record = fit.record.clone();
        if target == fit.graph.parallelism() {
            let graph = Arc::clone(&fit.graph);
            self.redeploy(job, target, graph, record);
            return;
        }
        let record = self.submissions.rescaled(&record, target);
        self.remake(myself, record, move |submission| {
            DispatcherMessage::Remade(Box::new(Remade { job, making, submission }))
        });
    }

    /// Makes a job from its record, beside the loop.
    fn remake(
        &self,
        myself: &Myself,
        record: JobRecord,
        told: impl FnOnce(Result<Submission, PortError>) -> DispatcherMessage + Send + 'static,
    ) {
        let (submissions, executor) = (Arc::clone(&self.submissions), Arc::clone(&self.world.blocking));
        let dispatcher = myself.clone();
        drop(tokio::spawn(async move {
            let made = blocking(&*executor, move || submissions.submission(&record)).await;
            drop(dispatcher.cast(told(made.and_then(|made| made))));
        }));
    }

    pub(super) fn remade(&mut self, remade: Remade) {
        let Remade { job, making, submission } = remade;
        let held = self.slots.held(job);
        let Some(fit) = self.fit(job) else { return };
        let Some(target) = fit.towards.filter(|_| fit.making == making) else { return };
        match submission {
            // Operators that set their own number of subtasks.
            Ok(Submission { graph, .. }) if graph.parallelism() > held => {
                tracing::warn!(%job, "the job needs {} slots at least and has {held}: it waits", graph.parallelism());
            }
            Ok(Submission { graph, record, .. }) => self.redeploy(job, target, graph, record),
            Err(error) => {
                let wanted = fit.wanted;
                tracing::error!(%job, "the job cannot be made for {target} slots, it waits for {wanted}: {error}");
            }
        }
    }

    /// Runs a job as it was made for so many slots.
    fn redeploy(&mut self, job: JobId, slots: u32, graph: Arc<JobGraph>, record: JobRecord) {
        let Some(known) = self.jobs.iter_mut().find(|known| known.handle.id() == job) else { return };
        tracing::info!(%job, slots, wanted = known.fit.wanted, "the job is made to fit its slots");
        known.fit.towards = None;
        known.fit.made_for = slots;
        // A checkpoint now is the one that it goes on from: less is read twice. Without one it is the newest.
        let handle = known.handle.clone();
        drop(tokio::spawn(async move {
            let newest = handle.trigger(Purpose::Checkpoint, false, None);
            let _newest = tokio::time::timeout(CHECKPOINT_WITHIN, newest).await;
            handle.redeploy(graph, record);
        }));
    }

    /// What a job is to be is made first: what is wrong with it is answered, and nothing is recorded.
    pub(super) fn rescale(&mut self, myself: &Myself, job: JobId, parallelism: u32, reply: Reply) {
        if self.scheduling.mode == SchedulingMode::Reactive {
            let taken = "jobs share all slots of the cluster (scheduler-mode is reactive): add or remove task managers";
            drop(reply.send(Err(PortError::fix_input(taken))));
            return;
        }
        let Some(fit) = self.fit(job) else {
            let unknown = PortError::fix_input(format!("the job {job} does not run"));
            drop(reply.send(Err(unknown)));
            return;
        };
        if parallelism == 0 {
            drop(reply.send(Err(PortError::fix_input("a job needs a parallelism of at least 1"))));
            return;
        }
        let record = fit.record.clone();
        let record = self.submissions.rescaled(&record, parallelism);
        self.remake(myself, record, move |made| DispatcherMessage::Rescalable(job, Box::new(made), reply));
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
        let wanted = graph.parallelism();
        (fit.record, fit.graph, fit.wanted, fit.towards) = (record, graph, wanted, None);
        // Given back before its subtasks are gone: whoever gets them may start a moment too early, and is slower for it.
        let grants = self.slots.claim(job, wanted);
        self.grant(myself, grants);
    }
}
