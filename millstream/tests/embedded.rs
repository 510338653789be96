//! Jobs run whole, in this process: exactly once through failures, restarts, stops and other parallelisms.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millstream::prelude::*;
use millstream::stream::Parameters;
use millstream_actors::launch::{LaunchOptions, Launched, StartFrom, launch};
use millstream_runtime::element::Purpose;
use millstream_runtime::graph::JobGraph;
use millstream_runtime::graph::chaining::{PlanOptions, plan};
use millstream_runtime::job::{JobStatus, RestartOptions};
use millstream_state::blob::Location;

const KEYS: i64 = 100;

/// Fails once, when the counter reaches a number; shared over all attempts.
#[derive(Clone)]
struct Trap {
    seen: Arc<AtomicU64>,
    at: Arc<Vec<u64>>,
}

impl Trap {
    fn at(numbers: &[u64]) -> Self {
        Self { seen: Arc::default(), at: Arc::new(numbers.to_vec()) }
    }

    fn step(&self) {
        let seen = self.seen.fetch_add(1, Ordering::SeqCst) + 1;
        assert!(!self.at.contains(&seen), "the trap at {seen} was sprung");
    }
}

/// Sums the numbers per key and writes (key, sum) at the end of the input.
fn sums(out: &Path, numbers: i64, rate: Option<u64>, parallelism: u32, trap: &Trap) -> JobGraph {
    let env = Environment::new("sums", parallelism, Parameters::default());
    let trap = trap.clone();
    let source = from_sequence(0..=numbers - 1);
    let stream = match rate {
        Some(rate) => env.from_source("numbers", RateLimited::new(source, rate)),
        None => env.from_source("numbers", source),
    };
    stream
        .uid("numbers")
        .map(move |n| {
            trap.step();
            n
        })
        .key_by(|n| n % KEYS)
        .fold_to_end(|sum: &mut i64, n| *sum += n)
        .uid("sums")
        .sink_to("out", FileSink::json_lines(out))
        .uid("out");
    let options = PlanOptions { name: "sums".to_owned(), parallelism, max_parallelism: 128, chaining: true };
    plan(env.take_graph(), &options).expect("a valid graph")
}

fn place(text: &str) -> Location {
    Location::parse(text).expect("a location")
}

fn options(state: &Path) -> LaunchOptions {
    let mut options = LaunchOptions::new(state);
    options.checkpoints.interval_ms = Some(20);
    options.checkpoints.tolerable_failed = None;
    options.restart = RestartOptions::FixedDelay { attempts: 20, delay_ms: 1 };
    options.savepoint_dir = Some(state.join("savepoints").into());
    options.fold_lag = Some(1);
    options
}

fn read_sums(out: &Path) -> BTreeMap<i64, i64> {
    let mut sums = BTreeMap::new();
    for entry in std::fs::read_dir(out).expect("the output folder") {
        let path = entry.expect("readable").path();
        let visible = path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with('.'));
        if !visible {
            continue;
        }
        for line in std::fs::read_to_string(&path).expect("readable").lines() {
            let (key, sum): (i64, i64) = serde_json::from_str(line).expect("a pair");
            assert!(sums.insert(key, sum).is_none(), "key {key} was written twice");
        }
    }
    sums
}

fn expected(numbers: i64) -> BTreeMap<i64, i64> {
    let mut sums = BTreeMap::new();
    for n in 0..numbers {
        *sums.entry(n % KEYS).or_default() += n;
    }
    sums
}

async fn finish(launched: &Launched) {
    let outcome = launched.handle.outcome().await.expect("the job answers");
    assert_eq!(outcome.status, JobStatus::Finished, "{outcome:?}");
}

fn block_on<F: Future<Output = ()>>(future: F) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(60), future).await.expect("the job ends within a minute");
    });
}

