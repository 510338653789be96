//! The loop of the dispatcher. Preparing a job takes a while and happens beside it, as does writing a record.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_runtime::ids::{JobId, NodeId, NodeProcess};
use millstream_runtime::job::JobStatus;
use millstream_runtime::job::slots::{Grant, SlotPool};
use millstream_runtime::ports::PortError;
use millstream_state::log::{ClusterLog, ClusterRecord, KnownJob, TakenJob, TerminalState};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::fitting::Fit;
use super::journal::{Journal, Next, Written};
use super::message::{
    After, DispatcherMessage, NodeReport, Prepared, RememberedJob, Scheduling, Submission, Submissions, SubmitReply,
};
use super::taking::Taking;
use crate::job_master::JobHandle;
use crate::job_master::deployment::OfferedNode;
use crate::job_master::handle::JobOutcome;
use crate::launch::sealed::{SealedJob, Sealing, Term};
use crate::metrics::ProcessReading;
use crate::world::{Stopwatch, World, blocking};

/// Jobs that have ended and are still shown.
const ENDED_SHOWN: usize = 100;
/// Submissions that may wait for their record; more are refused.
const MAX_WAITING: usize = 256;
/// Before a record is written again, or a job of an earlier leader is tried again.
pub(super) const AGAIN: Duration = Duration::from_millis(500);

/// The dispatcher of a cluster.
pub struct Dispatcher;

/// What a leader acts with.
pub struct DispatcherArguments {
    /// The log of the cluster, won for this term.
    pub log: ClusterLog,
    /// The term.
    pub term: Term,
    /// Jobs to go on with.
    pub taken: Vec<TakenJob>,
    /// The world of its jobs.
    pub world: World,
    /// The clock of all counters.
    pub stopwatch: Stopwatch,
    /// Makes submissions from records.
    pub submissions: Arc<dyn Submissions>,
    /// How jobs get along with slots.
    pub scheduling: Scheduling,
    /// Called when a newer leader is there.
    pub deposed: Arc<dyn Fn() + Send + Sync>,
}

pub(super) type Myself = ActorRef<DispatcherMessage>;

/// A job.
pub(super) struct Dispatched {
    pub handle: JobHandle,
    pub ended: bool,
    pub fit: Fit,
}

/// The state of the dispatcher.
pub struct DispatcherState {
    nodes: BTreeMap<NodeId, OfferedNode>,
    /// What their processes take, as they told last.
    readings: BTreeMap<NodeProcess, ProcessReading>,
    pub(super) slots: SlotPool,
    pub(super) scheduling: Scheduling,
    /// The oldest first.
    pub(super) jobs: Vec<Dispatched>,
    /// Jobs of the leader before that do not run here yet.
    pub(super) taking: BTreeMap<JobId, Taking>,
    /// Jobs that had ended before, as the log of the cluster remembers them.
    pub(super) ended_before: BTreeMap<JobId, KnownJob>,
    pub(super) journal: Journal<After>,
    term: Term,
    world: World,
    pub(super) stopwatch: Stopwatch,
    pub(super) submissions: Arc<dyn Submissions>,
    deposed: Arc<dyn Fn() + Send + Sync>,
    /// Jobs submitted so far, for their ids.
    submitted: u64,
}

impl Actor for Dispatcher {
    type Msg = DispatcherMessage;
    type State = DispatcherState;
    type Arguments = DispatcherArguments;

