//! Alignment: which channels have delivered the barrier of the checkpoint under way, and which wait because of it.
//!
//! Channels are first-in first-out and every barrier goes down every channel, also behind the end of its input. A newer
//! barrier that comes while an older one is incomplete means that the older checkpoint was aborted upstream.

use std::collections::{BTreeMap, BTreeSet};

use crate::element::{Barrier, CheckpointingMode};
use crate::ids::{ChannelIndex, CheckpointId};

/// What a barrier comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Other channels are still to deliver it.
    Wait,
    /// All channels have delivered it.
    Complete,
    /// It replaces an older one that cannot complete; and whether it is complete at once.
    Subsumes(CheckpointId, bool),
    /// Its checkpoint is over.
    Late,
}

/// Alignment of one subtask.
#[derive(Clone, Debug)]
pub struct Alignment {
    delivered: Vec<bool>,
    current: Option<Barrier>,
    /// Everything up to here is complete or aborted.
    over: Option<CheckpointId>,
    /// Aborted before all their barriers came; at most the checkpoints that run at once.
    aborted: BTreeSet<CheckpointId>,
    /// At least once: which channels have delivered which barrier.
    counting: BTreeMap<CheckpointId, Vec<bool>>,
}

impl Alignment {
    /// No checkpoint under way, over this many channels.
    #[must_use]
    pub fn new(channels: usize) -> Self {
        Self {
            delivered: vec![false; channels],
            current: None,
            over: None,
            aborted: BTreeSet::new(),
            counting: BTreeMap::new(),
        }
    }

    /// The checkpoint some of whose barriers have come, the oldest of several.
    #[must_use]
    pub fn under_way(&self) -> Option<CheckpointId> {
        let waited_for = self.current.map(|barrier| barrier.checkpoint);
        waited_for.or_else(|| self.counting.keys().next().copied())
    }

    /// Whether elements of this channel have to wait.
    #[must_use]
    pub fn is_blocked(&self, channel: ChannelIndex) -> bool {
        self.current.is_some_and(|barrier| barrier.mode == CheckpointingMode::ExactlyOnce)
            && self.delivered[channel.0 as usize]
    }

    /// Whether the checkpoint is complete here, or will never be.
    #[must_use]
    pub fn is_over(&self, checkpoint: CheckpointId) -> bool {
        self.over.is_some_and(|over| checkpoint <= over)
            || self.aborted.contains(&checkpoint)
            || self.current.is_some_and(|barrier| checkpoint < barrier.checkpoint)
    }

    /// Whether this channel has delivered the barrier of a checkpoint that is not over.
    #[must_use]
    pub fn has_delivered(&self, channel: ChannelIndex, checkpoint: CheckpointId) -> bool {
        self.current.is_some_and(|barrier| barrier.checkpoint == checkpoint) && self.delivered[channel.0 as usize]
    }

    /// The cut is taken without the barriers still missing. Answers the older checkpoint that it replaces.
    pub fn overtaken(&mut self, checkpoint: CheckpointId) -> Option<CheckpointId> {
        let replaced = self.current.map(|barrier| barrier.checkpoint).filter(|older| *older < checkpoint);
        self.finish(checkpoint);
        replaced
    }

    /// A barrier has come.
    pub fn arrived(&mut self, channel: ChannelIndex, barrier: Barrier) -> Arrival {
        if self.is_over(barrier.checkpoint) {
            return Arrival::Late;
        }
        if barrier.mode == CheckpointingMode::AtLeastOnce {
            return self.count(channel, barrier.checkpoint);
        }
        let replaced = match self.current {
            Some(current) if barrier.checkpoint > current.checkpoint => {
                self.finish(current.checkpoint);
                self.current = Some(barrier);
                Some(current.checkpoint)
            }
            Some(_) => None,
            None => {
                self.current = Some(barrier);
                None
            }
        };
        self.delivered[channel.0 as usize] = true;
        let complete = self.delivered.iter().all(|delivered| *delivered);
        if complete {
            self.finish(barrier.checkpoint);
        }
        match replaced {
            Some(old) => Arrival::Subsumes(old, complete),
            None if complete => Arrival::Complete,
            None => Arrival::Wait,
        }
    }

    /// Nothing waits, so barriers of several checkpoints may be under way: each is complete with its last barrier.
    fn count(&mut self, channel: ChannelIndex, checkpoint: CheckpointId) -> Arrival {
        let channels = self.delivered.len();
        let delivered = self.counting.entry(checkpoint).or_insert_with(|| vec![false; channels]);
        delivered[channel.0 as usize] = true;
        if !delivered.iter().all(|delivered| *delivered) {
            return Arrival::Wait;
        }
        let older = self.counting.keys().next().copied().filter(|older| *older < checkpoint);
        self.finish(checkpoint);
        older.map_or(Arrival::Complete, |older| Arrival::Subsumes(older, true))
    }

    /// The checkpoint was aborted; true when channels were waiting for it.
    pub fn abort(&mut self, checkpoint: CheckpointId) -> bool {
        match self.current {
            Some(current) if current.checkpoint == checkpoint => {
                self.finish(checkpoint);
                true
            }
            Some(_) | None => {
                self.counting.remove(&checkpoint);
                if self.over.is_none_or(|over| checkpoint > over) {
                    self.aborted.insert(checkpoint);
                }
                false
            }
        }
    }

    fn finish(&mut self, checkpoint: CheckpointId) {
        self.over = self.over.max(Some(checkpoint));
        self.aborted = self.aborted.split_off(&checkpoint);
        self.counting = self.counting.split_off(&checkpoint);
        self.counting.remove(&checkpoint);
        self.current = None;
        self.delivered.fill(false);
    }
}