#[test]
fn a_bounded_job_gives_its_result_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().join("out");
    block_on(async {
        let graph = sums(&out, 100_000, None, 2, &Trap::at(&[]));
        let launched = launch(graph, options(&dir.path().join("state"))).await.expect("launched");
        finish(&launched).await;
    });
    assert_eq!(read_sums(&out), expected(100_000));
}

#[test]
fn failures_of_subtasks_change_nothing_in_the_result() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().join("out");
    block_on(async {
        // All but the first two thirds of a second apart: many checkpoints are complete in between, on a busy machine too.
        let trap = Trap::at(&[1_000, 20_000, 40_000, 60_000]);
        let graph = sums(&out, 60_000, Some(30_000), 2, &trap);
        let launched = launch(graph, options(&dir.path().join("state"))).await.expect("launched");
        finish(&launched).await;
        let report = launched.handle.report().await.expect("a report");
        assert_eq!(report.restarts, 4);
        assert!(report.checkpoints.counts().completed > 5, "{:?}", report.checkpoints.counts());
        assert!(report.checkpoints.counts().restored >= 3, "{:?}", report.checkpoints.counts());
    });
    assert_eq!(read_sums(&out), expected(60_000));
}

#[test]
fn a_stopped_job_goes_on_from_its_savepoint_at_another_parallelism() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().join("out");
    block_on(async {
        let mut start_from = StartFrom::Latest;
        for (round, parallelism) in [2, 3, 1].into_iter().enumerate() {
            let graph = sums(&out, 60_000, Some(60_000), parallelism, &Trap::at(&[]));
            let options = LaunchOptions { start_from, ..options(&dir.path().join(format!("state-{round}"))) };
            let launched = launch(graph, options).await.expect("launched");
            tokio::time::sleep(Duration::from_millis(250)).await;
            let stopped = launched.handle.trigger(Purpose::StopWithSavepoint, false, None).await.expect("stopped");
            let savepoint = stopped.location.expect("a place");
            let outcome = launched.handle.outcome().await.expect("the job answers");
            assert_eq!(outcome.savepoint.as_ref(), Some(&savepoint));
            start_from = StartFrom::Savepoint(place(&savepoint));
        }
        let graph = sums(&out, 60_000, None, 4, &Trap::at(&[]));
        let options = LaunchOptions { start_from, ..options(&dir.path().join("state-last")) };
        finish(&launch(graph, options).await.expect("launched")).await;
    });
    assert_eq!(read_sums(&out), expected(60_000));
}

#[test]
fn a_drained_stop_gives_the_result_of_what_was_read() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().join("out");
    block_on(async {
        let graph = sums(&out, 10_000_000, Some(50_000), 2, &Trap::at(&[]));
        let launched = launch(graph, options(&dir.path().join("state"))).await.expect("launched");
        tokio::time::sleep(Duration::from_millis(200)).await;
        launched.handle.trigger(Purpose::StopWithSavepoint, true, None).await.expect("drained");
        finish(&launched).await;
    });
    assert_eq!(read_sums(&out).len(), usize::try_from(KEYS).expect("small"));
}

#[test]
fn a_cancelled_job_can_be_started_again_from_a_checkpoint_of_its_own() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().join("out");
    block_on(async {
        let graph = sums(&out, 60_000, Some(60_000), 2, &Trap::at(&[]));
        let launched = launch(graph, options(&dir.path().join("state"))).await.expect("launched");
        tokio::time::sleep(Duration::from_millis(200)).await;
        let savepoint = launched.handle.trigger(Purpose::Savepoint, false, None).await.expect("a savepoint");
        let outcome = launched.handle.cancel().await.expect("the job answers");
        assert_eq!(outcome.status, JobStatus::Canceled);
        let start_from = StartFrom::Savepoint(place(&savepoint.location.expect("a place")));
        let options = LaunchOptions { start_from, ..options(&dir.path().join("again")) };
        let graph = sums(&out, 60_000, None, 2, &Trap::at(&[]));
        finish(&launch(graph, options).await.expect("launched")).await;
    });
    assert_eq!(read_sums(&out), expected(60_000));
}
