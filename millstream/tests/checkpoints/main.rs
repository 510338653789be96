//! Checkpoints of whole jobs in one process: exactly once through failures, when they are taken, what they cost, what
//! is kept, and what happens when files are damaged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use millstream::prelude::*;
use millstream_runtime::checkpoint::coordinator::CheckpointStatus;
use millstream_runtime::element::{CheckpointingMode, Purpose};
use millstream_runtime::ids::CheckpointId;
use millstream_runtime::job::{JobStatus, RestartOptions};

#[path = "../support/engine.rs"]
mod engine;
use engine::*;

mod damage;
mod retention;
mod statistics;
use retention::{log_of, store_of};

/// Key, number, running count of the key.
type Counted = (u64, u64, u64);

/// Counts the records of each key; a key belongs to one split, so the counts are the same in every run.
fn counts(env: &Environment, tap: &Tap, trap: &Trap, target: &Arc<Target<Counted>>) {
    let trap = trap.clone();
    env.from_source("numbers", tapped(tap, |split, n| (split * 10 + n % 10, n)))
        .uid("numbers")
        .map(move |record| {
            trap.step();
            record
        })
        .key_by(|(key, _)| *key)
        .process(Count { count: ValueState::new("count") })
        .uid("count")
        .sink_to("out", MemorySink(Arc::clone(target)))
        .uid("out");
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

fn expected_counts(splits: u64, records: u64) -> Vec<Counted> {
    let mut counts = BTreeMap::<u64, u64>::new();
    let mut rows = Vec::new();
    for split in 0..splits {
        for n in 0..records {
            let key = split * 10 + n % 10;
            let count = counts.entry(key).or_default();
            *count += 1;
            rows.push((key, n, *count));
        }
    }
    rows.sort_unstable();
    rows
}

fn sorted(mut rows: Vec<Counted>) -> Vec<Counted> {
    rows.sort_unstable();
    rows
}

/// Lets more and more of the input in while the job runs, so that several checkpoints fall into it.
async fn pour(tap: &Tap, records: u64, steps: u64, pause_ms: u64) {
    for step in 1..=steps {
        tap.release_all((records * step / steps).max(tap.released()));
        tokio::time::sleep(std::time::Duration::from_millis(pause_ms)).await;
    }
}

#[test]
fn exactly_once_holds_over_random_failures_of_many_seeds() {
    run(async {
        for seed in 0..16 {
            let mut random = Random(seed);
            let dir = tempfile::tempdir().expect("a folder");
            let parallelism = u32::try_from(random.below(3) + 1).expect("small");
            let env = environment(parallelism);
            let (tap, target) = (Tap::new(4), Target::new());
            let traps: Vec<u64> = (0..random.below(4)).map(|_| random.below(4_000) + 1).collect();
            counts(&env, &tap, &Trap::at(&traps), &target);
            *lock(&target.faults) = Faults {
                prepare_fails: (random.below(2) == 0).then(|| random.below(12) + 1),
                prepare_fails_late: (random.below(2) == 0).then(|| random.below(12) + 1),
                commits_refused: random.below(3),
                commit_fails_late: (random.below(2) == 0).then(|| random.below(12) + 1),
                ..Faults::default()
            };
            let mut options = options(dir.path());
            options.checkpoints.interval_ms = Some(5);
            options.batch_rows = usize::try_from(random.below(60) + 2).expect("small");
            options.checkpoints.max_concurrent = u32::try_from(random.below(3) + 1).expect("small");
            options.fold_lag = [None, Some(1), Some(3)][usize::try_from(random.below(3)).expect("small")];
            options.state_memory = [None, Some(0), Some(4_000)][usize::try_from(random.below(3)).expect("small")];
            let launched = start(&env, options).await;
            pour(&tap, 500, 10, 5).await;
            // A savepoint in between, unless the job is just restarting.
            drop(launched.handle.trigger(Purpose::Savepoint, false, None).await);
            pour(&tap, 1_000, 20, 5).await;
            tap.close_all();
            finish(&launched).await;
            assert_eq!(sorted(target.rows()), expected_counts(4, 1_000), "seed {seed}, traps {traps:?}");
            assert_eq!(target.pending(), 0, "seed {seed}: a transaction was left open");
        }
    });
}

/// Its end runs once: at parallelism 1 it is in the chain of the keyed operator.
fn counts_into_one(parallelism: u32, tap: &Tap, target: &Arc<Target<Counted>>) -> Environment {
    let env = environment(parallelism);
    env.from_source("numbers", tapped(tap, |split, n| (split * 10 + n % 10, n)))
        .uid("numbers")
        .key_by(|(key, _)| *key)
        .process(Count { count: ValueState::new("count") })
        .uid("count")
        .sink_to("out", MemorySink(Arc::clone(target)))
        .uid("out")
        .set_parallelism(1);
    env
}

#[test]
fn keyed_state_is_the_newest_after_chains_were_cut_and_joined_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let (tap, target) = (Tap::new(2), Target::new());
    let options = options(dir.path());
    for (round, parallelism) in (1..).zip([1, 2, 1, 3, 1]) {
        crash(&counts_into_one(parallelism, &tap, &target), &options, async |launched| {
            assert_eq!(launched.restored_from.is_some(), round > 1);
            tap.release_all(round * 50);
            until(async || target.rows().len() as u64 == round * 100).await;
        });
    }
    tap.close_all();
    run(async { finish(&launch_when_free(&counts_into_one(2, &tap, &target), &options).await).await });
    assert_eq!(sorted(target.rows()), expected_counts(2, 250));
}

