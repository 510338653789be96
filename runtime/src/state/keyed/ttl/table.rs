//! Tables whose entries expire: what is stored, and how expired entries are removed: some at every batch, those of a key
//! group when a cut encodes it, and those that a restore brings.

use serde::{Deserialize, Serialize};

use super::config::{Expiry, StateTtl};
use crate::key::Key;
use crate::key_group::KeyGroup;
use crate::ports::PortError;
use crate::ports::state::{StateNumber, Wanted};
use crate::state::cut::KeyedSection;
use crate::state::keyed::Times;
use crate::state::keyed::backing::Table;
use crate::state::map_table::MapTable;
use crate::state::table::{KeyContext, StateTable, StateValue};
use crate::time::Timestamp;
use std::ops::Range;

/// A value with the time at which it was last used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Timed<V> {
    pub(super) used: Timestamp,
    pub(super) value: V,
}

/// What can expire, as a whole or in part.
pub(crate) trait Perishable {
    /// Whether anything in it has expired.
    fn is_stale(&self, expiry: Expiry) -> bool;
    /// Removes what has expired; false when nothing is left.
    fn purge(&mut self, expiry: Expiry) -> bool;
}

impl<V> Perishable for Timed<V> {
    fn is_stale(&self, expiry: Expiry) -> bool {
        expiry.reached(self.used)
    }

    fn purge(&mut self, expiry: Expiry) -> bool {
        !expiry.reached(self.used)
    }
}

/// The items of a list expire one by one.
impl<T> Perishable for Vec<Timed<T>> {
    fn is_stale(&self, expiry: Expiry) -> bool {
        self.iter().any(|item| item.is_stale(expiry))
    }

    fn purge(&mut self, expiry: Expiry) -> bool {
        self.retain_mut(|item| item.purge(expiry));
        !self.is_empty()
    }
}

/// A table that can be swept.
pub(crate) trait Sweep {
    /// Places of a key group.
    fn places(&self, group: KeyGroup) -> usize;
    /// Removes what has expired in some places of a key group.
    fn sweep(&mut self, group: KeyGroup, places: Range<usize>, expiry: Expiry);
}

impl<N: Key, K: Key, V: StateValue + Perishable> Sweep for StateTable<N, K, V> {
    fn places(&self, group: KeyGroup) -> usize {
        self.buckets(group)
    }

    fn sweep(&mut self, group: KeyGroup, places: Range<usize>, expiry: Expiry) {
        self.revise(group, places, |value| value.is_stale(expiry), |value| value.purge(expiry));
    }
}

impl<K: Key, M: Key, V: StateValue + Perishable> Sweep for MapTable<K, M, V> {
    fn places(&self, group: KeyGroup) -> usize {
        self.buckets(group)
    }

    fn sweep(&mut self, group: KeyGroup, places: Range<usize>, expiry: Expiry) {
        self.revise_buckets(group, places, |value| value.is_stale(expiry), |value| value.purge(expiry));
    }
}

/// A table whose entries expire.
pub(crate) struct TtlTable<T> {
    pub(super) entries: T,
    pub(super) ttl: StateTtl,
    groups: Range<u16>,
    /// What has expired at the last batch.
    expiry: Expiry,
    /// The next place to look at: key group and place in it.
    next: (u16, usize),
}

impl<T> TtlTable<T> {
    pub(super) fn new(entries: T, ttl: StateTtl, groups: Range<u16>) -> Self {
        Self { entries, ttl, expiry: Expiry::never(&ttl), next: (groups.start, 0), groups }
    }
}

impl<T: Sweep> TtlTable<T> {
    /// Looks at so many places, going on where it stopped; at most once at each.
    fn sweep_some(&mut self, mut places: usize) {
        for _ in self.groups.clone() {
            let (group, from) = self.next;
            let all = self.entries.places(KeyGroup(group));
            let until = all.min(from.saturating_add(places));
            if from < until {
                self.entries.sweep(KeyGroup(group), from..until, self.expiry);
                places -= until - from;
            }
            if until < all {
                self.next = (group, until);
                return;
            }
            self.next = (if group + 1 < self.groups.end { group + 1 } else { self.groups.start }, 0);
            if places == 0 {
                return;
            }
        }
    }

    fn sweep_group(&mut self, group: KeyGroup) {
        self.entries.sweep(group, 0..self.entries.places(group), self.expiry);
    }
}

impl<K, T: Table<K> + Sweep> Table<K> for TtlTable<T> {
    fn begin_restore(&mut self) {
        self.entries.begin_restore();
    }

    fn load(&mut self, group: KeyGroup, key: &[u8], value: &[u8]) -> Result<(), PortError> {
        self.entries.load(group, key, value)
    }

    fn finish_restore(&mut self, group: KeyGroup) {
        self.entries.finish_restore(group);
        self.sweep_group(group);
    }

    fn missing(&mut self, number: StateNumber, at: &KeyContext<K>, wanted: &mut Wanted) {
        self.entries.missing(number, at, wanted);
    }

    fn is_resident(&self, group: KeyGroup) -> bool {
        self.entries.is_resident(group)
    }

    fn remember(&mut self) {
        self.entries.remember();
    }

    fn forget(&mut self, durable: u32) {
        self.entries.forget(durable);
    }

    fn evict(&mut self, group: KeyGroup, durable: u32) -> usize {
        self.entries.evict(group, durable)
    }

    fn memory(&mut self) -> usize {
        self.entries.memory()
    }

    fn pass_time(&mut self, times: &Times, records: usize) {
        self.expiry = self.ttl.expiry(times);
        self.sweep_some(records.saturating_mul(self.ttl.cleanup_per_record));
    }

    fn freeze(&mut self) {
        self.entries.freeze();
    }

    fn encode_group(&mut self, number: StateNumber, group: KeyGroup) -> Result<Option<KeyedSection>, PortError> {
        let section = self.entries.encode_group(number, group)?;
        if section.is_some() {
            self.sweep_group(group);
        }
        Ok(section)
    }
}
