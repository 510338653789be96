//! One job of the kill test: its generated input and rules, its runs with their endings, and the check of its output.
//! Real processes are watched here, so real time is slept and measured.
#![allow(clippy::disallowed_methods)]

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::rest::Rest;

const MILLSTREAM: &str = env!("CARGO_BIN_EXE_millstream");
/// A run that neither runs nor ends for so long hangs.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(20);

/// How a run is to end.
#[derive(Debug)]
pub enum Ending {
    /// By itself.
    Finish,
    /// By SIGKILL, so long after the job began to run.
    Kill { after: Duration },
    /// By itself, at the n-th hit of a failpoint.
    Failpoint { name: &'static str, hit: u64 },
}

/// How a run has ended.
pub struct Run {
    /// Exit code 0.
    pub success: bool,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The last number seen.
    pub completed_checkpoints: u64,
    /// Whether it continued from a checkpoint; unknown when it ended before it could be asked.
    pub restored: Option<bool>,
    /// From the first sight of the running job to the end of the process.
    pub running: Duration,
    /// What it wrote to stderr.
    pub log: String,
}

/// Input, rules and output of one job.
pub struct Workload {
    root: PathBuf,
}

impl Workload {
    /// A fresh folder with transactions from a seed, and rules that block some of their users.
    pub fn generate(name: &str, events: u64, seed: u64) -> Self {
        let workload = Self { root: Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("torture-{name}")) };
        let _ = fs::remove_dir_all(&workload.root);
        fs::create_dir_all(&workload.root).expect("the folder is made");
        let (events, seed) = (events.to_string(), seed.to_string());
        let mut generate = Command::new(MILLSTREAM);
        generate.args(["generate", "transactions", "--files", "4", "--events", &events, "--seed", &seed, "--output"]);
        generate.arg(workload.path("input"));
        let made = generate.stdout(Stdio::null()).status().expect("the program starts");
        assert!(made.success(), "transactions are generated: {made}");
        workload.write_rules();
        workload
    }

    /// A place in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// One set from the beginning of time that blocks three users of the input, a bad line, and a later set.
    fn write_rules(&self) {
        let mut files: Vec<PathBuf> =
            fs::read_dir(self.path("input")).expect("the input").map(|file| file.expect("a file").path()).collect();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "jsonl"));
        files.sort();
        let text = fs::read(files.first().expect("an input file")).expect("the input is read");
        let lines = text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
        let lines: Vec<Value> = lines.filter(|line| line["user_id"].is_u64() && line["time"].is_string()).collect();
        let users: Vec<String> = lines.iter().take(3).map(|line| line["user_id"].to_string()).collect();
        let middle = lines[lines.len() / 2]["time"].as_str().expect("a time");
        let set = |from: &str, small_count: u32, users: &str| {
            format!(
                r#"{{"from":"{from}","max_transactions":10,"small_amount":"10.00","small_count":{small_count},"small_cities":3,"max_speed_kmh":900,"blocked_users":[{users}]}}"#
            )
        };
        let first = set("1970-01-01T00:00:00.000Z", 3, &users.join(","));
        let rules = format!("{first}\nno rule set\n{}\n", set(middle, 4, &users[0]));
        fs::write(self.path("rules.jsonl"), rules).expect("the rules are written");
    }

    /// The options of the job, as on a command line.
    pub fn options(&self) -> Vec<String> {
        let option = |name: &str, path: &str| [format!("--{name}"), self.path(path).display().to_string()];
        [option("input", "input"), option("output", "output"), option("rules", "rules.jsonl")].concat()
    }

    /// Runs the job over the same output as the runs before, until its ending.
    pub fn run(&self, parallelism: u64, rate: u64, ending: &Ending) -> Run {
        let rest = Rest::on_free_port();
        let log = self.path("stderr.log");
        let mut command = Command::new(MILLSTREAM);
        command.args(["run", "fraud-detection", "-p", &parallelism.to_string()]);
        command.args(["-D", &format!("rest.port={}", rest.port)]);
        command.args(["-D", &format!("source.rate-limit={rate}")]);
        command.args(["-D", "execution.checkpointing.interval=200ms", "--"]).args(self.options());
        command.current_dir(&self.root).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::create(&log).expect("the log is created"));
        if let Ending::Failpoint { name, hit } = ending {
            command.env("MILLSTREAM_FAILPOINT", format!("{name}:{hit}"));
        }
        let mut watch = Watch::new(command.spawn().expect("the program starts"), rest);
        let status = watch.until(ending, &log);
        Run {
            success: status.success(),
            signal: status.signal(),
            completed_checkpoints: watch.completed,
            restored: watch.restored,
            running: watch.running(),
            log: fs::read_to_string(&log).unwrap_or_default(),
        }
    }

    /// The checker must find the output equal, and each rule must have given an alert.
    pub fn check(&self) {
        let check = Command::new(checker())
            .args(self.options())
            .args(["--millstream", MILLSTREAM])
            .output()
            .expect("the checker starts");
        let text = String::from_utf8_lossy(&check.stdout).into_owned() + &String::from_utf8_lossy(&check.stderr);
        assert!(check.status.success(), "in {}: {text}", self.root.display());
        let summary = fs::read_to_string(self.path("output/summary.json")).expect("the summary is read");
        let summary: Value = serde_json::from_str(&summary).expect("the summary is JSON");
        for (rule, alerts) in summary["alerts"].as_object().expect("alerts of each rule") {
            assert!(alerts.as_u64() > Some(0), "no alert of {rule}: the test shows nothing about it");
        }
        assert_eq!(summary["rules_rejected"], 1);
    }
}

