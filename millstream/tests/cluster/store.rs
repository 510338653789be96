//! Clusters of real processes whose checkpoint store is full, read-only, slow, overloaded or away for a while: a file system
//! of its own, or an S3 server behind a proxy. Nothing is lost; jobs go on, or restart by themselves; REST and the log say
//! why.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::jobs::{Fraud, Tormented, request};
use super::partition::is_root;
use super::processes::{Cluster, Shape, until};
use super::s3_server;
use super::store_proxy::{Proxy, Trouble};

const MILLSTREAM: &str = env!("CARGO_BIN_EXE_millstream");
const SHAPE: Shape = Shape { job_managers: 1, task_managers: 2, slots: 2, restart: true };
const AVAILABLE: Shape = Shape { job_managers: 2, ..SHAPE };
/// The trouble of the long form.
const MINUTE: Duration = Duration::from_secs(60);

/// A job that runs while its store has trouble.
struct Troubled<'a> {
    cluster: &'a Cluster,
    job: &'a Fraud,
    tolerance: Tolerance,
    id: String,
}

/// Whether a job fails with its first failed checkpoint, as by default, or goes on whatever fails.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tolerance {
    None,
    Any,
}

impl<'a> Troubled<'a> {
    fn start(cluster: &'a Cluster, job: &'a Fraud, rate: u64, tolerance: Tolerance) -> Self {
        let mut request = request(&job.options(), 2, rate);
        let settings = &mut request["flinkConfiguration"];
        // Most of the time no checkpoint is being recorded, see `is_told`.
        settings["execution.checkpointing.min-pause"] = "300 ms".into();
        // Longer than requests to S3 are repeated, so that a checkpoint fails for its cause.
        settings["execution.checkpointing.timeout"] = "10 s".into();
        settings["restart-strategy.exponential-delay.max-backoff"] = "2 s".into();
        if tolerance == Tolerance::Any {
            settings["execution.checkpointing.tolerable-failed-checkpoints"] = "1000000".into();
        }
        let id = cluster.submit("fraud-detection", &request);
        assert!(cluster.until_new_checkpoint(&id));
        Self { cluster, job, tolerance, id }
    }

    /// Why checkpoints failed, as REST tells it.
    fn failed_checkpoints(&self) -> Vec<String> {
        let asked = || self.cluster.ask(&format!("/jobs/{}/checkpoints", self.id));
        let told = until("the job tells its checkpoints", asked).1;
        let history = told["history"].as_array().cloned().unwrap_or_default();
        let messages = history.iter().filter_map(|one: &Value| one["failure_message"].as_str());
        messages.map(str::to_string).collect()
    }

    /// Waits until REST tells that a checkpoint has failed for this cause; of a job that does not tolerate that, that it was
    /// restarted for it. False when its store fell ill while it recorded a checkpoint: then nobody knows whether the record
    /// was written, and nothing is decided before the store says so.
    fn is_told(&self, cause: &str) -> bool {
        let asked = ["not known whether its record was written", &self.id, cause];
        let before = self.cluster.logged(&asked);
        until(&format!("job {} tells its trouble: {cause}", self.id), || {
            let told = match self.tolerance {
                Tolerance::None => self.cluster.failures(&self.id),
                Tolerance::Any => self.failed_checkpoints(),
            };
            let told = told.iter().any(|message| message.contains(cause));
            told.then_some(true).or_else(|| (self.cluster.logged(&asked) > before).then_some(false))
        })
    }

    /// The store is well again: checkpoints are, the job ends, and its output is that of a run without trouble.
    fn ends_well(&self) {
        // One that went back to before its trouble has most of its input still to read.
        while self.cluster.until_new_checkpoint(&self.id) {}
        self.cluster.until_finished(&self.id);
        self.job.check();
    }
}

/// A small file system for checkpoints alone.
struct Disk(PathBuf);

impl Disk {
    fn mount(name: &str) -> Self {
        let disk = Self(Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("disk-{name}")));
        // What a killed test has left.
        drop(Command::new("umount").arg("-l").arg(&disk.0).output());
        fs::create_dir_all(&disk.0).expect("the folder is made");
        disk.run("mount", &["-t", "tmpfs", "-o", "size=64m", "tmpfs"]);
        disk
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let ran = Command::new(program).args(arguments).arg(&self.0).output().expect("it starts");
        assert!(ran.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
    }

    /// As the cluster's file calls it.
    fn store(&self) -> String {
        format!("{}/", self.0.display())
    }

    fn fill(&self) {
        let mut ballast = fs::File::create(self.0.join("ballast")).expect("there is room");
        while ballast.write_all(&[0; 4 << 10]).is_ok() {}
    }

    fn clear(&self) {
        fs::remove_file(self.0.join("ballast")).expect("it was filled");
    }

    fn make_read_only(&self) {
        until("no file is being written", || {
            let ran = Command::new("mount").args(["-o", "remount,ro"]).arg(&self.0).output().expect("it starts");
            ran.status.success().then_some(())
        });
    }

    fn make_writable(&self) {
        self.run("mount", &["-o", "remount,rw"]);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).output());
        let _ = fs::remove_dir(&self.0);
    }
}

