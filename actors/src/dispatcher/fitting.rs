//! Jobs at the parallelism that they are wanted at, or as near to it as their slots allow. What a job should be made for, and
//! when, is decided by [`Requirements`] and [`AdaptiveScheduler`]; here slots are claimed for it, and it is deployed so, from
//! its newest checkpoint.

use std::sync::Arc;
use std::time::Duration;

use millstream_runtime::element::Purpose;
use millstream_runtime::graph::JobGraph;
use millstream_runtime::ids::JobId;
use millstream_runtime::job::adaptive::{AdaptiveScheduler, Command, Options, Resources};
use millstream_runtime::job::requirements::{Parallelism, Requirements, RequirementsError, slots_of};
use millstream_runtime::job::slots::Grant;
use millstream_runtime::ports::PortError;
use millstream_state::log::{ClusterRecord, JobRecord};
use ractor::RpcReplyPort;

use super::actor::{Dispatched, DispatcherState, Myself};
use super::message::{After, DispatcherMessage, SchedulingMode, Wanted};

/// A job and its slots.
pub(super) struct Fit {
    /// What it is made from, with what users have set.
    record: JobRecord,
    /// The graph made from that, as the program says it.
    graph: Arc<JobGraph>,
    /// How many subtasks its vertices may have.
    requirements: Requirements,
    /// Slots that it wants: those that the requirements allow, or its share of all.
    wanted: u32,
    scheduler: AdaptiveScheduler,
    /// When the scheduler is woken next.
    wakes_at_ms: Option<i64>,
}

impl Fit {
    /// A job as it is recorded. Answers as well what it is made for first.
    pub fn new(record: JobRecord, graph: Arc<JobGraph>, mode: SchedulingMode, options: Options) -> (Self, Parallelism) {
        let requirements = required(&graph, &record, mode);
        let made = match mode {
            SchedulingMode::Adaptive | SchedulingMode::Whole => requirements.upper(),
            SchedulingMode::Reactive => graph.parallelism_by_vertex(),
        };
        let resource_wait_ms = match mode {
            SchedulingMode::Adaptive => options.resource_wait_ms,
            SchedulingMode::Whole | SchedulingMode::Reactive => None,
        };
        let scheduler = AdaptiveScheduler::new(made.clone(), Options { resource_wait_ms, ..options });
        // A share of all slots is worked out when it claims them.
        let wanted = slots_of(&graph, &made);
        (Self { record, graph, requirements, wanted, scheduler, wakes_at_ms: None }, made)
    }

    /// The slots without which it does not run, and those that it claims. What it has beyond those that it wants it gives back
    /// when it no longer runs on them, or at once where jobs share all slots: others wait for their part.
    fn claim(&self, mode: SchedulingMode) -> (u32, u32) {
        let claimed = match mode {
            SchedulingMode::Adaptive | SchedulingMode::Whole => self.wanted.max(self.slots_made_for()),
            SchedulingMode::Reactive => self.wanted,
        };
        (self.requirements.slots_needed(&self.graph).min(claimed), claimed)
    }

    fn slots_made_for(&self) -> u32 {
        slots_of(&self.graph, self.scheduler.made())
    }

    /// What so many slots are good for.
    fn resources(&self, held: u32, mode: SchedulingMode) -> Resources {
        let made_for = self.slots_made_for();
        // A share that shrinks with a lost node may soon be what it was.
        let may_return = mode == SchedulingMode::Reactive && self.wanted < made_for;
        Resources {
            allowed: self.requirements.parallelism(&self.graph, held.min(self.wanted)),
            desired: held >= self.wanted && !may_return,
            suffice: held >= made_for,
        }
    }

    /// The requirements of a job if these are wanted of it.
    fn with(&self, wanted: Wanted) -> Result<Requirements, RequirementsError> {
        let mut requirements = match wanted.parallelism {
            Some(parallelism) => {
                Requirements::of(&self.graph, &self.record.requirements).rescaled(&self.graph, parallelism)?
            }
            None => Requirements::default(),
        };
        requirements.0.extend(wanted.vertices.0);
        requirements.checked(&self.graph)
    }
}

