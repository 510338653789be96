//! What a node keeps to restart quickly: the newest completed checkpoints of its subtasks, folded into LMDB. The
//! checkpoint store stays the truth; everything here may be lost.
//!
//! - [`node`]: the locked folder of a node, its id and its incarnation
//! - [`store`]: one LMDB environment per job, leases, positions per key group
//! - [`fold`]: completed cuts go in, or everything is loaded anew; [`rewrite`]: changes go into blocks
//! - [`block`]: how entries lie in LMDB
//! - [`view`]: what a restarted subtask reads, cuts not folded yet included

pub mod block;
pub mod fold;
pub mod node;
pub mod rewrite;
pub mod store;
pub mod view;

pub use fold::{FoldOutcome, FoldRequest};
pub use node::NodeFolder;
pub use store::{GroupRecord, Lease, LocalOptions, LocalStore, Position, segments_to_fold};
pub use view::StateView;

#[cfg(test)]
mod rewrite_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod unseen_tests;
#[cfg(test)]
mod window_tests;
