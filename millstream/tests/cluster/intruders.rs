//! Whoever does not belong to a cluster comes to its ports while a job runs: without a certificate, with one of a foreign
//! authority or an expired one, with another version of the protocol, with messages over the limit, with garbage. Each is
//! refused, the node that refuses says why in its log, and so does the intruder where it can know; the job notices nothing.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_actors::world::SystemClock;
use millstream_cluster::{
    Authority, Certificates, Identity, LinkEvent, Links, NODE_NAME, NetSeed, Options, PemCertificates, Setup,
    udp_socket,
};
use millstream_runtime::ids::{NodeId, NodeIncarnation, NodeProcess};
use millstream_runtime::ports::Clock;
use ring::digest::{SHA256, digest};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::jobs::{Fraud, Tormented};
use super::processes::{Cluster, Node, Shape, free_ports, is_alive, until};
use super::support::random::Random;

const MILLSTREAM: &str = env!("CARGO_BIN_EXE_millstream");
const SHAPE: Shape = Shape { job_managers: 1, task_managers: 2, slots: 2, restart: true };
const NODES: [&str; 3] = ["job-manager-0", "task-manager-0", "task-manager-1"];
/// No answer takes so long.
const PATIENCE: Duration = Duration::from_secs(30);
const DAY_MS: i64 = 86_400_000;
const REFUSED: &str = "a connection was refused";

/// A cluster that is visited, and what its visitors can get hold of.
struct Visited {
    cluster: Cluster,
    /// The authority of the cluster itself.
    own: Authority,
    foreign: Authority,
    runtime: tokio::runtime::Runtime,
}

/// A client of TLS with manners of its own.
fn client(trusts: &PemCertificates, shows: Option<&PemCertificates>) -> quinn::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(trusts.authority.as_bytes()).expect("a certificate");
    roots.add(authority).expect("usable");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has them")
        .with_root_certificates(roots);
    let mut tls = match shows {
        None => tls.with_no_client_auth(),
        Some(own) => {
            let chain = vec![CertificateDer::from_pem_slice(own.certificate.as_bytes()).expect("a certificate")];
            let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("a key");
            tls.with_client_auth_cert(chain, key).expect("they fit")
        }
    };
    tls.alpn_protocols = vec![b"millstream".to_vec()];
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).expect("it has a cipher for QUIC");
    quinn::ClientConfig::new(Arc::new(crypto))
}

/// A packet that begins a connection, as it seems; `number` makes it another one.
fn false_start(number: u64, random: &mut Random) -> Vec<u8> {
    // Initial of version 1, eight bytes of destination id, no source id, no token, 1,182 bytes behind the length.
    let head = [0xc3, 0, 0, 0, 1, 8].into_iter().chain(number.to_be_bytes()).chain([0, 0, 0x44, 0x9e]);
    head.chain((0..1_182).map(|_| random.between((0, 255)) as u8)).collect()
}

impl Visited {
    fn start(name: &str) -> Self {
        let cluster = Cluster::start(name, std::path::Path::new(MILLSTREAM), &SHAPE);
        let own = Authority::load(&cluster.folder().join("jm0/certificates")).expect("the launcher made it");
        let foreign = Authority::create(SystemClock.now_ms()).expect("made");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Self { cluster, own, foreign, runtime: runtime.expect("a runtime") }
    }

    fn leader(&self) -> SocketAddr {
        self.cluster.address(NODES[0])
    }

    fn issued(&self, by: &Authority, days_ago: i64) -> PemCertificates {
        by.issue("stranger", SystemClock.now_ms() - days_ago * DAY_MS, 1).expect("issued")
    }

    /// Does something, and waits until a node has logged a new line with these parts.
    fn told<T>(&self, parts: &[&str], act: impl FnOnce() -> T) -> T {
        let before = self.cluster.logged(parts);
        let done = act();
        until(&format!("a node logs {parts:?}"), || (self.cluster.logged(parts) > before).then_some(()));
        done
    }

