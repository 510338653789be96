//! A node of a cluster: obeys job managers with its task manager, and leads with its dispatcher, over links to the other
//! nodes. Which nodes are alive is decided by the failure detector `Membership`; this actor feeds it and tells whoever
//! relies on a node that it is there or lost.
//!
//! - [`control`]: what nodes say to each other
//! - [`gateway`]: the way to a task manager on another node
//! - [`actor`]: the loop
//! - [`handle`]: how a node is started

pub mod actor;
pub mod control;
pub mod gateway;
pub mod handle;

pub use actor::{NodeArguments, NodeMessage};
pub use handle::{EventReceiver, NodeHandle, events, start};
