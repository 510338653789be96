//! The machine of one subtask: elements of its channels in, actions for the chain out. Decides alignment, the watermark
//! minimum, idleness and the end of input; generic in the payload, which it never looks at.
//!
//! - [`alignment`]: which channels wait for a barrier
//! - [`overtaking`]: which barrier is taken ahead of rows, and what is recorded because of it
//! - [`valve`]: the watermark over all channels

pub mod alignment;
pub mod overtaking;
pub mod valve;

#[cfg(test)]
mod overtaking_tests;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use crate::element::{Barrier, Element};
use crate::ids::{ChannelIndex, CheckpointId};
use crate::time::Timestamp;
use alignment::{Alignment, Arrival};
use overtaking::{Overtakers, WantedTimeout};
use valve::{Valve, ValveOutput};

/// What the chain has to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action<P> {
    /// Process a batch.
    Process(ChannelIndex, P),
    /// The watermark over all channels has advanced.
    Watermark(Timestamp),
    /// All channels are idle, or not any more.
    Idle(bool),
    /// All barriers are here: take the snapshot and pass the barrier on.
    Snapshot(Barrier),
    /// A checkpoint cannot be taken any more: tell the coordinator.
    Abandoned(CheckpointId),
    /// Every channel has ended.
    EndOfInput,
}

/// What waits before the barriers of a checkpoint.
enum Queue {
    /// Nothing, or only rows that may be overtaken.
    MayBeOvertaken,
    /// Rows that may not, or they may come.
    MayNotYet,
    /// A newer barrier, in the place of one that never comes.
    PassedOver,
}

/// The machine. Elements wait in it until the chain is ready for them; credit bounds how many.
#[derive(Clone, Debug)]
pub struct Subtask<P> {
    arrived: VecDeque<(ChannelIndex, Element<P>)>,
    /// Held back per channel while it is aligned.
    parked: Vec<VecDeque<Element<P>>>,
    alignment: Alignment,
    overtakers: Overtakers,
    valve: Valve,
    actions: VecDeque<Action<P>>,
    ended: Vec<bool>,
    queued_batches: usize,
}

impl<P> Subtask<P> {
    /// A subtask with this many input channels, of which barriers overtake nothing.
    #[must_use]
    pub fn new(channels: usize) -> Self {
        Self::overtakable(vec![false; channels])
    }

    /// A subtask with an input channel for each answer to "may barriers overtake its rows?".
    #[must_use]
    pub fn overtakable(allowed: Vec<bool>) -> Self {
        let channels = allowed.len();
        Self {
            arrived: VecDeque::new(),
            parked: (0..channels).map(|_| VecDeque::new()).collect(),
            alignment: Alignment::new(channels),
            overtakers: Overtakers::new(allowed),
            valve: Valve::new(channels),
            actions: VecDeque::new(),
            ended: vec![false; channels],
            queued_batches: 0,
        }
    }

    /// Takes an element from a channel.
    pub fn receive(&mut self, channel: ChannelIndex, element: Element<P>) {
        match &element {
            Element::Batch(_) => self.queued_batches += 1,
            Element::Barrier(barrier) => self.overtakers.came(channel, *barrier),
            Element::Watermark(_) | Element::Idle | Element::Active | Element::EndOfInput => {}
        }
        self.arrived.push_back((channel, element));
    }

    /// Takes what was in flight at the restored cut, before anything that has come on the channels since.
    pub fn replay(&mut self, batches: impl DoubleEndedIterator<Item = (ChannelIndex, P)>) {
        for (channel, payload) in batches.rev() {
            self.queued_batches += 1;
            self.arrived.push_front((channel, Element::Batch(payload)));
        }
    }

    /// A time-out that the machine is to be told of by [`time_out`](Self::time_out); each is answered once.
    pub fn take_wanted_timeout(&mut self) -> Option<WantedTimeout> {
        self.overtakers.take_wanted()
    }

    /// The barriers of this checkpoint have waited long enough.
    pub fn time_out(&mut self, checkpoint: CheckpointId) {
        self.overtakers.time_out(checkpoint);
    }

