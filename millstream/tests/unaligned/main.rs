//! Checkpoints that overtake rows: under full backpressure they complete, hold the rows in flight, and are restored at
//! any parallelism, exactly once.
// Functions that stand still sleep on their threads.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millstream::prelude::*;
use millstream_actors::job_master::report::JobReport;
use millstream_actors::launch::{LaunchOptions, Launched};
use millstream_runtime::checkpoint::coordinator::AckMetrics;
use millstream_runtime::credit::CreditLimit;
use millstream_runtime::element::Purpose;
use millstream_runtime::ids::CheckpointId;

#[path = "../support/engine.rs"]
mod engine;
use engine::*;

/// Splits of the input.
const SPLITS: u64 = 4;

/// Key, number, copy, and the running sum of the key.
type Summed = (u64, u64, u64, u64);

/// Key, number, copy.
type Copied = (u64, u64, u64);

/// Emits every record with the sum so far, and once more as it is.
#[derive(Clone)]
struct Sum {
    sum: ValueState<u64, u64>,
}

impl KeyedProcessFunction for Sum {
    type Key = u64;
    type In = (u64, u64, u64);
    type Out = Summed;

    fn states(&mut self, visit: StateVisitor<'_, u64>) {
        visit(&mut self.sum);
    }

    fn process(
        &mut self,
        (key, n, copy): (u64, u64, u64),
        cx: &mut KeyedContext<'_, u64, Summed>,
    ) -> Result<(), PortError> {
        let sum = self.sum.get(cx).copied().unwrap_or(0) + n * 3 + copy;
        self.sum.set(cx, sum);
        cx.emit((key, n, copy, sum));
        cx.emit((key, n, copy, 0));
        Ok(())
    }
}

/// Drops the copies that are as they were.
#[derive(Clone)]
struct Once;

impl ProcessFunction for Once {
    type In = Summed;
    type Out = Summed;

    fn process(&mut self, row: Summed, cx: &mut ProcessContext<'_, Summed>) -> Result<(), PortError> {
        if row.3 > 0 || row.1 == 0 && row.2 == 0 {
            cx.emit(row);
        }
        Ok(())
    }
}

/// Three copies of each number, summed by key.
fn summed(env: &Environment, tap: &Tap) -> DataStream<Summed> {
    env.from_source("numbers", tapped(tap, |split, n| (split * 7 + n % 7, n)))
        .uid("numbers")
        .flat_map(|(key, n), out| out.extend((0..3).map(|copy| (key, n, copy))))
        .uid("copies")
        .key_by(|(key, _, _)| *key)
        .process(Sum { sum: ValueState::new("sum") })
        .uid("sums")
}

/// Operators with cursors in every place: behind the source, behind a key, before the sink.
fn sums(parallelism: u32, tap: &Tap, target: &Arc<Target<Summed>>) -> Environment {
    let env = environment(parallelism);
    summed(&env, tap).rebalance().process(Once).uid("once").sink_to("out", MemorySink(Arc::clone(target))).uid("out");
    env
}

fn expected(records: u64) -> Vec<Summed> {
    let mut sums = BTreeMap::<u64, u64>::new();
    let mut rows = Vec::new();
    for (split, n, copy) in
        (0..SPLITS).flat_map(|split| (0..records).flat_map(move |n| (0..3).map(move |copy| (split, n, copy))))
    {
        let key = split * 7 + n % 7;
        let sum = sums.entry(key).or_default();
        *sum += n * 3 + copy;
        rows.extend(
            [(key, n, copy, *sum), (key, n, copy, 0)].into_iter().filter(|row| row.3 > 0 || row.1 + row.2 == 0),
        );
    }
    rows.sort_unstable();
    rows
}

/// The rows without the sums in between, and the last sum of each key.
fn without_order(rows: Vec<Summed>) -> (Vec<Copied>, BTreeMap<u64, u64>) {
    let mut sums = BTreeMap::<u64, u64>::new();
    for (key, _, _, sum) in &rows {
        let greatest = sums.entry(*key).or_default();
        *greatest = (*greatest).max(*sum);
    }
    let mut rows: Vec<Copied> = rows.into_iter().map(|(key, n, copy, _)| (key, n, copy)).collect();
    rows.sort_unstable();
    (rows, sums)
}

/// Small batches and little credit, so that a sink that stands still is felt at the source soon.
fn narrow(dir: &Path, aligned_timeout_ms: u64) -> LaunchOptions {
    let mut options = options(dir);
    options.credit = CreditLimit { batches: 2, bytes: 1 << 20 };
    options.batch_rows = 10;
    options.checkpoints.aligned_timeout_ms = Some(aligned_timeout_ms);
    options.checkpoints.history_size = 100;
    options
}

