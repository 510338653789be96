//! The working set of one keyed state: typed hash tables, one per key group, that know what changed since the last cut.
//!
//! A barrier *freezes* the table in constant time per key group. Frozen entries are encoded later, one group at a time
//! between batches; a write that comes first saves the frozen value (copy-on-write). Nothing is serialised per record.

use std::cell::Cell;
use std::ops::Range;

use hashbrown::HashTable;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::cut::{Entries, KeyedSection};
use super::encoding::push_entry;
use super::heap::HeapEstimate;
use super::tombstones::Tombstones;
use crate::key::{Key, KeyHash};
use crate::key_group::KeyGroup;
use crate::ports::PortError;
use crate::ports::state::StateNumber;

mod residency;

/// A value that can be state.
pub trait StateValue: Serialize + DeserializeOwned + Send + 'static {}
impl<V: Serialize + DeserializeOwned + Send + 'static> StateValue for V {}

/// The key that a function works on, with what is derived from it.
#[derive(Clone, Debug)]
pub struct KeyContext<K> {
    /// The key.
    pub key: K,
    /// Its canonical hash.
    pub hash: KeyHash,
    /// Its key group.
    pub group: KeyGroup,
    /// Its place among the keys that were looked up ahead, or [`NOT_AHEAD`].
    place: u32,
}

impl<K: Key> KeyContext<K> {
    /// The context of a key.
    #[inline]
    pub fn new(key: K, max_parallelism: u16) -> Self {
        Self::ahead(key, max_parallelism, NOT_AHEAD)
    }

    /// The context of the key at `place` of those that are looked up ahead together.
    #[inline]
    pub fn ahead(key: K, max_parallelism: u16, place: u32) -> Self {
        let hash = key.key_hash();
        Self { key, hash, group: KeyGroup::of(hash, max_parallelism), place }
    }
}

/// The place of a key that was not looked up ahead: beyond all hints.
const NOT_AHEAD: u32 = u32::MAX;

/// Tables with fewer entries are in the caches of the processor anyway.
const PREFETCH_ABOVE: usize = 32_768;

/// Set while no cut contains the entry: deleting it needs no tombstone.
pub(super) const FRESH: u32 = 1 << 31;
/// Set when the entry was asked for since eviction came by; only while a table is not resident.
const USED: u32 = 1 << 30;
/// The epoch of the last change.
pub(super) const EPOCH: u32 = USED - 1;

struct Entry<N, K, V> {
    namespace: N,
    key: K,
    /// The epoch of the last change, [`FRESH`] and [`USED`].
    changed: u32,
    value: V,
}

struct Group<N, K, V> {
    table: HashTable<Entry<N, K, V>>,
    /// Tombstones of this epoch.
    deleted: Tombstones<N, K>,
    /// Tombstones whose entries the local store may still serve, while that matters.
    hidden: Tombstones<N, K>,
    /// Every entry of the group is in the table: a miss is an answer.
    resident: bool,
    /// All deletions since this epoch are in `hidden`. Only then may a group cease to be resident.
    remembers_from: Option<u32>,
    changed: bool,
    frozen: Option<Box<Frozen<N, K>>>,
    /// Encoded bytes of the last cut: the next is probably about as large.
    last_cut_bytes: usize,
    /// The bucket at which eviction goes on.
    hand: usize,
}

impl<N: Key, K: Key, V: StateValue> Group<N, K, V> {
    /// Adds an entry that is not in the table, and answers its place. Rare next to look-ups: kept out of their way.
    #[cold]
    #[inline(never)]
    fn insert(&mut self, hash: u64, at: &KeyContext<K>, namespace: &N, epoch: u32, value: V) -> usize {
        let mut fresh = if self.resident { FRESH } else { 0 };
        if self.hidden.remove(hash, namespace, &at.key) | self.deleted.remove(hash, namespace, &at.key)
            || self.frozen.as_ref().is_some_and(|frozen| frozen.deleted.contains(hash, namespace, &at.key))
        {
            fresh = 0;
        }
        self.changed = true;
        let entry = Entry { namespace: namespace.clone(), key: at.key.clone(), changed: epoch | fresh, value };
        let rehash = |entry: &Entry<N, K, V>| table_hash(entry.key.key_hash(), &entry.namespace);
        self.table.insert_unique(hash, entry, rehash).bucket_index()
    }
}

