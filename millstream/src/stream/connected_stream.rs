//! A keyed stream connected with a broadcast stream: one function sees both, and only the broadcast side may change
//! what all keys share.

use std::sync::Arc;

use millstream_runtime::batch::Data;
use millstream_runtime::chain::ChainContext;
use millstream_runtime::chain::keyed::{Keyed, KeyedBroadcastFunction, schemas};
use millstream_runtime::graph::stream::{NodeKind, NodeOutputs, OperatorPlace};
use millstream_runtime::key::Key;

use super::factory::{Prototype, TwoInputFactory};
use super::{DataStream, KeyedStream, NewNode};

/// A stream of which every subtask of the next operator gets all records.
pub struct BroadcastStream<B> {
    stream: DataStream<B>,
}

impl<B> Clone for BroadcastStream<B> {
    fn clone(&self) -> Self {
        Self { stream: self.stream.clone() }
    }
}

impl<B: Data> BroadcastStream<B> {
    pub(super) fn new(stream: DataStream<B>) -> Self {
        Self { stream }
    }

    /// The records, still sent to all, for operators with one input.
    #[must_use]
    pub fn as_stream(&self) -> &DataStream<B> {
        &self.stream
    }
}

/// A keyed stream and a broadcast stream, before they meet in a function.
pub struct ConnectedStream<T, K, S, B> {
    keyed: KeyedStream<T, K, S>,
    broadcast: BroadcastStream<B>,
}

impl<T, K, S, B> ConnectedStream<T, K, S, B>
where
    T: Data,
    K: Key,
    B: Data,
    S: Fn(&T) -> K + Clone + Send + Sync + 'static,
{
    pub(super) fn new(keyed: KeyedStream<T, K, S>, broadcast: BroadcastStream<B>) -> Self {
        Self { keyed, broadcast }
    }

    /// A function of one's own over both inputs. Its watermark is the smaller one of the two.
    pub fn process<F>(&self, function: F) -> DataStream<F::Out>
    where
        F: KeyedBroadcastFunction<Key = K, In = T, Broadcast = B>,
        F::Out: Data,
    {
        let prototype = Arc::new(Prototype::new(function));
        let declaring = Arc::clone(&prototype);
        let states = Box::new(move || schemas(&mut declaring.copy()));
        let selector = self.keyed.selector();
        let build = move |outputs: NodeOutputs, place: OperatorPlace, cx: &ChainContext| {
            let outputs = outputs.outputs::<F::Out>();
            let (function, selector) = (prototype.copy(), selector.clone());
            Keyed::new(place.uid, place.slot, function, selector, outputs, &place.restored, cx)
        };
        let factory = TwoInputFactory::<T, B, _>::with_states(build, states);
        let stream = self.keyed.as_stream();
        let mut inputs = stream.edges(0);
        inputs.extend(self.broadcast.stream.edges(1));
        let id = stream.recorder().add(NewNode {
            name: "Keyed Broadcast Process".to_string(),
            kind: NodeKind::TwoInputs,
            stateful: true,
            inputs,
            factory,
            enumerator: None,
            transaction_timeout_ms: None,
            output_type: std::any::type_name::<F::Out>(),
        });
        DataStream::of(stream.recorder().clone(), id)
    }
}
