//! The life cycle machine of a job: which deployments may run, what follows a failure, when the job has ended. Fed by
//! the job manager's actor. Every event brings the time; events of old deployments are answered, not obeyed.
//!
//! Pipelined regions are deployed and fail each on its own; the restart strategy, the exceptions and the status are the
//! job's. As in Flink it is `RESTARTING` from the failure of any region on; here until all run again.

use std::collections::{BTreeMap, BTreeSet};

use super::exceptions::{ExceptionHistory, Failure};
use super::region::{Region, Subtasks};
use super::restart::{RestartOptions, RestartStrategy};
use super::status::{JobStatus, StatusTimestamps};
use crate::ids::{AttemptId, AttemptNumber, Epoch, RegionId};
use crate::ports::ErrorKind;

/// Settings of the machine.
#[derive(Clone, Debug)]
pub struct Options {
    /// What follows a failure.
    pub restart: RestartOptions,
    /// Root causes remembered.
    pub exception_history_size: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { restart: RestartOptions::exponential_delay(), exception_history_size: 16 }
    }
}

/// What the job manager must do now. Commands of one event are carried out in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Deploy these regions from the newest restorable checkpoint, each as an attempt of its own.
    Deploy(BTreeMap<RegionId, AttemptId>),
    /// Cancel all subtasks of the deployment and report when none is left that could still act.
    CancelSubtasks(AttemptId),
    /// Call [`Job::restart_due`] at this time.
    ScheduleRestart {
        /// When.
        at_ms: i64,
    },
    /// Deployments failed: log it and count it.
    RecordFailure {
        /// The first of them.
        attempt: AttemptId,
        /// Whether others follow.
        restarts: bool,
    },
    /// A stop whose savepoint is durable was interrupted by a failure: the job goes on, the requester must be told.
    StopInterrupted,
    /// Write the job's end into the log, then report it: only then may anybody be told.
    RecordTerminal(JobStatus),
    /// The job has ended: answer whoever waits.
    ReachedTerminal(JobStatus),
}

/// How an event was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Obeyed.
    Accepted,
    /// About an older (or never made) deployment: nothing was done.
    Stale,
    /// Right, but nothing follows from it in this state.
    Ignored,
}

/// What has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope<'a> {
    /// These deployments, by one cause: others go on.
    Regions(&'a [AttemptId]),
    /// Something that concerns all regions: checkpoints, an enumerator, the end that was under way.
    Job,
}

/// What follows when subtasks are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    /// Run.
    Run,
    /// End.
    End(JobStatus),
}

/// The life of one job.
///
/// Invariants, asserted: a region is deployed only when every subtask of its deployment before is gone, and all regions
/// together only when none has any.
#[derive(Clone, Debug)]
pub struct Job {
    epoch: Epoch,
    status: JobStatus,
    timestamps: StatusTimestamps,
    regions: Vec<Region>,
    /// How many regions the job has from its next deployment on.
    next_regions: Option<usize>,
    /// The number of the next deployment.
    next: AttemptNumber,
    /// No region is deployed again before all can be.
    together: bool,
    goal: Goal,
    /// The last end's record is being written.
    recording: bool,
    /// The savepoint of a stop is durable; the subtasks are finishing.
    stopping: bool,
    restarts: u64,
    strategy: RestartStrategy,
    exceptions: ExceptionHistory,
}

impl Job {
    /// A job of so many regions that this leader has accepted.
    #[must_use]
    pub fn new(epoch: Epoch, regions: usize, options: Options, now_ms: i64) -> Self {
        let mut job = Self {
            epoch,
            status: JobStatus::Initializing,
            timestamps: StatusTimestamps::default(),
            regions: vec![Region::new(0); regions],
            next_regions: None,
            next: AttemptNumber(0),
            together: true,
            goal: Goal::Run,
            recording: false,
            stopping: false,
            restarts: 0,
            strategy: RestartStrategy::new(options.restart),
            exceptions: ExceptionHistory::new(options.exception_history_size),
        };
        job.enter(JobStatus::Initializing, now_ms);
        job
    }

    /// Where the job is in its life.
    #[must_use]
    pub fn status(&self) -> JobStatus {
        self.status
    }

    /// When it entered its states.
    #[must_use]
    pub fn timestamps(&self) -> &StatusTimestamps {
        &self.timestamps
    }

    /// The newest deployment of any region.
    #[must_use]
    pub fn attempt(&self) -> Option<AttemptId> {
        let number = self.next.0.checked_sub(1)?;
        Some(AttemptId { epoch: self.epoch, attempt: AttemptNumber(number) })
    }

