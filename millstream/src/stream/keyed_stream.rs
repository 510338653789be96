//! A stream by key: rolling aggregates, windows, functions with state and timers per key.

use std::marker::PhantomData;
use std::ops::AddAssign;
use std::sync::Arc;

use millstream_runtime::batch::Data;
use millstream_runtime::chain::keyed::reduce::{FoldToEnd, Reduce};
use millstream_runtime::chain::keyed::{Keyed, KeyedProcessFunction, WithoutBroadcast, schemas};
use millstream_runtime::chain::window::Tumbling;
use millstream_runtime::chain::{ChainContext, Downstream};
use millstream_runtime::graph::stream::{NodeOutputs, OperatorPlace};
use millstream_runtime::key::Key;

use super::factory::{InputFactory, Prototype};
use super::{BroadcastStream, ConnectedStream, DataStream, WindowedStream};

/// Records of type `T` by a key of type `K`; `S` is the function that takes the key from a record.
pub struct KeyedStream<T, K, S> {
    stream: DataStream<T>,
    selector: S,
    key: PhantomData<fn() -> K>,
}

impl<T, K, S: Clone> Clone for KeyedStream<T, K, S> {
    fn clone(&self) -> Self {
        Self { stream: self.stream.clone(), selector: self.selector.clone(), key: PhantomData }
    }
}

impl<T, K, S> KeyedStream<T, K, S>
where
    T: Data,
    K: Key,
    S: Fn(&T) -> K + Clone + Send + Sync + 'static,
{
    pub(super) fn new(stream: DataStream<T>, selector: S) -> Self {
        Self { stream, selector, key: PhantomData }
    }

    pub(super) fn selector(&self) -> S {
        self.selector.clone()
    }

    /// The records, still dealt out by key, for operators without keyed state such as sinks.
    #[must_use]
    pub fn as_stream(&self) -> &DataStream<T> {
        &self.stream
    }

    /// A function of one's own, with state and timers per key.
    pub fn process<F>(&self, function: F) -> DataStream<F::Out>
    where
        F: KeyedProcessFunction<Key = K, In = T>,
        F::Out: Data,
    {
        self.keyed("Keyed Process", function)
    }

    pub(super) fn keyed<F>(&self, name: &str, function: F) -> DataStream<F::Out>
    where
        F: KeyedProcessFunction<Key = K, In = T>,
        F::Out: Data,
    {
        let selector = self.selector.clone();
        let prototype = Arc::new(Prototype::new(WithoutBroadcast(function)));
        let declaring = Arc::clone(&prototype);
        let states = Box::new(move || schemas(&mut declaring.copy()));
        let build = move |outputs: NodeOutputs, place: OperatorPlace, cx: &ChainContext| {
            let outputs = outputs.outputs::<F::Out>();
            let (function, selector) = (prototype.copy(), selector.clone());
            let keyed = Keyed::new(place.uid, place.slot, function, selector, outputs, &place.restored, cx)?;
            Ok(Box::new(keyed) as Downstream<T>)
        };
        self.stream.operator(name, true, InputFactory::<T, _>::with_states(build, states))
    }

    /// Folds each record into the value of its key, `function(value so far, record)`, and emits the new value.
    pub fn reduce<F>(&self, function: F) -> DataStream<T>
    where
        F: Fn(&mut T, T) + Clone + Send + 'static,
    {
        self.keyed("Reduce", Reduce::new(function))
    }

    /// The rolling sum of a field per key: the first record, with its field increased by those of the later ones.
    pub fn sum<V, F>(&self, field: F) -> DataStream<T>
    where
        V: AddAssign + Copy,
        F: Fn(&mut T) -> &mut V + Clone + Send + 'static,
    {
        self.keyed("Sum", Reduce::new(move |sum: &mut T, mut record: T| *field(sum) += *field(&mut record)))
    }

    /// The rolling minimum of a field per key: the first record, with the smallest value of the field so far.
    pub fn min<V, F>(&self, field: F) -> DataStream<T>
    where
        V: PartialOrd + Copy + 'static,
        F: Fn(&mut T) -> &mut V + Clone + Send + 'static,
    {
        self.extreme("Min", field, |value, least| value < least)
    }

    /// The rolling maximum of a field per key: the first record, with the greatest value of the field so far.
    pub fn max<V, F>(&self, field: F) -> DataStream<T>
    where
        V: PartialOrd + Copy + 'static,
        F: Fn(&mut T) -> &mut V + Clone + Send + 'static,
    {
        self.extreme("Max", field, |value, greatest| value > greatest)
    }

    fn extreme<V, F>(&self, name: &str, field: F, wins: fn(V, V) -> bool) -> DataStream<T>
    where
        V: Copy + 'static,
        F: Fn(&mut T) -> &mut V + Clone + Send + 'static,
    {
        let keep = move |kept: &mut T, mut record: T| {
            let value = *field(&mut record);
            let kept = field(kept);
            if wins(value, *kept) {
                *kept = value;
            }
        };
        self.keyed(name, Reduce::new(keep))
    }

    /// The record with the smallest value per key so far, whole; of equal ones the first.
    pub fn min_by<V, F>(&self, value: F) -> DataStream<T>
    where
        V: PartialOrd,
        F: Fn(&T) -> V + Clone + Send + 'static,
    {
        let keep = move |least: &mut T, record: T| {
            if value(&record) < value(least) {
                *least = record;
            }
        };
        self.keyed("Min By", Reduce::new(keep))
    }

    /// The record with the greatest value per key so far, whole; of equal ones the first.
    pub fn max_by<V, F>(&self, value: F) -> DataStream<T>
    where
        V: PartialOrd,
        F: Fn(&T) -> V + Clone + Send + 'static,
    {
        let keep = move |greatest: &mut T, record: T| {
            if value(&record) > value(greatest) {
                *greatest = record;
            }
        };
        self.keyed("Max By", Reduce::new(keep))
    }

    /// Folds each record into an accumulator of its key, `function(accumulator, record)`, and emits one per key when
    /// the input ends. For bounded inputs.
    pub fn fold_to_end<A, F>(&self, function: F) -> DataStream<(K, A)>
    where
        K: Data,
        A: Data + Default,
        F: Fn(&mut A, T) + Clone + Send + 'static,
    {
        self.keyed("Fold", FoldToEnd::<K, T, A, F>::new(function))
    }

    /// The records per key and window of event time.
    pub fn window(&self, windows: Tumbling) -> WindowedStream<T, K, S> {
        WindowedStream::new(self.clone(), windows)
    }

    /// Together with a stream that every subtask gets whole, such as rules.
    pub fn connect<B: Data>(&self, broadcast: &BroadcastStream<B>) -> ConnectedStream<T, K, S, B> {
        ConnectedStream::new(self.clone(), broadcast.clone())
    }
}
