//! The operator chain: user code as one synchronous push pipeline per subtask, a batch at a time.
//!
//! An operator owns its consumers and pushes batches into them: one virtual call per batch and operator, user closures
//! monomorphised. When an output lacks credit or blocking work must come first, a push answers [`Flow::Blocked`] or
//! [`Flow::Waiting`], or [`Flow::Yielded`] between two batches of timers; every operator on the way keeps what it has not processed behind a cursor, and goes on at
//! [`Stage::resume`]. The last stage of a chain is an [`exchange`](crate::exchange) or a sink.
//!
//! - [`context`]: what operators share: work to start, the cut being made, counters
//! - [`map`], [`timestamps`], [`process`], [`keyed`], [`window`], [`sink`], [`source`]: the operators
//! - `held`: rows behind a cursor, in a cut that overtakes them
//! - [`head`]: the entry of a chain, where a batch gets its type back

pub mod context;
pub mod head;
mod held;
pub mod keyed;
pub mod map;
pub mod output;
pub mod process;
pub mod sink;
pub mod source;
pub mod timestamps;
pub mod window;

use std::any::Any;
use std::sync::Arc;

use crate::batch::Rows;
use crate::element::{Barrier, Purpose};
use crate::ids::{CheckpointId, CutNumber, OperatorUid};
use crate::ports::PortError;
use crate::ports::state::StateReader;
use crate::time::Timestamp;

pub use context::{ChainContext, OperatorSlot};

/// Whether a push went through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Flow {
    /// Everything was processed; push more.
    Ready,
    /// An output lacks credit: push nothing more until `resume` answers `Ready`.
    Blocked,
    /// Work was started whose completion is needed first: push nothing more until `resume` answers `Ready`.
    Waiting,
    /// What was pushed has gone through, but for timers that are due: they fire at `resume`, a batch of them each time.
    /// A watermark or a barrier may come in between; rows may not.
    Yielded,
}

impl Flow {
    /// Whether more may be pushed.
    #[must_use]
    pub fn is_ready(self) -> bool {
        self == Self::Ready
    }

    /// The stricter of two: not ready if either is not.
    pub fn and(self, other: Self) -> Self {
        match self {
            Self::Ready => other,
            Self::Yielded if other != Self::Ready => other,
            Self::Blocked | Self::Waiting | Self::Yielded => self,
        }
    }
}

/// What a chain call comes to; an error fails the subtask.
pub type ChainResult<T = Flow> = Result<T, PortError>;

/// The result of blocking work on its way back to the operator that started it.
pub struct Completion {
    /// Who started it.
    pub slot: OperatorSlot,
    /// What came out.
    pub result: Box<dyn Any + Send>,
}

/// What the local store has now.
pub struct Folded<'a> {
    /// The newest cut of this subtask in it.
    pub cut: CutNumber,
    /// Reads the keyed state of an operator.
    pub reader: &'a dyn Fn(&OperatorUid) -> Arc<dyn StateReader>,
}

/// An operator in a chain, without the type of its records. The defaults pass everything on.
pub trait Stage: Send {
    /// Calls `visit` with every direct consumer and combines the answers.
    ///
    /// # Errors
    /// What `visit` answers.
    fn consumers(&mut self, visit: &mut dyn FnMut(&mut dyn Stage) -> ChainResult) -> ChainResult;

    /// Called once after the state is attached, before anything else.
    ///
    /// # Errors
    /// When the operator cannot start.
    fn open(&mut self, cx: &mut ChainContext) -> ChainResult {
        self.consumers(&mut |consumer| consumer.open(cx))
    }

    /// The input watermark has advanced.
    ///
    /// # Errors
    /// When user code fails.
    fn watermark(&mut self, watermark: Timestamp, cx: &mut ChainContext) -> ChainResult {
        self.consumers(&mut |consumer| consumer.watermark(watermark, cx))
    }

    /// The input is left out of the watermark minimum, or takes part again.
    ///
    /// # Errors
    /// When user code fails.
    fn idle(&mut self, idle: bool, cx: &mut ChainContext) -> ChainResult {
        self.consumers(&mut |consumer| consumer.idle(idle, cx))
    }

    /// There will be no more rows; barriers may still come.
    ///
    /// # Errors
    /// When user code fails.
    fn end_of_input(&mut self, cx: &mut ChainContext) -> ChainResult {
        self.consumers(&mut |consumer| consumer.end_of_input(cx))
    }