impl<N: Key, K: Key, V> Group<N, K, V> {
    /// Puts a tombstone in the place of an entry that some cut may have.
    fn bury(&mut self, hash: u64, namespace: &N, key: &K, epoch: u32) {
        if self.remembers_from.is_some() {
            self.hidden.insert(hash, namespace, key, epoch);
        }
        self.deleted.insert(hash, namespace, key, epoch);
    }
}

/// What the freeze of a group set aside until it is encoded.
struct Frozen<N, K> {
    deleted: Tombstones<N, K>,
    /// Values overwritten since the freeze.
    saved: Entries,
}

/// Typed entries (namespace, key) -> value of the key groups of one subtask.
pub struct StateTable<N, K, V> {
    first_group: u16,
    groups: Vec<Group<N, K, V>>,
    /// Changes are stamped with this; a freeze begins the next.
    epoch: u32,
    /// Where the keys that were looked up ahead probably are, by their place. Never trusted: a look-up compares.
    hints: Vec<u32>,
    /// Keys that the last look ahead was asked for.
    asked: u32,
    /// Look-ups since then.
    lookups: Cell<u32>,
    /// What an entry has on the heap.
    heap: HeapEstimate,
}

impl<N: Key, K: Key, V: StateValue> StateTable<N, K, V> {
    /// An empty, fully resident table for a range of key groups.
    #[must_use]
    pub fn new(groups: Range<u16>) -> Self {
        let group = || Group {
            table: HashTable::new(),
            deleted: Tombstones::default(),
            hidden: Tombstones::default(),
            resident: true,
            remembers_from: None,
            changed: false,
            frozen: None,
            last_cut_bytes: 0,
            hand: 0,
        };
        Self {
            first_group: groups.start,
            groups: groups.map(|_| group()).collect(),
            epoch: 1,
            hints: Vec::new(),
            asked: 0,
            lookups: Cell::new(0),
            heap: HeapEstimate::of::<(N, K, V)>(),
        }
    }

    /// Number of entries in memory.
    #[must_use]
    pub fn len(&self) -> usize {
        self.groups.iter().map(|group| group.table.len()).sum()
    }