/// Records read so far, once nothing more is read: every queue is full up to the source.
async fn until_it_stands_still(launched: &Launched) -> u64 {
    let mut last = 0;
    until(async || {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let now = records_in(launched, "numbers").await;
        now > 0 && std::mem::replace(&mut last, now) == now
    })
    .await;
    last
}

/// Completed checkpoints that overtook rows, by number, with what all subtasks tell of each.
async fn overtaking(launched: &Launched) -> Vec<(CheckpointId, Vec<AckMetrics>)> {
    let report = report(&launched.handle).await;
    let told = |vertex: &millstream_runtime::checkpoint::coordinator::VertexStatistics| {
        vertex.subtasks.iter().flatten().map(|subtask| subtask.metrics).collect::<Vec<_>>()
    };
    let completed = report.checkpoints.history().filter(|one| one.failure_message.is_none());
    let completed = completed.filter(|one| one.num_acknowledged_subtasks == one.num_subtasks);
    completed
        .map(|one| (one.id, one.vertices.iter().flat_map(told).collect::<Vec<_>>()))
        .filter(|(_, told)| told.iter().map(|told| told.persisted_bytes).sum::<u64>() > 0)
        .collect()
}

async fn until_overtaking(launched: &Launched, count: usize) {
    until(async || overtaking(launched).await.len() >= count).await;
}

#[test]
fn under_full_backpressure_checkpoints_complete_and_hold_the_rows_in_flight() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let (tap, target) = (Tap::bounded(SPLITS as usize, 2_000), Target::new());
        target.stalled.store(true, Ordering::SeqCst);
        let launched = start(&sums(2, &tap, &target), narrow(dir.path(), 30)).await;
        let standing = until_it_stands_still(&launched).await;
        assert!(standing < SPLITS * 2_000, "the sink holds the source back");
        let before = report(&launched.handle).await.checkpoints.counts().completed;
        until_completed(&launched.handle, before + 10).await;
        assert_eq!(records_in(&launched, "numbers").await, standing, "nothing moved meanwhile");
        let report = report(&launched.handle).await;
        assert_eq!(report.checkpoints.counts().failed, 0);
        let seen = overtaking(&launched).await;
        let (_, told) = seen.first().expect("ten have completed");
        assert!(told.iter().all(|told| told.unaligned), "{told:?}");
        target.stalled.store(false, Ordering::SeqCst);
        finish(&launched).await;
        assert_eq!(sorted(&target), expected(2_000));
        assert_eq!(target.pending(), 0);
    });
}

#[test]
fn without_overtaking_a_checkpoint_waits_for_the_rows_before_it() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let (tap, target) = (Tap::bounded(SPLITS as usize, 1_000), Target::new());
        target.stalled.store(true, Ordering::SeqCst);
        let mut options = narrow(dir.path(), 30);
        options.checkpoints.aligned_timeout_ms = None;
        let launched = start(&sums(2, &tap, &target), options).await;
        until_it_stands_still(&launched).await;
        let before = report(&launched.handle).await.checkpoints.counts().completed;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let counts = report(&launched.handle).await.checkpoints.counts();
        assert_eq!((counts.completed, counts.in_progress), (before, 1));
        target.stalled.store(false, Ordering::SeqCst);
        finish(&launched).await;
        assert_eq!(sorted(&target), expected(1_000));
    });
}

#[test]
fn a_process_that_crashed_goes_on_from_rows_in_flight_exactly_once_at_any_parallelism() {
    for seed in 0..4 {
        let dir = tempfile::tempdir().expect("a folder");
        let (tap, target) = (Tap::new(SPLITS as usize), Target::new());
        let mut random = Random(seed);
        let mut restored = 0;
        let options = narrow(dir.path(), [0, 5, 20][seed as usize % 3]);
        for round in 1..=6 {
            // The same parallelism every other time.
            let parallelism = if round % 2 == 0 { 3 } else { u32::try_from(random.below(5) + 1).expect("small") };
            target.stalled.store(true, Ordering::SeqCst);
            crash(&sums(parallelism, &tap, &target), &options, async |launched| {
                restored += u64::from(launched.restored_from.is_some());
                tap.release_all(300 * round);
                until_overtaking(launched, 2).await;
                if round % 3 == 0 {
                    // Some of it goes through, and some more is in flight.
                    target.stalled.store(false, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(random.below(20))).await;
                    target.stalled.store(true, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(random.below(60))).await;
                }
            });
            target.stalled.store(false, Ordering::SeqCst);
        }
        run(async {
            tap.close_all();
            let launched = launch_when_free(&sums(2, &tap, &target), &options).await;
            finish(&launched).await;
        });
        assert_eq!(restored, 5, "each run but the first went on from a checkpoint");
        // At another parallelism, rows of a split may overtake those that an operator behind its source had not finished:
        // every row counts once, but the sums in between need not be those of the order of the split.
        assert_eq!(without_order(target.rows()), without_order(expected(1_800)), "seed {seed}");
        assert_eq!(target.pending(), 0);
    }
}

