//! A cluster of real processes on loopback: started by the launcher, asked over REST, killed by signals.
#![allow(clippy::disallowed_methods)]

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use millstream_runtime::ids::VertexId;
use serde_json::Value;

use super::support::rest::Rest;

/// What has not happened by then will not.
const PATIENCE: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(10);

/// What a cluster consists of.
pub struct Shape {
    pub job_managers: usize,
    pub task_managers: usize,
    pub slots: u32,
    /// Whether nodes that end are started again.
    pub restart: bool,
}

/// A running cluster.
pub struct Cluster {
    folder: PathBuf,
    program: PathBuf,
    launcher: Child,
    lines: Arc<Mutex<Vec<String>>>,
    printed: Arc<Printed>,
    servers: Vec<Rest>,
}

/// What the jobs of a cluster print, read by a thread that can be made to stop.
#[derive(Default)]
pub struct Printed {
    rows: Mutex<Vec<String>>,
    stopped: Mutex<bool>,
    goes_on: Condvar,
}

impl Printed {
    /// Stops reading, or goes on.
    pub fn stop(&self, stop: bool) {
        *self.stopped.lock().expect("no panic") = stop;
        self.goes_on.notify_all();
    }

    /// Rows so far.
    pub fn count(&self) -> usize {
        self.rows.lock().expect("no panic").len()
    }

    /// All rows so far, from now on without them.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.rows.lock().expect("no panic"))
    }

    fn push(&self, row: String) {
        let stopped = self.stopped.lock().expect("no panic");
        drop(self.goes_on.wait_while(stopped, |stopped| *stopped).expect("no panic"));
        self.rows.lock().expect("no panic").push(row);
    }
}

/// A node that no launcher looks after; it ends with this value.
pub struct Node(pub Child);

impl Drop for Node {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

/// Waits until something is there.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(POLL);
    }
}

/// Sends a signal to a process.
pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().expect("kill starts");
    assert!(sent.success(), "SIG{name} to {pid}: {sent}");
}

