//! Streams of whole jobs in one process: how records are dealt out, watermarks and idleness over several inputs,
//! sources, chaining, and backpressure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use millstream::prelude::*;
use millstream_actors::launch::{Launched, launch};
use millstream_actors::metrics::Phase;
use millstream_runtime::credit::CreditLimit;
use millstream_runtime::graph::chaining::{PlanOptions, plan};

#[path = "../support/engine.rs"]
mod engine;
use engine::*;

mod partitioning;

async fn run_to_end(env: &Environment) -> Launched {
    let dir = tempfile::tempdir().expect("a folder");
    let launched = start(env, options(dir.path())).await;
    finish(&launched).await;
    launched
}

#[test]
fn a_union_holds_all_records_of_its_streams_also_of_one_twice() {
    run(async {
        for parallelism in [1, 3] {
            let env = environment(parallelism);
            let target = Target::<i64>::new();
            let small = env.from_sequence("small", 0..=99).uid("small");
            let large = env.from_sequence("large", 1_000..=1_199).uid("large").map(|n| n);
            small
                .union(&large)
                .union(&small)
                .filter(|n| n % 2 == 0)
                .sink_to("out", MemorySink(Arc::clone(&target)))
                .uid("out");
            run_to_end(&env).await;
            let mut wanted: Vec<i64> = (0..100).chain(0..100).chain(1_000..1_200).filter(|n| n % 2 == 0).collect();
            wanted.sort_unstable();
            assert_eq!(sorted(&target), wanted);
        }
    });
}

static ODD: OutputTag<String> = OutputTag::new("odd");

#[derive(Clone)]
struct Split;

impl ProcessFunction for Split {
    type In = i64;
    type Out = i64;

    fn process(&mut self, n: i64, cx: &mut ProcessContext<'_, i64>) -> Result<(), PortError> {
        if n % 2 == 0 {
            cx.emit(n)
        } else {
            cx.side(&ODD, n.to_string())
        }
        Ok(())
    }
}

#[test]
fn a_side_output_carries_exactly_what_was_tagged() {
    run(async {
        let env = environment(2);
        let (even, odd) = (Target::<i64>::new(), Target::<String>::new());
        let split = env.from_sequence("numbers", 0..=999).uid("numbers").process(Split).uid("split");
        split.side_output(&ODD).rebalance().sink_to("odd", MemorySink(Arc::clone(&odd))).uid("odd");
        split.sink_to("even", MemorySink(Arc::clone(&even))).uid("even");
        run_to_end(&env).await;
        assert_eq!(sorted(&even), (0..1_000).filter(|n| n % 2 == 0).collect::<Vec<_>>());
        let numbers: BTreeSet<i64> = odd.rows().iter().map(|n| n.parse().expect("a number")).collect();
        assert_eq!((odd.len(), numbers), (500, (0..1_000).filter(|n| n % 2 == 1).collect()));
    });
}

#[test]
fn chained_or_not_a_job_gives_the_same() {
    let mut results = Vec::new();
    let mut vertices = Vec::new();
    for chaining in [true, false] {
        run(async {
            let dir = tempfile::tempdir().expect("a folder");
            let env = environment(2);
            let target = Target::<(i64, i64)>::new();
            env.from_sequence("numbers", 0..=4_999)
                .uid("numbers")
                .map(|n| n * 3)
                .flat_map(|n, out| out.extend([n, n + 1]))
                .filter(|n| n % 2 == 0)
                .key_by(|n| n % 17)
                .fold_to_end(|sum: &mut i64, n| *sum += n)
                .uid("sums")
                .map(|row| row)
                .sink_to("out", MemorySink(Arc::clone(&target)))
                .uid("out");
            let graph = plan(env.take_graph(), &PlanOptions { chaining, ..plan_options(&env) }).expect("valid");
            vertices.push(graph.vertices.len());
            let launched = launch(graph, options(dir.path())).await.expect("launched");
            finish(&launched).await;
            results.push(sorted(&target));
        });
    }
    assert_eq!(vertices, [2, 7]);
    assert_eq!(results[0].len(), 17);
    assert_eq!(results[0], results[1]);
}

