//! Failures of whole jobs in one process: restart strategies, sinks between preparation and commit, panics of user
//! code, crashes of the process, and what a job may start from.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millstream::prelude::*;
use millstream_actors::launch::{EarlierRun, LaunchOptions, StartFrom, earlier_run};
use millstream_runtime::element::Purpose;
use millstream_runtime::job::{JobStatus, RestartOptions};
use millstream_state::log::TerminalState;

#[path = "../support/engine.rs"]
mod engine;
use engine::*;

mod deployment;

fn sums(parallelism: u32, tap: &Tap, trap: &Trap, target: &Arc<Target<Summed>>) -> Environment {
    let env = environment(parallelism);
    let trap = trap.clone();
    env.from_source("numbers", tapped(tap, |split, n| (split * 7 + n % 7, n, n)))
        .uid("numbers")
        .map(move |record| {
            trap.step();
            record
        })
        .key_by(|(key, _, _)| *key)
        .reduce(|so_far, (_, n, _)| {
            so_far.1 = n;
            so_far.2 += n;
        })
        .uid("sums")
        .sink_to("out", MemorySink(Arc::clone(target)))
        .uid("out");
    env
}

#[test]
fn eight_splits_on_three_readers_are_read_once_each_through_failures() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let (tap, target) = (Tap::new(8), Target::new());
        let launched = start(&sums(3, &tap, &Trap::at(&[300, 1_100, 2_500]), &target), options(dir.path())).await;
        for records in [100, 200, 300, 400] {
            tap.release_all(records);
            until(async || target.len() as u64 == 8 * records).await;
        }
        tap.close_all();
        finish(&launched).await;
        assert_eq!(report(&launched.handle).await.restarts, 3);
        assert_eq!(sorted(&target), expected_sums(8, 400));
    });
}

#[test]
fn without_a_restart_strategy_the_first_failure_is_the_last() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let (tap, target) = (Tap::new(1), Target::new());
        tap.release_all(100);
        let options = LaunchOptions { restart: RestartOptions::None, ..options(dir.path()) };
        let launched = start(&sums(1, &tap, &Trap::at(&[50]), &target), options).await;
        let outcome = outcome(&launched).await;
        assert_eq!((outcome.status, outcome.refused), (JobStatus::Failed, false));
        assert!(outcome.failure.expect("it says why").contains("a trap was sprung"));
        assert_eq!(report(&launched.handle).await.restarts, 0);
        assert!(RestartOptions::default_for(false) == RestartOptions::None);
    });
}

#[test]
fn a_fixed_delay_restarts_so_often_and_after_so_long() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let (tap, target) = (Tap::new(1), Target::new());
        tap.release_all(100);
        let restart = RestartOptions::FixedDelay { attempts: 3, delay_ms: 50 };
        let options = LaunchOptions { restart, ..options(dir.path()) };
        let launched = start(&sums(1, &tap, &Trap::at(&[1, 2, 3, 4, 5, 6, 7]), &target), options).await;
        let outcome = outcome(&launched).await;
        assert_eq!(outcome.status, JobStatus::Failed);
        let report = report(&launched.handle).await;
        assert_eq!(report.restarts, 3);
        let times: Vec<i64> = report.exceptions.entries().map(|entry| entry.timestamp_ms).collect();
        assert_eq!(times.len(), 4, "each failure is in the history");
        let mut times = times;
        times.sort_unstable();
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 50), "{times:?}");
    });
}

#[test]
fn a_failure_rate_ends_a_job_that_fails_too_often() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let (tap, target) = (Tap::new(1), Target::new());
        tap.release_all(100);
        let restart = RestartOptions::FailureRate { max_failures_per_interval: 2, interval_ms: 60_000, delay_ms: 1 };
        let options = LaunchOptions { restart, ..options(dir.path()) };
        let launched = start(&sums(1, &tap, &Trap::at(&[1, 2, 3, 4, 5, 6]), &target), options).await;
        assert_eq!(outcome(&launched).await.status, JobStatus::Failed);
        assert_eq!(report(&launched.handle).await.restarts, 2);
    });
}

