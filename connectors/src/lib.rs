//! Sources and sinks: the outside world behind `runtime::ports::{source, sink}`.
//!
//! | question | module |
//! |---|---|
//! | lines of files in a folder, once or for ever | [`file::source`] |
//! | rows as lines of files, exactly once | [`file::sink`] |
//!
//! ```no_run
//! use millstream_connectors::file::source::FileSource;
//! let transactions = FileSource::<(u64, String)>::json_lines("data/transactions").watch(1_000);
//! ```
#![deny(missing_docs)]

mod error;
pub mod file;
#[cfg(test)]
mod test_world;
