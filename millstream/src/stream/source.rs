//! The factory of a source: its readers with watermarks per split, and its enumerator.

use std::any::Any;
use std::sync::Arc;

use millstream_runtime::batch::Data;
use millstream_runtime::chain::ChainContext;
use millstream_runtime::chain::head::ChainHead;
use millstream_runtime::chain::source::SourceOperator;
use millstream_runtime::chain::timestamps::{TimestampAssigner, Watermarks};
use millstream_runtime::graph::stream::{EnumeratorFactory, NodeOutputs, OperatorFactory, OperatorPlace};
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::source::{ReaderContext, Source, SplitEnumerator};

use super::factory::always_a_head;

/// A source of records of one type.
pub(super) type SharedSource<T> = Arc<dyn Source<Record = T>>;

/// Makes the timestamp assigner of a subtask.
pub(super) type MakeAssigner<T> = Box<dyn Fn() -> Box<dyn TimestampAssigner<T>> + Send + Sync>;

pub(super) struct SourceFactory<T> {
    pub source: SharedSource<T>,
    pub assigner: Option<MakeAssigner<T>>,
    pub watermarks: Watermarks,
}

impl<T: Data> OperatorFactory for SourceFactory<T> {
    fn stage(
        &self,
        _outputs: NodeOutputs,
        place: OperatorPlace,
        _cx: &ChainContext,
    ) -> Result<Box<dyn Any>, PortError> {
        Err(always_a_head(&place))
    }

    fn head(&self, outputs: NodeOutputs, place: OperatorPlace, cx: &ChainContext) -> Result<ChainHead, PortError> {
        let task = &cx.task;
        let reader = self.source.reader(ReaderContext {
            subtask: task.subtask,
            parallelism: task.parallelism,
            blocking: Arc::clone(&task.blocking),
            waker: task.waker.clone(),
            wake_after: Arc::clone(&task.wake_after),
            clock: Arc::clone(&task.clock),
        })?;
        let assigner = self.assigner.as_ref().map(|make| make());
        let restored = &place.restored.operator_states;
        let operator =
            SourceOperator::new(place.uid, reader, assigner, self.watermarks, outputs.downstream::<T>(), restored)?;
        Ok(ChainHead::Source(Box::new(operator)))
    }
}

/// The enumerator side of a source.
pub(super) struct SourceEnumerator<T>(pub SharedSource<T>);

impl<T: Data> EnumeratorFactory for SourceEnumerator<T> {
    fn enumerator(&self, restored: Option<&[u8]>) -> Result<Box<dyn SplitEnumerator>, PortError> {
        self.0.enumerator(restored)
    }

    fn is_bounded(&self) -> bool {
        self.0.is_bounded()
    }
}
