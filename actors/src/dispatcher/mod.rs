//! The actor of the jobs of a cluster: takes submissions, gives slots of nodes to jobs, and tells the job masters which
//! nodes come and go. What a job does with its slots is its master's business.
//!
//! - [`message`]: what it is told
//! - [`journal`]: the log of the cluster: nothing is promised before its record
//! - [`actor`]: the loop
//! - `fitting`: jobs at the parallelism that they are wanted at, or that their slots allow
//! - `taking`: jobs of an earlier leader, until they run here
//! - [`handle`]: what callers hold

pub mod actor;
mod fitting;
pub mod handle;
pub mod journal;
pub mod message;
mod taking;

pub use actor::DispatcherArguments;
pub use handle::{DispatcherHandle, start};
pub use message::{
    DispatcherMessage, NodeReport, RememberedJob, Scheduling, SchedulingMode, Submission, Submissions, Wanted,
};
