//! Where a job begins: the environment records what the program calls, and knows what the job was given.

use std::ops::RangeInclusive;
use std::sync::Arc;

use millstream_connectors::collection::{from_collection, from_sequence};
use millstream_connectors::rate_limit::RateLimited;
use millstream_runtime::batch::Data;
use millstream_runtime::chain::timestamps::Watermarks;
use millstream_runtime::graph::StreamGraph;
use millstream_runtime::graph::stream::NodeKind;
use millstream_runtime::ports::source::Source;

use super::source::{SharedSource, SourceEnumerator, SourceFactory};
use super::{DataStream, NewNode, Parameters, Recorder};

/// Records a job as a graph of operators. Nothing runs before the graph is planned and deployed.
pub struct Environment {
    name: String,
    parallelism: u32,
    parameters: Parameters,
    rate_limit: Option<u64>,
    recorder: Recorder,
}

impl Environment {
    /// An empty job.
    #[must_use]
    pub fn new(name: impl Into<String>, parallelism: u32, parameters: Parameters) -> Self {
        let recorder = Recorder::default();
        Self { name: name.into(), parallelism: parallelism.max(1), parameters, rate_limit: None, recorder }
    }

    /// Every source reads at most so many records per second, over all of its subtasks.
    #[must_use]
    pub fn with_rate_limit(mut self, records_per_second: Option<u64>) -> Self {
        self.rate_limit = records_per_second;
        self
    }

    /// Name of the job.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Subtasks of every operator that does not set its own number.
    #[must_use]
    pub fn parallelism(&self) -> u32 {
        self.parallelism
    }

    /// The options of the job.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Reads a source.
    pub fn from_source<S: Source>(&self, name: impl Into<String>, source: S) -> DataStream<S::Record> {
        let source: SharedSource<S::Record> = match self.rate_limit {
            Some(limit) => Arc::new(RateLimited::new(source, limit)),
            None => Arc::new(source),
        };
        let factory = SourceFactory { source: Arc::clone(&source), assigner: None, watermarks: Watermarks::None };
        let id = self.recorder.add(NewNode {
            name: name.into(),
            kind: NodeKind::Source,
            stateful: true,
            inputs: Vec::new(),
            factory: Arc::new(factory),
            enumerator: Some(Arc::new(SourceEnumerator(Arc::clone(&source)))),
            transaction_timeout_ms: None,
            output_type: std::any::type_name::<S::Record>(),
        });
        DataStream::of_source(self.recorder.clone(), id, source)
    }

    /// The items of a vector, in order, from one subtask.
    pub fn from_collection<T: Data + Sync>(&self, name: impl Into<String>, items: Vec<T>) -> DataStream<T> {
        self.from_source(name, from_collection(items)).force_non_parallel()
    }

    /// The numbers of a range, both ends included, dealt out to all subtasks.
    pub fn from_sequence(&self, name: impl Into<String>, numbers: RangeInclusive<i64>) -> DataStream<i64> {
        self.from_source(name, from_sequence(numbers))
    }

    /// Takes what has been recorded; the environment is empty afterwards.
    #[must_use]
    pub fn take_graph(&self) -> StreamGraph {
        self.recorder.take_graph()
    }

    pub(crate) fn recorder(&self) -> &Recorder {
        &self.recorder
    }
}
