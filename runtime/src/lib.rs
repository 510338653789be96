//! What a stream processor is: synchronous and deterministic. Events in, commands out; no await, clock, randomness or I/O.
//!
//! | question | module |
//! |---|---|
//! | what is named how | [`ids`], [`time`] |
//! | where a key lives | [`key`], [`key_group`] |
//! | what crosses an edge | [`batch`], [`element`] |
//! | what a checkpoint consists of | [`state::cut`], [`checkpoint::manifest`] |
//! | how entries are encoded | [`state::entries`], [`varint`] |
//! | when checkpoints start and complete, when sinks commit | [`checkpoint::coordinator`], [`checkpoint::commit`] |
//! | which deployment of a job runs, what follows a failure | [`job`] |
//! | which nodes are alive | [`membership`] |
//! | what the world must offer | [`ports`] |
#![deny(missing_docs)]

pub mod batch;
pub mod chain;
pub mod checkpoint;
pub mod credit;
pub mod element;
pub mod exchange;
#[cfg(test)]
mod exploration;
pub mod graph;
pub mod ids;
pub mod job;
pub mod key;
pub mod key_group;
pub mod membership;
pub mod ports;
pub mod state;
pub mod subtask;
pub mod time;
pub mod varint;
