//! Whoever must not link, or does not keep to the protocol, is refused; both ends log why, and nobody else notices.

use std::net::UdpSocket;

use super::*;
use crate::certificates::TlsClock;
use crate::endpoint::Endpoint;
use crate::wire::envelope::Envelope;
use crate::wire::hello::{Answer, Hello, PREFIX_BYTES, decode, encode_hello};
use quinn::{Connection, RecvStream, SendStream};

/// A linked pair, and a check that it has not noticed anything.
struct Healthy {
    a: Node,
    b: Node,
}

impl Healthy {
    async fn new(cluster: &Cluster) -> Self {
        let (a, b) = pair(cluster).await;
        Self { a, b }
    }

    /// The pair has had the same link all the time, and it works.
    async fn unharmed(mut self) {
        self.a.links.send(&self.b.process.node, "ping").unwrap();
        let ping = LinkEvent::Control { peer: self.a.process.clone(), message: "ping".into() };
        assert_eq!(self.b.next().await, ping);
        assert_eq!(self.b.links.linked(), [self.a.process.clone()]);
        assert_eq!(self.a.links.linked(), [self.b.process.clone()]);
    }
}

/// Has a stranger dial a healthy node: refused, and `reason` logged by both.
async fn refused(cluster: &Cluster, stranger: Node, reason: &str) {
    let (log, _capturing) = Log::capture();
    let healthy = Healthy::new(cluster).await;
    stranger.links.connect(healthy.a.address);
    eventually(reason, || log.count(reason) >= 2).await;
    assert!(stranger.links.linked().is_empty());
    healthy.unharmed().await;
}

#[tokio::test]
async fn a_node_of_another_cluster_is_refused() {
    let mut cluster = Cluster::new();
    cluster.name = "other".to_owned();
    let stranger = cluster.node("s", 1);
    cluster.name = "test".to_owned();
    refused(&cluster, stranger, "s#1 belongs to the cluster 'other', this node to 'test'").await;
}

#[tokio::test]
async fn a_node_of_another_build_is_refused_with_both_digests() {
    let mut cluster = Cluster::new();
    cluster.executable = [0xab; 32];
    let stranger = cluster.node("s", 1);
    cluster.executable = [1; 32];
    let reason = format!("runs the executable {}, this node {}", "ab".repeat(16), "01".repeat(16));
    refused(&cluster, stranger, &reason).await;
}

#[tokio::test]
async fn a_second_node_of_the_same_name_is_refused() {
    let cluster = Cluster::new();
    let stranger = cluster.node("a", 2);
    refused(&cluster, stranger, "two processes call themselves a").await;
}

#[tokio::test]
async fn a_node_with_a_foreign_certificate_is_refused() {
    let (log, _capturing) = Log::capture();
    let cluster = Cluster::new();
    let healthy = Healthy::new(&cluster).await;
    let foreign = Cluster::new().node("s", 1);
    // Both ways round: the foreign node does not trust this cluster either.
    foreign.links.connect(healthy.a.address);
    healthy.b.links.connect(foreign.address);
    eventually("refused", || log.count("a connection was refused") >= 2).await;
    assert!(log.count("certificate") >= 1 && foreign.links.linked().is_empty());
    healthy.unharmed().await;
}

#[tokio::test]
async fn a_node_with_an_expired_certificate_is_refused() {
    let (log, _capturing) = Log::capture();
    let cluster = Cluster::new();
    let healthy = Healthy::new(&cluster).await;
    let yesterday = NOW_MS - 2 * 86_400_000;
    let pem = cluster.authority.issue("s", yesterday, 1).unwrap();
    let socket = udp_socket("127.0.0.1:0".parse().unwrap()).unwrap();
    let stranger = cluster.node_with("s", 1, &pem, yesterday, socket);
    stranger.links.connect(healthy.a.address);
    eventually("refused", || log.count("expired") >= 1).await;
    assert!(stranger.links.linked().is_empty());
    healthy.unharmed().await;
}

#[tokio::test]
async fn a_node_without_a_certificate_is_refused() {
    let (log, _capturing) = Log::capture();
    let cluster = Cluster::new();
    let healthy = Healthy::new(&cluster).await;
    let mut roots = rustls::RootCertStore::empty();
    let pem = cluster.certificates().authority;
    let authority = rustls::pki_types::pem::PemObject::from_pem_slice(pem.as_bytes()).unwrap();
    roots.add(authority).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_details(provider, Arc::new(TlsClock(Arc::new(FixedClock))))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"millstream".to_vec()];
    let mut endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
    // In TLS 1.3 the dialler learns of it behind its own handshake.
    if let Ok(connection) = endpoint.connect(healthy.a.address, crate::NODE_NAME).unwrap().await {
        connection.closed().await;
    }
    eventually("refused", || log.count("a connection was refused") >= 1).await;
    healthy.unharmed().await;
}

