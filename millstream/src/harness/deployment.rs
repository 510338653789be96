//! Makes the subtasks of a job and the channels between them.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_runtime::chain::ChainContext;
use millstream_runtime::chain::context::TaskInfo;
use millstream_runtime::credit::CreditPool;
use millstream_runtime::exchange::Outlet;
use millstream_runtime::graph::build::VertexOutput;
use millstream_runtime::graph::{JobEdge, JobGraph};
use millstream_runtime::ids::{AttemptNumber, ChannelIndex, JobId, SubtaskIndex};
use millstream_runtime::key_group::key_group_range;
use millstream_runtime::ports::{PortError, Waker};
use millstream_runtime::state::memory::StateMemory;

use super::snapshot::Snapshot;
use super::task::{Inbox, Task};
use super::world::{World, lock};
use super::{HarnessOptions, attempt};

/// Where a subtask is.
type Place = (usize, u32);

struct Wiring<'a> {
    job: &'a JobGraph,
    options: &'a HarnessOptions,
    memory: &'a Arc<StateMemory>,
    inboxes: BTreeMap<Place, Inbox>,
}

pub(super) fn tasks(
    job: &JobGraph,
    options: &HarnessOptions,
    (world, memory): (&Arc<World>, &Arc<StateMemory>),
    restored: Option<&Snapshot>,
) -> Result<Vec<Task>, PortError> {
    let places: Vec<Place> = (0..job.vertices.len())
        .flat_map(|vertex| (0..job.vertices[vertex].parallelism).map(move |subtask| (vertex, subtask)))
        .collect();
    let inboxes = places.iter().map(|place| (*place, Inbox::default())).collect();
    let wiring = Wiring { job, options, memory, inboxes };
    places.iter().map(|place| wiring.task(*place, world, restored)).collect()
}

impl Wiring<'_> {
    fn task(&self, place: Place, world: &Arc<World>, restored: Option<&Snapshot>) -> Result<Task, PortError> {
        let (vertex, subtask) = place;
        let parallelism = self.job.vertices[vertex].parallelism;
        let cx = ChainContext::new(self.task_info(place, world, restored));
        let outputs = self.job.outputs(vertex).map(|edge| self.output(edge, subtask)).collect();
        let groups = cx.task.key_groups.clone();
        let operator = |uid: &_| {
            restored.map(|snapshot| snapshot.restored(uid, subtask, parallelism, &groups)).unwrap_or_default()
        };
        let chain = self.job.vertices[vertex].plan.build(outputs, &operator, &cx)?;
        let inputs = self.job.inputs(vertex).flat_map(|edge| vec![edge.input; self.senders(edge)]).collect();
        Task::new(vertex, chain, cx, Arc::clone(&self.inboxes[&place]), inputs)
    }

    fn task_info(&self, (vertex, subtask): Place, world: &Arc<World>, restored: Option<&Snapshot>) -> TaskInfo {
        let vertex = &self.job.vertices[vertex];
        let subtask = SubtaskIndex(subtask);
        let key_groups = key_group_range(vertex.max_parallelism, vertex.parallelism, subtask);
        // All operators of a chain saw the same watermark, and a keyed one is always its head.
        let floor = restored.map(|snapshot| snapshot.floor(&vertex.operators[0], &key_groups));
        let attempts = restored.map_or(0, |snapshot| snapshot.attempt.0 + 1);
        TaskInfo {
            job: JobId::from_name(&self.job.name),
            task_name: vertex.name.clone(),
            attempt: attempt(AttemptNumber(attempts)),
            beside: Arc::default(),
            is_first: subtask.0 == 0,
            subtask,
            parallelism: vertex.parallelism,
            max_parallelism: vertex.max_parallelism,
            key_groups,
            watermark_floor: floor.unwrap_or_default(),
            batch_rows: self.options.batch_rows,
            batch_bytes: self.options.batch_bytes,
            memory: Arc::clone(self.memory),
            blocking: Arc::clone(world) as _,
            clock: Arc::clone(world) as _,
            // Every subtask is stepped in every round: nobody needs to be woken.
            waker: Waker::new(|| {}),
            wake_after: Arc::new(|_| {}),
        }
    }

    /// Channels of an edge into each of its receivers.
    fn senders(&self, edge: &JobEdge) -> usize {
        if edge.is_pointwise() { 1 } else { self.job.vertices[edge.source].parallelism as usize }
    }

    fn output(&self, edge: &JobEdge, subtask: u32) -> VertexOutput {
        let receiver = &self.job.vertices[edge.target];
        let targets = if edge.is_pointwise() { subtask..subtask + 1 } else { 0..receiver.parallelism };
        let before = self.job.inputs(edge.target).take_while(|other| *other != edge);
        let first: usize = before.map(|other| self.senders(other)).sum();
        let channel = first + if edge.is_pointwise() { 0 } else { subtask as usize };
        let channel = ChannelIndex(u32::try_from(channel).expect("tests have few channels"));
        let outlet = |target| {
            let inbox = Arc::clone(&self.inboxes[&(edge.target, target)]);
            Outlet {
                credit: CreditPool::new(self.options.credit, Waker::new(|| {})),
                send: Box::new(move |element| lock(&inbox).push_back((channel, element))),
            }
        };
        let outlets = targets.map(outlet).collect();
        VertexOutput { edge: edge.clone(), receiver: (receiver.parallelism, receiver.max_parallelism), outlets }
    }
}