    /// Whether rows that come on this channel now belong to a cut taken before: its barrier is still to come.
    #[must_use]
    pub fn is_recording(&self, channel: ChannelIndex) -> bool {
        self.overtakers.is_recording(channel)
    }

    /// The checkpoint whose cut is taken and whose rows in flight have not all come.
    #[must_use]
    pub fn recording(&self) -> Option<CheckpointId> {
        self.overtakers.recording()
    }

    /// A checkpoint whose rows in flight will never all come, once: tell the coordinator.
    pub fn take_lost(&mut self) -> Option<CheckpointId> {
        self.overtakers.take_lost()
    }

    /// Whether [`overtake`](Self::overtake) is to be asked.
    #[must_use]
    pub fn is_overdue(&self) -> bool {
        self.overtakers.overdue().is_some()
    }

    /// The barrier to be taken now, whatever waits, even in the middle of a batch. Everything before it on its channel
    /// that the chain has not seen is in flight, and given to `record` in order.
    pub fn overtake(&mut self, mut record: impl FnMut(ChannelIndex, &P)) -> Option<Barrier> {
        let barrier = self.overtakers.overdue()?;
        let checkpoint = barrier.checkpoint;
        if self.alignment.is_over(checkpoint) {
            self.overtakers.settled();
            return None;
        }
        let mut missing = self.missing(checkpoint);
        match self.queue_before(checkpoint, missing.clone()) {
            Queue::MayBeOvertaken => {}
            Queue::MayNotYet => return None,
            Queue::PassedOver => {
                self.abort(checkpoint);
                self.actions.push_back(Action::Abandoned(checkpoint));
                return None;
            }
        }
        for (channel, element) in self.waiting() {
            let missing = &mut missing[channel.0 as usize];
            match element {
                Element::Batch(payload) if *missing => record(channel, payload),
                Element::Barrier(other) if other.checkpoint == checkpoint => *missing = false,
                Element::Batch(_)
                | Element::Barrier(_)
                | Element::Watermark(_)
                | Element::Idle
                | Element::Active
                | Element::EndOfInput => {}
            }
        }
        let replaced = self.alignment.overtaken(checkpoint);
        self.actions.extend(replaced.map(Action::Abandoned));
        self.overtakers.settled();
        self.overtakers.record(checkpoint, missing);
        self.unpark();
        Some(barrier)
    }

    /// Batches received and not yet given to the chain.
    #[must_use]
    pub fn queued_batches(&self) -> usize {
        self.queued_batches
    }

    /// The checkpoint some of whose barriers have come, the oldest of several.
    #[must_use]
    pub fn aligning(&self) -> Option<CheckpointId> {
        self.alignment.under_way()
    }

    /// The checkpoint was aborted: stop waiting for it.
    pub fn abort(&mut self, checkpoint: CheckpointId) {
        self.overtakers.abort(checkpoint);
        if self.alignment.abort(checkpoint) {
            self.unpark();
        }
    }

    /// The next thing to do, if anything can be done now.
    pub fn next_action(&mut self) -> Option<Action<P>> {
        loop {
            if let Some(action) = self.actions.pop_front() {
                return Some(action);
            }
            let (channel, element) = self.arrived.pop_front()?;
            if self.alignment.is_blocked(channel) {
                self.parked[channel.0 as usize].push_back(element);
                continue;
            }
            self.handle(channel, element);
        }
    }

    /// The next thing to do between two batches of timers: a later watermark, a snapshot, or to give one up. Rows, and
    /// whatever came behind them, wait until all timers have fired.
    pub fn next_between_timers(&mut self) -> Option<Action<P>> {
        loop {
            if let Some(action) = self.actions.front() {
                return match action {
                    Action::Watermark(_) | Action::Snapshot(_) | Action::Abandoned(_) => self.actions.pop_front(),
                    Action::Process(..) | Action::Idle(_) | Action::EndOfInput => None,
                };
            }
            let (channel, element) = self.arrived.front()?;
            if matches!(element, Element::Batch(_)) && !self.alignment.is_blocked(*channel) {
                return None;
            }
            let (channel, element) = self.arrived.pop_front()?;
            if self.alignment.is_blocked(channel) {
                self.parked[channel.0 as usize].push_back(element);
            } else {
                self.handle(channel, element);
            }
        }
    }