#[test]
fn a_job_that_fails_goes_on_from_rows_in_flight() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let (tap, target) = (Tap::bounded(SPLITS as usize, 1_500), Target::new());
        let launched = start(&sums(3, &tap, &target), narrow(dir.path(), 5)).await;
        for failure in 1..=4 {
            target.stalled.store(true, Ordering::SeqCst);
            let newest = overtaking(&launched).await.iter().map(|(id, _)| *id).max().unwrap_or_default();
            until(async || overtaking(&launched).await.iter().filter(|(id, _)| *id > newest).count() >= 2).await;
            lock(&target.faults).prepare_fails = Some(1);
            target.stalled.store(false, Ordering::SeqCst);
            until(async || report(&launched.handle).await.restarts >= failure).await;
        }
        finish(&launched).await;
        assert_eq!(sorted(&target), expected(1_500));
        assert_eq!(target.pending(), 0);
    });
}

/// The end of the job runs once: with one subtask of the others it is left in their chain, with more it says so itself.
fn sums_into_one(parallelism: u32, tap: &Tap, target: &Arc<Target<Summed>>) -> Environment {
    let env = environment(parallelism);
    let once = summed(&env, tap).process(Once).uid("once");
    if parallelism == 1 {
        once.sink_to("out", MemorySink(Arc::clone(target))).uid("out");
    } else {
        let once = once.set_parallelism(1);
        once.sink_to("out", MemorySink(Arc::clone(target))).uid("out").set_parallelism(1);
    }
    env
}

#[test]
fn rows_in_flight_find_their_edge_where_chains_are_cut_otherwise() {
    let dir = tempfile::tempdir().expect("a folder");
    let (tap, target) = (Tap::new(SPLITS as usize), Target::new());
    let options = narrow(dir.path(), 0);
    for (round, parallelism) in (1..).zip([1, 2, 1, 3]) {
        // What waits for the end that runs once is not overtaken, except within its chain.
        target.stalled.store(parallelism == 1, Ordering::SeqCst);
        crash(&sums_into_one(parallelism, &tap, &target), &options, async |launched| {
            assert_eq!(launched.restored_from.is_some(), round > 1);
            tap.release_all(500 * round);
            if parallelism == 1 {
                until_overtaking(launched, 2).await;
            } else {
                until_completed(&launched.handle, 1).await;
            }
        });
        target.stalled.store(false, Ordering::SeqCst);
    }
    run(async {
        tap.close_all();
        let launched = launch_when_free(&sums_into_one(2, &tap, &target), &options).await;
        finish(&launched).await;
    });
    assert_eq!(without_order(target.rows()), without_order(expected(2_000)));
    assert_eq!(target.pending(), 0);
}

/// Lets so many records pass, and holds the thread of the subtask at the next.
#[derive(Clone)]
struct Gate(Arc<AtomicU64>);

impl Gate {
    fn pass(&self) {
        let one_less = |left: u64| left.checked_sub(1);
        // Nothing else may be left on the thread that is held.
        tokio::task::block_in_place(|| {
            while self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_err() {
                std::thread::sleep(Duration::from_millis(1));
            }
        });
    }
}