    /// Whether no entry is in memory.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    fn slot(&self, group: KeyGroup) -> usize {
        usize::from(group.0 - self.first_group)
    }

    /// The place of an entry in the table of its group: as the look ahead saw it, or found anew.
    #[inline]
    fn find(&self, group: &Group<N, K, V>, hash: u64, at: &KeyContext<K>, namespace: &N) -> Option<usize> {
        self.lookups.set(self.lookups.get().wrapping_add(1));
        if let Some(hint) = self.hints.get(at.place as usize)
            && let Some(entry) = group.table.get_bucket(*hint as usize)
            && entry.key == at.key
            && entry.namespace == *namespace
        {
            return Some(*hint as usize);
        }
        group.table.find_bucket_index(hash, |entry| entry.key == at.key && entry.namespace == *namespace)
    }

    /// The value.
    #[inline]
    #[must_use]
    pub fn get(&self, at: &KeyContext<K>, namespace: &N) -> Option<&V> {
        let group = &self.groups[self.slot(at.group)];
        let index = self.find(group, table_hash(at.hash, namespace), at, namespace)?;
        group.table.get_bucket(index).map(|entry| &entry.value)
    }

    /// Looks up keys that will be worked on next, and has the memory of their entries brought near. These look-ups do not
    /// depend on each other, so the processor waits for memory once for many of them; one by one, each key would wait
    /// alone. What is seen is kept as hints, so that nothing is looked up twice.
    pub fn look_ahead(&mut self, keys: &[KeyContext<K>], namespace: &N) {
        // A state that most keys do not touch is not worth it: those before tell.
        let wanted = u64::from(self.lookups.replace(0)) * 2 >= u64::from(self.asked);
        self.asked = u32::try_from(keys.len()).unwrap_or(u32::MAX);
        self.hints.clear();
        let Some(first) = keys.first().filter(|_| wanted) else { return };
        let about = self.groups[self.slot(first.group)].table.len() * self.groups.len();
        let prefetched = about >= PREFETCH_ABOVE;
        let Self { groups, hints, first_group, .. } = self;
        hints.extend(keys.iter().map(|at| {
            let table = &groups[usize::from(at.group.0 - *first_group)].table;
            // The first entry with the tag of the key: the right one but for one in a hundred.
            let index = table.iter_hash_buckets(table_hash(at.hash, namespace)).next().unwrap_or(usize::MAX);
            if prefetched && let Some(entry) = table.get_bucket(index) {
                prefetch(entry);
            }
            u32::try_from(index).unwrap_or(u32::MAX)
        }));
    }

    /// The value for writing: the entry counts as changed. `None` when there is none.
    #[inline]
    pub fn get_mut(&mut self, at: &KeyContext<K>, namespace: &N) -> Option<&mut V> {
        let epoch = self.epoch;
        let slot = self.slot(at.group);
        let index = self.find(&self.groups[slot], table_hash(at.hash, namespace), at, namespace)?;
        let Group { table, frozen, changed, .. } = &mut self.groups[slot];
        let entry = table.get_bucket_mut(index)?;
        touch(entry, epoch, frozen, changed);
        Some(&mut entry.value)
    }

    /// The value for writing, made by `default` when there is none.
    #[inline]
    pub fn get_or_insert_with(&mut self, at: &KeyContext<K>, namespace: &N, default: impl FnOnce() -> V) -> &mut V {
        let epoch = self.epoch;
        let slot = self.slot(at.group);
        let hash = table_hash(at.hash, namespace);
        let found = self.find(&self.groups[slot], hash, at, namespace);
        let group = &mut self.groups[slot];
        let index = found.unwrap_or_else(|| group.insert(hash, at, namespace, epoch, default()));
        let Group { table, frozen, changed, .. } = group;
        let entry = table.get_bucket_mut(index).expect("found or inserted just now");
        touch(entry, epoch, frozen, changed);
        &mut entry.value
    }

    /// Removes the entry and returns its value.
    pub fn remove(&mut self, at: &KeyContext<K>, namespace: &N) -> Option<V> {
        let slot = self.slot(at.group);
        let group = &mut self.groups[slot];
        let hash = table_hash(at.hash, namespace);
        let found = group.table.find_entry(hash, |entry| entry.key == at.key && entry.namespace == *namespace);
        let Ok(occupied) = found else { return None };
        let (mut entry, _) = occupied.remove();
        let was_fresh = entry.changed & FRESH != 0 && entry.changed & EPOCH == self.epoch;
        touch(&mut entry, self.epoch, &mut group.frozen, &mut group.changed);
        if !was_fresh {
            group.bury(hash, namespace, &at.key, self.epoch);
        }
        Some(entry.value)
    }

    /// Number of buckets in a group's table: the places that [`revise`](Self::revise) goes through.
    #[must_use]
    pub fn buckets(&self, group: KeyGroup) -> usize {
        self.groups[self.slot(group)].table.num_buckets()
    }

    /// Goes through some buckets of a group. A value that `wanted` picks is changed by `change`, and its entry removed when
    /// that answers false.
    pub fn revise(
        &mut self,
        group: KeyGroup,
        buckets: Range<usize>,
        wanted: impl Fn(&V) -> bool,
        mut change: impl FnMut(&mut V) -> bool,
    ) {
        let (slot, epoch) = (self.slot(group), self.epoch);
        let group = &mut self.groups[slot];
        for index in buckets {
            let Some(entry) = group.table.get_bucket_mut(index).filter(|entry| wanted(&entry.value)) else { continue };
            let was_fresh = entry.changed & !USED == epoch | FRESH;
            touch(entry, epoch, &mut group.frozen, &mut group.changed);
            if change(&mut entry.value) {
                continue;
            }
            let Ok(occupied) = group.table.get_bucket_entry(index) else { continue };
            let (Entry { namespace, key, .. }, _) = occupied.remove();
            if !was_fresh {
                group.bury(table_hash(key.key_hash(), &namespace), &namespace, &key, epoch);
            }
        }
    }

    /// Calls `visit` with every entry in memory, in no particular order.
    pub fn for_each(&self, mut visit: impl FnMut(&N, &K, &V)) {
        for entry in self.groups.iter().flat_map(|group| group.table.iter()) {
            visit(&entry.namespace, &entry.key, &entry.value);
        }
    }

    /// Begins a cut: what has changed until now belongs to it. Constant time per key group.
    ///
    /// # Panics
    /// When an earlier cut is not encoded yet: the caller finishes it first.
    pub fn freeze(&mut self) {
        for group in &mut self.groups {
            assert!(group.frozen.is_none(), "a cut begins only after the one before is encoded");
            if group.changed {
                let deleted = std::mem::take(&mut group.deleted);
                group.frozen = Some(Box::new(Frozen { deleted, saved: Entries::default() }));
                group.changed = false;
            }
        }
        self.epoch += 1;
        assert!(self.epoch < EPOCH, "a thousand million cuts in one attempt");
    }

    /// Whether the group still has to be encoded.
    #[must_use]
    pub fn is_frozen(&self, group: KeyGroup) -> bool {
        self.groups[self.slot(group)].frozen.is_some()
    }

    /// Encodes what the last freeze set aside in one group; `None` when nothing changed there.
    ///
    /// # Errors
    /// When a value refuses to be serialised.
    pub fn encode_group(&mut self, state: StateNumber, group: KeyGroup) -> Result<Option<KeyedSection>, PortError> {
        let frozen_epoch = self.epoch - 1;
        let slot = self.slot(group);
        let cell = &mut self.groups[slot];
        let Some(frozen) = cell.frozen.take() else { return Ok(None) };
        let Frozen { deleted, saved: mut entries } = *frozen;
        entries.reserve_up_to(cell.last_cut_bytes);
        for entry in cell.table.iter_mut().filter(|entry| entry.changed & EPOCH == frozen_epoch) {
            push_entry(&mut entries, (&entry.namespace, &entry.key), Some(&entry.value))?;
            entry.changed = frozen_epoch;
        }
        for (namespace, key, _) in deleted.iter() {
            push_entry::<_, _, V>(&mut entries, (namespace, key), None)?;
        }
        cell.last_cut_bytes = entries.as_bytes().len();
        Ok((!entries.is_empty()).then_some(KeyedSection { state, group, entries }))
    }
}