    /// What somebody is told who dials the leader with these certificates.
    fn dial(&self, shows: Option<&PemCertificates>) -> String {
        let config = client(&self.issued(&self.own, 0), shows);
        let leader = self.leader();
        self.runtime.block_on(async {
            let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).expect("a port is free");
            let connecting = endpoint.connect_with(config, leader, NODE_NAME).expect("it can be dialled");
            // In TLS 1.3 the dialler learns of it behind its own handshake.
            let ended = async {
                match connecting.await {
                    Ok(connection) => connection.closed().await,
                    Err(error) => error,
                }
            };
            tokio::time::timeout(PATIENCE, ended).await.expect("it is refused").to_string()
        })
    }

    /// A node of its own, with these certificates in files; its folder.
    fn join(&self, name: &str, certificates: Option<&PemCertificates>) -> (Node, PathBuf) {
        let folder = self.cluster.folder().join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("the folder is made");
        let mut text = format!(
            "node.name = \"{name}\"\nnode.roles = \"task-manager\"\nnode.address = \"127.0.0.1:{}\"\ncluster.job-managers = \"{}\"\nprocess.working-dir = \"node\"\nexecution.checkpointing.dir = \"checkpoints\"\n",
            free_ports(1)[0],
            self.leader(),
        );
        if let Some(pem) = certificates {
            let files = [("authority", &pem.authority), ("certificate", &pem.certificate), ("key", &pem.key)];
            for (file, content) in files {
                fs::write(folder.join(file), content).expect("the file is written");
                text.push_str(&format!("security.{file}-file = \"{file}\"\n"));
            }
        }
        fs::write(folder.join("node.toml"), text).expect("the file is written");
        let mut command = Command::new(MILLSTREAM);
        command.args(["node", "--config", "node.toml", "--log", "info", "--until-stdin-closes"]).current_dir(&folder);
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        command.stderr(fs::File::create(folder.join("log")).expect("the log is created"));
        (Node(command.spawn().expect("the program starts")), folder)
    }

    /// A node that does not even start; what it says.
    fn does_not_start(&self, name: &str, certificates: Option<&PemCertificates>) -> String {
        let (mut node, folder) = self.join(name, certificates);
        let status = until("the node ends", || node.0.try_wait().expect("it can be waited for"));
        assert!(!status.success());
        fs::read_to_string(folder.join("log")).expect("the log")
    }

    /// Processes of the program without certificates of this cluster.
    fn nodes_that_do_not_belong(&self) {
        let said = self.does_not_start("without", None);
        assert!(said.contains("need certificates") && said.contains("millstream certs"), "{said}");
        let said = self.does_not_start("expired", Some(&self.issued(&self.own, 2)));
        assert!(said.contains("the certificate has expired: issue a new one"), "{said}");
        let foreign = self.issued(&self.foreign, 0);
        let why = "was not signed by the authority that the peer trusts";
        let (_node, folder) = self.told(&[REFUSED, why], || self.join("foreign", Some(&foreign)));
        until("the intruder says why", || {
            let log = fs::read_to_string(folder.join("log")).ok()?;
            let why = "the peer's certificate was not signed by the authority that this node trusts";
            log.lines().any(|line| line.contains("no link") && line.contains(why)).then_some(())
        });
    }

    /// Clients that would believe the cluster, but are not believed.
    fn clients_that_are_not_believed(&self) {
        let strangers = [
            (None, "the peer shows no certificate", "certificate"),
            (Some(self.issued(&self.foreign, 0)), "the peer's certificate was not signed by", "certificate"),
            (Some(self.issued(&self.own, 2)), "the peer's certificate has expired", "expired"),
        ];
        for (shows, why, learnt) in strangers {
            let told = self.told(&[REFUSED, why], || self.dial(shows.as_ref()));
            assert!(told.to_lowercase().contains(learnt), "{told}");
        }
    }

    fn another_version(&self) {
        let certificates = self.issued(&self.own, 0);
        let config = client(&certificates, Some(&certificates));
        let (leader, why) = (self.leader(), "the peer speaks version 99 of the protocol, this node version 1");
        let greet = async {
            let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).expect("a port is free");
            let connecting = endpoint.connect_with(config, leader, NODE_NAME).expect("it can be dialled");
            let connection = connecting.await.expect("it is trusted");
            let (mut send, mut receive) = connection.open_bi().await.expect("a stream");
            send.write_all(b"MLST\x63\x00\x04\x00\x00\x00????").await.expect("written");
            let mut answer = vec![0; 4 << 10];
            let read = receive.read(&mut answer).await.expect("an answer").expect("not its end");
            String::from_utf8_lossy(&answer[..read]).into_owned()
        };
        let wait = async { tokio::time::timeout(PATIENCE, greet).await.expect("it is answered") };
        let told = self.told(&[REFUSED, why], || self.runtime.block_on(wait));
        assert!(told.contains(why), "{told}");
    }

    /// Somebody who is linked like a node, and then sends this.
    fn linked(&self, incarnation: u64, message: Vec<u8>) -> String {
        let executable = fs::read(MILLSTREAM).expect("the program is read");
        let digest = digest(&SHA256, &executable).as_ref().try_into().expect("32 bytes");
        let process = NodeProcess { node: NodeId("stranger".to_string()), incarnation: NodeIncarnation(incarnation) };
        let (sender, mut events) = unbounded_channel();
        let leader = self.leader();
        self.runtime.block_on(async {
            let links = Links::start(Setup {
                identity: Identity { cluster: "/default".to_string(), process, executable: digest },
                options: Options { max_control_bytes: 64 << 20, ..Options::default() },
                certificates: Certificates::from_pem(&self.issued(&self.own, 0), SystemClock.now_ms()).expect("good"),
                seed: NetSeed::from_system().expect("randomness"),
                clock: Arc::new(SystemClock),
                socket: udp_socket(([127, 0, 0, 1], 0).into()).expect("a port is free"),
                events: Arc::new(move |event| drop(sender.send(event))),
            });
            let links = links.expect("links");
            links.connect(leader);
            let LinkEvent::Up { peer, .. } = next(&mut events).await else { panic!("it is not linked") };
            links.send(&peer.node, message).expect("its own limit is larger");
            links.disconnect(leader);
            let reason = loop {
                if let LinkEvent::Down { reason, .. } = next(&mut events).await {
                    break reason;
                }
            };
            links.stop("it goes").await;
            reason
        })
    }

    fn messages_that_no_node_sends(&self, round: u64) {
        let why = "the limit is 16777217";
        let told = self.told(&["link down", why], || self.linked(2 * round, vec![0; 17 << 20]));
        assert!(told.contains(why), "{told}");
        let why = "its control messages cannot be read";
        let told = self.told(&["link down", why], || self.linked(2 * round + 1, b"\xc1 no message".to_vec()));
        assert!(told.contains(why), "{told}");
    }

    /// Datagrams of garbage to every node, some of which look like QUIC.
    fn garbage(&self, random: &mut Random) {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
        for node in NODES {
            let send = |datagram: &[u8]| socket.send_to(datagram, self.cluster.address(node)).expect("sent");
            for length in [0, 1, 20, 100, 1_200, 9_000] {
                let datagram: Vec<u8> = (0..length).map(|_| random.between((0, 255)) as u8).collect();
                send(&datagram);
            }
            send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            // A handshake of another version of QUIC.
            send(&[&[0xc3, 0x6b, 0x33, 0x43, 0xcf][..], &[8; 1_195]].concat());
        }
        // What is under the protection of its header cannot be seen: most are dropped for their reserved bits.
        for number in 0..200 {
            socket.send_to(&false_start(number, random), self.leader()).expect("sent");
        }
    }

    fn round(&self, number: u64, random: &mut Random) {
        self.garbage(random);
        self.clients_that_are_not_believed();
        self.another_version();
        self.messages_that_no_node_sends(number);
    }
}

