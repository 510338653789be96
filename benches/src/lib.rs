//! Benchmarks of the whole engine: real launches with real checkpoints, one process a run.
//!
//! | question | module |
//! |---|---|
//! | how a case is run and told | [`cases`] |
//! | how a job is launched and watched | [`job`] |
//! | how a cluster of processes is started and watched | [`cluster`], [`beats`] |
//! | what a process has used | [`process`] |
//! | what the jobs read and write | [`records`], [`counting`], [`sinks`], [`paced`], [`holding`] |
#![deny(missing_docs)]
#![expect(clippy::disallowed_methods, reason = "benchmarks measure time")]

pub mod beats;
pub mod cases;
pub mod cluster;
pub mod counting;
pub mod holding;
pub mod job;
pub mod paced;
pub mod process;
pub mod records;
pub mod sinks;
