//! Reducing state: one value per key, what was added reduced together.

use serde::de::DeserializeOwned;

use super::ttl::{StateTtl, TtlReducingState};
use super::{CurrentKey, KeyedState, StateBacking, ValueState};
use crate::key::Key;
use crate::state::table::StateValue;

/// One value per key: everything that was added, reduced by a function. Only the reduced value is kept.
///
/// `ReducingState<K, T>` holds a function without captured values, which any closure that captures nothing becomes.
pub struct ReducingState<K, T, F = fn(&mut T, T)> {
    value: ValueState<K, T>,
    reduce: F,
}

impl<K, T, F: Clone> Clone for ReducingState<K, T, F> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), reduce: self.reduce.clone() }
    }
}

impl<K: Key, T: StateValue, F: Fn(&mut T, T)> ReducingState<K, T, F> {
    /// Declares the state; it must be visited in the function's `states`. `reduce(value so far, added)` must be
    /// associative.
    #[must_use]
    pub fn new(name: impl Into<String>, reduce: F) -> Self {
        Self { value: ValueState::new(name), reduce }
    }

    /// Sets the version of the value's type.
    #[must_use]
    pub fn with_version(self, version: u32) -> Self {
        Self { value: self.value.with_version(version), ..self }
    }

    /// Tells what becomes of values stored in an older version. See [`ValueState::migrate_from`].
    ///
    /// # Panics
    /// When the version is not an older one than that of the state, or has a migration already.
    #[must_use]
    pub fn migrate_from<Old: DeserializeOwned>(
        self,
        version: u32,
        upgrade: impl Fn(Old) -> T + Send + Sync + 'static,
    ) -> Self {
        Self { value: self.value.migrate_from(version, upgrade), ..self }
    }

    /// Gives the reduced values a time to live, from the last addition on.
    #[must_use]
    pub fn with_ttl(self, ttl: StateTtl) -> TtlReducingState<K, T, F> {
        TtlReducingState::new(self.value.with_ttl(ttl), self.reduce)
    }

    /// What was added for the current key, reduced; `None` when nothing was.
    #[inline]
    #[must_use]
    pub fn get(&self, cx: &impl CurrentKey<K>) -> Option<&T> {
        self.value.get(cx)
    }

    /// Adds a value for the current key: the first is taken as it is.
    #[inline]
    pub fn add(&mut self, cx: &impl CurrentKey<K>, value: T) {
        let mut value = Some(value);
        let reduced = self.value.get_or_insert_with(cx, || value.take().expect("called at most once"));
        if let Some(value) = value {
            (self.reduce)(reduced, value);
        }
    }

    /// Forgets what was added for the current key, and returns it.
    pub fn clear(&mut self, cx: &impl CurrentKey<K>) -> Option<T> {
        self.value.clear(cx)
    }
}

impl<K: Key, T: StateValue, F: Send> KeyedState<K> for ReducingState<K, T, F> {
    fn backing(&mut self) -> &mut dyn StateBacking<K> {
        self.value.backing()
    }
}