    /// Goes on with what is held behind cursors, consumers first.
    ///
    /// # Errors
    /// When user code fails.
    fn resume(&mut self, cx: &mut ChainContext) -> ChainResult {
        self.consumers(&mut |consumer| consumer.resume(cx))
    }

    /// Hands over partly filled batches as far as there is credit: nothing more waits just now. `Blocked` when some
    /// are left; the subtask is woken when there is credit, and flushes again.
    ///
    /// # Errors
    /// When user code fails.
    fn flush(&mut self, cx: &mut ChainContext) -> ChainResult {
        self.consumers(&mut |consumer| consumer.flush(cx))
    }

    /// Takes the snapshot into `cx.cut` and passes the barrier on. Called while the chain is ready or has yielded
    /// between two timers, and, with a barrier that overtakes, while an output blocks it: rows behind cursors are then
    /// part of the cut.
    ///
    /// # Errors
    /// When the snapshot cannot be taken.
    fn barrier(&mut self, barrier: &Barrier, cx: &mut ChainContext) -> ChainResult {
        self.consumers(&mut |consumer| consumer.barrier(barrier, cx))
    }

    /// Sets the flag while even a cut that overtakes has to wait: the state is not known before some work is done.
    fn holds_off(&mut self, flag: &mut bool) {
        let visited = self.consumers(&mut |consumer| {
            consumer.holds_off(flag);
            Ok(Flow::Ready)
        });
        debug_assert!(visited.is_ok());
    }

    /// Encodes some more of what the barrier froze; `Blocked` means there is more to encode.
    ///
    /// # Errors
    /// When a value refuses to be serialised.
    fn encode_frozen(&mut self, cx: &mut ChainContext) -> ChainResult {
        self.consumers(&mut |consumer| consumer.encode_frozen(cx))
    }

    /// Offers the result of blocking work; the operator whose slot it names takes it.
    ///
    /// # Errors
    /// When the work failed.
    fn completed(&mut self, completion: &mut Option<Completion>, cx: &mut ChainContext) -> ChainResult {
        self.consumers(&mut |consumer| consumer.completed(completion, cx))
    }

    /// The checkpoint is complete: its record is written. Sinks commit.
    ///
    /// # Errors
    /// When a commit cannot be started.
    fn checkpoint_complete(
        &mut self,
        checkpoint: CheckpointId,
        purpose: Purpose,
        cx: &mut ChainContext,
    ) -> ChainResult {
        self.consumers(&mut |consumer| consumer.checkpoint_complete(checkpoint, purpose, cx))
    }

    /// Adds how much is prepared but not known to be committed: a subtask ends only when it is nothing.
    fn uncommitted(&mut self, count: &mut usize) {
        let visited = self.consumers(&mut |consumer| {
            consumer.uncommitted(count);
            Ok(Flow::Ready)
        });
        debug_assert!(visited.is_ok());
    }

    /// The local store has every cut up to one: keyed state that it has need not be in memory.
    ///
    /// # Errors
    /// None so far; a chain call may fail.
    fn folded(&mut self, folded: &Folded<'_>, cx: &mut ChainContext) -> ChainResult {
        self.consumers(&mut |consumer| consumer.folded(folded, cx))
    }

    /// Sets the flag while state is still being brought back: the segments it lies in must stay.
    fn restoring(&mut self, flag: &mut bool) {
        let visited = self.consumers(&mut |consumer| {
            consumer.restoring(flag);
            Ok(Flow::Ready)
        });
        debug_assert!(visited.is_ok());
    }

    /// Processing time has reached a timer that an operator asked for through [`ChainContext::wake_at`].
    ///
    /// # Errors
    /// When user code fails.
    fn processing_time(&mut self, now_ms: Timestamp, cx: &mut ChainContext) -> ChainResult {
        self.consumers(&mut |consumer| consumer.processing_time(now_ms, cx))
    }
}

/// A stage that takes records of type `T`.
pub trait Collector<T>: Stage {
    /// Takes a batch. On `Blocked` or `Waiting` the stage has kept what it did not process.
    ///
    /// # Errors
    /// When user code fails.
    fn push(&mut self, rows: Rows<T>, cx: &mut ChainContext) -> ChainResult;
}

/// Consumers of one output: one in most graphs, several behind a fan-out.
pub type Downstream<T> = Box<dyn Collector<T>>;
