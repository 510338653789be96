//! The life cycle machine of a job: which deployment may run, what follows a failure, when the job has ended. Fed by
//! the job manager's actor. Every event brings the time; events of old deployments are answered, not obeyed.

use super::exceptions::{ExceptionHistory, Failure};
use super::restart::{RestartOptions, RestartStrategy};
use super::status::{JobStatus, StatusTimestamps};
use crate::ids::{AttemptId, AttemptNumber, Epoch};
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
    /// Deploy all subtasks, from the newest restorable checkpoint.
    Deploy(AttemptId),
    /// Cancel all subtasks of the deployment and report when none is left that could still act.
    CancelSubtasks(AttemptId),
    /// Call [`Job::restart_due`] at this time.
    ScheduleRestart {
        /// When.
        at_ms: i64,
    },
    /// The deployment failed: log it and count it.
    RecordFailure {
        /// The deployment.
        attempt: AttemptId,
        /// Whether another one follows.
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

/// Where the subtasks of the current deployment are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subtasks {
    /// None was deployed, or all are gone for certain.
    Gone,
    /// Being started.
    Deploying,
    /// All run.
    Running,
    /// Told to go.
    Canceling,
}

/// What follows when all subtasks are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    /// Run.
    Run,
    /// Be deployed again, not before that time.
    Restart {
        /// When.
        at_ms: i64,
    },
    /// End.
    End(JobStatus),
}

