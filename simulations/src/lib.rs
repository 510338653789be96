//! Whole clusters in one thread: real links and channels over a simulated network, time and faults from a seed. The same
//! seed gives the same run, packet by packet; a failing seed is a reproduction.
//!
//! | question | file |
//! |---|---|
//! | what a seed decides | [`plan`] |
//! | how a run is driven, and what it came to | [`simulation`] |
//! | what is compared between two runs | [`trace`] |
//! | the adapters to the world | [`socket`], [`world`] |
//! | a whole cluster that runs a job: what is checked, and how | [`cluster`] |
//! | what hosts do without one | [`counting`]: links exchange control and counted data; [`watch`]: who is alive |
#![deny(missing_docs)]

pub mod cluster;
pub mod counting;
pub mod plan;
pub mod simulation;
pub mod socket;
pub mod trace;
pub mod watch;
pub mod world;
