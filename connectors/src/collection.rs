//! Sources over what the program already has: a vector, a range of numbers.

use std::ops::RangeInclusive;
use std::sync::Arc;

use millstream_runtime::batch::Data;
use millstream_runtime::ports::source::Source;

use crate::generator::DataGeneratorSource;

/// The items in order, read by one subtask, as Flink's `fromData`.
pub fn from_collection<T: Data + Sync>(items: Vec<T>) -> impl Source<Record = T> {
    from_collection_with_splits(items, 1)
}

/// The items cut into contiguous splits for several subtasks.
pub fn from_collection_with_splits<T: Data + Sync>(items: Vec<T>, splits: u32) -> impl Source<Record = T> {
    let items: Arc<[T]> = items.into();
    let count = items.len() as u64;
    let item = move |index: u64| {
        let index = usize::try_from(index).expect("an index below a length in memory");
        items[index].clone()
    };
    DataGeneratorSource::new(item, count).splits(splits)
}

/// The numbers of a range, cut into contiguous splits for the subtasks, as Flink's `fromSequence`. An empty range has
/// none.
///
/// # Panics
/// When the range holds all 2^64 numbers.
pub fn from_sequence(range: RangeInclusive<i64>) -> impl Source<Record = i64> {
    let (start, end) = (*range.start(), *range.end());
    let count = match start <= end {
        true => end.abs_diff(start).checked_add(1).expect("fewer than 2^64 numbers"),
        false => 0,
    };
    DataGeneratorSource::new(move |index| start.wrapping_add_unsigned(index), count)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::test_world::{Driven, discover};

    fn all<S: Source>(source: &S) -> Vec<S::Record> {
        Driven::new(source, discover(source).unwrap()).unwrap().drain(3).unwrap()
    }

    #[test]
    fn a_collection_keeps_its_order() {
        let items: Vec<String> = (0..10).map(|n| n.to_string()).collect();
        assert_eq!(all(&from_collection(items.clone())), items);
        let source = from_collection_with_splits(items.clone(), 4);
        assert_eq!(discover(&source).unwrap().len(), 4);
        assert_eq!(all(&source), items);
        assert!(all(&from_collection(Vec::<u8>::new())).is_empty());
    }

    #[test]
    fn a_sequence_holds_both_ends() {
        let mut numbers = all(&from_sequence(-3..=100));
        numbers.sort_unstable();
        assert_eq!(numbers, (-3..=100).collect::<Vec<_>>());
        #[allow(clippy::reversed_empty_ranges)]
        let empty = 5..=4;
        assert!(all(&from_sequence(empty)).is_empty());
        assert_eq!(all(&from_sequence(i64::MIN..=i64::MIN)), [i64::MIN]);
    }
}
