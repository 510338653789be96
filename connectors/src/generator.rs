//! Records made from their index by a function: test data, load, sequences. [`crate::collection`] builds on it.

use std::marker::PhantomData;

use millstream_runtime::batch::Data;
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::source::{
    Polled, ReaderContext, Source, SourceReader, Split, SplitEnumerator, SplitIndex, SplitProgress,
};
use millstream_runtime::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::rate_limit::RateLimited;

/// Splits unless set otherwise: divides evenly among 1, 2, 3, 4, 6, 8, 12, 16, 24 and 48 subtasks.
pub const DEFAULT_SPLITS: u32 = 48;

/// A source of `make(0), make(1), …`, cut into splits of contiguous indices so that subtasks share the work. With one
/// split the records come in order.
pub struct DataGeneratorSource<T, M> {
    make: M,
    /// `None` for ever.
    count: Option<u64>,
    splits: u32,
    record: PhantomData<fn() -> T>,
}

impl<T, M> DataGeneratorSource<T, M>
where
    T: Data,
    M: Fn(u64) -> T + Clone + Send + Sync + 'static,
{
    /// The records of indices below `count`.
    #[must_use]
    pub fn new(make: M, count: u64) -> Self {
        Self { make, count: Some(count), splits: DEFAULT_SPLITS, record: PhantomData }
    }

    /// Records for ever. Split i of n makes the indices i, i + n, i + 2n, …
    #[must_use]
    pub fn unbounded(make: M) -> Self {
        Self { make, count: None, splits: DEFAULT_SPLITS, record: PhantomData }
    }

    /// Number of splits, at least 1: the greatest parallelism that has work for every subtask.
    #[must_use]
    pub fn splits(mut self, splits: u32) -> Self {
        self.splits = splits.max(1);
        self
    }

    /// Limits the whole job to so many records per second.
    #[must_use]
    pub fn records_per_second(self, rate: u64) -> RateLimited<Self> {
        RateLimited::new(self, rate)
    }

    fn range(&self, split: u32) -> Range {
        let (index, splits) = (u64::from(split), u64::from(self.splits));
        match self.count {
            // In 128 bits, so that no count overflows.
            Some(count) => {
                let bound = |index: u64| {
                    let bound = u128::from(count) * u128::from(index) / u128::from(splits);
                    u64::try_from(bound).expect("not above the count")
                };
                Range { next: bound(index), end: bound(index + 1), step: 1 }
            }
            None => Range { next: index, end: u64::MAX, step: splits },
        }
    }
}

/// The position in a split: the indices that are left.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Range {
    next: u64,
    end: u64,
    step: u64,
}

impl<T, M> Source for DataGeneratorSource<T, M>
where
    T: Data,
    M: Fn(u64) -> T + Clone + Send + Sync + 'static,
{
    type Record = T;

    fn is_bounded(&self) -> bool {
        self.count.is_some()
    }

    fn enumerator(&self, restored: Option<&[u8]>) -> Result<Box<dyn SplitEnumerator>, PortError> {
        let splits = (0..self.splits).map(|split| (split, self.range(split)));
        let splits = splits.filter(|(_, range)| range.next < range.end).map(|(split, range)| Split {
            id: format!("{split:06}"),
            position: rmp_serde::to_vec(&range).expect("numbers always serialise"),
        });
        // All splits are returned by the first call, so a restored enumerator has returned them unless it was not called.
        let returned = matches!(restored, Some([1]));
        Ok(Box::new(Enumerator { splits: splits.collect(), returned }))
    }

    fn reader(&self, _context: ReaderContext) -> Result<Box<dyn SourceReader<T>>, PortError> {
        Ok(Box::new(Reader { make: self.make.clone(), ranges: Vec::new(), reading: Vec::new(), no_more_splits: false }))
    }
}

struct Enumerator {
    splits: Vec<Split>,
    returned: bool,
}

impl SplitEnumerator for Enumerator {
    fn discover(&mut self) -> Result<Vec<Split>, PortError> {
        if std::mem::replace(&mut self.returned, true) {
            return Ok(Vec::new());
        }
        Ok(std::mem::take(&mut self.splits))
    }

    fn discovery_interval_ms(&self) -> Option<u64> {
        None
    }

    fn snapshot(&self) -> Vec<u8> {
        vec![u8::from(self.returned)]
    }
}

