//! The watermark of an operator: the minimum over its channels, idle ones left out; ended ones are at the end of time.
//! When all are idle, what the last of them had reached is not held back any longer (the maximum of the idle ones).

use crate::ids::ChannelIndex;
use crate::time::{MAX_TIMESTAMP, MIN_TIMESTAMP, Timestamp};

/// What to pass on after a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ValveOutput {
    /// The new watermark, if it advanced.
    pub watermark: Option<Timestamp>,
    /// Whether all channels are idle, if that changed.
    pub idle: Option<bool>,
}

#[derive(Clone, Copy, Debug)]
struct Channel {
    watermark: Timestamp,
    idle: bool,
}

/// Watermarks of all channels of a subtask.
#[derive(Clone, Debug)]
pub struct Valve {
    channels: Vec<Channel>,
    emitted: Timestamp,
    idle: bool,
}

impl Valve {
    /// Every channel active and at the beginning of time.
    #[must_use]
    pub fn new(channels: usize) -> Self {
        Self {
            channels: vec![Channel { watermark: MIN_TIMESTAMP, idle: false }; channels],
            emitted: MIN_TIMESTAMP,
            idle: false,
        }
    }

    /// A channel's watermark has advanced.
    pub fn watermark(&mut self, channel: ChannelIndex, watermark: Timestamp) -> ValveOutput {
        let cell = &mut self.channels[channel.0 as usize];
        cell.watermark = cell.watermark.max(watermark);
        self.output()
    }

    /// A channel has become idle or active.
    pub fn idle(&mut self, channel: ChannelIndex, idle: bool) -> ValveOutput {
        self.channels[channel.0 as usize].idle = idle;
        self.output()
    }

    /// A channel has ended.
    pub fn end(&mut self, channel: ChannelIndex) -> ValveOutput {
        self.channels[channel.0 as usize] = Channel { watermark: MAX_TIMESTAMP, idle: false };
        self.output()
    }

    fn output(&mut self) -> ValveOutput {
        let mut output = ValveOutput::default();
        // An ended channel neither holds back the others nor counts as active while some are only idle.
        let active = |channel: &&Channel| !channel.idle && channel.watermark < MAX_TIMESTAMP;
        let some_idle = self.channels.iter().any(|channel| channel.idle && channel.watermark < MAX_TIMESTAMP);
        let all_idle = some_idle && !self.channels.iter().any(|channel| active(&channel));
        let watermark = if all_idle {
            self.channels.iter().filter(|channel| channel.idle).map(|channel| channel.watermark).max()
        } else {
            Some(self.channels.iter().filter(active).map(|channel| channel.watermark).min().unwrap_or(MAX_TIMESTAMP))
        };
        if let Some(watermark) = watermark
            && watermark > self.emitted
        {
            self.emitted = watermark;
            output.watermark = Some(watermark);
        }
        if all_idle != self.idle {
            self.idle = all_idle;
            output.idle = Some(all_idle);
        }
        output
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watermark(valve: &mut Valve, channel: u32, value: Timestamp) -> Option<Timestamp> {
        valve.watermark(ChannelIndex(channel), value).watermark
    }

    #[test]
    fn the_minimum_over_active_channels_advances_and_never_goes_back() {
        let mut valve = Valve::new(2);
        assert_eq!(watermark(&mut valve, 0, 10), None);
        assert_eq!(watermark(&mut valve, 1, 5), Some(5));
        assert_eq!(watermark(&mut valve, 1, 20), Some(10));
        assert_eq!(valve.idle(ChannelIndex(0), true).watermark, Some(20));
        assert_eq!(valve.idle(ChannelIndex(0), false), ValveOutput::default());
        assert_eq!(watermark(&mut valve, 0, 15), None, "behind what was promised");
        assert_eq!(watermark(&mut valve, 0, 30), None, "channel 1 still at 20");
    }

    #[test]
    fn when_all_are_idle_the_greatest_counts_and_idleness_is_passed_on() {
        let mut valve = Valve::new(2);
        watermark(&mut valve, 0, 10);
        watermark(&mut valve, 1, 30);
        assert_eq!(valve.idle(ChannelIndex(1), true), ValveOutput::default());
        let output = valve.idle(ChannelIndex(0), true);
        assert_eq!(output, ValveOutput { watermark: Some(30), idle: Some(true) });
        assert_eq!(valve.idle(ChannelIndex(0), false).idle, Some(false));
    }

    #[test]
    fn ended_channels_are_at_the_end_of_time() {
        let mut valve = Valve::new(2);
        watermark(&mut valve, 0, 10);
        assert_eq!(valve.end(ChannelIndex(1)).watermark, Some(10));
        assert_eq!(valve.end(ChannelIndex(0)).watermark, Some(MAX_TIMESTAMP));
    }
}
