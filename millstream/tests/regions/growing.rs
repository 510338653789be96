//! A source that finds splits while it runs, read by lanes that fail on their own: the enumerator goes on, readers that
//! restart get back what they were given since the checkpoint, and the others keep theirs.

use std::sync::atomic::{AtomicU64, Ordering};

#[path = "../support/growing_source.rs"]
mod growing_source;
use growing_source::Growing;

use super::*;

#[test]
fn splits_found_while_lanes_fail_are_read_once_each() {
    for seed in 0..25 {
        run(async {
            let dir = tempfile::tempdir().expect("a folder");
            let mut random = Random(2_000 + seed);
            let traps: Vec<u64> = (0..4).map(|_| 1 + random.below(24 * 20)).collect();
            let (tap, trap, target) = (Tap::bounded(24, 20), Trap::at(&traps), Target::new());
            let (env, found) = (environment(3), Arc::new(AtomicU64::new(0)));
            let source = tapped(&tap, |split, n| (split, n));
            let source = Growing { source, found: Arc::clone(&found), made: Arc::default() };
            env.from_source("numbers", source)
                .uid("numbers")
                .map(move |record| {
                    trap.step();
                    record
                })
                .sink_to("out", MemorySink(Arc::clone(&target)))
                .uid("out");
            let mut options = options(dir.path());
            options.checkpoints.interval_ms = Some(1 + random.below(20) as i64);
            let launched = start(&env, options).await;
            while found.load(Ordering::SeqCst) < 24 {
                found.fetch_add(1 + random.below(2), Ordering::SeqCst);
                found.fetch_min(24, Ordering::SeqCst);
                tokio::time::sleep(std::time::Duration::from_millis(random.below(6))).await;
            }
            until(async || target.len() >= 24 * 20).await;
            let after = report(&launched.handle).await;
            let stopped = launched.handle.trigger(millstream_runtime::element::Purpose::StopWithSavepoint, false, None);
            if stopped.await.is_err() {
                launched.handle.cancel().await.expect("cancelled");
            }
            assert_eq!(sorted(&target), numbers(24, 20), "seed {seed}");
            assert!(after.restarts > 0 && after.subtasks.len() == 3, "seed {seed}: {} restarts", after.restarts);
        });
    }
}
