//! Sources after FLIP-27: an enumerator finds splits, readers read them, positions are state.
//! Implemented in `connectors`; driven by the source operator (readers) and the job master (enumerators).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Blocking, Clock, PortError, Waker};
use crate::batch::Data;
use crate::ids::SubtaskIndex;
use crate::time::Timestamp;

/// A part of the input that one reader reads in order, with how far it has been read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Name, unique within the source and stable over restarts.
    pub id: String,
    /// Position, in the source's own encoding.
    pub position: Vec<u8>,
}

/// A connector that reads.
pub trait Source: Send + Sync + 'static {
    /// What it reads.
    type Record: Data;

    /// Whether the input ends by itself.
    fn is_bounded(&self) -> bool;

    /// The enumerator, from its snapshot after a restore. Runs where the job master runs.
    ///
    /// # Errors
    /// When the snapshot or the options are unusable.
    fn enumerator(&self, restored: Option<&[u8]>) -> Result<Box<dyn SplitEnumerator>, PortError>;

    /// A reader for one subtask, without splits.
    ///
    /// # Errors
    /// When the options are unusable.
    fn reader(&self, context: ReaderContext) -> Result<Box<dyn SourceReader<Self::Record>>, PortError>;
}

/// What a reader gets from the runtime.
#[derive(Clone)]
pub struct ReaderContext {
    /// Which reader this is.
    pub subtask: SubtaskIndex,
    /// How many there are.
    pub parallelism: u32,
    /// For blocking reads; a reader never blocks in [`SourceReader::poll`].
    pub blocking: Arc<dyn Blocking>,
    /// To be called when a reader that answered `Waiting` may have rows.
    pub waker: Waker,
    /// Calls the waker once after so many milliseconds; for readers that look again by time (growing files, rate limits).
    pub wake_after: Arc<dyn Fn(u64) + Send + Sync>,
    /// For rate limits and intervals only.
    pub clock: Arc<dyn Clock>,
}

/// Finds splits. Every method may block: the job master calls them on the blocking executor, one at a time.
pub trait SplitEnumerator: Send {
    /// Splits not returned before. Called once at the start of an attempt and then every
    /// [`discovery_interval_ms`](Self::discovery_interval_ms).
    ///
    /// # Errors
    /// When the place to look is not readable.
    fn discover(&mut self) -> Result<Vec<Split>, PortError>;

    /// Milliseconds between two calls of `discover`; `None` when the first call found everything.
    fn discovery_interval_ms(&self) -> Option<u64>;

    /// What has been returned so far, in a form that [`Source::enumerator`] takes back.
    fn snapshot(&self) -> Vec<u8>;
}

/// Position of a split in the list of a reader's splits, given by [`SourceReader::add_splits`] in order from 0,
/// never reused within an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SplitIndex(pub usize);

/// What a poll came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    /// Rows of one split were appended (possibly none after filtering); poll again.
    Rows(SplitIndex),
    /// This split is at its end and will never have more rows.
    Finished(SplitIndex),
    /// This split has nothing now but may have later: it no longer holds back the watermark until it has rows.
    Idle(SplitIndex),
    /// Nothing at all just now; the waker will be called.
    Waiting,
    /// All splits are finished and [`SourceReader::no_more_splits`] was called.
    EndOfInput,
}

/// Event-time progress of the splits of a reader, so that it can go on with the one furthest behind.
pub trait SplitProgress {
    /// The watermark of a split: `MIN_TIMESTAMP` while unread.
    fn watermark(&self, split: SplitIndex) -> Timestamp;
}

/// Reads splits. Called in the handler of an actor: must never block.
pub trait SourceReader<T>: Send {
    /// Takes over splits, at the position they carry. Each gets the next [`SplitIndex`].
    /// `floor` is the watermark this reader has already promised downstream: rows of the new splits at or below
    /// it are late (`MIN_TIMESTAMP` for splits present at the start).
    ///
    /// # Errors
    /// When a position cannot be understood.
    fn add_splits(&mut self, splits: Vec<Split>, floor: Timestamp) -> Result<(), PortError>;

    /// No further split will be assigned.
    fn no_more_splits(&mut self);

    /// Appends up to about `max_rows` rows of one split to `rows`.
    ///
    /// # Errors
    /// When the input cannot be read; rows that cannot be decoded are the decoder's business.
    fn poll(&mut self, progress: &dyn SplitProgress, max_rows: usize, rows: &mut Vec<T>) -> Result<Polled, PortError>;

    /// The unfinished splits with the position after the last row returned, and their index.
    ///
    /// # Errors
    /// When a position cannot be written.
    fn snapshot(&mut self) -> Result<Vec<(SplitIndex, Split)>, PortError>;

    /// Bytes and records read but not returned yet plus what is known to be waiting (Flink's `pendingRecords`/`pendingBytes`).
    fn pending_bytes(&self) -> Option<u64> {
        None
    }
}
