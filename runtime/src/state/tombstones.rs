//! What has been deleted from a table since a cut, or while the local store may still serve it.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Slot;

use super::table::table_hash;
use crate::key::Key;

/// Keys of deleted entries, typed: functions that move timers delete as often as they insert. Each with the epoch of its
/// deletion.
pub(super) struct Tombstones<N, K>(HashTable<(N, K, u32)>);

impl<N, K> Default for Tombstones<N, K> {
    fn default() -> Self {
        Self(HashTable::new())
    }
}

impl<N: Key, K: Key> Tombstones<N, K> {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[inline]
    pub(super) fn contains(&self, hash: u64, namespace: &N, key: &K) -> bool {
        !self.is_empty() && self.0.find(hash, |known| known.1 == *key && known.0 == *namespace).is_some()
    }

    pub(super) fn insert(&mut self, hash: u64, namespace: &N, key: &K, epoch: u32) {
        let rehash = |known: &(N, K, u32)| table_hash(known.1.key_hash(), &known.0);
        match self.0.entry(hash, |known| known.1 == *key && known.0 == *namespace, rehash) {
            Slot::Occupied(mut known) => known.get_mut().2 = epoch,
            Slot::Vacant(vacant) => drop(vacant.insert((namespace.clone(), key.clone(), epoch))),
        }
    }

    #[inline]
    pub(super) fn remove(&mut self, hash: u64, namespace: &N, key: &K) -> bool {
        if self.is_empty() {
            return false;
        }
        let found = self.0.find_entry(hash, |known| known.1 == *key && known.0 == *namespace);
        found.map(|known| known.remove()).is_ok()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(N, K, u32)> {
        self.0.iter()
    }

    /// Forgets those of this epoch and earlier ones.
    pub(super) fn forget(&mut self, until: u32) {
        self.0.retain(|known| known.2 > until);
        if self.0.is_empty() {
            self.0 = HashTable::new();
        }
    }

    /// Bytes of the table.
    pub(super) fn allocation_size(&self) -> usize {
        self.0.allocation_size()
    }
}