/// One job that fails with its checkpoints and one that does not, while the disk is full and then read-only.
fn disk_trouble(name: &str, events: u64, rate: u64, lasting: Duration) {
    if !is_root() {
        println!("skipped: to mount a file system one must be root");
        return;
    }
    let jobs = [17, 18].map(|seed| Fraud::new(&format!("cluster-{name}-{seed}"), events, seed));
    let disk = Disk::mount(name);
    let cluster = Cluster::start_over(name, Path::new(MILLSTREAM), &SHAPE, &disk.store(), "");
    let strict = Troubled::start(&cluster, &jobs[0], rate, Tolerance::None);
    let patient = Troubled::start(&cluster, &jobs[1], rate, Tolerance::Any);
    for cause in ["No space left on device", "Read-only file system"] {
        let began = Instant::now();
        if cause.starts_with("No") {
            disk.fill()
        } else {
            disk.make_read_only()
        }
        // A disk that cannot be written can be read: nothing stays in doubt.
        for job in [&strict, &patient] {
            until("it is told", || job.is_told(cause).then_some(()));
        }
        let named = ["WARN", "checkpoint declined", &disk.store(), cause];
        until("the log names the store", || (cluster.logged(&named) > 0).then_some(()));
        std::thread::sleep(lasting.saturating_sub(began.elapsed()));
        if cause.starts_with("No") {
            disk.clear()
        } else {
            disk.make_writable()
        }
        for job in [&strict, &patient] {
            assert!(cluster.until_new_checkpoint(&job.id), "it was to run through it all");
        }
    }
    assert_eq!(cluster.failures(&patient.id), Vec::<String>::new());
    strict.ends_well();
    patient.ends_well();
}

#[test]
fn jobs_outlive_a_disk_of_checkpoints_that_is_full_and_one_that_is_read_only() {
    disk_trouble("disk", 30_000, 2_000, Duration::ZERO);
}

#[test]
#[ignore = "takes minutes: cargo xtask torture"]
fn jobs_outlive_a_disk_that_is_full_for_a_minute_and_read_only_for_another() {
    disk_trouble("disk-long", 200_000, 1_000, MINUTE);
}

/// What is wrong with S3, and how a checkpoint that fails for it says so; none where checkpoints only become slow.
type S3Trouble = (Trouble, Option<&'static str>);

const SLOW: S3Trouble = (Trouble::Slow(Duration::from_millis(100)), None);
const OVERLOADED: S3Trouble = (Trouble::Unavailable, Some("SlowDown"));
const AWAY: S3Trouble = (Trouble::Away, Some("check s3.endpoint and the way to it"));
const TOO_SLOW: S3Trouble = (Trouble::Slow(Duration::from_secs(15)), Some("expired"));

/// One job that fails with its checkpoints and one that does not, while S3 has one trouble after the other.
fn s3_trouble(name: &str, shape: &Shape, events: u64, rate: u64, troubles: &[S3Trouble], lasting: Duration) {
    let Some(server) = s3_server::shared() else { return };
    let proxy = Proxy::before(server.port());
    let jobs = [19, 20].map(|seed| Fraud::new(&format!("cluster-{name}-{seed}"), events, seed));
    let settings = format!(
        "s3.endpoint = \"{}\"\ns3.access-key = \"test\"\ns3.secret-key = \"test\"\ns3.path.style.access = true",
        proxy.endpoint()
    );
    let store = format!("{}/", server.location("cluster"));
    let cluster = Cluster::start_over(name, Path::new(MILLSTREAM), shape, &store, &settings);
    let strict = Troubled::start(&cluster, &jobs[0], rate, Tolerance::None);
    let patient = Troubled::start(&cluster, &jobs[1], rate, Tolerance::Any);
    let run_on = || {
        // One whose input has come to its end finishes with it.
        for job in [&strict, &patient] {
            cluster.until_new_checkpoint(&job.id);
        }
    };
    for &(trouble, cause) in troubles {
        let began = Instant::now();
        proxy.set(trouble);
        if let Some(cause) = cause {
            while ![&strict, &patient].iter().all(|job| job.is_told(cause)) {
                proxy.set(Trouble::None);
                run_on();
                proxy.set(trouble);
            }
            if trouble != TOO_SLOW.0 {
                let named = ["WARN", "checkpoint declined", &store, cause];
                until("the log names the store", || (cluster.logged(&named) > 0).then_some(()));
            }
        } else {
            run_on();
        }
        std::thread::sleep(lasting.saturating_sub(began.elapsed()));
        proxy.set(Trouble::None);
        run_on();
    }
    assert_eq!(cluster.failures(&patient.id), Vec::<String>::new());
    strict.ends_well();
    patient.ends_well();
}

#[test]
fn jobs_outlive_an_s3_that_is_slow_and_overloaded() {
    s3_trouble("s3", &SHAPE, 40_000, 2_000, &[SLOW, OVERLOADED], Duration::ZERO);
}

#[test]
#[ignore = "takes minutes: cargo xtask torture"]
fn jobs_and_who_leads_outlive_an_s3_that_is_in_each_trouble_for_a_minute() {
    let troubles = [SLOW, OVERLOADED, AWAY, TOO_SLOW];
    s3_trouble("s3-long", &AVAILABLE, 400_000, 1_000, &troubles, MINUTE);
}
