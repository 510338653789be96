//! A sink that stops for a while: the job waits with bounded queues, checkpoints go on, and then so does everything.
//! Alone in its process, whose memory it measures.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use millstream_actors::launch::Launched;

#[path = "support/engine.rs"]
mod engine;
use engine::*;

/// Bytes of anonymous memory of this process.
fn anonymous_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("it is there");
    line.split_whitespace().nth(1).and_then(|kilobytes| kilobytes.parse::<u64>().ok()).expect("a number") << 10
}

async fn read_within(launched: &Launched, time: Duration) -> u64 {
    let before = records_in(launched, "numbers").await;
    tokio::time::sleep(time).await;
    records_in(launched, "numbers").await - before
}

/// Stops the sink for so long, with checkpoints and their time-out at these intervals.
async fn stop_the_sink(dir: &Path, stopped: Duration, interval_ms: i64, timeout_ms: u64) {
    let (env, tap, target) = (environment(2), Tap::bounded(4, u64::MAX / 2), Target::<(u64, u64)>::new());
    let numbers = Tapped { tap: tap.clone(), make: |split, n| (split * 1_000 + n % 1_000, n), batch: 1_000 };
    env.from_source("numbers", numbers)
        .uid("numbers")
        .key_by(|(key, _)| *key)
        .reduce(|one, other| one.1 = one.1.max(other.1))
        .uid("greatest")
        // Little is kept: what is measured is what waits.
        .filter(|(_, n)| n % 1_000 == 0)
        .rebalance()
        .sink_to("out", MemorySink(Arc::clone(&target)))
        .uid("out");
    let mut options = options(dir);
    options.checkpoints.interval_ms = Some(interval_ms);
    options.checkpoints.aligned_timeout_ms = Some(timeout_ms);
    options.checkpoints.tolerable_failed = Some(0);
    let launched = start(&env, options).await;
    until_completed(&launched.handle, 3).await;
    let second = Duration::from_millis(500);
    let speed = read_within(&launched, second).await;

    target.stalled.store(true, Ordering::SeqCst);
    let mut last = 0;
    until(async || {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = records_in(&launched, "numbers").await;
        std::mem::replace(&mut last, now) == now
    })
    .await;
    until_completed(&launched.handle, report(&launched.handle).await.checkpoints.counts().completed + 2).await;
    let (memory, completed) = (anonymous_bytes(), report(&launched.handle).await.checkpoints.counts().completed);
    tokio::time::sleep(stopped).await;
    let counts = report(&launched.handle).await.checkpoints.counts();
    assert!(counts.completed >= completed + 10, "{} checkpoints in {stopped:?}", counts.completed - completed);
    assert_eq!(counts.failed, 0);
    let grown = anonymous_bytes().saturating_sub(memory);
    assert!(grown < 16 << 20, "memory has grown by {grown} bytes while the sink stood still");
    assert_eq!(records_in(&launched, "numbers").await, last, "nothing was read meanwhile");

    target.stalled.store(false, Ordering::SeqCst);
    until(async || records_in(&launched, "numbers").await > last + speed).await;
    let after = read_within(&launched, second).await;
    assert!(after > speed / 3, "{after} records in half a second, {speed} before the sink stopped");
    launched.handle.cancel().await.expect("the job answers");
}

#[test]
fn a_sink_that_stops_costs_no_memory_and_no_checkpoint() {
    let dir = tempfile::tempdir().expect("a folder");
    run(stop_the_sink(dir.path(), Duration::from_secs(3), 100, 50));
}

#[test]
#[ignore = "takes more than a minute: the long form of the test before, with default settings"]
fn a_sink_that_stops_for_a_minute_costs_no_memory_and_no_checkpoint() {
    let dir = tempfile::tempdir().expect("a folder");
    let stopped = stop_the_sink(dir.path(), Duration::from_secs(60), 1_000, 1_000);
    new_runtime().block_on(async { tokio::time::timeout(Duration::from_secs(180), stopped).await.expect("in time") });
}
