//! The working set of one map state: per key an ordered map whose entries are changed, tracked and encoded one by one.
//!
//! Cuts are those of [`table`](super::table): a freeze in constant time per key group, encoding later with copy-on-write. An
//! entry is stored under its key followed by its map key, so that the entries of a key lie side by side in segments and
//! can be fetched together. In memory a key is complete or absent: whoever works on a key has had all of it fetched.

use std::collections::BTreeMap;
use std::ops::{Range, RangeBounds};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Slot;

use super::cut::{Entries, KeyedSection};
use super::encoding::push_entry;
use super::heap::HeapEstimate;
use super::table::{EPOCH, FRESH, KeyContext, StateValue, table_hash};
use crate::key::Key;
use crate::key_group::KeyGroup;
use crate::ports::PortError;
use crate::ports::state::StateNumber;

mod residency;

/// A value, or the tombstone of one.
struct Cell<V> {
    /// The epoch of the last change, and [`FRESH`].
    changed: u32,
    /// A tombstone stays until it is encoded, and until the local store need not be asked any more.
    value: Option<V>,
}

/// The map of one key.
struct KeyMap<K, M, V> {
    key: K,
    /// The epoch of the last change of any cell.
    changed: u32,
    /// It was asked for since eviction came by; only while the group is not resident.
    used: bool,
    /// Cells that hold a value.
    live: usize,
    cells: BTreeMap<M, Cell<V>>,
}

struct Group<K, M, V> {
    table: HashTable<KeyMap<K, M, V>>,
    /// Every entry of the group is in the table.
    resident: bool,
    /// Tombstones stay since this epoch until the local store has them, also when a cut has. Only then may the group cease
    /// to be resident.
    remembers_from: Option<u32>,
    /// What tells changes apart from what a cut has.
    tracking: Tracking,
    /// The bucket at which eviction goes on.
    hand: usize,
}

/// How changes of a group are tracked.
struct Tracking {
    /// Changes are stamped with this; a freeze begins the next.
    epoch: u32,
    changed: bool,
    /// Entries overwritten since the freeze, until that is encoded.
    frozen: Option<Entries>,
    /// Cells of all keys.
    cells: usize,
}

impl Tracking {
    /// Stamps a change of a cell, saving what it says first if a freeze still needs it.
    #[inline]
    fn touch<K: Key, M: Key, V: StateValue>(&mut self, key: &K, map_key: &M, cell: &mut Cell<V>) {
        if cell.changed & EPOCH == self.epoch {
            return;
        }
        if let Some(saved) = &mut self.frozen
            && cell.changed & EPOCH == self.epoch - 1
        {
            push_entry(saved, (key, map_key), cell.value.as_ref())
                .expect("a value that was written once is written again");
        }
        cell.changed = self.epoch;
    }

    /// Notes that a cell of a map is changed, whose last change was in the epoch given.
    #[inline]
    fn note(&mut self, last: &mut u32) {
        *last = self.epoch;
        self.changed = true;
    }
}

impl<K: Key, M: Key, V: StateValue> KeyMap<K, M, V> {
    fn iter(&self) -> impl DoubleEndedIterator<Item = (&M, &V)> {
        self.cells.iter().filter_map(|(map_key, cell)| cell.value.as_ref().map(|value| (map_key, value)))
    }

    /// A value that `wanted` picks is changed by `change`, and its entry removed when that answers false.
    fn revise(
        &mut self,
        tracking: &mut Tracking,
        mut wanted: impl FnMut(&M, &V) -> bool,
        mut change: impl FnMut(&mut V) -> bool,
    ) {
        let Self { key, changed, live, cells, .. } = self;
        let before = cells.len();
        cells.retain(|map_key, cell| {
            if !cell.value.as_ref().is_some_and(|value| wanted(map_key, value)) {
                return true;
            }
            let was_fresh = cell.changed == tracking.epoch | FRESH;
            tracking.note(changed);
            tracking.touch(key, map_key, cell);
            if cell.value.as_mut().is_some_and(&mut change) {
                return true;
            }
            *live -= 1;
            cell.value = None;
            !was_fresh
        });
        tracking.cells -= before - cells.len();
    }
}

impl<K: Key, M: Key, V: StateValue> Group<K, M, V> {
    fn find(&self, at: &KeyContext<K>) -> Option<&KeyMap<K, M, V>> {
        self.table.find(table_hash(at.hash, &()), |map| map.key == at.key)
    }

    fn find_or_make(&mut self, key: &K, hash: u64) -> (&mut KeyMap<K, M, V>, &mut Tracking) {
        let rehash = |map: &KeyMap<K, M, V>| table_hash(map.key.key_hash(), &());
        let map = match self.table.entry(hash, |map| map.key == *key, rehash) {
            Slot::Occupied(occupied) => occupied.into_mut(),
            Slot::Vacant(vacant) => {
                let made = KeyMap { key: key.clone(), changed: 0, used: true, live: 0, cells: BTreeMap::new() };
                vacant.insert(made).into_mut()
            }
        };
        (map, &mut self.tracking)
    }
}

