//! The actor of one node's subtasks: opens their state, spawns them, wires their channels, passes orders on, and tells
//! the job masters what becomes of them. Knows nothing of checkpoints, restarts or leaders.
//!
//! - [`message`]: what it is told
//! - [`actor`]: the loop
//! - [`hosted`]: what the node has of one job
//! - [`opening`]: from the data of a deployment to readers and operators
//! - [`migration`]: state that the program declares otherwise than it is stored is rewritten
//! - [`spawning`]: the subtasks of an attempt come to life
//! - [`wiring`]: channels between subtasks
//! - [`cancellation`]: subtasks that were told to go and do not
//! - [`handle`]: how it is started, and the gateway within one process

pub mod actor;
pub mod cancellation;
pub mod handle;
pub mod hosted;
pub mod message;
pub mod migration;
pub mod opening;
pub mod spawning;
pub mod wiring;

pub use actor::TaskManagerArguments;
pub use cancellation::Cancellation;
pub use handle::{LocalGateway, NoTransport, start};
pub use message::TaskManagerMessage;
