//! The loop of a task manager. Nothing in it blocks: state is opened on the blocking executor, and subtasks have
//! mailboxes of their own.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use millstream_runtime::ids::{AttemptId, JobId, NodeProcess, SubtaskId};
use millstream_runtime::ports::transport::Transport;
use millstream_runtime::ports::{ErrorKind, PortError};
use millstream_state::local::NodeFolder;
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};

use super::cancellation::Cancellation;
use super::hosted::{Attempt, HostedJob, Stage, Task, Waiting};
use super::message::TaskManagerMessage;
use super::opening::{Opened, StateAccess, open};
use super::spawning::Place;
use crate::local::LocalStates;
use crate::metrics::instrument::{Measured, Now};
use crate::protocol::deploy::Programs;
use crate::protocol::{Deploy, FromTaskManager, Refusal, SubtaskReport, ToTaskManager};
use crate::world::{Stopwatch, World, caught};

/// How often subtasks' readings are told, in milliseconds.
const READINGS_INTERVAL_MS: u64 = 100;

/// The task manager of one node.
pub struct TaskManager;

/// What a task manager is made with.
pub struct TaskManagerArguments {
    /// The node, and which of its processes this is.
    pub process: NodeProcess,
    /// The world.
    pub world: World,
    /// Channels to other nodes.
    pub transport: Arc<dyn Transport>,
    /// The programs of this executable.
    pub programs: Arc<dyn Programs>,
    /// The node's folder, owned by whoever runs the node.
    pub folder: Weak<NodeFolder>,
    /// The clock of all counters.
    pub stopwatch: Stopwatch,
    /// How long its subtasks may take to go.
    pub cancellation: Cancellation,
}

pub(super) type Myself = ActorRef<TaskManagerMessage>;

/// The state of a task manager.
pub struct TaskManagerState {
    process: NodeProcess,
    world: World,
    transport: Arc<dyn Transport>,
    programs: Arc<dyn Programs>,
    locals: Arc<LocalStates>,
    stopwatch: Stopwatch,
    pub(super) jobs: BTreeMap<JobId, HostedJob>,
    pub(super) cancellation: Cancellation,
    telling: bool,
}

impl Actor for TaskManager {
    type Msg = TaskManagerMessage;
    type State = TaskManagerState;
    type Arguments = TaskManagerArguments;

    async fn pre_start(
        &self,
        _myself: Myself,
        arguments: TaskManagerArguments,
    ) -> Result<TaskManagerState, ActorProcessingErr> {
        let TaskManagerArguments { process, world, transport, programs, folder, stopwatch, cancellation } = arguments;
        let locals = Arc::new(LocalStates::new(folder));
        Ok(TaskManagerState {
            process,
            world,
            transport,
            programs,
            locals,
            stopwatch,
            jobs: BTreeMap::new(),
            cancellation,
            telling: false,
        })
    }

    async fn handle(
        &self,
        myself: Myself,
        message: TaskManagerMessage,
        state: &mut TaskManagerState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            TaskManagerMessage::FromMaster { job, message, answers } => {
                let hosted = state.jobs.entry(job).or_insert_with(|| HostedJob::new(answers.clone()));
                if hosted.is_stale(&message) {
                    hosted.refuse(&message, &answers);
                } else {
                    hosted.answers = answers;
                    state.take(&myself, job, message);
                }
            }
            TaskManagerMessage::Opened { job, attempt, opened } => state.opened(&myself, job, attempt, *opened).await,
            TaskManagerMessage::ChannelFailed { job, attempt, subtask, error } => {
                state.channel_failed(job, attempt, subtask, error);
            }
            TaskManagerMessage::StillThere { job, attempt, waited } => state.still_there(&myself, job, attempt, waited),
            TaskManagerMessage::TellReadings => state.tell_readings(&myself),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: Myself,
        event: SupervisionEvent,
        state: &mut TaskManagerState,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(cell, error) => {
                state.gone(&myself, cell.get_id(), Some(format!("the subtask panicked: {error}")));
            }
            SupervisionEvent::ActorTerminated(cell, _, _) => state.gone(&myself, cell.get_id(), None),
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {}
        }
        Ok(())
    }
}

