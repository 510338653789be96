//! A stream of records: transformations, partitioning, side outputs, sinks.

use std::any::type_name;
use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::Arc;

use millstream_connectors::blackhole::BlackholeSink;
use millstream_connectors::print::PrintSink;
use millstream_runtime::batch::Data;
use millstream_runtime::chain::map::{Filter, FlatMap, Map};
use millstream_runtime::chain::output::OutputTag;
use millstream_runtime::chain::process::{Process, ProcessFunction};
use millstream_runtime::chain::sink::SinkOperator;
use millstream_runtime::chain::timestamps::{AssignTimestamps, TimestampAssigner, Watermarks};
use millstream_runtime::chain::{ChainContext, Downstream};
use millstream_runtime::graph::NodeId;
use millstream_runtime::graph::stream::{
    ExchangeFactory, NodeKind, OperatorFactory, OperatorPlace, ShipStrategy, SideEdge, StreamEdge,
};
use millstream_runtime::key::Key;
use millstream_runtime::ports::sink::TwoPhaseCommitSink;
use millstream_runtime::time::Timestamp;

use super::exchange;
use super::factory::{InputFactory, Prototype};
use super::source::{SharedSource, SourceFactory};
use super::{BroadcastStream, KeyedStream, NewNode, Operator, Recorder};

/// One operator whose records come together in a stream, and how they are dealt out to the next.
#[derive(Clone)]
pub(super) struct Upstream {
    pub from: NodeId,
    pub side: Option<SideEdge>,
    pub strategy: ShipStrategy,
    pub exchange: Arc<dyn ExchangeFactory>,
}

/// Records of type `T`, flowing from one operator, or (a union) several.
///
/// Every transformation leaves the stream as it is: used twice, each consumer gets all records. Closures are copied
/// into every subtask. [`uid`](Self::uid), [`name`](Self::name) and the other settings belong to the operator that
/// gave the stream; on a union there is none, and they set nothing.
pub struct DataStream<T> {
    recorder: Recorder,
    upstream: Vec<Upstream>,
    /// While nothing but settings has come after `from_source`.
    source: Option<SharedSource<T>>,
    record: PhantomData<fn() -> T>,
}

impl<T> Clone for DataStream<T> {
    fn clone(&self) -> Self {
        Self {
            recorder: self.recorder.clone(),
            upstream: self.upstream.clone(),
            source: self.source.clone(),
            record: PhantomData,
        }
    }
}

impl<T: Data> DataStream<T> {
    /// What an operator gives on its main output.
    pub(crate) fn of(recorder: Recorder, from: NodeId) -> Self {
        let upstream =
            Upstream { from, side: None, strategy: ShipStrategy::Forward, exchange: exchange::unkeyed::<T>() };
        Self { recorder, upstream: vec![upstream], source: None, record: PhantomData }
    }

    pub(super) fn of_source(recorder: Recorder, from: NodeId, source: SharedSource<T>) -> Self {
        Self { source: Some(source), ..Self::of(recorder, from) }
    }

    pub(super) fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// The edges of a consumer that reads this stream as the given input.
    pub(super) fn edges(&self, input: u8) -> Vec<StreamEdge> {
        let edge = |upstream: &Upstream| StreamEdge {
            from: upstream.from,
            side: upstream.side.clone(),
            strategy: upstream.strategy,
            exchange: Arc::clone(&upstream.exchange),
            input,
        };
        self.upstream.iter().map(edge).collect()
    }

    pub(super) fn operator<O: Data>(
        &self,
        name: &str,
        stateful: bool,
        factory: Arc<dyn OperatorFactory>,
    ) -> DataStream<O> {
        let id = self.recorder.add(NewNode {
            name: name.to_string(),
            kind: NodeKind::Operator,
            stateful,
            inputs: self.edges(0),
            factory,
            enumerator: None,
            transaction_timeout_ms: None,
            output_type: type_name::<O>(),
        });
        DataStream::of(self.recorder.clone(), id)
    }

    /// One record for each record.
    pub fn map<O: Data, F>(&self, function: F) -> DataStream<O>
    where
        F: Fn(T) -> O + Clone + Send + Sync + 'static,
    {
        self.operator(
            "Map",
            false,
            InputFactory::<T, _>::shared(move |outputs, _, _| {
                Ok(Box::new(Map::new(function.clone(), outputs.downstream::<O>())))
            }),
        )
    }

    /// The records for which the predicate answers true.
    pub fn filter<F>(&self, predicate: F) -> Self
    where
        F: Fn(&T) -> bool + Clone + Send + Sync + 'static,
    {
        self.operator(
            "Filter",
            false,
            InputFactory::<T, _>::shared(move |outputs, _, _| {
                Ok(Box::new(Filter::new(predicate.clone(), outputs.downstream::<T>())))
            }),
        )
    }

