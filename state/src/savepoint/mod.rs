//! Savepoints: a folder of its own with everything in it, that can be moved, looked at and restored from.
//!
//! ```text
//! SAVEPOINT/_metadata                         the manifest; Flink's file name
//! SAVEPOINT/segments/{vertex}/{subtask}.seg   one or more segments per subtask, named relative to the folder
//! ```
//! - [`mod@write`]: made from a manifest of the checkpoint store
//! - [`read`]: opened again, also from a retained checkpoint, and brought into the store of a job
//! - [`mod@inspect`]: what is in it, for users

pub mod inspect;
pub mod read;
pub mod write;

pub use inspect::{OperatorSummary, SavepointSummary, StateSummary, VertexSummary, inspect};
pub use read::{Savepoint, read_savepoint};
pub use write::{write_savepoint, write_savepoint_to};

/// Name of the manifest in a savepoint's folder.
pub const METADATA: &str = "_metadata";

#[cfg(test)]
mod tests;
