//! Sources and sinks: the outside world behind `runtime::ports::{source, sink}`.
//!
//! | question | module |
//! |---|---|
//! | lines of files in a folder, once or for ever | [`file::source`] |
//! | rows as lines of files, exactly once | [`file::sink`] |
//! | rows as entries of a table in LMDB, exactly once | [`table`] |
//! | records from a function or a collection | [`generator`], [`collection`] |
//! | a source slowed down | [`rate_limit`] |
//! | rows on standard output, or nowhere | [`mod@print`], [`blackhole`] |
//!
//! ```no_run
//! use millstream_connectors::file::source::FileSource;
//! let transactions = FileSource::<(u64, String)>::json_lines("data/transactions").watch(1_000);
//! ```
#![deny(missing_docs)]

pub mod blackhole;
pub mod collection;
mod error;
pub mod file;
pub mod generator;
pub mod print;
pub mod rate_limit;
pub mod table;
#[cfg(test)]
mod test_world;
