//! Whole jobs whose checkpoints and savepoints lie on S3: a crash, a resume on another machine, a savepoint that is
//! taken elsewhere, and what the user is told when the store cannot be used. Skipped where there is no S3 server.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use millstream::prelude::*;
use millstream_actors::launch::{LaunchOptions, StartFrom, launch};
use millstream_runtime::element::Purpose;
use millstream_runtime::job::JobStatus;
use millstream_state::blob::{Location, Stores};
use millstream_state::savepoint::inspect;

#[path = "../support/engine.rs"]
mod engine;
use engine::*;

#[path = "../process/mod.rs"]
#[allow(dead_code, clippy::disallowed_methods)]
mod process;

#[path = "../../../state/tests/support/s3_server.rs"]
mod s3_server;
use s3_server::S3Server;

mod program;

/// Key, number, running count of the key.
type Counted = (u64, u64, u64);

const SPLITS: u64 = 3;

/// Counts the records of each key; a key belongs to one split, so the result does not depend on the order of splits.
fn counts(parallelism: u32, tap: &Tap, target: &Arc<Target<Counted>>) -> Environment {
    let env = environment(parallelism);
    env.from_source("numbers", tapped(tap, |split, n| (split * 10 + n % 10, n)))
        .uid("numbers")
        .key_by(|(key, _)| *key)
        .process(Count { count: ValueState::new("count") })
        .uid("count")
        .sink_to("out", MemorySink(Arc::clone(target)))
        .uid("out");
    env
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

fn expected(records: u64) -> Vec<Counted> {
    let mut counts = BTreeMap::<u64, u64>::new();
    let mut rows = Vec::new();
    for (split, n) in (0..SPLITS).flat_map(|split| (0..records).map(move |n| (split, n))) {
        let count = counts.entry(split * 10 + n % 10).or_default();
        *count += 1;
        rows.push((split * 10 + n % 10, n, *count));
    }
    rows.sort_unstable();
    rows
}

/// Checkpoints and savepoints in the bucket; only the node's own files in the folder.
fn on_s3(server: &S3Server, place: &Location, state: &Path) -> LaunchOptions {
    LaunchOptions {
        checkpoint_dir: Some(place.join("checkpoints")),
        savepoint_dir: Some(place.join("savepoints")),
        stores: server.stores(),
        ..options(state)
    }
}

#[test]
fn a_crashed_job_goes_on_from_the_bucket_exactly_once_at_any_parallelism() {
    let Some(server) = s3_server::shared() else { return };
    let place = server.location("cluster/a");
    let dir = tempfile::tempdir().expect("a folder");
    let (tap, target) = (Tap::new(SPLITS as usize), Target::new());
    for (round, parallelism) in (1..).zip([2, 3, 1, 2]) {
        let runtime = new_runtime();
        runtime.block_on(within_a_minute(async {
            let env = counts(parallelism, &tap, &target);
            let launched = launch_when_free(&env, &on_s3(server, &place, dir.path())).await;
            assert_eq!(launched.restored_from.is_some(), round > 1, "{:?}", launched.restored_from);
            tap.release_all(400 * round);
            // Some of what was released is committed, some is not.
            until_completed(&launched.handle, 2).await;
        }));
        // The process ends in the middle: its runtime and all its actors are gone.
        runtime.shutdown_background();
        if round % 2 == 0 {
            // What the machine had of the state is lost with it; only the name of the job is known.
            drop(std::fs::remove_dir_all(dir.path().join("node/state")));
        }
    }
    run(async {
        let env = counts(2, &tap, &target);
        tap.release_all(2_000);
        tap.close_all();
        let launched = launch_when_free(&env, &on_s3(server, &place, dir.path())).await;
        finish(&launched).await;
    });
    assert_eq!(sorted(&target), expected(2_000));
    assert!(!dir.path().join("checkpoints").exists(), "nothing was written beside the bucket");
    let blobs = server.stores().open(&place.join("checkpoints")).expect("opens");
    let names = blobs.list("jobs").expect("lists");
    assert!(names.iter().any(|name| name.contains("/segments/")), "{names:?}");
    assert_eq!(blobs.list("trials").expect("lists"), Vec::<String>::new(), "trials leave nothing");
}

#[test]
fn a_savepoint_on_s3_is_looked_at_and_restored_from_elsewhere() {
    let Some(server) = s3_server::shared() else { return };
    let place = server.location("cluster/b");
    let dir = tempfile::tempdir().expect("a folder");
    let (tap, target) = (Tap::new(SPLITS as usize), Target::new());
    let mut savepoint = None;
    run(async {
        let env = counts(2, &tap, &target);
        let launched = start(&env, on_s3(server, &place, &dir.path().join("first"))).await;
        tap.release_all(500);
        until(async || target.len() == 1_500).await;
        let stopped = launched.handle.trigger(Purpose::StopWithSavepoint, false, None).await.expect("stopped");
        assert_eq!(outcome(&launched).await.status, JobStatus::Finished);
        savepoint = stopped.location;
    });
    let savepoint = savepoint.expect("a place");
    assert!(savepoint.starts_with(&place.join("savepoints/savepoint-").to_string()), "{savepoint}");
    let location = Location::parse(&savepoint).expect("a location");
    let summary = inspect(&server.stores(), &location).expect("reads");
    let keys: u64 = summary
        .vertices
        .iter()
        .flat_map(|vertex| &vertex.operators)
        .flat_map(|operator| &operator.states)
        .filter(|state| state.name == "count")
        .map(|state| state.entries)
        .sum();
    assert_eq!(keys, 30);

    // The checkpoints of the first job are not needed, nor its machine; the next one keeps its own on a disk.
    server.stores().open(&place.join("checkpoints")).expect("opens").delete_all("jobs").expect("deletes");
    std::fs::remove_dir_all(dir.path().join("first")).expect("deletes");
    run(async {
        let env = counts(3, &tap, &target);
        let options = LaunchOptions {
            start_from: StartFrom::Savepoint(location.clone()),
            stores: server.stores(),
            ..options(&dir.path().join("second"))
        };
        let launched = start(&env, options).await;
        tap.release_all(900);
        tap.close_all();
        finish(&launched).await;
    });
    assert_eq!(sorted(&target), expected(900));
}

#[test]
fn a_savepoint_of_a_job_on_a_disk_can_go_to_s3_when_a_request_says_so() {
    let Some(server) = s3_server::shared() else { return };
    let target_place = server.location("asked/for").to_string();
    let dir = tempfile::tempdir().expect("a folder");
    let (tap, target) = (Tap::new(SPLITS as usize), Target::new());
    run(async {
        let env = counts(1, &tap, &target);
        let launched = start(&env, LaunchOptions { stores: server.stores(), ..options(dir.path()) }).await;
        until_status(&launched.handle, JobStatus::Running).await;
        let made = launched.handle.trigger(Purpose::Savepoint, false, Some(target_place.clone())).await.expect("made");
        assert!(made.location.expect("a place").starts_with(&target_place));
        let error = launched.handle.trigger(Purpose::Savepoint, false, Some("hdfs://n/x".to_string())).await;
        assert!(error.expect_err("refused").contains("hdfs"));
        launched.handle.cancel().await.expect("it answers");
    });
}

#[test]
fn a_job_on_a_bucket_that_is_not_there_does_not_start() {
    let Some(server) = s3_server::shared() else { return };
    let missing = Location::parse("s3://nobody-made-it/a").expect("a location");
    let bucket = server.location("a");
    let dir = tempfile::tempdir().expect("a folder");
    run(async {
        let (tap, target) = (Tap::new(SPLITS as usize), Target::new());
        let refused = async |name: &str, checkpoints: &Location, savepoints: &Location| {
            let options = LaunchOptions {
                checkpoint_dir: Some(checkpoints.clone()),
                savepoint_dir: Some(savepoints.clone()),
                ..on_s3(server, &bucket, &dir.path().join(name))
            };
            let error = launch(graph_of(&counts(1, &tap, &target)), options).await.err().expect("refused");
            assert!(error.message.contains("NoSuchBucket"), "{error}");
        };
        refused("one", &missing, &bucket).await;
        refused("two", &bucket, &missing).await;
    });
}

#[test]
fn stores_do_not_show_their_secret() {
    let Some(server) = s3_server::shared() else { return };
    let credentials = s3_server::Credentials { id: "id".to_string(), secret: "hunter2".to_string() };
    let stores = Stores::new(server.options_of(&credentials));
    let options = LaunchOptions { stores, ..LaunchOptions::new("state") };
    assert!(!format!("{options:?}").contains("hunter2"));
}
