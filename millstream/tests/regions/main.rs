//! Region failover of whole jobs in one process: only what is joined with a failed subtask restarts, everything else goes
//! on, and the output is exact all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream::prelude::*;
use millstream_actors::job_master::report::{JobReport, SubtaskReportRow};
use millstream_actors::launch::{LaunchOptions, Launched, launch};
use millstream_runtime::graph::chaining::{PlanOptions, plan};
use millstream_runtime::graph::{FailoverStrategy, JobGraph};
use millstream_runtime::job::JobStatus;

#[path = "../support/engine.rs"]
mod engine;
use engine::*;

mod growing;
mod random;

/// A pipeline by key that shares nothing with others.
fn pipeline(env: &Environment, name: &str, tap: &Tap, trap: &Trap, target: &Arc<Target<Summed>>) {
    let trap = trap.clone();
    env.from_source(format!("{name}-numbers"), tapped(tap, |split, n| (split * 7 + n % 7, n, n)))
        .uid(format!("{name}-numbers"))
        .map(move |record| {
            trap.step();
            record
        })
        .key_by(|(key, _, _)| *key)
        .reduce(|so_far: &mut Summed, (_, n, _)| {
            so_far.1 = n;
            so_far.2 += n;
        })
        .uid(format!("{name}-sums"))
        .sink_to(format!("{name}-out"), MemorySink(Arc::clone(target)))
        .uid(format!("{name}-out"));
}

/// The subtasks of the pipeline of this name.
fn rows_of(report: &JobReport, name: &str) -> Vec<SubtaskReportRow> {
    let is_of = |row: &&SubtaskReportRow| {
        report.vertices.iter().any(|vertex| vertex.id == row.id.vertex && vertex.name.contains(name))
    };
    report.subtasks.iter().filter(is_of).cloned().collect()
}

fn attempts(report: &JobReport, name: &str) -> BTreeSet<u32> {
    rows_of(report, name).iter().map(|row| row.attempt).collect()
}

/// Two pipelines, of which the left one fails three times.
async fn left_fails(failover: FailoverStrategy) -> (Box<JobReport>, Box<JobReport>) {
    let dir = tempfile::tempdir().expect("a folder");
    let env = environment(2);
    let (left_tap, left) = (Tap::new(4), Target::new());
    let (right_tap, right) = (Tap::new(4), Target::new());
    pipeline(&env, "left", &left_tap, &Trap::at(&[300, 1_000, 1_600]), &left);
    pipeline(&env, "right", &right_tap, &Trap::default(), &right);
    let launched = start(&env, LaunchOptions { failover, ..options(dir.path()) }).await;
    until_status(&launched.handle, JobStatus::Running).await;
    let before = report(&launched.handle).await;
    for records in [50, 100, 200, 300, 400] {
        [&left_tap, &right_tap].iter().for_each(|tap| tap.release_all(records));
        until(async || left.len() as u64 == 4 * records && right.len() as u64 == 4 * records).await;
    }
    until_status(&launched.handle, JobStatus::Running).await;
    let after = report(&launched.handle).await;
    if failover == FailoverStrategy::Region {
        // Nothing was read twice: every record counts once since the only deployment.
        assert_eq!(records_in(&launched, "right-out").await, 4 * 400);
    }
    [&left_tap, &right_tap].iter().for_each(|tap| tap.close_all());
    finish(&launched).await;
    assert_eq!((sorted(&left), sorted(&right)), (expected_sums(4, 400), expected_sums(4, 400)));
    (before, after)
}

#[test]
fn a_pipeline_that_shares_nothing_with_a_failed_one_goes_on_undisturbed() {
    run(async {
        let (before, after) = left_fails(FailoverStrategy::Region).await;
        assert_eq!(after.restarts, 3);
        assert_eq!((attempts(&after, "left"), attempts(&after, "right")), (BTreeSet::from([3]), BTreeSet::from([0])));
        let unmoved = |report: &JobReport| -> Vec<_> {
            rows_of(report, "right").iter().map(|row| (row.id, row.deployment, row.started_ms)).collect()
        };
        assert_eq!(unmoved(&before), unmoved(&after));
        assert!(!unmoved(&after).is_empty());
    });
}

#[test]
fn with_the_full_strategy_every_subtask_restarts() {
    run(async {
        let (_, after) = left_fails(FailoverStrategy::Full).await;
        assert_eq!(after.restarts, 3);
        assert_eq!((attempts(&after, "left"), attempts(&after, "right")), (BTreeSet::from([3]), BTreeSet::from([3])));
    });
}

