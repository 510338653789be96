//! The links of a node: dialling and being dialled, control messages, and who is linked just now. Used by the job
//! manager and the task managers through [`Links`], which is cheap to clone.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use millstream_runtime::ids::{NodeId, NodeProcess};
use millstream_runtime::ports::{Clock, PortError};
use quinn::{AsyncUdpSocket, Connection};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::backoff::Backoff;
use crate::certificates::{Certificates, TlsClock};
use crate::channel::inlet::{Inlet, InletEnd, Stream};
use crate::claims::Claims;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::handshake::{self, NoLink};
use crate::link::{CloseCode, Link};
use crate::noise::Noise;
use crate::options::Options;
use crate::pairing::{Pairing, Verdict};
use crate::seed::NetSeed;
use crate::wire::hello::Hello;

/// Who a node is, as it tells its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Name of the cluster: nodes of others are refused.
    pub cluster: String,
    /// The node and its incarnation.
    pub process: NodeProcess,
    /// Digest of the executable: nodes that run another build are refused.
    pub executable: [u8; 32],
}

/// What happens to links. Between `Up` and `Down` of a peer, events are those of one link, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// A link is up.
    Up {
        /// The process at the other end.
        peer: NodeProcess,
        /// Where it is reached.
        address: SocketAddr,
    },
    /// A sign of life.
    Heartbeat {
        /// From whom.
        peer: NodeProcess,
    },
    /// A control message.
    Control {
        /// From whom.
        peer: NodeProcess,
        /// What [`Links::send`] was given there.
        message: Bytes,
    },
    /// The link is gone. What was sent last may not have arrived.
    Down {
        /// The process at the other end.
        peer: NodeProcess,
        /// Why.
        reason: String,
    },
}

/// Takes events, in the tasks of the links: must be quick, and must not call [`Links`].
pub type LinkEvents = Arc<dyn Fn(LinkEvent) + Send + Sync>;

/// Everything that links are made of.
pub struct Setup {
    /// Who this node is.
    pub identity: Identity,
    /// Options.
    pub options: Options,
    /// Its certificates.
    pub certificates: Certificates,
    /// Everything random.
    pub seed: NetSeed,
    /// For the validity of certificates.
    pub clock: Arc<dyn Clock>,
    /// The socket, [`udp_socket`](crate::udp_socket) in production.
    pub socket: Arc<dyn AsyncUdpSocket>,
    /// Told what happens.
    pub events: LinkEvents,
}

/// The links of this node. They live until [`stop`](Self::stop), whether or not a handle is left.
#[derive(Clone)]
pub struct Links {
    pub(crate) shared: Arc<Shared>,
}

/// What this node knows of one other.
#[derive(Default)]
struct Peer {
    pairing: Pairing,
    link: Option<Arc<Link>>,
}

/// What all tasks share.
pub(crate) struct Shared {
    pub(crate) own: Identity,
    pub(crate) options: Options,
    pub(crate) endpoint: Endpoint,
    pub(crate) runtime: Handle,
    pub(crate) events: LinkEvents,
    pub(crate) claims: Mutex<Claims<Inlet, Arc<InletEnd>, Stream>>,
    /// What looked like a connection and was none.
    pub(crate) garbage: Noise,
    seed: NetSeed,
    peers: Mutex<BTreeMap<NodeId, Peer>>,
    /// Told when `peers` has changed. Wakes in the order of waiting, which a `watch` of tokio does not.
    changed: Notify,
    diallers: Mutex<BTreeMap<SocketAddr, AbortHandle>>,
}

