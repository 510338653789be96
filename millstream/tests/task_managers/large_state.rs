//! Much keyed state when the task manager of half of it is lost: records flow again before all of it has been read back.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

/// Bytes that each key has.
const ROW_BYTES: u64 = 1_000;
/// Records after the loss, for keys drawn at random.
const UPDATES: u64 = 10_000;

/// Counts the records of a key, beside a text; tells of all but the first.
#[derive(Clone)]
struct Rows {
    row: ValueState<u64, (u64, String)>,
    /// Rows that were made, by all subtasks.
    made: Arc<AtomicU64>,
}

impl KeyedProcessFunction for Rows {
    type Key = u64;
    type In = u64;
    type Out = (u64, u64);

    fn states(&mut self, visit: StateVisitor<'_, u64>) {
        visit(&mut self.row);
    }

    fn process(&mut self, key: u64, cx: &mut KeyedContext<'_, u64, (u64, u64)>) -> Result<(), PortError> {
        let made = &self.made;
        let row = self.row.get_or_insert_with(cx, || {
            made.fetch_add(1, Ordering::Relaxed);
            (0, "x".repeat(ROW_BYTES as usize))
        });
        row.0 += 1;
        let count = row.0;
        if count > 1 {
            cx.emit((key, count));
        }
        Ok(())
    }
}

/// First every key once, then any.
fn key_of(number: u64, keys: u64) -> u64 {
    if number < keys { number } else { (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) % keys }
}

/// Fills so many bytes of state on two task managers, kills one of them, and answers how long it took until the other one had
/// processed records for keys of all of the state.
async fn taken_over(bytes: u64, state_memory: Option<usize>, patience: Duration) -> Duration {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder on a disk");
    let mut ground = Ground::new(dir.path());
    ground.state_memory = state_memory;
    let (tap, target, made) = (Tap::new(SPLITS as usize), Target::<(u64, u64)>::new(), Arc::new(AtomicU64::new(0)));
    let keys = bytes / ROW_BYTES / SPLITS * SPLITS;
    let env = environment(4);
    env.from_source("numbers", tapped(&tap, move |split, n| key_of(n * SPLITS + split, keys)))
        .uid("numbers")
        .key_by(|key| *key)
        .process(Rows { row: ValueState::new("row"), made: Arc::clone(&made) })
        .uid("rows")
        .sink_to("out", MemorySink(Arc::clone(&target)))
        .uid("out");
    let graph = graph_of(&env);
    let mut options = options(dir.path());
    options.checkpoints.interval_ms = Some(1_000);
    let nodes = [ground.node("lost", 2, &graph).await, ground.node("survivor", 4, &graph).await];
    let offered = nodes.iter().map(Node::offered).collect();
    let launched = launch_on(offered, JobRecord::default(), Arc::new(graph), options).await.expect("launched");
    let [lost, survivor] = nodes;

    let waited = tokio::time::timeout(patience, async {
        tap.release_all(keys / SPLITS);
        until(async || made.load(Ordering::Relaxed) >= keys).await;
        // What a checkpoint holds, the local copies have when the one after it is complete.
        for _ in 0..2 {
            launched.handle.trigger(Purpose::Checkpoint, false, None).await.expect("made");
        }
    });
    waited.await.expect("the state is there");
    assert_eq!(made.load(Ordering::Relaxed), keys);

    let killed = tokio::time::Instant::now();
    launched.handle.node_lost(lost.kill().await, "its process was killed");
    let processed = async {
        // Only then, so that what is counted is of the new attempt.
        until(async || report(&launched.handle).await.restarts == 1).await;
        until_status(&launched.handle, JobStatus::Running).await;
        tap.release_all((keys + UPDATES) / SPLITS);
        until(async || target.written.load(Ordering::SeqCst) >= UPDATES).await;
        killed.elapsed()
    };
    let took = tokio::time::timeout(patience, processed).await.expect("records flow again");

    let report = report(&launched.handle).await;
    assert!(report.subtasks.iter().all(|row| row.node.0 == "survivor"), "{:?}", report.subtasks);
    tap.close_all();
    let outcome =
        tokio::time::timeout(patience, launched.handle.outcome()).await.expect("it ends").expect("it has an end");
    assert_eq!(outcome.status, JobStatus::Finished);
    assert_eq!(made.load(Ordering::Relaxed), keys, "no row was made again");
    let mut counts = BTreeMap::new();
    let mut expected: Vec<(u64, u64)> = (keys..keys + UPDATES)
        .map(|number| {
            let key = key_of(number, keys);
            let count = counts.entry(key).or_insert(1);
            *count += 1;
            (key, *count)
        })
        .collect();
    expected.sort_unstable();
    assert_eq!(sorted(&target), expected);
    survivor.kill().await;
    took
}

#[test]
fn records_flow_again_before_much_state_has_been_read_back() {
    run(async {
        let took = taken_over(50_000_000, None, Duration::from_secs(50)).await;
        println!("50 MB: {UPDATES} records for all of the state were processed {took:?} after the loss");
        assert!(took < Duration::from_secs(10), "{took:?}");
    });
}

/// Needs 30 GB on the disk.
#[test]
#[ignore = "takes minutes: cargo xtask torture"]
fn ten_gigabytes_of_state_are_back_within_seconds() {
    new_runtime().block_on(async {
        let took = taken_over(10_000_000_000, Some(1 << 30), Duration::from_secs(1_200)).await;
        println!("10 GB: {UPDATES} records for all of the state were processed {took:?} after the loss");
        assert!(took < Duration::from_secs(20), "{took:?}");
    });
}