/// A graph in which every operator is a vertex of its own, joined with the next by forward edges.
fn unchained(env: &Environment) -> JobGraph {
    plan(env.take_graph(), &PlanOptions { chaining: false, ..plan_options(env) }).expect("a valid graph")
}

/// Lanes of a source, a map and a sink each.
fn lanes(parallelism: u32, tap: &Tap, trap: &Trap, target: &Arc<Target<(u64, u64)>>) -> Environment {
    let env = environment(parallelism);
    let trap = trap.clone();
    env.from_source("numbers", tapped(tap, |split, n| (split, n)))
        .uid("numbers")
        .map(move |record| {
            trap.step();
            record
        })
        .sink_to("out", MemorySink(Arc::clone(target)))
        .uid("out");
    env
}

fn numbers(splits: u64, records: u64) -> Vec<(u64, u64)> {
    (0..splits).flat_map(|split| (0..records).map(move |n| (split, n))).collect()
}

/// Whether all subtasks run again, whatever the attempt.
async fn settle(launched: &Launched) -> Box<JobReport> {
    until_status(&launched.handle, JobStatus::Running).await;
    report(&launched.handle).await
}

#[test]
fn each_lane_of_forward_edges_restarts_alone() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let (tap, trap, target) = (Tap::new(8), Trap::default(), Target::new());
        let launched = launch(unchained(&lanes(4, &tap, &trap, &target)), options(dir.path())).await.expect("launched");
        for (round, records) in (1..).zip([100, 200, 300]) {
            trap.spring();
            tap.release_all(records);
            until(async || target.len() as u64 == 8 * records).await;
            let report = settle(&launched).await;
            let by_lane: BTreeMap<u32, BTreeSet<u32>> =
                report.subtasks.iter().fold(BTreeMap::new(), |mut lanes, row| {
                    lanes.entry(row.id.index.0).or_insert_with(BTreeSet::new).insert(row.attempt);
                    lanes
                });
            assert!(by_lane.values().all(|attempts| attempts.len() == 1), "a lane is one region: {by_lane:?}");
            assert_eq!(by_lane.values().flatten().sum::<u32>(), round, "one lane a failure: {by_lane:?}");
        }
        tap.close_all();
        finish(&launched).await;
        assert_eq!(sorted(&target), numbers(8, 300));
    });
}

#[test]
fn a_damaged_newest_checkpoint_takes_every_region_back() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let (tap, trap, target) = (Tap::new(4), Trap::default(), Target::new());
        let mut options = options(dir.path());
        options.checkpoints.interval_ms = None;
        options.allow_fallback = true;
        let launched = start(&lanes(2, &tap, &trap, &target), options).await;
        until_status(&launched.handle, JobStatus::Running).await;
        let checkpoint = async || {
            let made = launched.handle.trigger(millstream_runtime::element::Purpose::Checkpoint, false, None).await;
            made.expect("a checkpoint").location.expect("its manifest")
        };
        for records in [10, 20] {
            tap.release_all(records);
            until(async || records_read(&launched).await == 4 * records).await;
            let manifest = checkpoint().await;
            if records == 20 {
                damage(dir.path(), &manifest);
            }
        }
        until(async || target.len() == 4 * 20).await;
        trap.spring();
        tap.release_all(30);
        until(async || report(&launched.handle).await.restarts >= 2).await;
        let report = settle(&launched).await;
        let attempts: BTreeSet<u32> = report.subtasks.iter().map(|row| row.attempt).collect();
        assert!(!attempts.contains(&0), "every region was deployed again: {attempts:?}");
        tap.close_all();
        finish(&launched).await;
        let rows: BTreeSet<(u64, u64)> = target.rows().into_iter().collect();
        assert_eq!(
            rows.into_iter().collect::<Vec<_>>(),
            numbers(4, 30),
            "with consent some may be there twice, none is lost"
        );
        assert_eq!(target.len(), 4 * 40, "what the damaged checkpoint had committed was repeated, by both regions");
    });
}

async fn records_read(launched: &Launched) -> u64 {
    readings(launched, "numbers").await.iter().map(|reading| reading.records_in).sum()
}

/// Spoils a file of the job's store.
fn damage(state: &std::path::Path, path: &str) {
    let mut found = Vec::new();
    find(state, path.rsplit('/').next().expect("a name"), &mut found);
    assert!(!found.is_empty(), "{path} is nowhere below {}", state.display());
    found.iter().for_each(|file| std::fs::write(file, b"spoilt").expect("writes"));
}

fn find(folder: &std::path::Path, name: &str, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            find(&path, name, found);
        } else if path.file_name().is_some_and(|file| file == name) {
            found.push(path);
        }
    }
}
