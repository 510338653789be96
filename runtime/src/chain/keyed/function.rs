//! What users write on a keyed stream, and the context it gets.

use crate::chain::context::TaskInfo;
use crate::chain::output::{OutputTag, Outputs};
use crate::ids::CheckpointId;
use crate::key::Key;
use crate::ports::PortError;
use crate::ports::state::{StateNumber, Wanted};
use crate::state::keyed::{CurrentKey, KeyedState, Times};
use crate::state::operator::OperatorStateSlot;
use crate::state::schema::StateSchema;
use crate::state::table::KeyContext;
use crate::state::timers::Timers;
use crate::time::Timestamp;

/// Calls the closure with every keyed state of a function.
pub type StateVisitor<'a, K> = &'a mut dyn FnMut(&mut dyn KeyedState<K>);

/// What a function declares of its keyed states.
pub fn schemas<F: KeyedBroadcastFunction>(function: &mut F) -> Vec<StateSchema> {
    let mut schemas = Vec::new();
    function.states(&mut |state| schemas.push(state.backing().schema()));
    schemas
}

/// User code on a keyed stream.
///
/// State fields are visited in [`states`](Self::states): only visited state is checkpointed, and using another panics.
pub trait KeyedProcessFunction: Clone + Send + 'static {
    /// The key.
    type Key: Key;
    /// Records in.
    type In: crate::batch::Data;
    /// Records out.
    type Out: Send + 'static;

    /// Visits every keyed state, always in the same order.
    fn states(&mut self, visit: StateVisitor<'_, Self::Key>);

    /// Called once per subtask before the first record; the states are attached, but there is no key yet.
    ///
    /// # Errors
    /// Fails the subtask.
    fn open(&mut self, _task: &TaskInfo) -> Result<(), PortError> {
        Ok(())
    }

    /// A checkpoint or savepoint is complete: what it holds will not be processed again, unless the job goes back to it.
    ///
    /// # Errors
    /// Fails the subtask.
    fn checkpoint_complete(&mut self, _checkpoint: CheckpointId) -> Result<(), PortError> {
        Ok(())
    }

    /// Called once per subtask that was opened, when it ends for whatever reason.
    fn close(&mut self) {}

    /// Processes a record of the current key.
    ///
    /// # Errors
    /// Fails the subtask.
    fn process(&mut self, value: Self::In, cx: &mut KeyedContext<'_, Self::Key, Self::Out>) -> Result<(), PortError>;

    /// A timer of the current key has come due.
    ///
    /// # Errors
    /// Fails the subtask.
    fn on_timer(
        &mut self,
        _time: Timestamp,
        _cx: &mut KeyedContext<'_, Self::Key, Self::Out>,
    ) -> Result<(), PortError> {
        Ok(())
    }

    /// Adds what must be in memory before a record or a timer is processed. The default asks every state for what it
    /// has of the key.
    fn prefetch(&mut self, at: &KeyContext<Self::Key>, _cause: Prefetch, wanted: &mut Wanted) {
        let mut number = 0;
        self.states(&mut |state| {
            state.backing().entries().missing(StateNumber(number), at, wanted);
            number += 1;
        });
    }
}

/// For what entries are fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefetch {
    /// A record with this event time.
    Record(Option<Timestamp>),
    /// A timer.
    Timer(Timestamp),
}

