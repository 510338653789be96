//! The life cycle machine of a job: which deployments may run, what follows a failure, when the job has ended. Fed by
//! the job manager's actor. Every event brings the time; events of old deployments are answered, not obeyed.
//!
//! Pipelined regions are deployed and fail each on its own; the restart strategy, the exceptions and the status are the
//! job's. As in Flink it is `RESTARTING` from the failure of any region on; here until all run again.

use std::collections::{BTreeMap, BTreeSet};

use super::command::{Command, Reply, Scope};
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
/// Invariants, asserted: a region is deployed only when every subtask of its deployment before is gone, one that a graph has
/// brought only when every region that it takes the place of is, and all regions together only when none has any subtask.
#[derive(Clone, Debug)]
pub struct Job {
    epoch: Epoch,
    status: JobStatus,
    timestamps: StatusTimestamps,
    /// By numbers that are never used again: a region that another graph has as well keeps its own.
    regions: BTreeMap<RegionId, Region>,
    /// The regions that the job has should it go on after its stop.
    after_stop: Option<BTreeSet<RegionId>>,
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
    /// A job of these regions that this leader has accepted.
    #[must_use]
    pub fn new(epoch: Epoch, regions: &BTreeSet<RegionId>, options: Options, now_ms: i64) -> Self {
        let mut job = Self {
            epoch,
            status: JobStatus::Initializing,
            timestamps: StatusTimestamps::default(),
            regions: regions.iter().map(|region| (*region, Region::new(0))).collect(),
            after_stop: None,
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
        self.regions.get(&region).map_or(0, |region| region.deployments.saturating_sub(1))
    }

    /// Whether the subtasks of this deployment are still wanted and not all running.
    #[must_use]
    pub fn is_deploying(&self, attempt: AttemptId) -> bool {
        self.find(attempt).is_some_and(|region| self.regions[&region].subtasks == Subtasks::Deploying)
    }

    /// Whether the subtasks of this deployment are wanted: none has failed, and nobody has told them to go.
    #[must_use]
    pub fn is_wanted(&self, attempt: AttemptId) -> bool {
        self.find(attempt).is_some_and(|region| self.regions[&region].is_alive())
    }

    /// The deployments whose subtasks may act: wanted, or not gone for certain.
    #[must_use]
    pub fn living(&self) -> BTreeSet<AttemptId> {
        self.regions.values().filter(|region| !region.is_over()).filter_map(|region| region.attempt).collect()
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
        self.regions.values_mut().for_each(|region| region.due_ms = Some(now_ms));
        self.deploy_due(now_ms, out);
        Reply::Accepted
    }

    /// All subtasks of the deployment run.
    pub fn deployed(&mut self, attempt: AttemptId, now_ms: i64) -> Reply {
        let Some(region) = self.find_mut(attempt) else { return Reply::Stale };
        if region.subtasks != Subtasks::Deploying {
            return Reply::Ignored;
        }
        region.subtasks = Subtasks::Running;
        self.look_around(now_ms);
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
        let hit: Vec<RegionId> = match scope {
            Scope::Job => self.regions.keys().copied().collect(),
            Scope::Regions(attempts) => attempts.iter().filter_map(|attempt| self.find(*attempt)).collect(),
        };
        let Some(first) = hit.first() else { return Reply::Stale };
        let attempt = self.regions[first].attempt.unwrap_or_default();
        let is_alive = hit.iter().any(|region| self.regions[region].is_alive());
        let is_leaving = hit.iter().any(|region| self.regions[region].subtasks == Subtasks::Canceling);
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
        hit: &[RegionId],
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
            let hit = self.regions.iter_mut().filter(|(region, _)| hit.contains(region));
            hit.for_each(|(_, region)| region.restart(at_ms, out));
        }
        if let Some(regions) = self.after_stop.take() {
            self.replace_regions(&regions, out);
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
        self.regions.values_mut().for_each(|region| region.restart(at_ms, out));
    }

    /// What the deployments are to be restored from cannot be used, and going back further concerns every region: those
    /// that run have gone past it. Nothing new has failed, so no strategy is asked.
    pub fn goes_back(&mut self, now_ms: i64, out: &mut Vec<Command>) -> Reply {
        if self.goal != Goal::Run {
            return Reply::Ignored;
        }
        self.enter(JobStatus::Restarting, now_ms);
        self.restart_all(i64::MIN, out);
        self.go_on(now_ms, out);
        Reply::Accepted
    }

    /// No subtask of the deployment is left that could still act.
    pub fn subtasks_canceled(&mut self, attempt: AttemptId, now_ms: i64, out: &mut Vec<Command>) -> Reply {
        let Some(region) = self.find_mut(attempt) else { return Reply::Stale };
        if region.subtasks != Subtasks::Canceling {
            return Reply::Ignored;
        }
        region.subtasks = Subtasks::Gone;
        self.go_on(now_ms, out);
        Reply::Accepted
    }

    /// The time of [`Command::ScheduleRestart`] has come. Too early a call does nothing.
    pub fn restart_due(&mut self, now_ms: i64, out: &mut Vec<Command>) -> Reply {
        let mut is_due = false;
        let waiting = self.regions.values_mut().filter_map(|region| region.due_ms.as_mut());
        for due_ms in waiting.filter(|due| **due <= now_ms) {
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

    /// The job is to run as another graph, with these regions. Those that it has go on as they are. The subtasks of others go,
    /// and when all are gone, the new ones are deployed. This is no failure, so no strategy is asked; what is about to
    /// restart anyway does so when it would have.
    pub fn redeploy(&mut self, regions: &BTreeSet<RegionId>, now_ms: i64, out: &mut Vec<Command>) -> Reply {
        match self.goal {
            Goal::Run if self.stopping => {
                self.after_stop = Some(regions.clone());
                Reply::Ignored
            }
            Goal::Run => {
                if !self.replace_regions(regions, out) {
                    return Reply::Ignored;
                }
                if self.status != JobStatus::Initializing {
                    self.enter(JobStatus::Restarting, now_ms);
                    self.go_on(now_ms, out);
                }
                Reply::Accepted
            }
            Goal::End(_) => Reply::Ignored,
        }
    }

    /// Answers false when these are the regions that the job has.
    fn replace_regions(&mut self, regions: &BTreeSet<RegionId>, out: &mut Vec<Command>) -> bool {
        let (mut changes, mut deployments, mut due_ms) = (false, 0, i64::MIN);
        let is_replaced = |(id, region): &(&RegionId, &mut Region)| !regions.contains(id) && !region.leaving;
        for (_, region) in self.regions.iter_mut().filter(is_replaced) {
            deployments = deployments.max(region.deployments);
            due_ms = due_ms.max(region.due_ms.unwrap_or(i64::MIN));
            region.leave(out);
            changes = true;
        }
        for region in regions {
            self.regions.entry(*region).or_insert_with(|| {
                changes = true;
                Region::due(deployments, due_ms)
            });
        }
        changes
    }

    /// The savepoint of a stop is durable: the subtasks will finish.
    pub fn stop_savepoint_done(&mut self) -> Reply {
        if self.goal != Goal::Run || self.regions.values().any(|region| region.subtasks != Subtasks::Running) {
            return Reply::Ignored;
        }
        self.stopping = true;
        Reply::Accepted
    }

    /// Every subtask of the deployment has finished, and its sinks have committed all they had.
    pub fn all_finished(&mut self, attempt: AttemptId, now_ms: i64, out: &mut Vec<Command>) -> Reply {
        let Some(region) = self.find_mut(attempt) else { return Reply::Stale };
        match region.subtasks {
            Subtasks::Gone | Subtasks::Finished => return Reply::Ignored,
            Subtasks::Deploying | Subtasks::Running => region.subtasks = Subtasks::Finished,
            // What follows was decided before: what was failing or is wanted cancelled does not finish any more.
            Subtasks::Canceling => region.subtasks = Subtasks::Gone,
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

    fn find(&self, attempt: AttemptId) -> Option<RegionId> {
        self.regions.iter().find(|(_, region)| region.attempt == Some(attempt)).map(|(id, _)| *id)
    }

    fn find_mut(&mut self, attempt: AttemptId) -> Option<&mut Region> {
        self.regions.values_mut().find(|region| region.attempt == Some(attempt))
    }

    fn cancel_subtasks(&mut self, out: &mut Vec<Command>) {
        self.regions.values_mut().for_each(|region| region.cancel(out));
    }

    /// What the goal calls for, as far as subtasks are gone.
    fn go_on(&mut self, now_ms: i64, out: &mut Vec<Command>) {
        self.regions.retain(|_, region| !(region.leaving && region.is_over()));
        self.look_around(now_ms);
        match self.goal {
            Goal::Run => self.deploy_due(now_ms, out),
            Goal::End(_) if self.regions.values().any(|region| !region.is_over()) => {}
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

    /// What is so when all regions run, or have finished.
    fn look_around(&mut self, now_ms: i64) {
        let all = |are: fn(&Region) -> bool| self.regions.values().all(are);
        if self.goal != Goal::Run || self.regions.is_empty() {
            return;
        }
        if all(|region| region.subtasks == Subtasks::Finished) {
            self.goal = Goal::End(JobStatus::Finished);
        } else if all(|region| matches!(region.subtasks, Subtasks::Running | Subtasks::Finished))
            && self.status != JobStatus::Running
        {
            self.enter(JobStatus::Running, now_ms);
        }
    }

    fn deploy_due(&mut self, now_ms: i64, out: &mut Vec<Command>) {
        if self.together && !self.regions.values().all(|region| region.is_due(now_ms)) {
            return;
        }
        self.together = false;
        let makes_room = self.regions.values().any(|region| region.leaving);
        let mut deployment = BTreeMap::new();
        for (id, region) in self.regions.iter_mut().filter(|(_, region)| region.is_due(now_ms)) {
            if region.attempt.is_none() && makes_room {
                continue;
            }
            let attempt = AttemptId { epoch: self.epoch, attempt: self.next };
            self.next = AttemptNumber(self.next.0 + 1);
            region.deploy(attempt);
            deployment.insert(*id, attempt);
        }
        if !deployment.is_empty() {
            self.restarts += u64::from(self.status != JobStatus::Created);
            out.push(Command::Deploy(deployment));
        }
    }

    /// Everything that decides about the future, as text, for the enumeration.
    #[cfg(test)]
    pub(super) fn decisive_state(&self) -> String {
        let life = (self.status, self.together, self.goal, self.recording, self.stopping, self.next, &self.after_stop);
        format!("{life:?} {:?} {:?}", self.regions, self.strategy)
    }

    fn enter(&mut self, status: JobStatus, now_ms: i64) {
        self.status = status;
        self.timestamps.set(status, now_ms);
    }
}
