//! The loop of the job master: messages become events of the machines, their commands are carried out in order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_runtime::checkpoint::coordinator::{Coordinator, Options as CheckpointOptions, RequestId, Retained};
use millstream_runtime::element::Purpose;
use millstream_runtime::graph::Regions;
use millstream_runtime::ids::{AttemptId, CheckpointId, NodeId, SubtaskId};
use millstream_runtime::job::placement::LoadBalance;
use millstream_runtime::job::{Failure, Job, JobStatus, Options as JobOptions, SchedulerState};
use millstream_runtime::ports::ErrorKind;
use millstream_runtime::time::Timestamp;
use millstream_state::local::NodeFolder;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

use super::cleaning::{Cleaner, Cleanings};
use super::deployment::{Blueprint, Deployments, Member, Nodes, OfferedNode};
use super::enumerators::Enumerators;
use super::handle::{JobOutcome, Requested};
use super::message::JobMasterMessage;
use super::records::{Ledger, RecordWork};
use super::report::{JobReport, SubtaskReportRow, SubtaskStatus, VertexReport};
use super::restore::Restored;
use crate::metrics::{JobMetrics, JobScope, Registered};
use crate::protocol::{FromTaskManager, Refusal, SubtaskReport};

/// The actor of one job.
pub struct JobMaster;

/// What a job is started with.
pub struct JobArguments {
    /// How its subtasks are made.
    pub blueprint: Blueprint,
    /// Its log, sealed for this epoch.
    pub ledger: Box<Ledger>,
    /// Knows its files.
    pub cleaner: Box<Cleaner>,
    /// Settings of its checkpoints.
    pub checkpoints: CheckpointOptions,
    /// Checkpoints in the log that can be restored.
    pub retained: Vec<Retained>,
    /// What follows a failure.
    pub job: JobOptions,
    /// What the first deployment starts from.
    pub restore: Option<Restored>,
    /// State without an operator may be left behind.
    pub allow_non_restored_state: bool,
    /// Going back past a damaged checkpoint may repeat output.
    pub allow_fallback: bool,
    /// Where savepoints go unless the request says.
    pub savepoint_dir: Option<String>,
    /// Settings of the job, for REST and manifests.
    pub properties: Vec<(String, String)>,
    /// The task managers it may use.
    pub nodes: Vec<OfferedNode>,
    /// How its subtasks are shared out to them.
    pub balance: LoadBalance,
    /// Locked until the job has ended, so that nobody else runs it meanwhile; for a job that has a folder of its own.
    pub node: Option<Arc<NodeFolder>>,
}

/// A job that has ended.
pub(super) struct Releasing {
    pub status: JobStatus,
    /// Nodes that have not told that they let go of it.
    pub on: BTreeSet<NodeId>,
}

/// A request that waits for its checkpoint.
pub(super) struct Waiting {
    pub target: Option<String>,
    pub purpose: Purpose,
    pub reply: RpcReplyPort<Result<Requested, String>>,
}

/// The state of a job master.
pub struct JobMasterState {
    pub(super) blueprint: Blueprint,
    pub(super) ledger: Option<Box<Ledger>>,
    pub(super) cleanings: Cleanings,
    pub(super) coordinator: Coordinator,
    pub(super) job: Job,
    pub(super) members: BTreeMap<SubtaskId, Member>,
    /// The regions of the graph that is deployed next or now.
    pub(super) regions: Regions,
    pub(super) enumerators: Enumerators,
    /// Checkpoint that waits for its enumerators.
    pub(super) snapshot_wanted: Option<CheckpointId>,
    /// Record that waits for the ledger, or was undecided.
    pub(super) record: Option<RecordWork>,
    pub(super) requests: BTreeMap<RequestId, Waiting>,
    pub(super) next_request: u64,
    pub(super) locations: BTreeMap<CheckpointId, String>,
    pub(super) restore: Option<Restored>,
    pub(super) first_deployment: bool,
    /// Regions to deploy once the coordinator has settled.
    pub(super) deploy_wanted: Deployments,
    /// There are too few slots for them.
    pub(super) waits_for_slots: bool,
    pub(super) scheduler: SchedulerState,
    /// Attempts on their way out, and the nodes that have not told that nothing of them is left.
    pub(super) canceling: BTreeMap<AttemptId, BTreeSet<NodeId>>,
    pub(super) releasing: Option<Releasing>,
    pub(super) terminal_wanted: Option<JobStatus>,
    /// The end whose record is being written.
    pub(super) terminal_status: Option<JobStatus>,
    pub(super) outcome: Option<JobOutcome>,
    pub(super) waiting_for_end: Vec<RpcReplyPort<JobOutcome>>,
    pub(super) stopped_with: Option<String>,
    pub(super) refused: bool,
    pub(super) allow_non_restored_state: bool,
    pub(super) allow_fallback: bool,
    pub(super) savepoint_dir: Option<String>,
    pub(super) properties: Vec<(String, String)>,
    pub(super) nodes: Nodes,
    pub(super) node: Option<Arc<NodeFolder>>,
    pub(super) metrics: Registered<JobMetrics>,
    pub(super) started_ms: Timestamp,
    pub(super) ended_ms: Option<Timestamp>,
    pub(super) jitter: u64,
}

