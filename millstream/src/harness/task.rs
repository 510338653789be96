//! One subtask of a harness: machine and chain, stepped on the calling thread.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use millstream_runtime::chain::head::ChainHead;
use millstream_runtime::chain::sink::PreparedTransactions;
use millstream_runtime::chain::source::SourcePoll;
use millstream_runtime::chain::{ChainContext, Completion, Flow};
use millstream_runtime::credit::Permit;
use millstream_runtime::element::{Barrier, Element, Purpose};
use millstream_runtime::exchange::Parcel;
use millstream_runtime::ids::{ChannelIndex, CheckpointId, CutNumber};
use millstream_runtime::ports::PortError;
use millstream_runtime::state::cut::OperatorCut;
use millstream_runtime::subtask::{Action, Subtask};
use millstream_runtime::time::{MAX_TIMESTAMP, MIN_TIMESTAMP, Timestamp};

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
    chain: ChainHead,
    pub cx: ChainContext,
    machine: Subtask<Parcel>,
    inbox: Inbox,
    /// Which input of the head each channel belongs to.
    inputs: Vec<u8>,
    flow: Flow,
    /// The credit of the batch in work.
    working: Option<Permit>,
    /// Sources: barriers to send.
    triggers: VecDeque<Barrier>,
    watermark: Timestamp,
    wake_at: Option<Timestamp>,
    pub ended: bool,
}

impl Task {
    pub fn new(
        vertex: usize,
        mut chain: ChainHead,
        mut cx: ChainContext,
        inbox: Inbox,
        inputs: Vec<u8>,
    ) -> Result<Self, PortError> {
        let flow = chain.stage().open(&mut cx)?;
        let machine = Subtask::new(inputs.len());
        let watermark = MIN_TIMESTAMP;
        let triggers = VecDeque::new();
        Ok(Self {
            vertex,
            chain,
            cx,
            machine,
            inbox,
            inputs,
            flow,
            working: None,
            triggers,
            watermark,
            wake_at: None,
            ended: false,
        })
    }

    pub fn chain(&mut self) -> &mut ChainHead {
        &mut self.chain
    }

    /// A source is to take a checkpoint.
    pub fn trigger(&mut self, barrier: Barrier) {
        self.triggers.push_back(barrier);
    }

    pub fn complete(&mut self, checkpoint: CheckpointId, purpose: Purpose) -> Result<(), PortError> {
        let _flow = self.chain.stage().checkpoint_complete(checkpoint, purpose, &mut self.cx)?;
        Ok(())
    }

    pub fn uncommitted(&mut self) -> usize {
        let mut count = 0;
        self.chain.stage().uncommitted(&mut count);
        count
    }

    pub fn flush(&mut self) -> Result<(), PortError> {
        let _flow = self.chain.stage().flush(&mut self.cx)?;
        Ok(())
    }

    /// The watermark of a cut: until one has come in this deployment, what was late before the restore stays late.
    pub fn cut_watermark(&self) -> Timestamp {
        let floor = self.cx.task.watermark_floor.iter().min().copied().unwrap_or(MIN_TIMESTAMP);
        self.watermark.max(floor)
    }

    pub fn has_mail(&self) -> bool {
        !lock(&self.inbox).is_empty()
    }

    /// At most one batch.
    pub fn step(&mut self) -> Result<Stepped, PortError> {
        for (channel, element) in lock(&self.inbox).drain(..) {
            self.machine.receive(channel, element);
        }
        let mut worked = self.run_started()?;
        if !self.flow.is_ready() {
            self.flow = self.chain.stage().resume(&mut self.cx)?;
            if !self.flow.is_ready() {
                let goes_on = worked || !self.cx.started.is_empty() || self.cx.take_resume_soon();
                return Ok(if goes_on { Stepped::Worked } else { Stepped::Idle });
            }
            // The credit that goes back may be what another subtask waits for.
            worked = true;
            self.working = None;
        }
        self.fire_processing_time()?;
        if !self.flow.is_ready() {
            return Ok(Stepped::Worked);
        }
        let stepped = match self.chain {
            ChainHead::Source(_) => self.step_source()?,
            ChainHead::Input(_) => self.step_input()?,
        };
        Ok(if worked && matches!(stepped, Stepped::Idle) { Stepped::Worked } else { stepped })
    }

