//! Carries out what the machines command, in order.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use millstream_runtime::checkpoint::coordinator::{
    Command, EnumeratorSnapshot, Request, RequestError, RequestId, RestoredStatistics,
};
use millstream_runtime::element::{Barrier, Purpose};
use millstream_runtime::ids::{AttemptId, CheckpointId, NodeId, NodeProcess, SubtaskId, SubtaskIndex};
use millstream_runtime::job::{Command as JobCommand, Failure};
use millstream_runtime::ports::source::SplitEnumerator;
use millstream_runtime::ports::{ErrorKind, PortError};
use millstream_runtime::time::MIN_TIMESTAMP;
use millstream_state::log::Look;
use ractor::{ActorRef, RpcReplyPort};

use super::actor::{Canceling, JobMasterState, Waiting};
use super::enumerators::{Assignment, Discovery, Enumerators};
use super::handle::Requested;
use super::message::JobMasterMessage;
use super::prepare::{prepare, strays};
use super::records::{RecordWork, manifest};
use super::report::SubtaskStatus;
use super::restore::{RestorePlan, Restored, plan};
use crate::metrics::job::{Availability, LastCheckpoint};
use crate::protocol::{Order, SplitAssignment, ToTaskManager};
use crate::world::caught;

type Myself = ActorRef<JobMasterMessage>;

impl JobMasterState {
    /// Carries out commands of the job machine and whatever follows from them.
    pub(super) async fn carry_out_job(&mut self, myself: &Myself, commands: Vec<JobCommand>) {
        let mut queue = VecDeque::from(commands);
        while let Some(command) = queue.pop_front() {
            let now_ms = self.now_ms();
            match command {
                JobCommand::Deploy(attempt) => {
                    self.deploy_wanted = Some(attempt);
                    self.deploy_when_settled(myself);
                }
                JobCommand::CancelSubtasks(attempt) => {
                    let mut more = Vec::new();
                    self.cancel_subtasks(myself, attempt, &mut more).await;
                    queue.extend(more);
                }
                JobCommand::ScheduleRestart { at_ms } => {
                    let after = u64::try_from(at_ms - now_ms).unwrap_or(0);
                    tracing::info!("the job restarts in {after} ms");
                    myself.send_after(Duration::from_millis(after), move || JobMasterMessage::RestartDue(at_ms));
                }
                JobCommand::RecordFailure { attempt, restarts } => {
                    self.metrics.metrics().set_restarts(self.job.restarts());
                    self.metrics.metrics().set_availability(Availability::Down(now_ms));
                    let what = if restarts { "it is restarted" } else { "it is not restarted" };
                    tracing::error!(%attempt, "the job failed: {what}");
                }
                JobCommand::StopInterrupted => {
                    self.stopped_with = None;
                    tracing::warn!("a failure interrupted the stop: its savepoint is good, the job goes on");
                }
                JobCommand::RecordTerminal(status) => {
                    self.terminal_wanted = Some(status);
                    self.write_terminal_when_free(myself);
                }
                JobCommand::ReachedTerminal(status) => self.release_nodes(status),
            }
        }
    }

    async fn cancel_subtasks(&mut self, myself: &Myself, attempt: AttemptId, more: &mut Vec<JobCommand>) {
        let now_ms = self.now_ms();
        self.deploy_wanted = None;
        for member in self.members.values_mut().filter(|member| !member.gone) {
            if member.status != SubtaskStatus::Failed {
                member.status = SubtaskStatus::Canceling;
            }
        }
        self.canceling = Some(Canceling { attempt, on: self.stop_all(attempt) });
        let mut commands = Vec::new();
        self.settled = false;
        self.coordinator.attempt_ended(attempt, now_ms, &mut commands);
        if !commands.iter().any(|command| matches!(command, Command::Settled { .. }))
            && !self.coordinator.is_recording()
        {
            self.settled = true;
        }
        self.enumerators = Enumerators::default();
        self.snapshot_wanted = None;
        Box::pin(self.carry_out(myself, commands)).await;
        self.canceled_when_all_stopped(more);
    }

