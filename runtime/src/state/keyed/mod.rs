//! Keyed state as functions hold it: typed fields of the function itself, found by the runtime through
//! [`KeyedState`]. Access goes straight to the typed table: no look-up by name, no virtual call.
//!
//! - [`ValueState`], [`ListState`], [`MapState`]: a value, a list, a map per key
//! - [`ReducingState`], [`AggregatingState`]: what was added, folded together
//! - `declared`: a table under a name, what all of them are made of

mod aggregating;
mod declared;
mod list;
mod map;
mod reducing;
mod value;

use std::ops::Range;

use super::cut::KeyedSection;
use super::table::KeyContext;
use crate::key_group::KeyGroup;
use crate::ports::PortError;
use crate::ports::state::{EntryAddress, StateNumber};

pub use aggregating::{AggregateFunction, AggregatingState};
pub(crate) use declared::Declared;
pub use list::ListState;
pub use map::MapState;
pub use reducing::ReducingState;
pub use value::ValueState;

/// A keyed state, as a function shows it to the runtime.
pub trait KeyedState<K>: Send {
    /// Where its entries are.
    fn backing(&mut self) -> &mut dyn StateBacking<K>;
}

/// What the runtime does with a keyed state, without the type of its values.
pub trait StateBacking<K>: Send {
    /// The name that ties it to stored state.
    fn name(&self) -> &str;
    /// Version of the value's type.
    fn version(&self) -> u32;
    /// Makes it usable, empty, for these key groups.
    fn attach(&mut self, groups: Range<u16>);
    /// From here on misses may be in the local store.
    fn begin_restore(&mut self);
    /// Takes an entry of the local store unless there is a newer one.
    ///
    /// # Errors
    /// When the bytes are not of this state's types.
    fn load(&mut self, group: KeyGroup, key: &[u8], value: &[u8]) -> Result<(), PortError>;
    /// All entries of the group have been loaded.
    fn finish_restore(&mut self, group: KeyGroup);
    /// Whether the local store need not be asked.
    fn is_fully_resident(&self) -> bool;
    /// Adds the address of the key's entry if only the local store can tell about it.
    fn missing(&self, number: StateNumber, at: &KeyContext<K>, out: &mut Vec<EntryAddress>);
    /// Looks up keys that will be worked on next, side by side; only states without namespaces can.
    fn look_ahead(&mut self, _keys: &[KeyContext<K>]) {}
    /// Begins a cut.
    fn freeze(&mut self);
    /// Encodes what the freeze set aside in one group.
    ///
    /// # Errors
    /// When a value refuses to be serialised.
    fn encode_group(&mut self, number: StateNumber, group: KeyGroup) -> Result<Option<KeyedSection>, PortError>;
    /// Entries in memory.
    fn len(&self) -> usize;
    /// Whether no entry is in memory.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The current key: given by every context of a keyed function.
pub trait CurrentKey<K> {
    /// The key that is being processed.
    fn current(&self) -> &KeyContext<K>;
}

impl<K> CurrentKey<K> for KeyContext<K> {
    fn current(&self) -> &KeyContext<K> {
        self
    }
}
