//! The channels of an attempt: which there are into a vertex, and both ends of those that begin or end at this node. Within
//! the node a batch moves from mailbox to mailbox; to another node it goes through the transport.

use std::collections::BTreeMap;

use millstream_runtime::credit::{CreditLimit, CreditPool};
use millstream_runtime::exchange::{Outlet, SendElement};
use millstream_runtime::graph::build::VertexOutput;
use millstream_runtime::graph::{JobEdge, JobGraph};
use millstream_runtime::ids::{AttemptId, ChannelIndex, JobId, NodeProcess, SubtaskId, SubtaskIndex};
use millstream_runtime::ports::Waker;
use millstream_runtime::ports::transport::{
    ChannelFailed, ChannelId, Registration, RemoteInlet, RemoteOutlet, Transport,
};
use ractor::ActorRef;

use super::hosted::Task;
use super::message::TaskManagerMessage;
use crate::in_flight::{ChannelPlace, may_be_overtaken};
use crate::subtask::SubtaskMessage;

/// A channel into a subtask, as its vertex knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputChannel {
    /// Position of its edge in the graph.
    pub edge: usize,
    /// The sending subtask; for a pointwise edge, that of the receiver's own index.
    pub sender: Option<u32>,
}

/// The channels into a vertex, in order: for each edge, one per sending subtask.
#[must_use]
pub fn channels(graph: &JobGraph, vertex: usize) -> Vec<InputChannel> {
    let mut channels = Vec::new();
    for (position, edge) in graph.edges.iter().enumerate().filter(|(_, edge)| edge.target == vertex) {
        if edge.is_pointwise() {
            channels.push(InputChannel { edge: position, sender: None });
        } else {
            let senders = 0..graph.vertices[edge.source].parallelism;
            channels.extend(senders.map(|sender| InputChannel { edge: position, sender: Some(sender) }));
        }
    }
    channels
}

/// The channels into a subtask as it knows them.
#[must_use]
pub fn channel_places(graph: &JobGraph, vertex: usize, subtask: SubtaskIndex) -> Vec<ChannelPlace> {
    let place = |channel: InputChannel| {
        let edge = &graph.edges[channel.edge];
        ChannelPlace {
            input: edge.input,
            may_be_overtaken: may_be_overtaken(edge),
            edge: edge.name.as_str().into(),
            sender: channel.sender.unwrap_or(subtask.0),
        }
    };
    channels(graph, vertex).into_iter().map(place).collect()
}

/// The channel of an edge as its receiver counts: the first of the edge, plus the sender unless it is pointwise.
fn channel_of(graph: &JobGraph, edge: &JobEdge, sender: u32) -> ChannelIndex {
    let position = graph.edges.iter().position(|known| known == edge).expect("an edge of this graph");
    let channels = channels(graph, edge.target);
    let first = channels.iter().position(|channel| channel.edge == position).expect("it has a channel");
    let offset = if edge.is_pointwise() { 0 } else { sender };
    ChannelIndex(u32::try_from(first).expect("channels are counted in u32") + offset)
}

/// What the channels of one attempt are made of.
pub struct Wiring<'a> {
    /// The job.
    pub job: JobId,
    /// The attempt.
    pub attempt: AttemptId,
    /// The graph.
    pub graph: &'a JobGraph,
    /// The subtasks of the attempt that run here.
    pub tasks: &'a BTreeMap<SubtaskId, Task>,
    /// Where all subtasks run.
    pub places: &'a BTreeMap<SubtaskId, NodeProcess>,
    /// Credit of a channel.
    pub credit: CreditLimit,
    /// To other nodes.
    pub transport: &'a dyn Transport,
    /// Told when a channel fails.
    pub manager: &'a ActorRef<TaskManagerMessage>,
}

impl Wiring<'_> {
    /// The outputs of a subtask: one channel per receiving subtask, or to the one of the same index.
    #[must_use]
    pub fn outputs(&self, vertex: usize, sender: SubtaskId) -> Vec<VertexOutput> {
        let output = |edge: &JobEdge| {
            let receiver = &self.graph.vertices[edge.target];
            let index = sender.index.0;
            let channel = channel_of(self.graph, edge, index);
            let targets = if edge.is_pointwise() { index..index + 1 } else { 0..receiver.parallelism };
            let outlet = |target| {
                let receiver = SubtaskId { vertex: receiver.id, index: SubtaskIndex(target) };
                self.outlet(sender, receiver, channel)
            };
            let outlets = targets.map(outlet).collect();
            VertexOutput { edge: edge.clone(), receiver: (receiver.parallelism, receiver.max_parallelism), outlets }
        };
        self.graph.outputs(vertex).map(output).collect()
    }

    fn outlet(&self, sender: SubtaskId, receiver: SubtaskId, channel: ChannelIndex) -> Outlet {
        let credit = CreditPool::new(self.credit, wake(&self.tasks[&sender].actor));
        let send = match self.tasks.get(&receiver) {
            Some(task) => receive(task, channel),
            None => {
                let channel = ChannelId { job: self.job, attempt: self.attempt, sender, receiver, channel };
                let outlet = RemoteOutlet { channel, credit: self.credit, failed: self.failed(sender) };
                self.transport.open(&self.places[&receiver], outlet)
            }
        };
        Outlet { credit, send }
    }

    /// Waits for the channels into a subtask that begin at other nodes. They live as long as what is answered.
    #[must_use]
    pub fn inlets(&self, vertex: usize, receiver: SubtaskId) -> Vec<Registration> {
        let mut registrations = Vec::new();
        for (channel, InputChannel { edge, sender }) in (0..).zip(channels(self.graph, vertex)) {
            let edge = &self.graph.edges[edge];
            let source = &self.graph.vertices[edge.source];
            let sender = SubtaskId { vertex: source.id, index: sender.map_or(receiver.index, SubtaskIndex) };
            if self.tasks.contains_key(&sender) {
                continue;
            }
            let channel = ChannelIndex(channel);
            registrations.push(self.transport.accept(
                &self.places[&sender],
                RemoteInlet {
                    channel: ChannelId { job: self.job, attempt: self.attempt, sender, receiver, channel },
                    credit: self.credit,
                    decode: source.plan.decoder(edge.output),
                    receive: receive(&self.tasks[&receiver], channel),
                    failed: self.failed(receiver),
                },
            ));
        }
        registrations
    }

    /// Tells the task manager that a channel of a subtask has failed.
    fn failed(&self, subtask: SubtaskId) -> ChannelFailed {
        let (manager, job, attempt) = (self.manager.clone(), self.job, self.attempt);
        Box::new(move |error| {
            drop(manager.cast(TaskManagerMessage::ChannelFailed { job, attempt, subtask, error }));
        })
    }
}

/// Into the mailbox of a subtask. One that is gone is a failed attempt: the job master knows.
fn receive(receiver: &Task, channel: ChannelIndex) -> SendElement {
    let (receiver, announced) = (receiver.actor.clone(), receiver.announced.clone());
    Box::new(move |element| {
        announced.sending(&element);
        drop(receiver.cast(SubtaskMessage::Element(channel, element)));
    })
}

/// Wakes a subtask that waits for credit.
fn wake(sender: &ActorRef<SubtaskMessage>) -> Waker {
    let sender = sender.clone();
    Waker::new(move || drop(sender.cast(SubtaskMessage::Wake)))
}
