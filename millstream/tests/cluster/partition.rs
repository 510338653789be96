//! A network of its own for each node, in network namespaces of Linux, so that one link between two nodes can be cut while
//! all others hold. That needs root: without it the test says that it is skipped.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::jobs::{Fraud, Tormented, request};
use super::processes::{Node, until};
use super::support::rest::Rest;

const MILLSTREAM: &str = env!("CARGO_BIN_EXE_millstream");
/// The job manager and two task managers.
const NODES: [&str; 3] = ["jm", "tm1", "tm2"];

/// Runs `ip` with these words.
fn ip(words: &str) -> bool {
    let status = Command::new("ip").args(words.split(' ')).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn must(words: &str) {
    assert!(ip(words), "ip {words}");
}

/// Namespaces that hang on a bridge in one of their own, as does this process.
struct Network {
    /// The process that it belongs to: its names and addresses are made of it, so two of them never meet.
    process: u32,
}

impl Network {
    fn address(&self, host: usize) -> Ipv4Addr {
        let [_, _, _, net] = self.process.to_be_bytes();
        Ipv4Addr::new(10, 213, net, u8::try_from(host).expect("few"))
    }

    fn node(&self, number: usize) -> Ipv4Addr {
        self.address(number + 1)
    }

    fn namespace(&self, node: &str) -> String {
        format!("ms{}{node}", self.process)
    }

    /// What test processes left that were killed: their addresses could be ours.
    fn sweep() {
        let links = fs::read_dir("/sys/class/net").expect("links are listed");
        let names = links.map(|link| link.expect("a link").file_name().to_string_lossy().into_owned());
        let owners = names.filter_map(|name| name.strip_prefix("ms")?.strip_suffix('r')?.parse().ok());
        for process in owners.filter(|process: &u32| !Path::new(&format!("/proc/{process}")).exists()) {
            drop(Self { process });
        }
    }

    fn new() -> Self {
        Self::sweep();
        let network = Self { process: std::process::id() };
        let hub = network.namespace("hub");
        must(&format!("netns add {hub}"));
        must(&format!("-n {hub} link add bridge type bridge"));
        must(&format!("-n {hub} link set bridge up"));
        for (number, node) in NODES.iter().enumerate() {
            let (own, port) = (network.namespace(node), format!("p{number}"));
            must(&format!("netns add {own}"));
            must(&format!("link add eth netns {own} type veth peer name {port} netns {hub}"));
            must(&format!("-n {hub} link set {port} master bridge"));
            must(&format!("-n {hub} link set {port} up"));
            must(&format!("-n {own} addr add {}/24 dev eth", network.node(number)));
            must(&format!("-n {own} link set eth up"));
            must(&format!("-n {own} link set lo up"));
        }
        // So that this process can ask the job manager.
        let outside = network.namespace("r");
        must(&format!("link add {outside} type veth peer name outside netns {hub}"));
        must(&format!("-n {hub} link set outside master bridge"));
        must(&format!("-n {hub} link set outside up"));
        must(&format!("addr add {}/24 dev {outside}", network.address(254)));
        must(&format!("link set {outside} up"));
        network
    }

    /// No packet gets from one of the task managers to the other any more, in either direction.
    fn cut(&self) {
        must(&format!("-n {} route add blackhole {}/32", self.namespace("tm1"), self.node(2)));
        must(&format!("-n {} route add blackhole {}/32", self.namespace("tm2"), self.node(1)));
    }

    fn heal(&self) {
        must(&format!("-n {} route del blackhole {}/32", self.namespace("tm1"), self.node(2)));
        must(&format!("-n {} route del blackhole {}/32", self.namespace("tm2"), self.node(1)));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        ip(&format!("link del {}", self.namespace("r")));
        for node in NODES.iter().chain(&["hub"]) {
            ip(&format!("netns del {}", self.namespace(node)));
        }
    }
}

fn start(network: &Network, folder: &Path, number: usize) -> Node {
    let node = NODES[number];
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &network.namespace(node), MILLSTREAM, "node", "--config", &format!("{node}.toml")]);
    command.args(["--log", "info", "--until-stdin-closes"]).current_dir(folder);
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    command.stderr(File::create(folder.join(format!("{node}.log"))).expect("the log is created"));
    Node(command.spawn().expect("ip starts"))
}

fn prepare(network: &Network) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cluster-partition");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("the folder is made");
    let made = Command::new(MILLSTREAM).args(["certs", "--output", "certs"]).args(NODES).current_dir(&folder).output();
    assert!(made.expect("the program starts").status.success());
    for (number, node) in NODES.iter().enumerate() {
        let role = if number == 0 { "job-manager" } else { "task-manager" };
        let (own, leader) = (network.node(number), network.node(0));
        let text = format!(
            "node.name = \"{node}\"\nnode.roles = \"{role}\"\nnode.address = \"{own}:6121\"\ncluster.job-managers = \"{leader}:6121\"\ntaskmanager.numberOfTaskSlots = 2\nprocess.working-dir = \"{node}\"\nexecution.checkpointing.dir = \"checkpoints\"\nrest.address = \"0.0.0.0\"\nsecurity.certificate-file = \"certs/{node}.pem\"\nsecurity.key-file = \"certs/{node}.key\"\nsecurity.authority-file = \"certs/ca.pem\"\n"
        );
        fs::write(folder.join(format!("{node}.toml")), text).expect("the file is written");
    }
    folder
}

#[test]
fn a_job_goes_on_when_the_link_between_two_task_managers_was_cut_and_holds_again() {
    if !is_root() {
        println!("skipped: network namespaces need root");
        return;
    }
    let job = Fraud::new("cluster-partition", 24_000, 14);
    let network = Network::new();
    let folder = prepare(&network);
    let _nodes: Vec<Node> = (0..NODES.len()).map(|number| start(&network, &folder, number)).collect();
    let rest = Rest::at(network.node(0), 8081);
    until("all slots are there", || rest.get("/overview").filter(|overview| overview["slots-total"] == 4));
    let accepted = rest.post("/jars/fraud-detection/run", &request(&job.options(), 3, 2_000)).expect("accepted");
    let id = accepted["jobid"].as_str().expect("an id").to_string();
    let completed = |least: u64| {
        until("checkpoints complete", || {
            let newest = rest.get(&format!("/jobs/{id}/checkpoints"))?["latest"]["completed"]["id"].as_u64()?;
            (newest >= least).then_some(newest)
        })
    };
    let newest = completed(2);
    network.cut();
    // Heartbeats of both with the job manager stay healthy: only the data channels tell.
    until("the job notices", || {
        let failures = rest.get(&format!("/jobs/{id}/exceptions"))?;
        (!failures["exceptionHistory"]["entries"].as_array()?.is_empty()).then_some(())
    });
    network.heal();
    completed(newest + 3);
    until("the job finishes", || {
        let status = rest.get(&format!("/jobs/{id}/status"))?;
        (status["status"] == "FINISHED").then_some(())
    });
    job.check();
}

pub fn is_root() -> bool {
    let user = Command::new("id").arg("-u").output().expect("id starts");
    String::from_utf8_lossy(&user.stdout).trim() == "0"
}
