//! Which keys of a map table are in memory, each with its whole map, and which only the local store has. As with
//! [`table`](crate::state::table), a key is evicted only when the store serves the newest version of all its entries.

use std::collections::btree_map::Entry as Place;

use super::{Cell, EPOCH, Group, KeyContext, KeyMap, MapTable, StateValue, table_hash};
use crate::key::Key;
use crate::key_group::KeyGroup;
use crate::ports::PortError;
use crate::ports::state::{EntryAddress, StateNumber, Wanted};
use crate::state::clock;
use crate::state::encoding::{decode_key, decode_value, push_entry};

impl<K: Key, M: Key, V: StateValue> MapTable<K, M, V> {
    /// Declares that the local store knows entries of every group that are not in memory.
    pub fn begin_restore(&mut self) {
        for group in &mut self.groups {
            group.resident = false;
            group.remembers_from = Some(0);
        }
    }

    /// Whether a miss in this group may be in the local store.
    #[must_use]
    pub fn is_resident(&self, group: KeyGroup) -> bool {
        self.groups[self.slot(group)].resident
    }

    /// Adds the prefix of a key's entries if only the local store can tell about them. A key in memory counts as used.
    pub fn missing(&mut self, state: StateNumber, at: &KeyContext<K>, wanted: &mut Wanted) {
        let slot = self.slot(at.group);
        let group = &mut self.groups[slot];
        if group.resident {
            return;
        }
        if let Some(map) = group.table.find_mut(table_hash(at.hash, &()), |map| map.key == at.key) {
            map.used = true;
            return;
        }
        let mut key = Vec::with_capacity(24);
        at.key.encode_key(&mut key);
        wanted.prefixes.push(EntryAddress { state, group: at.group, key });
    }

    /// Puts a stored entry into memory unless a newer version or a tombstone is there.
    ///
    /// # Errors
    /// When the bytes are not of this table's types.
    pub fn load(&mut self, group: KeyGroup, key_bytes: &[u8], value_bytes: &[u8]) -> Result<(), PortError> {
        let (key, map_key): (K, M) = decode_key(key_bytes)?;
        let slot = self.slot(group);
        let (map, tracking) = self.groups[slot].find_or_make(&key, table_hash(key.key_hash(), &()));
        if let Place::Vacant(vacant) = map.cells.entry(map_key) {
            vacant.insert(Cell { changed: 0, value: Some(decode_value(value_bytes)?) });
            map.live += 1;
            tracking.cells += 1;
        }
        Ok(())
    }

    /// Declares that every entry of the group is in memory now.
    pub fn finish_restore(&mut self, group: KeyGroup) {
        let slot = self.slot(group);
        let group = &mut self.groups[slot];
        group.resident = true;
        group.remembers_from = None;
        // Tombstones that a cut has already are no longer needed to hide what the store says.
        let tracking = &group.tracking;
        let newest = tracking.epoch - if tracking.frozen.is_some() { 2 } else { 1 };
        group.forget(newest);
    }

    /// From here on tombstones stay until the local store has them: memory is getting short.
    pub fn remember(&mut self) {
        for group in self.groups.iter_mut().filter(|group| group.remembers_from.is_none()) {
            let tracking = &group.tracking;
            group.remembers_from = Some(tracking.epoch - u32::from(tracking.frozen.is_some()));
        }
    }

    /// The local store has everything up to the end of this epoch: its tombstones need not stay.
    pub fn forget(&mut self, durable: u32) {
        self.groups.iter_mut().for_each(|group| group.forget(durable));
    }

    /// Evicts keys of a group that have not been used for a while and that the local store has, which is everything up to the
    /// end of an epoch. Answers about how many bytes are free now. Nothing may be on its way from the store meanwhile.
    pub fn evict(&mut self, group: KeyGroup, durable: u32) -> usize {
        let slot = self.slot(group);
        let before = self.memory_of(&self.groups[slot]);
        let group = &mut self.groups[slot];
        if group.remembers_from.is_none_or(|from| from > durable + 1) {
            return 0;
        }
        let target = clock::filling_half(group.table.num_buckets());
        let surplus = group.table.len().saturating_sub(target).max(group.table.len().div_ceil(4));
        let evicted = group.evict_some(durable, surplus);
        if evicted < surplus {
            group.table.iter_mut().for_each(|map| map.used = false);
        }
        if group.table.len() <= target {
            group.table.shrink_to(target, |map| table_hash(map.key.key_hash(), &()));
        }
        before.saturating_sub(self.memory_of(&self.groups[slot]))
    }

    /// About how many bytes the table takes.
    pub fn memory(&mut self) -> usize {
        if self.heap.owns()
            && let Some(group) = self.groups.iter().max_by_key(|group| group.tracking.cells)
        {
            let cells =
                group.table.iter().flat_map(|map| map.iter().map(|(map_key, value)| (&map.key, map_key, value)));
            self.heap.sample(cells, |encoded, (key, map_key, value)| {
                drop(push_entry(encoded, (key, map_key), Some(value)));
            });
        }
        self.groups.iter().map(|group| self.memory_of(group)).sum()
    }

    fn memory_of(&self, group: &Group<K, M, V>) -> usize {
        // Nodes of a B-tree are two thirds full, and a small one has room for eleven.
        let node = size_of::<(M, Cell<V>)>() * 3 / 2;
        let smallest = size_of::<(M, Cell<V>)>() * 11 + 16;
        let cells = (group.tracking.cells * node).max(group.table.len() * smallest);
        let frozen = group.tracking.frozen.as_ref().map_or(0, |saved| saved.as_bytes().len());
        group.table.allocation_size() + cells + self.heap.bytes(group.tracking.cells) + frozen
    }
}

impl<K: Key, M: Key, V: StateValue> Group<K, M, V> {
    /// Removes tombstones that are not newer.
    fn forget(&mut self, until: u32) {
        if self.tracking.cells == 0 && self.table.is_empty() {
            return;
        }
        let Self { table, tracking, .. } = self;
        table.retain(|KeyMap { live, cells, .. }| {
            if cells.len() > *live {
                let before = cells.len();
                cells.retain(|_, cell| cell.value.is_some() || cell.changed & EPOCH > until);
                tracking.cells -= before - cells.len();
            }
            !cells.is_empty()
        });
    }

    /// Evicts so many keys, going on where it stopped the last time; used ones are spared once.
    fn evict_some(&mut self, durable: u32, count: usize) -> usize {
        let cells = &mut self.tracking.cells;
        let evicted = clock::evict(&mut self.table, &mut self.hand, count, |map| {
            if map.changed > durable || std::mem::take(&mut map.used) {
                return false;
            }
            *cells -= map.cells.len();
            true
        });
        self.resident &= evicted == 0;
        evicted
    }
}
