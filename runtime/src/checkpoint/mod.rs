//! Checkpoints: what a completed one consists of.
//!
//! - [`manifest`]: the record that a job can be restored from

pub mod manifest;