    async fn pre_start(
        &self,
        myself: Myself,
        arguments: DispatcherArguments,
    ) -> Result<DispatcherState, ActorProcessingErr> {
        let DispatcherArguments { log, term, taken, world, stopwatch, submissions, scheduling, deposed } = arguments;
        let ended = log.state().jobs.iter().filter(|(_, known)| known.ended.is_some());
        let mut state = DispatcherState {
            nodes: BTreeMap::new(),
            readings: BTreeMap::new(),
            slots: SlotPool::new(scheduling.balance),
            scheduling,
            jobs: Vec::new(),
            taking: BTreeMap::new(),
            ended_before: ended.map(|(job, known)| (*job, known.clone())).collect(),
            journal: Journal::new(log, Arc::clone(&world.blocking)),
            term,
            world,
            stopwatch,
            submissions,
            deposed,
            submitted: 0,
        };
        for TakenJob { job, record, log } in taken {
            tracing::info!(%job, name = record.name, "going on with a job of the leader before");
            state.taking.insert(job, Taking::new(record));
            state.take_up(&myself, job, Some(log));
        }
        Ok(state)
    }

    async fn handle(
        &self,
        myself: Myself,
        message: DispatcherMessage,
        state: &mut DispatcherState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            DispatcherMessage::NodeJoined(node) => state.node_joined(&myself, node),
            DispatcherMessage::NodeLost(process, reason) => {
                state.node_lost(&myself, &process, &reason);
            }
            DispatcherMessage::NodeMeasured(process, reading) => {
                // Told by every process that is linked; one that is lost or offers no slots is not shown.
                if state.nodes.get(&process.node).is_some_and(|node| node.process == process) {
                    state.readings.insert(process, *reading);
                }
            }
            DispatcherMessage::Submit(submission, reply) => state.submit(&myself, *submission, reply),
            DispatcherMessage::Prepared(prepared) => state.prepared(&myself, *prepared).await,
            DispatcherMessage::TakeUp(job) => state.take_up(&myself, job, None),
            DispatcherMessage::CancelTaking(job, reply) => state.cancel_taking(&myself, job, reply),
            DispatcherMessage::Recorded(written) => state.recorded(&myself, *written).await,
            DispatcherMessage::RecordAgain => state.write_record(&myself),
            DispatcherMessage::Require(job, wanted, reply) => state.require(&myself, job, wanted, reply),
            DispatcherMessage::Requirements(job, reply) => drop(reply.send(state.requirements(job))),
            DispatcherMessage::Wake(job) => state.wake(&myself, job),
            DispatcherMessage::Checkpointed(job, number, is_complete) => {
                state.checkpointed(&myself, job, number, is_complete);
            }
            DispatcherMessage::Ended(job) => state.ended(&myself, job).await,
            DispatcherMessage::Jobs(reply) => {
                drop(reply.send(state.jobs.iter().map(|job| job.handle.clone()).collect()));
            }
            DispatcherMessage::Remembered(reply) => drop(reply.send(state.remembered())),
            DispatcherMessage::Nodes(reply) => {
                drop(reply.send(state.nodes()));
            }
            DispatcherMessage::StepDown => {
                state.step_down();
                myself.stop(Some("a newer leader is there".to_owned()));
            }
        }
        Ok(())
    }
}

impl DispatcherState {
    fn node_joined(&mut self, myself: &Myself, node: OfferedNode) {
        tracing::info!(node = %node.process, slots = node.slots, "a task manager is there");
        let (process, slots) = (node.process.clone(), node.slots);
        if let Some(before) = self.nodes.insert(process.node.clone(), node) {
            self.readings.remove(&before.process);
        }
        let grants = self.slots.join(process, slots);
        self.grant(myself, grants);
    }

    /// May be told more than once: first that the link broke, then that the process stays silent.
    fn node_lost(&mut self, myself: &Myself, process: &NodeProcess, reason: &str) {
        if self.nodes.get(&process.node).is_none_or(|node| node.process != *process) {
            return;
        }
        tracing::warn!(node = %process, "a task manager was lost: {reason}");
        self.nodes.remove(&process.node);
        self.readings.remove(process);
        let grants = self.slots.lose(process);
        for job in self.jobs.iter().filter(|job| !job.ended) {
            job.handle.node_lost(process.clone(), reason);
        }
        self.grant(myself, grants);
    }

