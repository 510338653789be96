//! What hosts do in the first simulation: each sends numbers to the next over a data channel, and starts the channel anew,
//! as a new attempt, whenever it breaks. Receivers must see every number once and in order.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use millstream_cluster::{Authority, Certificates, Identity, LinkEvent, Links, NetSeed, Options, Setup};
use millstream_runtime::batch::{Batch, Rows};
use millstream_runtime::credit::{CreditLimit, CreditPool};
use millstream_runtime::element::Element;
use millstream_runtime::exchange::{Parcel, SendElement};
use millstream_runtime::ids::{
    AttemptId, AttemptNumber, ChannelIndex, Epoch, JobId, NodeId, NodeIncarnation, NodeProcess, SubtaskId,
    SubtaskIndex, VertexId,
};
use millstream_runtime::membership::Verdict;
use millstream_runtime::ports::Waker;
use millstream_runtime::ports::transport::{ChannelId, Registration, RemoteInlet, RemoteOutlet, Transport};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::plan::{Mutant, Plan};
use crate::simulation::host_name;
use crate::socket::SimulatedSocket;
use crate::trace::Trace;
use crate::watch::Watch;
use crate::world::{EPOCH_MS, SimulatedClock};

const PORT: u16 = 7_000;
const CREDIT: CreditLimit = CreditLimit { batches: 8, bytes: 1 << 20 };
/// Batches sent in one step.
const BATCHES_A_STEP: usize = 4;
/// Steps after which a proposal is made again: it or its answer may have been lost.
const PATIENCE_STEPS: u32 = 100;

/// What a host has received; looked at in the end.
#[derive(Debug, Default)]
pub struct Progress {
    /// Numbers received by the present process.
    pub received: u64,
    /// The end of the input was received.
    pub ended: bool,
    /// What must not happen.
    pub violations: Vec<String>,
}

/// Where a host's program runs.
pub struct Site {
    /// The plan.
    pub plan: Plan,
    /// Which host.
    pub index: usize,
    /// Which process of it.
    pub incarnation: u64,
    /// Told everything.
    pub trace: Trace,
    /// Told what was received.
    pub progress: Arc<Mutex<Progress>>,
    /// Signs certificates.
    pub authority: Arc<Authority>,
}

/// What hosts tell each other.
#[derive(Debug, Serialize, Deserialize)]
enum Message {
    /// The sender would like to open this attempt.
    Propose(AttemptId),
    /// The receiver waits for this attempt, and has so many numbers.
    Ready(AttemptId, u64),
    /// The receiver has everything.
    Finished(AttemptId),
    /// To the first host: how the link with another one is.
    Link(NodeId, bool),
}

/// What the host's loop is told.
enum Happened {
    Link(LinkEvent),
    Element(AttemptId, Element<Parcel>),
    SenderFailed(AttemptId, String),
    ReceiverFailed(AttemptId, String),
}

/// How the host's own sending stands.
enum Sending {
    /// The next step proposes an attempt.
    Idle,
    Proposed {
        steps: u32,
    },
    Open {
        send: SendElement,
        credit: Arc<CreditPool>,
        next: u64,
    },
    /// Everything was sent; the receiver has not said yet that it came.
    Sent,
    Done,
}

struct Host {
    site: Site,
    name: String,
    links: Links,
    happened: UnboundedSender<Happened>,
    /// Processes that are linked.
    linked: BTreeMap<NodeId, NodeProcess>,
    attempt: AttemptId,
    sending: Sending,
    /// Numbers sent, whether they arrived or not.
    sent: u64,
    /// The attempt that is received.
    receiving: Option<(AttemptId, Registration)>,
    /// On the first host: who is alive.
    watch: Option<Watch>,
}

