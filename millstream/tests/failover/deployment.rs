//! Jobs that fail while they are deployed.

use super::*;

#[test]
fn a_job_that_fails_while_it_is_deployed_comes_up_in_the_end() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let env = environment(2);
        let (tap, target) = (Tap::bounded(2, 100), Target::new());
        let failures = Arc::new(AtomicU64::new(0));
        env.from_source("numbers", Flaky { source: tapped(&tap, |_, n| n), failures: Arc::clone(&failures) })
            .uid("numbers")
            .sink_to("out", MemorySink(Arc::clone(&target)))
            .uid("out");
        let launched = start(&env, options(dir.path())).await;
        finish(&launched).await;
        assert_eq!(failures.load(Ordering::SeqCst), 6);
        assert!(report(&launched.handle).await.restarts >= 3);
        assert_eq!(target.len(), 200);
    });
}

/// Fails, or panics, in everything a source is asked for, each for the first two times.
struct Flaky<S> {
    source: S,
    failures: Arc<AtomicU64>,
}

impl<S> Flaky<S> {
    fn fails(&self, from: u64) -> Result<(), PortError> {
        let failures = self.failures.load(Ordering::SeqCst);
        if (from..from + 2).contains(&failures) {
            self.failures.fetch_add(1, Ordering::SeqCst);
            assert!(failures == from, "a source panicked");
            return Err(PortError::retry("the source is away"));
        }
        Ok(())
    }
}

struct FlakyEnumerator<S> {
    enumerator: Box<dyn millstream_runtime::ports::source::SplitEnumerator>,
    flaky: Flaky<S>,
}

use millstream_runtime::ports::source::{ReaderContext, SourceReader, Split, SplitEnumerator};

impl<S: Send> SplitEnumerator for FlakyEnumerator<S> {
    fn discover(&mut self) -> Result<Vec<Split>, PortError> {
        self.flaky.fails(2)?;
        self.enumerator.discover()
    }

    fn discovery_interval_ms(&self) -> Option<u64> {
        self.enumerator.discovery_interval_ms()
    }

    fn snapshot(&self) -> Vec<u8> {
        self.enumerator.snapshot()
    }
}

impl<S: Source> Source for Flaky<S> {
    type Record = S::Record;

    fn is_bounded(&self) -> bool {
        self.source.is_bounded()
    }

    fn enumerator(&self, restored: Option<&[u8]>) -> Result<Box<dyn SplitEnumerator>, PortError> {
        self.fails(0)?;
        let enumerator = self.source.enumerator(restored)?;
        let flaky = Flaky { source: (), failures: Arc::clone(&self.failures) };
        Ok(Box::new(FlakyEnumerator { enumerator, flaky }))
    }

    fn reader(&self, context: ReaderContext) -> Result<Box<dyn SourceReader<S::Record>>, PortError> {
        self.fails(4)?;
        self.source.reader(context)
    }
}
