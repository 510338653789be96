//! Jobs whose keyed state is many times what it may take in memory: exactly once through failures and at other parallelisms, and
//! a process that stays as small as it was told.
#![expect(clippy::disallowed_methods, reason = "a process that is measured is waited for")]

use std::sync::Arc;
use std::time::Duration;

use millstream::prelude::*;
use millstream_actors::launch::{LaunchOptions, Launched};
use millstream_runtime::element::Purpose;
use millstream_runtime::job::JobStatus;

#[path = "support/engine.rs"]
mod engine;

use engine::*;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Says in which process this is the one to be measured, and what its state may take.
const CHILD: &str = "MILLSTREAM_TEST_STATE_MEMORY";

/// Counts the records of a key beside a text that takes some memory.
#[derive(Clone)]
struct Visits {
    visits: ValueState<u64, (u32, String)>,
    trap: Trap,
}

impl KeyedProcessFunction for Visits {
    type Key = u64;
    type In = u64;
    type Out = (u64, u32);

    fn states(&mut self, visit: StateVisitor<'_, u64>) {
        visit(&mut self.visits);
    }

    fn process(&mut self, key: u64, cx: &mut KeyedContext<'_, u64, (u64, u32)>) -> Result<(), PortError> {
        self.trap.step();
        let (visits, text) = self.visits.get_or_insert_with(cx, || (0, format!("{key:0400}")));
        *visits += 1;
        let visits = *visits;
        assert_eq!(text.parse(), Ok(key), "the text of another key");
        cx.emit((key, visits));
        Ok(())
    }
}

fn job(tap: &Tap, keys: u64, trap: &Trap, sink: &Arc<Target<(u64, u32)>>, parallelism: u32) -> Environment {
    let env = environment(parallelism);
    // The keys come in another order each time.
    let key = move |split, n| (n * 7_919 + split * 13) % keys;
    env.from_source("keys", tapped(tap, key))
        .uid("keys")
        .key_by(|key| *key)
        .process(Visits { visits: ValueState::new("visits"), trap: trap.clone() })
        .uid("visits")
        .filter(|(_, visits)| *visits > 1)
        .sink_to("out", MemorySink(Arc::clone(sink)))
        .uid("out");
    env
}

async fn state_bytes(launched: &Launched) -> u64 {
    readings(launched, "Process").await.iter().map(|reading| reading.state_bytes).sum()
}

#[test]
fn a_state_of_many_times_the_limit_is_exact_through_failures_and_at_another_parallelism() {
    const KEYS: u64 = 20_000;
    const LIMIT: usize = 300_000;
    let dir = tempfile::tempdir().expect("a folder");
    let (tap, target, trap) = (Tap::new(2), Target::new(), Trap::default());
    // Both splits together give each key three times.
    let records = KEYS * 3 / 2;
    for (round, parallelism) in [2, 3].into_iter().enumerate() {
        run(async {
            let mut options = LaunchOptions { state_memory: Some(LIMIT), ..options(dir.path()) };
            options.batch_rows = 200;
            let launched = start(&job(&tap, KEYS, &trap, &target, parallelism), options).await;
            for quarter in 1..=4 {
                let until_record = records * (round as u64 * 4 + quarter) / 8;
                tap.release_all(until_record);
                let before = report(&launched.handle).await.restarts;
                if quarter > 1 {
                    trap.spring();
                    until(async || report(&launched.handle).await.restarts > before).await;
                }
                until_status(&launched.handle, JobStatus::Running).await;
                let completed = report(&launched.handle).await.checkpoints.counts().completed;
                until_completed(&launched.handle, completed + 2).await;
            }
            if round == 0 {
                // All of it in memory would be ten times as much.
                until(async || state_bytes(&launched).await < LIMIT as u64 * 2).await;
                launched.handle.trigger(Purpose::StopWithSavepoint, false, None).await.expect("stopped");
            } else {
                tap.close_all();
            }
            let outcome = outcome(&launched).await;
            assert_eq!(outcome.status, JobStatus::Finished, "{outcome:?}");
        });
    }
    let mut rows = target.rows();
    rows.sort_unstable();
    let mut seen = std::collections::BTreeMap::<u64, u32>::new();
    let mut wanted = Vec::new();
    for (split, n) in (0..2).flat_map(|split| (0..records).map(move |n| (split, n))) {
        let visits = seen.entry((n * 7_919 + split * 13) % KEYS).or_default();
        *visits += 1;
        if *visits > 1 {
            wanted.push(((n * 7_919 + split * 13) % KEYS, *visits));
        }
    }
    wanted.sort_unstable();
    assert_eq!(rows.len(), wanted.len());
    assert!(rows == wanted, "first difference: {:?}", rows.iter().zip(&wanted).find(|(row, wanted)| row != wanted));
}

/// Memory of this process that is not of files, in KiB.
fn anonymous_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("since Linux 4.5");
    line.trim().trim_end_matches("kB").trim().parse().expect("a number")
}

/// Runs in a process of its own, told by the environment what its state may take; prints the most memory it had.
#[test]
#[ignore = "the process that the test below measures"]
fn the_process_that_is_measured() {
    let Ok(limit) = std::env::var(CHILD) else { return };
    let keys = 800_000;
    let dir = tempfile::tempdir().expect("a folder");
    let (tap, target) = (Tap::bounded(2, keys / 2), Target::new());
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let watching = {
        let done = Arc::clone(&done);
        std::thread::spawn(move || {
            let mut most = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                most = most.max(anonymous_kib());
                std::thread::sleep(Duration::from_millis(5));
            }
            most
        })
    };
    run(async {
        let mut options = LaunchOptions { state_memory: limit.parse().ok(), ..options(dir.path()) };
        options.checkpoints.interval_ms = Some(100);
        finish(&start(&job(&tap, keys, &Trap::default(), &target, 2), options).await).await;
    });
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    println!("most={}", watching.join().expect("it only looks"));
}

fn most_memory_kib(limit: &str) -> u64 {
    let child = std::process::Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "the_process_that_is_measured", "--ignored", "--nocapture"])
        .env(CHILD, limit)
        // What is free is given back at once, so that what is measured is needed.
        .env("MIMALLOC_PURGE_DELAY", "0")
        .env("MIMALLOC_ALLOW_THP", "0")
        .output()
        .expect("started");
    let output = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(child.status.success(), "{output}{}", String::from_utf8_lossy(&child.stderr));
    let most = output.lines().find_map(|line| line.split_once("most=")).expect("it tells");
    most.1.trim().parse().expect("a number")
}

#[test]
fn a_process_stays_small_while_its_state_grows_to_many_times_the_limit() {
    let (limited, unlimited) = (most_memory_kib("10000000"), most_memory_kib("none"));
    assert!(unlimited > 250 << 10, "{unlimited} KiB without a limit: the state is too small for this test");
    println!("{limited} KiB with a limit of 10 MB, {unlimited} KiB without");
    assert!(limited * 3 < unlimited * 2, "{limited} KiB with a limit of 10 MB, {unlimited} KiB without");
}
