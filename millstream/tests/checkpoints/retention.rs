//! Which checkpoints and which files of them are kept.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use millstream_runtime::ids::JobId;
use millstream_runtime::ports::store::BlobStore;
use millstream_state::blob::LocalBlobs;
use millstream_state::log::{LogState, read_manifest, recover, segments};

use super::*;

pub fn store_of(state_dir: &Path) -> (Arc<dyn BlobStore>, JobId) {
    let job = std::fs::read_to_string(state_dir.join("current-job")).expect("a job ran here");
    let blobs = LocalBlobs::open(state_dir.join("checkpoints")).expect("the store");
    (Arc::new(blobs), job.trim().parse().expect("an id"))
}

pub fn log_of(state_dir: &Path) -> LogState {
    let (blobs, job) = store_of(state_dir);
    recover(&*blobs, job).expect("the log")
}

/// Segments and manifests in the store, and those that a retained checkpoint needs.
fn files(state_dir: &Path) -> (BTreeSet<String>, BTreeSet<String>) {
    let (blobs, job) = store_of(state_dir);
    let all = blobs.list(&format!("jobs/{job}")).expect("listed");
    let there = all.into_iter().filter(|path| path.ends_with(".seg") || path.ends_with(".manifest")).collect();
    let mut needed = BTreeSet::new();
    for retained in recover(&*blobs, job).expect("the log").retained {
        needed.insert(retained.manifest.path.clone());
        let manifest = read_manifest(&*blobs, &retained.manifest).expect("the manifest");
        needed.extend(segments(&manifest).map(|segment| segment.path.clone()));
    }
    (there, needed)
}

#[test]
fn every_file_of_the_store_is_named_by_a_retained_checkpoint() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let env = environment(2);
        let (tap, target) = (Tap::new(4), Target::new());
        counts(&env, &tap, &Trap::at(&[500, 1_500, 3_000]), &target);
        let mut options = options(dir.path());
        options.checkpoints.interval_ms = Some(3);
        let launched = start(&env, options).await;
        for step in 1..=60 {
            tap.release_all(1_000 * step / 60);
            until_completed(&launched.handle, step).await;
        }
        tap.close_all();
        finish(&launched).await;
        let completed = report(&launched.handle).await.checkpoints.counts().completed;
        assert!(completed >= 60, "{completed}");
        let (there, needed) = files(dir.path());
        assert_eq!(needed.difference(&there).next(), None);
        assert_eq!(there.difference(&needed).collect::<Vec<_>>(), Vec::<&String>::new(), "named by nobody");
        assert_eq!(sorted(target.rows()), expected_counts(4, 1_000));
    });
}

#[test]
fn as_many_checkpoints_are_kept_as_configured() {
    run(async {
        for retained in [2, 4] {
            let dir = tempfile::tempdir().expect("a folder");
            let env = environment(1);
            let (tap, target) = (Tap::new(1), Target::new());
            counts(&env, &tap, &Trap::default(), &target);
            let mut options = options(dir.path());
            options.checkpoints.num_retained = retained;
            options.checkpoints.interval_ms = Some(3);
            let launched = start(&env, options).await;
            tap.release_all(10);
            until_completed(&launched.handle, 10).await;
            tap.close_all();
            finish(&launched).await;
            assert_eq!(log_of(dir.path()).retained.len(), retained as usize);
            let (there, _) = files(dir.path());
            assert_eq!(there.iter().filter(|path| path.ends_with(".manifest")).count(), retained as usize);
        }
    });
}
