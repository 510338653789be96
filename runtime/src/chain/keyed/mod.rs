//! Functions on keyed streams: state per key, timers, and a broadcast input.
//!
//! - [`function`]: what users write
//! - [`operator`]: how rows, watermarks and timers run through it
//! - [`backend`]: states and timers of one operator: cuts, restore, fetching what is not in memory
//! - [`reduce`]: rolling aggregates

pub mod backend;
pub mod function;
pub mod operator;
pub mod reduce;

pub use function::{KeyedBroadcastFunction, KeyedContext, KeyedProcessFunction, WithoutBroadcast};
pub use operator::Keyed;
