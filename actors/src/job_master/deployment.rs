//! Deployments as the job master sees them: where subtasks are, and the way to the nodes that run them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_runtime::graph::{FailoverStrategy, JobGraph, Regions};
use millstream_runtime::ids::{AttemptId, JobId, NodeId, NodeProcess, RegionId, SubtaskId};
use millstream_runtime::job::placement::{LoadBalance, Places, SlotOffer, TooFewSlots, place};
use millstream_runtime::time::Timestamp;
use millstream_state::log::JobRecord;
use ractor::ActorRef;

use super::message::JobMasterMessage;
use super::report::SubtaskStatus;
use super::restore::RestorePlan;
use crate::metrics::subtask::SubtaskReading;
use crate::protocol::deploy::ChannelOptions;
use crate::protocol::{Answers, Deploy, TaskDeployment, TaskManagerGateway, ToTaskManager};
use crate::world::World;

/// Deployments of regions, each an attempt of its own.
pub type Deployments = BTreeMap<RegionId, AttemptId>;

/// A subtask of the newest deployment of its region.
pub struct Member {
    /// The deployment.
    pub attempt: AttemptId,
    /// How often it was deployed before.
    pub deployments_before: u32,
    /// Where it runs.
    pub node: NodeId,
    /// Where it is in its life.
    pub status: SubtaskStatus,
    /// Since when.
    pub since_ms: Timestamp,
    /// When it was deployed.
    pub started_ms: Timestamp,
    /// All of its inputs have ended.
    pub ended: bool,
    /// The actor has stopped.
    pub gone: bool,
    /// What it measured last.
    pub reading: Option<SubtaskReading>,
}

/// What all subtasks of a job are made with.
pub struct Blueprint {
    /// The job.
    pub job: JobId,
    /// The graph.
    pub graph: Arc<JobGraph>,
    /// Of what nodes record the graph.
    pub record: JobRecord,
    /// How subtasks exchange rows.
    pub channels: ChannelOptions,
    /// Completed checkpoints folded into nodes' local stores together; `None` keeps none.
    pub fold_lag: Option<u32>,
    /// Which subtasks restart together.
    pub failover: FailoverStrategy,
    /// The world.
    pub world: World,
}

impl Blueprint {
    /// The regions of the graph, if it is the first.
    #[must_use]
    pub fn regions(&self) -> Regions {
        Regions::of(&self.graph, self.failover)
    }

    /// What each node is to run of an attempt, taken out of the plan; with the attempts beside it, and how often its region
    /// was deployed before.
    pub fn deploys(
        &self,
        attempt: AttemptId,
        (beside, deployments_before): (&BTreeSet<AttemptId>, u32),
        places: &BTreeMap<SubtaskId, NodeProcess>,
        plan: &mut RestorePlan,
    ) -> BTreeMap<NodeId, Deploy> {
        let fingerprint = self.graph.fingerprint();
        let restored = plan.restored.as_ref().map(|restored| restored.manifest.checkpoint).unwrap_or_default();
        let mut deploys: BTreeMap<NodeId, Deploy> = BTreeMap::new();
        for (id, process) in places {
            let deploy = deploys.entry(process.node.clone()).or_insert_with(|| Deploy {
                attempt,
                beside: beside.clone(),
                deployments_before,
                record: self.record.clone(),
                fingerprint,
                tasks: Vec::new(),
                places: places.clone(),
                restored,
                channels: self.channels,
                fold_lag: self.fold_lag,
            });
            deploy.tasks.push(TaskDeployment { id: *id, restore: plan.subtasks.remove(id).unwrap_or_default() });
        }
        deploys
    }
}

