//! Map state: a map per key.

use std::collections::BTreeMap;

use super::{CurrentKey, Declared, KeyedState, StateBacking};
use crate::key::Key;
use crate::state::table::StateValue;

/// An ordered map per key, read and written as a whole at every cut in which it changed.
pub struct MapState<K, M, T> {
    declared: Declared<(), K, BTreeMap<M, T>>,
}

impl<K, M, T> Clone for MapState<K, M, T> {
    fn clone(&self) -> Self {
        Self { declared: self.declared.clone() }
    }
}

impl<K: Key, M: StateValue + Ord, T: StateValue> MapState<K, M, T> {
    /// Declares the state; it must be visited in the function's `states`.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { declared: Declared::new(name) }
    }

    /// The map of the current key, if it has one.
    #[must_use]
    pub fn get(&self, cx: &impl CurrentKey<K>) -> Option<&BTreeMap<M, T>> {
        self.declared.table().get(cx.current(), &())
    }

    /// The map of the current key for writing.
    pub fn get_mut(&mut self, cx: &impl CurrentKey<K>) -> &mut BTreeMap<M, T> {
        self.declared.table_mut().get_or_insert_with(cx.current(), &(), BTreeMap::new)
    }

    /// Removes the map of the current key and returns it.
    pub fn clear(&mut self, cx: &impl CurrentKey<K>) -> Option<BTreeMap<M, T>> {
        self.declared.table_mut().remove(cx.current(), &())
    }
}

impl<K: Key, M: StateValue + Ord, T: StateValue> KeyedState<K> for MapState<K, M, T> {
    fn backing(&mut self) -> &mut dyn StateBacking<K> {
        &mut self.declared
    }
}