/// The life of one job.
///
/// Invariant, asserted: a deployment is made only when every subtask of the one before is gone.
#[derive(Clone, Debug)]
pub struct Job {
    epoch: Epoch,
    status: JobStatus,
    timestamps: StatusTimestamps,
    attempt: Option<AttemptId>,
    subtasks: Subtasks,
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
    /// A job that this leader has accepted.
    #[must_use]
    pub fn new(epoch: Epoch, options: Options, now_ms: i64) -> Self {
        let mut job = Self {
            epoch,
            status: JobStatus::Initializing,
            timestamps: StatusTimestamps::default(),
            attempt: None,
            subtasks: Subtasks::Gone,
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

    /// The newest deployment.
    #[must_use]
    pub fn attempt(&self) -> Option<AttemptId> {
        self.attempt
    }

    /// Whether the subtasks of this deployment are still wanted and not all running.
    #[must_use]
    pub fn is_deploying(&self, attempt: AttemptId) -> bool {
        self.attempt == Some(attempt) && self.subtasks == Subtasks::Deploying
    }

    /// Whether the subtasks of this deployment are wanted: none has failed, and nobody has told them to go.
    #[must_use]
    pub fn is_wanted(&self, attempt: AttemptId) -> bool {
        self.attempt == Some(attempt) && matches!(self.subtasks, Subtasks::Deploying | Subtasks::Running)
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
        self.deploy(out);
        Reply::Accepted
    }

    /// All subtasks of the deployment run.
    pub fn deployed(&mut self, attempt: AttemptId, now_ms: i64) -> Reply {
        if self.attempt != Some(attempt) {
            return Reply::Stale;
        }
        if self.subtasks != Subtasks::Deploying {
            return Reply::Ignored;
        }
        self.subtasks = Subtasks::Running;
        self.enter(JobStatus::Running, now_ms);
        Reply::Accepted
    }

    /// Something of the deployment failed: a subtask, its start, a checkpoint, an enumerator. `jitter` is a random
    /// number in 0..1 for the restart delay.
    pub fn failed(
        &mut self,
        attempt: AttemptId,
        failure: Failure,
        jitter: f64,
        now_ms: i64,
        out: &mut Vec<Command>,
    ) -> Reply {
        if self.attempt != Some(attempt) {
            return Reply::Stale;
        }
        match (self.subtasks, self.goal) {
            (Subtasks::Gone, _) => Reply::Ignored,
            (Subtasks::Deploying | Subtasks::Running, _) => {
                self.first_failure(attempt, failure, jitter, now_ms, out);
                Reply::Accepted
            }
            (Subtasks::Canceling, Goal::Restart { .. }) => {
                let fatal = failure.kind != ErrorKind::Retry;
                self.exceptions.concurrent(failure, attempt, now_ms);
                if fatal {
                    self.goal = Goal::End(JobStatus::Failed);
                    self.enter(JobStatus::Failing, now_ms);
                }
                Reply::Accepted
            }
            (Subtasks::Canceling, Goal::End(_) | Goal::Run) => {
                self.exceptions.concurrent(failure, attempt, now_ms);
                Reply::Ignored
            }
        }
    }

    fn first_failure(
        &mut self,
        attempt: AttemptId,
        failure: Failure,
        jitter: f64,
        now_ms: i64,
        out: &mut Vec<Command>,
    ) {
        let may_pass = failure.kind == ErrorKind::Retry;
        self.exceptions.root_cause(failure, attempt, now_ms);
        if may_pass {
            self.strategy.notify_failure(now_ms, jitter);
        }
        let restarts = may_pass && self.strategy.can_restart(now_ms);
        out.push(Command::RecordFailure { attempt, restarts });
        if std::mem::take(&mut self.stopping) {
            out.push(Command::StopInterrupted);
        }
        self.subtasks = Subtasks::Canceling;
        out.push(Command::CancelSubtasks(attempt));
        if restarts {
            let at_ms = now_ms.saturating_add(self.strategy.delay_ms(now_ms));
            self.goal = Goal::Restart { at_ms };
            self.enter(JobStatus::Restarting, now_ms);
            out.push(Command::ScheduleRestart { at_ms });
        } else {
            self.goal = Goal::End(JobStatus::Failed);
            self.enter(JobStatus::Failing, now_ms);
        }
    }

    /// No subtask of the deployment is left that could still act.
    pub fn subtasks_canceled(&mut self, attempt: AttemptId, now_ms: i64, out: &mut Vec<Command>) -> Reply {
        if self.attempt != Some(attempt) {
            return Reply::Stale;
        }
        if self.subtasks != Subtasks::Canceling {
            return Reply::Ignored;
        }
        self.subtasks = Subtasks::Gone;
        self.go_on(now_ms, out);
        Reply::Accepted
    }

    /// The time of [`Command::ScheduleRestart`] has come. Too early a call does nothing.
    pub fn restart_due(&mut self, now_ms: i64, out: &mut Vec<Command>) -> Reply {
        match self.goal {
            Goal::Restart { at_ms } if at_ms <= now_ms => {
                self.go_on(now_ms, out);
                Reply::Accepted
            }
            Goal::Restart { .. } | Goal::Run | Goal::End(_) => Reply::Ignored,
        }
    }

    /// A user wants the job cancelled. It is not, once it has failed or finished.
    pub fn cancel_requested(&mut self, now_ms: i64, out: &mut Vec<Command>) -> Reply {
        match self.goal {
            Goal::Run | Goal::Restart { .. } => {}
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

    /// The job is to run at another parallelism: its subtasks make room for others. This is no failure, so no strategy is
    /// asked; a job that is about to restart anyway does so when it would have.
    pub fn redeploy(&mut self, now_ms: i64, out: &mut Vec<Command>) -> Reply {
        match self.goal {
            Goal::Run if !self.stopping && self.attempt.is_some() => {
                self.goal = Goal::Restart { at_ms: now_ms };
                self.enter(JobStatus::Restarting, now_ms);
                self.cancel_subtasks(out);
                self.go_on(now_ms, out);
                Reply::Accepted
            }
            Goal::Run | Goal::Restart { .. } | Goal::End(_) => Reply::Ignored,
        }
    }

    /// The savepoint of a stop is durable: the subtasks will finish.
    pub fn stop_savepoint_done(&mut self, attempt: AttemptId) -> Reply {
        if self.attempt != Some(attempt) {
            return Reply::Stale;
        }
        if self.subtasks != Subtasks::Running {
            return Reply::Ignored;
        }
        self.stopping = true;
        Reply::Accepted
    }

    /// Every subtask of the deployment has finished, and its sinks have committed all they had.
    pub fn all_finished(&mut self, attempt: AttemptId, now_ms: i64, out: &mut Vec<Command>) -> Reply {
        if self.attempt != Some(attempt) {
            return Reply::Stale;
        }
        match self.subtasks {
            Subtasks::Gone => return Reply::Ignored,
            Subtasks::Deploying | Subtasks::Running => {
                self.subtasks = Subtasks::Gone;
                self.goal = Goal::End(JobStatus::Finished);
            }
            // The goal was set before: a job that was failing or is wanted cancelled does not finish any more.
            Subtasks::Canceling => self.subtasks = Subtasks::Gone,
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
            Goal::End(_) | Goal::Run | Goal::Restart { .. } => Reply::Ignored,
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

    fn cancel_subtasks(&mut self, out: &mut Vec<Command>) {
        match (self.subtasks, self.attempt) {
            (Subtasks::Deploying | Subtasks::Running, Some(attempt)) => {
                self.subtasks = Subtasks::Canceling;
                out.push(Command::CancelSubtasks(attempt));
            }
            (Subtasks::Gone | Subtasks::Canceling, _) | (_, None) => {}
        }
    }

    /// What the goal calls for, as soon as no subtask is left.
    fn go_on(&mut self, now_ms: i64, out: &mut Vec<Command>) {
        if self.subtasks != Subtasks::Gone {
            return;
        }
        match self.goal {
            Goal::Restart { at_ms } if at_ms <= now_ms => {
                self.restarts += 1;
                self.deploy(out);
            }
            Goal::Run | Goal::Restart { .. } => {}
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

    fn deploy(&mut self, out: &mut Vec<Command>) {
        assert!(
            self.subtasks == Subtasks::Gone,
            "deployed while subtasks of {:?} are {:?}",
            self.attempt,
            self.subtasks
        );
        let number = self.attempt.map_or(0, |last| last.attempt.0 + 1);
        let attempt = AttemptId { epoch: self.epoch, attempt: AttemptNumber(number) };
        self.attempt = Some(attempt);
        self.subtasks = Subtasks::Deploying;
        self.goal = Goal::Run;
        out.push(Command::Deploy(attempt));
    }

    /// Everything that decides about the future, as text, for the enumeration.
    #[cfg(test)]
    pub(super) fn decisive_state(&self) -> String {
        let life = (self.status, self.attempt, self.subtasks, self.goal, self.recording, self.stopping);
        format!("{life:?} {:?}", self.strategy)
    }

    fn enter(&mut self, status: JobStatus, now_ms: i64) {
        self.status = status;
        self.timestamps.set(status, now_ms);
    }
}
