//! The logs: which checkpoint of a job counts, which jobs a cluster has, and who may say so.
//!
//! - [`record`]: what a slot holds, and what all slots of a job together say
//! - [`slots`]: appending with put-if-absent, recovering, sealing: the same for every log
//! - [`job_log`]: the log of a job
//! - [`cluster_log`]: the log of the cluster: leaders, jobs, how they ended; taking the jobs over
//! - [`beacon`]: a leader's sign of life, and when a standby tries to take over
//! - [`manifest`]: writing and reading manifests
//! - [`restore`]: the newest checkpoint that is whole
//! - [`retention`]: which files nobody can reach any more

pub mod beacon;
pub mod cluster_log;
pub mod job_log;
pub mod manifest;
pub mod record;
pub mod restore;
pub mod retention;
pub mod slots;

pub use beacon::{Beacon, Standby, Watched, rewrite_interval_ms};
pub use cluster_log::{
    ClusterLog, ClusterRecord, ClusterState, JobRecord, KnownJob, Leader, TakenJob, Takeover, recover_cluster,
    take_over,
};
pub use job_log::{JobLog, is_ancestor, recover};
pub use manifest::{read_manifest, write_manifest};
pub use record::{
    Digest, LogPosition, LogRecord, LogState, ManifestRef, RecordKind, RetainedCheckpoint, SavepointRef, TerminalState,
    WriterNonce,
};
pub use restore::{Look, Restorable, newest_usable, segments};
pub use retention::{Retention, remove_strays};
pub use slots::{AppendOutcome, SlotLog};

#[cfg(test)]
mod leadership_tests;
#[cfg(test)]
mod schedule;
#[cfg(test)]
mod tests;
