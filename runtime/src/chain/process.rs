//! Process functions on streams without keys: any number of outputs, side outputs, operator state.

use super::context::TaskInfo;
use super::held::HeldRows;
use super::output::{OutputTag, Outputs};
use super::{ChainContext, ChainResult, Collector, Stage};
use crate::batch::{Data, Rows};
use crate::element::{Barrier, Purpose};
use crate::ids::{CheckpointId, OperatorUid};
use crate::ports::PortError;
use crate::state::cut::{OperatorState, Redistribution};
use crate::state::operator::OperatorStateSlot;
use crate::time::{MIN_TIMESTAMP, Timestamp};

/// User code that sees every record, without keys.
pub trait ProcessFunction: Clone + Send + 'static {
    /// Records in.
    type In: Data;
    /// Records out.
    type Out: Send + 'static;

    /// Visits every operator state of the function.
    fn operator_states(&mut self, _visit: &mut dyn FnMut(&mut dyn OperatorStateSlot)) {}

    /// Called once per subtask before the first record, with the state that was restored.
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

    /// Processes a record.
    ///
    /// # Errors
    /// Fails the subtask.
    fn process(&mut self, value: Self::In, cx: &mut ProcessContext<'_, Self::Out>) -> Result<(), PortError>;

    /// The input has ended; the last chance to emit.
    ///
    /// # Errors
    /// Fails the subtask.
    fn end_of_input(&mut self, _cx: &mut ProcessContext<'_, Self::Out>) -> Result<(), PortError> {
        Ok(())
    }
}

/// What a process function works with.
pub struct ProcessContext<'a, O> {
    outputs: &'a mut Outputs<O>,
    timestamp: Option<Timestamp>,
    watermark: Timestamp,
}

impl<O> ProcessContext<'_, O> {
    /// Emits with the timestamp of the record being processed.
    #[inline]
    pub fn emit(&mut self, value: O) {
        self.outputs.emit(value, self.timestamp);
    }

    /// Emits with a timestamp.
    pub fn emit_at(&mut self, value: O, timestamp: Timestamp) {
        self.outputs.emit(value, Some(timestamp));
    }

    /// Emits to a side output.
    pub fn side<X: 'static>(&mut self, tag: &OutputTag<X>, value: X) {
        self.outputs.emit_side(tag, value, self.timestamp);
    }

    /// Event time of the record being processed.
    #[must_use]
    pub fn timestamp(&self) -> Option<Timestamp> {
        self.timestamp
    }

    /// The watermark of this operator.
    #[must_use]
    pub fn watermark(&self) -> Timestamp {
        self.watermark
    }
}

/// Whether each subtask had seen the end of its input at the cut, as union state of the operator.
const ENDED: &str = "_ended";

/// Runs a [`ProcessFunction`].
pub struct Process<F: ProcessFunction> {
    uid: OperatorUid,
    function: F,
    outputs: Outputs<F::Out>,
    held: Option<HeldRows<F::In>>,
    watermark: Timestamp,
    /// The end of input waits until the consumers are ready.
    ending: bool,
    /// The function has said its last word: what it had to say is in the cut, and its own state counts no more.
    ended: bool,
    opened: bool,
}

impl<F: ProcessFunction> Drop for Process<F> {
    fn drop(&mut self) {
        if self.opened {
            self.function.close();
        }
    }
}

impl<F: ProcessFunction> Process<F> {
    /// The operator, with the operator states that were dealt to it.
    ///
    /// # Errors
    /// When a restored state is of another type.
    pub fn new(
        uid: OperatorUid,
        mut function: F,
        outputs: Outputs<F::Out>,
        restored: &[OperatorState],
    ) -> Result<Self, PortError> {
        restore_states(restored, |visit| function.operator_states(visit))?;
        // While one subtask had not ended, its part of the input may come to any subtask.
        let flags = restored.iter().filter(|state| state.name == ENDED).flat_map(|state| &state.items);
        let held = HeldRows::restore(restored)?;
        let ended = flags.clone().next().is_some() && flags.clone().all(|flag| *flag == [1]) && held.is_none();
        let (ending, opened) = (false, false);
        Ok(Self { uid, function, outputs, held, watermark: MIN_TIMESTAMP, ending, ended, opened })
    }

    fn run(&mut self, mut held: HeldRows<F::In>, cx: &mut ChainContext) -> ChainResult {
        let Self { function, outputs, watermark, .. } = self;
        while let Some(value) = held.values.next() {
            let timestamp = held.timestamps.next();
            function.process(value, &mut ProcessContext { outputs, timestamp, watermark: *watermark })?;
            if outputs.is_full(cx.task.batch_rows) {
                let flow = outputs.drain(cx)?;
                if !flow.is_ready() {
                    self.held = Some(held);
                    return Ok(flow);
                }
            }
        }
        self.outputs.drain(cx)
    }
}