impl Actor for JobMaster {
    type Msg = JobMasterMessage;
    type State = JobMasterState;
    type Arguments = JobArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<JobMasterMessage>,
        arguments: JobArguments,
    ) -> Result<JobMasterState, ActorProcessingErr> {
        Ok(JobMasterState::new(&myself, arguments))
    }

    async fn post_start(
        &self,
        myself: ActorRef<JobMasterMessage>,
        state: &mut JobMasterState,
    ) -> Result<(), ActorProcessingErr> {
        let mut commands = Vec::new();
        state.job.submitted(state.now_ms(), &mut commands);
        state.carry_out_job(&myself, commands).await;
        state.tell_scheduler();
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<JobMasterMessage>,
        message: JobMasterMessage,
        state: &mut JobMasterState,
    ) -> Result<(), ActorProcessingErr> {
        state.take(&myself, message).await;
        state.tell_scheduler();
        Ok(())
    }
}

impl JobMasterState {
    fn new(myself: &ActorRef<JobMasterMessage>, arguments: JobArguments) -> Self {
        let JobArguments { blueprint, ledger, cleaner, checkpoints, retained, job, restore, .. } = arguments;
        let now_ms = blueprint.world.clock.now_ms();
        let scope = JobScope { job: blueprint.job, name: blueprint.graph.name.clone() };
        let metrics = blueprint.world.registry.job(&scope);
        let epoch = ledger.log.epoch();
        let jitter = blueprint.world.seed;
        let regions = blueprint.regions();
        let mut nodes = Nodes::new(blueprint.job, arguments.balance);
        arguments.nodes.into_iter().for_each(|node| nodes.add(node, myself));
        Self {
            ledger: Some(ledger),
            cleanings: Cleanings::new(cleaner),
            coordinator: Coordinator::new(checkpoints, retained, regions.ids()),
            job: Job::new(epoch, &regions.ids(), job, now_ms),
            members: BTreeMap::new(),
            regions,
            enumerators: Enumerators::default(),
            snapshot_wanted: None,
            record: None,
            requests: BTreeMap::new(),
            next_request: 0,
            locations: BTreeMap::new(),
            restore,
            first_deployment: true,
            deploy_wanted: Deployments::new(),
            waits_for_slots: false,
            scheduler: SchedulerState::Created,
            canceling: BTreeMap::new(),
            releasing: None,
            terminal_wanted: None,
            terminal_status: None,
            outcome: None,
            waiting_for_end: Vec::new(),
            stopped_with: None,
            refused: false,
            allow_non_restored_state: arguments.allow_non_restored_state,
            allow_fallback: arguments.allow_fallback,
            savepoint_dir: arguments.savepoint_dir,
            properties: arguments.properties,
            nodes,
            node: arguments.node,
            metrics,
            started_ms: now_ms,
            ended_ms: None,
            jitter,
            blueprint,
        }
    }

    pub(super) fn now_ms(&self) -> Timestamp {
        self.blueprint.world.clock.now_ms()
    }