/// The program of a host, until it is killed.
///
/// # Errors
/// When the host cannot be set up.
pub async fn run(site: Site) -> Result<(), Box<dyn std::error::Error>> {
    let name = host_name(site.index);
    let socket = SimulatedSocket::bind(PORT, &name, site.trace.clone()).await?;
    let (happened, mut happenings) = unbounded_channel();
    let events = happened.clone();
    let process = NodeProcess { node: NodeId(name.clone()), incarnation: NodeIncarnation(site.incarnation) };
    let seed = site.plan.seed.wrapping_mul(1_000).wrapping_add(site.index as u64 * 100 + site.incarnation);
    let links = Links::start(Setup {
        identity: Identity { cluster: "simulated".to_owned(), process, executable: [0; 32] },
        options: Options::default(),
        certificates: Certificates::from_pem(&site.authority.issue(&name, EPOCH_MS, 30)?, EPOCH_MS)?,
        seed: NetSeed::simulated(seed),
        clock: Arc::new(SimulatedClock(site.trace.time().clone())),
        socket,
        events: Arc::new(move |event| drop(events.send(Happened::Link(event)))),
    })?;
    for other in (0..site.plan.hosts).filter(|other| *other != site.index) {
        links.connect(SocketAddr::new(turmoil::lookup(host_name(other)), PORT));
    }
    {
        // A new process has nothing yet.
        let mut progress = lock(&site.progress);
        (progress.received, progress.ended) = (0, false);
    }
    let attempt = AttemptId { epoch: Epoch(site.incarnation), attempt: AttemptNumber(0) };
    let mut step = tokio::time::interval(Duration::from_millis(site.plan.step_ms));
    let linked = BTreeMap::new();
    let watch = (site.index == 0).then(Watch::default);
    let mut host =
        Host { site, name, links, happened, linked, attempt, sending: Sending::Idle, sent: 0, receiving: None, watch };
    host.trace("starts");
    loop {
        tokio::select! {
            biased;
            happened = happenings.recv() => match happened {
                Some(happened) => host.handle(happened),
                None => return Ok(()),
            },
            _ = step.tick() => host.step(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Host {
    fn trace(&self, what: &str) {
        self.site.trace.event(&format!("{}#{}", self.name, self.site.incarnation), what);
    }

    fn neighbour(&self, distance: usize) -> NodeId {
        NodeId(host_name((self.site.index + distance) % self.site.plan.hosts))
    }

    /// The host that is sent to.
    fn next(&self) -> NodeId {
        self.neighbour(1)
    }

    /// The host that is received from.
    fn previous(&self) -> NodeId {
        self.neighbour(self.site.plan.hosts - 1)
    }

    fn channel(&self, attempt: AttemptId, sender: usize) -> ChannelId {
        let subtask = |name, index| SubtaskId {
            vertex: VertexId::from_name(name),
            index: SubtaskIndex(u32::try_from(index).expect("few hosts")),
        };
        let receiver = (sender + 1) % self.site.plan.hosts;
        ChannelId {
            job: JobId::from_name("counting"),
            attempt,
            sender: subtask("send", sender),
            receiver: subtask("receive", receiver),
            channel: ChannelIndex(0),
        }
    }

    fn tell(&self, node: &NodeId, message: &Message) {
        let bytes = rmp_serde::to_vec(message).expect("numbers serialise");
        // Without a link it is lost, as on a link that breaks.
        if self.links.send(node, Bytes::from(bytes)).is_err() {
            self.trace(&format!("cannot tell {node} {message:?}"));
        }
    }

    /// Tells the first host how links with others are; again when the link to it is new.
    fn report(&self, changed: &NodeId, up: bool) {
        let first = NodeId(host_name(0));
        if self.site.index == 0 {
            return;
        }
        if *changed != first {
            return self.tell(&first, &Message::Link(changed.clone(), up));
        }
        let linked = self.links.linked();
        for other in self.linked.keys().filter(|other| up && **other != first) {
            let up = linked.iter().any(|process| process.node == *other);
            self.tell(&first, &Message::Link(other.clone(), up));
        }
    }

    fn verdicts(&self, verdicts: Vec<Verdict>) {
        verdicts.iter().for_each(|verdict| self.trace(&format!("verdict {verdict:?}")));
    }

    fn handle(&mut self, happened: Happened) {
        if let (Some(watch), Happened::Link(event)) = (&mut self.watch, &happened) {
            let verdicts = watch.link(event);
            self.verdicts(verdicts);
        }
        match happened {
            Happened::Link(LinkEvent::Heartbeat { .. }) => {}
            Happened::Link(LinkEvent::Up { peer, .. }) => {
                self.trace(&format!("link to {peer} is up"));
                self.report(&peer.node, true);
                let new = self.linked.insert(peer.node.clone(), peer.clone()) != Some(peer.clone());
                // A restarted receiver has nothing yet.
                if peer.node == self.next() && new {
                    self.sending = Sending::Idle;
                }
            }
            Happened::Link(LinkEvent::Down { peer, reason }) => {
                self.trace(&format!("link to {peer} is down: {reason}"));
                self.report(&peer.node, false);
            }
            Happened::Link(LinkEvent::Control { peer, message }) => match rmp_serde::from_slice::<Message>(&message) {
                Ok(message) => self.told(&peer, &message),
                Err(error) => self.violation(&format!("{peer} sent a damaged message: {error}")),
            },
            Happened::Element(attempt, element) => {
                // What an old attempt has left in the mailbox is not obeyed.
                if self.receiving.as_ref().is_some_and(|(current, _)| *current == attempt) {
                    self.receive(attempt, element);
                }
            }
            Happened::SenderFailed(attempt, why) => {
                self.trace(&format!("sending {attempt} failed: {why}"));
                if attempt == self.attempt && !matches!(self.sending, Sending::Done) {
                    self.sending = Sending::Idle;
                }
            }
            Happened::ReceiverFailed(attempt, why) => {
                self.trace(&format!("receiving {attempt} failed: {why}"));
                if self.receiving.as_ref().is_some_and(|(current, _)| *current == attempt) {
                    self.receiving = None;
                }
            }
        }
    }

    fn told(&mut self, peer: &NodeProcess, message: &Message) {
        self.trace(&format!("{peer} says {message:?}"));
        if let (Message::Link(other, up), Some(watch)) = (message, &mut self.watch) {
            let verdicts = watch.reported(peer, other, *up);
            return self.verdicts(verdicts);
        }
        match *message {
            Message::Propose(attempt) if peer.node == self.previous() => self.accept(peer, attempt),
            Message::Ready(attempt, count)
                if attempt == self.attempt && matches!(self.sending, Sending::Proposed { .. }) =>
            {
                self.open(peer, count);
            }
            Message::Finished(attempt) if attempt == self.attempt && matches!(self.sending, Sending::Sent) => {
                self.sending = Sending::Done;
            }
            Message::Propose(_) | Message::Ready(..) | Message::Finished(_) | Message::Link(..) => {}
        }
    }

    fn accept(&mut self, from: &NodeProcess, attempt: AttemptId) {
        if self.receiving.as_ref().is_some_and(|(current, _)| *current >= attempt) {
            return;
        }
        let sender = (self.site.index + self.site.plan.hosts - 1) % self.site.plan.hosts;
        let (elements, failures) = (self.happened.clone(), self.happened.clone());
        let inlet = RemoteInlet {
            channel: self.channel(attempt, sender),
            credit: CREDIT,
            decode: Arc::new(|bytes| Ok(Box::new(Rows::<u64>::decode(bytes)?) as Box<dyn Batch>)),
            receive: Box::new(move |element| drop(elements.send(Happened::Element(attempt, element)))),
            failed: Box::new(move |error| drop(failures.send(Happened::ReceiverFailed(attempt, error.to_string())))),
        };
        // The old attempt first: its place is taken.
        self.receiving = None;
        self.receiving = Some((attempt, self.links.accept(from, inlet)));
        let mut received = lock(&self.site.progress).received;
        if self.site.plan.mutant == Some(Mutant::ForgetsOne) {
            received = received.saturating_sub(1);
        }
        self.tell(&from.node, &Message::Ready(attempt, received));
    }

    fn open(&mut self, to: &NodeProcess, count: u64) {
        let (attempt, failures) = (self.attempt, self.happened.clone());
        let outlet = RemoteOutlet {
            channel: self.channel(attempt, self.site.index),
            credit: CREDIT,
            failed: Box::new(move |error| drop(failures.send(Happened::SenderFailed(attempt, error.to_string())))),
        };
        let send = self.links.open(to, outlet);
        let next = if self.site.plan.mutant == Some(Mutant::GoesOn) { self.sent } else { count };
        // Steps look for credit themselves.
        self.sending = Sending::Open { send, credit: CreditPool::new(CREDIT, Waker::new(|| {})), next };
    }

    fn receive(&mut self, attempt: AttemptId, element: Element<Parcel>) {
        match element {
            Element::Batch(Parcel { batch, permit }) => {
                let values = batch.into_rows::<u64>().values;
                self.trace(&format!("receives {values:?}"));
                for value in values {
                    let received = lock(&self.site.progress).received;
                    if value != received {
                        self.violation(&format!("{value} came where {received} was due"));
                    }
                    lock(&self.site.progress).received = value + 1;
                }
                drop(permit);
            }
            Element::EndOfInput => {
                self.trace("receives the end");
                lock(&self.site.progress).ended = true;
                self.tell(&self.previous(), &Message::Finished(attempt));
            }
            Element::Watermark(_) | Element::Idle | Element::Active | Element::Barrier(_) => {
                self.violation("an element came that nobody sent");
            }
        }
    }

    fn violation(&self, what: &str) {
        self.trace(what);
        lock(&self.site.progress).violations.push(format!("{}: {what}", self.name));
    }

    fn step(&mut self) {
        if let Some(watch) = &mut self.watch {
            let verdicts = watch.tick();
            self.verdicts(verdicts);
        }
        match &mut self.sending {
            Sending::Idle => {
                if self.links.linked().iter().any(|linked| linked.node == self.next()) {
                    self.attempt.attempt.0 += 1;
                    self.sending = Sending::Proposed { steps: 0 };
                    self.tell(&self.next(), &Message::Propose(self.attempt));
                }
            }
            Sending::Proposed { steps } => {
                *steps += 1;
                if *steps > PATIENCE_STEPS {
                    self.sending = Sending::Idle;
                }
            }
            Sending::Open { send, credit, next } => {
                let (values, batch) = (self.site.plan.values, self.site.plan.batch);
                for _ in 0..BATCHES_A_STEP {
                    if *next < values && credit.has_credit() {
                        let rows: Vec<u64> = (*next..values.min(*next + batch)).collect();
                        *next += rows.len() as u64;
                        self.sent = *next;
                        let permit = credit.take(rows.len() * 8);
                        send(Element::Batch(Parcel { batch: Box::new(Rows::untimed(rows)), permit }));
                    }
                }
                if *next == values {
                    send(Element::EndOfInput);
                    // Dropping it behind the end is a clean end.
                    self.sending = Sending::Sent;
                }
            }
            Sending::Sent | Sending::Done => {}
        }
    }
}