/// The members of an attempt that is being deployed.
#[must_use]
pub fn members(
    attempt: AttemptId,
    deployments_before: u32,
    places: BTreeMap<SubtaskId, NodeProcess>,
    now_ms: Timestamp,
) -> BTreeMap<SubtaskId, Member> {
    let member = |(id, NodeProcess { node, .. }): (SubtaskId, NodeProcess)| {
        let member = Member {
            attempt,
            deployments_before,
            node,
            status: SubtaskStatus::Initializing,
            since_ms: now_ms,
            started_ms: now_ms,
            ended: false,
            gone: false,
            reading: None,
        };
        (id, member)
    };
    places.into_iter().map(member).collect()
}

/// A task manager that may run subtasks of the job.
#[derive(Clone)]
pub struct OfferedNode {
    /// The node, and which of its processes.
    pub process: NodeProcess,
    /// Slots that the job may take.
    pub slots: u32,
    /// The way to it.
    pub gateway: Arc<dyn TaskManagerGateway>,
}

/// The task managers that a job may use.
pub struct Nodes {
    job: JobId,
    nodes: BTreeMap<NodeId, (OfferedNode, Answers)>,
    balance: LoadBalance,
    /// Where the subtasks of the deployment before ran.
    before: Places,
}

impl Nodes {
    /// None yet.
    #[must_use]
    pub fn new(job: JobId, balance: LoadBalance) -> Self {
        Self { job, nodes: BTreeMap::new(), balance, before: Places::new() }
    }

    /// A node may be used from now on; what it tells goes to the job master.
    pub fn add(&mut self, node: OfferedNode, master: &ActorRef<JobMasterMessage>) {
        let (master, id) = (master.clone(), node.process.node.clone());
        let from = id.clone();
        let answers = Answers::new(move |told| {
            drop(master.cast(JobMasterMessage::FromTaskManager(from.clone(), told)));
        });
        self.nodes.insert(id, (node, answers));
    }

    /// Places the subtasks of a graph on them, and remembers it for the deployment after this one. Those that run stay where
    /// they do.
    ///
    /// # Errors
    /// When they have too few slots.
    pub fn place(
        &mut self,
        graph: &JobGraph,
        running: &Places,
    ) -> Result<BTreeMap<SubtaskId, NodeProcess>, TooFewSlots> {
        let mut places = self.placed(graph)?;
        for (id, place) in &mut places {
            if let Some(node) = running.get(id) {
                place.clone_from(node);
            }
        }
        self.before = places;
        let process = |(id, node): (&SubtaskId, &NodeId)| Some((*id, self.nodes.get(node)?.0.process.clone()));
        Ok(self.before.iter().filter_map(process).collect())
    }

    /// Where the subtasks of a graph would be placed.
    ///
    /// # Errors
    /// When they have too few slots.
    pub fn placed(&self, graph: &JobGraph) -> Result<Places, TooFewSlots> {
        let offer = |(node, (offered, _)): (&NodeId, &(OfferedNode, Answers))| SlotOffer {
            node: node.clone(),
            slots: offered.slots,
        };
        let offers: Vec<SlotOffer> = self.nodes.iter().map(offer).collect();
        place(graph, &offers, &self.before, self.balance)
    }

    /// A process is lost; false when another one of its node is known already, or none.
    pub fn remove(&mut self, process: &NodeProcess) -> bool {
        let known = self.nodes.get(&process.node).is_some_and(|(node, _)| node.process == *process);
        known && self.nodes.remove(&process.node).is_some()
    }

    /// Whether they have slots for a graph.
    ///
    /// # Errors
    /// How many are missing.
    pub fn suffice(&self, graph: &JobGraph) -> Result<(), TooFewSlots> {
        self.placed(graph).map(drop)
    }

    /// All of them.
    #[must_use]
    pub fn ids(&self) -> BTreeSet<NodeId> {
        self.nodes.keys().cloned().collect()
    }

    /// Sends a message; one to a node that is gone is lost, and its loss is told elsewhere.
    pub fn send(&self, node: &NodeId, message: ToTaskManager) {
        if let Some((node, answers)) = self.nodes.get(node) {
            node.gateway.send(self.job, message, answers);
        }
    }
}
