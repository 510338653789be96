//! Reducing and aggregating state whose values expire: what is added afterwards begins anew.

use super::value::TtlValueState;
use crate::key::Key;
use crate::state::keyed::{AggregateFunction, CurrentKey, KeyedState, StateBacking};
use crate::state::table::StateValue;

/// One reduced value per key, with a time to live. Made by
/// [`ReducingState::with_ttl`](crate::state::keyed::ReducingState::with_ttl).
pub struct TtlReducingState<K, T, F = fn(&mut T, T)> {
    value: TtlValueState<K, T>,
    reduce: F,
}

impl<K, T, F: Clone> Clone for TtlReducingState<K, T, F> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), reduce: self.reduce.clone() }
    }
}

impl<K: Key, T: StateValue, F: Fn(&mut T, T)> TtlReducingState<K, T, F> {
    pub(in crate::state::keyed) fn new(value: TtlValueState<K, T>, reduce: F) -> Self {
        Self { value, reduce }
    }

    /// What was added for the current key, reduced; `None` when nothing was, or it has expired.
    pub fn get(&mut self, cx: &impl CurrentKey<K>) -> Option<&T> {
        self.value.get(cx)
    }

    /// Adds a value for the current key: the first is taken as it is.
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

impl<K: Key, T: StateValue, F: Send> KeyedState<K> for TtlReducingState<K, T, F> {
    fn backing(&mut self) -> &mut dyn StateBacking<K> {
        self.value.backing()
    }
}

/// One accumulator per key, with a time to live. Made by
/// [`AggregatingState::with_ttl`](crate::state::keyed::AggregatingState::with_ttl).
pub struct TtlAggregatingState<K, A: AggregateFunction> {
    accumulator: TtlValueState<K, A::Accumulator>,
    function: A,
}

impl<K, A: AggregateFunction> Clone for TtlAggregatingState<K, A> {
    fn clone(&self) -> Self {
        Self { accumulator: self.accumulator.clone(), function: self.function.clone() }
    }
}

impl<K: Key, A: AggregateFunction> TtlAggregatingState<K, A> {
    pub(in crate::state::keyed) fn new(accumulator: TtlValueState<K, A::Accumulator>, function: A) -> Self {
        Self { accumulator, function }
    }

    /// The result of what was added for the current key; `None` when nothing was, or it has expired.
    pub fn get(&mut self, cx: &impl CurrentKey<K>) -> Option<A::Out> {
        let Self { accumulator, function } = self;
        accumulator.get(cx).map(|accumulator| function.result(accumulator))
    }

    /// Adds a value for the current key.
    pub fn add(&mut self, cx: &impl CurrentKey<K>, value: A::In) {
        let Self { accumulator, function } = self;
        function.add(accumulator.get_or_insert_with(cx, || function.create()), value);
    }

    /// Forgets what was added for the current key, and returns its accumulator.
    pub fn clear(&mut self, cx: &impl CurrentKey<K>) -> Option<A::Accumulator> {
        self.accumulator.clear(cx)
    }
}

impl<K: Key, A: AggregateFunction> KeyedState<K> for TtlAggregatingState<K, A> {
    fn backing(&mut self) -> &mut dyn StateBacking<K> {
        self.accumulator.backing()
    }
}
