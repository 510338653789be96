//! Savepoints of whole jobs in one process: taken, moved, restored at other parallelisms and into changed programs,
//! and what is refused.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use millstream::prelude::*;
use millstream_actors::launch::{LaunchOptions, StartFrom, launch};
use millstream_runtime::element::Purpose;
use millstream_runtime::graph::chaining::{PlanError, plan};
use millstream_runtime::job::JobStatus;

#[path = "support/engine.rs"]
mod engine;
use engine::*;

type Count = (u64, u64);

/// Counts the records of each key and tells at the end of the input; nothing leaves before.
fn counts(env: &Environment, tap: &Tap, target: &Arc<Target<Count>>) {
    env.from_source("numbers", tapped(tap, |split, n| split * 1_000 + n % 50))
        .uid("numbers")
        .key_by(|key| *key)
        .fold_to_end(|count: &mut u64, _| *count += 1)
        .uid("counts")
        .sink_to("out", MemorySink(Arc::clone(target)))
        .uid("out");
}

fn expected(splits: u64, records: u64) -> Vec<Count> {
    let key = |split, key| (split * 1_000 + key, records / 50 + u64::from(key < records % 50));
    (0..splits).flat_map(|split| (0..50).map(move |number| key(split, number))).collect()
}

/// A savepoint of a job of this parallelism that has read so many records of each of 3 splits.
fn savepoint(dir: &Path, parallelism: u32, records: u64) -> PathBuf {
    let mut place = None;
    run(async {
        let env = environment(parallelism);
        let (tap, target) = (Tap::new(3), Target::new());
        counts(&env, &tap, &target);
        let launched = start(&env, options(dir)).await;
        tap.release_all(records);
        until(async || records_in(&launched, "Fold").await >= 3 * records).await;
        let made = launched.handle.trigger(Purpose::Savepoint, false, None).await.expect("durable");
        // It disturbs nothing.
        until_completed(&launched.handle, made.checkpoint.0 + 2).await;
        assert_eq!(report(&launched.handle).await.restarts, 0);
        launched.handle.cancel().await.expect("it answers");
        place = made.location;
    });
    place.expect("a place").into()
}

fn from(savepoint: &Path, state: &Path) -> LaunchOptions {
    LaunchOptions { start_from: StartFrom::Savepoint(savepoint.into()), ..options(state) }
}

#[test]
fn a_savepoint_is_whole_can_be_moved_and_is_restored_at_any_parallelism() {
    let dir = tempfile::tempdir().expect("a folder");
    let made = savepoint(&dir.path().join("first"), 2, 1_234);
    let moved = dir.path().join("moved");
    std::fs::rename(&made, &moved).expect("moved");
    // What the job itself had is not needed.
    std::fs::remove_dir_all(dir.path().join("first")).expect("removed");
    for parallelism in [1, 2, 3, 5, 16] {
        run(async {
            let env = environment(parallelism);
            let (tap, target) = (Tap::bounded(3, 2_000), Target::new());
            counts(&env, &tap, &target);
            let launched = start(&env, from(&moved, &dir.path().join(format!("state-{parallelism}")))).await;
            assert!(launched.restored_from.clone().expect("it went on").contains("savepoint"));
            finish(&launched).await;
            assert_eq!(sorted(&target), expected(3, 2_000), "parallelism {parallelism}");
        });
    }
}

#[test]
fn a_job_goes_down_and_up_in_parallelism_from_savepoint_to_savepoint() {
    let dir = tempfile::tempdir().expect("a folder");
    let (tap, target) = (Tap::new(3), Target::new());
    let mut from: Option<PathBuf> = None;
    for (round, parallelism) in (1..).zip([3, 1, 4, 2, 7]) {
        run(async {
            let env = environment(parallelism);
            counts(&env, &tap, &target);
            let mut options = options(&dir.path().join(format!("state-{round}")));
            if let Some(savepoint) = &from {
                options.start_from = StartFrom::Savepoint(savepoint.clone().into());
            }
            let launched = start(&env, options).await;
            tap.release_all(500 * round);
            until(async || records_in(&launched, "Fold").await >= 3 * 500).await;
            let stopped = launched.handle.trigger(Purpose::StopWithSavepoint, false, None).await.expect("stopped");
            assert_eq!(outcome(&launched).await.status, JobStatus::Finished);
            assert_eq!(outcome(&launched).await.savepoint, stopped.location);
            from = stopped.location.map(PathBuf::from);
        });
    }
    assert_eq!(target.len(), 0, "a stop without drain fires nothing");
    run(async {
        let env = environment(2);
        counts(&env, &tap, &target);
        let mut options = options(&dir.path().join("state-last"));
        options.start_from = StartFrom::Savepoint(from.expect("a place").into());
        let launched = start(&env, options).await;
        tap.close_all();
        finish(&launched).await;
    });
    assert_eq!(sorted(&target), expected(3, 2_500));
}

