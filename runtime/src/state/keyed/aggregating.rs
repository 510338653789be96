//! Aggregating state: one accumulator per key, what goes in and what comes out may be of other types.

use serde::de::DeserializeOwned;

use super::ttl::{StateTtl, TtlAggregatingState};
use super::{CurrentKey, KeyedState, StateBacking, ValueState};
use crate::key::Key;
use crate::state::table::StateValue;

/// Aggregates values one by one, without keeping them.
pub trait AggregateFunction: Clone + Send + 'static {
    /// What is added.
    type In;
    /// What is kept.
    type Accumulator: StateValue;
    /// What the accumulator stands for.
    type Out;

    /// The accumulator of nothing.
    fn create(&self) -> Self::Accumulator;
    /// Adds a value.
    fn add(&self, accumulator: &mut Self::Accumulator, value: Self::In);
    /// The result so far.
    fn result(&self, accumulator: &Self::Accumulator) -> Self::Out;
}

/// One accumulator per key.
pub struct AggregatingState<K, A: AggregateFunction> {
    accumulator: ValueState<K, A::Accumulator>,
    function: A,
}

impl<K, A: AggregateFunction> Clone for AggregatingState<K, A> {
    fn clone(&self) -> Self {
        Self { accumulator: self.accumulator.clone(), function: self.function.clone() }
    }
}

impl<K: Key, A: AggregateFunction> AggregatingState<K, A> {
    /// Declares the state; it must be visited in the function's `states`.
    #[must_use]
    pub fn new(name: impl Into<String>, function: A) -> Self {
        Self { accumulator: ValueState::new(name), function }
    }

    /// Sets the version of the accumulator's type.
    #[must_use]
    pub fn with_version(self, version: u32) -> Self {
        Self { accumulator: self.accumulator.with_version(version), ..self }
    }

    /// Tells what becomes of accumulators stored in an older version. See [`ValueState::migrate_from`].
    ///
    /// # Panics
    /// When the version is not an older one than that of the state, or has a migration already.
    #[must_use]
    pub fn migrate_from<Old: DeserializeOwned>(
        self,
        version: u32,
        upgrade: impl Fn(Old) -> A::Accumulator + Send + Sync + 'static,
    ) -> Self {
        Self { accumulator: self.accumulator.migrate_from(version, upgrade), ..self }
    }

    /// Gives the accumulators a time to live, from the last addition on.
    #[must_use]
    pub fn with_ttl(self, ttl: StateTtl) -> TtlAggregatingState<K, A> {
        TtlAggregatingState::new(self.accumulator.with_ttl(ttl), self.function)
    }

    /// The result of what was added for the current key; `None` when nothing was.
    #[must_use]
    pub fn get(&self, cx: &impl CurrentKey<K>) -> Option<A::Out> {
        self.accumulator.get(cx).map(|accumulator| self.function.result(accumulator))
    }

    /// Adds a value for the current key.
    #[inline]
    pub fn add(&mut self, cx: &impl CurrentKey<K>, value: A::In) {
        let Self { accumulator, function } = self;
        function.add(accumulator.get_or_insert_with(cx, || function.create()), value);
    }

    /// Forgets what was added for the current key, and returns its accumulator.
    pub fn clear(&mut self, cx: &impl CurrentKey<K>) -> Option<A::Accumulator> {
        self.accumulator.clear(cx)
    }
}

impl<K: Key, A: AggregateFunction> KeyedState<K> for AggregatingState<K, A> {
    fn backing(&mut self) -> &mut dyn StateBacking<K> {
        self.accumulator.backing()
    }
}