/// Typed entries (key, map key) -> value of the key groups of one subtask.
pub struct MapTable<K, M, V> {
    first_group: u16,
    groups: Vec<Group<K, M, V>>,
    /// What an entry has on the heap.
    heap: HeapEstimate,
}

impl<K: Key, M: Key, V: StateValue> MapTable<K, M, V> {
    /// An empty, fully resident table for a range of key groups.
    #[must_use]
    pub fn new(groups: Range<u16>) -> Self {
        let group = || Group {
            table: HashTable::new(),
            resident: true,
            remembers_from: None,
            tracking: Tracking { epoch: 1, changed: false, frozen: None, cells: 0 },
            hand: 0,
        };
        let heap = HeapEstimate::of::<(M, V)>();
        Self { first_group: groups.start, groups: groups.map(|_| group()).collect(), heap }
    }

    /// Number of entries in memory.
    #[must_use]
    pub fn len(&self) -> usize {
        self.groups.iter().flat_map(|group| group.table.iter()).map(|map| map.live).sum()
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

    #[inline]
    fn map(&self, at: &KeyContext<K>) -> Option<&KeyMap<K, M, V>> {
        self.groups[self.slot(at.group)].find(at)
    }

    /// Number of entries of a key.
    #[must_use]
    pub fn len_of(&self, at: &KeyContext<K>) -> usize {
        self.map(at).map_or(0, |map| map.live)
    }

    /// A value.
    #[must_use]
    pub fn get(&self, at: &KeyContext<K>, map_key: &M) -> Option<&V> {
        self.map(at)?.cells.get(map_key)?.value.as_ref()
    }

    /// The entries of a key in the order of their map keys.
    pub fn iter(&self, at: &KeyContext<K>) -> impl DoubleEndedIterator<Item = (&M, &V)> {
        self.map(at).into_iter().flat_map(KeyMap::iter)
    }

    /// The entries of a key whose map keys lie in a range, in order.
    pub fn range(&self, at: &KeyContext<K>, range: impl RangeBounds<M>) -> impl DoubleEndedIterator<Item = (&M, &V)> {
        let cells = self.map(at).map(|map| map.cells.range(range)).into_iter().flatten();
        cells.filter_map(|(map_key, cell)| cell.value.as_ref().map(|value| (map_key, value)))
    }

    /// A value for writing: the entry counts as changed. `None` when there is none.
    pub fn get_mut(&mut self, at: &KeyContext<K>, map_key: &M) -> Option<&mut V> {
        let slot = self.slot(at.group);
        let Group { table, tracking, .. } = &mut self.groups[slot];
        let map = table.find_mut(table_hash(at.hash, &()), |map| map.key == at.key)?;
        let cell = map.cells.get_mut(map_key).filter(|cell| cell.value.is_some())?;
        tracking.touch(&map.key, map_key, cell);
        tracking.note(&mut map.changed);
        cell.value.as_mut()
    }

    /// A value for writing, made by `default` when there is none.
    pub fn get_or_insert_with(&mut self, at: &KeyContext<K>, map_key: M, default: impl FnOnce() -> V) -> &mut V {
        let slot = self.slot(at.group);
        let group = &mut self.groups[slot];
        let fresh = if group.resident { FRESH } else { 0 };
        let (map, tracking) = group.find_or_make(&at.key, table_hash(at.hash, &()));
        tracking.note(&mut map.changed);
        let KeyMap { key, live, cells, .. } = map;
        if let Some(cell) = cells.get_mut(&map_key) {
            tracking.touch(key, &map_key, cell);
        }
        let cell = cells.entry(map_key).or_insert_with(|| {
            tracking.cells += 1;
            Cell { changed: tracking.epoch | fresh, value: None }
        });
        cell.value.get_or_insert_with(|| {
            *live += 1;
            default()
        })
    }

    /// Removes an entry and returns its value.
    pub fn remove(&mut self, at: &KeyContext<K>, map_key: &M) -> Option<V> {
        let slot = self.slot(at.group);
        let Group { table, resident, tracking, .. } = &mut self.groups[slot];
        let mut occupied = table.find_entry(table_hash(at.hash, &()), |map| map.key == at.key).ok()?;
        let map = occupied.get_mut();
        let cell = map.cells.get_mut(map_key).filter(|cell| cell.value.is_some())?;
        let was_fresh = cell.changed == tracking.epoch | FRESH;
        tracking.touch(&map.key, map_key, cell);
        let value = cell.value.take();
        map.live -= 1;
        if was_fresh {
            map.cells.remove(map_key);
            tracking.cells -= 1;
        }
        tracking.note(&mut map.changed);
        if *resident && map.cells.is_empty() {
            occupied.remove();
        }
        value
    }

    /// Goes through the entries of a key. A value that `wanted` picks is changed by `change`, and its entry removed when
    /// that answers false.
    pub fn revise(
        &mut self,
        at: &KeyContext<K>,
        wanted: impl FnMut(&M, &V) -> bool,
        change: impl FnMut(&mut V) -> bool,
    ) {
        let slot = self.slot(at.group);
        let Group { table, resident, tracking, .. } = &mut self.groups[slot];
        let Ok(mut occupied) = table.find_entry(table_hash(at.hash, &()), |map| map.key == at.key) else { return };
        occupied.get_mut().revise(tracking, wanted, change);
        // An empty map says that there is nothing to fetch; when all is resident nobody asks.
        if *resident && occupied.get().cells.is_empty() {
            occupied.remove();
        }
    }

    /// Removes the entries of a key that `keep` refuses.
    pub fn retain(&mut self, at: &KeyContext<K>, mut keep: impl FnMut(&M, &V) -> bool) {
        self.revise(at, |map_key, value| !keep(map_key, value), |_| false);
    }

    /// Number of buckets in a group's table: the places that [`revise_buckets`](Self::revise_buckets) goes through.
    #[must_use]
    pub fn buckets(&self, group: KeyGroup) -> usize {
        self.groups[self.slot(group)].table.num_buckets()
    }

    /// The same as [`revise`](Self::revise), with all entries of the keys in some buckets of a group.
    pub fn revise_buckets(
        &mut self,
        group: KeyGroup,
        buckets: Range<usize>,
        wanted: impl Fn(&V) -> bool,
        mut change: impl FnMut(&mut V) -> bool,
    ) {
        let slot = self.slot(group);
        let Group { table, resident, tracking, .. } = &mut self.groups[slot];
        for index in buckets {
            let Some(map) = table.get_bucket_mut(index) else { continue };
            map.revise(tracking, |_, value| wanted(value), &mut change);
            if *resident
                && map.cells.is_empty()
                && let Ok(occupied) = table.get_bucket_entry(index)
            {
                occupied.remove();
            }
        }
    }

    /// Calls `visit` with every entry in memory, in no particular order of the keys.
    pub fn for_each(&self, mut visit: impl FnMut(&K, &M, &V)) {
        for map in self.groups.iter().flat_map(|group| group.table.iter()) {
            map.iter().for_each(|(map_key, value)| visit(&map.key, map_key, value));
        }
    }

    /// Begins a cut: what has changed until now belongs to it. Constant time per key group.
    ///
    /// # Panics
    /// When an earlier cut is not encoded yet: the caller finishes it first.
    pub fn freeze(&mut self) {
        for Tracking { epoch, changed, frozen, .. } in self.groups.iter_mut().map(|group| &mut group.tracking) {
            assert!(frozen.is_none(), "a cut begins only after the one before is encoded");
            if std::mem::take(changed) {
                *frozen = Some(Entries::default());
            }
            *epoch += 1;
            assert!(*epoch < EPOCH, "a thousand million cuts in one attempt");
        }
    }

    /// Encodes what the last freeze set aside in one group; `None` when nothing changed there.
    ///
    /// # Errors
    /// When a value refuses to be serialised.
    pub fn encode_group(&mut self, state: StateNumber, group: KeyGroup) -> Result<Option<KeyedSection>, PortError> {
        let slot = self.slot(group);
        let Group { table, remembers_from, tracking, .. } = &mut self.groups[slot];
        let Some(mut entries) = tracking.frozen.take() else { return Ok(None) };
        let (frozen_epoch, mut outcome) = (tracking.epoch - 1, Ok(()));
        let tombstones_stay = remembers_from.is_some();
        table.retain(|KeyMap { key, changed, cells, .. }| {
            if *changed >= frozen_epoch {
                let before = cells.len();
                cells.retain(|map_key, cell| {
                    if cell.changed & EPOCH != frozen_epoch {
                        return true;
                    }
                    cell.changed = frozen_epoch;
                    if let Err(error) = push_entry(&mut entries, (key, map_key), cell.value.as_ref()) {
                        outcome = Err(error);
                    }
                    cell.value.is_some() || tombstones_stay
                });
                tracking.cells -= before - cells.len();
            }
            tombstones_stay || !cells.is_empty()
        });
        outcome.map(|()| (!entries.is_empty()).then_some(KeyedSection { state, group, entries }))
    }
}

#[cfg(test)]
#[path = "map_table_tests.rs"]
mod tests;
