//! What the operators of one chain share with the actor that drives them.

use std::any::Any;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use crate::ids::{AttemptId, JobId, OperatorUid, SubtaskIndex};
use crate::key_group::KeyGroup;
use crate::ports::state::StateReader;
use crate::ports::{Blocking, Clock, PortError, Waker};
use crate::state::cut::{OperatorCut, OperatorState};
use crate::state::memory::StateMemory;
use crate::time::{MIN_TIMESTAMP, Timestamp};

/// Position of an operator in its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperatorSlot(pub u32);

/// Blocking work that an operator has asked for; its result comes back as a [`Completion`](super::Completion).
pub struct StartedWork {
    /// Who asked.
    pub slot: OperatorSlot,
    /// What to run on the blocking executor.
    pub run: Box<dyn FnOnce() -> Box<dyn Any + Send> + Send>,
    /// It makes transactions visible: tests stop the process behind it.
    pub commits: bool,
}

/// Work of a sink that ends its transaction: part of making the cut durable.
pub struct PrepareCut {
    /// The sink.
    pub uid: OperatorUid,
    /// Makes the transactions durable and answers the sink's operator state and its new committables.
    pub run: Box<dyn FnOnce() -> Result<Prepared, PortError> + Send>,
}

/// What a prepared sink adds to the cut.
pub struct Prepared {
    /// Pending transactions, as union state of the sink.
    pub state: OperatorState,
    /// The sink whose committer takes the new ones.
    pub slot: OperatorSlot,
    /// Transactions of this cut, encoded.
    pub committables: Vec<Vec<u8>>,
}

/// The cut under construction.
#[derive(Default)]
pub struct CutBuilder {
    /// Operators that have state, in chain order.
    pub operators: Vec<OperatorCut>,
    /// Sinks that have to prepare.
    pub prepare: Vec<PrepareCut>,
    /// Bytes of the rows that the cut has overtaken in the chain.
    pub in_flight_bytes: u64,
}

impl CutBuilder {
    /// The part of one operator, added when missing.
    pub fn operator(&mut self, uid: &OperatorUid) -> &mut OperatorCut {
        if let Some(index) = self.operators.iter().position(|operator| operator.uid == *uid) {
            return &mut self.operators[index];
        }
        self.operators.push(OperatorCut {
            uid: uid.clone(),
            declarations: Vec::new(),
            keyed: Vec::new(),
            operator_states: Vec::new(),
        });
        self.operators.last_mut().expect("just pushed")
    }
}

/// What an operator is told about its place.
#[derive(Clone)]
pub struct TaskInfo {
    /// The job.
    pub job: JobId,
    /// The name of the vertex.
    pub task_name: String,
    /// The deployment.
    pub attempt: AttemptId,
    /// The deployments of the job's other regions.
    pub beside: Arc<BTreeSet<AttemptId>>,
    /// Whether it is the first subtask of its vertex in the deployment.
    pub is_first: bool,
    /// Which subtask.
    pub subtask: SubtaskIndex,
    /// How many there are.
    pub parallelism: u32,
    /// Number of key groups.
    pub max_parallelism: u16,
    /// The key groups of this subtask.
    pub key_groups: Range<u16>,
    /// Watermark at the restored cut per key group of this subtask: what was late stays late. Empty without a restore.
    pub watermark_floor: Vec<Timestamp>,
    /// Rows in a full batch.
    pub batch_rows: usize,
    /// Bytes in a full batch that leaves the chain, whichever comes first.
    pub batch_bytes: usize,
    /// What keyed state may take in memory, together with others of the process.
    pub memory: Arc<StateMemory>,
    /// For connectors that read ahead.
    pub blocking: Arc<dyn Blocking>,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Wakes this subtask.
    pub waker: Waker,
    /// Wakes this subtask after some milliseconds.
    pub wake_after: Arc<dyn Fn(u64) + Send + Sync>,
}

/// What is restored into one operator.
#[derive(Clone, Default)]
pub struct RestoredOperator {
    /// Serves the keyed entries; `None` when the operator starts empty.
    pub keyed: Option<Arc<dyn StateReader>>,
    /// Operator state, already dealt out to this subtask.
    pub operator_states: Vec<OperatorState>,
}

/// Counters of a chain, read by the actor after every call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChainCounters {
    /// Rows that left the chain through exchanges or sinks.
    pub records_out: u64,
    /// Bytes of them.
    pub bytes_out: u64,
    /// Rows dropped because they were late.
    pub late_records_dropped: u64,
    /// Timers fired.
    pub fired_timers: u64,
    /// The watermark last sent on.
    pub output_watermark: Option<Timestamp>,
    /// What keyed state takes in memory, as it was looked at last; 0 without a limit.
    pub state_bytes: u64,
    /// Keyed state takes more than it may, and the local store has not got enough of it.
    pub memory_short: bool,
}

/// Passed through every call of a chain.
pub struct ChainContext {
    /// Where the chain runs.
    pub task: TaskInfo,
    /// Work to start after this call.
    pub started: Vec<StartedWork>,
    /// The cut being made, from the barrier until everything is encoded.
    pub cut: CutBuilder,
    /// Number of the cut being made.
    pub cut_number: crate::ids::CutNumber,
    /// Counters.
    pub counters: ChainCounters,
    wake_at: Option<Timestamp>,
}

impl ChainContext {
    /// The context of a chain.
    #[must_use]
    pub fn new(task: TaskInfo) -> Self {
        Self {
            task,
            started: Vec::new(),
            cut: CutBuilder::default(),
            cut_number: crate::ids::CutNumber(0),
            counters: ChainCounters::default(),
            wake_at: None,
        }
    }

    /// Starts blocking work whose result is offered to the operator in `slot`.
    pub fn start<R: Send + 'static>(&mut self, slot: OperatorSlot, work: impl FnOnce() -> R + Send + 'static) {
        self.started.push(StartedWork { slot, run: Box::new(move || Box::new(work())), commits: false });
    }

    /// Starts work that makes transactions visible.
    pub fn start_commit<R: Send + 'static>(&mut self, slot: OperatorSlot, work: impl FnOnce() -> R + Send + 'static) {
        self.started.push(StartedWork { slot, run: Box::new(move || Box::new(work())), commits: true });
    }

    /// The watermark that a key group had when it was restored.
    #[must_use]
    pub fn watermark_floor(&self, group: KeyGroup) -> Timestamp {
        let slot = usize::from(group.0 - self.task.key_groups.start);
        self.task.watermark_floor.get(slot).copied().unwrap_or(MIN_TIMESTAMP)
    }

    /// Asks for a call of `processing_time` at or after this time of day.
    pub fn wake_at(&mut self, time_ms: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(time_ms, |earlier| earlier.min(time_ms)));
    }

    /// Takes the earliest time asked for.
    pub fn take_wake_at(&mut self) -> Option<Timestamp> {
        self.wake_at.take()
    }
}