    /// Runs the blocking work that the chain has asked for.
    pub fn run_started(&mut self) -> Result<bool, PortError> {
        let mut any = false;
        for work in std::mem::take(&mut self.cx.started) {
            let mut completion = Some(Completion { slot: work.slot, result: (work.run)() });
            let _flow = self.chain.stage().completed(&mut completion, &mut self.cx)?;
            any = true;
        }
        Ok(any)
    }

    fn fire_processing_time(&mut self) -> Result<(), PortError> {
        if let Some(at) = self.cx.take_wake_at() {
            self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
        }
        let now_ms = self.cx.task.clock.now_ms();
        if self.wake_at.is_some_and(|at| at <= now_ms) {
            self.wake_at = None;
            self.flow = self.chain.stage().processing_time(now_ms, &mut self.cx)?;
        }
        Ok(())
    }

    fn step_source(&mut self) -> Result<Stepped, PortError> {
        if let Some(barrier) = self.triggers.pop_front() {
            return self.take_cut(&barrier).map(Stepped::Cut);
        }
        let ChainHead::Source(source) = &mut self.chain else { return Ok(Stepped::Idle) };
        if self.ended {
            return Ok(Stepped::Idle);
        }
        let polled = source.poll(&mut self.cx)?;
        self.watermark = source.progress().0;
        Ok(match polled {
            SourcePoll::More => Stepped::Worked,
            SourcePoll::Waiting => Stepped::Idle,
            SourcePoll::Paused(flow) => {
                self.flow = flow;
                Stepped::Worked
            }
            SourcePoll::EndOfInput => {
                self.end();
                Stepped::Worked
            }
        })
    }

    fn step_input(&mut self) -> Result<Stepped, PortError> {
        let Some(action) = self.machine.next_action() else { return Ok(Stepped::Idle) };
        match action {
            Action::Process(channel, Parcel { batch, permit }) => {
                let ChainHead::Input(head) = &mut self.chain else { return Ok(Stepped::Idle) };
                self.flow = head.push_batch(self.inputs[channel.0 as usize], batch, &mut self.cx)?;
                self.working = (!self.flow.is_ready()).then_some(permit);
            }
            Action::Watermark(watermark) => {
                self.watermark = watermark;
                self.flow = self.chain.stage().watermark(watermark, &mut self.cx)?;
            }
            Action::Idle(idle) => self.flow = self.chain.stage().idle(idle, &mut self.cx)?,
            Action::EndOfInput => {
                self.flow = self.chain.stage().end_of_input(&mut self.cx)?;
                self.end();
            }
            Action::Snapshot(barrier) => return self.take_cut(&barrier).map(Stepped::Cut),
            Action::Abandoned(_) => {}
        }
        Ok(Stepped::Worked)
    }

    fn end(&mut self) {
        self.ended = true;
        self.watermark = MAX_TIMESTAMP;
    }

    fn take_cut(&mut self, barrier: &Barrier) -> Result<Vec<OperatorCut>, PortError> {
        let Self { chain, cx, .. } = self;
        cx.cut = Default::default();
        cx.cut_number = CutNumber(cx.cut_number.0 + 1);
        self.flow = chain.stage().barrier(barrier, cx)?;
        while !chain.stage().encode_frozen(cx)?.is_ready() {}
        for prepare in std::mem::take(&mut cx.cut.prepare) {
            let prepared = (prepare.run)()?;
            cx.cut.operator(&prepare.uid).operator_states.push(prepared.state);
            let transactions =
                PreparedTransactions { checkpoint: barrier.checkpoint, committables: prepared.committables };
            let mut completion = Some(Completion { slot: prepared.slot, result: Box::new(transactions) });
            let _flow = chain.stage().completed(&mut completion, cx)?;
        }
        Ok(std::mem::take(&mut cx.cut.operators))
    }
}