#[test]
fn a_stop_with_drain_ends_the_input_and_commits_what_it_gives() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let env = environment(2);
        let (tap, target) = (Tap::new(3), Target::new());
        counts(&env, &tap, &target);
        let launched = start(&env, options(dir.path())).await;
        tap.release_all(1_000);
        until(async || records_in(&launched, "Fold").await >= 3_000).await;
        launched.handle.trigger(Purpose::StopWithSavepoint, true, None).await.expect("stopped");
        assert_eq!(outcome(&launched).await.status, JobStatus::Finished);
        assert_eq!(sorted(&target), expected(3, 1_000));
        assert_eq!(target.pending(), 0);
    });
}

#[test]
fn a_savepoint_that_cannot_be_written_is_answered_and_the_job_goes_on() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let env = environment(1);
        let (tap, target) = (Tap::new(3), Target::new());
        counts(&env, &tap, &target);
        let launched = start(&env, options(dir.path())).await;
        until_status(&launched.handle, JobStatus::Running).await;
        let file = dir.path().join("a-file");
        std::fs::write(&file, "not a folder").expect("written");
        let target_place = file.join("below").to_string_lossy().into_owned();
        let refused = launched.handle.trigger(Purpose::Savepoint, false, Some(target_place)).await;
        assert!(refused.expect_err("there is no such folder").contains("a-file"));
        tap.release_all(100);
        tap.close_all();
        finish(&launched).await;
        assert_eq!(sorted(&target), expected(3, 100));
    });
}

#[test]
fn what_is_no_savepoint_is_refused_with_its_name() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let env = environment(1);
        counts(&env, &Tap::new(1), &Target::new());
        let missing = dir.path().join("nothing-here");
        let error = launch(graph_of(&env), from(&missing, &dir.path().join("state"))).await.err().expect("refused");
        assert!(error.message.contains("nothing-here"), "{error}");
    });
}

/// Starts a changed program from a savepoint: how it ends, and with what message.
fn changed(
    build: impl FnOnce(&Environment, &Tap, &Arc<Target<Count>>),
    savepoint: &Path,
    state: &Path,
    allow: bool,
    max_parallelism: u16,
) -> (JobStatus, Option<String>, Vec<Count>) {
    let (tap, target) = (Tap::bounded(3, 200), Target::new());
    let mut result = None;
    run(async {
        let env = environment(2);
        build(&env, &tap, &target);
        let mut options = from(savepoint, state);
        options.allow_non_restored_state = allow;
        let plan_options = millstream_runtime::graph::chaining::PlanOptions { max_parallelism, ..plan_options(&env) };
        let graph = plan(env.take_graph(), &plan_options).expect("a valid graph");
        let launched = launch(graph, options).await.expect("launched");
        let outcome = outcome(&launched).await;
        assert!(outcome.status == JobStatus::Finished || outcome.refused, "{outcome:?}");
        result = Some((outcome.status, outcome.failure));
    });
    let (status, failure) = result.expect("it ended");
    (status, failure, sorted(&target))
}

#[test]
fn state_without_an_operator_is_refused_by_name_and_left_behind_when_allowed() {
    let dir = tempfile::tempdir().expect("a folder");
    let made = savepoint(&dir.path().join("first"), 2, 100);
    let renamed = |env: &Environment, tap: &Tap, target: &Arc<Target<Count>>| {
        env.from_source("numbers", tapped(tap, |split, n| split * 1_000 + n % 50))
            .uid("numbers")
            .key_by(|key| *key)
            .fold_to_end(|count: &mut u64, _| *count += 1)
            .uid("renamed")
            .sink_to("out", MemorySink(Arc::clone(target)))
            .uid("out");
    };
    let (status, failure, _) = changed(renamed, &made, &dir.path().join("a"), false, 128);
    assert_eq!(status, JobStatus::Failed);
    let failure = failure.expect("it says why");
    assert!(failure.contains("'counts'") && failure.contains("allow-non-restored-state"), "{failure}");
    let (status, _, rows) = changed(renamed, &made, &dir.path().join("b"), true, 128);
    assert_eq!(status, JobStatus::Finished);
    // The source goes on where it was, the counts begin anew.
    assert_eq!(rows, expected(3, 100));
}

