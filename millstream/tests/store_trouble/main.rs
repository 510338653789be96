//! Whole jobs over a checkpoint store that is slow, failing or full for a while: nothing is lost, the job goes on or is
//! started again, and whoever operates it is told why.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use millstream::prelude::*;
use millstream_actors::launch::{LaunchOptions, Launched};
use millstream_runtime::checkpoint::coordinator::CheckpointStatus;
use millstream_runtime::job::{JobStatus, RestartOptions};
use millstream_state::blob::{Stores, Switch, Trouble};

#[path = "../support/engine.rs"]
mod engine;
use engine::*;

/// Key, number, running count of the key.
type Counted = (u64, u64, u64);

const SPLITS: u64 = 2;

/// What was logged by all tests of this program.
fn log() -> &'static Mutex<Vec<u8>> {
    static LOG: OnceLock<Mutex<Vec<u8>>> = OnceLock::new();
    LOG.get_or_init(|| {
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(|| LogWriter);
        subscriber.with_max_level(tracing::Level::INFO).init();
        Mutex::default()
    })
}

struct LogWriter;

impl io::Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(log()).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether a line of the log has all these parts.
fn is_logged(parts: &[&str]) -> bool {
    String::from_utf8_lossy(&lock(log())).lines().any(|line| parts.iter().all(|part| line.contains(part)))
}

/// Counts the records of each key; a key belongs to one split, so the result does not depend on the order of splits.
fn counts(tap: &Tap, target: &Arc<Target<Counted>>) -> Environment {
    let env = environment(2);
    env.from_source("numbers", tapped(tap, |split, n| (split * 10 + n % 10, n)))
        .uid("numbers")
        .key_by(|(key, _)| *key)
        .process(Count { count: ValueState::new("count") })
        .uid("count")
        .sink_to("out", MemorySink(Arc::clone(target)))
        .uid("out");
    env
}

#[derive(Clone)]
struct Count {
    count: ValueState<u64, u64>,
}

impl KeyedProcessFunction for Count {
    type Key = u64;
    type In = (u64, u64);
    type Out = Counted;

    fn states(&mut self, visit: StateVisitor<'_, u64>) {
        visit(&mut self.count);
    }

    fn process(&mut self, (key, n): (u64, u64), cx: &mut KeyedContext<'_, u64, Counted>) -> Result<(), PortError> {
        let count = self.count.get_or_insert_with(cx, || 0);
        *count += 1;
        let count = *count;
        cx.emit((key, n, count));
        Ok(())
    }
}

fn expected(records: u64) -> Vec<Counted> {
    let mut counts = BTreeMap::<u64, u64>::new();
    let mut rows = Vec::new();
    for (split, n) in (0..SPLITS).flat_map(|split| (0..records).map(move |n| (split, n))) {
        let count = counts.entry(split * 10 + n % 10).or_default();
        *count += 1;
        rows.push((split * 10 + n % 10, n, *count));
    }
    rows.sort_unstable();
    rows
}

/// Runs a test, and keeps what is logged.
fn watched<F: Future<Output = ()>>(test: F) {
    log();
    run(test);
}

/// A job that has completed checkpoints, over a store whose trouble the test decides.
struct Running {
    launched: Launched,
    switch: Switch,
    tap: Tap,
    target: Arc<Target<Counted>>,
    _dir: tempfile::TempDir,
}

async fn running(change: impl FnOnce(&mut LaunchOptions)) -> Running {
    let dir = tempfile::tempdir().expect("a folder");
    let (tap, target, switch) = (Tap::new(SPLITS as usize), Target::new(), Switch::default());
    let mut options = LaunchOptions { stores: Stores::default().troubled(&switch), ..options(dir.path()) };
    // Time between two checkpoints, so that the trouble begins while none is being recorded: what is in doubt neither
    // completes nor fails until the store answers.
    options.checkpoints.min_pause_ms = 200;
    change(&mut options);
    let launched = start(&counts(&tap, &target), options).await;
    tap.release_all(300);
    until(async || target.len() == 300 * SPLITS as usize).await;
    let completed = report(&launched.handle).await.checkpoints.counts().completed;
    until_completed(&launched.handle, completed + 1).await;
    Running { launched, switch, tap, target, _dir: dir }
}

impl Running {
    async fn failed(&self) -> u64 {
        report(&self.launched.handle).await.checkpoints.counts().failed
    }

    /// Waits for so many more checkpoints that failed.
    async fn until_failed(&self, more: u64) {
        let before = self.failed().await;
        until(async || self.failed().await >= before + more).await;
    }