/// Has the memory of a value brought into the caches, without waiting for it.
#[inline]
fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint to the processor; it reads nothing and the address is that of a reference.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(std::ptr::from_ref(value).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

/// Namespaces spread over the table as well as keys; the key alone decides the group.
///
/// The table indexes with the low bits and tags slots with the highest seven. The highest bits of a key's hash are its
/// group, the same for a whole table: unless they are turned away, every tag is equal and every probe compares keys.
#[inline]
pub(super) fn table_hash<N: Key>(key: KeyHash, namespace: &N) -> u64 {
    let key = key.0.rotate_left(40);
    if size_of::<N>() == 0 { key } else { key ^ namespace.key_hash().0.rotate_left(17) }
}

/// Stamps a change, saving the value first if a freeze still needs it.
#[inline]
fn touch<N: Key, K: Key, V: StateValue>(
    entry: &mut Entry<N, K, V>,
    epoch: u32,
    frozen: &mut Option<Box<Frozen<N, K>>>,
    changed: &mut bool,
) {
    if entry.changed & EPOCH != epoch {
        save_and_stamp(entry, epoch, frozen, changed);
    }
}

#[cold]
#[inline(never)]
fn save_and_stamp<N: Key, K: Key, V: StateValue>(
    entry: &mut Entry<N, K, V>,
    epoch: u32,
    frozen: &mut Option<Box<Frozen<N, K>>>,
    changed: &mut bool,
) {
    if let Some(frozen) = frozen
        && entry.changed & EPOCH == epoch - 1
    {
        push_entry(&mut frozen.saved, (&entry.namespace, &entry.key), Some(&entry.value))
            .expect("a value that was written once is written again");
    }
    entry.changed = epoch;
    *changed = true;
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