#[test]
fn at_least_once_loses_nothing_and_may_repeat() {
    run(async {
        for seed in 0..6 {
            let dir = tempfile::tempdir().expect("a folder");
            let env = environment(2);
            let (tap, target) = (Tap::new(4), Target::new());
            counts(&env, &tap, &Trap::at(&[700 + seed * 100, 2_500]), &target);
            let mut options = options(dir.path());
            options.checkpoints.interval_ms = Some(5);
            options.checkpoints.mode = CheckpointingMode::AtLeastOnce;
            options.checkpoints.max_concurrent = 2;
            let launched = start(&env, options).await;
            pour(&tap, 1_000, 15, 5).await;
            tap.close_all();
            finish(&launched).await;
            let seen: BTreeSet<(u64, u64)> = target.rows().iter().map(|(key, n, _)| (*key, *n)).collect();
            let wanted: BTreeSet<(u64, u64)> = expected_counts(4, 1_000).iter().map(|(key, n, _)| (*key, *n)).collect();
            assert_eq!(seen, wanted, "seed {seed}");
        }
    });
}

#[test]
fn a_checkpoint_that_takes_too_long_is_given_up_and_the_job_goes_on() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let env = environment(1);
        let (tap, target) = (Tap::new(1), Target::new());
        counts(&env, &tap, &Trap::default(), &target);
        let mut options = options(dir.path());
        options.checkpoints.timeout_ms = 60;
        let launched = start(&env, options).await;
        until_completed(&launched.handle, 1).await;
        target.stalled.store(true, Ordering::SeqCst);
        tap.release_all(100);
        until(async || report(&launched.handle).await.checkpoints.counts().failed >= 2).await;
        let failed = report(&launched.handle).await.checkpoints.latest_failed().cloned().expect("one has failed");
        let message = failed.failure_message.clone().expect("it says why");
        assert!(message.contains("expired") && message.contains("timeout"), "{message}");
        assert!(failed.end_to_end_duration_ms >= 60, "{failed:?}");
        target.stalled.store(false, Ordering::SeqCst);
        let completed = report(&launched.handle).await.checkpoints.counts().completed;
        until_completed(&launched.handle, completed + 1).await;
        tap.close_all();
        finish(&launched).await;
        assert_eq!(report(&launched.handle).await.restarts, 0);
        assert_eq!(sorted(target.rows()), expected_counts(1, 100));
    });
}

#[test]
fn one_failed_checkpoint_more_than_tolerable_fails_the_job() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let env = environment(1);
        let (tap, target) = (Tap::new(1), Target::new());
        counts(&env, &tap, &Trap::default(), &target);
        let mut options = options(dir.path());
        options.checkpoints.timeout_ms = 200;
        options.checkpoints.tolerable_failed = Some(2);
        options.restart = RestartOptions::None;
        let launched = start(&env, options).await;
        until_completed(&launched.handle, 1).await;
        target.stalled.store(true, Ordering::SeqCst);
        tap.release_all(100);
        let outcome = outcome(&launched).await;
        target.stalled.store(false, Ordering::SeqCst);
        assert_eq!(outcome.status, JobStatus::Failed);
        let failure = outcome.failure.expect("it says why");
        assert!(failure.contains("tolerable-failed-checkpoints") && failure.contains("3 in a row"), "{failure}");
        assert!(report(&launched.handle).await.checkpoints.counts().failed >= 3);
    });
}