    /// Any number of records for each record: the function appends them. They get the timestamp of the record.
    pub fn flat_map<O: Data, F>(&self, function: F) -> DataStream<O>
    where
        F: Fn(T, &mut Vec<O>) + Clone + Send + Sync + 'static,
    {
        self.operator(
            "Flat Map",
            false,
            InputFactory::<T, _>::shared(move |outputs, place, _| {
                let (downstream, restored) = (outputs.downstream::<O>(), &place.restored.operator_states);
                Ok(Box::new(FlatMap::new(place.uid, function.clone(), downstream, restored)?))
            }),
        )
    }

    /// Looks at every record and passes it on.
    pub fn inspect<F>(&self, look: F) -> Self
    where
        F: Fn(&T) + Clone + Send + Sync + 'static,
    {
        let pass_on = move |value: T| {
            look(&value);
            value
        };
        self.map(pass_on).name("Inspect")
    }

    /// A function of one's own: several outputs, operator state, a last word at the end of the input.
    pub fn process<P>(&self, mut function: P) -> DataStream<P::Out>
    where
        P: ProcessFunction<In = T>,
        P::Out: Data,
    {
        let mut stateful = false;
        function.operator_states(&mut |_| stateful = true);
        let prototype = Prototype::new(function);
        self.operator(
            "Process",
            stateful,
            InputFactory::<T, _>::shared(move |outputs, place, _| {
                let outputs = outputs.outputs::<P::Out>();
                Ok(Box::new(Process::new(place.uid, prototype.copy(), outputs, &place.restored.operator_states)?))
            }),
        )
    }

    /// The records that the operator before emits to a tag. Operators without side outputs give none.
    pub fn side_output<X: Data>(&self, tag: &OutputTag<X>) -> DataStream<X> {
        let side = |upstream: &Upstream| Upstream {
            from: upstream.from,
            side: Some(SideEdge::new::<X>(tag.name())),
            strategy: ShipStrategy::Forward,
            exchange: exchange::unkeyed::<X>(),
        };
        DataStream {
            recorder: self.recorder.clone(),
            upstream: self.upstream.iter().map(side).collect(),
            source: None,
            record: PhantomData,
        }
    }

    /// The records of this stream and another, in no particular order between them.
    pub fn union(&self, other: &Self) -> Self {
        let mut both = Self { source: None, ..self.clone() };
        both.upstream.extend(other.upstream.iter().cloned());
        both
    }

    /// Gives every record its event time, and event time its progress. An untimed record answers
    /// [`MIN_TIMESTAMP`](millstream_runtime::time::MIN_TIMESTAMP).
    ///
    /// Directly behind `from_source` this happens inside the source: each split has a watermark of its own, and the
    /// source reads on where event time is furthest behind. Anywhere else it replaces what came with the records.
    pub fn assign_watermarks<F>(&self, watermarks: Watermarks, timestamp: F) -> Self
    where
        F: Fn(&T) -> Timestamp + Clone + Send + Sync + 'static,
    {
        let assigner = move || -> Box<dyn TimestampAssigner<T>> { Box::new(timestamp.clone()) };
        if let (Some(source), [upstream]) = (&self.source, self.upstream.as_slice())
            && self.recorder.claim_timestamps(upstream.from)
        {
            let source = Arc::clone(source);
            let factory = SourceFactory { source, assigner: Some(Box::new(assigner)), watermarks };
            self.recorder.change(upstream.from, |node| node.factory = Arc::new(factory));
            return self.clone();
        }
        self.operator(
            "Timestamps/Watermarks",
            false,
            InputFactory::<T, _>::shared(move |outputs, _, _| {
                Ok(Box::new(AssignTimestamps::new(assigner(), watermarks, outputs.downstream::<T>())))
            }),
        )
    }

    /// The records by key: all of one key meet in one subtask, with the state of that key.
    pub fn key_by<K: Key, S>(&self, selector: S) -> KeyedStream<T, K, S>
    where
        S: Fn(&T) -> K + Clone + Send + Sync + 'static,
    {
        let stream = self.partitioned(ShipStrategy::Hash, exchange::by_key(selector.clone()));
        KeyedStream::new(stream, selector)
    }

    /// Deals records out in turns over all subtasks of the next operator.
    pub fn rebalance(&self) -> Self {
        self.partitioned(ShipStrategy::Rebalance, exchange::unkeyed::<T>())
    }

    /// Deals records out by chance over all subtasks of the next operator.
    pub fn shuffle(&self) -> Self {
        self.partitioned(ShipStrategy::Shuffle, exchange::unkeyed::<T>())
    }

    /// Deals records out in turns over the nearest subtasks of the next operator.
    pub fn rescale(&self) -> Self {
        self.partitioned(ShipStrategy::Rescale, exchange::unkeyed::<T>())
    }

