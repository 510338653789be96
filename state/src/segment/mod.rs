//! Segments: immutable files that cuts are written to, and chains of them.
//!
//! ```text
//! header      magic, version, CRC
//! blocks      sorted entries of one (operator, state, key group), about 16 KiB each, CRC behind each
//! operator states, one region per operator that has any
//! index       who wrote it, declarations by operator, sections, blocks with their first key, watermark
//! footer      place and CRC of the index, CRC
//! ```
//! - [`mod@format`]: the layout; [`writer`]: a cut becomes a segment; [`reader`]: lookups and scans
//! - [`merge`]: what a chain says as a whole, and its compaction into fewer segments
//! - [`mod@migrate`]: a chain rewritten for a program that declares its states otherwise

pub mod format;
pub mod merge;
pub mod migrate;
pub mod reader;
pub mod writer;

pub use merge::{Chain, ChainStates, Compaction, Merge, compact};
pub use migrate::{Migration, migrate};
pub use reader::{EntryCursor, Found, SegmentReader, verify};
pub use writer::{EncodedSegment, SegmentContext, SegmentWriter, write_segment};

#[cfg(test)]
mod tests;
