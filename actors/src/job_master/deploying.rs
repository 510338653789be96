//! Regions come and go: carries out what the job machine commands. Each region is deployed, stopped and restored on its
//! own, while the others go on; what concerns all of them is done when none has subtasks any more.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use millstream_runtime::checkpoint::coordinator::{Command, RegionDeployment, RestoredStatistics};
use millstream_runtime::element::Purpose;
use millstream_runtime::ids::{AttemptId, CheckpointId, NodeId, NodeProcess, OlderAttempts, RegionId, SubtaskId};
use millstream_runtime::job::placement::Places;
use millstream_runtime::job::scheduling::{Doing, SchedulerState};
use millstream_runtime::job::{Command as JobCommand, Failure, JobStatus, Scope};
use millstream_runtime::ports::{ErrorKind, PortError};
use millstream_state::log::Look;
use ractor::ActorRef;

use super::actor::{JobMasterState, Waiting};
use super::deployment::{Deployments, members};
use super::enumerators::Enumerators;
use super::message::JobMasterMessage;
use super::prepare::{Prepared, Search, prepare, strays};
use super::report::SubtaskStatus;
use super::restore::{Planned, RestorePlan, Restored, Wanted, plan};
use crate::metrics::job::Availability;
use crate::protocol::ToTaskManager;
use crate::world::caught;

type Myself = ActorRef<JobMasterMessage>;

