//! How the runtime reaches into a keyed state without knowing its types: its declaration, then its table.

use std::ops::Range;

use super::Times;
use crate::key_group::KeyGroup;
use crate::ports::PortError;
use crate::ports::state::{StateNumber, Wanted};
use crate::state::cut::KeyedSection;
use crate::state::schema::StateSchema;
use crate::state::table::KeyContext;

/// A keyed state, as a function shows it to the runtime.
pub trait KeyedState<K>: Send {
    /// What is declared, and where the entries are.
    fn backing(&mut self) -> &mut dyn StateBacking<K>;
}

/// A declared state.
pub trait StateBacking<K>: Send {
    /// The name that ties it to stored state.
    fn name(&self) -> &str;
    /// Version of the value's type.
    fn version(&self) -> u32;
    /// What is declared, with the older forms that can be read. States of the runtime itself have one form only.
    fn schema(&self) -> StateSchema {
        StateSchema::fixed(self.name(), self.version())
    }
    /// Makes it usable, empty, for these key groups.
    fn attach(&mut self, groups: Range<u16>);
    /// Its entries, once it is attached.
    fn entries(&mut self) -> &mut dyn Table<K>;
}

/// The entries of a state in the key groups of one subtask, tracked from cut to cut.
pub trait Table<K>: Send {
    /// From here on misses may be in the local store.
    fn begin_restore(&mut self);
    /// Takes an entry of the local store unless there is a newer one.
    ///
    /// # Errors
    /// When the bytes are not of this state's types.
    fn load(&mut self, group: KeyGroup, key: &[u8], value: &[u8]) -> Result<(), PortError>;
    /// All entries of the group have been loaded.
    fn finish_restore(&mut self, group: KeyGroup);
    /// Adds what only the local store can tell about the key. What is in memory counts as used.
    fn missing(&mut self, number: StateNumber, at: &KeyContext<K>, wanted: &mut Wanted);
    /// Whether everything of a group is in memory.
    fn is_resident(&self, group: KeyGroup) -> bool;
    /// From here on deletions are remembered until the local store has them, as [`evict`](Self::evict) needs.
    fn remember(&mut self);
    /// The local store has everything up to the end of an epoch, the number of a freeze. Nothing may be on its way from it.
    fn forget(&mut self, durable: u32);
    /// Evicts entries of a group that the local store has, which is everything up to the end of an epoch, and answers how many
    /// bytes are free now. Nothing may be on its way from it.
    fn evict(&mut self, group: KeyGroup, durable: u32) -> usize;
    /// About how many bytes it takes in memory.
    fn memory(&mut self) -> usize;
    /// Looks up keys that will be worked on next, side by side; only states with one entry per key can.
    fn look_ahead(&mut self, _keys: &[KeyContext<K>]) {}
    /// Time has passed, and so many records come now: entries that have expired may be removed. For every batch once.
    fn pass_time(&mut self, _times: &Times, _records: usize) {}
    /// Begins a cut.
    fn freeze(&mut self);
    /// Encodes what the freeze set aside in one group.
    ///
    /// # Errors
    /// When a value refuses to be serialised.
    fn encode_group(&mut self, number: StateNumber, group: KeyGroup) -> Result<Option<KeyedSection>, PortError>;
}
