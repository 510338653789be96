//! The actor of the jobs of a cluster: takes submissions, gives slots of nodes to jobs, and tells the job masters which
//! nodes come and go. What a job does with its slots is its master's business.
//!
//! - [`message`]: what it is told
//! - [`actor`]: the loop
//! - [`handle`]: what callers hold

pub mod actor;
pub mod handle;
pub mod message;

pub use handle::{DispatcherHandle, start};
pub use message::{DispatcherMessage, NodeReport, Submission};