/// Tells the watermark that it has at each record.
#[derive(Clone)]
struct TellWatermark;

impl ProcessFunction for TellWatermark {
    type In = (u64, i64);
    type Out = (u64, i64, i64);

    fn process(&mut self, (n, time): (u64, i64), cx: &mut ProcessContext<'_, Self::Out>) -> Result<(), PortError> {
        cx.emit((n, time, cx.watermark()));
        Ok(())
    }
}

#[test]
fn the_watermark_is_the_greatest_time_less_the_bound_and_a_millisecond() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let (env, tap, target) = (environment(1), Tap::new(1), Target::<(u64, i64, i64)>::new());
        env.from_source("numbers", tapped(&tap, |_, n| (n, [100, 50, 200, 150][n as usize % 4] + n as i64 / 4 * 100)))
            .assign_watermarks(Watermarks::bounded_out_of_orderness(milliseconds(30)), |(_, time)| *time)
            .uid("numbers")
            .process(TellWatermark)
            .uid("tell")
            .sink_to("out", MemorySink(Arc::clone(&target)))
            .uid("out");
        let launched = start(&env, options(dir.path())).await;
        for n in 1..=8 {
            tap.release_all(n);
            until(async || target.len() as u64 == n).await;
        }
        tap.close_all();
        finish(&launched).await;
        let watermarks: Vec<i64> = target.rows().iter().map(|row| row.2).collect();
        assert_eq!(watermarks, [MIN_TIMESTAMP, 69, 69, 169, 169, 169, 169, 269]);
    });
}

/// A window job over two splits whose event time is under the control of the test: fired windows are committed.
fn windows(env: &Environment, tap: &Tap, target: &Arc<Target<(u64, i64)>>) {
    env.from_source("numbers", tapped(tap, |split, n| (split, n as i64 * 100)))
        .assign_watermarks(Watermarks::monotonous(), |(_, time)| *time)
        .uid("numbers")
        .key_by(|(split, _)| *split)
        .window(Tumbling::event_time(seconds(1)))
        .reduce(|one, other| one.1 = one.1.max(other.1))
        .uid("windows")
        .sink_to("out", MemorySink(Arc::clone(target)))
        .uid("out");
}

#[test]
fn the_slowest_split_holds_back_event_time_until_it_is_idle_or_has_ended() {
    run(async {
        for parallelism in [1, 2] {
            let dir = tempfile::tempdir().expect("a folder");
            let (env, tap, target) = (environment(parallelism), Tap::new(2), Target::<(u64, i64)>::new());
            windows(&env, &tap, &target);
            let launched = start(&env, options(dir.path())).await;
            tap.release(0, 100);
            tap.release(1, 11);
            until(async || records_in(&launched, "Window").await == 111).await;
            // Watermark 999: the first second of both splits, and nothing of the nine that split 0 is ahead.
            until(async || target.len() == 2).await;
            let completed = report(&launched.handle).await.checkpoints.counts().completed;
            until_completed(&launched.handle, completed + 3).await;
            assert_eq!(sorted(&target), [(0, 900), (1, 900)]);
            // An idle split is left out of the minimum.
            tap.say_idle(true);
            tap.release(0, 111);
            until(async || target.len() >= 2 + 10).await;
            // It counts again with its next record: what the others have passed stays passed.
            tap.say_idle(false);
            tap.release(1, 300);
            until(async || records_in(&launched, "Window").await == 111 + 300).await;
            tap.close(0);
            until(async || target.rows().contains(&(1, 28_900))).await;
            tap.close_all();
            finish(&launched).await;
            assert_eq!(target.rows().iter().filter(|(split, _)| *split == 0).count(), 12, "{:?}", sorted(&target));
        }
    });
}

