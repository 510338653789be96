//! State on disk: the checkpoint store, segments, the local LMDB materialisation, a job's log, and savepoints.
//! Everything here is synchronous and blocking; actors run it on the blocking executor.
//!
//! | question | module |
//! |---|---|
//! | where blobs go | [`blob`] |
//! | what a cut looks like in a file, and how a chain of them is merged | [`segment`] |
//! | what a node keeps to restart quickly | [`local`] |
//! | which checkpoint counts, and who may say so | [`log`] |
//! | what a user takes along | [`savepoint`] |
//! | where a test may kill the process | [`failpoint`] |
//! | how files are named and framed | [`names`], [`frame`] |
#![deny(missing_docs)]

pub mod blob;
pub mod failpoint;
pub mod frame;
pub mod local;
pub mod log;
pub mod names;
pub mod savepoint;
pub mod segment;

#[cfg(test)]
mod testing;
