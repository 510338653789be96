//! The log of a job: the one place that says which checkpoint counts, and who may say so.
//!
//! - [`record`]: what a slot holds, and what all slots together say
//! - [`job_log`]: appending with put-if-absent, recovering, sealing
//! - [`manifest`]: writing and reading manifests
//! - [`restore`]: the newest checkpoint that is whole
//! - [`retention`]: which files nobody can reach any more

pub mod job_log;
pub mod manifest;
pub mod record;
pub mod restore;
pub mod retention;

pub use job_log::{AppendOutcome, JobLog, is_ancestor, recover};
pub use manifest::{read_manifest, write_manifest};
pub use record::{
    Digest, LogPosition, LogRecord, LogState, ManifestRef, RecordKind, RetainedCheckpoint, SavepointRef, TerminalState,
    WriterNonce,
};
pub use restore::{Look, Restorable, newest_usable, segments};
pub use retention::{Retention, remove_strays};

#[cfg(test)]
mod tests;
