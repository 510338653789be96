//! The channels of an attempt: which there are into a vertex, and the sending ends of a subtask's outputs.

use std::collections::BTreeMap;

use millstream_runtime::credit::{CreditLimit, CreditPool};
use millstream_runtime::exchange::Outlet;
use millstream_runtime::graph::build::VertexOutput;
use millstream_runtime::graph::{JobEdge, JobGraph};
use millstream_runtime::ids::{ChannelIndex, SubtaskId, SubtaskIndex};
use millstream_runtime::ports::Waker;
use ractor::ActorRef;

use super::hosted::Task;
use crate::subtask::SubtaskMessage;

/// The channels into a vertex, in order: for each edge, one per sending subtask. Answers the position of the edge and
/// the input of the receiver.
#[must_use]
pub fn channels(graph: &JobGraph, vertex: usize) -> Vec<(usize, u8)> {
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

/// What the channels of one attempt are made of.
pub struct Wiring<'a> {
    /// The graph.
    pub graph: &'a JobGraph,
    /// The subtasks of the attempt that run here.
    pub tasks: &'a BTreeMap<SubtaskId, Task>,
    /// Credit of a channel.
    pub credit: CreditLimit,
}

impl Wiring<'_> {
    /// The outputs of a subtask: one channel per receiving subtask, or to the one of the same index.
    #[must_use]
    pub fn outputs(&self, vertex: usize, sender: SubtaskId) -> Vec<VertexOutput> {
        let actor = &self.tasks[&sender].actor;
        self.graph
            .outputs(vertex)
            .map(|edge| {
                let receiver = &self.graph.vertices[edge.target];
                let index = sender.index.0;
                let channel = channel_of(self.graph, edge, index);
                let targets = if edge.is_pointwise() { index..index + 1 } else { 0..receiver.parallelism };
                let outlets = targets
                    .map(|target| {
                        let id = SubtaskId { vertex: receiver.id, index: SubtaskIndex(target) };
                        self.local(actor, &self.tasks[&id].actor, channel)
                    })
                    .collect();
                VertexOutput { edge: edge.clone(), receiver: (receiver.parallelism, receiver.max_parallelism), outlets }
            })
            .collect()
    }

    /// To a subtask of this node: batches move from mailbox to mailbox.
    fn local(
        &self,
        sender: &ActorRef<SubtaskMessage>,
        receiver: &ActorRef<SubtaskMessage>,
        channel: ChannelIndex,
    ) -> Outlet {
        let receiver = receiver.clone();
        Outlet {
            credit: CreditPool::new(self.credit, wake(sender)),
            // A receiver that is gone is a failed attempt: the job master knows.
            send: Box::new(move |element| drop(receiver.cast(SubtaskMessage::Element(channel, element)))),
        }
    }
}

/// Wakes a subtask that waits for credit.
fn wake(sender: &ActorRef<SubtaskMessage>) -> Waker {
    let sender = sender.clone();
    Waker::new(move || drop(sender.cast(SubtaskMessage::Wake)))
}