    /// How often a region was deployed before its present deployment: Flink's attempt number.
    #[must_use]
    pub fn deployments_before(&self, region: RegionId) -> u32 {
        self.regions.get(region.0 as usize).map_or(0, |region| region.deployments.saturating_sub(1))
    }

    /// Whether the subtasks of this deployment are still wanted and not all running.
    #[must_use]
    pub fn is_deploying(&self, attempt: AttemptId) -> bool {
        self.find(attempt).is_some_and(|index| self.regions[index].subtasks == Subtasks::Deploying)
    }

    /// Whether the subtasks of this deployment are wanted: none has failed, and nobody has told them to go.
    #[must_use]
    pub fn is_wanted(&self, attempt: AttemptId) -> bool {
        self.find(attempt).is_some_and(|index| self.regions[index].is_alive())
    }

    /// The deployments whose subtasks may act: wanted, or not gone for certain.
    #[must_use]
    pub fn living(&self) -> BTreeSet<AttemptId> {
        self.regions.iter().filter(|region| !region.is_over()).filter_map(|region| region.attempt).collect()
    }

    /// Whether the job goes on, and regions that are gone will join those that run: what is kept for all of them stays.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        self.goal == Goal::Run && !self.together
    }

    /// Restarts so far (Flink's `numRestarts`).
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.restarts
    }

    /// The failures so far.
    #[must_use]
    pub fn exceptions(&self) -> &ExceptionHistory {
        &self.exceptions
    }

    /// Everything a deployment needs is there.
    pub fn submitted(&mut self, now_ms: i64, out: &mut Vec<Command>) -> Reply {
        if self.status != JobStatus::Initializing {
            return Reply::Ignored;
        }
        self.enter(JobStatus::Created, now_ms);
        self.regions.iter_mut().for_each(|region| region.due_ms = Some(now_ms));
        self.deploy_due(now_ms, out);
        Reply::Accepted
    }

    /// All subtasks of the deployment run.
    pub fn deployed(&mut self, attempt: AttemptId, now_ms: i64) -> Reply {
        let Some(index) = self.find(attempt) else { return Reply::Stale };
        if self.regions[index].subtasks != Subtasks::Deploying {
            return Reply::Ignored;
        }
        self.regions[index].subtasks = Subtasks::Running;
        if self.regions.iter().all(|region| matches!(region.subtasks, Subtasks::Running | Subtasks::Finished)) {
            self.enter(JobStatus::Running, now_ms);
        }
        Reply::Accepted
    }

    /// Something failed: subtasks, their start, a checkpoint, an enumerator. `jitter` is a random number in 0..1 for the
    /// restart delay.
    pub fn failed(
        &mut self,
        scope: Scope<'_>,
        failure: Failure,
        jitter: f64,
        now_ms: i64,
        out: &mut Vec<Command>,
    ) -> Reply {
        let hit: Vec<usize> = match scope {
            Scope::Job => (0..self.regions.len()).collect(),
            Scope::Regions(attempts) => attempts.iter().filter_map(|attempt| self.find(*attempt)).collect(),
        };
        let Some(first) = hit.first() else { return Reply::Stale };
        let attempt = self.regions[*first].attempt.unwrap_or_default();
        let is_alive = hit.iter().any(|index| self.regions[*index].is_alive());
        let is_leaving = hit.iter().any(|index| self.regions[*index].subtasks == Subtasks::Canceling);
        match self.goal {
            Goal::Run if is_alive => {
                self.together |= scope == Scope::Job;
                self.first_failure(&hit, attempt, failure, jitter, now_ms, out);
                Reply::Accepted
            }
            Goal::Run if is_leaving => {
                let fatal = failure.kind != ErrorKind::Retry;
                self.exceptions.concurrent(failure, attempt, now_ms);
                if fatal {
                    self.fail_for_good(now_ms, out);
                }
                Reply::Accepted
            }
            Goal::End(_) if is_alive || is_leaving => {
                self.exceptions.concurrent(failure, attempt, now_ms);
                Reply::Ignored
            }
            Goal::Run | Goal::End(_) => Reply::Ignored,
        }
    }

    fn first_failure(
        &mut self,
        hit: &[usize],
        attempt: AttemptId,
        failure: Failure,
        jitter: f64,
        now_ms: i64,
        out: &mut Vec<Command>,
    ) {
        let may_pass = failure.kind == ErrorKind::Retry;
        if !may_pass || self.strategy.notify_failure(now_ms, jitter) {
            self.exceptions.root_cause(failure, attempt, now_ms);
        } else {
            self.exceptions.concurrent(failure, attempt, now_ms);
        }
        let restarts = may_pass && self.strategy.can_restart(now_ms);
        out.push(Command::RecordFailure { attempt, restarts });
        if std::mem::take(&mut self.stopping) {
            // The sources of all regions have stopped for it.
            self.together = true;
            out.push(Command::StopInterrupted);
        }
        if !restarts {
            self.fail_for_good(now_ms, out);
            return;
        }
        let at_ms = now_ms.saturating_add(self.strategy.delay_ms(now_ms));
        self.enter(JobStatus::Restarting, now_ms);
        if self.together {
            self.restart_all(at_ms, out);
        } else {
            hit.iter().for_each(|index| self.regions[*index].restart(at_ms, out));
        }
        out.push(Command::ScheduleRestart { at_ms });
    }

    fn fail_for_good(&mut self, now_ms: i64, out: &mut Vec<Command>) {
        self.goal = Goal::End(JobStatus::Failed);
        self.enter(JobStatus::Failing, now_ms);
        self.cancel_subtasks(out);
        self.go_on(now_ms, out);
    }

    /// Has every region deployed again, together, not before that time.
    fn restart_all(&mut self, at_ms: i64, out: &mut Vec<Command>) {
        self.together = true;
        self.regions.iter_mut().for_each(|region| region.restart(at_ms, out));
    }

    /// What the deployments are to be restored from cannot be used, and going back further concerns every region: those
    /// that run have gone past it. Nothing new has failed, so no strategy is asked.
    pub fn goes_back(&mut self, now_ms: i64, out: &mut Vec<Command>) -> Reply {
        if self.goal != Goal::Run {
            return Reply::Ignored;
        }
        self.enter(JobStatus::Restarting, now_ms);
        self.restart_all(now_ms, out);
        self.go_on(now_ms, out);
        Reply::Accepted
    }

    /// No subtask of the deployment is left that could still act.
    pub fn subtasks_canceled(&mut self, attempt: AttemptId, now_ms: i64, out: &mut Vec<Command>) -> Reply {
        let Some(index) = self.find(attempt) else { return Reply::Stale };
        if self.regions[index].subtasks != Subtasks::Canceling {
            return Reply::Ignored;
        }
        self.regions[index].subtasks = Subtasks::Gone;
        self.go_on(now_ms, out);
        Reply::Accepted
    }

    /// The time of [`Command::ScheduleRestart`] has come. Too early a call does nothing.
    pub fn restart_due(&mut self, now_ms: i64, out: &mut Vec<Command>) -> Reply {
        let mut is_due = false;
        for due_ms in self.regions.iter_mut().filter_map(|region| region.due_ms.as_mut()).filter(|due| **due <= now_ms)
        {
            // The clock may go back before the last subtask is gone, and nobody calls again.
            *due_ms = i64::MIN;
            is_due = true;
        }
        match self.goal {
            Goal::Run if is_due => {
                self.deploy_due(now_ms, out);
                Reply::Accepted
            }
            Goal::Run | Goal::End(_) => Reply::Ignored,
        }
    }

    /// A user wants the job cancelled. It is not, once it has failed or finished.
    pub fn cancel_requested(&mut self, now_ms: i64, out: &mut Vec<Command>) -> Reply {
        match self.goal {
            Goal::Run => {}
            Goal::End(JobStatus::Failed) if !self.recording && !self.status.is_terminal() => {}
            Goal::End(_) => return Reply::Ignored,
        }
        self.goal = Goal::End(JobStatus::Canceled);
        self.stopping = false;
        self.enter(JobStatus::Cancelling, now_ms);
        self.cancel_subtasks(out);
        self.go_on(now_ms, out);
        Reply::Accepted
    }

    /// The job is to run at another parallelism, with so many regions: its subtasks make room for others. This is no
    /// failure, so no strategy is asked; what is about to restart anyway does so when it would have.
    pub fn redeploy(&mut self, regions: usize, now_ms: i64, out: &mut Vec<Command>) -> Reply {
        if self.goal == Goal::Run {
            self.next_regions = Some(regions);
        }
        match self.goal {
            Goal::Run if !self.stopping && self.attempt().is_some() => {
                self.enter(JobStatus::Restarting, now_ms);
                self.restart_all(now_ms, out);
                self.go_on(now_ms, out);
                Reply::Accepted
            }
            Goal::Run | Goal::End(_) => Reply::Ignored,
        }
    }

    /// The savepoint of a stop is durable: the subtasks will finish.
    pub fn stop_savepoint_done(&mut self) -> Reply {
        if self.goal != Goal::Run || self.regions.iter().any(|region| region.subtasks != Subtasks::Running) {
            return Reply::Ignored;
        }
        self.stopping = true;
        Reply::Accepted
    }

    /// Every subtask of the deployment has finished, and its sinks have committed all they had.
    pub fn all_finished(&mut self, attempt: AttemptId, now_ms: i64, out: &mut Vec<Command>) -> Reply {
        let Some(index) = self.find(attempt) else { return Reply::Stale };
        let region = &mut self.regions[index];
        match region.subtasks {
            Subtasks::Gone | Subtasks::Finished => return Reply::Ignored,
            Subtasks::Deploying | Subtasks::Running => region.subtasks = Subtasks::Finished,
            // What follows was decided before: what was failing or is wanted cancelled does not finish any more.
            Subtasks::Canceling => region.subtasks = Subtasks::Gone,
        }
        if self.goal == Goal::Run && self.regions.iter().all(|region| region.subtasks == Subtasks::Finished) {
            self.goal = Goal::End(JobStatus::Finished);
        }
        self.go_on(now_ms, out);
        Reply::Accepted
    }

    /// The record of the job's end exists.
    pub fn terminal_recorded(&mut self, now_ms: i64, out: &mut Vec<Command>) -> Reply {
        match self.goal {
            Goal::End(terminal) if self.recording => {
                self.recording = false;
                self.enter(terminal, now_ms);
                out.push(Command::ReachedTerminal(terminal));
                Reply::Accepted
            }
            Goal::End(_) | Goal::Run => Reply::Ignored,
        }
    }

    /// Another leader goes on with the job: nothing is recorded here any more.
    pub fn leadership_lost(&mut self, now_ms: i64, out: &mut Vec<Command>) -> Reply {
        if self.status.is_terminal() {
            return Reply::Ignored;
        }
        self.recording = false;
        self.stopping = false;
        self.goal = Goal::End(JobStatus::Suspended);
        self.cancel_subtasks(out);
        self.go_on(now_ms, out);
        Reply::Accepted
    }

    fn find(&self, attempt: AttemptId) -> Option<usize> {
        self.regions.iter().position(|region| region.attempt == Some(attempt))
    }

    fn cancel_subtasks(&mut self, out: &mut Vec<Command>) {
        self.regions.iter_mut().for_each(|region| region.cancel(out));
    }

    /// What the goal calls for, as far as subtasks are gone.
    fn go_on(&mut self, now_ms: i64, out: &mut Vec<Command>) {
        match self.goal {
            Goal::Run => self.deploy_due(now_ms, out),
            Goal::End(_) if self.regions.iter().any(|region| !region.is_over()) => {}
            // Nobody here may write the log any more.
            Goal::End(JobStatus::Suspended) => {
                self.enter(JobStatus::Suspended, now_ms);
                out.push(Command::ReachedTerminal(JobStatus::Suspended));
            }
            Goal::End(terminal) => {
                if !std::mem::replace(&mut self.recording, true) {
                    out.push(Command::RecordTerminal(terminal));
                }
            }
        }
    }

    fn deploy_due(&mut self, now_ms: i64, out: &mut Vec<Command>) {
        let ready = |region: &Region| region.is_due(now_ms);
        if self.together {
            if !self.regions.iter().all(ready) {
                return;
            }
            self.together = false;
            if let Some(regions) = self.next_regions.take() {
                let deployments = self.regions.iter().map(|region| region.deployments).max().unwrap_or(0);
                self.regions = vec![Region::due(deployments, now_ms); regions];
            }
        }
        let due: Vec<usize> = (0..self.regions.len()).filter(|index| ready(&self.regions[*index])).collect();
        if due.is_empty() {
            return;
        }
        self.restarts += u64::from(self.status != JobStatus::Created);
        let mut deployment = BTreeMap::new();
        for index in due {
            let attempt = AttemptId { epoch: self.epoch, attempt: self.next };
            self.next = AttemptNumber(self.next.0 + 1);
            self.regions[index].deploy(attempt);
            deployment.insert(RegionId(u32::try_from(index).expect("regions are counted in u32")), attempt);
        }
        out.push(Command::Deploy(deployment));
    }

    /// Everything that decides about the future, as text, for the enumeration.
    #[cfg(test)]
    pub(super) fn decisive_state(&self) -> String {
        let life = (self.status, self.together, self.goal, self.recording, self.stopping, self.next, self.next_regions);
        format!("{life:?} {:?} {:?}", self.regions, self.strategy)
    }

    fn enter(&mut self, status: JobStatus, now_ms: i64) {
        self.status = status;
        self.timestamps.set(status, now_ms);
    }
}