#[test]
fn exponential_delays_grow_from_restart_to_restart() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let (tap, target) = (Tap::bounded(1, 100), Target::new());
        let restart = RestartOptions::ExponentialDelay {
            immediate_restarts: 0,
            initial_ms: 20,
            max_ms: 200,
            multiplier: 2.0,
            jitter_factor: 0.0,
            reset_threshold_ms: 60_000,
            attempts_before_reset: None,
        };
        let options = LaunchOptions { restart, ..options(dir.path()) };
        let launched = start(&sums(1, &tap, &Trap::at(&[1, 2, 3, 4]), &target), options).await;
        finish(&launched).await;
        let report = report(&launched.handle).await;
        let mut times: Vec<i64> = report.exceptions.entries().map(|entry| entry.timestamp_ms).collect();
        times.sort_unstable();
        let pauses: Vec<i64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(report.restarts, 4);
        assert!(pauses.iter().zip([20, 40, 80]).all(|(pause, wanted)| *pause >= wanted), "{pauses:?}");
        assert_eq!(sorted(&target), expected_sums(1, 100));
        assert!(matches!(RestartOptions::default_for(true), RestartOptions::ExponentialDelay { .. }));
    });
}

/// Refuses one number.
#[derive(Clone)]
struct Refuse {
    number: u64,
    give_up: bool,
}

impl ProcessFunction for Refuse {
    type In = u64;
    type Out = u64;

    fn process(&mut self, value: u64, cx: &mut ProcessContext<'_, u64>) -> Result<(), PortError> {
        if value == self.number {
            return Err(match self.give_up {
                true => PortError::give_up("number 70 is beyond help"),
                false => PortError::fix_input("number 70 cannot be processed: take it out of the input"),
            });
        }
        cx.emit(value);
        Ok(())
    }
}

#[test]
fn errors_that_a_restart_cannot_cure_end_the_job_at_once() {
    for give_up in [false, true] {
        run(async {
            let dir = tempfile::tempdir().expect("a folder");
            let env = environment(2);
            let (tap, target) = (Tap::new(2), Target::new());
            tap.release_all(100);
            env.from_source("numbers", tapped(&tap, |_, n| n))
                .uid("numbers")
                .process(Refuse { number: 70, give_up })
                .uid("refuse")
                .sink_to("out", MemorySink(Arc::clone(&target)))
                .uid("out");
            let launched = start(&env, options(dir.path())).await;
            let outcome = outcome(&launched).await;
            assert_eq!((outcome.status, outcome.refused), (JobStatus::Failed, !give_up));
            assert!(outcome.failure.expect("it says why").contains("number 70"));
            assert_eq!(report(&launched.handle).await.restarts, 0);
        });
    }
}

/// Runs a job of 2 splits with 600 records each through one kind of fault of its sink, several times over.
fn with_faults(faults: impl Fn(u64) -> Faults) -> (Arc<Target<Summed>>, u64) {
    let (target, dir) = (Target::new(), tempfile::tempdir().expect("a folder"));
    let mut restarts = 0;
    run(async {
        let tap = Tap::new(2);
        let launched = start(&sums(2, &tap, &Trap::default(), &target), options(dir.path())).await;
        for round in 1..=6 {
            *lock(&target.faults) = faults(round);
            tap.release_all(100 * round);
            let rows = usize::try_from(200 * round).expect("small");
            until(async || target.len() == rows).await;
        }
        tap.close_all();
        finish(&launched).await;
        restarts = report(&launched.handle).await.restarts;
    });
    assert_eq!(sorted(&target), expected_sums(2, 600));
    assert_eq!(target.pending(), 0, "nothing is left open: {:?}", target.calls());
    (target, restarts)
}

#[test]
fn a_failure_before_or_after_a_preparation_loses_and_doubles_nothing() {
    let (_, restarts) = with_faults(|_| Faults { prepare_fails: Some(1), ..Faults::default() });
    assert_eq!(restarts, 6);
    let (target, restarts) = with_faults(|_| Faults { prepare_fails_late: Some(1), ..Faults::default() });
    assert_eq!(restarts, 6);
    assert!(target.calls().aborted >= 6, "what no checkpoint names is aborted: {:?}", target.calls());
}

#[test]
fn a_refused_commit_is_repeated_until_it_succeeds_without_a_restart() {
    let (target, restarts) = with_faults(|_| Faults { commits_refused: 1, ..Faults::default() });
    assert_eq!(restarts, 0);
    assert_eq!(target.calls().commit_failures, 6);
    let (target, restarts) = with_faults(|_| Faults { commit_fails_late: Some(1), ..Faults::default() });
    assert_eq!(restarts, 0);
    assert!(target.calls().recommits >= 6, "committing again is not committing twice: {:?}", target.calls());
}

