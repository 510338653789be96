//! Functions on keyed streams: state per key, timers, and a broadcast input.
//!
//! - [`function`]: what users write
//! - [`operator`]: how rows, watermarks and timers run through it
//! - [`backend`]: states and timers of one operator: cuts, restore, fetching what is not in memory
//! - `residency`: what of them is in memory, and what leaves it
//! - [`reduce`]: rolling aggregates

pub mod backend;
pub mod function;
pub mod operator;
pub mod reduce;
mod residency;

pub use function::{KeyedBroadcastFunction, KeyedContext, KeyedProcessFunction, WithoutBroadcast, schemas};
pub use operator::Keyed;