/// User code on a keyed stream connected with a broadcast stream.
///
/// The broadcast side may change operator state and sees no key; the keyed side reads it.
pub trait KeyedBroadcastFunction: Clone + Send + 'static {
    /// The key.
    type Key: Key;
    /// Records of the keyed input.
    type In: crate::batch::Data;
    /// Records of the broadcast input.
    type Broadcast: Send + 'static;
    /// Records out.
    type Out: Send + 'static;

    /// Visits every keyed state, always in the same order.
    fn states(&mut self, visit: StateVisitor<'_, Self::Key>);

    /// Visits every broadcast state.
    fn broadcast_states(&mut self, _visit: &mut dyn FnMut(&mut dyn OperatorStateSlot)) {}

    /// See [`KeyedProcessFunction::open`].
    ///
    /// # Errors
    /// Fails the subtask.
    fn open(&mut self, _task: &TaskInfo) -> Result<(), PortError> {
        Ok(())
    }

    /// See [`KeyedProcessFunction::checkpoint_complete`].
    ///
    /// # Errors
    /// Fails the subtask.
    fn checkpoint_complete(&mut self, _checkpoint: CheckpointId) -> Result<(), PortError> {
        Ok(())
    }

    /// See [`KeyedProcessFunction::close`].
    fn close(&mut self) {}

    /// Processes a record of the keyed input.
    ///
    /// # Errors
    /// Fails the subtask.
    fn process(&mut self, value: Self::In, cx: &mut KeyedContext<'_, Self::Key, Self::Out>) -> Result<(), PortError>;

    /// Processes a record of the broadcast input: must do the same in every subtask.
    ///
    /// # Errors
    /// Fails the subtask.
    fn process_broadcast(&mut self, value: Self::Broadcast) -> Result<(), PortError>;

    /// A timer of the current key has come due.
    ///
    /// # Errors
    /// Fails the subtask.
    fn on_timer(&mut self, time: Timestamp, cx: &mut KeyedContext<'_, Self::Key, Self::Out>) -> Result<(), PortError>;

    /// See [`KeyedProcessFunction::prefetch`].
    fn prefetch(&mut self, at: &KeyContext<Self::Key>, _cause: Prefetch, wanted: &mut Wanted) {
        let mut number = 0;
        self.states(&mut |state| {
            state.backing().entries().missing(StateNumber(number), at, wanted);
            number += 1;
        });
    }
}

/// A keyed function without a broadcast input.
#[derive(Clone)]
pub struct WithoutBroadcast<F>(pub F);

impl<F: KeyedProcessFunction> KeyedBroadcastFunction for WithoutBroadcast<F> {
    type Key = F::Key;
    type In = F::In;
    type Broadcast = ();
    type Out = F::Out;

    fn states(&mut self, visit: StateVisitor<'_, F::Key>) {
        self.0.states(visit);
    }

    fn open(&mut self, task: &TaskInfo) -> Result<(), PortError> {
        self.0.open(task)
    }

    fn checkpoint_complete(&mut self, checkpoint: CheckpointId) -> Result<(), PortError> {
        self.0.checkpoint_complete(checkpoint)
    }

    fn close(&mut self) {
        self.0.close();
    }

    #[inline]
    fn process(&mut self, value: F::In, cx: &mut KeyedContext<'_, F::Key, F::Out>) -> Result<(), PortError> {
        self.0.process(value, cx)
    }

    fn process_broadcast(&mut self, (): ()) -> Result<(), PortError> {
        Ok(())
    }

    fn on_timer(&mut self, time: Timestamp, cx: &mut KeyedContext<'_, F::Key, F::Out>) -> Result<(), PortError> {
        self.0.on_timer(time, cx)
    }

    fn prefetch(&mut self, at: &KeyContext<F::Key>, cause: Prefetch, wanted: &mut Wanted) {
        self.0.prefetch(at, cause, wanted);
    }
}

/// What a keyed function works with while it processes a record or a timer.
pub struct KeyedContext<'a, K, O> {
    pub(crate) at: &'a KeyContext<K>,
    pub(crate) outputs: &'a mut Outputs<O>,
    pub(crate) event_timers: &'a mut Timers<K>,
    pub(crate) processing_timers: &'a mut Timers<K>,
    pub(crate) timestamp: Option<Timestamp>,
    pub(crate) watermark: Timestamp,
    pub(crate) now_ms: Timestamp,
    pub(crate) late_records_dropped: &'a mut u64,
}

impl<K, O> CurrentKey<K> for KeyedContext<'_, K, O> {
    #[inline]
    fn current(&self) -> &KeyContext<K> {
        self.at
    }

    fn times(&self) -> Times {
        Times { processing: self.now_ms, watermark: self.watermark, timestamp: self.timestamp }
    }
}

impl<K: Key, O> KeyedContext<'_, K, O> {
    /// The current key.
    #[must_use]
    pub fn key(&self) -> &K {
        &self.at.key
    }

    /// Emits with the timestamp of the record or timer.
    #[inline]
    pub fn emit(&mut self, value: O) {
        self.outputs.emit(value, self.timestamp);
    }

    /// Emits with a timestamp.
    #[inline]
    pub fn emit_at(&mut self, value: O, timestamp: Timestamp) {
        self.outputs.emit(value, Some(timestamp));
    }

    /// Emits to a side output.
    pub fn side<X: 'static>(&mut self, tag: &OutputTag<X>, value: X) {
        self.outputs.emit_side(tag, value, self.timestamp);
    }

    /// Event time of the record or timer.
    #[must_use]
    pub fn timestamp(&self) -> Option<Timestamp> {
        self.timestamp
    }

    /// The watermark of this operator for the current key: after a restore never below what the key group had seen.
    #[must_use]
    pub fn watermark(&self) -> Timestamp {
        self.watermark
    }

    /// Processing time when the batch was taken up, milliseconds since the epoch.
    #[must_use]
    pub fn processing_time(&self) -> Timestamp {
        self.now_ms
    }

    /// Registers an event-time timer for the current key: fires when the watermark reaches `time`.
    pub fn register_event_time_timer(&mut self, time: Timestamp) {
        self.event_timers.register(self.at, time);
    }

    /// Deletes an event-time timer of the current key.
    pub fn delete_event_time_timer(&mut self, time: Timestamp) {
        self.event_timers.delete(self.at, time);
    }

    /// Registers a processing-time timer for the current key.
    pub fn register_processing_time_timer(&mut self, time_ms: Timestamp) {
        self.processing_timers.register(self.at, time_ms);
    }

    /// Deletes a processing-time timer of the current key.
    pub fn delete_processing_time_timer(&mut self, time_ms: Timestamp) {
        self.processing_timers.delete(self.at, time_ms);
    }

    /// Counts a record as dropped because it was late (`numLateRecordsDropped`).
    pub fn count_late(&mut self) {
        *self.late_records_dropped += 1;
    }
}