#[test]
fn a_committer_that_panics_after_its_commit_restarts_the_job_and_commits_again() {
    let (target, restarts) = with_faults(|_| Faults { commit_panics_late: Some(1), ..Faults::default() });
    assert!(restarts >= 3, "{restarts}");
    assert!(target.calls().recommits >= 1, "{:?}", target.calls());
}

#[test]
fn a_transaction_that_is_lost_for_good_fails_the_job() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let (tap, target) = (Tap::new(1), Target::new());
        lock(&target.faults).commit_gives_up = true;
        let launched = start(&sums(1, &tap, &Trap::default(), &target), options(dir.path())).await;
        tap.release_all(100);
        let outcome = outcome(&launched).await;
        assert_eq!((outcome.status, outcome.refused), (JobStatus::Failed, false));
        assert!(outcome.failure.expect("it says why").contains("lost the transaction"));
    });
}

#[test]
fn a_plain_savepoint_commits_nothing_and_the_next_checkpoint_commits_it_all() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let (tap, target) = (Tap::new(1), Target::new());
        let mut options = options(dir.path());
        options.checkpoints.interval_ms = None;
        let launched = start(&sums(1, &tap, &Trap::default(), &target), options).await;
        until_status(&launched.handle, JobStatus::Running).await;
        tap.release_all(100);
        until(async || target.written.load(Ordering::SeqCst) == 100).await;
        launched.handle.trigger(Purpose::Savepoint, false, None).await.expect("durable");
        assert_eq!((target.len(), target.pending()), (0, 1));
        launched.handle.trigger(Purpose::Checkpoint, false, None).await.expect("durable");
        until(async || target.len() == 100).await;
        tap.close_all();
        finish(&launched).await;
        assert_eq!(sorted(&target), expected_sums(1, 100));
    });
}

#[test]
fn a_crashed_process_goes_on_exactly_once_at_any_parallelism() {
    for seed in 0..3 {
        let dir = tempfile::tempdir().expect("a folder");
        let (tap, target) = (Tap::new(4), Target::new());
        let mut random = Random(seed);
        for round in 1..=5 {
            let parallelism = u32::try_from(random.below(4) + 1).expect("small");
            let pause = Duration::from_millis(random.below(40));
            crash(&sums(parallelism, &tap, &Trap::default(), &target), &options(dir.path()), async |launched| {
                tap.release_all(100 * round - 50);
                until_completed(&launched.handle, 2).await;
                tap.release_all(100 * round);
                tokio::time::sleep(pause).await;
            });
        }
        run(async {
            tap.close_all();
            let launched = launch_when_free(&sums(2, &tap, &Trap::default(), &target), &options(dir.path())).await;
            finish(&launched).await;
            assert!(launched.restored_from.expect("it went on").contains("checkpoint"));
        });
        assert_eq!(sorted(&target), expected_sums(4, 500), "seed {seed}");
        assert_eq!(target.pending(), 0);
    }
}

#[test]
fn a_process_that_dies_before_its_first_checkpoint_goes_on_from_the_savepoint_it_was_given() {
    let dir = tempfile::tempdir().expect("a folder");
    let (tap, target) = (Tap::new(1), Target::new());
    let mut savepoint = None;
    run(async {
        let launched = start(&sums(1, &tap, &Trap::default(), &target), options(&dir.path().join("first"))).await;
        tap.release_all(100);
        until(async || target.len() == 100).await;
        let stopped = launched.handle.trigger(Purpose::StopWithSavepoint, false, None).await.expect("stopped");
        assert_eq!(outcome(&launched).await.status, JobStatus::Finished);
        savepoint = stopped.location;
    });
    let mut second = options(&dir.path().join("second"));
    second.start_from = StartFrom::Savepoint(place(savepoint));
    second.checkpoints.interval_ms = None;
    crash(&sums(2, &tap, &Trap::default(), &target), &second, async |launched| {
        until_status(&launched.handle, JobStatus::Running).await;
    });
    run(async {
        second.start_from = StartFrom::Latest;
        let launched = launch_when_free(&sums(2, &tap, &Trap::default(), &target), &second).await;
        assert!(launched.restored_from.clone().expect("it went on").contains("savepoint"));
        tap.release_all(200);
        tap.close_all();
        finish(&launched).await;
    });
    assert_eq!(sorted(&target), expected_sums(1, 200));
}

