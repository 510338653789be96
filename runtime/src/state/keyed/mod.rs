//! Keyed state as functions hold it: typed fields of the function itself, found by the runtime through
//! [`KeyedState`]. Access goes straight to the typed table: no look-up by name, no virtual call.
//!
//! - [`ValueState`], [`ListState`], [`MapState`]: a value, a list, a map per key
//! - [`ReducingState`], [`AggregatingState`]: what was added, folded together
//! - [`ttl`]: all of them with a time to live
//! - `declared`, [`backing`]: a table under a name, what all of them are made of, and how the runtime sees it

mod aggregating;
pub mod backing;
mod declared;
mod list;
mod map;
mod reducing;
pub mod ttl;
mod value;

use super::table::KeyContext;
use crate::time::Timestamp;

pub use aggregating::{AggregateFunction, AggregatingState};
pub use backing::{KeyedState, StateBacking};
pub(crate) use declared::Declared;
pub use list::ListState;
pub use map::MapState;
pub use reducing::ReducingState;
pub use value::ValueState;

/// The times that a record or a timer is processed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Processing time when the batch was taken up, milliseconds since the epoch.
    pub processing: Timestamp,
    /// The watermark.
    pub watermark: Timestamp,
    /// Event time of the record or timer.
    pub timestamp: Option<Timestamp>,
}

/// The current key: given by every context of a keyed function.
pub trait CurrentKey<K> {
    /// The key that is being processed.
    fn current(&self) -> &KeyContext<K>;
    /// When it is processed.
    fn times(&self) -> Times;
}
