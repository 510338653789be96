//! Map state: an ordered map per key, entry by entry.

use std::ops::RangeBounds;

use serde::de::DeserializeOwned;

use super::ttl::{StateTtl, TtlMapState};
use super::{CurrentKey, Declared, KeyedState, StateBacking};
use crate::key::Key;
use crate::state::map_table::MapTable;
use crate::state::schema::step_of_entries;
use crate::state::table::StateValue;

/// A map per key, ordered by the map keys. Each entry is an entry of the state: only those that change are in a cut.
pub struct MapState<K, M, V> {
    declared: Declared<MapTable<K, M, V>>,
}

impl<K, M, V> Clone for MapState<K, M, V> {
    fn clone(&self) -> Self {
        Self { declared: self.declared.clone() }
    }
}

impl<K: Key, M: Key, V: StateValue> MapState<K, M, V> {
    /// Declares the state; it must be visited in the function's `states`.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { declared: Declared::new(name, MapTable::new) }
    }

    /// Sets the version of the types of map keys and values.
    #[must_use]
    pub fn with_version(self, version: u32) -> Self {
        Self { declared: self.declared.with_version(version) }
    }

    /// Tells what becomes of each entry stored in an older version, map key and value; two entries of a key must not become
    /// one. See [`ValueState::migrate_from`](super::ValueState::migrate_from).
    ///
    /// # Panics
    /// When the version is not an older one than that of the state, or has a migration already.
    #[must_use]
    pub fn migrate_from<OldM: Key, OldV: DeserializeOwned>(
        self,
        version: u32,
        upgrade: impl Fn(OldM, OldV) -> (M, V) + Send + Sync + 'static,
    ) -> Self {
        Self { declared: self.declared.migrate(version, step_of_entries::<K, _, _, _, _>(upgrade)) }
    }

    /// Gives each entry a time to live.
    #[must_use]
    pub fn with_ttl(&self, ttl: StateTtl) -> TtlMapState<K, M, V> {
        TtlMapState::new(&self.declared, ttl)
    }

    /// A value in the map of the current key.
    #[must_use]
    pub fn get(&self, cx: &impl CurrentKey<K>, map_key: &M) -> Option<&V> {
        self.declared.table().get(cx.current(), map_key)
    }

    /// A value in the map of the current key for writing.
    pub fn get_mut(&mut self, cx: &impl CurrentKey<K>, map_key: &M) -> Option<&mut V> {
        self.declared.table_mut().get_mut(cx.current(), map_key)
    }

    /// A value in the map of the current key for writing, made by `default` when there is none.
    pub fn get_or_insert_with(&mut self, cx: &impl CurrentKey<K>, map_key: M, default: impl FnOnce() -> V) -> &mut V {
        self.declared.table_mut().get_or_insert_with(cx.current(), map_key, default)
    }

    /// Whether the map of the current key has this map key.
    #[must_use]
    pub fn contains(&self, cx: &impl CurrentKey<K>, map_key: &M) -> bool {
        self.get(cx, map_key).is_some()
    }

    /// Puts an entry into the map of the current key, in the place of an older one.
    pub fn put(&mut self, cx: &impl CurrentKey<K>, map_key: M, value: V) {
        let mut value = Some(value);
        let slot = self.get_or_insert_with(cx, map_key, || value.take().expect("called at most once"));
        if let Some(value) = value {
            *slot = value;
        }
    }

    /// Puts several entries into the map of the current key.
    pub fn put_all(&mut self, cx: &impl CurrentKey<K>, entries: impl IntoIterator<Item = (M, V)>) {
        entries.into_iter().for_each(|(map_key, value)| self.put(cx, map_key, value));
    }

    /// Removes an entry from the map of the current key and returns its value.
    pub fn remove(&mut self, cx: &impl CurrentKey<K>, map_key: &M) -> Option<V> {
        self.declared.table_mut().remove(cx.current(), map_key)
    }

    /// Removes the entries that `keep` refuses from the map of the current key.
    pub fn retain(&mut self, cx: &impl CurrentKey<K>, keep: impl FnMut(&M, &V) -> bool) {
        self.declared.table_mut().retain(cx.current(), keep);
    }

    /// The entries of the current key, in the order of their map keys.
    pub fn entries(&self, cx: &impl CurrentKey<K>) -> impl DoubleEndedIterator<Item = (&M, &V)> {
        self.declared.table().iter(cx.current())
    }

    /// The entries of the current key whose map keys lie in a range, in order.
    pub fn range(
        &self,
        cx: &impl CurrentKey<K>,
        range: impl RangeBounds<M>,
    ) -> impl DoubleEndedIterator<Item = (&M, &V)> {
        self.declared.table().range(cx.current(), range)
    }

    /// The map keys of the current key, in order.
    pub fn keys(&self, cx: &impl CurrentKey<K>) -> impl DoubleEndedIterator<Item = &M> {
        self.entries(cx).map(|(map_key, _)| map_key)
    }

    /// The values of the current key, in the order of their map keys.
    pub fn values(&self, cx: &impl CurrentKey<K>) -> impl DoubleEndedIterator<Item = &V> {
        self.entries(cx).map(|(_, value)| value)
    }

    /// Number of entries of the current key.
    #[must_use]
    pub fn len(&self, cx: &impl CurrentKey<K>) -> usize {
        self.declared.table().len_of(cx.current())
    }

    /// Whether the map of the current key is empty.
    #[must_use]
    pub fn is_empty(&self, cx: &impl CurrentKey<K>) -> bool {
        self.len(cx) == 0
    }

    /// Removes all entries of the current key. The next cut names each of them.
    pub fn clear(&mut self, cx: &impl CurrentKey<K>) {
        self.retain(cx, |_, _| false);
    }
}

impl<K: Key, M: Key, V: StateValue> KeyedState<K> for MapState<K, M, V> {
    fn backing(&mut self) -> &mut dyn StateBacking<K> {
        &mut self.declared
    }
}
