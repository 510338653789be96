//! What crosses an edge between subtasks: a batch of rows, never a single record.
//! The runtime handles `dyn Batch`; [`Rows`] is the typed vector of the DataStream API.

use std::any::Any;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::time::{MIN_TIMESTAMP, Timestamp};

/// Rows in a full batch unless configured otherwise.
pub const DEFAULT_BATCH_ROWS: usize = 1_024;

/// Bytes at which a batch is full unless configured otherwise.
pub const DEFAULT_BATCH_BYTES: usize = 1 << 20;

/// Of rows that own memory, one in so many is weighed and stands for the others: weighing every row would cost more
/// than moving it.
const WEIGHED_EVERY: usize = 16;

/// When a batch is full, whichever comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchLimit {
    /// At this many rows.
    pub rows: usize,
    /// At this many bytes, as [`Weight`] counts them.
    pub bytes: usize,
}

impl Default for BatchLimit {
    fn default() -> Self {
        Self { rows: DEFAULT_BATCH_ROWS, bytes: DEFAULT_BATCH_BYTES }
    }
}

impl BatchLimit {
    /// The rows of a full batch of `T`, as far as that is known before its rows are: a row that owns memory is larger
    /// than its type, and how much is found out by weighing.
    #[must_use]
    pub fn full_rows<T>(&self) -> usize {
        self.rows.min(self.bytes / size_of::<T>().max(1)).max(1)
    }
}

/// How many bytes rows take. Exact for types that own nothing on the heap, and then known from the type alone. Others
/// are weighed: the size of the type, or of the wire form where that is larger, of one row in sixteen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weight {
    bytes: usize,
}

impl Weight {
    /// Counts the row that became the `rows`-th of its batch.
    #[inline(always)]
    pub fn add<T: Data>(&mut self, row: &T, rows: usize) {
        if std::mem::needs_drop::<T>() && rows % WEIGHED_EVERY == 1 {
            self.bytes += WEIGHED_EVERY * weigh(row);
        }
    }

    /// Whether the bytes reach the limit. Always false for types that own nothing: for them, rows count.
    #[inline(always)]
    #[must_use]
    pub fn reaches<T>(&self, limit: &BatchLimit) -> bool {
        std::mem::needs_drop::<T>() && self.bytes >= limit.bytes
    }
}

/// Bytes of one row: of its type, or of its wire form if that is larger.
#[inline(never)]
fn weigh<T: Data>(row: &T) -> usize {
    let mut counted = Counted(0);
    // A row that refuses to be serialised says so when it has to be.
    let _refused = rmp_serde::encode::write(&mut counted, row);
    counted.0.max(size_of::<T>())
}

/// Counts what is written.
struct Counted(usize);

impl std::io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What a record of the DataStream API can do: move between threads, be copied for a second consumer, and be written
/// to a wire or a file. Implemented for every type that qualifies.
pub trait Data: Clone + Send + Serialize + DeserializeOwned + 'static {}
impl<T: Clone + Send + Serialize + DeserializeOwned + 'static> Data for T {}

/// A batch whose record type the runtime does not know.
pub trait Batch: Any + Send {
    /// Number of rows.
    fn len(&self) -> usize;

    /// Whether there is no row.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes held, for credit by size; see [`Weight`] for how close that is.
    fn size_bytes(&self) -> usize;

    /// Appends the wire form (rmp-serde arrays, the whole batch one value).
    ///
    /// # Errors
    /// When a record refuses to be serialised.
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), BatchError>;
}

impl dyn Batch {
    /// The typed batch.
    ///
    /// # Panics
    /// When the graph connected operators of different types: the typed API makes that impossible.
    #[must_use]
    pub fn into_rows<T: Data>(self: Box<Self>) -> Rows<T> {
        let any: Box<dyn Any> = self;
        match any.downcast::<Rows<T>>() {
            Ok(rows) => *rows,
            Err(_) => panic!("an edge delivered a batch that is not Rows<{}>", std::any::type_name::<T>()),
        }
    }
}

