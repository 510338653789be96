//! Which channel a row takes: forward, hash by key group, rebalance, rescale, shuffle, broadcast, global, custom.

use crate::batch::Data;
use crate::key::Key;
use crate::key_group::{KeyGroup, RoutingTable};

/// Deals rows out to channels. Deterministic: the same rows in the same order take the same channels.
pub trait Scatter<T>: Send {
    /// The one channel that a whole batch of this many rows takes, if rows need not be looked at.
    fn whole_batch(&mut self, _rows: usize) -> Option<usize> {
        None
    }

    /// Calls `to(channel, row, index of the row)` for every row, once or (broadcast) more often.
    fn scatter(&mut self, values: Vec<T>, to: impl FnMut(usize, T, usize));
}

/// Every row to one channel: forward edges that are not chained, and `global`.
pub struct Single(pub usize);

impl<T: Data> Scatter<T> for Single {
    fn whole_batch(&mut self, _rows: usize) -> Option<usize> {
        Some(self.0)
    }

    fn scatter(&mut self, values: Vec<T>, mut to: impl FnMut(usize, T, usize)) {
        for (index, value) in values.into_iter().enumerate() {
            to(self.0, value, index);
        }
    }
}

/// By key group of a key.
pub struct ByKey<F> {
    selector: F,
    table: RoutingTable,
}

impl<F> ByKey<F> {
    /// Routes by the key that `selector` takes from a row.
    pub fn new(selector: F, table: RoutingTable) -> Self {
        Self { selector, table }
    }
}

impl<T: Data, K: Key, F: Fn(&T) -> K + Send> Scatter<T> for ByKey<F> {
    fn scatter(&mut self, values: Vec<T>, mut to: impl FnMut(usize, T, usize)) {
        let max_parallelism = self.table.max_parallelism();
        for (index, value) in values.into_iter().enumerate() {
            let group = KeyGroup::of((self.selector)(&value).key_hash(), max_parallelism);
            to(self.table.owner(group) as usize, value, index);
        }
    }
}

/// Round robin over a range of channels: `rebalance` over all, `rescale` over the local group.
pub struct RoundRobin {
    channels: std::ops::Range<usize>,
    turn: usize,
}

impl RoundRobin {
    /// Takes turns over `channels`, beginning at an offset so that senders do not all begin with the same one.
    #[must_use]
    pub fn new(channels: std::ops::Range<usize>, offset: usize) -> Self {
        assert!(!channels.is_empty());
        let turn = offset % channels.len();
        Self { channels, turn }
    }
}

impl<T: Data> Scatter<T> for RoundRobin {
    fn scatter(&mut self, values: Vec<T>, mut to: impl FnMut(usize, T, usize)) {
        for (index, value) in values.into_iter().enumerate() {
            to(self.channels.start + self.turn, value, index);
            self.turn = (self.turn + 1) % self.channels.len();
        }
    }
}

/// By chance, evenly over all channels: `shuffle`. The same seed makes the same choices.
pub struct Shuffle {
    channels: usize,
    random: u64,
}

impl Shuffle {
    /// Chooses among this many channels.
    #[must_use]
    pub fn new(channels: usize, seed: u64) -> Self {
        assert!(channels > 0);
        // The generator stands still at zero.
        Self { channels, random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 }
    }

    /// Xorshift, of which the high bits are taken: a channel for each equal part of their range.
    fn choose(&mut self) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        ((u128::from(self.random) * self.channels as u128) >> 64) as usize
    }
}

impl<T: Data> Scatter<T> for Shuffle {
    fn scatter(&mut self, values: Vec<T>, mut to: impl FnMut(usize, T, usize)) {
        for (index, value) in values.into_iter().enumerate() {
            to(self.choose(), value, index);
        }
    }
}

/// Every row to every channel.
pub struct Broadcast {
    channels: usize,
}

impl Broadcast {
    /// Copies to this many channels.
    #[must_use]
    pub fn new(channels: usize) -> Self {
        Self { channels }
    }
}

impl<T: Data> Scatter<T> for Broadcast {
    fn scatter(&mut self, values: Vec<T>, mut to: impl FnMut(usize, T, usize)) {
        for (index, value) in values.into_iter().enumerate() {
            for channel in 1..self.channels {
                to(channel, value.clone(), index);
            }
            to(0, value, index);
        }
    }
}

/// By a function of the user: `partition_custom`.
pub struct Custom<F> {
    choose: F,
    channels: usize,
}

impl<F> Custom<F> {
    /// Routes to `choose(row, channels) % channels`.
    pub fn new(choose: F, channels: usize) -> Self {
        Self { choose, channels }
    }
}

impl<T: Data, F: Fn(&T, usize) -> usize + Send> Scatter<T> for Custom<F> {
    fn scatter(&mut self, values: Vec<T>, mut to: impl FnMut(usize, T, usize)) {
        for (index, value) in values.into_iter().enumerate() {
            to((self.choose)(&value, self.channels) % self.channels, value, index);
        }
    }
}
