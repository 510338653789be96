//! Clusters of real processes: this very program is the node, with a job that tells when records flow. Used by the
//! benchmarks `startup`, `recovery` and `rescale`.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use millstream::client::{Cluster as Client, JobClient, Submission};
use millstream::prelude::*;

use crate::beats::{Beats, PATIENCE, Speaker};
use crate::cases::{self, Case};
use crate::holding::holding;

/// Keys of the job.
const KEYS: u64 = 10_000;

/// The `main` of a benchmark of clusters: a node when it is started as one, otherwise the benchmark.
#[must_use]
pub fn main(cases: &[Case]) -> ExitCode {
    let first = std::env::args().nth(1).unwrap_or_default();
    if !["cluster", "node"].contains(&first.as_str()) {
        return cases::main(cases);
    }
    match millstream::main(millstream::jobs![beating, holding]) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Numbers for ever, summed by key; every subtask of the last operator says over UDP that it works, under a number of its own
/// that no earlier attempt had.
fn beating(env: &Environment) -> millstream::Result<()> {
    let port: u16 = env.parameters().required("port")?.parse().map_err(|_| millstream::Error::usage("--port N"))?;
    env.from_source("numbers", DataGeneratorSource::unbounded(|n| n))
        .uid("numbers")
        .key_by(|n| n % KEYS)
        .reduce(|sum, n| *sum = sum.wrapping_add(n))
        .uid("sums")
        .rebalance()
        .process(Beat(Speaker::new(port)))
        .discard()
        .uid("out");
    Ok(())
}

#[derive(Clone)]
struct Beat(Speaker);

impl ProcessFunction for Beat {
    type In = u64;
    type Out = u64;

    fn process(&mut self, _sum: u64, _cx: &mut ProcessContext<'_, u64>) -> Result<(), PortError> {
        self.0.record(0);
        Ok(())
    }
}

/// A cluster of one job manager and two task managers of two slots.
pub struct Cluster {
    launcher: Child,
    lines: Receiver<String>,
    /// Process ids of the nodes: the job manager first.
    pub nodes: Vec<u32>,
    /// What it says of itself: milliseconds until all nodes were there.
    pub ready_ms: f64,
    client: Client,
    /// What its subtasks say.
    pub beats: Beats,
}

fn failed(error: &dyn std::fmt::Display) -> String {
    error.to_string()
}

impl Cluster {
    /// Starts one in a folder, with nodes that nobody starts again.
    ///
    /// # Errors
    /// When it is not ready in time.
    pub fn start(folder: &Path) -> Result<Self, String> {
        Self::start_with(folder, &["--no-restart"])
    }

    /// Starts one in a folder, with nodes that are started again when they end.
    ///
    /// # Errors
    /// When it is not ready in time.
    pub fn start_restarting(folder: &Path) -> Result<Self, String> {
        Self::start_with(folder, &[])
    }

    fn start_with(folder: &Path, flags: &[&str]) -> Result<Self, String> {
        let file = folder.join("cluster.toml");
        std::fs::write(&file, cluster_file(folder)?).map_err(|error| failed(&error))?;
        let program = std::env::current_exe().map_err(|error| failed(&error))?;
        let mut command = Command::new(program);
        command.args(["cluster", "--log", "error", "--config"]).arg(&file).args(flags);
        let mut launcher =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(|error| failed(&error))?;
        let (tell, lines) = channel();
        let stdout = launcher.stdout.take().ok_or("no output")?;
        std::thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).for_each(|line| drop(tell.send(line)));
        });
        let mut nodes = Vec::new();
        let ready = loop {
            let line = lines.recv_timeout(PATIENCE).map_err(|_| "the cluster is not ready in time")?;
            match line.strip_prefix("ready ") {
                Some(ready) => break ready.to_string(),
                None => nodes.extend(line.rsplit_once("pid=").and_then(|(_, pid)| pid.parse::<u32>().ok())),
            }
        };
        let word = |name: &str| ready.split(' ').find_map(|word| word.strip_prefix(name)).unwrap_or_default();
        let client = Client::connect(word("rest=")).map_err(|error| failed(&error))?;
        let beats = Beats::new()?;
        let ready_ms = word("ms=").parse().unwrap_or(f64::NAN);
        Ok(Self { launcher, lines, nodes, ready_ms, client, beats })
    }

    /// Submits the job that tells when records flow.
    ///
    /// # Errors
    /// When it is refused.
    pub fn submit(&self, parallelism: u32, records_per_s: u64) -> Result<JobClient, String> {
        let beating = Submission::new("beating").parallelism(parallelism);
        self.run(beating.set("execution.checkpointing.interval", "200 ms"), records_per_s)
    }

    /// Submits the job that holds a row for each of so many keys.
    ///
    /// # Errors
    /// When it is refused.
    pub fn submit_holding(&self, parallelism: u32, records_per_s: u64, keys: u64) -> Result<JobClient, String> {
        let holding = Submission::new("holding").option("keys", keys.to_string()).parallelism(parallelism);
        self.run(holding.set("execution.checkpointing.interval", "1 s"), records_per_s)
    }

    fn run(&self, submission: Submission, records_per_s: u64) -> Result<JobClient, String> {
        let submission = submission.option("port", self.beats.port()?.to_string());
        let submission = submission.set("source.rate-limit", records_per_s.to_string());
        self.client.submit(submission).map_err(|error| failed(&error))
    }

    /// Waits until a subtask says that it works which has not been heard before.
    ///
    /// # Errors
    /// When none does in time.
    pub fn until_new_beat(&self, known: &mut Vec<u64>) -> Result<Instant, String> {
        let is_new = |heard: crate::beats::Heard| (!known.contains(&heard.number)).then_some(heard.number);
        let (number, when) = self.beats.until("a record of a new subtask", is_new)?;
        known.push(number);
        Ok(when)
    }

    /// Kills a node.
    ///
    /// # Errors
    /// When that fails.
    pub fn kill(&self, node: usize) -> Result<(), String> {
        let pid = self.nodes.get(node).ok_or("no such node")?.to_string();
        let killed = Command::new("kill").args(["-9", &pid]).status().map_err(|error| failed(&error))?;
        if killed.success() { Ok(()) } else { Err(format!("kill {pid}: {killed}")) }
    }

    /// Anonymous memory of a node, in bytes.
    #[must_use]
    pub fn memory(&self, node: usize) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.nodes[node])).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok()).unwrap_or(f64::NAN) * 1_024.0
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = (self.launcher.kill(), self.launcher.wait());
        // Nodes have ended when nobody holds the other end.
        while self.lines.recv_timeout(PATIENCE).is_ok() {}
    }
}

