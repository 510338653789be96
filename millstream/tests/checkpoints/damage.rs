//! Checkpoints that are damaged or missing when a job is to go on from them, and local state that is gone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_actors::launch::LaunchOptions;
use millstream_runtime::job::{JobStatus, RestartOptions};
use millstream_state::log::{read_manifest, recover, segments};

use super::*;

/// Runs until some checkpoints are there, ends the process as it were, and answers where.
fn crashed(dir: &Path, commit: bool, target: &Arc<Target<Counted>>, tap: &Tap) -> LaunchOptions {
    let options = options(&dir.join("state"));
    let runtime = new_runtime();
    runtime.block_on(within_a_minute(async {
        let env = job(commit, target, tap);
        let launched = start(&env, options.clone()).await;
        tap.release_all(300);
        until_completed(&launched.handle, 3).await;
        tap.release_all(600);
        let completed = report(&launched.handle).await.checkpoints.counts().completed;
        until_completed(&launched.handle, completed + 3).await;
    }));
    runtime.shutdown_timeout(std::time::Duration::from_secs(10));
    options
}

fn job(commit: bool, target: &Arc<Target<Counted>>, tap: &Tap) -> Environment {
    let env = environment(2);
    if commit {
        counts(&env, tap, &Trap::default(), target);
    } else {
        // Nothing leaves before the end, so going back repeats no output.
        env.from_source("numbers", tapped(tap, |split, n| (split * 10 + n % 10, n)))
            .uid("numbers")
            .key_by(|(key, _)| *key)
            .fold_to_end(|count: &mut u64, _| *count += 1)
            .uid("fold")
            .map(|(key, count)| (key, 0, count))
            .sink_to("out", MemorySink(Arc::clone(target)))
            .uid("out");
    }
    env
}

fn damage(path: &Path) {
    let mut bytes = std::fs::read(path).expect("the file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    std::fs::write(path, bytes).expect("written");
}

/// The manifest of the newest checkpoint, and the segments that only it names.
fn newest_files(state_dir: &Path) -> (PathBuf, Vec<PathBuf>) {
    let (blobs, job) = store_of(state_dir);
    let log = recover(&*blobs, job).expect("the log");
    let [.., before, newest] = log.retained.as_slice() else { panic!("at least two are retained") };
    let of = |retained| -> BTreeSet<String> {
        let manifest = read_manifest(&*blobs, retained).expect("the manifest");
        segments(&manifest).map(|segment| segment.path.clone()).collect()
    };
    let root = state_dir.join("checkpoints");
    let only = of(&newest.manifest).difference(&of(&before.manifest)).map(|path| root.join(path)).collect();
    (root.join(&newest.manifest.path), only)
}

#[test]
fn a_damaged_newest_checkpoint_is_passed_over_and_the_log_says_so() {
    for what in ["manifest", "missing manifest", "segment", "missing segment"] {
        let dir = tempfile::tempdir().expect("a folder");
        let (target, tap) = (Target::new(), Tap::new(2));
        // Whether it committed anything cannot be told from a damaged checkpoint, so somebody has to agree.
        let options = LaunchOptions { allow_fallback: true, ..crashed(dir.path(), false, &target, &tap) };
        let (manifest, only) = newest_files(&options.state_dir);
        let newest = log_of(&options.state_dir).retained.last().map(|kept| kept.checkpoint).expect("one is retained");
        match what {
            "manifest" => damage(&manifest),
            "missing manifest" => std::fs::remove_file(&manifest).expect("removed"),
            "segment" => damage(only.first().expect("every cut writes segments")),
            _ => std::fs::remove_file(only.first().expect("every cut writes segments")).expect("removed"),
        }
        run(async {
            let launched = start(&job(false, &target, &tap), options.clone()).await;
            until(async || report(&launched.handle).await.checkpoints.latest_restored().is_some()).await;
            let restored = report(&launched.handle).await.checkpoints.latest_restored().cloned().expect("restored");
            assert!(restored.id < newest, "{what}: restored {} instead of one before {newest}", restored.id);
            let (blobs, job) = store_of(&options.state_dir);
            let slots = blobs.list(&format!("jobs/{job}/log/")).expect("listed");
            let said = slots.iter().any(|slot| {
                let bytes = blobs.get(slot).expect("read").expect("there");
                String::from_utf8_lossy(&bytes).contains("FellBack")
            });
            assert!(said, "{what}: the log does not say that the job fell back");
            tap.close_all();
            finish(&launched).await;
        });
        let wanted: Vec<Counted> = (0..20).map(|key| (key, 0, 60)).collect();
        assert_eq!(sorted(target.rows()), wanted, "{what}");
    }
}

#[test]
fn output_is_not_repeated_by_falling_back_unless_the_operator_agrees() {
    let dir = tempfile::tempdir().expect("a folder");
    let (target, tap) = (Target::new(), Tap::new(2));
    let mut options = crashed(dir.path(), true, &target, &tap);
    let (manifest, _) = newest_files(&options.state_dir);
    damage(&manifest);
    options.restart = RestartOptions::None;
    run(async {
        let launched = start(&job(true, &target, &tap), options.clone()).await;
        let outcome = outcome(&launched).await;
        assert_eq!(outcome.status, JobStatus::Failed);
        assert!(outcome.refused);
        let failure = outcome.failure.expect("it says why");
        assert!(failure.contains("damaged") && failure.contains("allow-fallback"), "{failure}");
    });
    options.allow_fallback = true;
    run(async {
        let launched = start(&job(true, &target, &tap), options.clone()).await;
        tap.close_all();
        finish(&launched).await;
    });
    let seen: BTreeSet<Counted> = target.rows().into_iter().collect();
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), expected_counts(2, 600), "nothing is lost");
}

#[test]
fn a_restart_reads_local_state_and_does_without_it_when_it_is_gone() {
    for remove_node in [false, true] {
        let dir = tempfile::tempdir().expect("a folder");
        let (target, tap) = (Target::new(), Tap::new(2));
        let options = crashed(dir.path(), false, &target, &tap);
        let node = options.state_dir.join("node");
        let local: Vec<_> = std::fs::read_dir(node.join("state")).expect("local state").collect();
        assert_eq!(local.len(), 1, "the node keeps the state of its job");
        if remove_node {
            std::fs::remove_dir_all(&node).expect("removed");
        }
        run(async {
            let launched = start(&job(false, &target, &tap), options.clone()).await;
            tap.release_all(700);
            tap.close_all();
            finish(&launched).await;
            assert!(launched.restored_from.expect("it went on").contains("checkpoint"));
        });
        let wanted: Vec<Counted> = (0..20).map(|key| (key, 0, 70)).collect();
        assert_eq!(sorted(target.rows()), wanted, "local state removed: {remove_node}");
    }
}
