//! The actor of one subtask: feeds the machine and the chain, starts what they ask for, and tells the job master.
//!
//! - [`alignment`]: how long barriers are on their way
//! - [`message`]: what it is told
//! - [`actor`]: the loop: one batch a message, control in between
//! - [`cuts`]: the way of a cut through the actor
//! - [`driver`]: machine and chain together, without any actor
//! - [`snapshot`]: from a barrier to a durable segment

pub mod actor;
pub mod alignment;
pub mod cuts;
pub mod driver;
pub mod message;
pub mod snapshot;

pub use actor::{SubtaskActor, SubtaskArguments};
pub use message::{Announced, Deployment, SubtaskMessage};