/// A batch that could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// Serialisation failed.
    #[error("a record could not be serialised: {0}")]
    Encode(#[from] rmp_serde::encode::Error),
    /// The bytes are not a batch of this type.
    #[error("a batch could not be read: {0}")]
    Decode(#[from] rmp_serde::decode::Error),
}

/// Typed rows with their event timestamps.
///
/// Invariant: `timestamps` is empty (no row has one) or exactly as long as `values`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows<T> {
    /// The records.
    pub values: Vec<T>,
    /// Their event times in milliseconds, or nothing.
    pub timestamps: Vec<Timestamp>,
}

impl<T> Default for Rows<T> {
    fn default() -> Self {
        Self { values: Vec::new(), timestamps: Vec::new() }
    }
}

impl<T> Rows<T> {
    /// Rows without timestamps.
    #[must_use]
    pub fn untimed(values: Vec<T>) -> Self {
        Self { values, timestamps: Vec::new() }
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Appends a row. Once one row has a timestamp all have: the others count as untimed.
    #[inline]
    pub fn push(&mut self, value: T, timestamp: Option<Timestamp>) {
        if let Some(timestamp) = timestamp {
            if self.timestamps.len() < self.values.len() {
                self.timestamps.resize(self.values.len(), MIN_TIMESTAMP);
            }
            self.timestamps.push(timestamp);
        } else if !self.timestamps.is_empty() {
            self.timestamps.push(MIN_TIMESTAMP);
        }
        self.values.push(value);
    }

    /// The timestamp of row `index`, if rows have timestamps.
    #[inline]
    #[must_use]
    pub fn timestamp(&self, index: usize) -> Option<Timestamp> {
        self.timestamps.get(index).copied()
    }
}

impl<T: Data> Rows<T> {
    /// Reads what [`Batch::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are not such a batch.
    pub fn decode(bytes: &[u8]) -> Result<Self, BatchError> {
        let (values, timestamps) = rmp_serde::from_slice(bytes)?;
        Ok(Self { values, timestamps })
    }
}

impl<T: Data> Batch for Rows<T> {
    fn len(&self) -> usize {
        self.values.len()
    }

    fn size_bytes(&self) -> usize {
        let rows = if std::mem::needs_drop::<T>() {
            let weighed = self.values.iter().step_by(WEIGHED_EVERY);
            let bytes: usize = weighed.map(weigh).sum();
            bytes * self.values.len() / self.values.len().div_ceil(WEIGHED_EVERY).max(1)
        } else {
            self.values.len() * size_of::<T>()
        };
        rows + self.timestamps.len() * size_of::<Timestamp>()
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), BatchError> {
        Ok(rmp_serde::encode::write(out, &(&self.values, &self.timestamps))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_round_trip_through_the_wire_form() {
        let rows = Rows { values: vec![(1u64, "a".to_string()), (2, "b".to_string())], timestamps: vec![-5, 7] };
        let mut bytes = Vec::new();
        Batch::encode(&rows, &mut bytes).expect("tuples serialise");
        assert_eq!(Rows::decode(&bytes).expect("just written"), rows);
        assert!(Rows::<(u64, String)>::decode(&bytes[1..]).is_err());
    }

    #[test]
    fn bytes_on_the_heap_count_where_rows_own_some() {
        let texts = |length| Rows::untimed(vec!["x".repeat(length); 40]);
        let bytes = texts(1_000).size_bytes();
        assert!((40_000..41_000).contains(&bytes), "{bytes}");
        assert_eq!(texts(1).size_bytes(), 40 * size_of::<String>(), "never less than the type");
        assert_eq!(Rows::untimed(vec![(1u64, 2u32); 10]).size_bytes(), 160, "exact");
        assert_eq!(Rows::<String>::default().size_bytes(), 0);
    }
}
