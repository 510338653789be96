//! What a stream gives, collected for a test.

use std::sync::{Arc, Mutex};

use millstream_runtime::batch::{Data, Rows};
use millstream_runtime::chain::{ChainContext, ChainResult, Collector, Flow, Stage};
use millstream_runtime::time::{MIN_TIMESTAMP, Timestamp};

use super::world::lock;
use crate::stream::{DataStream, InputFactory};

struct Collection<T> {
    records: Vec<(T, Option<Timestamp>)>,
    watermark: Timestamp,
}

/// Everything that has come out of a stream so far.
pub struct Collected<T> {
    collection: Arc<Mutex<Collection<T>>>,
}

impl<T: Data> Collected<T> {
    /// Collects a stream: a sink of the job.
    #[must_use]
    pub fn from(stream: &DataStream<T>) -> Self {
        let collection = Arc::new(Mutex::new(Collection { records: Vec::new(), watermark: MIN_TIMESTAMP }));
        let shared = Arc::clone(&collection);
        let factory =
            InputFactory::<T, _>::shared(move |_, _, _| Ok(Box::new(CollectStage { collection: Arc::clone(&shared) })));
        stream.sink("Collect".to_string(), false, None, factory);
        Self { collection }
    }

    /// Takes the records that came since the last call, in the order in which they came.
    #[must_use]
    pub fn take(&self) -> Vec<T> {
        self.take_timed().into_iter().map(|(value, _)| value).collect()
    }

    /// As [`take`](Self::take), with timestamps.
    #[must_use]
    pub fn take_timed(&self) -> Vec<(T, Option<Timestamp>)> {
        std::mem::take(&mut lock(&self.collection).records)
    }

    /// The greatest watermark that came.
    #[must_use]
    pub fn watermark(&self) -> Timestamp {
        lock(&self.collection).watermark
    }
}

struct CollectStage<T> {
    collection: Arc<Mutex<Collection<T>>>,
}

impl<T: Data> Stage for CollectStage<T> {
    fn consumers(&mut self, _visit: &mut dyn FnMut(&mut dyn Stage) -> ChainResult) -> ChainResult {
        Ok(Flow::Ready)
    }

    fn watermark(&mut self, watermark: Timestamp, _cx: &mut ChainContext) -> ChainResult {
        let mut collection = lock(&self.collection);
        collection.watermark = collection.watermark.max(watermark);
        Ok(Flow::Ready)
    }
}

impl<T: Data> Collector<T> for CollectStage<T> {
    fn push(&mut self, rows: Rows<T>, _cx: &mut ChainContext) -> ChainResult {
        let Rows { values, timestamps } = rows;
        let timestamps = timestamps.into_iter().map(Some).chain(std::iter::repeat(None));
        lock(&self.collection).records.extend(values.into_iter().zip(timestamps));
        Ok(Flow::Ready)
    }
}