/// How many subtasks the vertices of a job may have.
fn required(graph: &JobGraph, record: &JobRecord, mode: SchedulingMode) -> Requirements {
    match mode {
        SchedulingMode::Adaptive => Requirements::of(graph, &record.requirements),
        SchedulingMode::Whole => Requirements::of(graph, &record.requirements).whole(),
        SchedulingMode::Reactive => Requirements::limitless(graph),
    }
}

impl DispatcherState {
    fn now_ms(&self) -> i64 {
        i64::try_from(self.stopwatch.elapsed_ns() / 1_000_000).unwrap_or(i64::MAX)
    }

    fn fit(&mut self, job: JobId) -> Option<&mut Fit> {
        self.jobs.iter_mut().find(|known| known.handle.id() == job && !known.ended).map(|known| &mut known.fit)
    }

    /// Slots, or what jobs want, have changed: has every job made to fit that should be.
    pub(super) fn adapt(&mut self, myself: &Myself) {
        let (now_ms, mode) = (self.now_ms(), self.scheduling.mode);
        let mut all = Vec::new();
        for job in self.jobs.iter_mut().filter(|job| !job.ended) {
            let (id, mut commands) = (job.handle.id(), Vec::new());
            let resources = job.fit.resources(self.slots.held(id), mode);
            job.fit.scheduler.changed(resources, now_ms, &mut commands);
            all.extend(commands.into_iter().map(|command| (id, command)));
        }
        self.carry_out(myself, all);
    }

    /// The scheduler of a job wanted to be woken.
    pub(super) fn wake(&mut self, myself: &Myself, job: JobId) {
        let now_ms = self.now_ms();
        let Some(fit) = self.fit(job) else { return };
        fit.wakes_at_ms = None;
        let mut commands = Vec::new();
        fit.scheduler.wake(now_ms, &mut commands);
        self.carry_out(myself, commands.into_iter().map(|command| (job, command)).collect());
    }

    /// What became of a checkpoint that the scheduler of a job wanted.
    pub(super) fn checkpointed(&mut self, myself: &Myself, job: JobId, number: u64, is_complete: bool) {
        let now_ms = self.now_ms();
        let Some(fit) = self.fit(job) else { return };
        let mut commands = Vec::new();
        fit.scheduler.checkpointed(number, is_complete, now_ms, &mut commands);
        self.carry_out(myself, commands.into_iter().map(|command| (job, command)).collect());
    }

    fn carry_out(&mut self, myself: &Myself, commands: Vec<(JobId, Command)>) {
        let mut deployed = Vec::new();
        for (job, command) in commands {
            match command {
                Command::WakeAt(at_ms) => self.wake_at(myself, job, at_ms),
                Command::Checkpoint(number) => self.checkpoint(myself, job, number),
                Command::Deploy(parallelism) => {
                    self.redeploy(job, &parallelism);
                    deployed.push(job);
                }
                Command::Fail => self.fail(job),
            }
        }
        // In the end: the slots that become free have jobs made otherwise again.
        deployed.into_iter().for_each(|job| self.claim(myself, job));
    }

    fn wake_at(&mut self, myself: &Myself, job: JobId, at_ms: i64) {
        let now_ms = self.now_ms();
        let Some(fit) = self.fit(job) else { return };
        if fit.wakes_at_ms.is_some_and(|earlier| earlier <= at_ms) {
            return;
        }
        fit.wakes_at_ms = Some(at_ms);
        let after = Duration::from_millis(u64::try_from(at_ms - now_ms).unwrap_or(0));
        myself.send_after(after, move || DispatcherMessage::Wake(job));
    }

    /// A checkpoint now is the one that the job goes on from: less is read twice.
    fn checkpoint(&self, myself: &Myself, job: JobId, number: u64) {
        let Some(known) = self.jobs.iter().find(|known| known.handle.id() == job) else { return };
        let (handle, dispatcher) = (known.handle.clone(), myself.clone());
        drop(tokio::spawn(async move {
            let is_complete = handle.trigger(Purpose::Checkpoint, false, None).await.is_ok();
            drop(dispatcher.cast(DispatcherMessage::Checkpointed(job, number, is_complete)));
        }));
    }

