//! Timers are state: ordered by time for firing, and kept in a table like any other state for cuts.
//! One timer per (time, key): registering twice is registering once.

use std::collections::BTreeSet;
use std::ops::Range;

use super::cut::KeyedSection;
use super::encoding::decode_key;
use super::keyed::StateBacking;
use super::keyed::backing::Table;
use super::table::{KeyContext, StateTable};
use crate::key::Key;
use crate::key_group::KeyGroup;
use crate::ports::PortError;
use crate::ports::state::{StateNumber, Wanted};
use crate::time::Timestamp;

/// The timers of one operator for one notion of time.
pub struct Timers<K> {
    name: &'static str,
    max_parallelism: u16,
    queue: BTreeSet<(Timestamp, K)>,
    table: StateTable<i64, K, ()>,
}

impl<K: Key> Timers<K> {
    /// No timers, for the key groups of one subtask.
    #[must_use]
    pub fn new(name: &'static str, max_parallelism: u16, groups: Range<u16>) -> Self {
        Self { name, max_parallelism, queue: BTreeSet::new(), table: StateTable::new(groups) }
    }

    /// Registers a timer; true when it is new.
    pub fn register(&mut self, at: &KeyContext<K>, time: Timestamp) -> bool {
        let new = self.queue.insert((time, at.key.clone()));
        if new {
            self.table.get_or_insert_with(at, &time, || ());
        }
        new
    }

    /// Deletes a timer; it will not fire.
    pub fn delete(&mut self, at: &KeyContext<K>, time: Timestamp) {
        if self.queue.remove(&(time, at.key.clone())) {
            self.table.remove(at, &time);
        }
    }

    /// The earliest timer.
    #[must_use]
    pub fn earliest(&self) -> Option<Timestamp> {
        self.queue.first().map(|(time, _)| *time)
    }

    /// Takes the earliest timer at or before `until`: it has fired.
    pub fn pop_due(&mut self, until: Timestamp) -> Option<(Timestamp, KeyContext<K>)> {
        if self.earliest()? > until {
            return None;
        }
        let (time, key) = self.queue.pop_first()?;
        let at = KeyContext::new(key, self.max_parallelism);
        self.table.remove(&at, &time);
        Some((time, at))
    }

    /// The earliest timers at or before `until`, at most `limit`, without taking them.
    pub fn due(&self, until: Timestamp, limit: usize) -> impl Iterator<Item = (Timestamp, KeyContext<K>)> {
        self.queue
            .iter()
            .take(limit)
            .take_while(move |(time, _)| *time <= until)
            .map(|(time, key)| (*time, KeyContext::new(key.clone(), self.max_parallelism)))
    }

    /// Number of timers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether there is no timer.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

impl<K: Key> StateBacking<K> for Timers<K> {
    fn name(&self) -> &str {
        self.name
    }

    fn version(&self) -> u32 {
        1
    }

    fn attach(&mut self, groups: Range<u16>) {
        self.table = StateTable::new(groups);
        self.queue.clear();
    }

    fn entries(&mut self) -> &mut dyn Table<K> {
        self
    }
}

impl<K: Key> Table<K> for Timers<K> {
    fn begin_restore(&mut self) {
        self.table.begin_restore();
    }

    fn load(&mut self, group: KeyGroup, key: &[u8], value: &[u8]) -> Result<(), PortError> {
        self.table.load(group, key, value)?;
        self.queue.insert(decode_key(key)?);
        Ok(())
    }

    fn finish_restore(&mut self, group: KeyGroup) {
        self.table.finish_restore(group);
    }

    fn missing(&mut self, _number: StateNumber, _at: &KeyContext<K>, _wanted: &mut Wanted) {
        // Timers are loaded before the first row is processed.
    }

    fn is_resident(&self, group: KeyGroup) -> bool {
        self.table.is_resident(group)
    }

    fn remember(&mut self) {}

    fn forget(&mut self, durable: u32) {
        self.table.forget(durable);
    }

    fn evict(&mut self, _group: KeyGroup, _durable: u32) -> usize {
        // What fires next is found in memory; timers are small.
        0
    }

    fn memory(&mut self) -> usize {
        // Nodes of a B-tree are two thirds full.
        self.table.memory() + self.queue.len() * size_of::<(Timestamp, K)>() * 3 / 2
    }

    fn freeze(&mut self) {
        self.table.freeze();
    }

    fn encode_group(&mut self, number: StateNumber, group: KeyGroup) -> Result<Option<KeyedSection>, PortError> {
        self.table.encode_group(number, group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(key: u64) -> KeyContext<u64> {
        KeyContext::new(key, 8)
    }

    #[test]
    fn timers_fire_in_time_order_once_and_duplicates_coalesce() {
        let mut timers = Timers::new("t", 8, 0..8);
        for (key, time) in [(1, 30), (2, 10), (1, 10), (2, 10), (3, 20)] {
            timers.register(&at(key), time);
        }
        timers.delete(&at(3), 20);
        let mut fired = Vec::new();
        while let Some((time, context)) = timers.pop_due(25) {
            fired.push((time, context.key));
        }
        assert_eq!(fired, [(10, 1), (10, 2)]);
        assert_eq!(timers.earliest(), Some(30));
    }
}