    /// Has every node with subtasks of the attempt stop them; answers which these are.
    fn stop_all(&self, attempt: AttemptId) -> BTreeSet<NodeId> {
        let known = self.nodes.ids();
        let nodes: BTreeSet<NodeId> = self.members.values().map(|member| member.node.clone()).collect();
        let nodes: BTreeSet<NodeId> = nodes.intersection(&known).cloned().collect();
        nodes.iter().for_each(|node| self.nodes.send(node, ToTaskManager::Stop(attempt)));
        nodes
    }

    /// A subtask's actor has stopped for certain.
    pub(super) fn member_gone(&mut self, id: SubtaskId) {
        let Some(member) = self.members.get_mut(&id) else { return };
        member.gone = true;
        if member.status == SubtaskStatus::Canceling {
            self.enter(id, SubtaskStatus::Canceled);
        }
    }

    /// Nothing of the attempt is left on a node.
    pub(super) async fn stopped(&mut self, myself: &Myself, node: &NodeId, attempt: AttemptId) {
        if self.attempt == Some(attempt) {
            self.members_gone(node);
        }
        if let Some(canceling) = self.canceling.as_mut().filter(|canceling| canceling.attempt <= attempt) {
            canceling.on.remove(node);
        }
        let mut commands = Vec::new();
        self.canceled_when_all_stopped(&mut commands);
        self.carry_out_job(myself, commands).await;
    }

    /// Nothing of the attempt is left on a node; answers whether anything was.
    fn members_gone(&mut self, node: &NodeId) -> bool {
        let left = self.members.iter().filter(|(_, member)| member.node == *node && !member.gone);
        let left: Vec<SubtaskId> = left.map(|(id, _)| *id).collect();
        left.iter().for_each(|id| self.member_gone(*id));
        !left.is_empty()
    }

    /// A process of a node is lost, with every subtask that ran on it.
    pub(super) async fn node_lost(&mut self, myself: &Myself, process: &NodeProcess, reason: &str) {
        if !self.nodes.remove(process) {
            return;
        }
        let node = &process.node;
        let (attempt, carried) = (self.attempt, self.members_gone(node));
        // Whatever it still runs is of an old attempt from now on, and it will not say when that is gone.
        if let Some(canceling) = &mut self.canceling {
            canceling.on.remove(node);
        }
        let mut commands = Vec::new();
        self.canceled_when_all_stopped(&mut commands);
        self.carry_out_job(myself, commands).await;
        if let Some(attempt) = attempt.filter(|_| carried) {
            let message = format!("task manager {process} was lost: {reason}");
            self.fail(myself, attempt, Failure::of_job(ErrorKind::Retry, message)).await;
        }
        self.released(node);
    }

    fn canceled_when_all_stopped(&mut self, commands: &mut Vec<JobCommand>) {
        if let Some(Canceling { attempt, .. }) = self.canceling.take_if(|canceling| canceling.on.is_empty()) {
            self.job.subtasks_canceled(attempt, self.blueprint.world.clock.now_ms(), commands);
        }
    }

    /// Deploys once no record of the attempt before is in doubt and the ledger is at home.
    pub(super) fn deploy_when_settled(&mut self, myself: &Myself) {
        if !self.settled || self.deploy_wanted.is_none() {
            return;
        }
        if let Err(too_few) = self.nodes.suffice(&self.blueprint.graph) {
            tracing::warn!("waiting for task managers: {too_few}");
            return;
        }
        let Some(mut ledger) = self.ledger.take() else { return };
        let Some(attempt) = self.deploy_wanted.take() else { return };
        let first = std::mem::replace(&mut self.first_deployment, false);
        let look = if first { Look::Whole } else { Look::Index };
        let given = if first { self.restore.clone() } else { None };
        let fallback = self.restore.clone();
        let graph = Arc::clone(&self.blueprint.graph);
        let (allow, consent) = (self.allow_non_restored_state, self.allow_fallback);
        let (world, myself) = (self.blueprint.world.clone(), myself.clone());
        world.blocking.clone().run(Box::new(move || {
            let prepared =
                prepare(&mut ledger, attempt, given, fallback, consent, look).and_then(|(restored, messages)| {
                    drop(myself.cast(JobMasterMessage::Clean(Box::new(strays(&ledger, attempt, restored.as_ref())))));
                    let mut plan = caught(|| plan(&graph, restored, &world.blobs, allow))??;
                    plan.messages.extend(messages);
                    Ok(plan)
                });
            drop(myself.cast(JobMasterMessage::LedgerBack(ledger)));
            drop(myself.cast(JobMasterMessage::RestorePlanned(attempt, Box::new(prepared))));
        }));
    }

