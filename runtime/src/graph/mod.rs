//! The job as a graph: what the API records ([`stream`]), what is deployed ([`job`]), and how one becomes the other
//! ([`chaining`]); [`build`] makes the operators of one subtask; [`regions`] are the subtasks that fail together.

pub mod build;
pub mod chaining;
pub mod job;
pub mod regions;
pub mod stream;

pub use job::{JobEdge, JobGraph, JobVertex};
pub use regions::{FailoverStrategy, Regions};
pub use stream::{NodeId, SlotSharingGroup, StreamGraph};
