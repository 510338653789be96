//! The machine of one subtask: elements of its channels in, actions for the chain out. Decides alignment, the watermark
//! minimum, idleness and the end of input; generic in the payload, which it never looks at.
//!
//! - [`alignment`]: which channels wait for a barrier
//! - [`valve`]: the watermark over all channels

pub mod alignment;
pub mod valve;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use crate::element::{Barrier, Element};
use crate::ids::{ChannelIndex, CheckpointId};
use crate::time::Timestamp;
use alignment::{Alignment, Arrival};
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

/// The machine. Elements wait in it until the chain is ready for them; credit bounds how many.
pub struct Subtask<P> {
    arrived: VecDeque<(ChannelIndex, Element<P>)>,
    /// Held back per channel while it is aligned.
    parked: Vec<VecDeque<Element<P>>>,
    alignment: Alignment,
    valve: Valve,
    actions: VecDeque<Action<P>>,
    ended: Vec<bool>,
    queued_batches: usize,
}

impl<P> Subtask<P> {
    /// A subtask with this many input channels.
    #[must_use]
    pub fn new(channels: usize) -> Self {
        Self {
            arrived: VecDeque::new(),
            parked: (0..channels).map(|_| VecDeque::new()).collect(),
            alignment: Alignment::new(channels),
            valve: Valve::new(channels),
            actions: VecDeque::new(),
            ended: vec![false; channels],
            queued_batches: 0,
        }
    }

    /// Takes an element from a channel.
    pub fn receive(&mut self, channel: ChannelIndex, element: Element<P>) {
        if matches!(element, Element::Batch(_)) {
            self.queued_batches += 1;
        }
        self.arrived.push_back((channel, element));
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
                self.actions.push_back(Action::Snapshot(barrier));
                self.unpark();
            }
            Arrival::Subsumes(old, complete) => {
                self.actions.push_back(Action::Abandoned(old));
                if complete {
                    self.actions.push_back(Action::Snapshot(barrier));
                }
                self.unpark();
            }
            Arrival::Late => {}
        }
    }

    /// Gives back what channels that are no longer blocked had to hold, before everything that came later.
    fn unpark(&mut self) {
        for channel in (0..self.parked.len()).rev() {
            let index = ChannelIndex(u32::try_from(channel).expect("channels are counted in u32"));
            if !self.alignment.is_blocked(index) {
                while let Some(element) = self.parked[channel].pop_back() {
                    self.arrived.push_front((index, element));
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
