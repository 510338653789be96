//! Machine and chain of one subtask together: what the actor does between two messages, without knowing of actors.

use std::collections::BTreeMap;

use millstream_runtime::chain::head::ChainHead;
use millstream_runtime::chain::source::SourcePoll;
use millstream_runtime::chain::{ChainContext, Flow};
use millstream_runtime::element::{Barrier, Element, Overtaking, Purpose};
use millstream_runtime::exchange::Parcel;
use millstream_runtime::ids::{ChannelIndex, CheckpointId};
use millstream_runtime::ports::PortError;
use millstream_runtime::subtask::overtaking::WantedTimeout;
use millstream_runtime::subtask::{Action, Subtask};
use millstream_runtime::time::{MAX_TIMESTAMP, MIN_TIMESTAMP, Timestamp};

use crate::in_flight::InFlight;

/// What one step did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Processed a batch: let others run, then call again.
    Worked,
    /// A barrier is to be taken: the chain is ready for it, or the barrier overtakes what it is busy with.
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
    /// Sources: the trigger of this checkpoint has waited as long as it may.
    overdue: Option<CheckpointId>,
    /// What cuts have overtaken that are not on their way to the store; at most the newest and the one before.
    in_flight: BTreeMap<CheckpointId, InFlight>,
    /// Sources: held back behind the savepoint of a stop.
    stopping: Option<CheckpointId>,
    ended: bool,
    end_told: bool,
    /// Partly filled batches are left for lack of credit.
    unflushed: bool,
    /// Processing-time timers up to here have to fire.
    time_due: Option<Timestamp>,
    /// No more rows are taken in: keyed state has no room.
    held: bool,
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
            overdue: None,
            in_flight: BTreeMap::new(),
            stopping: None,
            ended: false,
            end_told: false,
            unflushed: false,
            time_due: None,
            held: false,
            working: None,
            input: InputCounters { watermark: MIN_TIMESTAMP, ..InputCounters::default() },
        }
    }

    /// An element has come.
    ///
    /// # Errors
    /// When it belongs to a cut taken before, and refuses to be stored.
    pub fn receive(&mut self, channel: ChannelIndex, element: Element<Parcel>) -> Result<(), PortError> {
        if let Element::Batch(parcel) = &element
            && self.machine.is_recording(channel)
            && let Some(checkpoint) = self.machine.recording()
        {
            self.in_flight.entry(checkpoint).or_default().record(channel, &*parcel.batch)?;
        }
        self.machine.receive(channel, element);
        Ok(())
    }

    /// The machine.
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

    /// What [`time_out`](Self::time_out) is to be called with later; each is answered once.
    pub fn take_wanted_timeout(&mut self) -> Option<WantedTimeout> {
        let Some((barrier, _)) = self.triggers.back() else { return self.machine.take_wanted_timeout() };
        match barrier.overtaking {
            Overtaking::Never => None,
            Overtaking::After { timeout_ms } => {
                Some(WantedTimeout { checkpoint: barrier.checkpoint, after_ms: timeout_ms })
            }
            Overtaking::Now => {
                self.overdue = Some(barrier.checkpoint);
                None
            }
        }
    }

    /// Barriers of this checkpoint have waited as long as they may.
    pub fn time_out(&mut self, checkpoint: CheckpointId) {
        if self.is_source() {
            self.overdue = Some(checkpoint);
        } else {
            self.machine.time_out(checkpoint);
        }
    }

    /// Rows that the cut of this checkpoint has overtaken, once all of them are here.
    pub fn take_in_flight(&mut self, checkpoint: CheckpointId) -> Option<InFlight> {
        let is_whole = self.machine.recording() != Some(checkpoint);
        is_whole.then(|| self.in_flight.remove(&checkpoint).unwrap_or_default())
    }

    /// Rows have to wait, or not any more; barriers and watermarks that nothing is before go on.
    pub fn hold_rows(&mut self, held: bool) {
        self.held = held;
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
        if let Some(lost) = self.machine.take_lost() {
            return Ok(Step::Abandoned(lost));
        }
        if let Some(barrier) = self.overtake()? {
            return Ok(Step::Snapshot(barrier));
        }
        if self.flow == Flow::Yielded
            && self.opened
            && let Some(action) = self.machine.next_between_timers()
        {
            return self.act(action, cx);
        }
        if !self.flow.is_ready() || !self.opened {
            self.flow = self.chain.stage().resume(cx)?;
            // Rows that the restored cut overtook may be blocked again; that is as good as running.
            self.opened = self.opened || matches!(self.flow, Flow::Ready | Flow::Yielded) || !self.holds_off();
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

    fn holds_off(&mut self) -> bool {
        let mut holds_off = false;
        self.chain.stage().holds_off(&mut holds_off);
        holds_off
    }

    /// A barrier that is taken now, whatever the chain is busy with: it keeps what it has not processed in the cut.
    fn overtake(&mut self) -> Result<Option<Barrier>, PortError> {
        let trigger = self.triggers.front().filter(|(barrier, _)| Some(barrier.checkpoint) == self.overdue);
        let source = trigger.map(|(barrier, _)| Barrier { overtaking: Overtaking::Now, ..*barrier });
        if !self.opened || (source.is_none() && !self.machine.is_overdue()) {
            return Ok(None);
        }
        if self.holds_off() {
            return Ok(None);
        }
        if source.is_some() {
            self.triggers.pop_front();
            return Ok(source);
        }
        let (mut in_flight, mut outcome) = (InFlight::default(), Ok(()));
        let barrier = self.machine.overtake(|channel, parcel| {
            if outcome.is_ok() {
                outcome = in_flight.record(channel, &*parcel.batch);
            }
        });
        outcome?;
        if let Some(barrier) = &barrier {
            self.in_flight.insert(barrier.checkpoint, in_flight);
        }
        Ok(barrier)
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
        let next = if self.held { self.machine.next_between_timers() } else { self.machine.next_action() };
        match next {
            Some(action) => self.act(action, cx),
            None if self.held && self.machine.queued_batches() > 0 => Ok(Step::Paused(Flow::Waiting)),
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