    /// What can be wrong with a job is found before it is recorded.
    fn submit(&mut self, myself: &Myself, submission: Submission, reply: SubmitReply) {
        if self.journal.waiting() >= MAX_WAITING {
            drop(reply.send(Err(PortError::retry("too many submissions wait for the store: try again later"))));
            return;
        }
        self.submitted += 1;
        let Term { epoch, nonce } = self.term;
        let job = JobId::from_name(&format!("{} {epoch} {:?} {}", submission.record.name, nonce.0, self.submitted));
        let Submission { record, graph, options } = submission;
        self.prepare(myself, job, Some(reply), move || Ok(Sealing { job, log: None, record, graph, options }));
    }

    pub(super) fn prepare(
        &self,
        myself: &Myself,
        job: JobId,
        reply: Option<SubmitReply>,
        sealing: impl FnOnce() -> Result<Sealing, PortError> + Send + 'static,
    ) {
        let (world, term, dispatcher) = (self.world.clone(), self.term, myself.clone());
        drop(tokio::spawn(async move {
            let executor = Arc::clone(&world.blocking);
            let sealed = blocking(&*executor, move || SealedJob::prepare(sealing()?, &world, term)).await;
            let prepared = Prepared { job, sealed: sealed.and_then(|sealed| sealed), reply };
            drop(dispatcher.cast(DispatcherMessage::Prepared(Box::new(prepared))));
        }));
    }

    async fn prepared(&mut self, myself: &Myself, prepared: Prepared) {
        let Prepared { job, sealed, reply } = prepared;
        match (sealed, reply) {
            (Ok(sealed), Some(reply)) => {
                let record = ClusterRecord::Submitted { job, record: Box::new(sealed.record().clone()) };
                self.journal.push(record, After::Start(job, Box::new(sealed), reply));
                self.write_record(myself);
            }
            (Err(error), Some(reply)) => drop(reply.send(Err(error))),
            (sealed, None) => self.prepared_again(myself, job, sealed).await,
        }
    }

    pub(super) fn write_record(&mut self, myself: &Myself) {
        let dispatcher = myself.clone();
        self.journal.go_on(move |written| {
            drop(dispatcher.cast(DispatcherMessage::Recorded(Box::new(written))));
        });
    }

    async fn recorded(&mut self, myself: &Myself, written: Written<After>) {
        match self.journal.written(written) {
            Next::Durable(After::Nothing) => {}
            Next::Durable(After::Require(job, record, reply)) => {
                self.required(myself, job, *record);
                drop(reply.send(Ok(())));
            }
            Next::Durable(After::Cancelled(job, reply)) => {
                self.taking_cancelled(job);
                drop(reply.send(Ok(true)));
            }
            Next::Durable(After::Start(job, sealed, reply)) => {
                drop(reply.send(self.start(myself, job, *sealed).await));
            }
            Next::Again(reason) => {
                tracing::warn!("not known whether the cluster's log was written, asking again: {reason}");
                myself.send_after(AGAIN, || DispatcherMessage::RecordAgain);
                return;
            }
            Next::Deposed(waiting) => {
                for after in waiting {
                    let elsewhere = || PortError::retry("another job manager leads now: ask that one");
                    match after {
                        After::Start(_, _, reply) => drop(reply.send(Err(elsewhere()))),
                        After::Cancelled(_, reply) => drop(reply.send(Err(elsewhere()))),
                        After::Require(_, _, reply) => drop(reply.send(Err(elsewhere()))),
                        After::Nothing => {}
                    }
                }
                (self.deposed)();
                return;
            }
        }
        self.write_record(myself);
    }

