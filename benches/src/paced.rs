//! A source that makes records evenly over time, in steps of a millisecond, each with the moment it was made.

use std::sync::Arc;

use millstream_runtime::ports::PortError;
use millstream_runtime::ports::source::{
    Polled, ReaderContext, Source, SourceReader, Split, SplitEnumerator, SplitIndex, SplitProgress,
};
use millstream_runtime::time::Timestamp;

use crate::process::monotonic_ns;
use crate::records::Record;

/// `count` records at `per_second`, both over all subtasks.
#[derive(Clone, Copy)]
pub struct PacedSource {
    /// Records in all.
    pub count: u64,
    /// Records per second.
    pub per_second: u64,
    /// Different keys.
    pub keys: u64,
    /// Subtasks, each with one split.
    pub parallelism: u64,
}

impl Source for PacedSource {
    type Record = Record;

    fn is_bounded(&self) -> bool {
        true
    }

    fn enumerator(&self, _restored: Option<&[u8]>) -> Result<Box<dyn SplitEnumerator>, PortError> {
        Ok(Box::new(Splits((0..self.parallelism).collect())))
    }

    fn reader(&self, context: ReaderContext) -> Result<Box<dyn SourceReader<Record>>, PortError> {
        let wake_after = Arc::clone(&context.wake_after);
        Ok(Box::new(Reader { source: *self, split: None, made: 0, begun_ns: 0, wake_after, finished: false }))
    }
}

/// Splits not returned yet.
struct Splits(Vec<u64>);

impl SplitEnumerator for Splits {
    fn discover(&mut self) -> Result<Vec<Split>, PortError> {
        let split = |number: u64| Split { id: format!("{number:03}"), position: number.to_be_bytes().to_vec() };
        Ok(std::mem::take(&mut self.0).into_iter().map(split).collect())
    }

    fn discovery_interval_ms(&self) -> Option<u64> {
        None
    }

    fn snapshot(&self) -> Vec<u8> {
        Vec::new()
    }
}

struct Reader {
    source: PacedSource,
    split: Option<(u64, Split)>,
    made: u64,
    begun_ns: u64,
    wake_after: Arc<dyn Fn(u64) + Send + Sync>,
    finished: bool,
}

impl SourceReader<Record> for Reader {
    fn add_splits(&mut self, splits: Vec<Split>, _floor: Timestamp) -> Result<(), PortError> {
        for split in splits {
            let number = split.position.as_slice().try_into().map(u64::from_be_bytes);
            let number = number.map_err(|_| PortError::fix_input("not a position of this source"))?;
            self.split = Some((number, split));
            self.begun_ns = monotonic_ns();
        }
        Ok(())
    }

    fn no_more_splits(&mut self) {}

    fn poll(&mut self, _: &dyn SplitProgress, max_rows: usize, rows: &mut Vec<Record>) -> Result<Polled, PortError> {
        let Some((number, _)) = &self.split else { return Ok(Polled::Waiting) };
        let PacedSource { count, per_second, keys, parallelism } = self.source;
        if self.finished {
            return Ok(Polled::EndOfInput);
        }
        let now_ns = monotonic_ns();
        let due = (u128::from(now_ns - self.begun_ns) * u128::from(per_second / parallelism) / 1_000_000_000) as u64;
        let left = due.min(count / parallelism) - self.made;
        if self.made == count / parallelism {
            self.finished = true;
            return Ok(Polled::Finished(SplitIndex(0)));
        }
        if left == 0 {
            (self.wake_after)(1);
            return Ok(Polled::Waiting);
        }
        let batch = left.min(max_rows as u64);
        let first = number + self.made * parallelism;
        rows.extend((0..batch).map(|n| Record { emitted_ns: now_ns, ..Record::new(first + n * parallelism, keys) }));
        self.made += batch;
        Ok(Polled::Rows(SplitIndex(0)))
    }

    fn snapshot(&mut self) -> Result<Vec<(SplitIndex, Split)>, PortError> {
        let split = self.split.as_ref().filter(|_| !self.finished);
        Ok(split.map(|(_, split)| (SplitIndex(0), split.clone())).into_iter().collect())
    }
}
