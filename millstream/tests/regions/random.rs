//! Forward-only jobs over two-phase-commit sinks that fail at random, in many ways and at many places: the output is
//! always that of a run without failures.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::*;

/// Everything visible in the folder of a file sink.
fn visible(folder: &Path) -> Vec<(u64, u64)> {
    let mut rows = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if is_hidden {
            panic!("{} was left behind", path.display());
        }
        let text = fs::read_to_string(&path).expect("reads");
        rows.extend(text.lines().map(|line| serde_json::from_str::<(u64, u64)>(line).expect("a row")));
    }
    rows.sort_unstable();
    rows
}

#[test]
fn files_of_four_lanes_that_fail_at_random_are_those_of_a_run_without_failures() {
    let mut restarted = BTreeSet::new();
    for seed in 0..40 {
        run(async {
            let dir = tempfile::tempdir().expect("a folder");
            let mut random = Random(seed);
            let records = 200;
            let traps: Vec<u64> = (0..1 + random.below(4)).map(|_| 1 + random.below(8 * records)).collect();
            let (tap, trap) = (Tap::new(8), Trap::at(&traps));
            let (env, out) = (environment(4), dir.path().join("out"));
            let sprung = trap.clone();
            env.from_source("numbers", tapped(&tap, |split, n| (split, n)))
                .uid("numbers")
                .map(move |record| {
                    sprung.step();
                    record
                })
                .sink_to("out", FileSink::<(u64, u64)>::json_lines(&out))
                .uid("out");
            let mut options = options(&dir.path().join("state"));
            options.checkpoints.interval_ms = Some(1 + random.below(20) as i64);
            let graph = if random.below(2) == 0 { unchained(&env) } else { graph_of(&env) };
            let launched = launch(graph, options).await.expect("launched");
            for step in 1..=4 {
                tap.release_all(step * records / 4);
                tokio::time::sleep(std::time::Duration::from_millis(random.below(15))).await;
            }
            tap.close_all();
            finish(&launched).await;
            let report = report(&launched.handle).await;
            restarted.extend(report.subtasks.iter().map(|row| row.attempt));
            assert_eq!(visible(&out), numbers(8, records), "seed {seed}");
        });
    }
    assert!(restarted.contains(&0) && restarted.len() > 1, "some lanes restarted, others never: {restarted:?}");
}

#[test]
fn transactions_of_lanes_whose_commits_and_preparations_fail_are_committed_once() {
    for seed in 0..40 {
        run(async {
            let dir = tempfile::tempdir().expect("a folder");
            let mut random = Random(1_000 + seed);
            let traps: Vec<u64> = (0..random.below(3)).map(|_| 1 + random.below(1_600)).collect();
            let (tap, target) = (Tap::new(8), Target::new());
            {
                let mut faults = lock(&target.faults);
                let mut at = |of: u64| Some(1 + random.below(of));
                (faults.prepare_fails, faults.prepare_fails_late) = (at(12), at(12));
                (faults.commit_fails_late, faults.commit_panics_late) = (at(10), at(10));
            }
            let env = lanes(4, &tap, &Trap::at(&traps), &target);
            let graph = if seed % 2 == 0 { unchained(&env) } else { graph_of(&env) };
            let mut options = options(dir.path());
            options.checkpoints.interval_ms = Some(1 + random.below(15) as i64);
            let launched = launch(graph, options).await.expect("launched");
            for step in 1..=4 {
                tap.release_all(step * 50);
                tokio::time::sleep(std::time::Duration::from_millis(random.below(15))).await;
            }
            tap.close_all();
            finish(&launched).await;
            assert_eq!(sorted(&target), numbers(8, 200), "seed {seed}");
            assert_eq!(target.pending(), 0, "seed {seed}");
        });
    }
}
