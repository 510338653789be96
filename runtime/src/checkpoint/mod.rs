//! Checkpoints: what a completed one consists of, who decides about it, and what sinks do behind it.
//!
//! - [`manifest`]: the record that a job can be restored from
//! - [`coordinator`]: when checkpoints start, complete, or are given up
//! - [`commit`]: when a sink's transactions are committed

pub mod commit;
pub mod coordinator;
pub mod manifest;

pub use commit::Commit;
pub use coordinator::Coordinator;