    pub(super) async fn deploy(&mut self, myself: &Myself, attempt: AttemptId, mut plan: RestorePlan) {
        plan.messages.iter().for_each(|message| tracing::warn!("{message}"));
        self.attempt = Some(attempt);
        self.members.clear();
        let places = match self.nodes.place(&self.blueprint.graph) {
            Ok(places) => places,
            Err(_lost_meanwhile) => {
                self.deploy_wanted = Some(attempt);
                self.deploy_when_settled(myself);
                return;
            }
        };
        let deploys = self.blueprint.deploys(attempt, &places, &mut plan);
        let RestorePlan { enumerators, source_floors, restored, .. } = plan;
        self.source_floors = source_floors;
        if let Some(Restored { manifest, path, is_savepoint }) = &restored {
            let kind = if *is_savepoint { "savepoint" } else { "checkpoint" };
            tracing::info!(%attempt, "restoring from {kind} {} ({path})", manifest.checkpoint);
            self.coordinator.restored(RestoredStatistics {
                id: manifest.checkpoint,
                purpose: manifest.purpose,
                restore_timestamp_ms: self.now_ms(),
                external_path: path.clone(),
            });
        }
        self.members = self.blueprint.members(places, self.now_ms());
        for (node, deploy) in deploys {
            self.nodes.send(&node, ToTaskManager::Deploy(Box::new(deploy)));
        }
        self.enumerators = Enumerators::default();
        for (vertex, enumerator) in enumerators {
            let source = &self.blueprint.graph.vertices[vertex];
            let uid = source.enumerator.as_ref().map(|(uid, _)| uid.clone()).expect("a vertex with an enumerator");
            self.enumerators.add(vertex, uid, source.parallelism, enumerator);
            self.discover(myself, attempt, vertex);
        }
    }

    pub(super) async fn all_running(&mut self, myself: &Myself, attempt: AttemptId) {
        let now_ms = self.now_ms();
        self.job.deployed(attempt, now_ms);
        self.metrics.metrics().set_availability(Availability::Up(now_ms));
        let graph = Arc::clone(&self.blueprint.graph);
        let subtasks: Vec<_> =
            self.members.iter().map(|(id, member)| (*id, graph.vertices[member.vertex].enumerator.is_some())).collect();
        let floor =
            CheckpointId(self.ledger.as_ref().map_or(0, |ledger| ledger.log.state().last_checkpoint.0 + 1).max(1));
        let mut commands = Vec::new();
        if let Err(error) = self.coordinator.start_attempt(attempt, subtasks, floor, now_ms, &mut commands) {
            self.fail(myself, attempt, Failure::of_job(ErrorKind::Retry, error.to_string())).await;
            return;
        }
        // A short input may have ended before the last subtask was running.
        for (id, _) in self.members.iter().filter(|(_, member)| member.ended) {
            self.coordinator.end_of_data(attempt, *id, now_ms, &mut commands);
        }
        self.carry_out(myself, commands).await;
    }

    pub(super) async fn all_finished(&mut self, myself: &Myself, attempt: AttemptId) {
        self.stop_all(attempt);
        let now_ms = self.now_ms();
        let mut commands = Vec::new();
        self.coordinator.attempt_ended(attempt, now_ms, &mut commands);
        self.carry_out(myself, commands).await;
        let mut commands = Vec::new();
        self.job.all_finished(attempt, self.now_ms(), &mut commands);
        self.carry_out_job(myself, commands).await;
    }

