//! The life of a job: its states, its deployments, and what follows a failure.
//!
//! - [`machine`]: the life cycle machine [`Job`]; files beside it have one region of it, and what it commands
//! - [`status`]: Flink's job states, each with the time it was entered
//! - [`restart`]: whether and when a failed job is deployed again
//! - [`exceptions`]: the failures a user can look at
//! - [`placement`]: which node each subtask runs on
//! - [`slots`]: which job has which slots
//! - [`requirements`]: how many subtasks vertices may have, and how many they get with so many slots
//! - [`adaptive`]: when a job is made for other slots than it was
//! - [`scheduling`]: the states of Flink's adaptive scheduler

pub mod adaptive;
pub mod command;
pub mod exceptions;
pub mod machine;
pub mod placement;
mod region;
pub mod requirements;
pub mod restart;
pub mod scheduling;
pub mod slots;
pub mod status;

#[cfg(test)]
mod exploration_tests;
#[cfg(test)]
mod machine_tests;
#[cfg(test)]
mod restart_tests;

pub use adaptive::AdaptiveScheduler;
pub use command::{Command, Reply, Scope};
pub use exceptions::{ExceptionEntry, ExceptionHistory, Failure};
pub use machine::{Job, Options};
pub use requirements::{Parallelism, ParallelismBounds, Requirements};
pub use restart::{RestartOptions, RestartStrategy};
pub use scheduling::SchedulerState;
pub use status::{JobStatus, StatusTimestamps};