    pub(super) async fn start(
        &mut self,
        myself: &Myself,
        job: JobId,
        sealed: SealedJob,
    ) -> Result<JobHandle, PortError> {
        let Scheduling { mode, adaptive, .. } = self.scheduling;
        let (fit, made) = Fit::new(sealed.record().clone(), Arc::clone(sealed.graph()), mode, adaptive);
        let sealed = sealed.with_parallelism(made)?;
        let handle = sealed.start(self.world.clone(), self.stopwatch).await?.handle;
        let (waiting, dispatcher) = (handle.clone(), myself.clone());
        drop(tokio::spawn(async move {
            // Also when its master is gone: it will use no slot any more.
            let _ended = waiting.outcome().await;
            drop(dispatcher.cast(DispatcherMessage::Ended(job)));
        }));
        self.jobs.push(Dispatched { handle: handle.clone(), ended: false, fit });
        self.claim(myself, job);
        Ok(handle)
    }

    async fn ended(&mut self, myself: &Myself, job: JobId) {
        if let Some(known) = self.jobs.iter_mut().find(|known| known.handle.id() == job) {
            known.ended = true;
            let outcome = known.handle.outcome().await.ok();
            if let Some(state) = outcome.and_then(terminal_state) {
                self.journal.push(ClusterRecord::Ended { job, state }, After::Nothing);
            }
        }
        self.forget_surplus();
        self.write_record(myself);
        let grants = self.slots.release(job);
        self.grant(myself, grants);
    }

    /// Ended jobs are shown for a while, the newest of them.
    fn forget_surplus(&mut self) {
        let mut surplus = (self.jobs.iter().filter(|known| known.ended).count() + self.ended_before.len())
            .saturating_sub(ENDED_SHOWN);
        while surplus > 0 {
            let forgotten = match self.ended_before.pop_first() {
                Some((job, _)) => job,
                None => {
                    let oldest = self.jobs.iter().position(|known| known.ended).expect("counted above");
                    self.jobs.remove(oldest).handle.id()
                }
            };
            self.journal.push(ClusterRecord::Forgotten { job: forgotten }, After::Nothing);
            surplus -= 1;
        }
    }

    fn nodes(&self) -> Vec<NodeReport> {
        let report = |(process, slots, free): (&NodeProcess, u32, u32)| NodeReport {
            process: process.clone(),
            slots,
            free,
            reading: self.readings.get(process).copied(),
        };
        self.slots.nodes().map(report).collect()
    }

    fn remembered(&self) -> Vec<RememberedJob> {
        let ended = self.ended_before.iter().map(|(job, known)| (*job, known.clone(), None));
        let taking = self.taking.iter().map(|(job, taking)| {
            let (known, trouble) = taking.known();
            (*job, known, trouble)
        });
        ended.chain(taking).map(|(job, known, trouble)| RememberedJob { job, known, trouble }).collect()
    }

    /// Slots, nodes or jobs have changed: tells job masters which slots they may use, and has jobs made to fit.
    pub(super) fn grant(&mut self, myself: &Myself, mut grants: Vec<Grant>) {
        grants.extend(self.share_out());
        for Grant { job, process, slots } in grants {
            let handle = self.jobs.iter().find(|known| known.handle.id() == job);
            if let (Some(known), Some(node)) = (handle, self.nodes.get(&process.node)) {
                known.handle.node_joined(OfferedNode { slots, ..node.clone() });
            }
        }
        self.adapt(myself);
    }

    fn step_down(&self) {
        self.jobs.iter().filter(|known| !known.ended).for_each(|known| known.handle.step_down());
    }
}

/// How the log of the cluster remembers the end of a job; nothing for one that has not ended but was taken over.
fn terminal_state(outcome: JobOutcome) -> Option<TerminalState> {
    match outcome.status {
        JobStatus::Finished if outcome.savepoint.is_some() => Some(TerminalState::Stopped),
        JobStatus::Finished => Some(TerminalState::Finished),
        JobStatus::Canceled => Some(TerminalState::Canceled),
        JobStatus::Failed => Some(TerminalState::Failed { reason: outcome.failure.unwrap_or_default() }),
        JobStatus::Initializing
        | JobStatus::Created
        | JobStatus::Running
        | JobStatus::Failing
        | JobStatus::Cancelling
        | JobStatus::Restarting
        | JobStatus::Suspended => None,
    }
}