    /// Carries out commands of the coordinator and whatever follows from them.
    pub(super) async fn carry_out(&mut self, myself: &Myself, commands: Vec<Command>) {
        let mut queue = VecDeque::from(commands);
        while let Some(command) = queue.pop_front() {
            let now_ms = self.now_ms();
            let mut more = Vec::new();
            match command {
                Command::SnapshotEnumerators { checkpoint } => {
                    self.snapshot_wanted = Some(checkpoint);
                    self.snapshot_enumerators(&mut more);
                }
                Command::SendTriggers { barrier, drain } => self.send_triggers(barrier, drain),
                Command::WriteRecord(record) => {
                    let manifest =
                        manifest(self.blueprint.job, &self.blueprint.graph, &record, self.properties.clone());
                    let target = self.target(record.request, record.checkpoint);
                    self.record = Some(RecordWork::new(record, manifest, target));
                    self.write_record_when_free(myself);
                }
                Command::RetryRecord { .. } => self.write_record_when_free(myself),
                Command::NotifyComplete { checkpoint, purpose, attempt } => {
                    self.notify_complete(checkpoint, purpose, attempt);
                }
                Command::Drop { .. } => {}
                Command::Abort { checkpoint, reason, .. } => {
                    tracing::warn!(%checkpoint, "checkpoint aborted: {reason}");
                    self.to_all(&Order::Abort(checkpoint));
                }
                Command::FailJob { reason } => {
                    if let Some(attempt) = self.attempt {
                        Box::pin(self.fail(myself, attempt, Failure::of_job(ErrorKind::Retry, reason))).await;
                    }
                }
                Command::Answer { request, result } => self.answer(request, result),
                Command::WakeAt(at_ms) => {
                    let after = u64::try_from(at_ms - now_ms).unwrap_or(0);
                    myself.send_after(Duration::from_millis(after), move || JobMasterMessage::Tick(at_ms));
                }
                Command::Settled { .. } => {
                    self.settled = true;
                    self.deploy_when_settled(myself);
                }
                Command::StepDown => {
                    let mut commands = Vec::new();
                    self.job.leadership_lost(now_ms, &mut commands);
                    Box::pin(self.carry_out_job(myself, commands)).await;
                }
            }
            queue.extend(more);
        }
        let counts = self.coordinator.statistics().counts();
        self.metrics.metrics().set_checkpoints(counts.completed, counts.failed, counts.in_progress);
    }

    /// Gives an order to every node that runs subtasks.
    fn to_all(&self, order: &Order) {
        let Some(attempt) = self.attempt else { return };
        let members = self.members.values().filter(|member| !member.gone);
        for node in members.map(|member| &member.node).collect::<BTreeSet<_>>() {
            self.nodes.send(node, ToTaskManager::Order(attempt, order.clone()));
        }
    }

    fn notify_complete(&mut self, checkpoint: CheckpointId, purpose: Purpose, attempt: AttemptId) {
        if self.attempt != Some(attempt) {
            return;
        }
        if purpose == Purpose::StopWithSavepoint {
            self.job.stop_savepoint_done(attempt);
            self.stopped_with = self.locations.get(&checkpoint).cloned();
        }
        let position = self.ledger.as_ref().and_then(|ledger| ledger.log.state().position);
        self.to_all(&Order::Complete { checkpoint, purpose, position });
        if let Some(last) = self.coordinator.statistics().latest_completed() {
            self.metrics.metrics().set_last_checkpoint(LastCheckpoint {
                id: last.id.0,
                duration_ms: last.end_to_end_duration_ms,
                size_bytes: last.checkpointed_size_bytes,
                full_size_bytes: last.state_size_bytes,
                metadata_size_bytes: 0,
                completed_ms: self.now_ms(),
            });
        }
    }

    fn snapshot_enumerators(&mut self, more: &mut Vec<Command>) {
        let Some(checkpoint) = self.snapshot_wanted else { return };
        let Some(snapshots) = self.enumerators.snapshot() else { return };
        self.snapshot_wanted = None;
        let graph = &self.blueprint.graph;
        let snapshots: Vec<EnumeratorSnapshot> =
            snapshots.into_iter().map(|(vertex, uid, state)| (graph.vertices[vertex].id, uid, state)).collect();
        self.coordinator.enumerators_snapshotted(checkpoint, snapshots, self.now_ms(), more);
    }

    fn send_triggers(&self, barrier: Barrier, drain: bool) {
        self.to_all(&Order::Trigger { barrier, drain });
    }