    /// All records to the first subtask of the next operator.
    pub fn global(&self) -> Self {
        self.partitioned(ShipStrategy::Global, exchange::unkeyed::<T>())
    }

    /// Subtask i to subtask i; in turns if the next operator has another parallelism. This is the default.
    pub fn forward(&self) -> Self {
        self.partitioned(ShipStrategy::Forward, exchange::unkeyed::<T>())
    }

    /// To the subtask `choose(record, number of subtasks)` of the next operator.
    pub fn partition_custom<F>(&self, choose: F) -> Self
    where
        F: Fn(&T, usize) -> usize + Clone + Send + Sync + 'static,
    {
        self.partitioned(ShipStrategy::Custom, exchange::custom(choose))
    }

    /// Every record to every subtask of the next operator.
    pub fn broadcast(&self) -> BroadcastStream<T> {
        BroadcastStream::new(self.partitioned(ShipStrategy::Broadcast, exchange::unkeyed::<T>()))
    }

    fn partitioned(&self, strategy: ShipStrategy, exchange: Arc<dyn ExchangeFactory>) -> Self {
        let mut stream = Self { source: None, ..self.clone() };
        for upstream in &mut stream.upstream {
            upstream.strategy = strategy;
            upstream.exchange = Arc::clone(&exchange);
        }
        stream
    }

    /// Writes the records to a sink, exactly once as far as the sink's transactions reach.
    pub fn sink_to<S: TwoPhaseCommitSink<T>>(&self, name: impl Into<String>, sink: S) -> Operator {
        let transaction_timeout_ms = sink.transaction_timeout_ms();
        let output = sink.output();
        let build = move |_, place: OperatorPlace, cx: &ChainContext| {
            let restored = &place.restored.operator_states;
            let sink = SinkOperator::<T, S::Committable>::new(place.uid, place.slot, &sink, restored, cx)?;
            Ok(Box::new(sink) as Downstream<T>)
        };
        let factory = InputFactory::<T, _>::with_output(build, output);
        self.sink(name.into(), true, transaction_timeout_ms, factory)
    }

    pub(crate) fn sink(
        &self,
        name: String,
        stateful: bool,
        transaction_timeout_ms: Option<u64>,
        factory: Arc<dyn OperatorFactory>,
    ) -> Operator {
        let id = self.recorder.add(NewNode {
            name,
            kind: NodeKind::Sink,
            stateful,
            inputs: self.edges(0),
            factory,
            enumerator: None,
            transaction_timeout_ms,
            output_type: type_name::<()>(),
        });
        Operator::new(self.recorder.clone(), id)
    }

    /// Prints the records to standard output; after a restart, those since the last checkpoint again.
    pub fn print(&self) -> Operator
    where
        T: Debug,
    {
        self.sink_to("Print", PrintSink::new(""))
    }

    /// Drops the records.
    pub fn discard(&self) -> Operator {
        self.sink_to("Discard", BlackholeSink)
    }

    /// The operators that gave the stream, for settings; none for a union.
    fn set(self, set: impl FnOnce(Operator) -> Operator) -> Self {
        if let [upstream] = self.upstream.as_slice() {
            drop(set(Operator::new(self.recorder.clone(), upstream.from)));
        }
        self
    }

    /// Ties the operator to its state over restarts and changes of the program. Unique in the job.
    #[must_use]
    pub fn uid(self, uid: impl Into<String>) -> Self {
        self.set(|operator| operator.uid(uid))
    }

    /// Shown in plans, metrics and logs.
    #[must_use]
    pub fn name(self, name: impl Into<String>) -> Self {
        self.set(|operator| operator.name(name))
    }

    /// Number of subtasks, instead of the job's; at least 1.
    #[must_use]
    pub fn set_parallelism(self, parallelism: u32) -> Self {
        self.set(|operator| operator.set_parallelism(parallelism))
    }

    /// One subtask and never more, whatever becomes of the parallelism of the job: the operator cannot share its work.
    #[must_use]
    pub fn force_non_parallel(self) -> Self {
        self.set(Operator::force_non_parallel)
    }

    /// Whose slots the operator shares; without it, those of its inputs if they all share the same, else those of the group
    /// `default`. Operators of different groups share no slot and no subtask: the job needs the slots of all groups together.
    #[must_use]
    pub fn slot_sharing_group(self, name: impl Into<String>) -> Self {
        self.set(|operator| operator.slot_sharing_group(name))
    }

    /// The operator runs in a subtask of its own: not behind its input, and nothing behind it.
    #[must_use]
    pub fn disable_chaining(self) -> Self {
        self.set(Operator::disable_chaining)
    }

    /// The operator is not chained to what is before it.
    #[must_use]
    pub fn start_new_chain(self) -> Self {
        self.set(Operator::start_new_chain)
    }
}
