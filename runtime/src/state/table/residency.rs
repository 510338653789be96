//! Which entries of a table are in memory, and which only the local store has: brought in by a restore and by misses, evicted
//! when memory is short. An entry is evicted only when the store serves its newest version; a tombstone is remembered as
//! long as the store may say otherwise.

use hashbrown::hash_table::Entry as Slot;

use super::{EPOCH, Entry, Group, KeyContext, StateTable, StateValue, USED, table_hash};
use crate::key::Key;
use crate::key_group::KeyGroup;
use crate::ports::PortError;
use crate::ports::state::{EntryAddress, StateNumber, Wanted};
use crate::state::clock;
use crate::state::encoding::{decode_key, decode_value, push_entry};
use crate::state::tombstones::Tombstones;

impl<N: Key, K: Key, V: StateValue> StateTable<N, K, V> {
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

    /// Adds the address of an entry that only the local store can tell about. One that is in memory counts as used.
    pub fn missing(&mut self, state: StateNumber, at: &KeyContext<K>, namespace: &N, wanted: &mut Wanted) {
        let slot = self.slot(at.group);
        let group = &mut self.groups[slot];
        if group.resident {
            return;
        }
        let hash = table_hash(at.hash, namespace);
        let found = group.table.find_mut(hash, |entry| entry.key == at.key && entry.namespace == *namespace);
        if let Some(entry) = found {
            entry.changed |= USED;
        } else if !group.hidden.contains(hash, namespace, &at.key) {
            wanted.entries.push(EntryAddress { state, group: at.group, key: encoded(namespace, &at.key) });
        }
    }

    /// Puts a stored entry into memory unless a newer version or a tombstone is there.
    ///
    /// # Errors
    /// When the bytes are not of this table's types.
    pub fn load(&mut self, group: KeyGroup, key_bytes: &[u8], value_bytes: &[u8]) -> Result<(), PortError> {
        let (namespace, key): (N, K) = decode_key(key_bytes)?;
        let slot = self.slot(group);
        let cell = &mut self.groups[slot];
        let hash = table_hash(key.key_hash(), &namespace);
        if cell.hidden.contains(hash, &namespace, &key) {
            return Ok(());
        }
        let found = cell.table.entry(
            hash,
            |entry| entry.key == key && entry.namespace == namespace,
            |entry| table_hash(entry.key.key_hash(), &entry.namespace),
        );
        if let Slot::Vacant(vacant) = found {
            let value = decode_value(value_bytes)?;
            vacant.insert(Entry { namespace, key, changed: USED, value });
        }
        Ok(())
    }

    /// Declares that every entry of the group is in memory now.
    pub fn finish_restore(&mut self, group: KeyGroup) {
        let slot = self.slot(group);
        let group = &mut self.groups[slot];
        group.resident = true;
        group.remembers_from = None;
        group.hidden = Tombstones::default();
    }

    /// From here on deletions are remembered until the local store has them: memory is getting short.
    pub fn remember(&mut self) {
        let epoch = self.epoch;
        for group in self.groups.iter_mut().filter(|group| group.remembers_from.is_none()) {
            let frozen = group.frozen.as_ref().map(|frozen| &frozen.deleted);
            group.remembers_from = Some(if frozen.is_some() { epoch - 1 } else { epoch });
            for (namespace, key, changed) in frozen.into_iter().chain([&group.deleted]).flat_map(Tombstones::iter) {
                group.hidden.insert(table_hash(key.key_hash(), namespace), namespace, key, *changed);
            }
        }
    }

    /// The local store has everything up to the end of this epoch: its tombstones need not be remembered.
    pub fn forget(&mut self, durable: u32) {
        self.groups.iter_mut().for_each(|group| group.hidden.forget(durable));
    }

    /// Evicts entries of a group that have not been used for a while and that the local store has, which is everything up
    /// to the end of an epoch; enough for the table of the group to become half as large, or none. Answers how many bytes
    /// are free now. Nothing may be on its way from the store meanwhile.
    pub fn evict(&mut self, group: KeyGroup, durable: u32) -> usize {
        let (slot, heap) = (self.slot(group), self.heap);
        let group = &mut self.groups[slot];
        if group.remembers_from.is_none_or(|from| from > durable + 1) {
            return 0;
        }
        let (before, buckets) = (group.table.allocation_size(), group.table.num_buckets());
        let target = clock::filling_half(buckets);
        let mut surplus = group.table.len().saturating_sub(target);
        if heap.owns() {
            // What entries own is free whether or not the table gets smaller.
            surplus = surplus.max(group.table.len().div_ceil(4));
        }
        let candidates = group.candidates(durable);
        if candidates < surplus {
            group.spare_no_more();
        }
        if candidates < surplus && !heap.owns() {
            return 0;
        }
        let evicted = group.evict_some(durable, surplus.min(candidates));
        if group.table.len() <= target {
            group.table.shrink_to(target, |entry| table_hash(entry.key.key_hash(), &entry.namespace));
        }
        before.saturating_sub(group.table.allocation_size()) + heap.bytes(evicted)
    }

    /// About how many bytes the table takes.
    pub fn memory(&mut self) -> usize {
        if self.heap.owns() {
            let sampled = self.epoch as usize + self.asked as usize;
            let fullest = self.groups.iter().max_by_key(|group| group.table.len());
            let any = self.groups.get(sampled % self.groups.len().max(1)).filter(|group| !group.table.is_empty());
            if let Some(group) = any.or(fullest) {
                self.heap.sample(group.table.iter(), |encoded, entry| {
                    drop(push_entry(encoded, (&entry.namespace, &entry.key), Some(&entry.value)));
                });
            }
        }
        self.groups.iter().map(|group| group.memory() + self.heap.bytes(group.table.len())).sum()
    }
}

impl<N: Key, K: Key, V: StateValue> Group<N, K, V> {
    /// Counts what may be evicted and has not been used since it was last spared.
    fn candidates(&self, durable: u32) -> usize {
        let idle = |entry: &&Entry<N, K, V>| entry.changed & USED == 0 && entry.changed & EPOCH <= durable;
        self.table.iter().filter(idle).count()
    }

    /// Entries have to be used again to be spared.
    fn spare_no_more(&mut self) {
        self.table.iter_mut().for_each(|entry| entry.changed &= !USED);
    }

    /// Evicts so many entries, going on where it stopped the last time; used ones are spared once.
    fn evict_some(&mut self, durable: u32, count: usize) -> usize {
        let evicted = clock::evict(&mut self.table, &mut self.hand, count, |entry| {
            if entry.changed & EPOCH > durable {
                return false;
            }
            let used = entry.changed & USED != 0;
            entry.changed &= !USED;
            !used
        });
        self.resident &= evicted == 0;
        evicted
    }
}

impl<N: Key, K: Key, V> Group<N, K, V> {
    fn memory(&self) -> usize {
        let frozen = |frozen: &super::Frozen<N, K>| frozen.deleted.allocation_size() + frozen.saved.as_bytes().len();
        self.table.allocation_size()
            + self.deleted.allocation_size()
            + self.hidden.allocation_size()
            + self.frozen.as_deref().map_or(0, frozen)
    }
}

fn encoded<N: Key, K: Key>(namespace: &N, key: &K) -> Vec<u8> {
    let mut out = Vec::with_capacity(24);
    namespace.encode_key(&mut out);
    key.encode_key(&mut out);
    out
}
