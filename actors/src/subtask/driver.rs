//! Machine and chain of one subtask together: what the actor does between two messages, without knowing of actors.

use millstream_runtime::chain::head::ChainHead;
use millstream_runtime::chain::source::SourcePoll;
use millstream_runtime::chain::{ChainContext, Flow};
use millstream_runtime::element::{Barrier, Purpose};
use millstream_runtime::exchange::Parcel;
use millstream_runtime::ids::{ChannelIndex, CheckpointId};
use millstream_runtime::ports::PortError;
use millstream_runtime::subtask::{Action, Subtask};
use millstream_runtime::time::{MAX_TIMESTAMP, MIN_TIMESTAMP, Timestamp};

/// What one step did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Processed a batch: let others run, then call again.
    Worked,
    /// A barrier is to be taken: the chain is ready for it.
    Snapshot(Barrier),
    /// A checkpoint cannot be taken any more.
    Abandoned(CheckpointId),
    /// Every input has ended and everything was passed on.
    EndOfData,
    /// Nothing to do until a message comes.
    Idle,
    /// An output lacks credit, or work is awaited.
    Paused(Flow),
}

/// Counts of one subtask's input.
#[derive(Clone, Copy, Debug, Default)]
pub struct InputCounters {
    /// Rows taken in.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The watermark over all channels.
    pub watermark: Timestamp,
}

/// Drives one chain.
pub struct Driver {
    machine: Subtask<Parcel>,
    chain: ChainHead,
    /// Which input of the head each channel belongs to.
    inputs: Vec<u8>,
    /// Whether the chain takes more.
    flow: Flow,
    opened: bool,
    /// Sources: triggers that wait until the chain is ready.
    triggers: std::collections::VecDeque<(Barrier, bool)>,
    /// Sources: held back behind the savepoint of a stop.
    stopping: Option<CheckpointId>,
    ended: bool,
    end_told: bool,
    /// Partly filled batches are left for lack of credit.
    unflushed: bool,
    /// Processing-time timers up to here have to fire.
    time_due: Option<Timestamp>,
    /// The credit of the batch in work; returned when the chain has processed it.
    working: Option<millstream_runtime::credit::Permit>,
    /// Counts of the input.
    pub input: InputCounters,
}

impl Driver {
    /// Drives `chain` with what `machine` has received so far.
    #[must_use]
    pub fn new(machine: Subtask<Parcel>, chain: ChainHead, inputs: Vec<u8>) -> Self {
        Self {
            machine,
            chain,
            inputs,
            flow: Flow::Waiting,
            opened: false,
            triggers: std::collections::VecDeque::new(),
            stopping: None,
            ended: false,
            end_told: false,
            unflushed: false,
            time_due: None,
            working: None,
            input: InputCounters { watermark: MIN_TIMESTAMP, ..InputCounters::default() },
        }
    }

    /// The machine, for elements.
    pub fn machine(&mut self) -> &mut Subtask<Parcel> {
        &mut self.machine
    }

    /// The chain.
    pub fn chain(&mut self) -> &mut ChainHead {
        &mut self.chain
    }

    /// Opens the operators.
    ///
    /// # Errors
    /// When one cannot start.
    pub fn open(&mut self, cx: &mut ChainContext) -> Result<(), PortError> {
        self.flow = self.chain.stage().open(cx)?;
        Ok(())
    }

