//! Where the subtasks of one pipelined region are, and when they are deployed next. Owned by the machine of the job.

use super::command::Command;
use crate::ids::AttemptId;

/// Where the subtasks of a region's newest deployment are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subtasks {
    /// None was deployed, or all are gone for certain.
    Gone,
    /// Being started.
    Deploying,
    /// All run.
    Running,
    /// Told to go.
    Canceling,
    /// All are through with everything, and gone.
    Finished,
}

/// One region.
#[derive(Clone, Debug)]
pub(super) struct Region {
    /// Its newest deployment.
    pub attempt: Option<AttemptId>,
    /// How often it was deployed.
    pub deployments: u32,
    pub subtasks: Subtasks,
    /// When it is to be deployed again, once its subtasks are gone.
    pub due_ms: Option<i64>,
    /// The job's graph has it no more: once its subtasks are gone, it is forgotten.
    pub leaving: bool,
}

impl Region {
    pub fn new(deployments: u32) -> Self {
        Self { attempt: None, deployments, subtasks: Subtasks::Gone, due_ms: None, leaving: false }
    }

    /// One that is to be deployed, not before that time.
    pub fn due(deployments: u32, at_ms: i64) -> Self {
        Self { due_ms: Some(at_ms), ..Self::new(deployments) }
    }

    /// Whether its subtasks are wanted.
    pub fn is_alive(&self) -> bool {
        match self.subtasks {
            Subtasks::Deploying | Subtasks::Running => true,
            Subtasks::Gone | Subtasks::Canceling | Subtasks::Finished => false,
        }
    }

    /// Whether it has no subtasks.
    pub fn is_over(&self) -> bool {
        match self.subtasks {
            Subtasks::Gone | Subtasks::Finished => true,
            Subtasks::Deploying | Subtasks::Running | Subtasks::Canceling => false,
        }
    }

    /// Whether it can and should be deployed.
    pub fn is_due(&self, now_ms: i64) -> bool {
        self.subtasks == Subtasks::Gone && self.due_ms.is_some_and(|due| due <= now_ms)
    }

    /// Tells its subtasks to go, if any are wanted.
    pub fn cancel(&mut self, out: &mut Vec<Command>) {
        if let (true, Some(attempt)) = (self.is_alive(), self.attempt) {
            self.subtasks = Subtasks::Canceling;
            out.push(Command::CancelSubtasks(attempt));
        }
    }

    /// Has it deployed again, not before that time; one that waits already does so when it would have.
    pub fn restart(&mut self, at_ms: i64, out: &mut Vec<Command>) {
        self.cancel(out);
        if self.subtasks == Subtasks::Finished {
            self.subtasks = Subtasks::Gone;
        }
        self.due_ms.get_or_insert(at_ms);
    }

    /// Has it make room for others.
    pub fn leave(&mut self, out: &mut Vec<Command>) {
        self.cancel(out);
        self.leaving = true;
    }

    pub fn deploy(&mut self, attempt: AttemptId) {
        assert!(
            self.subtasks == Subtasks::Gone,
            "{attempt} while subtasks of {:?} are {:?}",
            self.attempt,
            self.subtasks
        );
        self.attempt = Some(attempt);
        self.deployments += 1;
        self.subtasks = Subtasks::Deploying;
        self.due_ms = None;
    }
}
