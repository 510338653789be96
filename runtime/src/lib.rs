//! What a stream processor is: synchronous and deterministic. Events in, commands out; no await, clock, randomness or I/O.
//!
//! | question | module |
//! |---|---|
//! | what is named how | [`ids`], [`time`] |
//! | where a key lives | [`key`], [`key_group`] |
//! | what crosses an edge | [`batch`], [`element`] |
//! | what a checkpoint consists of | [`state::cut`], [`checkpoint::manifest`] |
//! | what the world must offer | [`ports`] |
#![deny(missing_docs)]

pub mod batch;
pub mod checkpoint;
pub mod element;
pub mod ids;
pub mod key;
pub mod key_group;
pub mod ports;
pub mod state;
pub mod time;
