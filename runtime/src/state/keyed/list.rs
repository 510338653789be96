//! List state: a list per key.

use serde::de::DeserializeOwned;

use super::ttl::{StateTtl, TtlListState};
use super::{CurrentKey, Declared, KeyedState, StateBacking};
use crate::key::Key;
use crate::state::schema::{ValueKind, step_of_values};
use crate::state::table::{StateTable, StateValue};

/// A list per key, read and written as a whole at every cut in which it changed.
pub struct ListState<K, T> {
    declared: Declared<StateTable<(), K, Vec<T>>>,
}

impl<K, T> Clone for ListState<K, T> {
    fn clone(&self) -> Self {
        Self { declared: self.declared.clone() }
    }
}

impl<K: Key, T: StateValue> ListState<K, T> {
    /// Declares the state; it must be visited in the function's `states`.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { declared: Declared::of_kind(name, ValueKind::Items, StateTable::new) }
    }

    /// Sets the version of the items' type.
    #[must_use]
    pub fn with_version(self, version: u32) -> Self {
        Self { declared: self.declared.with_version(version) }
    }

    /// Tells what becomes of each item stored in an older version. See [`ValueState::migrate_from`](super::ValueState::migrate_from).
    ///
    /// # Panics
    /// When the version is not an older one than that of the state, or has a migration already.
    #[must_use]
    pub fn migrate_from<Old: DeserializeOwned>(
        self,
        version: u32,
        upgrade: impl Fn(Old) -> T + Send + Sync + 'static,
    ) -> Self {
        Self { declared: self.declared.migrate(version, step_of_values(upgrade)) }
    }

    /// Gives each item a time to live.
    #[must_use]
    pub fn with_ttl(&self, ttl: StateTtl) -> TtlListState<K, T> {
        TtlListState::new(&self.declared, ttl)
    }

    /// The list of the current key.
    #[must_use]
    pub fn get(&self, cx: &impl CurrentKey<K>) -> &[T] {
        self.declared.table().get(cx.current(), &()).map_or(&[], Vec::as_slice)
    }

    /// Appends to the list of the current key.
    pub fn add(&mut self, cx: &impl CurrentKey<K>, item: T) {
        self.declared.table_mut().get_or_insert_with(cx.current(), &(), Vec::new).push(item);
    }

    /// Appends several items to the list of the current key.
    pub fn add_all(&mut self, cx: &impl CurrentKey<K>, items: impl IntoIterator<Item = T>) {
        let mut items = items.into_iter().peekable();
        if items.peek().is_some() {
            self.declared.table_mut().get_or_insert_with(cx.current(), &(), Vec::new).extend(items);
        }
    }

    /// Replaces the list of the current key; an empty one is removed.
    pub fn update(&mut self, cx: &impl CurrentKey<K>, items: Vec<T>) {
        if items.is_empty() {
            self.clear(cx);
        } else {
            *self.declared.table_mut().get_or_insert_with(cx.current(), &(), Vec::new) = items;
        }
    }

    /// Removes the list of the current key and returns it.
    pub fn clear(&mut self, cx: &impl CurrentKey<K>) -> Vec<T> {
        self.declared.table_mut().remove(cx.current(), &()).unwrap_or_default()
    }
}

impl<K: Key, T: StateValue> KeyedState<K> for ListState<K, T> {
    fn backing(&mut self) -> &mut dyn StateBacking<K> {
        &mut self.declared
    }
}