#[test]
fn two_streams_of_different_event_time_meet_at_the_smaller_watermark() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let (env, fast, slow) = (environment(2), Tap::new(1), Tap::new(1));
        let target = Target::<(u64, i64)>::new();
        let source = |name: &str, tap: &Tap, key: u64| {
            env.from_source(name, tapped(tap, move |_, n| (key, n as i64 * 100)))
                .assign_watermarks(Watermarks::monotonous(), |(_, time)| *time)
                .uid(name)
        };
        source("fast", &fast, 1)
            .union(&source("slow", &slow, 2))
            .key_by(|(key, _)| *key)
            .window(Tumbling::event_time(seconds(1)))
            .reduce(|one, other| one.1 = one.1.max(other.1))
            .uid("windows")
            .sink_to("out", MemorySink(Arc::clone(&target)))
            .uid("out");
        let launched = start(&env, options(dir.path())).await;
        fast.release_all(500);
        slow.release_all(21);
        until(async || records_in(&launched, "Window").await == 521).await;
        until(async || target.len() == 4).await;
        let completed = report(&launched.handle).await.checkpoints.counts().completed;
        until_completed(&launched.handle, completed + 3).await;
        assert_eq!(sorted(&target), [(1, 900), (1, 1_900), (2, 900), (2, 1_900)]);
        // A stream that has ended holds nothing back.
        slow.close_all();
        until(async || target.len() == 4 + 1 + 47).await;
        fast.close_all();
        finish(&launched).await;
        assert_eq!(target.len(), 50 + 3);
    });
}

#[test]
fn a_stalled_sink_holds_the_source_back_in_bounded_queues_and_then_all_goes_on() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let (env, tap, target) = (environment(2), Tap::bounded(4, 50_000), Target::<u64>::new());
        env.from_source("numbers", tapped(&tap, |split, n| split * 100_000 + n))
            .uid("numbers")
            .rebalance()
            .map(|n| n)
            .rebalance()
            .sink_to("out", MemorySink(Arc::clone(&target)))
            .uid("out");
        let mut options = options(dir.path());
        options.credit = CreditLimit { batches: 3, bytes: 1 << 20 };
        options.batch_rows = 100;
        options.checkpoints.interval_ms = None;
        target.stalled.store(true, Ordering::SeqCst);
        let launched = start(&env, options).await;
        // Everything stands still when the source has waited for credit for a while.
        let read = async || readings(&launched, "numbers").await.iter().map(|one| one.records_in).sum::<u64>();
        let mut last = 0;
        until(async || {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let now = read().await;
            now > 0 && std::mem::replace(&mut last, now) == now
        })
        .await;
        let standing = read().await;
        // Two exchanges, 4 channels each, 3 batches and one overdrawn, and what is held at cursors and in buffers.
        let bound = 2 * 4 * (3 + 1) * 100 + 2_000;
        assert!(standing <= bound, "{standing} records were read while the sink stood still, more than {bound}");
        for vertex in ["Map", "out"] {
            for reading in readings(&launched, vertex).await {
                // Two channels a subtask, 3 batches and one overdrawn each.
                assert!(reading.queued_batches <= 2 * (3 + 1), "{vertex}: {reading:?}");
            }
        }
        let before = readings(&launched, "numbers").await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let after = readings(&launched, "numbers").await;
        for (before, after) in before.iter().zip(&after) {
            let waited = after.time_ns[Phase::BackPressured as usize] - before.time_ns[Phase::BackPressured as usize];
            assert!(waited > 200_000_000, "backpressured for {waited} ns of 300 ms");
        }
        target.stalled.store(false, Ordering::SeqCst);
        finish(&launched).await;
        let wanted: Vec<u64> = (0..4).flat_map(|split| (0..50_000).map(move |n| split * 100_000 + n)).collect();
        assert_eq!(sorted(&target), wanted);
    });
}

