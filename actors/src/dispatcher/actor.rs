//! The loop of the dispatcher. Launching a job takes a while and happens beside it.

use std::collections::BTreeMap;

use millstream_runtime::ids::{JobId, NodeId, NodeProcess};
use millstream_runtime::job::placement::Spreading;
use millstream_runtime::job::slots::{Grant, SlotPool};
use millstream_runtime::ports::PortError;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

use super::message::{DispatcherMessage, NodeReport, Submission, Submitted};
use crate::job_master::JobHandle;
use crate::job_master::deployment::OfferedNode;
use crate::launch::launch_on;

/// Jobs that have ended and are still shown.
const ENDED_SHOWN: usize = 100;

/// The dispatcher of a cluster.
pub struct Dispatcher;

type Myself = ActorRef<DispatcherMessage>;

/// A job.
struct Dispatched {
    handle: JobHandle,
    ended: bool,
}

/// The state of the dispatcher.
pub struct DispatcherState {
    nodes: BTreeMap<NodeId, OfferedNode>,
    slots: SlotPool,
    /// The oldest first.
    jobs: Vec<Dispatched>,
}

impl Actor for Dispatcher {
    type Msg = DispatcherMessage;
    type State = DispatcherState;
    type Arguments = ();

    async fn pre_start(&self, _myself: Myself, (): ()) -> Result<DispatcherState, ActorProcessingErr> {
        Ok(DispatcherState { nodes: BTreeMap::new(), slots: SlotPool::new(Spreading::Spread), jobs: Vec::new() })
    }

    async fn handle(
        &self,
        myself: Myself,
        message: DispatcherMessage,
        state: &mut DispatcherState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            DispatcherMessage::NodeJoined(node) => state.node_joined(node),
            DispatcherMessage::NodeLost(process, reason) => {
                state.node_lost(&process, &reason);
            }
            DispatcherMessage::Submit(submission, reply) => submit(myself, *submission, reply),
            DispatcherMessage::Submitted(submitted) => state.submitted(&myself, *submitted),
            DispatcherMessage::Ended(job) => state.ended(job),
            DispatcherMessage::Jobs(reply) => {
                drop(reply.send(state.jobs.iter().map(|job| job.handle.clone()).collect()));
            }
            DispatcherMessage::Nodes(reply) => {
                let report = |(process, slots, free)| NodeReport { process: Clone::clone(process), slots, free };
                drop(reply.send(state.slots.nodes().map(report).collect()));
            }
        }
        Ok(())
    }
}

/// Launches a job, without nodes at first.
fn submit(myself: Myself, submission: Submission, reply: RpcReplyPort<Result<JobHandle, PortError>>) {
    let Submission { record, graph, options } = submission;
    let slots = graph.parallelism();
    drop(tokio::spawn(async move {
        let launched = launch_on(Vec::new(), record, graph, options).await;
        drop(myself.cast(DispatcherMessage::Submitted(Box::new(Submitted { launched, slots, reply }))));
    }));
}

impl DispatcherState {
    fn node_joined(&mut self, node: OfferedNode) {
        tracing::info!(node = %node.process, slots = node.slots, "a task manager is there");
        let (process, slots) = (node.process.clone(), node.slots);
        self.nodes.insert(process.node.clone(), node);
        let grants = self.slots.join(process, slots);
        self.grant(grants);
    }

    /// May be told more than once: first that the link broke, then that the process stays silent.
    fn node_lost(&mut self, process: &NodeProcess, reason: &str) {
        if self.nodes.get(&process.node).is_none_or(|node| node.process != *process) {
            return;
        }
        tracing::warn!(node = %process, "a task manager was lost: {reason}");
        self.nodes.remove(&process.node);
        let grants = self.slots.lose(process);
        for job in self.jobs.iter().filter(|job| !job.ended) {
            job.handle.node_lost(process.clone(), reason);
        }
        self.grant(grants);
    }

    fn submitted(&mut self, myself: &Myself, submitted: Submitted) {
        let Submitted { launched, slots, reply } = submitted;
        let handle = match launched {
            Ok(launched) => launched.handle,
            Err(error) => {
                drop(reply.send(Err(error)));
                return;
            }
        };
        let (waiting, dispatcher, job) = (handle.clone(), myself.clone(), handle.id());
        drop(tokio::spawn(async move {
            // Also when its master is gone: it will use no slot any more.
            let _ended = waiting.outcome().await;
            drop(dispatcher.cast(DispatcherMessage::Ended(job)));
        }));
        self.jobs.push(Dispatched { handle: handle.clone(), ended: false });
        let grants = self.slots.claim(job, slots);
        self.grant(grants);
        drop(reply.send(Ok(handle)));
    }

    fn ended(&mut self, job: JobId) {
        if let Some(known) = self.jobs.iter_mut().find(|known| known.handle.id() == job) {
            known.ended = true;
        }
        let mut surplus = self.jobs.iter().filter(|known| known.ended).count().saturating_sub(ENDED_SHOWN);
        self.jobs.retain(|known| {
            let forget = known.ended && surplus > 0;
            surplus -= usize::from(forget);
            !forget
        });
        let grants = self.slots.release(job);
        self.grant(grants);
    }

    /// Tells job masters which slots they may use.
    fn grant(&self, grants: Vec<Grant>) {
        for Grant { job, process, slots } in grants {
            let handle = self.jobs.iter().find(|known| known.handle.id() == job);
            if let (Some(known), Some(node)) = (handle, self.nodes.get(&process.node)) {
                known.handle.node_joined(OfferedNode { slots, ..node.clone() });
            }
        }
    }
}
