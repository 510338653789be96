//! Rolling aggregates on a keyed stream: one value per key, emitted after every record.

use std::marker::PhantomData;

use super::function::{KeyedContext, KeyedProcessFunction, StateVisitor};
use crate::batch::Data;
use crate::key::Key;
use crate::ports::PortError;
use crate::state::keyed::ValueState;

/// Folds each record into the value of its key and emits the new value.
pub struct Reduce<K, T, F> {
    function: F,
    value: ValueState<K, T>,
}

impl<K: Key, T: Data, F: Clone> Clone for Reduce<K, T, F> {
    fn clone(&self) -> Self {
        Self { function: self.function.clone(), value: self.value.clone() }
    }
}

impl<K: Key, T: Data, F> Reduce<K, T, F> {
    /// `function(value so far, record)` gives the new value.
    pub fn new(function: F) -> Self {
        Self { function, value: ValueState::new("reduce") }
    }
}

impl<K: Key, T: Data, F: FnMut(&mut T, T) + Clone + Send + 'static> KeyedProcessFunction for Reduce<K, T, F> {
    type Key = K;
    type In = T;
    type Out = T;

    fn states(&mut self, visit: StateVisitor<'_, K>) {
        visit(&mut self.value);
    }

    #[inline]
    fn process(&mut self, value: T, cx: &mut KeyedContext<'_, K, T>) -> Result<(), PortError> {
        let reduced = if let Some(current) = self.value.get_mut(cx) {
            (self.function)(current, value);
            current.clone()
        } else {
            self.value.set(cx, value.clone());
            value
        };
        cx.emit(reduced);
        Ok(())
    }
}

/// Folds each record into an accumulator of its key and emits nothing until the watermark reaches the end of time:
/// the result of a bounded input, once per key.
pub struct FoldToEnd<K, T, A, F> {
    function: F,
    accumulator: ValueState<K, A>,
    record: PhantomData<fn(T)>,
}

impl<K: Key, T, A: Data, F: Clone> Clone for FoldToEnd<K, T, A, F> {
    fn clone(&self) -> Self {
        Self { function: self.function.clone(), accumulator: self.accumulator.clone(), record: PhantomData }
    }
}

impl<K: Key, T, A: Data, F> FoldToEnd<K, T, A, F> {
    /// `function(accumulator, record)` adds a record.
    pub fn new(function: F) -> Self {
        Self { function, accumulator: ValueState::new("fold"), record: PhantomData }
    }
}

impl<K, T, A, F> KeyedProcessFunction for FoldToEnd<K, T, A, F>
where
    K: Key,
    T: Data,
    A: Data + Default,
    F: FnMut(&mut A, T) + Clone + Send + 'static,
{
    type Key = K;
    type In = T;
    type Out = (K, A);

    fn states(&mut self, visit: StateVisitor<'_, K>) {
        visit(&mut self.accumulator);
    }

    #[inline]
    fn process(&mut self, value: T, cx: &mut KeyedContext<'_, K, (K, A)>) -> Result<(), PortError> {
        let mut new = false;
        let accumulator = self.accumulator.get_or_insert_with(cx, || {
            new = true;
            A::default()
        });
        (self.function)(accumulator, value);
        if new {
            cx.register_event_time_timer(crate::time::MAX_TIMESTAMP);
        }
        Ok(())
    }

    fn on_timer(
        &mut self,
        _time: crate::time::Timestamp,
        cx: &mut KeyedContext<'_, K, (K, A)>,
    ) -> Result<(), PortError> {
        if let Some(accumulator) = self.accumulator.clear(cx) {
            let key = cx.key().clone();
            cx.emit((key, accumulator));
        }
        Ok(())
    }
}
