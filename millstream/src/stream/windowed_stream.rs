//! A keyed stream in windows of event time: aggregated as records come, emitted when the watermark passes the end.

use std::marker::PhantomData;

use millstream_runtime::batch::Data;
use millstream_runtime::chain::output::OutputTag;
use millstream_runtime::chain::window::{Aggregate, Tumbling, Window, WindowAggregate};
use millstream_runtime::key::Key;

use super::{DataStream, KeyedStream};

/// Records per key and window.
pub struct WindowedStream<T, K, S> {
    keyed: KeyedStream<T, K, S>,
    windows: Tumbling,
    late: Option<OutputTag<T>>,
}

impl<T, K, S> WindowedStream<T, K, S>
where
    T: Data,
    K: Key,
    S: Fn(&T) -> K + Clone + Send + Sync + 'static,
{
    pub(super) fn new(keyed: KeyedStream<T, K, S>, windows: Tumbling) -> Self {
        Self { keyed, windows, late: None }
    }

    /// Records whose window the watermark has passed go to this side output of the result, instead of being counted
    /// and dropped.
    #[must_use]
    pub fn side_output_late_data(mut self, tag: &OutputTag<T>) -> Self {
        self.late = Some(*tag);
        self
    }

    /// One result per key and window.
    pub fn aggregate<A>(&self, aggregate: A) -> DataStream<A::Out>
    where
        A: Aggregate<In = T>,
    {
        self.keyed.keyed("Window Aggregate", WindowAggregate::new(self.windows, aggregate, self.late))
    }

    /// Folds the records of a key and window into the first of them, `function(value so far, record)`.
    pub fn reduce<F>(&self, function: F) -> DataStream<T>
    where
        F: Fn(&mut T, T) + Clone + Send + 'static,
    {
        let reduce = ReduceWindow { function, record: PhantomData };
        self.keyed.keyed("Window Reduce", WindowAggregate::new(self.windows, reduce, self.late))
    }
}

/// A reduce function as an aggregate: nothing at first.
struct ReduceWindow<T, F> {
    function: F,
    record: PhantomData<fn(T)>,
}

impl<T, F: Clone> Clone for ReduceWindow<T, F> {
    fn clone(&self) -> Self {
        Self { function: self.function.clone(), record: PhantomData }
    }
}

impl<T: Data, F: Fn(&mut T, T) + Clone + Send + 'static> Aggregate for ReduceWindow<T, F> {
    type In = T;
    type Accumulator = Option<T>;
    type Out = T;

    fn create(&self) -> Option<T> {
        None
    }

    fn add(&self, accumulator: &mut Option<T>, value: T) {
        match accumulator {
            Some(reduced) => (self.function)(reduced, value),
            None => *accumulator = Some(value),
        }
    }

    fn result(&self, accumulator: Option<T>, _window: Window) -> T {
        accumulator.expect("the window was made for its first record")
    }
}