    /// Whether all operators have opened and restored what they need.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.opened
    }

    /// Whether the chain takes nothing more before it is resumed.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        !self.flow.is_ready()
    }

    /// Whether this subtask reads a source.
    #[must_use]
    pub fn is_source(&self) -> bool {
        matches!(self.chain, ChainHead::Source(_))
    }

    /// Whether every input has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.end_told
    }

    /// A source is to take a checkpoint.
    pub fn trigger(&mut self, barrier: Barrier, drain: bool) {
        self.triggers.push_back((barrier, drain));
    }

    /// A checkpoint will not complete.
    pub fn abort(&mut self, checkpoint: CheckpointId) {
        self.machine.abort(checkpoint);
        self.triggers.retain(|(barrier, _)| barrier.checkpoint != checkpoint);
        if self.stopping == Some(checkpoint) {
            self.stopping = None;
        }
    }

    /// One step: at most one batch.
    ///
    /// # Errors
    /// When the chain fails.
    pub fn step(&mut self, cx: &mut ChainContext) -> Result<Step, PortError> {
        if self.flow == Flow::Yielded
            && self.opened
            && let Some(action) = self.machine.next_between_timers()
        {
            return self.act(action, cx);
        }
        if !self.flow.is_ready() || !self.opened {
            self.flow = self.chain.stage().resume(cx)?;
            self.opened |= matches!(self.flow, Flow::Ready | Flow::Yielded);
            if !self.flow.is_ready() {
                return Ok(Step::Paused(self.flow));
            }
            self.working = None;
        }
        if let Some(now_ms) = self.time_due.take() {
            self.flow = self.chain.stage().processing_time(now_ms, cx)?;
            return Ok(if self.flow.is_ready() { Step::Worked } else { Step::Paused(self.flow) });
        }
        if self.ended && !self.end_told {
            self.end_told = true;
            return Ok(Step::EndOfData);
        }
        match self.chain {
            ChainHead::Source(_) => self.step_source(cx),
            ChainHead::Input(_) => self.step_input(cx),
        }
    }

    fn step_source(&mut self, cx: &mut ChainContext) -> Result<Step, PortError> {
        let ChainHead::Source(source) = &mut self.chain else { return Ok(Step::Idle) };
        if let Some((barrier, drain)) = self.triggers.front().copied() {
            if drain && !self.ended {
                self.ended = true;
                self.flow = source.drain(cx)?;
                return Ok(Step::Worked);
            }
            self.triggers.pop_front();
            if barrier.purpose == Purpose::StopWithSavepoint {
                self.stopping = Some(barrier.checkpoint);
            }
            return Ok(Step::Snapshot(barrier));
        }
        if self.ended || self.stopping.is_some() {
            return Ok(Step::Idle);
        }
        let before = source.records_read();
        let polled = source.poll(cx)?;
        self.input.records += source.records_read() - before;
        self.input.watermark = source.progress().0;
        match polled {
            SourcePoll::More => Ok(Step::Worked),
            SourcePoll::Waiting => Ok(Step::Idle),
            SourcePoll::Paused(flow) => {
                self.flow = flow;
                Ok(Step::Paused(flow))
            }
            SourcePoll::EndOfInput => {
                self.ended = true;
                Ok(Step::Worked)
            }
        }
    }

    fn step_input(&mut self, cx: &mut ChainContext) -> Result<Step, PortError> {
        match self.machine.next_action() {
            Some(action) => self.act(action, cx),
            None => Ok(Step::Idle),
        }
    }

    fn act(&mut self, action: Action<Parcel>, cx: &mut ChainContext) -> Result<Step, PortError> {
        match action {
            Action::Process(channel, parcel) => self.process(channel, parcel, cx)?,
            Action::Watermark(watermark) => {
                self.input.watermark = watermark;
                self.flow = self.chain.stage().watermark(watermark, cx)?;
            }
            Action::Idle(idle) => self.flow = self.chain.stage().idle(idle, cx)?,
            Action::EndOfInput => {
                self.flow = self.chain.stage().end_of_input(cx)?;
                self.ended = true;
            }
            Action::Snapshot(barrier) => return Ok(Step::Snapshot(barrier)),
            Action::Abandoned(checkpoint) => return Ok(Step::Abandoned(checkpoint)),
        }
        Ok(if self.flow.is_ready() { Step::Worked } else { Step::Paused(self.flow) })
    }

    fn process(&mut self, channel: ChannelIndex, parcel: Parcel, cx: &mut ChainContext) -> Result<(), PortError> {
        let Parcel { batch, permit } = parcel;
        self.input.records += batch.len() as u64;
        self.input.bytes += batch.size_bytes() as u64;
        let ChainHead::Input(head) = &mut self.chain else { return Ok(()) };
        self.flow = head.push_batch(self.inputs[channel.0 as usize], batch, cx)?;
        // The credit goes back when the batch has been processed, not when it was taken.
        self.working = (!self.flow.is_ready()).then_some(permit);
        Ok(())
    }

    /// Takes the snapshot and passes the barrier on.
    ///
    /// # Errors
    /// When the snapshot cannot be taken.
    pub fn barrier(&mut self, barrier: &Barrier, cx: &mut ChainContext) -> Result<(), PortError> {
        let flow = self.chain.stage().barrier(barrier, cx)?;
        // Timers that are still to fire ask for credit themselves.
        if self.flow.is_ready() {
            self.flow = flow;
        }
        Ok(())
    }

    /// Hands over partly filled batches.
    ///
    /// # Errors
    /// When the chain fails.
    pub fn flush(&mut self, cx: &mut ChainContext) -> Result<(), PortError> {
        self.unflushed = !self.chain.stage().flush(cx)?.is_ready();
        Ok(())
    }

    /// Whether the last flush left something for lack of credit; asked once per flush.
    pub fn take_unflushed(&mut self) -> bool {
        std::mem::take(&mut self.unflushed)
    }

    /// Processing time has come to a timer; it fires as soon as the chain is ready.
    pub fn processing_time(&mut self, now_ms: Timestamp) {
        self.time_due = Some(now_ms);
    }

    /// The watermark to store in a cut: never below what every restored key group had seen, even before the first
    /// watermark of this attempt has come.
    #[must_use]
    pub fn cut_watermark(&self, floor: &[Timestamp]) -> Timestamp {
        let floor = floor.iter().copied().min().unwrap_or(MIN_TIMESTAMP);
        if self.ended { MAX_TIMESTAMP } else { self.input.watermark.max(floor) }
    }
}