async fn next(events: &mut UnboundedReceiver<LinkEvent>) -> LinkEvent {
    tokio::time::timeout(PATIENCE, events.recv()).await.expect("an event").expect("links live")
}

/// Runs a job while strangers come, and checks that it has not noticed them.
fn while_a_job_runs(visited: &Visited, job: &Fraud, rate: u64, strangers: impl FnOnce()) {
    let cluster = &visited.cluster;
    let pids = NODES.map(|node| cluster.pid(node));
    let id = job.submit(cluster, rate);
    assert!(cluster.until_new_checkpoint(&id));
    strangers();
    assert!(cluster.until_new_checkpoint(&id), "the job was to run through it all");
    assert_eq!(cluster.failures(&id), Vec::<String>::new());
    cluster.until_finished(&id);
    assert_eq!(cluster.failures(&id), Vec::<String>::new());
    assert_eq!(NODES.map(|node| cluster.pid(node)), pids, "no node was started again");
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    assert_eq!(cluster.logged(&["panicked"]), 0);
    job.check();
}

#[test]
fn strangers_are_refused_and_told_why_while_a_job_runs_on() {
    let job = Fraud::new("cluster-strangers", 16_000, 15);
    let visited = Visited::start("strangers");
    while_a_job_runs(&visited, &job, 3_000, || {
        // Told once in a while, so that nobody can fill the log.
        visited.told(&["garbage was dropped: the first packet of a connection cannot be read"], || {
            visited.told(&["garbage was dropped: it is no QUIC of version 1"], || visited.garbage(&mut Random::new(1)))
        });
        visited.nodes_that_do_not_belong();
        visited.round(1, &mut Random::new(2));
    });
}

#[test]
#[ignore = "takes a minute: cargo xtask torture"]
fn strangers_of_all_kinds_come_for_a_minute_while_a_job_runs_on() {
    let job = Fraud::new("cluster-strangers-long", 200_000, 16);
    let visited = Visited::start("strangers-long");
    while_a_job_runs(&visited, &job, 2_500, || {
        let (began, mut random) = (Instant::now(), Random::new(3));
        visited.nodes_that_do_not_belong();
        let rounds = (1..).take_while(|round| {
            visited.round(*round, &mut random);
            began.elapsed() < Duration::from_secs(60)
        });
        println!("{} rounds of strangers", rounds.count());
    });
}