/// Gives each visited state its restored items, by name.
pub(crate) fn restore_states(
    restored: &[OperatorState],
    mut visit_all: impl FnMut(&mut dyn FnMut(&mut dyn OperatorStateSlot)),
) -> Result<(), PortError> {
    let mut outcome = Ok(());
    visit_all(&mut |slot| {
        let mut stored = restored.iter().filter(|state| state.name == slot.name());
        let (first, second) = (stored.next(), stored.next());
        if outcome.is_err() {
            return;
        }
        outcome = match (first, second) {
            (None, _) => Ok(()),
            (Some(state), None) => slot.restore(state),
            (Some(first), Some(second)) => Err(PortError::give_up(format!(
                "state '{}' is stored in the versions {} and {} by subtasks of one checkpoint",
                first.name, first.version, second.version
            ))),
        };
    });
    outcome
}

/// Puts each visited state into the operator's part of the cut.
pub(crate) fn snapshot_states(
    uid: &OperatorUid,
    cx: &mut ChainContext,
    mut visit_all: impl FnMut(&mut dyn FnMut(&mut dyn OperatorStateSlot)),
) -> Result<(), PortError> {
    let mut outcome = Ok(());
    visit_all(&mut |slot| match slot.snapshot() {
        Ok(state) => cx.cut.operator(uid).operator_states.push(state),
        Err(error) => outcome = Err(error),
    });
    outcome
}

impl<F: ProcessFunction> Stage for Process<F> {
    fn consumers(&mut self, visit: &mut dyn FnMut(&mut dyn Stage) -> ChainResult) -> ChainResult {
        self.outputs.consumers(visit)
    }

    fn open(&mut self, cx: &mut ChainContext) -> ChainResult {
        self.opened = true;
        self.function.open(&cx.task)?;
        self.outputs.consumers(&mut |consumer| consumer.open(cx))
    }

    fn checkpoint_complete(
        &mut self,
        checkpoint: CheckpointId,
        purpose: Purpose,
        cx: &mut ChainContext,
    ) -> ChainResult {
        self.function.checkpoint_complete(checkpoint)?;
        self.outputs.consumers(&mut |consumer| consumer.checkpoint_complete(checkpoint, purpose, cx))
    }

    fn watermark(&mut self, watermark: Timestamp, cx: &mut ChainContext) -> ChainResult {
        self.watermark = watermark;
        self.outputs.consumers(&mut |consumer| consumer.watermark(watermark, cx))
    }

    fn end_of_input(&mut self, cx: &mut ChainContext) -> ChainResult {
        let Self { function, outputs, watermark, .. } = self;
        if !std::mem::replace(&mut self.ended, true) {
            function.end_of_input(&mut ProcessContext { outputs, timestamp: None, watermark: *watermark })?;
        }
        let flow = self.outputs.drain(cx)?;
        if !flow.is_ready() {
            // The end must not overtake rows that a consumer holds.
            self.ending = true;
            return Ok(flow);
        }
        self.outputs.consumers(&mut |consumer| consumer.end_of_input(cx))
    }

    fn resume(&mut self, cx: &mut ChainContext) -> ChainResult {
        let flow = self.outputs.consumers(&mut |consumer| consumer.resume(cx))?;
        if !flow.is_ready() {
            return Ok(flow);
        }
        if let Some(held) = self.held.take() {
            return self.run(held, cx);
        }
        if std::mem::take(&mut self.ending) {
            return self.outputs.consumers(&mut |consumer| consumer.end_of_input(cx));
        }
        Ok(flow)
    }

    fn barrier(&mut self, barrier: &Barrier, cx: &mut ChainContext) -> ChainResult {
        let Self { uid, function, held, ended, .. } = self;
        snapshot_states(uid, cx, |visit| function.operator_states(visit))?;
        if let Some(held) = held {
            held.store(uid, cx)?;
        }
        let states = &mut cx.cut.operator(uid).operator_states;
        if *ended {
            let lists = states.iter_mut().filter(|state| state.redistribution != Redistribution::Broadcast);
            lists.for_each(|state| state.items.clear());
        }
        let items = vec![vec![u8::from(*ended)]];
        states.push(OperatorState { name: ENDED.to_owned(), version: 1, redistribution: Redistribution::Union, items });
        self.outputs.consumers(&mut |consumer| consumer.barrier(barrier, cx))
    }
}

impl<F: ProcessFunction> Collector<F::In> for Process<F> {
    fn push(&mut self, rows: Rows<F::In>, cx: &mut ChainContext) -> ChainResult {
        self.ended = false;
        self.run(HeldRows::new(rows), cx)
    }
}