#[test]
fn every_moment_of_a_subtask_is_busy_idle_or_backpressured() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let (env, target) = (environment(2), Target::<i64>::new());
        env.from_source("numbers", RateLimited::new(from_sequence(0..=10_000_000), 20_000))
            .uid("numbers")
            .rebalance()
            .map(|n| n)
            .sink_to("out", MemorySink(Arc::clone(&target)))
            .uid("out");
        let launched = start(&env, options(dir.path())).await;
        until(async || target.written.load(Ordering::SeqCst) > 0).await;
        let sum = |time_ns: [u64; 3]| time_ns.iter().sum::<u64>();
        let start_ns = launched.stopwatch.elapsed_ns();
        let before = [readings(&launched, "numbers").await, readings(&launched, "Map").await].concat();
        tokio::time::sleep(Duration::from_millis(400)).await;
        let after = [readings(&launched, "numbers").await, readings(&launched, "Map").await].concat();
        let elapsed = launched.stopwatch.elapsed_ns() - start_ns;
        for (before, after) in before.iter().zip(&after) {
            let part = (sum(after.time_ns) - sum(before.time_ns)) as f64 / elapsed as f64;
            assert!((0.9..=1.1).contains(&part), "{part} of the time is accounted for: {after:?}");
        }
        launched.handle.cancel().await.expect("it answers");
    });
}

#[test]
fn a_rate_limit_is_kept_within_5_percent_in_a_running_job() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let (env, target) = (environment(2), Target::<i64>::new());
        env.from_source("numbers", RateLimited::new(from_sequence(0..=10_000_000), 10_000))
            .uid("numbers")
            .sink_to("out", MemorySink(Arc::clone(&target)))
            .uid("out");
        let launched = start(&env, options(dir.path())).await;
        until(async || target.written.load(Ordering::SeqCst) > 0).await;
        let (from, from_ns) = (target.written.load(Ordering::SeqCst), launched.stopwatch.elapsed_ns());
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let (to, to_ns) = (target.written.load(Ordering::SeqCst), launched.stopwatch.elapsed_ns());
        let rate = (to - from) as f64 / ((to_ns - from_ns) as f64 / 1e9);
        assert!((9_500.0..=10_500.0).contains(&rate), "{rate} records/s");
        launched.handle.cancel().await.expect("it answers");
    });
}

#[test]
fn a_collection_keeps_its_order_and_a_generator_makes_every_record_once() {
    run(async {
        let (env, letters, numbers) = (environment(3), Target::<String>::new(), Target::<u64>::new());
        let items: Vec<String> = (b'a'..=b'z').map(|letter| char::from(letter).to_string()).collect();
        env.from_collection("letters", items.clone())
            .uid("letters")
            .sink_to("letters-out", MemorySink(Arc::clone(&letters)))
            .set_parallelism(1)
            .uid("letters-out");
        env.from_source("generated", DataGeneratorSource::new(|n| n * n, 5_000))
            .uid("generated")
            .sink_to("numbers-out", MemorySink(Arc::clone(&numbers)))
            .uid("numbers-out");
        run_to_end(&env).await;
        assert_eq!(letters.rows(), items);
        assert_eq!(sorted(&numbers), (0..5_000).map(|n| n * n).collect::<Vec<_>>());
    });
}

#[test]
fn a_file_that_comes_while_the_job_runs_is_read_once_also_through_failures() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let input = dir.path().join("input");
        std::fs::create_dir_all(&input).expect("made");
        let write = |file: u64| {
            let lines: String = (0..100).map(|n| format!("{}\n", file * 1_000 + n)).collect();
            let hidden = input.join(format!(".{file}"));
            std::fs::write(&hidden, lines).expect("written");
            std::fs::rename(hidden, input.join(format!("{file}.jsonl"))).expect("shown");
        };
        write(1);
        let (env, target, trap) = (environment(2), Target::<u64>::new(), Trap::default());
        let steps = trap.clone();
        env.from_source("numbers", FileSource::<u64>::json_lines(&input).watch(10))
            .uid("numbers")
            .inspect(move |_| steps.step())
            .sink_to("out", MemorySink(Arc::clone(&target)))
            .uid("out");
        let launched = start(&env, options(&dir.path().join("state"))).await;
        until(async || target.len() == 100).await;
        for file in 2..=6 {
            trap.spring();
            write(file);
            until(async || target.len() as u64 == 100 * file).await;
        }
        assert!(report(&launched.handle).await.restarts >= 5);
        launched.handle.cancel().await.expect("it answers");
        let wanted: Vec<u64> = (1..=6).flat_map(|file| (0..100).map(move |n| file * 1_000 + n)).collect();
        assert_eq!(sorted(&target), wanted);
    });
}
