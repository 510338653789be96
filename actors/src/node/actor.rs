//! The loop of a node: events of links become events of the failure detector; its verdicts, and what nodes say to each
//! other, go to the dispatcher and to the task manager.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use millstream_cluster::{LinkEvent, Links};
use millstream_runtime::ids::{AttemptId, JobId, NodeProcess};
use millstream_runtime::membership::{LossReason, Membership, Options, Verdict};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::control::Control;
use super::gateway::{RemoteGateway, Routes};
use crate::dispatcher::DispatcherHandle;
use crate::job_master::deployment::OfferedNode;
use crate::metrics::{Manager, Registry};
use crate::protocol::{Answers, TaskManagerGateway, ToTaskManager};
use crate::task_manager::LocalGateway;
use crate::world::Stopwatch;

/// How often the failure detector is asked, in milliseconds: so much later than its time-out a loss may be told.
const TICK_MS: u64 = 50;
/// In so many ticks job managers are told what a task manager's process takes.
const TICKS_A_READING: u64 = 20;

/// The actor of a node.
pub struct Node;

/// What a node is made of.
pub struct NodeArguments {
    /// Which process this is.
    pub process: NodeProcess,
    /// Its links.
    pub links: Links,
    /// When silence counts.
    pub membership: Options,
    /// Its task manager and slots, if it has that role.
    pub task_manager: Option<(LocalGateway, u32)>,
    /// What a job manager is at first: most learn later that they lead.
    pub dispatcher: Option<DispatcherHandle>,
    /// The clock of the failure detector.
    pub stopwatch: Stopwatch,
    /// What this process measures.
    pub registry: Arc<Registry>,
}

/// Messages of a node.
pub enum NodeMessage {
    /// Something happened to a link.
    Link(LinkEvent),
    /// Time has passed.
    Tick,
    /// This job manager leads from now on, or no longer.
    Lead(Option<DispatcherHandle>),
}

type Myself = ActorRef<NodeMessage>;

/// The state of a node.
pub struct NodeState {
    arguments: NodeArguments,
    membership: Membership,
    routes: Routes,
    /// The newest attempt that each job master on another process has here: all of it stops when that process is lost.
    obeyed: BTreeMap<(NodeProcess, JobId), AttemptId>,
    /// Where processes that are not lost are reached.
    addresses: BTreeMap<NodeProcess, SocketAddr>,
    /// Slots of the task managers that are linked: whoever comes to lead needs them.
    offers: BTreeMap<NodeProcess, u32>,
    /// Ticks so far.
    ticks: u64,
}

impl Actor for Node {
    type Msg = NodeMessage;
    type State = NodeState;
    type Arguments = NodeArguments;

    async fn pre_start(&self, myself: Myself, arguments: NodeArguments) -> Result<NodeState, ActorProcessingErr> {
        tick_later(&myself);
        let membership = Membership::new(arguments.membership);
        let state = NodeState {
            arguments,
            membership,
            routes: Routes::default(),
            obeyed: BTreeMap::new(),
            addresses: BTreeMap::new(),
            offers: BTreeMap::new(),
            ticks: 0,
        };
        state.tell_dispatcher();
        Ok(state)
    }