    fn handle(&mut self, channel: ChannelIndex, element: Element<P>) {
        match element {
            Element::Batch(payload) => {
                self.queued_batches -= 1;
                self.actions.push_back(Action::Process(channel, payload));
            }
            Element::Watermark(watermark) => {
                let output = self.valve.watermark(channel, watermark);
                self.pass(output);
            }
            Element::Idle => {
                let output = self.valve.idle(channel, true);
                self.pass(output);
            }
            Element::Active => {
                let output = self.valve.idle(channel, false);
                self.pass(output);
            }
            Element::EndOfInput => {
                let output = self.valve.end(channel);
                self.pass(output);
                self.ended[channel.0 as usize] = true;
                if self.ended.iter().all(|ended| *ended) {
                    self.actions.push_back(Action::EndOfInput);
                }
            }
            Element::Barrier(barrier) => self.barrier(channel, barrier),
        }
    }

    fn barrier(&mut self, channel: ChannelIndex, barrier: Barrier) {
        match self.alignment.arrived(channel, barrier) {
            Arrival::Wait => {}
            Arrival::Complete => {
                self.actions.push_back(Action::Snapshot(self.overtakers.aligned(barrier)));
                self.unpark();
            }
            Arrival::Subsumes(old, complete) => {
                self.actions.push_back(Action::Abandoned(old));
                if complete {
                    self.actions.push_back(Action::Snapshot(self.overtakers.aligned(barrier)));
                }
                self.unpark();
            }
            Arrival::Late => {}
        }
    }

    /// Everything that waits, in order within a channel.
    fn waiting(&self) -> impl Iterator<Item = (ChannelIndex, &Element<P>)> {
        let parked = self.parked.iter().enumerate();
        let parked = parked.flat_map(|(channel, parked)| parked.iter().map(move |element| (index(channel), element)));
        parked.chain(self.arrived.iter().map(|(channel, element)| (*channel, element)))
    }

    /// By channel: whether its barrier of the checkpoint is still to be handled.
    fn missing(&self, checkpoint: CheckpointId) -> Vec<bool> {
        let channels = (0..self.parked.len()).map(index);
        channels.map(|channel| !self.alignment.has_delivered(channel, checkpoint)).collect()
    }

    /// What waits before the barriers that are missing.
    fn queue_before(&self, checkpoint: CheckpointId, mut missing: Vec<bool>) -> Queue {
        let mut may_not = false;
        for (channel, element) in self.waiting() {
            let missing = &mut missing[channel.0 as usize];
            match element {
                Element::Barrier(other) if other.checkpoint == checkpoint => *missing = false,
                Element::Barrier(other) if *missing && other.checkpoint > checkpoint => return Queue::PassedOver,
                Element::Batch(_) => may_not |= *missing && !self.overtakers.is_allowed(channel),
                Element::Barrier(_) | Element::Watermark(_) | Element::Idle | Element::Active | Element::EndOfInput => {
                }
            }
        }
        let may_come = |(channel, missing): (usize, &bool)| *missing && !self.overtakers.is_allowed(index(channel));
        if may_not || missing.iter().enumerate().any(may_come) { Queue::MayNotYet } else { Queue::MayBeOvertaken }
    }

    /// Gives back what channels that are no longer blocked had to hold, before everything that came later.
    fn unpark(&mut self) {
        for channel in (0..self.parked.len()).rev() {
            if !self.alignment.is_blocked(index(channel)) {
                while let Some(element) = self.parked[channel].pop_back() {
                    self.arrived.push_front((index(channel), element));
                }
            }
        }
    }

    fn pass(&mut self, output: ValveOutput) {
        let ValveOutput { watermark, idle } = output;
        if idle == Some(false) {
            self.actions.push_back(Action::Idle(false));
        }
        self.actions.extend(watermark.map(Action::Watermark));
        if idle == Some(true) {
            self.actions.push_back(Action::Idle(true));
        }
    }
}

fn index(channel: usize) -> ChannelIndex {
    ChannelIndex(u32::try_from(channel).expect("channels are counted in u32"))
}
