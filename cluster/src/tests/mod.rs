//! Nodes over real QUIC on loopback: links, refusals, data channels.
#![allow(clippy::unwrap_used)]

mod channels;
mod links;
mod refusals;

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use millstream_runtime::ids::{NodeId, NodeIncarnation, NodeProcess};
use millstream_runtime::ports::Clock;
use millstream_runtime::time::Timestamp;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::{
    Authority, Certificates, Identity, LinkEvent, Links, NetSeed, Options, PemCertificates, Setup, udp_socket,
};

const NOW_MS: Timestamp = 1_790_000_000_000;
/// Nothing that is expected to happen takes so long.
const PATIENCE: Duration = Duration::from_secs(20);

struct FixedClock;

impl Clock for FixedClock {
    fn now_ms(&self) -> Timestamp {
        NOW_MS
    }
}

/// A socket whose cable can be pulled.
#[derive(Debug)]
struct Cable {
    socket: Arc<dyn AsyncUdpSocket>,
    pulled: Arc<AtomicBool>,
}

impl AsyncUdpSocket for Cable {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.socket).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if self.pulled.load(Ordering::SeqCst) { Ok(()) } else { self.socket.try_send(transmit) }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [io::IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            let polled = self.socket.poll_recv(cx, buffers, meta);
            if polled.is_pending() || !self.pulled.load(Ordering::SeqCst) {
                return polled;
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}

/// What nodes of a test have in common.
struct Cluster {
    authority: Authority,
    options: Options,
    name: String,
    executable: [u8; 32],
}

impl Cluster {
    fn new() -> Self {
        Self {
            authority: Authority::create(NOW_MS).unwrap(),
            options: Options::default(),
            name: "test".to_owned(),
            executable: [1; 32],
        }
    }

    fn certificates(&self) -> PemCertificates {
        self.authority.issue("any", NOW_MS, 1).unwrap()
    }

    fn node(&self, name: &str, incarnation: u64) -> Node {
        let socket = udp_socket("127.0.0.1:0".parse().unwrap()).unwrap();
        self.node_with(name, incarnation, &self.certificates(), NOW_MS, socket)
    }

    /// A node whose certificates are valid at `valid_ms`.
    fn node_with(
        &self,
        name: &str,
        incarnation: u64,
        pem: &PemCertificates,
        valid_ms: Timestamp,
        socket: Arc<dyn AsyncUdpSocket>,
    ) -> Node {
        let pulled = Arc::<AtomicBool>::default();
        let socket = Arc::new(Cable { socket, pulled: Arc::clone(&pulled) });
        let process = process(name, incarnation);
        let (sender, events) = unbounded_channel();
        let setup = Setup {
            identity: Identity { cluster: self.name.clone(), process: process.clone(), executable: self.executable },
            options: self.options.clone(),
            certificates: Certificates::from_pem(pem, valid_ms).unwrap(),
            seed: NetSeed::from_system().unwrap(),
            clock: Arc::new(FixedClock),
            socket,
            events: Arc::new(move |event| drop(sender.send(event))),
        };
        let links = Links::start(setup).unwrap();
        let address = links.local_address().unwrap();
        Node { links, process, address, events, pulled }
    }
}

fn process(name: &str, incarnation: u64) -> NodeProcess {
    NodeProcess { node: NodeId(name.to_owned()), incarnation: NodeIncarnation(incarnation) }
}

/// A node and what it was told.
struct Node {
    links: Links,
    process: NodeProcess,
    address: SocketAddr,
    events: UnboundedReceiver<LinkEvent>,
    /// The cable of its socket.
    pulled: Arc<AtomicBool>,
}

impl Node {
    /// The next event that is no heartbeat.
    async fn next(&mut self) -> LinkEvent {
        loop {
            let event = tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("an event").unwrap();
            if !matches!(event, LinkEvent::Heartbeat { .. }) {
                return event;
            }
        }
    }

    async fn until_up(&mut self, peer: &NodeProcess) {
        loop {
            if let LinkEvent::Up { peer: up, .. } = self.next().await
                && up == *peer
            {
                return;
            }
        }
    }

    /// Waits for the end of the link with a process, and says why it ended.
    async fn until_down(&mut self, peer: &NodeProcess) -> String {
        loop {
            if let LinkEvent::Down { peer: down, reason } = self.next().await
                && down == *peer
            {
                return reason;
            }
        }
    }

    /// Waits for the next control message.
    async fn message(&mut self) -> Vec<u8> {
        loop {
            if let LinkEvent::Control { message, .. } = self.next().await {
                return message.to_vec();
            }
        }
    }
}

/// Two linked nodes.
async fn pair(cluster: &Cluster) -> (Node, Node) {
    let (mut a, mut b) = (cluster.node("a", 1), cluster.node("b", 1));
    a.links.connect(b.address);
    a.until_up(&b.process).await;
    b.until_up(&a.process).await;
    (a, b)
}

/// Waits until something has become true; everything runs on this thread.
async fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    let wait = async {
        while !happened() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"));
}

/// What is logged on this thread while it lives.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn capture() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::WARN)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// Lines that contain a text.
    fn count(&self, text: &str) -> usize {
        let bytes = self.0.lock().unwrap();
        String::from_utf8_lossy(&bytes).lines().filter(|line| line.contains(text)).count()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
