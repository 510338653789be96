//! What has been deleted from a table since a cut, or while the local store may still serve it.

use hashbrown::HashTable;

use super::table::table_hash;
use crate::key::Key;

/// Keys of deleted entries, typed: functions that move timers delete as often as they insert.
pub(super) struct Tombstones<N, K>(HashTable<(N, K)>);

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

    pub(super) fn insert(&mut self, hash: u64, namespace: &N, key: &K) {
        if !self.contains(hash, namespace, key) {
            let rehash = |known: &(N, K)| table_hash(known.1.key_hash(), &known.0);
            self.0.insert_unique(hash, (namespace.clone(), key.clone()), rehash);
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

    pub(super) fn iter(&self) -> impl Iterator<Item = &(N, K)> {
        self.0.iter()
    }
}