impl TaskManagerState {
    /// A message of the newest master, or of one that is newer.
    fn take(&mut self, myself: &Myself, job: JobId, message: ToTaskManager) {
        match message {
            ToTaskManager::Deploy(deploy) => self.deploy(myself, job, deploy),
            ToTaskManager::Order(attempt, order) => {
                if let Some(hosted) = self.jobs.get_mut(&job) {
                    hosted.order(attempt, order);
                }
            }
            ToTaskManager::Stop(attempt) => self.stop(myself, job, attempt),
            ToTaskManager::StopAll(attempt) => self.stop_all(myself, job, attempt),
            ToTaskManager::Release(attempt) => self.release(myself, job, attempt),
        }
    }

    fn deploy(&mut self, myself: &Myself, job: JobId, deploy: Box<Deploy>) {
        let Some(hosted) = self.jobs.get_mut(&job) else { return };
        // Deployed or stopped before. The first attempt of all is number 0 of its epoch, and epochs begin at 1.
        if deploy.attempt <= hosted.newest {
            hosted.answers.tell(FromTaskManager::Stopped(deploy.attempt));
            return;
        }
        hosted.deploy(deploy);
        self.go_on(myself, job);
    }

    /// Once the subtasks of attempts that were told to go are gone, what waited for that happens.
    fn go_on(&mut self, myself: &Myself, job: JobId) {
        let Some(hosted) = self.jobs.get_mut(&job) else { return };
        for gone in hosted.take_stopped() {
            hosted.answers.tell(FromTaskManager::Stopped(gone));
        }
        let ready = hosted.take_ready();
        let is_empty = hosted.attempts.is_empty() && hosted.waiting.is_empty() && ready.is_empty();
        if let Some(attempt) = hosted.releasing.take_if(|_| is_empty) {
            self.locals.release(job);
            hosted.answers.tell(FromTaskManager::Released(attempt));
            self.jobs.remove(&job);
        }
        ready.into_iter().for_each(|waiting| self.open(myself, job, waiting));
        self.watch_stopping(myself, job);
    }

    fn open(&mut self, myself: &Myself, job: JobId, waiting: Waiting) {
        let Some(hosted) = self.jobs.get_mut(&job) else { return };
        let Waiting { mut deploy, early } = waiting;
        let attempt = deploy.attempt;
        hosted.attempts.insert(attempt, Attempt::new(attempt, early));
        let (programs, locals, world) = (Arc::clone(&self.programs), Arc::clone(&self.locals), self.world.clone());
        let myself = myself.clone();
        self.world.blocking.run(Box::new(move || {
            let (blobs, failpoints, now_ms) = (&world.blobs, &world.failpoints, world.clock.now_ms());
            let access = StateAccess { blobs, locals: &locals, failpoints, now_ms };
            let opened = caught(|| open(job, &mut deploy, &*programs, &access)).and_then(|opened| opened);
            drop(myself.cast(TaskManagerMessage::Opened { job, attempt, opened: Box::new(opened) }));
        }));
    }

    async fn opened(&mut self, myself: &Myself, job: JobId, id: AttemptId, opened: Result<Opened, PortError>) {
        let Some(hosted) = self.jobs.get_mut(&job) else { return };
        // Told to go meanwhile: nothing may be spawned any more.
        let Some(attempt) = hosted.attempts.get_mut(&id).filter(|it| it.stage == Stage::Opening) else {
            return;
        };
        let place = Place {
            world: &self.world,
            stopwatch: self.stopwatch,
            transport: &*self.transport,
            job,
            answers: &hosted.answers,
            manager: myself,
        };
        let result = match opened {
            Ok(opened) => place.run(attempt, opened).await,
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            tracing::warn!(node = %self.process, %job, attempt = %id, "not deployed: {error}");
            hosted.answers.tell(FromTaskManager::NotDeployed { attempt: id, reason: error.into() });
            attempt.stop();
            self.go_on(myself, job);
        } else if !std::mem::replace(&mut self.telling, true) {
            tell_readings_later(myself);
        }
    }