    async fn handle(
        &self,
        myself: Myself,
        message: NodeMessage,
        state: &mut NodeState,
    ) -> Result<(), ActorProcessingErr> {
        let mut verdicts = Vec::new();
        let now_ms = state.arguments.stopwatch.elapsed_ns() / 1_000_000;
        match message {
            NodeMessage::Link(LinkEvent::Up { peer, address }) => {
                state.membership.link_up(&peer, now_ms, &mut verdicts);
                state.introduce(&peer);
                state.addresses.insert(peer.clone(), address);
                state.offer(&peer);
            }
            NodeMessage::Link(LinkEvent::Heartbeat { peer }) => {
                state.membership.heartbeat(&peer, now_ms, &mut verdicts);
            }
            NodeMessage::Link(LinkEvent::Control { peer, message }) => {
                state.membership.heartbeat(&peer, now_ms, &mut verdicts);
                state.control(&peer, &message);
            }
            NodeMessage::Link(LinkEvent::Down { peer, reason }) => {
                state.membership.link_down(&peer, &mut verdicts);
                state.part(&peer, format!("the link broke: {reason}"));
            }
            NodeMessage::Lead(dispatcher) => {
                state.arguments.dispatcher = dispatcher;
                state.tell_dispatcher();
                state.addresses.keys().for_each(|peer| state.introduce(peer));
            }
            NodeMessage::Tick => {
                state.membership.tick(now_ms, &mut verdicts);
                if state.ticks.is_multiple_of(TICKS_A_READING) {
                    state.tell_reading();
                }
                state.ticks += 1;
                tick_later(&myself);
            }
        }
        verdicts.into_iter().for_each(|verdict| state.obey(verdict));
        Ok(())
    }
}

fn tick_later(myself: &Myself) {
    myself.send_after(Duration::from_millis(TICK_MS), || NodeMessage::Tick);
}

impl NodeState {
    /// Tells a peer that a task manager is here. Who leads no jobs does nothing about it.
    fn offer(&self, peer: &NodeProcess) {
        if let Some((_, slots)) = &self.arguments.task_manager {
            self.say(peer, &Control::Offer { slots: *slots });
        }
    }

    /// Whoever leads shows what the process of a task manager takes.
    fn tell_reading(&self) {
        let Some(reading) = self.arguments.registry.process_reading(Manager::Task) else { return };
        if let Some(dispatcher) = &self.arguments.dispatcher {
            dispatcher.node_measured(self.arguments.process.clone(), reading);
        }
        let told = Control::Process(Box::new(reading));
        self.addresses.keys().for_each(|peer| self.say(peer, &told));
    }

    /// A job manager makes nodes known to each other: it is the only one that all of them are told of.
    fn introduce(&self, peer: &NodeProcess) {
        if self.arguments.dispatcher.is_some() {
            let others = self.addresses.iter().filter(|(other, _)| other.node != peer.node);
            self.say(peer, &Control::Meet(others.map(|(_, address)| *address).collect()));
        }
    }

    /// Tells a dispatcher that is new of all task managers: of that beside it, which is reached without a link, and of those
    /// that are linked.
    fn tell_dispatcher(&self) {
        let Some(dispatcher) = &self.arguments.dispatcher else { return };
        if let Some((gateway, slots)) = &self.arguments.task_manager {
            let gateway = Arc::new(gateway.clone());
            dispatcher.node_joined(OfferedNode { process: self.arguments.process.clone(), slots: *slots, gateway });
        }
        self.offers.iter().for_each(|(peer, slots)| self.offered(dispatcher, peer, *slots));
    }

    fn say(&self, peer: &NodeProcess, control: &Control) {
        say(&self.arguments.links, peer, control);
    }

    fn control(&mut self, peer: &NodeProcess, message: &[u8]) {
        match Control::decode(message) {
            Ok(Control::Offer { slots }) => {
                self.offers.insert(peer.clone(), slots);
                if let Some(dispatcher) = &self.arguments.dispatcher {
                    self.offered(dispatcher, peer, slots);
                }
            }
            Ok(Control::Process(reading)) => {
                if let Some(dispatcher) = &self.arguments.dispatcher {
                    dispatcher.node_measured(peer.clone(), *reading);
                }
            }
            Ok(Control::Meet(addresses)) => {
                addresses.into_iter().for_each(|address| self.arguments.links.connect(address))
            }
            Ok(Control::ToTaskManager(job, message)) => self.order(peer, job, message),
            Ok(Control::FromTaskManager(job, told)) => self.routes.tell(peer, job, told),
            Err(error) => {
                tracing::error!(%peer, "{error}");
                self.arguments.links.cut(&peer.node, "its control messages cannot be read");
            }
        }
    }