    /// A number in 0..1 from the injected seed (splitmix64).
    pub(super) fn draw(&mut self) -> f64 {
        self.jitter = self.jitter.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.jitter;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    async fn take(&mut self, myself: &ActorRef<JobMasterMessage>, message: JobMasterMessage) {
        let now_ms = self.now_ms();
        match message {
            JobMasterMessage::NodeJoined(node) => {
                self.nodes.add(node, myself);
                self.deploy_when_settled(myself);
            }
            JobMasterMessage::NodeLost(process, reason) => self.node_lost(myself, &process, &reason).await,
            JobMasterMessage::FromTaskManager(node, told) => self.told(myself, node, told).await,
            JobMasterMessage::RestorePlanned(of, planned, ledger) => {
                self.ledger = Some(ledger);
                self.restore_planned(myself, of, *planned).await;
                self.ledger_free(myself);
            }
            JobMasterMessage::Discovered(of, discovery) => self.discovered(myself, of, *discovery).await,
            JobMasterMessage::Discover(of, vertex) => self.discover(myself, of, vertex),
            JobMasterMessage::Recorded(outcome) => self.recorded(myself, *outcome).await,
            JobMasterMessage::TerminalRecorded(recorded) => self.terminal_recorded(myself, *recorded).await,
            JobMasterMessage::Clean(cleaning) => self.clean(myself, *cleaning),
            JobMasterMessage::CleanerBack(cleaner) => self.cleaner_back(myself, cleaner),
            JobMasterMessage::LedgerFree => self.ledger_free(myself),
            JobMasterMessage::Tick(due_ms) => {
                let mut commands = Vec::new();
                self.coordinator.tick(now_ms.max(due_ms), &mut commands);
                self.carry_out(myself, commands).await;
            }
            JobMasterMessage::RestartDue(due_ms) => {
                let mut commands = Vec::new();
                self.job.restart_due(now_ms.max(due_ms), &mut commands);
                self.carry_out_job(myself, commands).await;
            }
            JobMasterMessage::Trigger { purpose, drain, target, reply } => {
                self.trigger(myself, purpose, drain, target, reply).await;
            }
            JobMasterMessage::Cancel(reply) => {
                self.await_end(reply);
                let mut commands = Vec::new();
                self.job.cancel_requested(now_ms, &mut commands);
                self.carry_out_job(myself, commands).await;
            }
            JobMasterMessage::Redeploy(graph, record) => self.redeploy(myself, graph, *record).await,
            JobMasterMessage::Fail(reason) => {
                self.fail_job(myself, Failure::of_job(ErrorKind::GiveUp, reason)).await;
            }
            JobMasterMessage::StepDown => {
                let mut commands = Vec::new();
                self.job.leadership_lost(now_ms, &mut commands);
                self.carry_out_job(myself, commands).await;
            }
            JobMasterMessage::Await(reply) => self.await_end(reply),
            JobMasterMessage::Report(reply) => drop(reply.send(Box::new(self.report()))),
        }
    }

    fn await_end(&mut self, reply: RpcReplyPort<JobOutcome>) {
        match &self.outcome {
            Some(outcome) => drop(reply.send(outcome.clone())),
            None => self.waiting_for_end.push(reply),
        }
    }

    async fn told(&mut self, myself: &ActorRef<JobMasterMessage>, node: NodeId, told: FromTaskManager) {
        match told {
            FromTaskManager::Subtask { id, attempt, report } => self.subtask(myself, id, attempt, report).await,
            FromTaskManager::Gone { id, attempt } => {
                if self.is_of(id, attempt) {
                    self.member_gone(id);
                }
            }
            FromTaskManager::NotDeployed { attempt, reason: Refusal { kind, message } } => {
                if self.job.is_wanted(attempt) {
                    tracing::error!(%attempt, %node, "not deployed: {message}");
                    self.fail(myself, &[attempt], Failure::of_job(kind, message)).await;
                }
            }
            FromTaskManager::Stopped(attempt) => self.stopped(myself, &node, attempt).await,
            FromTaskManager::Released(_) => self.released(&node),
            FromTaskManager::Readings { attempt, readings } => {
                for (id, reading) in readings {
                    if let Some(member) = self.members.get_mut(&id).filter(|member| member.attempt == attempt) {
                        member.reading = Some(reading);
                    }
                }
            }
        }
    }

    async fn subtask(
        &mut self,
        myself: &ActorRef<JobMasterMessage>,
        id: SubtaskId,
        attempt: AttemptId,
        report: SubtaskReport,
    ) {
        if !self.is_of(id, attempt) {
            return;
        }
        // The end of an actor is told ahead of what it had said before: of a deployment that has failed only further
        // failures are heard, or its last subtask to say that it runs would bring it back.
        if !self.job.is_wanted(attempt) && !matches!(report, SubtaskReport::Failed(_)) {
            return;
        }
        let now_ms = self.now_ms();
        let mut commands = Vec::new();
        match report {
            SubtaskReport::Running => {
                self.enter(id, SubtaskStatus::Running);
                if self.all_are(attempt, SubtaskStatus::Running) {
                    self.all_running(myself, attempt).await;
                }
                return;
            }
            SubtaskReport::Acked(ack, metrics) => {
                let reply = self.coordinator.ack(*ack, metrics, now_ms, &mut commands);
                tracing::trace!(subtask = %id, ?reply, "acknowledged");
            }
            SubtaskReport::Declined { checkpoint, reason } => {
                tracing::warn!(subtask = %id, %checkpoint, "checkpoint declined: {reason}");
                self.coordinator.declined(checkpoint, attempt, id, reason, now_ms, &mut commands);
            }
            SubtaskReport::ShortOfMemory => {
                tracing::info!(subtask = %id, "keyed state takes more memory than it may: a checkpoint is taken early");
                self.coordinator.hastened(id, attempt, now_ms, &mut commands);
            }
            SubtaskReport::EndOfData => {
                if let Some(member) = self.members.get_mut(&id) {
                    member.ended = true;
                }
                self.coordinator.end_of_data(attempt, id, now_ms, &mut commands);
            }
            SubtaskReport::Finished => {
                self.enter(id, SubtaskStatus::Finished);
                if self.all_are(attempt, SubtaskStatus::Finished) {
                    self.all_finished(myself, attempt).await;
                }
                return;
            }
            SubtaskReport::Failed(Refusal { kind, message }) => {
                self.subtask_failed(myself, id, attempt, kind, message).await;
                return;
            }
        }
        self.carry_out(myself, commands).await;
    }

    /// Whether a subtask's newest deployment is this.
    fn is_of(&self, id: SubtaskId, attempt: AttemptId) -> bool {
        self.members.get(&id).is_some_and(|member| member.attempt == attempt)
    }

    fn all_are(&self, attempt: AttemptId, status: SubtaskStatus) -> bool {
        self.members.values().filter(|member| member.attempt == attempt).all(|member| member.status == status)
    }

    pub(super) fn enter(&mut self, id: SubtaskId, status: SubtaskStatus) {
        let now_ms = self.now_ms();
        if let Some(member) = self.members.get_mut(&id) {
            member.status = status;
            member.since_ms = now_ms;
        }
    }

    pub(super) fn subtask_name(&self, id: SubtaskId) -> String {
        let Some(vertex) = self.blueprint.graph.vertices.iter().find(|vertex| vertex.id == id.vertex) else {
            return id.to_string();
        };
        format!("{} ({}/{})", vertex.name, id.index.0 + 1, vertex.parallelism)
    }

    async fn subtask_failed(
        &mut self,
        myself: &ActorRef<JobMasterMessage>,
        id: SubtaskId,
        attempt: AttemptId,
        kind: ErrorKind,
        message: String,
    ) {
        self.enter(id, SubtaskStatus::Failed);
        let name = self.subtask_name(id);
        tracing::error!(subtask = name, attempt = %attempt, "{message}");
        let location = self.members.get(&id).map(|member| member.node.to_string());
        let failure = Failure { subtask: Some(id), subtask_name: Some(name), kind, message, location };
        self.fail(myself, &[attempt], failure).await;
    }

    fn report(&self) -> JobReport {
        let (graph, configuration) = (&self.blueprint.graph, &self.blueprint.record.configuration);
        JobReport {
            job: self.blueprint.job,
            name: graph.name.clone(),
            status: self.job.status(),
            timestamps: *self.job.timestamps(),
            started_ms: self.started_ms,
            ended_ms: self.ended_ms,
            attempt: self.job.attempt(),
            restarts: self.job.restarts(),
            vertices: graph
                .vertices
                .iter()
                .map(|vertex| VertexReport {
                    id: vertex.id,
                    name: vertex.name.clone(),
                    parallelism: vertex.parallelism,
                    max_parallelism: vertex.most_subtasks,
                    slot_sharing_group: vertex.slot_sharing_group.id(),
                })
                .collect(),
            edges: graph.edges.clone(),
            subtasks: self
                .members
                .iter()
                .map(|(id, member)| SubtaskReportRow {
                    id: *id,
                    attempt: member.deployments_before,
                    deployment: member.attempt,
                    status: member.status,
                    since_ms: member.since_ms,
                    started_ms: member.started_ms,
                    node: member.node.clone(),
                    reading: member.reading,
                })
                .collect(),
            exceptions: self.job.exceptions().clone(),
            checkpoints: self.coordinator.statistics().clone(),
            checkpoint_options: self.coordinator.options().clone(),
            locations: self.locations.clone(),
            properties: self.properties.clone(),
            configuration: configuration.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
        }
    }
}