/// Whether a process is there.
pub fn is_alive(pid: u32) -> bool {
    // One that nobody has waited for is a zombie: it does nothing any more.
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// Ports that are free now.
pub fn free_ports(count: usize) -> Vec<u16> {
    let sockets: Vec<UdpSocket> = (0..count).map(|_| UdpSocket::bind("127.0.0.1:0").expect("a port is free")).collect();
    sockets.iter().map(|socket| socket.local_addr().expect("bound").port()).collect()
}

impl Cluster {
    /// Starts a cluster of this program in an empty folder, and waits until it is complete.
    pub fn start(name: &str, program: &Path, shape: &Shape) -> Self {
        Self::start_over(name, program, shape, "", "")
    }

    /// Starts a cluster whose checkpoints, and who leads, lie in this store, with more settings, one a line.
    pub fn start_over(name: &str, program: &Path, shape: &Shape, store: &str, settings: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cluster-{name}"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("the folder is made");
        let servers: Vec<Rest> = (0..shape.job_managers).map(|_| Rest::on_free_port()).collect();
        fs::write(folder.join("cluster.toml"), file(shape, &servers, store, settings)).expect("the file is written");
        let mut command = Command::new(program);
        command.args(["cluster", "--config", "cluster.toml", "--log", "info"]).current_dir(&folder);
        if !shape.restart {
            command.arg("--no-restart");
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(File::create(folder.join("stderr.log")).expect("the log is created"));
        let mut launcher = command.spawn().expect("the program starts");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (stdout, read) = (launcher.stdout.take().expect("piped"), Arc::clone(&lines));
        let printed = Arc::new(Printed::default());
        let rows = Arc::clone(&printed);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                match line.starts_with("node ") || line.starts_with("ready ") {
                    true => read.lock().expect("no panic").push(line),
                    false => rows.push(line),
                }
            }
        });
        let cluster = Self { folder, program: program.to_path_buf(), launcher, lines, printed, servers };
        until("the cluster is ready", || cluster.line("ready "));
        cluster
    }

    /// The newest line that begins so.
    pub fn line(&self, start: &str) -> Option<String> {
        let lines = self.lines.lock().expect("no panic");
        lines.iter().rev().find(|line| line.starts_with(start)).cloned()
    }

    /// What jobs print.
    pub fn printed(&self) -> &Printed {
        &self.printed
    }

    /// The newest process of a node.
    pub fn pid(&self, node: &str) -> u32 {
        let line = self.line(&format!("node {node} pid=")).expect("it was started");
        line.rsplit_once('=').expect("it ends with it").1.parse().expect("a number")
    }

    /// The process of the launcher.
    pub fn launcher(&self) -> u32 {
        self.launcher.id()
    }

    /// Where its files lie.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where a node listens for others.
    pub fn address(&self, node: &str) -> SocketAddr {
        let text = fs::read_to_string(self.folder.join("cluster.toml")).expect("it was written");
        let (_, own) = text.split_once(&format!("[nodes.{node}]")).expect("it has the node");
        let (_, address) = own.split_once("node.address = \"").expect("an address");
        address.split_once('"').expect("it ends").0.parse().expect("an address")
    }

    /// How many lines of the log have all these parts.
    pub fn logged(&self, parts: &[&str]) -> usize {
        self.log().lines().filter(|line| parts.iter().all(|part| line.contains(part))).count()
    }

    /// Why the job failed, as far as it did; from REST.
    pub fn failures(&self, job: &str) -> Vec<String> {
        let told = until("the job tells its failures", || self.ask(&format!("/jobs/{job}/exceptions"))).1;
        let entries = told["exceptionHistory"]["entries"].as_array().cloned().unwrap_or_default();
        entries.iter().map(Value::to_string).collect()
    }

    /// What all nodes have logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("stderr.log")).unwrap_or_default()
    }

    #[allow(dead_code)]
    /// Runs a command of the program in the folder of the cluster, against the job manager of this number.
    pub fn command(&self, server: usize, arguments: &[&str]) -> std::process::Output {
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir(&self.folder).stdin(Stdio::null());
        // That is of the tests; the program would take it for a setting.
        command.env_remove("MILLSTREAM_REQUIRE_S3");
        command.env("MILLSTREAM_REST_ADDRESS", format!("http://127.0.0.1:{}", self.servers[server].port));
        command.output().expect("the program starts")
    }

    /// Submits a job and answers its id.
    pub fn submit(&self, job: &str, request: &Value) -> String {
        let leader = &self.servers[self.leader()];
        let accepted = leader.post(&format!("/jars/{job}/run"), request).expect("it is accepted");
        accepted["jobid"].as_str().expect("an id").to_string()
    }

    /// What the leader answers, and the number of the job manager that leads.
    pub fn ask(&self, path: &str) -> Option<(usize, Value)> {
        self.servers.iter().enumerate().find_map(|(number, server)| Some((number, server.get(path)?)))
    }

    /// The job manager that leads, by its number.
    pub fn leader(&self) -> usize {
        until("a job manager leads", || self.ask("/overview")).0
    }

    /// The state of a job.
    pub fn state(&self, job: &str) -> Option<String> {
        Some(self.ask(&format!("/jobs/{job}/status"))?.1["status"].as_str()?.to_string())
    }

    /// Waits until a job runs with so many subtasks in its widest vertex.
    pub fn until_parallelism(&self, job: &str, parallelism: u64) {
        until(&format!("the job runs with {parallelism} subtasks a vertex"), || {
            let (_, told) = self.ask(&format!("/jobs/{job}"))?;
            let vertices = told["vertices"].as_array()?;
            // The rules are read to their end early.
            let runs = |vertex: &Value| vertex["status"] == "RUNNING" || vertex["status"] == "FINISHED";
            let widest = vertices.iter().filter_map(|vertex| vertex["parallelism"].as_u64()).max()?;
            (told["state"] == "RUNNING" && widest == parallelism && vertices.iter().all(runs)).then_some(())
        });
    }

    /// Waits until a job runs with so many subtasks of these vertices.
    pub fn until_subtasks(&self, job: &str, wanted: &[(VertexId, u64)]) {
        until(&format!("the job runs with these subtasks: {wanted:?}"), || {
            let (_, told) = self.ask(&format!("/jobs/{job}"))?;
            let vertices = told["vertices"].as_array()?;
            let has = |(vertex, subtasks): &(VertexId, u64)| {
                let vertex = vertices.iter().find(|told| told["id"] == vertex.to_string());
                vertex.is_some_and(|vertex| vertex["parallelism"] == *subtasks)
            };
            (told["state"] == "RUNNING" && wanted.iter().all(has)).then_some(())
        });
    }

    /// The number of the newest completed checkpoint; 0 before the first.
    pub fn newest_checkpoint(&self, job: &str) -> Option<u64> {
        let (_, statistics) = self.ask(&format!("/jobs/{job}/checkpoints"))?;
        Some(statistics["latest"]["completed"]["id"].as_u64().unwrap_or(0))
    }

    /// Waits for a checkpoint that began after this call; false when the job has finished before.
    pub fn until_new_checkpoint(&self, job: &str) -> bool {
        let now = until("the job tells its checkpoints", || self.newest_checkpoint(job));
        until("a new checkpoint is complete", || {
            let is_new = self.newest_checkpoint(job)? > now + 1;
            match self.state(job)?.as_str() {
                "RUNNING" => is_new.then_some(true),
                "FINISHED" => Some(false),
                "FAILED" => panic!("the job failed:\n{}", self.log()),
                _ => None,
            }
        })
    }

    /// Waits until a job has finished.
    pub fn until_finished(&self, job: &str) {
        until("the job finishes", || match self.state(job)?.as_str() {
            "FINISHED" => Some(()),
            "FAILED" | "CANCELED" => panic!("the job ended otherwise:\n{}", self.log()),
            _ => None,
        });
    }
}

