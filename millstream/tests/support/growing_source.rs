//! A source that finds splits while it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use millstream::prelude::*;
use millstream_runtime::ports::source::{ReaderContext, SourceReader, Split, SplitEnumerator};

/// Finds as many splits of a tapped source as there are just now.
pub struct Growing<S> {
    /// What the splits are read by.
    pub source: S,
    /// How many there are.
    pub found: Arc<AtomicU64>,
    /// How many enumerators were made.
    pub made: Arc<AtomicU64>,
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
        self.made.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(GrowingEnumerator { found: Arc::clone(&self.found), given }))
    }

    fn reader(&self, context: ReaderContext) -> Result<Box<dyn SourceReader<S::Record>>, PortError> {
        self.source.reader(context)
    }
}