/// What became of a connection.
pub(crate) enum Established {
    /// It is a link; its tasks are to be started.
    Link(Arc<Link>),
    /// It is none.
    Not(Verdict),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Links {
    /// Opens the endpoint and answers diallers. Tasks run on the current tokio runtime.
    ///
    /// # Errors
    /// When TLS or QUIC cannot be set up with these certificates and options.
    pub fn start(setup: Setup) -> Result<Self, Error> {
        let Setup { identity, options, certificates, seed, clock, socket, events } = setup;
        let endpoint = Endpoint::new(&certificates, &options, &seed, &TlsClock(clock), socket)?;
        let shared = Arc::new(Shared {
            own: identity,
            options,
            endpoint,
            runtime: Handle::current(),
            events,
            claims: Mutex::default(),
            garbage: Noise::default(),
            seed,
            peers: Mutex::default(),
            changed: Notify::new(),
            diallers: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        shared.runtime.spawn(async move {
            while let Some(incoming) = accepting.endpoint.quinn.accept().await {
                let shared = Arc::clone(&accepting);
                accepting.runtime.spawn(async move { handshake::accept(&shared, incoming).await });
            }
        });
        Ok(Self { shared })
    }

    /// The address of the socket.
    ///
    /// # Errors
    /// When the operating system does not say.
    pub fn local_address(&self) -> Result<SocketAddr, Error> {
        self.shared
            .endpoint
            .quinn
            .local_addr()
            .map_err(|error| Error::System(format!("the socket has no address: {error}")))
    }

    /// Keeps a link to whoever answers at an address: dials until there is one, and again when it is lost.
    pub fn connect(&self, address: SocketAddr) {
        let mut diallers = lock(&self.shared.diallers);
        if diallers.get(&address).is_none_or(AbortHandle::is_finished) {
            let shared = Arc::clone(&self.shared);
            let task = self.shared.runtime.spawn(async move { keep_dialling(&shared, address).await });
            diallers.insert(address, task.abort_handle());
        }
    }

    /// No longer dials an address; a link that is up stays.
    pub fn disconnect(&self, address: SocketAddr) {
        if let Some(dialler) = lock(&self.shared.diallers).remove(&address) {
            dialler.abort();
        }
    }

    /// The processes that are linked, in order of their nodes.
    #[must_use]
    pub fn linked(&self) -> Vec<NodeProcess> {
        lock(&self.shared.peers).values().filter_map(|peer| Some(peer.link.as_ref()?.peer.clone())).collect()
    }

    /// Sends a control message: delivered at most once, and in order as long as the link is up.
    ///
    /// # Errors
    /// When there is no link, or it cannot take so much; a peer that does not read loses its link.
    pub fn send(&self, node: &NodeId, message: impl Into<Bytes>) -> Result<(), Error> {
        let message = message.into();
        let limit = self.shared.options.max_control_bytes;
        if message.len() > limit as usize {
            return Err(Error::TooLong { bytes: message.len(), limit });
        }
        let link = self.shared.link(node).ok_or_else(|| Error::NotLinked(node.clone()))?;
        if link.outbox.message(message) {
            return Ok(());
        }
        link.close(CloseCode::Backlog, "control messages are not read");
        Err(Error::Backlog(node.clone()))
    }

    /// Gives up the link with a node; it may be made again.
    pub fn cut(&self, node: &NodeId, reason: &str) {
        if let Some(link) = self.shared.link(node) {
            link.close(CloseCode::Stopping, reason);
        }
    }

    /// Closes everything; peers are told.
    pub async fn stop(&self, reason: &str) {
        for dialler in std::mem::take(&mut *lock(&self.shared.diallers)).into_values() {
            dialler.abort();
        }
        self.shared.endpoint.quinn.close(quinn::VarInt::from_u32(CloseCode::Stopping as u32), reason.as_bytes());
        self.shared.endpoint.quinn.wait_idle().await;
    }
}

async fn keep_dialling(shared: &Arc<Shared>, address: SocketAddr) {
    let mut backoff = Backoff::new(shared.options.reconnect, shared.seed.number(&format!("dial {address}")));
    let mut known: Option<NodeId> = None;
    loop {
        if let Some(node) = &known {
            shared.until_down(node).await;
        }
        match handshake::dial(shared, address, known.as_ref()).await {
            Ok(node) => {
                known = Some(node);
                backoff.reset();
                continue;
            }
            Err(NoLink::Second(node)) => known = Some(node),
            Err(NoLink::Refused(reason)) => tracing::warn!(%address, reason, "no link"),
            Err(NoLink::Unreachable(reason)) => tracing::debug!(%address, reason, "not reached"),
        }
        tokio::time::sleep(Duration::from_millis(backoff.next_ms())).await;
    }
}

impl Shared {
    /// The greeting for a node, as far as it is known who it is.
    pub(crate) fn hello(&self, to: Option<&NodeId>) -> Hello {
        let known = to.and_then(|node| lock(&self.peers).get(node)?.pairing.known());
        let Identity { cluster, process, executable } = self.own.clone();
        Hello { cluster, process, executable, known }
    }

    /// The link with a node, if there is one.
    pub(crate) fn link(&self, node: &NodeId) -> Option<Arc<Link>> {
        lock(&self.peers).get(node)?.link.clone()
    }

    /// The link with a process, as soon as there is one.
    pub(crate) async fn link_with(&self, process: &NodeProcess) -> Result<Arc<Link>, PortError> {
        let wait = async {
            loop {
                // Made before looking, it misses nothing.
                let changed = self.changed.notified();
                if let Some(link) = self.link(&process.node) {
                    if link.peer == *process {
                        return Ok(link);
                    }
                    if link.peer.incarnation > process.incarnation {
                        return Err(PortError::retry(format!("{process} was restarted as {}", link.peer)));
                    }
                }
                changed.await;
            }
        };
        let timeout_ms = self.options.channel_timeout_ms;
        let waited = tokio::time::timeout(self.options.channel_timeout(), wait).await;
        waited.unwrap_or_else(|_| Err(PortError::retry(format!("no link to {process} within {timeout_ms} ms"))))
    }

    async fn until_down(&self, node: &NodeId) {
        loop {
            let changed = self.changed.notified();
            if lock(&self.peers).get(node).is_none_or(|peer| !peer.pairing.is_up()) {
                return;
            }
            changed.await;
        }
    }

    /// Asks the pairing about a connection, and installs it as the link if it is.
    pub(crate) fn establish(
        &self,
        peer: &NodeProcess,
        connection: &Connection,
        ask: impl FnOnce(&mut Pairing, &NodeProcess) -> Verdict,
    ) -> Established {
        let mut peers = lock(&self.peers);
        let entry = peers.entry(peer.node.clone()).or_default();
        let number = match ask(&mut entry.pairing, &self.own.process) {
            Verdict::Link(number) => number,
            verdict @ (Verdict::Second | Verdict::OldProcess) => return Established::Not(verdict),
        };
        let link = Link::new(peer.clone(), number, connection.clone(), self.options.max_control_backlog_bytes);
        if let Some(old) = entry.link.replace(Arc::clone(&link)) {
            old.tell_down(self, "a newer link has taken its place");
            old.close(CloseCode::Replaced, "a newer link has taken its place");
        }
        let address = connection.remote_address();
        tracing::info!(%peer, link = number, %address, "link up");
        (self.events)(LinkEvent::Up { peer: peer.clone(), address });
        drop(peers);
        self.changed.notify_waiters();
        // Whoever waits for a channel from an older process waits in vain.
        for inlet in lock(&self.claims).unmatched_older_than(peer) {
            inlet.end.fail(PortError::retry(format!("the sender's process was restarted as {peer}")));
        }
        Established::Link(link)
    }

    /// A link's connection has ended.
    pub(crate) fn lost(&self, link: &Arc<Link>, reason: &str) {
        let mut peers = lock(&self.peers);
        if let Some(entry) = peers.get_mut(&link.peer.node)
            && entry.pairing.lost(&link.peer, link.number)
        {
            entry.link = None;
        }
        link.tell_down(self, reason);
        drop(peers);
        self.changed.notify_waiters();
    }
}