#[test]
fn between_two_checkpoints_there_is_the_minimal_pause() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let env = environment(1);
        let (tap, target) = (Tap::new(1), Target::new());
        counts(&env, &tap, &Trap::default(), &target);
        let mut options = options(dir.path());
        options.checkpoints.interval_ms = Some(1);
        options.checkpoints.min_pause_ms = 60;
        let launched = start(&env, options).await;
        until_completed(&launched.handle, 6).await;
        let report = report(&launched.handle).await;
        let mut times: Vec<(i64, i64)> = report
            .checkpoints
            .history()
            .filter(|one| one.status == CheckpointStatus::Completed)
            .map(|one| (one.trigger_timestamp_ms, one.trigger_timestamp_ms + one.end_to_end_duration_ms))
            .collect();
        times.sort_unstable();
        assert!(times.windows(2).all(|pair| pair[1].0 - pair[0].1 >= 60), "{times:?}");
        launched.handle.cancel().await.expect("the job answers");
    });
}

#[test]
fn no_more_checkpoints_are_under_way_than_allowed() {
    run(async {
        for (allowed, pause_ms) in [(1, 0), (3, 0), (3, 1)] {
            let dir = tempfile::tempdir().expect("a folder");
            let env = environment(1);
            let (tap, target) = (Tap::new(1), Target::new());
            counts(&env, &tap, &Trap::default(), &target);
            let mut options = options(dir.path());
            options.checkpoints.interval_ms = Some(2);
            options.checkpoints.max_concurrent = allowed;
            options.checkpoints.min_pause_ms = pause_ms;
            let launched = start(&env, options).await;
            target.stalled.store(true, Ordering::SeqCst);
            tap.release_all(100);
            let wanted = if pause_ms > 0 { 1 } else { u64::from(allowed) };
            until(async || report(&launched.handle).await.checkpoints.counts().in_progress == wanted).await;
            for _ in 0..30 {
                let pending = report(&launched.handle).await.checkpoints.counts().in_progress;
                assert!(pending <= wanted, "{pending} instead of {wanted}");
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            target.stalled.store(false, Ordering::SeqCst);
            tap.close_all();
            finish(&launched).await;
            assert_eq!(sorted(target.rows()), expected_counts(1, 100));
        }
    });
}

#[test]
fn a_checkpoint_costs_what_has_changed_not_what_there_is() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let env = environment(2);
        let (tap, target) = (Tap::new(1), Target::new());
        env.from_source("numbers", tapped(&tap, |_, n| (n % 20_000, n)))
            .uid("numbers")
            .key_by(|(key, _)| *key)
            .process(Count { count: ValueState::new("count") })
            .uid("count")
            .filter(|_| false)
            .sink_to("out", MemorySink(Arc::clone(&target)))
            .uid("out");
        let mut options = options(dir.path());
        options.checkpoints.interval_ms = None;
        let launched = start(&env, options).await;
        let take = async || {
            launched.handle.trigger(Purpose::Checkpoint, false, None).await.expect("durable");
            report(&launched.handle).await.checkpoints.latest_completed().cloned().expect("just completed")
        };
        let all_read =
            async |records: u64| until(async || records_in(&launched, "Keyed Process").await >= records).await;
        until_status(&launched.handle, JobStatus::Running).await;
        tap.release_all(20_000);
        all_read(20_000).await;
        let full = take().await;
        tap.release_all(20_010);
        all_read(20_010).await;
        let delta = take().await;
        assert!(full.checkpointed_size_bytes > 100_000, "{full:?}");
        assert!(delta.checkpointed_size_bytes * 20 < full.checkpointed_size_bytes, "{delta:?}");
        assert!(delta.state_size_bytes > full.checkpointed_size_bytes, "the state is still all there: {delta:?}");
        let nothing = take().await;
        assert!(nothing.checkpointed_size_bytes <= delta.checkpointed_size_bytes, "{nothing:?}");
        launched.handle.cancel().await.expect("the job answers");
    });
}