#[test]
fn a_barrier_overtakes_what_waits_in_the_mailbox_of_a_busy_subtask() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let (env, tap, target) = (environment(1), Tap::bounded(1, 300), Target::<u64>::new());
        // The second batch is held in the middle.
        let gate = Gate(Arc::new(AtomicU64::new(15)));
        let held = gate.clone();
        env.from_source("numbers", tapped(&tap, |_, n| n))
            .uid("numbers")
            .rebalance()
            .map(move |n| {
                held.pass();
                n
            })
            .sink_to("out", MemorySink(Arc::clone(&target)))
            .uid("out");
        let mut options = narrow(dir.path(), 0);
        options.credit.batches = 8;
        options.checkpoints.interval_ms = None;
        let launched = start(&env, options).await;
        let read = until_it_stands_still(&launched).await;
        assert!((80..300).contains(&read), "{read} records fill the mailbox and no more");
        until(async || gate.0.load(Ordering::SeqCst) == 0).await;
        let opened = async {
            // Once the source has acknowledged, its barrier is in the mailbox, behind seven batches.
            let acknowledged =
                |report: &JobReport| report.checkpoints.history().map(|one| one.num_acknowledged_subtasks).next();
            until(async || acknowledged(&*report(&launched.handle).await) == Some(1)).await;
            gate.0.store(1_000, Ordering::SeqCst);
        };
        let (made, ()) = tokio::join!(launched.handle.trigger(Purpose::Checkpoint, false, None), opened);
        made.expect("it completes");
        let (_, told) = overtaking(&launched).await.pop().expect("it holds the rows of the mailbox");
        assert!(told.iter().all(|told| told.unaligned), "{told:?}");
        finish(&launched).await;
        let transactions = target.transactions();
        assert_eq!(transactions[0], (0..20).collect::<Vec<u64>>(), "no batch more was worked on before the barrier");
        assert_eq!(transactions.concat(), (0..300).collect::<Vec<u64>>());
    });
}

/// Windows without allowed lateness over event time of several splits.
fn windows(parallelism: u32, tap: &Tap, target: &Arc<Target<(u64, i64, u64)>>) -> Environment {
    let env = environment(parallelism);
    env.from_source("numbers", tapped(tap, |split, n| (split * 5 + n % 5, i64::try_from(n).expect("small") * 10, 1)))
        .assign_watermarks(Watermarks::monotonous(), |(_, time, _): &(u64, i64, u64)| *time)
        .uid("numbers")
        .rebalance()
        .map(|row| row)
        .key_by(|(key, _, _)| *key)
        .window(Tumbling::event_time(seconds(1)))
        .reduce(|one, other| {
            one.1 = one.1.max(other.1);
            one.2 += other.2;
        })
        .uid("windows")
        .rebalance()
        .sink_to("out", MemorySink(Arc::clone(target)))
        .uid("out");
    env
}

#[test]
fn rows_in_flight_are_never_late_after_a_restore() {
    let records = 6_000;
    for seed in 0..2 {
        let dir = tempfile::tempdir().expect("a folder");
        let (tap, target) = (Tap::new(SPLITS as usize), Target::new());
        let mut random = Random(seed);
        let options = narrow(dir.path(), 5);
        for round in 1..=4 {
            let parallelism = u32::try_from(random.below(4) + 1).expect("small");
            target.stalled.store(true, Ordering::SeqCst);
            crash(&windows(parallelism, &tap, &target), &options, async |launched| {
                tap.release_all(records * round / 4);
                until_overtaking(launched, 2).await;
            });
            target.stalled.store(false, Ordering::SeqCst);
        }
        run(async {
            tap.close_all();
            let launched = launch_when_free(&windows(2, &tap, &target), &options).await;
            finish(&launched).await;
        });
        let mut counts = BTreeMap::<(u64, u64), (i64, u64)>::new();
        for (split, n) in (0..SPLITS).flat_map(|split| (0..records).map(move |n| (split, n))) {
            let count = counts.entry((split * 5 + n % 5, n / 100)).or_default();
            *count = (count.0.max(i64::try_from(n).expect("small") * 10), count.1 + 1);
        }
        let mut wanted: Vec<_> = counts.into_iter().map(|((key, _), (time, count))| (key, time, count)).collect();
        wanted.sort_unstable();
        assert_eq!(sorted(&target), wanted, "seed {seed}");
    }
}

#[test]
fn a_savepoint_waits_for_the_rows_before_it() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let (tap, target) = (Tap::bounded(SPLITS as usize, 500), Target::new());
        target.stalled.store(true, Ordering::SeqCst);
        let launched = start(&sums(2, &tap, &target), narrow(dir.path(), 5)).await;
        until_overtaking(&launched, 1).await;
        let savepoint = launched.handle.trigger(Purpose::Savepoint, false, None);
        tokio::pin!(savepoint);
        let early = tokio::time::timeout(Duration::from_millis(100), &mut savepoint).await;
        assert!(early.is_err(), "it holds no rows in flight");
        target.stalled.store(false, Ordering::SeqCst);
        savepoint.await.expect("it is made");
        finish(&launched).await;
        assert_eq!(sorted(&target), expected(500));
    });
}
