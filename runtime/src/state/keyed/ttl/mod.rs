//! Time to live of keyed state: an entry that is not used for some time expires. Flink's `StateTtlConfig`, besides event
//! time.
//!
//! - [`config`]: how long, what counts as use, who sees what has expired
//! - [`table`]: the tables of such states, and how they are cleaned up
//! - [`value`], [`list`], [`map`], [`folding`]: the kinds of state

mod config;
mod folding;
mod list;
mod map;
mod table;
mod value;

pub use config::{StateTtl, StateVisibility, TtlTime, UpdateType};
pub use folding::{TtlAggregatingState, TtlReducingState};
pub use list::TtlListState;
pub use map::TtlMapState;
pub use value::TtlValueState;