#[test]
fn the_final_checkpoint_commits_the_rest_without_any_interval() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let env = environment(2);
        let (tap, target) = (Tap::bounded(4, 500), Target::new());
        counts(&env, &tap, &Trap::default(), &target);
        let mut options = options(dir.path());
        options.checkpoints.interval_ms = None;
        let launched = start(&env, options).await;
        finish(&launched).await;
        let report = report(&launched.handle).await;
        assert_eq!(report.checkpoints.counts().completed, 1);
        assert_eq!(report.checkpoints.latest_completed().expect("one").purpose, Purpose::Final);
        assert_eq!(sorted(target.rows()), expected_counts(4, 500));
    });
}

/// Gives a last word at the end of its input: the number of records it has seen.
#[derive(Clone)]
struct LastWord {
    seen: OperatorListState<u64>,
}

impl ProcessFunction for LastWord {
    type In = u64;
    type Out = u64;

    fn operator_states(&mut self, visit: &mut dyn FnMut(&mut dyn OperatorStateSlot)) {
        visit(&mut self.seen);
    }

    fn process(&mut self, _value: u64, _cx: &mut ProcessContext<'_, u64>) -> Result<(), PortError> {
        match self.seen.items.first_mut() {
            Some(seen) => *seen += 1,
            None => self.seen.items.push(1),
        }
        Ok(())
    }

    fn end_of_input(&mut self, cx: &mut ProcessContext<'_, u64>) -> Result<(), PortError> {
        cx.emit(self.seen.items.iter().sum());
        Ok(())
    }
}

#[test]
fn an_input_that_ended_early_says_its_last_word_once_while_others_fail_and_go_on() {
    run(async {
        for parallelism in [1, 2] {
            let dir = tempfile::tempdir().expect("a folder");
            let env = environment(parallelism);
            let (short, long, target) = (Tap::bounded(2, 300), Tap::new(2), Target::new());
            let trap = Trap::default();
            let steps = trap.clone();
            let words = env
                .from_source("short", tapped(&short, |split, n| split * 1_000_000 + n))
                .uid("short")
                .process(LastWord { seen: OperatorListState::split("seen") })
                .uid("words");
            let numbers = env.from_source("long", tapped(&long, |_, n| n)).uid("long").map(move |n| {
                steps.step();
                1_000_000 + n
            });
            words.union(&numbers).sink_to("out", MemorySink(Arc::clone(&target))).uid("out");
            let launched = start(&env, options(dir.path())).await;
            long.release_all(50);
            // The last words are committed, so they are behind a completed checkpoint.
            until(async || target.rows().iter().filter(|n| **n < 1_000_000).count() == parallelism as usize).await;
            for round in 2..5 {
                trap.spring();
                long.release_all(50 * round);
                until(async || report(&launched.handle).await.restarts == round - 1).await;
                let completed = report(&launched.handle).await.checkpoints.counts().completed;
                until_completed(&launched.handle, completed + 2).await;
            }
            long.close_all();
            finish(&launched).await;
            let (words, numbers): (Vec<u64>, Vec<u64>) = target.rows().into_iter().partition(|n| *n < 1_000_000);
            assert_eq!(words.len(), parallelism as usize, "{words:?}");
            assert_eq!(words.iter().sum::<u64>(), 600);
            assert_eq!(numbers.len(), 400);
        }
    });
}

#[test]
fn a_checkpoint_can_be_asked_for_and_is_answered_when_it_is_durable() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let env = environment(2);
        let (tap, target) = (Tap::new(2), Target::new());
        counts(&env, &tap, &Trap::default(), &target);
        let mut options = options(dir.path());
        options.checkpoints.interval_ms = None;
        let launched = start(&env, options).await;
        until_status(&launched.handle, JobStatus::Running).await;
        for expected in 1..4 {
            let made = launched.handle.trigger(Purpose::Checkpoint, false, None).await.expect("durable");
            assert_eq!(made.checkpoint, CheckpointId(expected));
            assert_eq!(log_of(dir.path()).retained.last().map(|kept| kept.checkpoint), Some(made.checkpoint));
        }
        assert!(launched.handle.trigger(Purpose::Final, false, None).await.is_err());
        launched.handle.cancel().await.expect("the job answers");
        assert!(launched.handle.trigger(Purpose::Checkpoint, false, None).await.is_err());
    });
}
