//! Which nodes are alive, and which of them reach each other: signs of life and time in, verdicts out. The job manager
//! asks it before it places tasks, and obeys it when it gives a node up.
//!
//! - [`machine`]: the failure detector [`Membership`]

pub mod machine;

#[cfg(test)]
mod exploration_tests;
#[cfg(test)]
mod machine_tests;

pub use machine::{LossReason, Membership, NodeState, Options, Verdict};
