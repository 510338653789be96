//! Who talks to whom: ractor actors around the machines of `millstream-runtime`. Actors feed machines and carry out
//! their commands; they decide nothing.
//!
//! | question | module |
//! |---|---|
//! | how a subtask runs | [`subtask`] |
//! | which subtasks run on a node, and how their channels are wired | [`task_manager`] |
//! | how a job is deployed, checkpointed, restarted and ended | [`job_master`] |
//! | what job master and task managers say to each other | [`protocol`] |
//! | how a job starts in this process | [`launch`] |
//! | which jobs a cluster runs, and who gets its slots | [`dispatcher`] |
//! | who leads a cluster, and what a standby does | [`leadership`] |
//! | how nodes find each other, and what follows when one is lost | [`node`] |
//! | what a node keeps of keyed state | [`local`] |
//! | how rows that a barrier overtook are stored, and who goes on with them | [`in_flight`] |
//! | what is measured, and how it is told | [`metrics`], [`view`] |
//! | which clock, threads and store are used | [`world`] |
#![deny(missing_docs)]

pub mod dispatcher;
pub mod in_flight;
pub mod job_master;
pub mod launch;
pub mod leadership;
pub mod local;
pub mod metrics;
pub mod node;
pub mod protocol;
pub mod subtask;
pub mod task_manager;
pub mod view;
pub mod world;