fn job_of(dir: &Path) -> EarlierRun {
    earlier_run(&options(dir)).expect("the folder is read")
}

#[test]
fn what_an_earlier_run_left_decides_where_the_next_one_starts() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        assert_eq!(job_of(dir.path()), EarlierRun::None);
        let (tap, target) = (Tap::new(1), Target::new());
        // Stopped: goes on.
        let launched = start(&sums(1, &tap, &Trap::default(), &target), options(dir.path())).await;
        tap.release_all(50);
        until(async || target.len() == 50).await;
        launched.handle.trigger(Purpose::StopWithSavepoint, false, None).await.expect("stopped");
        assert_eq!(outcome(&launched).await.status, JobStatus::Finished);
        drop(launched);
        assert!(matches!(job_of(dir.path()), EarlierRun::Unfinished { checkpoint: Some(_), .. }));
        // Failed: goes on.
        let mut no_restart = options(dir.path());
        no_restart.restart = RestartOptions::None;
        let trap = Trap::default();
        let launched = launch_when_free(&sums(1, &tap, &trap, &target), &no_restart).await;
        assert!(launched.restored_from.is_some());
        trap.spring();
        tap.release_all(100);
        assert_eq!(outcome(&launched).await.status, JobStatus::Failed);
        drop(launched);
        assert!(matches!(job_of(dir.path()), EarlierRun::Unfinished { .. }));
        // Finished: over.
        let launched = launch_when_free(&sums(1, &tap, &Trap::default(), &target), &options(dir.path())).await;
        tap.close_all();
        finish(&launched).await;
        drop(launched);
        assert_eq!(sorted(&target), expected_sums(1, 100));
        assert!(matches!(job_of(dir.path()), EarlierRun::Over { state: TerminalState::Finished, .. }));
        // The next one starts anew.
        let again = Target::new();
        let launched = launch_when_free(&sums(1, &tap, &Trap::default(), &again), &options(dir.path())).await;
        assert_eq!(launched.restored_from, None);
        finish(&launched).await;
        drop(launched);
        assert_eq!(sorted(&again), expected_sums(1, 100));
        // Cancelled: over.
        let tap = Tap::new(1);
        let launched = launch_when_free(&sums(1, &tap, &Trap::default(), &Target::new()), &options(dir.path())).await;
        assert_eq!(launched.handle.cancel().await.expect("it answers").status, JobStatus::Canceled);
        drop(launched);
        assert!(matches!(job_of(dir.path()), EarlierRun::Over { state: TerminalState::Canceled, .. }));
    });
}

#[test]
fn a_job_cancelled_at_any_moment_of_its_start_is_gone() {
    for step in 0..40 {
        run(async {
            let dir = tempfile::tempdir().expect("a folder");
            let (tap, target) = (Tap::new(2), Target::new());
            tap.release_all(1_000_000);
            let launched = start(&sums(2, &tap, &Trap::default(), &target), options(dir.path())).await;
            tokio::time::sleep(Duration::from_micros(300 * step)).await;
            assert_eq!(launched.handle.cancel().await.expect("it answers").status, JobStatus::Canceled);
            // Nothing is left that reads on.
            let written = target.written.load(Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(10)).await;
            assert_eq!(target.written.load(Ordering::SeqCst), written, "cancelled after step {step}");
        });
    }
}

#[test]
fn a_sink_that_does_not_answer_holds_up_neither_a_cancel_nor_a_restart() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let (tap, target, trap) = (Tap::new(2), Target::new(), Trap::default());
        let launched = start(&sums(2, &tap, &trap, &target), options(dir.path())).await;
        until_completed(&launched.handle, 1).await;
        target.stalled.store(true, Ordering::SeqCst);
        tap.release_all(500);
        until(async || target.written.load(Ordering::SeqCst) > 0).await;
        trap.spring();
        tap.release_all(1_000);
        until(async || report(&launched.handle).await.restarts == 1).await;
        let refused = launched.handle.cancel().await.expect("it answers");
        assert_eq!(refused.status, JobStatus::Canceled);
        target.stalled.store(false, Ordering::SeqCst);
        let error = launched.handle.trigger(Purpose::Savepoint, false, None).await.expect_err("it is over");
        assert!(error.contains("not running") || error.contains("has ended"), "{error}");
    });
}