struct Reader<M> {
    make: M,
    /// By split index, with the split's name.
    ranges: Vec<(String, Range)>,
    /// Splits that are not finished, ascending.
    reading: Vec<usize>,
    no_more_splits: bool,
}

impl<T, M> SourceReader<T> for Reader<M>
where
    T: Data,
    M: Fn(u64) -> T + Send,
{
    fn add_splits(&mut self, splits: Vec<Split>, _floor: Timestamp) -> Result<(), PortError> {
        for split in splits {
            let range: Range = rmp_serde::from_slice(&split.position).map_err(|error| {
                PortError::fix_input(format!(
                    "the position of generator split {} cannot be read ({error}): it was written by another kind of \
                     source; restore with that one, or start anew",
                    split.id
                ))
            })?;
            self.reading.push(self.ranges.len());
            self.ranges.push((split.id, range));
        }
        Ok(())
    }

    fn no_more_splits(&mut self) {
        self.no_more_splits = true;
    }

    fn poll(&mut self, progress: &dyn SplitProgress, max_rows: usize, rows: &mut Vec<T>) -> Result<Polled, PortError> {
        let furthest_behind = self.reading.iter().copied();
        let Some(index) = furthest_behind.min_by_key(|index| (progress.watermark(SplitIndex(*index)), *index)) else {
            return Ok(if self.no_more_splits { Polled::EndOfInput } else { Polled::Waiting });
        };
        let range = &mut self.ranges[index].1;
        if range.next >= range.end {
            self.reading.retain(|other| *other != index);
            return Ok(Polled::Finished(SplitIndex(index)));
        }
        let left = (range.end - range.next).div_ceil(range.step);
        let batch = left.min(max_rows.max(1) as u64);
        let (first, step) = (range.next, range.step);
        rows.extend((0..batch).map(|n| (self.make)(first + n * step)));
        range.next = first.saturating_add(batch.saturating_mul(step));
        Ok(Polled::Rows(SplitIndex(index)))
    }

    fn snapshot(&mut self) -> Result<Vec<(SplitIndex, Split)>, PortError> {
        let split = |index: &usize| {
            let (id, range) = &self.ranges[*index];
            let position = rmp_serde::to_vec(range).expect("numbers always serialise");
            (SplitIndex(*index), Split { id: id.clone(), position })
        };
        Ok(self.reading.iter().map(split).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::test_world::{Driven, discover};

    fn tripled(n: u64) -> u64 {
        n * 3
    }

    #[test]
    fn every_index_comes_once_over_any_number_of_splits_and_restarts() {
        for (count, splits) in [(0, 3), (1, 3), (10, 1), (10, 3), (100, 48), (7, 48)] {
            let source = DataGeneratorSource::new(tripled, count).splits(splits);
            let mut driven = Driven::new(&source, discover(&source).unwrap()).unwrap();
            let mut rows = Vec::new();
            loop {
                driven.reader.no_more_splits();
                if driven.poll(4, &mut rows).unwrap() == Polled::EndOfInput {
                    break;
                }
                let splits = driven.splits();
                driven = Driven::new(&source, splits).unwrap();
            }
            rows.sort_unstable();
            assert_eq!(rows, (0..count).map(tripled).collect::<Vec<_>>());
        }
    }

    #[test]
    fn splits_are_returned_once_also_after_a_restore() {
        let source = DataGeneratorSource::new(tripled, 10).splits(2);
        let mut enumerator = source.enumerator(None).unwrap();
        let before = enumerator.snapshot();
        assert_eq!(enumerator.discover().unwrap().len(), 2);
        assert!(enumerator.discover().unwrap().is_empty());
        let after = enumerator.snapshot();
        assert!(source.enumerator(Some(&after)).unwrap().discover().unwrap().is_empty());
        assert_eq!(source.enumerator(Some(&before)).unwrap().discover().unwrap().len(), 2);
    }

    #[test]
    fn an_unbounded_generator_interleaves_its_splits() {
        let source = DataGeneratorSource::unbounded(tripled).splits(2);
        assert!(!source.is_bounded());
        let mut driven = Driven::new(&source, discover(&source).unwrap()).unwrap();
        let mut rows = Vec::new();
        driven.progress.0 = vec![0, 1];
        driven.poll(3, &mut rows).unwrap();
        driven.progress.0 = vec![2, 1];
        driven.poll(2, &mut rows).unwrap();
        assert_eq!(rows, [0, 6, 12, 3, 9]);
    }
}