#[test]
fn operators_without_state_come_and_go() {
    let dir = tempfile::tempdir().expect("a folder");
    let made = savepoint(&dir.path().join("first"), 2, 100);
    let more = |env: &Environment, tap: &Tap, target: &Arc<Target<Count>>| {
        env.from_source("numbers", tapped(tap, |split, n| split * 1_000 + n % 50))
            .uid("numbers")
            .map(|key| key)
            .rebalance()
            .filter(|_| true)
            .key_by(|key| *key)
            .fold_to_end(|count: &mut u64, _| *count += 1)
            .uid("counts")
            .map(|row| row)
            .sink_to("out", MemorySink(Arc::clone(target)))
            .uid("out");
    };
    let (status, failure, rows) = changed(more, &made, &dir.path().join("more"), false, 128);
    assert_eq!((status, rows), (JobStatus::Finished, expected(3, 200)), "{failure:?}");
    // And from a savepoint of the longer program back to the shorter one.
    let mut place = None;
    run(async {
        let env = environment(3);
        let (tap, target) = (Tap::new(3), Target::new());
        more(&env, &tap, &target);
        let launched = start(&env, from(&made, &dir.path().join("again"))).await;
        tap.release_all(150);
        until(async || records_in(&launched, "Fold").await >= 150).await;
        let stopped = launched.handle.trigger(Purpose::StopWithSavepoint, false, None).await.expect("stopped");
        outcome(&launched).await;
        place = stopped.location;
    });
    let place = PathBuf::from(place.expect("a place"));
    let (status, failure, rows) = changed(counts, &place, &dir.path().join("fewer"), false, 128);
    assert_eq!((status, rows), (JobStatus::Finished, expected(3, 200)), "{failure:?}");
}

#[test]
fn another_number_of_key_groups_is_refused_with_the_number_it_had() {
    let dir = tempfile::tempdir().expect("a folder");
    let made = savepoint(&dir.path().join("first"), 2, 100);
    let (status, failure, _) = changed(counts, &made, &dir.path().join("a"), false, 64);
    assert_eq!(status, JobStatus::Failed);
    let failure = failure.expect("it says why");
    assert!(failure.contains("pipeline.max-parallelism = 128"), "{failure}");
}

#[test]
fn a_state_of_another_type_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let made = savepoint(&dir.path().join("first"), 2, 100);
    let text = |env: &Environment, tap: &Tap, target: &Arc<Target<Count>>| {
        env.from_source("numbers", tapped(tap, |split, n| split * 1_000 + n % 50))
            .uid("numbers")
            .key_by(|key| *key)
            .fold_to_end(|text: &mut String, _| text.push('.'))
            .uid("counts")
            .map(|(key, text)| (key, text.len() as u64))
            .sink_to("out", MemorySink(Arc::clone(target)))
            .uid("out");
    };
    let (status, failure, _) = changed(text, &made, &dir.path().join("a"), false, 128);
    assert_eq!(status, JobStatus::Failed);
    let failure = failure.expect("it says why");
    assert!(failure.contains("'fold'") && failure.contains("type of a state cannot change"), "{failure}");
}

#[test]
fn two_operators_with_one_uid_and_too_many_subtasks_are_refused_before_anything_runs() {
    let env = environment(2);
    let tap = Tap::new(1);
    env.from_source("a", tapped(&tap, |_, n| n)).uid("same").discard().uid("same");
    let refused = plan(env.take_graph(), &plan_options(&env)).err().expect("refused");
    assert!(matches!(&refused, PlanError::DuplicateUid(uid) if uid == "same"), "{refused}");
    let env = environment(129);
    env.from_source("a", tapped(&tap, |_, n| n)).uid("a").discard().uid("b");
    let refused = plan(env.take_graph(), &plan_options(&env)).err().expect("refused");
    assert!(matches!(refused, PlanError::TooParallel { parallelism: 129, max: 128, .. }), "{refused}");
    assert!(refused.to_string().contains("max-parallelism"));
}

#[test]
fn a_stop_with_savepoint_commits_exactly_what_is_behind_it() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let (tap, target) = (Tap::new(2), Target::<u64>::new());
        let build = || {
            let env = environment(2);
            env.from_source("numbers", tapped(&tap, |split, n| split * 1_000_000 + n))
                .uid("numbers")
                .rebalance()
                .map(|n| n)
                .sink_to("out", MemorySink(Arc::clone(&target)))
                .uid("out");
            env
        };
        let mut options = options(&dir.path().join("first"));
        options.checkpoints.interval_ms = None;
        let launched = start(&build(), options).await;
        tap.release_all(500);
        until(async || target.written.load(Ordering::SeqCst) >= 600).await;
        let stopped = launched.handle.trigger(Purpose::StopWithSavepoint, false, None).await.expect("stopped");
        assert_eq!(outcome(&launched).await.status, JobStatus::Finished);
        let before = target.len();
        assert!(before >= 600 && target.pending() == 0);
        let place = PathBuf::from(stopped.location.expect("a place"));
        let launched = start(&build(), from(&place, &dir.path().join("second"))).await;
        tap.close_all();
        finish(&launched).await;
        assert!(target.len() > before || before == 1_000);
        let wanted: Vec<u64> = (0..2).flat_map(|split| (0..500).map(move |n| split * 1_000_000 + n)).collect();
        assert_eq!(sorted(&target), wanted);
    });
}
