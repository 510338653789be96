//! What a task manager has of one job: at most one attempt, and a newer one that waits until it is gone.

use std::collections::BTreeMap;

use millstream_runtime::ids::{AttemptId, SubtaskId};
use millstream_runtime::ports::transport::Registration;
use ractor::{ActorId, ActorRef};

use crate::metrics::{Registered, SourceMetrics, SubtaskMetrics};
use crate::protocol::{Answers, Deploy, FromTaskManager, Order, ToTaskManager};
use crate::subtask::{Announced, SubtaskMessage};

/// A subtask of this node.
pub struct Task {
    /// Its mailbox.
    pub actor: ActorRef<SubtaskMessage>,
    /// Barriers in it.
    pub announced: Announced,
    /// Its counters live as long as this.
    pub metrics: Registered<SubtaskMetrics>,
    /// Those of its source, if it reads one.
    pub source_metrics: Option<Registered<SourceMetrics>>,
    /// Whether it reads a source.
    pub is_source: bool,
    /// Its channels from other nodes live as long as this.
    pub inlets: Vec<Registration>,
}

/// Where an attempt is on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its state is being opened; it has no subtasks yet.
    Opening,
    /// Its subtasks were spawned.
    Running,
    /// Its subtasks were told to go.
    Stopping,
}

/// An attempt on this node.
pub struct Attempt {
    /// Which one.
    pub id: AttemptId,
    /// Where it is.
    pub stage: Stage,
    /// The newest attempt that the master wants to be sure of that nothing runs.
    pub stopped_as: AttemptId,
    /// Subtasks whose actors have not stopped.
    pub tasks: BTreeMap<SubtaskId, Task>,
    /// Orders that came while the state was being opened: first splits, since nothing is triggered before all run.
    early: Vec<Order>,
}

impl Attempt {
    /// One whose state is to be opened, with orders that have come for it.
    #[must_use]
    pub fn new(id: AttemptId, early: Vec<Order>) -> Self {
        Self { id, stage: Stage::Opening, stopped_as: id, tasks: BTreeMap::new(), early }
    }

    /// Passes an order on to the subtasks that it is for.
    pub fn order(&mut self, order: Order) {
        match (self.stage, order) {
            (Stage::Opening, order) => self.early.push(order),
            (Stage::Stopping, _) => {}
            (Stage::Running, Order::Assign { subtask, splits }) => {
                if let Some(task) = self.tasks.get(&subtask) {
                    drop(task.actor.cast(SubtaskMessage::Assign(splits)));
                }
            }
            (Stage::Running, Order::Trigger { barrier, drain }) => {
                for task in self.tasks.values().filter(|task| task.is_source) {
                    drop(task.actor.cast(SubtaskMessage::Trigger { barrier, drain }));
                }
            }
            (Stage::Running, Order::Complete { checkpoint, purpose, position }) => {
                self.to_all(|| SubtaskMessage::Complete { checkpoint, purpose, position });
            }
            (Stage::Running, Order::Abort(checkpoint)) => self.to_all(|| SubtaskMessage::Abort(checkpoint)),
        }
    }

    fn to_all(&self, message: impl Fn() -> SubtaskMessage) {
        self.tasks.values().for_each(|task| drop(task.actor.cast(message())));
    }

    /// All subtasks have their deployment in the mailbox: orders that came early follow it.
    pub fn running(&mut self) {
        self.stage = Stage::Running;
        std::mem::take(&mut self.early).into_iter().for_each(|order| self.order(order));
    }

    /// Tells all subtasks to go.
    pub fn stop(&mut self) {
        self.stage = Stage::Stopping;
        self.tasks.values().for_each(|task| task.actor.stop(None));
    }

    /// The subtask of an actor.
    #[must_use]
    pub fn task_of(&self, actor: ActorId) -> Option<SubtaskId> {
        self.tasks.iter().find(|(_, task)| task.actor.get_id() == actor).map(|(id, _)| *id)
    }
}

/// A deployment that waits until the subtasks of the one before are gone.
pub struct Waiting {
    /// What is to be run.
    pub deploy: Box<Deploy>,
    /// Orders that have come for it meanwhile: its leader does not know that it waits.
    pub early: Vec<Order>,
}

/// What the node has of a job.
pub struct HostedJob {
    /// Whom to tell.
    pub answers: Answers,
    /// The newest attempt that has come; older ones are stale.
    pub newest: AttemptId,
    /// The attempt whose subtasks are here.
    pub attempt: Option<Attempt>,
    /// A newer one.
    pub waiting: Option<Waiting>,
    /// The job is to be let go of once the subtasks are gone.
    pub releasing: Option<AttemptId>,
}

impl HostedJob {
    /// A job nothing is known of.
    #[must_use]
    pub fn new(answers: Answers) -> Self {
        Self { answers, newest: AttemptId::default(), attempt: None, waiting: None, releasing: None }
    }

    /// Answers what belongs to an attempt before the newest. It may come from a leader that was deposed and does not know
    /// it: what the newer attempt tells must not go there.
    pub fn refuse(&self, message: &ToTaskManager, answers: &Answers) {
        match message {
            ToTaskManager::Deploy(deploy) => answers.tell(FromTaskManager::Stopped(deploy.attempt)),
            ToTaskManager::Stop(attempt) => {
                // Its subtasks may be on their way out: that is told when they are gone.
                if self.attempt.as_ref().is_none_or(|running| running.id > *attempt) {
                    answers.tell(FromTaskManager::Stopped(*attempt));
                }
            }
            ToTaskManager::Release(attempt) => answers.tell(FromTaskManager::Released(*attempt)),
            ToTaskManager::Order(..) => {}
        }
    }

    /// Passes an order on, or keeps it until the attempt can be opened.
    pub fn order(&mut self, id: AttemptId, order: Order) {
        if let Some(waiting) = self.waiting.as_mut().filter(|waiting| waiting.deploy.attempt == id) {
            waiting.early.push(order);
        } else if let Some(attempt) = self.attempt.as_mut().filter(|attempt| attempt.id == id) {
            attempt.order(order);
        }
    }
}