    /// Whether the statistics, which REST shows, name the cause of a failed checkpoint.
    async fn names_cause(&self, cause: &str) -> bool {
        let report = report(&self.launched.handle).await;
        let mut failed = report.checkpoints.history().filter(|one| one.status == CheckpointStatus::Failed);
        failed.any(|one| one.failure_message.as_deref().is_some_and(|message| message.contains(cause)))
    }

    /// Nothing became visible that no checkpoint covers; then the rest of the input, to its end.
    async fn ends_well(&self, records: u64) {
        self.tap.release_all(records);
        self.tap.close_all();
        finish(&self.launched).await;
        assert_eq!(sorted(&self.target), expected(records));
    }
}

#[test]
fn checkpoints_fail_while_the_store_does_and_the_job_goes_on_without_a_restart() {
    for (trouble, cause) in [(Trouble::Failing, "does not answer"), (Trouble::Full, "no space is left")] {
        watched(async {
            let job = running(|_| {}).await;
            job.switch.set(trouble);
            job.tap.release_all(800);
            job.until_failed(2).await;
            assert_eq!(job.target.len(), 600, "what no checkpoint covers is not visible");
            assert!(job.names_cause(cause).await, "{trouble:?}");
            assert!(is_logged(&["WARN", "checkpoint declined", cause]), "{trouble:?}");
            let report = report(&job.launched.handle).await;
            assert_eq!((report.status, report.restarts), (JobStatus::Running, 0));
            job.switch.set(Trouble::None);
            until(async || job.target.len() == 1_600).await;
            assert_eq!(engine::report(&job.launched.handle).await.restarts, 0);
            job.ends_well(1_000).await;
        });
    }
}

#[test]
fn with_no_failed_checkpoint_tolerated_the_job_restarts_until_the_store_is_back() {
    watched(async {
        let job = running(|options| {
            options.checkpoints.tolerable_failed = Some(0);
            options.restart = RestartOptions::FixedDelay { attempts: 100_000, delay_ms: 5 };
        })
        .await;
        job.switch.set(Trouble::Failing);
        job.tap.release_all(800);
        until(async || report(&job.launched.handle).await.restarts >= 3).await;
        let said = report(&job.launched.handle).await;
        let causes: Vec<&str> = said.exceptions.entries().map(|one| one.message.as_str()).collect();
        assert!(causes.iter().any(|cause| cause.contains("tolerable-failed-checkpoints")), "{causes:?}");
        assert!(causes.iter().any(|cause| cause.contains("does not answer")), "{causes:?}");
        assert!(is_logged(&["ERROR", "the job failed", "it is restarted"]));
        assert_eq!(job.target.len(), 600);
        job.switch.set(Trouble::None);
        until(async || job.target.len() == 1_600).await;
        job.ends_well(1_000).await;
    });
}

#[test]
fn a_job_that_may_not_restart_ends_and_says_that_the_store_was_the_cause() {
    watched(async {
        let job = running(|options| {
            options.checkpoints.tolerable_failed = Some(2);
            options.restart = RestartOptions::None;
        })
        .await;
        let before = job.failed().await;
        job.switch.set(Trouble::Full);
        until(async || job.failed().await >= before + 3).await;
        // The end of the job is a record too: it is written as soon as that is possible.
        job.switch.set(Trouble::None);
        let outcome = outcome(&job.launched).await;
        assert_eq!(outcome.status, JobStatus::Failed);
        let failure = outcome.failure.expect("it says why");
        for part in ["tolerable-failed-checkpoints", "no space is left"] {
            assert!(failure.contains(part), "{failure}");
        }
        assert_eq!(job.target.len(), 600);
    });
}

#[test]
fn a_slow_store_makes_checkpoints_slow_or_expire_and_nothing_else() {
    watched(async {
        let job = running(|options| options.checkpoints.timeout_ms = 150).await;
        let completed = report(&job.launched.handle).await.checkpoints.counts().completed;
        job.switch.set(Trouble::Slow(Duration::from_millis(5)));
        until_completed(&job.launched.handle, completed + 3).await;
        job.switch.set(Trouble::Slow(Duration::from_millis(300)));
        job.tap.release_all(800);
        job.until_failed(2).await;
        assert!(job.names_cause("expired").await || job.names_cause("timeout").await);
        let report = report(&job.launched.handle).await;
        assert_eq!((report.status, report.restarts), (JobStatus::Running, 0));
        job.switch.set(Trouble::None);
        until(async || job.target.len() == 1_600).await;
        job.ends_well(1_000).await;
    });
}