    /// Runs a job so from now on.
    fn redeploy(&mut self, job: JobId, parallelism: &Parallelism) {
        let Some(known) = self.jobs.iter_mut().find(|known| known.handle.id() == job) else { return };
        let fit = &known.fit;
        match fit.graph.with_parallelism(parallelism) {
            Ok(graph) => {
                let slots = graph.slots();
                tracing::info!(%job, slots, wanted = fit.wanted, "the job is made to fit its slots");
                let record = JobRecord { parallelism: parallelism.clone(), ..fit.record.clone() };
                known.handle.redeploy(Arc::new(graph), record);
            }
            Err(error) => tracing::error!(%job, "the job cannot be made to fit its slots, it stays as it is: {error}"),
        }
    }

    /// Claims what a job wants now; what it does not need any more others get.
    pub(super) fn claim(&mut self, myself: &Myself, job: JobId) {
        let mode = self.scheduling.mode;
        let Some((needed, wanted)) = self.fit(job).map(|fit| fit.claim(mode)) else { return };
        let grants = self.slots.claim(job, needed, wanted);
        self.grant(myself, grants);
    }

    fn fail(&mut self, job: JobId) {
        let held = self.slots.held(job);
        let Some(known) = self.jobs.iter().find(|known| known.handle.id() == job) else { return };
        let (needed, _) = known.fit.claim(self.scheduling.mode);
        known.handle.fail(format!(
            "Could not acquire the minimum required resources: the job needs {needed} slots at least, has {held}, and has \
             waited for others as long as it may (jobmanager.adaptive-scheduler.submission.resource-wait-timeout)"
        ));
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
        for (index, Dispatched { fit, handle, .. }) in (0..jobs).zip(running) {
            let share = slots / jobs + u32::from(index < slots % jobs);
            let (least, most) = (fit.requirements.slots_needed(&fit.graph), fit.requirements.slots_wanted(&fit.graph));
            fit.wanted = share.clamp(least, most);
            grants.extend(self.slots.claim(handle.id(), least, fit.wanted));
        }
        grants
    }

    /// How many subtasks the vertices of a job may have; nothing of one that does not run here.
    pub(super) fn requirements(&mut self, job: JobId) -> Option<Requirements> {
        self.fit(job).map(|fit| fit.requirements.clone())
    }

    /// What is wrong with requirements is answered, and nothing is recorded.
    pub(super) fn require(
        &mut self,
        myself: &Myself,
        job: JobId,
        wanted: Wanted,
        reply: RpcReplyPort<Result<(), PortError>>,
    ) {
        match self.wanted(job, wanted) {
            Ok(record) => {
                let record = Box::new(record);
                let rescaled = ClusterRecord::Rescaled { job, record: record.clone() };
                self.journal.push(rescaled, After::Require(job, record, reply));
                self.write_record(myself);
            }
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    /// The record of a job of which this is wanted.
    fn wanted(&mut self, job: JobId, wanted: Wanted) -> Result<JobRecord, PortError> {
        if self.scheduling.mode == SchedulingMode::Reactive {
            return Err(PortError::fix_input(
                "jobs share all slots of the cluster (scheduler-mode is reactive): add or remove task managers",
            ));
        }
        let fit = self.fit(job).ok_or_else(|| PortError::fix_input(format!("the job {job} does not run")))?;
        let requirements = fit.with(wanted).map_err(|error| PortError::fix_input(error.to_string()))?;
        Ok(JobRecord { requirements, ..fit.record.clone() })
    }

    /// A job may have another parallelism, whoever leads. With too few slots it runs as before until they are there, or with
    /// what there is.
    pub(super) fn required(&mut self, myself: &Myself, job: JobId, record: JobRecord) {
        let mode = self.scheduling.mode;
        let Some(fit) = self.fit(job) else { return };
        fit.requirements = required(&fit.graph, &record, mode);
        fit.wanted = fit.requirements.slots_wanted(&fit.graph);
        fit.record = record;
        self.claim(myself, job);
    }
}