impl JobMasterState {
    /// Carries out commands of the job machine and whatever follows from them.
    pub(super) async fn carry_out_job(&mut self, myself: &Myself, commands: Vec<JobCommand>) {
        let mut queue = VecDeque::from(commands);
        while let Some(command) = queue.pop_front() {
            let now_ms = self.now_ms();
            match command {
                JobCommand::Deploy(attempts) => {
                    self.deploy_wanted.extend(attempts);
                    self.deploy_when_settled(myself);
                }
                JobCommand::CancelSubtasks(attempt) => {
                    let mut more = Vec::new();
                    self.cancel_subtasks(myself, attempt, &mut more).await;
                    queue.extend(more);
                }
                JobCommand::ScheduleRestart { at_ms } => {
                    let after = u64::try_from(at_ms - now_ms).unwrap_or(0);
                    tracing::info!("what has failed restarts in {after} ms");
                    myself.send_after(Duration::from_millis(after), move || JobMasterMessage::RestartDue(at_ms));
                }
                JobCommand::RecordFailure { attempt, restarts } => {
                    self.metrics.metrics().set_restarts(self.job.restarts());
                    self.metrics.metrics().set_availability(Availability::Down(now_ms));
                    let whole = self.regions.len() == 1 || !self.job.goes_on();
                    let what = if whole { "the job" } else { "a region of the job" };
                    let follows = if restarts { "it is restarted" } else { "it is not restarted" };
                    tracing::error!(%attempt, "{what} failed: {follows}");
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

    /// Something of these deployments failed, by one cause: the job machine decides what follows.
    pub(super) async fn fail(&mut self, myself: &Myself, attempts: &[AttemptId], failure: Failure) {
        let living = self.job.living();
        if !attempts.iter().any(|attempt| living.contains(attempt)) {
            return;
        }
        // Once the end may be recorded, regions cannot be told apart any more: all go back to that record.
        let scope = if self.coordinator.is_closing() { Scope::Job } else { Scope::Regions(attempts) };
        self.failed(myself, scope, failure).await;
    }

    /// Something failed that concerns all regions.
    pub(super) async fn fail_job(&mut self, myself: &Myself, failure: Failure) {
        self.failed(myself, Scope::Job, failure).await;
    }

    async fn failed(&mut self, myself: &Myself, scope: Scope<'_>, failure: Failure) {
        let jitter = self.draw();
        let now_ms = self.now_ms();
        self.refused = failure.kind == ErrorKind::FixInput;
        let mut commands = Vec::new();
        self.job.failed(scope, failure, jitter, now_ms, &mut commands);
        self.carry_out_job(myself, commands).await;
    }

    async fn cancel_subtasks(&mut self, myself: &Myself, attempt: AttemptId, more: &mut Vec<JobCommand>) {
        let now_ms = self.now_ms();
        self.deploy_wanted.retain(|_, wanted| *wanted != attempt);
        for member in self.members.values_mut().filter(|member| member.attempt == attempt && !member.gone) {
            if member.status != SubtaskStatus::Failed {
                member.status = SubtaskStatus::Canceling;
            }
        }
        self.canceling.insert(attempt, self.stop_all(attempt));
        let mut commands = Vec::new();
        self.coordinator.region_ended(attempt, now_ms, &mut commands);
        if !self.job.goes_on() {
            self.enumerators = Enumerators::default();
        }
        self.snapshot_wanted = None;
        Box::pin(self.carry_out(myself, commands)).await;
        self.canceled_when_all_stopped(more);
    }

    /// Has every node with subtasks of the attempt stop them; answers which these are.
    fn stop_all(&self, attempt: AttemptId) -> BTreeSet<NodeId> {
        let known = self.nodes.ids();
        let members = self.members.values().filter(|member| member.attempt == attempt);
        let nodes: BTreeSet<NodeId> = members.map(|member| member.node.clone()).collect();
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
        let gone = |id: AttemptId, at: &NodeId| id == attempt && at == node;
        self.members_gone(gone);
        if let Some(on) = self.canceling.get_mut(&attempt) {
            on.remove(node);
        }
        let mut commands = Vec::new();
        self.canceled_when_all_stopped(&mut commands);
        self.carry_out_job(myself, commands).await;
    }

    /// Subtasks that are gone, by attempt and node; answers the attempts that had any left there.
    fn members_gone(&mut self, gone: impl Fn(AttemptId, &NodeId) -> bool) -> BTreeSet<AttemptId> {
        let left = self.members.iter().filter(|(_, member)| !member.gone && gone(member.attempt, &member.node));
        let left: Vec<(SubtaskId, AttemptId)> = left.map(|(id, member)| (*id, member.attempt)).collect();
        left.iter().for_each(|(id, _)| self.member_gone(*id));
        left.into_iter().map(|(_, attempt)| attempt).collect()
    }

    /// A process of a node is lost, with every subtask that ran on it.
    pub(super) async fn node_lost(&mut self, myself: &Myself, process: &NodeProcess, reason: &str) {
        if !self.nodes.remove(process) {
            return;
        }
        let node = &process.node;
        let lost = self.members_gone(|_, at| at == node);
        // Whatever it still runs is of an old attempt from now on, and it will not say when that is gone.
        self.canceling.values_mut().for_each(|on| drop(on.take(node)));
        let mut commands = Vec::new();
        self.canceled_when_all_stopped(&mut commands);
        self.carry_out_job(myself, commands).await;
        if !lost.is_empty() {
            let message = format!("task manager {process} was lost: {reason}");
            let lost: Vec<AttemptId> = lost.into_iter().collect();
            self.fail(myself, &lost, Failure::of_job(ErrorKind::Retry, message)).await;
        }
        self.released(node);
    }

    fn canceled_when_all_stopped(&mut self, commands: &mut Vec<JobCommand>) {
        let now_ms = self.blueprint.world.clock.now_ms();
        for (attempt, _) in self.canceling.extract_if(.., |_, on| on.is_empty()) {
            self.job.subtasks_canceled(attempt, now_ms, commands);
        }
    }

    /// Deploys once no record of checkpoints before is in doubt and the ledger is at home.
    pub(super) fn deploy_when_settled(&mut self, myself: &Myself) {
        if self.deploy_wanted.is_empty() || self.coordinator.is_recording() {
            return;
        }
        if let Err(too_few) = self.nodes.suffice(&self.blueprint.graph) {
            tracing::warn!("waiting for task managers: {too_few}");
            self.waits_for_slots = true;
            return;
        }
        self.waits_for_slots = false;
        let Some(mut ledger) = self.ledger.take() else { return };
        let deployments = std::mem::take(&mut self.deploy_wanted);
        let whole = self.is_whole(&deployments);
        let first = std::mem::replace(&mut self.first_deployment, false);
        let search = Search {
            given: if first { self.restore.clone() } else { None },
            fallback: self.restore.clone(),
            consent: self.allow_fallback,
            whole,
            look: if first { Look::Whole } else { Look::Index },
        };
        if whole {
            // None runs that an enumerator could go on for, and all may go back further than it remembers.
            self.enumerators = Enumerators::default();
        }
        let wanted = self.wanted(&deployments);
        let newest = deployments.values().max().copied().unwrap_or_default();
        let older = OlderAttempts { before: newest, beside: Arc::new(self.job.living()) };
        let (graph, allow) = (Arc::clone(&self.blueprint.graph), self.allow_non_restored_state);
        let (world, myself) = (self.blueprint.world.clone(), myself.clone());
        world.blocking.clone().run(Box::new(move || {
            let planned = prepare(&mut ledger, newest, search).and_then(|prepared| match prepared {
                Prepared::GoesBack(problems) => Ok(Planned::GoesBack(problems)),
                Prepared::From(restored, messages) => {
                    let strays = strays(&ledger, older, restored.as_ref());
                    drop(myself.cast(JobMasterMessage::Clean(Box::new(strays))));
                    let mut plan = caught(|| plan(&graph, restored, &wanted, &world.blobs, allow))??;
                    plan.messages.extend(messages);
                    Ok(Planned::Plan(plan))
                }
            });
            drop(myself.cast(JobMasterMessage::RestorePlanned(deployments, Box::new(planned), ledger)));
        }));
    }

    /// What is to be restored for deployments.
    fn wanted(&self, deployments: &Deployments) -> Wanted {
        let subtasks = deployments.keys().flat_map(|region| self.regions.subtasks(*region));
        let subtasks: BTreeSet<SubtaskId> = subtasks.copied().collect();
        let lacking = subtasks.iter().map(|id| id.vertex).filter(|vertex| !self.enumerators.has(*vertex));
        Wanted { enumerators: lacking.collect(), subtasks }
    }

    /// Tells of another state of the scheduler.
    pub(super) fn tell_scheduler(&mut self) {
        let status = self.job.status();
        let may_deploy = matches!(status, JobStatus::Created | JobStatus::Restarting);
        let is_stop = |waiting: &Waiting| waiting.purpose == Purpose::StopWithSavepoint;
        let doing = Doing {
            waits_for_slots: self.waits_for_slots && !self.deploy_wanted.is_empty(),
            deploys: may_deploy && self.job.living().into_iter().any(|attempt| self.job.is_deploying(attempt)),
            stops: self.stopped_with.is_some() || self.requests.values().any(is_stop),
        };
        let state = SchedulerState::of(status, doing);
        if state != self.scheduler {
            tracing::info!(job = %self.blueprint.job, "the scheduler goes from {} to {state}", self.scheduler);
            self.scheduler = state;
        }
    }

    /// Whether these are all regions: none goes on beside them.
    fn is_whole(&self, deployments: &Deployments) -> bool {
        deployments.len() == self.regions.len()
    }

    pub(super) async fn restore_planned(
        &mut self,
        myself: &Myself,
        mut deployments: Deployments,
        planned: Result<Planned, PortError>,
    ) {
        // Cancelled meanwhile: nothing may be spawned any more.
        deployments.retain(|_, attempt| self.job.is_deploying(*attempt));
        if deployments.is_empty() {
            return;
        }
        match planned {
            Ok(Planned::Plan(plan)) => self.deploy(myself, deployments, plan).await,
            Ok(Planned::GoesBack(problems)) => {
                tracing::warn!("all regions go back to an older checkpoint: {}", problems.join("; "));
                let mut commands = Vec::new();
                self.job.goes_back(self.now_ms(), &mut commands);
                self.carry_out_job(myself, commands).await;
            }
            Err(PortError { kind, message }) => {
                tracing::error!("the job could not be restored: {message}");
                let attempts: Vec<AttemptId> = deployments.into_values().collect();
                self.fail(myself, &attempts, Failure::of_job(kind, message)).await;
            }
        }
    }

    async fn deploy(&mut self, myself: &Myself, deployments: Deployments, mut plan: RestorePlan) {
        plan.messages.iter().for_each(|message| tracing::warn!("{message}"));
        // Of those that do not run each goes where it was, if it can.
        let places = match self.nodes.place(&self.blueprint.graph, &self.running()) {
            Ok(places) => places,
            Err(_lost_meanwhile) => {
                self.deploy_wanted.extend(deployments);
                self.deploy_when_settled(myself);
                return;
            }
        };
        self.members.retain(|id, _| self.regions.of_subtask(*id).is_some());
        let restored = self.tell_restored(&plan);
        let living = self.job.living();
        // Task managers take deployments in order of their numbers, and refuse what comes late.
        let in_order: BTreeMap<AttemptId, RegionId> = deployments.iter().map(|(region, of)| (*of, *region)).collect();
        for (attempt, region) in &in_order {
            let subtasks = self.regions.subtasks(*region).iter();
            let places: BTreeMap<SubtaskId, NodeProcess> =
                subtasks.filter_map(|id| Some((*id, places.get(id)?.clone()))).collect();
            let beside = living.iter().copied().filter(|other| other != attempt).collect();
            let before = self.job.deployments_before(*region);
            for (node, deploy) in self.blueprint.deploys(*attempt, (&beside, before), &places, &mut plan) {
                self.nodes.send(&node, ToTaskManager::Deploy(Box::new(deploy)));
            }
            self.members.extend(members(*attempt, before, places, self.now_ms()));
        }
        // The graph may have changed meanwhile: of what was planned for it, only regions are left that are in both.
        let deployed = self.wanted(&deployments).enumerators;
        plan.enumerators.retain(|made| deployed.contains(&made.vertex));
        self.take_enumerators(myself, plan.enumerators);
        deployments.keys().for_each(|region| self.assign_again(*region, restored));
    }

    /// Where subtasks run that are wanted.
    fn running(&self) -> Places {
        let wanted = self.members.iter().filter(|(_, member)| self.job.is_wanted(member.attempt));
        wanted.map(|(id, member)| (*id, member.node.clone())).collect()
    }

    /// Tells what is restored; answers the checkpoint, 0 for what is older than this job's own.
    fn tell_restored(&mut self, plan: &RestorePlan) -> CheckpointId {
        let Some(Restored { manifest, path, is_savepoint }) = &plan.restored else { return CheckpointId::default() };
        let kind = if *is_savepoint { "savepoint" } else { "checkpoint" };
        tracing::info!("restoring from {kind} {} ({path})", manifest.checkpoint);
        self.coordinator.restored(RestoredStatistics {
            id: manifest.checkpoint,
            purpose: manifest.purpose,
            restore_timestamp_ms: self.now_ms(),
            external_path: path.clone(),
        });
        if *is_savepoint { CheckpointId::default() } else { manifest.checkpoint }
    }

    /// All subtasks of a deployment run.
    pub(super) async fn all_running(&mut self, myself: &Myself, attempt: AttemptId) {
        let now_ms = self.now_ms();
        self.job.deployed(attempt, now_ms);
        if self.job.status() == JobStatus::Running {
            self.metrics.metrics().set_availability(Availability::Up(now_ms));
        }
        let members = self.members.iter().filter(|(_, member)| member.attempt == attempt);
        let subtasks: Vec<SubtaskId> = members.clone().map(|(id, _)| *id).collect();
        // A short input may have ended before the last subtask was running.
        let ended: Vec<SubtaskId> = members.filter(|(_, member)| member.ended).map(|(id, _)| *id).collect();
        let Some(region) = subtasks.first().and_then(|id| self.regions.of_subtask(*id)) else { return };
        let floor =
            CheckpointId(self.ledger.as_ref().map_or(0, |ledger| ledger.log.state().last_checkpoint.0 + 1).max(1));
        let mut commands = Vec::new();
        let region = RegionDeployment { region, attempt, subtasks };
        if let Err(error) = self.coordinator.start_region(region, floor, now_ms, &mut commands) {
            self.fail(myself, &[attempt], Failure::of_job(ErrorKind::Retry, error.to_string())).await;
            return;
        }
        for id in ended {
            self.coordinator.end_of_data(attempt, id, now_ms, &mut commands);
        }
        self.carry_out(myself, commands).await;
    }

    /// All subtasks of a deployment have finished.
    pub(super) async fn all_finished(&mut self, myself: &Myself, attempt: AttemptId) {
        self.stop_all(attempt);
        let now_ms = self.now_ms();
        let mut commands: Vec<Command> = Vec::new();
        self.coordinator.region_ended(attempt, now_ms, &mut commands);
        self.carry_out(myself, commands).await;
        let mut commands = Vec::new();
        self.job.all_finished(attempt, self.now_ms(), &mut commands);
        self.carry_out_job(myself, commands).await;
    }
}