    /// Sends an enumerator to look for splits.
    pub(super) fn discover(&mut self, myself: &Myself, attempt: AttemptId, vertex: usize) {
        if self.attempt != Some(attempt) || self.canceling.is_some() {
            return;
        }
        let Some(enumerator) = self.enumerators.take(vertex) else { return };
        let myself = myself.clone();
        self.blueprint.world.blocking.run(Box::new(move || {
            let mut enumerator: Box<dyn SplitEnumerator> = enumerator;
            let splits = caught(|| enumerator.discover()).and_then(|splits| splits);
            let discovery = Discovery { vertex, enumerator, splits };
            drop(myself.cast(JobMasterMessage::Discovered(attempt, Box::new(discovery))));
        }));
    }

    pub(super) async fn discovered(&mut self, myself: &Myself, attempt: AttemptId, discovery: Discovery) {
        if self.attempt != Some(attempt) || self.canceling.is_some() {
            return;
        }
        let vertex = discovery.vertex;
        match self.enumerators.returned(discovery) {
            Ok(assignment) => self.assign(assignment),
            Err(PortError { kind, message }) => {
                self.fail(myself, attempt, Failure::of_job(kind, message)).await;
                return;
            }
        }
        if let Some(interval_ms) = self.enumerators.interval_ms(vertex) {
            myself.send_after(Duration::from_millis(interval_ms), move || JobMasterMessage::Discover(attempt, vertex));
        }
        let mut commands = Vec::new();
        self.snapshot_enumerators(&mut commands);
        self.carry_out(myself, commands).await;
    }

    fn assign(&self, assignment: Option<Assignment>) {
        let Some(Assignment { vertex, splits, initial, last }) = assignment else { return };
        let floor = if initial {
            self.source_floors.iter().find(|(of, _)| *of == vertex).map_or(MIN_TIMESTAMP, |(_, floor)| *floor)
        } else {
            self.members
                .values()
                .filter(|member| member.vertex == vertex)
                .filter_map(|member| member.reading.map(|reading| reading.output_watermark))
                .max()
                .unwrap_or(MIN_TIMESTAMP)
        };
        let vertex = self.blueprint.graph.vertices[vertex].id;
        for (index, splits) in (0..).zip(splits) {
            let id = SubtaskId { vertex, index: SubtaskIndex(index) };
            if let (Some(member), Some(attempt)) = (self.members.get(&id), self.attempt) {
                let splits = SplitAssignment { splits, initial, last, floor };
                let order = Order::Assign { subtask: id, splits };
                self.nodes.send(&member.node, ToTaskManager::Order(attempt, order));
            }
        }
    }

    pub(super) async fn trigger(
        &mut self,
        myself: &Myself,
        purpose: Purpose,
        drain: bool,
        target: Option<String>,
        reply: RpcReplyPort<Result<Requested, String>>,
    ) {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        self.requests.insert(id, Waiting { target, purpose, reply });
        let mut commands = Vec::new();
        self.coordinator.trigger_requested(Request { id, purpose, drain }, self.now_ms(), &mut commands);
        self.carry_out(myself, commands).await;
    }

    fn target(&self, request: Option<RequestId>, checkpoint: CheckpointId) -> Option<String> {
        let waiting = request.and_then(|request| self.requests.get(&request))?;
        if !matches!(waiting.purpose, Purpose::Savepoint | Purpose::StopWithSavepoint) {
            return None;
        }
        let folder = waiting.target.clone().or_else(|| self.savepoint_dir.clone())?;
        let job = self.blueprint.job.to_string();
        let name = format!("savepoint-{}-{}-{checkpoint}", &job[..6], self.attempt.unwrap_or_default());
        Some(Path::new(&folder).join(name).to_string_lossy().into_owned())
    }

    fn answer(&mut self, request: RequestId, result: Result<CheckpointId, RequestError>) {
        let Some(waiting) = self.requests.remove(&request) else { return };
        let answer = result
            .map(|checkpoint| Requested { checkpoint, location: self.locations.get(&checkpoint).cloned() })
            .map_err(|error| error.to_string());
        drop(waiting.reply.send(answer));
    }
}
