//! Spawns the subtasks of an attempt and wires their channels.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_runtime::chain::context::TaskInfo;
use millstream_runtime::credit::{CreditLimit, CreditPool};
use millstream_runtime::exchange::Outlet;
use millstream_runtime::graph::build::VertexOutput;
use millstream_runtime::graph::{JobEdge, JobGraph};
use millstream_runtime::ids::{AttemptId, ChannelIndex, JobId, SubtaskId, SubtaskIndex};
use millstream_runtime::key_group::key_group_range;
use millstream_runtime::ports::Waker;
use ractor::{Actor, ActorRef, SpawnErr};

use super::message::JobMasterMessage;
use super::report::SubtaskStatus;
use crate::metrics::{JobScope, Registered, SubtaskMetrics, TaskScope};
use crate::subtask::{SubtaskActor, SubtaskArguments, SubtaskMessage};
use crate::world::{Stopwatch, World};
use millstream_runtime::time::Timestamp;

/// A subtask of the current attempt.
pub struct Member {
    /// Its mailbox.
    pub actor: ActorRef<SubtaskMessage>,
    /// Where it is in its life.
    pub status: SubtaskStatus,
    /// Since when.
    pub since_ms: Timestamp,
    /// When it was spawned.
    pub started_ms: Timestamp,
    /// Index of its vertex.
    pub vertex: usize,
    /// All of its inputs have ended.
    pub ended: bool,
    /// The actor has stopped.
    pub gone: bool,
    /// Its counters live as long as this.
    pub metrics: Registered<SubtaskMetrics>,
}

/// What all subtasks of a job are made with.
pub struct Blueprint {
    /// The job.
    pub job: JobId,
    /// The graph.
    pub graph: Arc<JobGraph>,
    /// Credit of a channel.
    pub credit: CreditLimit,
    /// Rows in a full batch.
    pub batch_rows: usize,
    /// Bytes in a full batch.
    pub batch_bytes: usize,
    /// The world.
    pub world: World,
    /// The clock of all counters.
    pub stopwatch: Stopwatch,
}

/// The channels into a vertex, in order: for each edge, one per sending subtask.
fn channels(graph: &JobGraph, vertex: usize) -> Vec<(usize, u8)> {
    let mut channels = Vec::new();
    for (position, edge) in graph.edges.iter().enumerate().filter(|(_, edge)| edge.target == vertex) {
        let count = if edge.is_pointwise() { 1 } else { graph.vertices[edge.source].parallelism };
        channels.extend((0..count).map(|_| (position, edge.input)));
    }
    channels
}

/// The channel of an edge as its receiver counts: the first of the edge, plus the sender unless it is pointwise.
fn channel_of(graph: &JobGraph, edge: &JobEdge, sender: u32) -> ChannelIndex {
    let position = graph.edges.iter().position(|known| known == edge).expect("an edge of this graph");
    let first = channels(graph, edge.target).iter().position(|(of, _)| *of == position).expect("it has a channel");
    let offset = if edge.is_pointwise() { 0 } else { sender };
    ChannelIndex(u32::try_from(first).expect("channels are counted in u32") + offset)
}

impl Blueprint {
    /// Spawns all subtasks of an attempt, linked to the job master.
    ///
    /// # Errors
    /// When an actor cannot be started.
    pub async fn spawn(
        &self,
        attempt: AttemptId,
        master: &ActorRef<JobMasterMessage>,
    ) -> Result<BTreeMap<SubtaskId, Member>, SpawnErr> {
        let mut members = BTreeMap::new();
        for (index, vertex) in self.graph.vertices.iter().enumerate() {
            for subtask in 0..vertex.parallelism {
                let id = SubtaskId { vertex: vertex.id, index: SubtaskIndex(subtask) };
                let scope = TaskScope {
                    job: JobScope { job: self.job, name: self.graph.name.clone() },
                    subtask: id,
                    task_name: vertex.name.clone(),
                    attempt: attempt.attempt.0,
                };
                let metrics = self.world.registry.task(&scope, self.stopwatch.elapsed_ns());
                let arguments = SubtaskArguments {
                    id,
                    task: self.task(attempt, index, subtask),
                    plan: Arc::clone(&vertex.plan),
                    inputs: channels(&self.graph, index).into_iter().map(|(_, input)| input).collect(),
                    master: master.clone(),
                    metrics: metrics.metrics(),
                    world: self.world.clone(),
                    stopwatch: self.stopwatch,
                };
                let (actor, _joined) = Actor::spawn_linked(None, SubtaskActor, arguments, master.get_cell()).await?;
                let now_ms = self.world.clock.now_ms();
                members.insert(
                    id,
                    Member {
                        actor,
                        status: SubtaskStatus::Initializing,
                        since_ms: now_ms,
                        started_ms: now_ms,
                        vertex: index,
                        ended: false,
                        gone: false,
                        metrics,
                    },
                );
            }
        }
        Ok(members)
    }

    fn task(&self, attempt: AttemptId, vertex: usize, subtask: u32) -> TaskInfo {
        let vertex = &self.graph.vertices[vertex];
        TaskInfo {
            job: self.job,
            task_name: vertex.name.clone(),
            attempt,
            subtask: SubtaskIndex(subtask),
            parallelism: vertex.parallelism,
            max_parallelism: vertex.max_parallelism,
            key_groups: key_group_range(vertex.max_parallelism, vertex.parallelism, SubtaskIndex(subtask)),
            watermark_floor: Vec::new(),
            batch_rows: self.batch_rows,
            batch_bytes: self.batch_bytes,
            blocking: Arc::clone(&self.world.blocking),
            clock: Arc::clone(&self.world.clock),
            waker: Waker::new(|| {}),
            wake_after: Arc::new(|_| {}),
        }
    }

    /// The outputs of a subtask: one channel per receiving subtask, or to the one of the same index.
    #[must_use]
    pub fn outputs(&self, vertex: usize, subtask: u32, members: &BTreeMap<SubtaskId, Member>) -> Vec<VertexOutput> {
        let graph = &self.graph;
        let sender = &members[&SubtaskId { vertex: graph.vertices[vertex].id, index: SubtaskIndex(subtask) }].actor;
        graph
            .outputs(vertex)
            .map(|edge| {
                let receiver = &graph.vertices[edge.target];
                let channel = channel_of(graph, edge, subtask);
                let targets = if edge.is_pointwise() { subtask..subtask + 1 } else { 0..receiver.parallelism };
                let outlets = targets
                    .map(|target| {
                        let id = SubtaskId { vertex: receiver.id, index: SubtaskIndex(target) };
                        self.outlet(sender, &members[&id].actor, channel)
                    })
                    .collect();
                VertexOutput { edge: edge.clone(), receiver: (receiver.parallelism, receiver.max_parallelism), outlets }
            })
            .collect()
    }

    fn outlet(
        &self,
        sender: &ActorRef<SubtaskMessage>,
        receiver: &ActorRef<SubtaskMessage>,
        channel: ChannelIndex,
    ) -> Outlet {
        let (sender, receiver) = (sender.clone(), receiver.clone());
        let waker = Waker::new(move || drop(sender.cast(SubtaskMessage::Wake)));
        Outlet {
            credit: CreditPool::new(self.credit, waker),
            // A receiver that is gone is a failed attempt: the job master knows.
            send: Box::new(move |element| drop(receiver.cast(SubtaskMessage::Element(channel, element)))),
        }
    }
}