/// A running process, from its start to its end.
struct Watch {
    child: Child,
    rest: Rest,
    started: Instant,
    job: Option<(String, Instant)>,
    completed: u64,
    restored: Option<bool>,
}

impl Watch {
    fn new(child: Child, rest: Rest) -> Self {
        Self { child, rest, started: Instant::now(), job: None, completed: 0, restored: None }
    }

    /// Time since the job was seen running.
    fn running(&self) -> Duration {
        self.job.as_ref().map_or(Duration::ZERO, |(_, since)| since.elapsed())
    }

    /// Polls until the process has ended, by itself or by the kill.
    fn until(&mut self, ending: &Ending, log: &Path) -> ExitStatus {
        loop {
            if let Some(status) = self.child.try_wait().expect("the process can be waited for") {
                return status;
            }
            if self.job.is_none() {
                self.job = self.rest.running_job().map(|id| (id, Instant::now()));
            }
            if let Some((id, _)) = &self.job
                && let Some((completed, restored)) = self.rest.checkpoints(id)
            {
                self.completed = completed;
                self.restored = Some(restored > 0);
            }
            let hangs = self.started.elapsed() > PATIENCE;
            let due = matches!(ending, Ending::Kill { after } if self.job.is_some() && self.running() >= *after);
            if due || hangs {
                self.child.kill().expect("the process can be killed");
                let status = self.child.wait().expect("the process can be waited for");
                let text = fs::read_to_string(log).unwrap_or_default();
                assert!(!hangs, "the run has not ended within {PATIENCE:?}, waiting for {ending:?}:\n{text}");
                return status;
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Watch {
    /// A failed assertion leaves no process behind.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn checker() -> PathBuf {
    built("fraud-checker")
}

/// Another program of the workspace, beside the one under test, built anew when it is not of the present sources.
pub fn built(package: &str) -> PathBuf {
    let folder = Path::new(MILLSTREAM).parent().expect("the program lies in a folder");
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--quiet", "--package", package]);
    build.arg("--target-dir").arg(folder.parent().expect("the target folder"));
    if folder.ends_with("release") {
        build.arg("--release");
    }
    let built = build.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo starts");
    assert!(built.success(), "{package} is built: {built}");
    folder.join(package)
}
