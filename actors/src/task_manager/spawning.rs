//! The subtasks of an attempt come to life on a node: all are spawned first, then wired, since nobody may send to a mailbox
//! that is not there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_runtime::batch::BatchLimit;
use millstream_runtime::chain::context::TaskInfo;
use millstream_runtime::graph::{JobGraph, JobVertex};
use millstream_runtime::ids::{AttemptId, JobId, NodeProcess, SubtaskId};
use millstream_runtime::key_group::key_group_range;
use millstream_runtime::ports::transport::Transport;
use millstream_runtime::ports::{PortError, Waker};
use millstream_runtime::state::memory::StateMemory;
use ractor::{Actor, ActorRef};

use super::hosted::{Attempt, Task};
use super::message::TaskManagerMessage;
use super::opening::{Opened, OpenedTask};
use super::wiring::{Wiring, channel_places};
use crate::metrics::{JobScope, Registered, TaskScope};
use crate::protocol::{Answers, ChannelOptions};
use crate::subtask::{Announced, Deployment, SubtaskActor, SubtaskArguments, SubtaskMessage};
use crate::world::{Stopwatch, World};

/// The deployment of a region, as its subtasks are spawned.
struct Region<'a> {
    /// What keyed state may take.
    memory: Arc<StateMemory>,
    attempt: AttemptId,
    graph: &'a JobGraph,
    /// Where all of its subtasks run.
    places: &'a BTreeMap<SubtaskId, NodeProcess>,
    channels: ChannelOptions,
    beside: Arc<BTreeSet<AttemptId>>,
    deployments_before: u32,
}

/// Where the subtasks of one job are spawned.
pub struct Place<'a> {
    /// The world.
    pub world: &'a World,
    /// The clock of all counters.
    pub stopwatch: Stopwatch,
    /// To other nodes.
    pub transport: &'a dyn Transport,
    /// The job.
    pub job: JobId,
    /// Whom subtasks tell.
    pub answers: &'a Answers,
    /// The task manager, which watches over them.
    pub manager: &'a ActorRef<TaskManagerMessage>,
}

impl Place<'_> {
    /// Spawns all subtasks of an attempt and wires their channels.
    ///
    /// # Errors
    /// When one cannot be started.
    pub async fn run(&self, attempt: &mut Attempt, opened: Opened) -> Result<(), PortError> {
        let Opened { graph, places, channels, beside, deployments_before, local, tasks } = opened;
        // What no local store has cannot leave memory.
        let memory = local.as_ref().map_or_else(|| StateMemory::new(None), |_| Arc::clone(&self.world.memory));
        let region = Region {
            memory,
            attempt: attempt.id,
            graph: &graph,
            places: &places,
            channels,
            beside,
            deployments_before,
        };
        let vertices: Vec<_> = tasks.iter().map(|(id, task)| (*id, task.vertex)).collect();
        for (id, vertex) in vertices {
            let task = self.spawn(&region, vertex, id).await?;
            attempt.tasks.insert(id, task);
        }
        let wiring = Wiring {
            job: self.job,
            attempt: attempt.id,
            graph: &graph,
            tasks: &attempt.tasks,
            places: &places,
            credit: channels.credit,
            transport: self.transport,
            manager: self.manager,
        };
        let mut inlets = BTreeMap::new();
        for (id, OpenedTask { vertex, restored, watermark_floor, segments, in_flight }) in tasks {
            inlets.insert(id, wiring.inlets(vertex, id));
            let outputs = wiring.outputs(vertex, id);
            let local = local.clone();
            let deployment = Deployment { outputs, restored, watermark_floor, segments, in_flight, local };
            drop(attempt.tasks[&id].actor.cast(SubtaskMessage::Deploy(Box::new(deployment))));
        }
        for (id, inlets) in inlets {
            attempt.tasks.get_mut(&id).expect("spawned above").inlets = inlets;
        }
        attempt.running();
        Ok(())
    }

    async fn spawn(&self, region: &Region<'_>, index: usize, id: SubtaskId) -> Result<Task, PortError> {
        let graph = region.graph;
        let vertex = &graph.vertices[index];
        let scope = TaskScope {
            job: JobScope { job: self.job, name: graph.name.clone() },
            subtask: id,
            task_name: vertex.name.clone(),
            attempt: region.deployments_before,
        };
        let metrics = self.world.registry.task(&scope, self.stopwatch.elapsed_ns());
        let is_source = vertex.enumerator.is_some();
        // The source is the first of the operators whose names make the name of the vertex.
        let source_name = vertex.name.split(" -> ").next().unwrap_or(&vertex.name);
        let source = || self.world.registry.source(&scope, source_name, self.world.clock.now_ms());
        let source_metrics = is_source.then(source);
        let announced = Announced::default();
        let arguments = SubtaskArguments {
            id,
            task: self.task(region, vertex, id),
            plan: Arc::clone(&vertex.plan),
            channels: channel_places(graph, index, id.index),
            announced: announced.clone(),
            master: self.answers.clone(),
            metrics: metrics.metrics(),
            source_metrics: source_metrics.as_ref().map(Registered::metrics),
            world: self.world.clone(),
            stopwatch: self.stopwatch,
        };
        let (actor, _joined) = Actor::spawn_linked(None, SubtaskActor, arguments, self.manager.get_cell())
            .await
            .map_err(|error| PortError::retry(format!("the subtasks could not be started: {error}")))?;
        Ok(Task { actor, announced, metrics, source_metrics, is_source, inlets: Vec::new() })
    }

    fn task(&self, region: &Region<'_>, vertex: &JobVertex, id: SubtaskId) -> TaskInfo {
        let BatchLimit { rows: batch_rows, bytes: batch_bytes } = region.channels.batch;
        let first = region.places.keys().find(|other| other.vertex == id.vertex);
        TaskInfo {
            job: self.job,
            task_name: vertex.name.clone(),
            attempt: region.attempt,
            beside: Arc::clone(&region.beside),
            is_first: first == Some(&id),
            subtask: id.index,
            parallelism: vertex.parallelism,
            max_parallelism: vertex.max_parallelism,
            key_groups: key_group_range(vertex.max_parallelism, vertex.parallelism, id.index),
            watermark_floor: Vec::new(),
            batch_rows,
            batch_bytes,
            memory: Arc::clone(&region.memory),
            blocking: Arc::clone(&self.world.blocking),
            clock: Arc::clone(&self.world.clock),
            waker: Waker::new(|| {}),
            wake_after: Arc::new(|_| {}),
        }
    }
}
