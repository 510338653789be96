//! One subtask of a harness: the driver of a cluster's subtasks, stepped on the calling thread.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use millstream_actors::subtask::driver::{Driver, Step};
use millstream_runtime::chain::head::ChainHead;
use millstream_runtime::chain::sink::PreparedTransactions;
use millstream_runtime::chain::{ChainContext, Completion, Flow, Folded};
use millstream_runtime::element::{Barrier, Element, Purpose};
use millstream_runtime::exchange::Parcel;
use millstream_runtime::ids::{ChannelIndex, CheckpointId, CutNumber, OperatorUid};
use millstream_runtime::ports::PortError;
use millstream_runtime::state::cut::OperatorCut;
use millstream_runtime::subtask::Subtask;
use millstream_runtime::time::Timestamp;

use super::snapshot::Snapshot;
use super::world::lock;

/// Elements on their way to a subtask.
pub(super) type Inbox = Arc<Mutex<VecDeque<(ChannelIndex, Element<Parcel>)>>>;

/// What a step did.
pub(super) enum Stepped {
    /// Nothing: there is nothing to do, or it waits.
    Idle,
    /// Something.
    Worked,
    /// Took its part of a checkpoint.
    Cut(Vec<OperatorCut>),
}

pub(super) struct Task {
    pub vertex: usize,
    driver: Driver,
    pub cx: ChainContext,
    inbox: Inbox,
    wake_at: Option<Timestamp>,
}

impl Task {
    pub fn new(
        vertex: usize,
        chain: ChainHead,
        mut cx: ChainContext,
        inbox: Inbox,
        inputs: Vec<u8>,
    ) -> Result<Self, PortError> {
        let mut driver = Driver::new(Subtask::new(inputs.len()), chain, inputs);
        driver.open(&mut cx)?;
        Ok(Self { vertex, driver, cx, inbox, wake_at: None })
    }

    pub fn chain(&mut self) -> &mut ChainHead {
        self.driver.chain()
    }

    /// A source is to take a checkpoint.
    pub fn trigger(&mut self, barrier: Barrier) {
        if self.driver.is_source() {
            self.driver.trigger(barrier, false);
        }
    }

    pub fn complete(&mut self, checkpoint: CheckpointId, purpose: Purpose) -> Result<(), PortError> {
        let _flow = self.driver.chain().stage().checkpoint_complete(checkpoint, purpose, &mut self.cx)?;
        Ok(())
    }

    /// The local store has what the snapshot has.
    pub fn folded(&mut self, snapshot: &Snapshot) -> Result<(), PortError> {
        let task = &self.cx.task;
        let (subtask, parallelism, groups) = (task.subtask.0, task.parallelism, task.key_groups.clone());
        let reader = |uid: &OperatorUid| {
            let restored = snapshot.restored(uid, subtask, parallelism, &groups).keyed;
            restored.expect("an operator with keyed state has declared it in its cut")
        };
        let folded = Folded { cut: self.cx.cut_number, reader: &reader };
        let _flow = self.driver.chain().stage().folded(&folded, &mut self.cx)?;
        Ok(())
    }

    pub fn uncommitted(&mut self) -> usize {
        let mut count = 0;
        self.driver.chain().stage().uncommitted(&mut count);
        count
    }

    pub fn flush(&mut self) -> Result<(), PortError> {
        self.driver.flush(&mut self.cx)
    }

    /// Whether every input has ended.
    pub fn has_ended(&self) -> bool {
        self.driver.has_ended()
    }

    pub fn cut_watermark(&self) -> Timestamp {
        self.driver.cut_watermark(&self.cx.task.watermark_floor)
    }

    pub fn has_mail(&self) -> bool {
        !lock(&self.inbox).is_empty()
    }

    /// At most one batch.
    pub fn step(&mut self) -> Result<Stepped, PortError> {
        for (channel, element) in lock(&self.inbox).drain(..) {
            self.driver.machine().receive(channel, element);
        }
        let worked = self.run_started()?;
        self.look_at_the_clock();
        let was_paused = self.driver.is_paused();
        let nothing_moved = match self.driver.step(&mut self.cx)? {
            Step::Snapshot(barrier) => return self.take_cut(&barrier).map(Stepped::Cut),
            Step::Worked | Step::Abandoned(_) | Step::EndOfData | Step::Paused(Flow::Yielded) => false,
            // The credit that goes back at a resumption may be what another subtask waits for.
            Step::Idle => !was_paused,
            Step::Paused(Flow::Ready | Flow::Blocked | Flow::Waiting) => was_paused && self.cx.started.is_empty(),
        };
        Ok(if nothing_moved && !worked { Stepped::Idle } else { Stepped::Worked })
    }

    /// Runs the blocking work that the chain has asked for.
    pub fn run_started(&mut self) -> Result<bool, PortError> {
        let mut any = false;
        for work in std::mem::take(&mut self.cx.started) {
            let mut completion = Some(Completion { slot: work.slot, result: (work.run)() });
            let _flow = self.driver.chain().stage().completed(&mut completion, &mut self.cx)?;
            any = true;
        }
        Ok(any)
    }

    fn look_at_the_clock(&mut self) {
        if let Some(at) = self.cx.take_wake_at() {
            self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
        }
        let now_ms = self.cx.task.clock.now_ms();
        if self.wake_at.take_if(|at| *at <= now_ms).is_some() {
            self.driver.processing_time(now_ms);
        }
    }

    fn take_cut(&mut self, barrier: &Barrier) -> Result<Vec<OperatorCut>, PortError> {
        let Self { driver, cx, .. } = self;
        cx.cut = Default::default();
        cx.cut_number = CutNumber(cx.cut_number.0 + 1);
        driver.barrier(barrier, cx)?;
        while !driver.chain().stage().encode_frozen(cx)?.is_ready() {}
        for prepare in std::mem::take(&mut cx.cut.prepare) {
            let prepared = (prepare.run)()?;
            cx.cut.operator(&prepare.uid).operator_states.push(prepared.state);
            let transactions =
                PreparedTransactions { checkpoint: barrier.checkpoint, committables: prepared.committables };
            let mut completion = Some(Completion { slot: prepared.slot, result: Box::new(transactions) });
            let _flow = driver.chain().stage().completed(&mut completion, cx)?;
        }
        Ok(std::mem::take(&mut cx.cut.operators))
    }
}