/// A peer with good certificates and manners of its own.
struct Rude {
    connection: Connection,
    send: SendStream,
    receive: RecvStream,
    _endpoint: Endpoint,
}

impl Rude {
    async fn dial(cluster: &Cluster, to: &Node) -> Self {
        let certificates = Certificates::from_pem(&cluster.certificates(), NOW_MS).unwrap();
        let clock = TlsClock(Arc::new(FixedClock));
        let socket = udp_socket("127.0.0.1:0".parse().unwrap()).unwrap();
        let seed = NetSeed::from_system().unwrap();
        let endpoint = Endpoint::new(&certificates, &cluster.options, &seed, &clock, socket).unwrap();
        let connecting = endpoint.quinn.connect_with(endpoint.client.clone(), to.address, crate::NODE_NAME).unwrap();
        let connection = connecting.await.unwrap();
        let (send, receive) = connection.open_bi().await.unwrap();
        Self { connection, send, receive, _endpoint: endpoint }
    }

    /// Greets as `z`, which follows whatever the other decides.
    async fn link(cluster: &Cluster, to: &Node) -> Self {
        let mut rude = Self::dial(cluster, to).await;
        let hello = Hello {
            cluster: cluster.name.clone(),
            process: process("z", 1),
            executable: cluster.executable,
            known: None,
        };
        rude.send.write_all(&encode_hello(&hello)).await.unwrap();
        rude
    }

    async fn answer(&mut self) -> Answer {
        let mut prefix = [0; PREFIX_BYTES];
        self.receive.read_exact(&mut prefix).await.unwrap();
        let mut content = vec![0; crate::wire::hello::content_bytes(prefix).unwrap()];
        self.receive.read_exact(&mut content).await.unwrap();
        decode(&content).unwrap()
    }

    /// Why the other end closed the connection.
    async fn closed_for(&self) -> String {
        let closed = tokio::time::timeout(PATIENCE, self.connection.closed()).await.expect("closed");
        crate::link::reason(&closed)
    }
}

#[tokio::test]
async fn another_protocol_version_is_refused_with_both_versions() {
    let (log, _capturing) = Log::capture();
    let cluster = Cluster::new();
    let healthy = Healthy::new(&cluster).await;
    let mut rude = Rude::dial(&cluster, &healthy.a).await;
    rude.send.write_all(b"MLST\x63\x00\x04\x00\x00\x00????").await.unwrap();
    let why = "the peer speaks version 99 of the protocol, this node version 1";
    let Answer::Refused(told) = rude.answer().await else { panic!("it was greeted") };
    assert!(told.starts_with(why), "{told}");
    eventually("logged", || log.count(why) == 1).await;
    healthy.unharmed().await;
}

#[tokio::test]
async fn garbage_in_place_of_a_greeting_is_refused() {
    let cluster = Cluster::new();
    let healthy = Healthy::new(&cluster).await;
    let mut rude = Rude::dial(&cluster, &healthy.a).await;
    rude.send.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert_eq!(rude.answer().await, Answer::Refused("what came is no greeting of Millstream".to_owned()));
    healthy.unharmed().await;
}

#[tokio::test]
async fn a_control_frame_over_the_limit_and_garbage_behind_the_greeting_break_that_link_only() {
    let cluster = Cluster::new();
    let limit = cluster.options.max_control_bytes;
    let mut long = Vec::new();
    long.extend((limit + 2).to_le_bytes());
    let mut credit = Vec::new();
    Envelope::Credit(vec![(0, 5)]).encode(&mut credit);
    for (bytes, why) in [(long, "the limit is"), (vec![1, 0, 0, 0, 77], "a control envelope of kind 77")] {
        let mut healthy = Healthy::new(&cluster).await;
        let mut rude = Rude::link(&cluster, &healthy.a).await;
        assert!(matches!(rude.answer().await, Answer::Hello(_)));
        healthy.a.until_up(&process("z", 1)).await;
        rude.send.write_all(&bytes).await.unwrap();
        let closed = rude.closed_for().await;
        assert!(closed.contains(why), "{closed}");
        assert!(healthy.a.until_down(&process("z", 1)).await.contains(why));
        healthy.unharmed().await;
    }
}

#[tokio::test]
async fn garbage_on_the_port_is_ignored() {
    let cluster = Cluster::new();
    let healthy = Healthy::new(&cluster).await;
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for length in [0, 1, 20, 1_200, 9_000] {
        let garbage: Vec<u8> = (0..length).map(|index| (index * 37 % 251) as u8).collect();
        socket.send_to(&garbage, healthy.a.address).unwrap();
        socket.send_to(&vec![0xff; length], healthy.a.address).unwrap();
    }
    healthy.unharmed().await;
}