fn free_ports(count: usize) -> Result<Vec<u16>, String> {
    let sockets: Vec<UdpSocket> =
        (0..count).map(|_| UdpSocket::bind("127.0.0.1:0")).collect::<Result<_, _>>().map_err(|error| failed(&error))?;
    sockets.iter().map(|socket| Ok(socket.local_addr().map_err(|error| failed(&error))?.port())).collect()
}

/// As the example, with ports that are free.
fn cluster_file(folder: &Path) -> Result<String, String> {
    let ports = free_ports(3)?;
    let rest = TcpListener::bind("127.0.0.1:0").and_then(|bound| bound.local_addr()).map_err(|error| failed(&error))?;
    let place = |name: &str| folder.join(name).display().to_string();
    let mut text = format!(
        "cluster.job-managers = \"127.0.0.1:{}\"\nexecution.checkpointing.dir = \"{}\"\n[nodes.a-job-manager]\nnode.roles = \"job-manager\"\nnode.address = \"127.0.0.1:{}\"\nprocess.working-dir = \"{}\"\nrest.port = {}\n",
        ports[0],
        place("checkpoints"),
        ports[0],
        place("jm"),
        rest.port()
    );
    for (number, port) in ports.iter().enumerate().skip(1) {
        text.push_str(&format!(
            "[nodes.task-manager-{number}]\nnode.roles = \"task-manager\"\nnode.address = \"127.0.0.1:{port}\"\nprocess.working-dir = \"{}\"\ntaskmanager.numberOfTaskSlots = 2\n",
            place(&format!("tm{number}"))
        ));
    }
    Ok(text)
}