impl Drop for Cluster {
    /// A failed assertion leaves no process behind: nodes end with their launcher.
    fn drop(&mut self) {
        let _ = self.launcher.kill();
        let _ = self.launcher.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the cluster in {}\n{}", self.folder.display(), self.log());
        }
    }
}

/// The cluster file.
fn file(shape: &Shape, servers: &[Rest], store: &str, settings: &str) -> String {
    let ports = free_ports(shape.job_managers + shape.task_managers);
    let (leading, working) = ports.split_at(shape.job_managers);
    let managers: Vec<String> = leading.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let mut text = format!(
        "{settings}\njobmanager.adaptive-scheduler.submission.resource-stabilization-timeout = \"500 ms\"\njobmanager.adaptive-scheduler.executing.resource-stabilization-timeout = \"500 ms\"\ncluster.job-managers = \"{}\"\nexecution.checkpointing.dir = \"{store}checkpoints\"\nexecution.checkpointing.savepoint-dir = \"{store}savepoints\"\n",
        managers.join(";")
    );
    if shape.job_managers > 1 {
        text.push_str(&format!(
            "high-availability.type = \"object-store\"\nhigh-availability.storageDir = \"{store}ha\"\n"
        ));
    }
    for (number, (place, server)) in managers.iter().zip(servers).enumerate() {
        text.push_str(&format!(
            "[nodes.job-manager-{number}]\nnode.roles = \"job-manager\"\nnode.address = \"{place}\"\nprocess.working-dir = \"jm{number}\"\nrest.port = {}\n",
            server.port
        ));
    }
    for (number, port) in working.iter().enumerate() {
        text.push_str(&format!(
            "[nodes.task-manager-{number}]\nnode.roles = \"task-manager\"\nnode.address = \"127.0.0.1:{port}\"\nprocess.working-dir = \"tm{number}\"\ntaskmanager.numberOfTaskSlots = {}\n",
            shape.slots
        ));
    }
    text
}