    fn stop(&mut self, myself: &Myself, job: JobId, attempt: AttemptId) {
        let Some(hosted) = self.jobs.get_mut(&job) else { return };
        // A deployment that comes after its stop is stale.
        hosted.newest = hosted.newest.max(attempt);
        hosted.waiting.remove(&attempt);
        match hosted.attempts.get_mut(&attempt) {
            Some(running) => {
                running.stop();
                self.go_on(myself, job);
            }
            None => hosted.answers.tell(FromTaskManager::Stopped(attempt)),
        }
    }

    fn stop_all(&mut self, myself: &Myself, job: JobId, attempt: AttemptId) {
        let Some(hosted) = self.jobs.get_mut(&job) else { return };
        hosted.newest = hosted.newest.max(attempt);
        hosted.stop_all();
        self.go_on(myself, job);
    }

    fn release(&mut self, myself: &Myself, job: JobId, attempt: AttemptId) {
        let Some(hosted) = self.jobs.get_mut(&job) else { return };
        hosted.releasing = Some(attempt);
        hosted.stop_all();
        self.go_on(myself, job);
    }

    /// An actor has stopped for certain.
    fn gone(&mut self, myself: &Myself, actor: ActorId, panicked: Option<String>) {
        let now = self.now();
        let found = self.jobs.iter_mut().find_map(|(job, hosted)| {
            let (attempt, id) = hosted.task_of(actor)?;
            Some((*job, id, hosted.attempts.get_mut(&attempt)?, &hosted.answers))
        });
        let Some((job, id, hosted, answers)) = found else { return };
        let attempt = hosted.id;
        if let Some(task) = hosted.tasks.remove(&id) {
            // What it has counted since the last time would be lost with it.
            let readings = vec![(id, task.metrics.reading(now))];
            answers.tell(FromTaskManager::Readings { attempt, readings });
        }
        if let Some(message) = panicked {
            let report = SubtaskReport::Failed(Refusal { kind: ErrorKind::Retry, message });
            answers.tell(FromTaskManager::Subtask { id, attempt, report });
        }
        answers.tell(FromTaskManager::Gone { id, attempt });
        self.go_on(myself, job);
    }

    /// A channel has failed: both of its subtasks have. One that is on its way out misses nothing.
    fn channel_failed(&mut self, job: JobId, id: AttemptId, subtask: SubtaskId, error: PortError) {
        let Some(hosted) = self.jobs.get_mut(&job) else { return };
        let running = hosted.attempts.get(&id).filter(|attempt| attempt.stage == Stage::Running);
        if running.is_some_and(|attempt| attempt.tasks.contains_key(&subtask)) {
            let report = SubtaskReport::Failed(error.into());
            hosted.answers.tell(FromTaskManager::Subtask { id: subtask, attempt: id, report });
        }
    }

    fn now(&self) -> Now {
        Now { wall_ms: self.world.clock.now_ms(), monotonic_ns: self.stopwatch.elapsed_ns() }
    }

    fn tell_readings(&mut self, myself: &Myself) {
        let now = self.now();
        let mut any = false;
        for hosted in self.jobs.values() {
            for attempt in hosted.attempts.values().filter(|attempt| !attempt.tasks.is_empty()) {
                any = true;
                let reading = |(id, task): (&SubtaskId, &Task)| (*id, task.metrics.reading(now));
                let readings = attempt.tasks.iter().map(reading).collect();
                hosted.answers.tell(FromTaskManager::Readings { attempt: attempt.id, readings });
            }
        }
        self.telling = any;
        if any {
            tell_readings_later(myself);
        }
    }
}

fn tell_readings_later(myself: &Myself) {
    myself.send_after(Duration::from_millis(READINGS_INTERVAL_MS), || TaskManagerMessage::TellReadings);
}
