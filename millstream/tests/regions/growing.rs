//! A source that finds splits while it runs, read by lanes that fail on their own: the enumerator goes on, readers that
//! restart get back what they were given since the checkpoint, and the others keep theirs.

use std::sync::atomic::{AtomicU64, Ordering};

use millstream_runtime::ports::source::{ReaderContext, SourceReader, Split, SplitEnumerator};

use super::*;

/// Finds as many splits of a tapped source as there are just now.
struct Growing<S> {
    source: S,
    found: Arc<AtomicU64>,
}

struct GrowingEnumerator {
    found: Arc<AtomicU64>,
    given: u64,
}

impl SplitEnumerator for GrowingEnumerator {
    fn discover(&mut self) -> Result<Vec<Split>, PortError> {
        let new = self.given..self.found.load(Ordering::SeqCst);
        self.given = new.end;
        Ok(new.map(|id| Split { id: id.to_string(), position: 0u64.to_be_bytes().to_vec() }).collect())
    }

    fn discovery_interval_ms(&self) -> Option<u64> {
        Some(1)
    }

    fn snapshot(&self) -> Vec<u8> {
        self.given.to_be_bytes().to_vec()
    }
}

impl<S: Source> Source for Growing<S> {
    type Record = S::Record;

    fn is_bounded(&self) -> bool {
        false
    }

    fn enumerator(&self, restored: Option<&[u8]>) -> Result<Box<dyn SplitEnumerator>, PortError> {
        let given = restored.map(|bytes| u64::from_be_bytes(bytes.try_into().expect("eight bytes"))).unwrap_or(0);
        Ok(Box::new(GrowingEnumerator { found: Arc::clone(&self.found), given }))
    }

    fn reader(&self, context: ReaderContext) -> Result<Box<dyn SourceReader<S::Record>>, PortError> {
        self.source.reader(context)
    }
}

#[test]
fn splits_found_while_lanes_fail_are_read_once_each() {
    for seed in 0..25 {
        run(async {
            let dir = tempfile::tempdir().expect("a folder");
            let mut random = Random(2_000 + seed);
            let traps: Vec<u64> = (0..4).map(|_| 1 + random.below(24 * 20)).collect();
            let (tap, trap, target) = (Tap::bounded(24, 20), Trap::at(&traps), Target::new());
            let (env, found) = (environment(3), Arc::new(AtomicU64::new(0)));
            let source = Growing { source: tapped(&tap, |split, n| (split, n)), found: Arc::clone(&found) };
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
