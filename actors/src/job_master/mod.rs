//! The actor of one job: feeds the machines (life cycle, checkpoints) and carries out what they command.
//!
//! - [`message`]: what it is told
//! - [`actor`]: the loop
//! - [`carry_out`]: what the coordinator of checkpoints commands
//! - [`deploying`]: what the job machine commands: regions come and go
//! - [`rescaling`]: what goes on when the job is to run as another graph
//! - [`assigning`]: splits from enumerators to readers
//! - [`deployment`]: where the subtasks of an attempt are, and the way to the nodes that run them
//! - [`prepare`]: what a deployment starts from
//! - [`restore`]: what each subtask gets of a manifest
//! - [`enumerators`]: splits on their way to readers, in order with the triggers
//! - [`recording`]: records on their way, and what follows
//! - [`records`]: manifests, the job's log, savepoints
//! - [`cleaning`]: files that nothing needs any more
//! - [`report`]: what REST shows
//! - [`handle`]: what callers hold

pub mod actor;
pub mod assigning;
pub mod carry_out;
pub mod cleaning;
pub mod deploying;
pub mod deployment;
pub mod enumerators;
pub mod handle;
pub mod message;
pub mod prepare;
pub mod recording;
pub mod records;
pub mod report;
pub mod rescaling;
pub mod restore;

pub use actor::{JobArguments, JobMaster};
pub use handle::JobHandle;
pub use message::JobMasterMessage;
