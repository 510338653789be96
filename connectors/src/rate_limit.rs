//! Slows any source down to so many records per second over the whole job.

use std::sync::Arc;

use millstream_runtime::ports::PortError;
use millstream_runtime::ports::source::{
    Polled, ReaderContext, Source, SourceReader, Split, SplitEnumerator, SplitIndex, SplitProgress,
};
use millstream_runtime::time::Timestamp;

/// A reader out of tokens sleeps at least so long, so that low rates do not cost a wake-up per record.
const MIN_SLEEP_MS: u64 = 10;
/// What a reader may catch up after it could not run, or nothing was there to read.
const BURST_MS: u64 = 200;

/// A source limited to a number of records per second over the whole job, shared evenly among its subtasks: a
/// subtask without work does not pass its share on.
pub struct RateLimited<S> {
    source: S,
    records_per_second: u64,
}

impl<S: Source> RateLimited<S> {
    /// Limits `source` to so many records per second, at least 1.
    #[must_use]
    pub fn new(source: S, records_per_second: u64) -> Self {
        Self { source, records_per_second: records_per_second.max(1) }
    }
}

impl<S: Source> Source for RateLimited<S> {
    type Record = S::Record;

    fn is_bounded(&self) -> bool {
        self.source.is_bounded()
    }

    fn enumerator(&self, restored: Option<&[u8]>) -> Result<Box<dyn SplitEnumerator>, PortError> {
        self.source.enumerator(restored)
    }

    fn reader(&self, context: ReaderContext) -> Result<Box<dyn SourceReader<S::Record>>, PortError> {
        let bucket = Bucket::new(self.records_per_second, context.parallelism, context.clock.now_ms());
        let reader = self.source.reader(context.clone())?;
        Ok(Box::new(LimitedReader { reader, bucket, context, wake_due_ms: None }))
    }
}

/// A token bucket. One record costs [`Bucket::cost`] tokens; a millisecond brings `rate` of them: whole numbers, so
/// nothing is lost to rounding however often it is asked.
struct Bucket {
    rate: i128,
    /// 1,000 milliseconds times the number of subtasks that share the rate.
    cost: i128,
    tokens: i128,
    filled_ms: Timestamp,
}

impl Bucket {
    fn new(records_per_second: u64, parallelism: u32, now: Timestamp) -> Self {
        let cost = 1_000 * i128::from(parallelism.max(1));
        Self { rate: i128::from(records_per_second), cost, tokens: 0, filled_ms: now }
    }

    /// Records that may be read now.
    fn fill(&mut self, now: Timestamp) -> usize {
        let elapsed = i128::from(now) - i128::from(self.filled_ms);
        self.filled_ms = now;
        // At least one record must fit, or a slow job would never read any. A clock set back brings nothing.
        let room = (self.rate * i128::from(BURST_MS)).max(self.cost);
        self.tokens = (self.tokens + self.rate * elapsed.max(0)).min(room);
        usize::try_from(self.tokens / self.cost).unwrap_or(0)
    }

    /// Pays for records; more than were allowed is a debt.
    fn take(&mut self, records: usize) {
        self.tokens -= records as i128 * self.cost;
    }

    /// Milliseconds until a record may be read.
    fn wait_ms(&self) -> u64 {
        let missing = (self.cost - self.tokens).max(0);
        u64::try_from((missing + self.rate - 1) / self.rate).unwrap_or(u64::MAX).max(MIN_SLEEP_MS)
    }
}

struct LimitedReader<T> {
    reader: Box<dyn SourceReader<T>>,
    bucket: Bucket,
    context: ReaderContext,
    /// When the wake-up that was asked for is due.
    wake_due_ms: Option<Timestamp>,
}

impl<T> SourceReader<T> for LimitedReader<T> {
    fn add_splits(&mut self, splits: Vec<Split>, floor: Timestamp) -> Result<(), PortError> {
        self.reader.add_splits(splits, floor)
    }

    fn no_more_splits(&mut self) {
        self.reader.no_more_splits();
    }

    fn poll(&mut self, progress: &dyn SplitProgress, max_rows: usize, rows: &mut Vec<T>) -> Result<Polled, PortError> {
        let now = self.context.clock.now_ms();
        let allowed = self.bucket.fill(now);
        if allowed == 0 {
            let wait = self.bucket.wait_ms();
            let due = now.saturating_add(i64::try_from(wait).unwrap_or(i64::MAX));
            // Polled again by somebody else: one wake-up on its way is enough.
            let planned = self.wake_due_ms.is_some_and(|planned| planned > now && planned <= due);
            if !planned {
                self.wake_due_ms = Some(due);
                (Arc::clone(&self.context.wake_after))(wait);
            }
            return Ok(Polled::Waiting);
        }
        let before = rows.len();
        let polled = self.reader.poll(progress, max_rows.min(allowed), rows)?;
        self.bucket.take(rows.len() - before);
        Ok(polled)
    }

    fn snapshot(&mut self) -> Result<Vec<(SplitIndex, Split)>, PortError> {
        self.reader.snapshot()
    }

    fn pending_bytes(&self) -> Option<u64> {
        self.reader.pending_bytes()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::error::lock;
    use crate::generator::DataGeneratorSource;
    use crate::test_world::{Watermarks, World, discover};

    /// Records of one of `parallelism` subtasks within some seconds of a clock that only timers move, each `late_ms`
    /// too late.
    fn records(rate: u64, parallelism: u32, seconds: i64, late_ms: i64) -> usize {
        let source = DataGeneratorSource::unbounded(|n| n).records_per_second(rate);
        let world = Arc::new(World::default());
        let mut reader = source.reader(world.context(0, parallelism)).unwrap();
        reader.add_splits(discover(&source).unwrap(), 0).unwrap();
        let mut rows = Vec::new();
        loop {
            if reader.poll(&Watermarks::default(), 1_024, &mut rows).unwrap() == Polled::Waiting {
                assert!(lock(&world.timers).len() <= 1, "one wake-up at a time");
                assert!(world.next_timer());
                world.now_ms.fetch_add(late_ms, std::sync::atomic::Ordering::SeqCst);
            }
            if world.now_ms.load(std::sync::atomic::Ordering::SeqCst) >= seconds * 1_000 {
                return rows.len();
            }
        }
    }

    #[test]
    fn the_rate_is_kept_within_5_percent_also_with_late_wake_ups() {
        for (rate, parallelism) in [(1u64, 1u32), (10, 1), (1_000, 3), (33_333, 2), (5_000_000, 2)] {
            for late_ms in [0, 7, 40] {
                let seconds = 30i64;
                let wanted = rate as f64 * seconds as f64 / f64::from(parallelism);
                let seen = records(rate, parallelism, seconds, late_ms) as f64;
                // One batch may be missing at the end of the span.
                let slack = wanted * 0.05 + 1.0;
                assert!((seen - wanted).abs() <= slack, "{rate}/s over {parallelism}: {seen} instead of {wanted}");
            }
        }
    }

    #[test]
    fn a_pause_is_not_caught_up_beyond_the_burst() {
        let mut bucket = Bucket::new(1_000, 1, 0);
        assert_eq!(bucket.fill(60_000), 200);
        bucket.take(300);
        assert_eq!(bucket.fill(60_000), 0);
        assert_eq!(bucket.wait_ms(), 101);
        assert_eq!(bucket.fill(1_000), 0, "a clock set back brings nothing");
    }
}