    fn offered(&self, dispatcher: &DispatcherHandle, peer: &NodeProcess, slots: u32) {
        let links = self.arguments.links.clone();
        let gateway = RemoteGateway { links, process: peer.clone(), routes: self.routes.clone() };
        dispatcher.node_joined(OfferedNode { process: peer.clone(), slots, gateway: Arc::new(gateway) });
    }

    /// A job master on another node wants something.
    fn order(&mut self, peer: &NodeProcess, job: JobId, message: ToTaskManager) {
        let Some((task_manager, _)) = &self.arguments.task_manager else {
            tracing::warn!(%peer, %job, "no task manager runs here: its order is not obeyed");
            return;
        };
        match &message {
            ToTaskManager::Deploy(deploy) => drop(self.obeyed.insert((peer.clone(), job), deploy.attempt)),
            ToTaskManager::Release(_) => drop(self.obeyed.remove(&(peer.clone(), job))),
            ToTaskManager::Order(..) | ToTaskManager::Stop(_) | ToTaskManager::StopAll(_) => {}
        }
        let (links, to) = (self.arguments.links.clone(), peer.clone());
        let answers = Answers::new(move |told| say(&links, &to, &Control::FromTaskManager(job, told)));
        task_manager.send(job, message, &answers);
    }

    fn obey(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Lost(process, reason) => {
                let reason = match reason {
                    LossReason::Silent { for_ms } => {
                        let reason = format!("it has been silent for {for_ms} ms");
                        // It may be heard again at once. Both sides must see the link break, or only this one would have
                        // ended what goes over it, and a task manager would not offer itself anew.
                        self.arguments.links.cut(&process.node, &reason);
                        reason
                    }
                    LossReason::Restarted => "it was restarted".to_owned(),
                    LossReason::Left => "it has left".to_owned(),
                };
                self.part(&process, reason);
            }
            Verdict::Suspected(process) => tracing::info!(%process, "suspected"),
            // Whoever has a task manager offers it again when the link is up.
            Verdict::Joined(process) | Verdict::Returned(process) | Verdict::Cleared(process) => {
                tracing::info!(%process, "alive");
            }
            Verdict::Separated(one, other) | Verdict::Reunited(one, other) => {
                tracing::info!(%one, %other, "the link between them has changed");
            }
        }
    }

    /// A process is lost, or its link is. What was sent last may not have arrived, so that neither side may rely on what
    /// the other does: attempts over it end on both. When the link is back, the task manager offers itself anew.
    fn part(&mut self, process: &NodeProcess, reason: String) {
        self.routes.forget(process);
        self.addresses.remove(process);
        self.offers.remove(process);
        self.stop_orders_of(process);
        if let Some(dispatcher) = &self.arguments.dispatcher {
            dispatcher.node_lost(process.clone(), reason);
        }
    }

    /// The process of a job master is lost: whoever takes its place starts the jobs anew, and nothing of old may act.
    fn stop_orders_of(&mut self, master: &NodeProcess) {
        let orphaned: Vec<_> = self.obeyed.keys().filter(|(peer, _)| peer == master).cloned().collect();
        for key in orphaned {
            if let (Some(attempt), Some((task_manager, _))) = (self.obeyed.remove(&key), &self.arguments.task_manager) {
                tracing::warn!(job = %key.1, "its job manager {master} is lost: stopping what runs here");
                task_manager.send(key.1, ToTaskManager::StopAll(attempt), &Answers::new(drop));
            }
        }
    }
}

/// Sends a message; without a link it is lost, and the failure detector sees to what follows.
fn say(links: &Links, peer: &NodeProcess, control: &Control) {
    match control.encode() {
        Ok(bytes) => {
            if let Err(error) = links.send(&peer.node, bytes) {
                tracing::debug!(%peer, "not sent: {error}");
            }
        }
        Err(error) => tracing::error!(%peer, "{error}"),
    }
}
