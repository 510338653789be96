//! What a task manager has of one job: an attempt for each region, and newer ones that wait until those they follow are
//! gone.

use std::collections::{BTreeMap, BTreeSet};

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
    /// Subtasks whose actors have not stopped.
    pub tasks: BTreeMap<SubtaskId, Task>,
    /// Somebody looks whether those that were told to go are gone.
    pub watched: bool,
    /// Orders that came while the state was being opened: first splits, since nothing is triggered before all run.
    early: Vec<Order>,
}

impl Attempt {
    /// One whose state is to be opened, with orders that have come for it.
    #[must_use]
    pub fn new(id: AttemptId, early: Vec<Order>) -> Self {
        Self { id, stage: Stage::Opening, tasks: BTreeMap::new(), watched: false, early }
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

/// A deployment that waits until the subtasks of those before it are gone.
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
    /// The newest attempt that has come. Deployments come in order, so that one that is not newer is stale.
    pub newest: AttemptId,
    /// The attempts whose subtasks are here.
    pub attempts: BTreeMap<AttemptId, Attempt>,
    /// Newer ones.
    pub waiting: BTreeMap<AttemptId, Waiting>,
    /// The job is to be let go of once the subtasks are gone.
    pub releasing: Option<AttemptId>,
}

impl HostedJob {
    /// A job nothing is known of.
    #[must_use]
    pub fn new(answers: Answers) -> Self {
        Self {
            answers,
            newest: AttemptId::default(),
            attempts: BTreeMap::new(),
            waiting: BTreeMap::new(),
            releasing: None,
        }
    }

    /// Whether a message is from a master before the newest that is known, who was deposed and may not know it.
    #[must_use]
    pub fn is_stale(&self, message: &ToTaskManager) -> bool {
        message.attempt().epoch < self.newest.epoch
    }

    /// Answers what is stale, and whoever sent it: what newer attempts tell must not go there.
    pub fn refuse(&self, message: &ToTaskManager, answers: &Answers) {
        match message {
            ToTaskManager::Deploy(deploy) => answers.tell(FromTaskManager::Stopped(deploy.attempt)),
            ToTaskManager::Stop(attempt) => {
                // Its subtasks may be on their way out: that is told when they are gone.
                if !self.attempts.contains_key(attempt) {
                    answers.tell(FromTaskManager::Stopped(*attempt));
                }
            }
            ToTaskManager::Release(attempt) => answers.tell(FromTaskManager::Released(*attempt)),
            ToTaskManager::Order(..) | ToTaskManager::StopAll(_) => {}
        }
    }

    /// Passes an order on, or keeps it until the attempt can be opened.
    pub fn order(&mut self, id: AttemptId, order: Order) {
        if let Some(waiting) = self.waiting.get_mut(&id) {
            waiting.early.push(order);
        } else if let Some(attempt) = self.attempts.get_mut(&id) {
            attempt.order(order);
        }
    }

    /// A newer attempt: whatever is not beside it has to go.
    pub fn deploy(&mut self, deploy: Box<Deploy>) {
        self.newest = deploy.attempt;
        self.releasing = None;
        self.waiting.retain(|id, _| deploy.beside.contains(id));
        for (_, older) in self.attempts.iter_mut().filter(|(id, _)| !deploy.beside.contains(id)) {
            older.stop();
        }
        self.waiting.insert(deploy.attempt, Waiting { deploy, early: Vec::new() });
    }

    /// Stops every attempt.
    pub fn stop_all(&mut self) {
        self.waiting.clear();
        self.attempts.values_mut().for_each(Attempt::stop);
    }

    /// Forgets the attempts that were told to go and are gone; answers which.
    pub fn take_stopped(&mut self) -> Vec<AttemptId> {
        let gone = |attempt: &Attempt| attempt.stage == Stage::Stopping && attempt.tasks.is_empty();
        self.attempts.extract_if(.., |_, attempt| gone(attempt)).map(|(id, _)| id).collect()
    }

    /// The deployments that need not wait any more.
    pub fn take_ready(&mut self) -> Vec<Waiting> {
        let attempts: BTreeSet<AttemptId> = self.attempts.keys().copied().collect();
        let ready = |id: &AttemptId, waiting: &Waiting| {
            attempts.iter().all(|other| other > id || waiting.deploy.beside.contains(other))
        };
        self.waiting.extract_if(.., |id, waiting| ready(id, waiting)).map(|(_, waiting)| waiting).collect()
    }

    /// The subtask of an actor, and its attempt.
    #[must_use]
    pub fn task_of(&self, actor: ActorId) -> Option<(AttemptId, SubtaskId)> {
        self.attempts.iter().find_map(|(id, attempt)| Some((*id, attempt.task_of(actor)?)))
    }
}

#[cfg(test)]
mod tests {
    use millstream_runtime::ids::{AttemptNumber, CheckpointId, Epoch};

    use super::*;
    use crate::protocol::ChannelOptions;

    fn attempt(epoch: u64, number: u32) -> AttemptId {
        AttemptId { epoch: Epoch(epoch), attempt: AttemptNumber(number) }
    }

    fn deploy(attempt: AttemptId, beside: &[AttemptId]) -> Box<Deploy> {
        Box::new(Deploy {
            attempt,
            beside: beside.iter().copied().collect(),
            deployments_before: 0,
            record: millstream_state::log::JobRecord::default(),
            fingerprint: [0; 16],
            tasks: Vec::new(),
            places: BTreeMap::new(),
            restored: CheckpointId::default(),
            channels: ChannelOptions { credit: Default::default(), batch: Default::default() },
            fold_lag: None,
        })
    }

    /// A job that runs these attempts.
    fn running(attempts: &[AttemptId]) -> HostedJob {
        let mut hosted = HostedJob::new(Answers::new(drop));
        attempts.iter().for_each(|id| drop(hosted.attempts.insert(*id, Attempt::new(*id, Vec::new()))));
        hosted
    }

    fn ready(hosted: &mut HostedJob) -> Vec<AttemptId> {
        hosted.take_ready().into_iter().map(|waiting| waiting.deploy.attempt).collect()
    }

    #[test]
    fn a_region_begins_beside_those_it_names_once_all_others_are_gone() {
        let (one, other, next) = (attempt(1, 0), attempt(1, 1), attempt(1, 2));
        let mut hosted = running(&[one, other]);
        hosted.deploy(deploy(next, &[other]));
        assert_eq!(ready(&mut hosted), [], "what it follows is on its way out");
        assert_eq!(hosted.take_stopped(), [one]);
        assert_eq!(ready(&mut hosted), [next]);
        assert_eq!(hosted.attempts[&other].stage, Stage::Opening, "nobody has told it to go");
    }

    #[test]
    fn regions_that_come_together_do_not_wait_for_each_other_and_nothing_of_an_older_leader_stays() {
        let (old, one, other) = (attempt(1, 9), attempt(2, 0), attempt(2, 1));
        let mut hosted = running(&[old]);
        hosted.deploy(deploy(one, &[other]));
        hosted.deploy(deploy(other, &[one]));
        assert_eq!(ready(&mut hosted), []);
        assert_eq!(hosted.take_stopped(), [old]);
        assert_eq!(ready(&mut hosted), [one, other]);
    }
}
