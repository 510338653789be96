//! Map state whose entries expire one by one.

use super::config::StateTtl;
use super::table::{Perishable, Timed, TtlTable};
use crate::key::Key;
use crate::state::keyed::{CurrentKey, Declared, KeyedState, StateBacking};
use crate::state::map_table::MapTable;
use crate::state::table::StateValue;

/// A map per key, each entry with a time to live of its own. Made by
/// [`MapState::with_ttl`](crate::state::keyed::MapState::with_ttl).
pub struct TtlMapState<K, M, V> {
    declared: Declared<TtlTable<MapTable<K, M, Timed<V>>>>,
}

impl<K, M, V> Clone for TtlMapState<K, M, V> {
    fn clone(&self) -> Self {
        Self { declared: self.declared.clone() }
    }
}

impl<K: Key, M: Key, V: StateValue> TtlMapState<K, M, V> {
    pub(in crate::state::keyed) fn new(declared: &Declared<MapTable<K, M, V>>, ttl: StateTtl) -> Self {
        let make = move |groups: std::ops::Range<u16>| TtlTable::new(MapTable::new(groups.clone()), ttl, groups);
        Self { declared: declared.expiring(ttl.time(), make) }
    }

    /// A value in the map of the current key.
    pub fn get(&mut self, cx: &impl CurrentKey<K>, map_key: &M) -> Option<&V> {
        let (at, times) = (cx.current(), cx.times());
        let TtlTable { entries, ttl, .. } = self.declared.table_mut();
        let used = entries.get(at, map_key)?.used;
        if ttl.expiry(&times).reached(used) {
            if ttl.unseen(&times).is_some() {
                entries.remove(at, map_key);
            }
        } else if let Some(stamp) = ttl.stamp_of_read(&times).filter(|stamp| *stamp != used) {
            entries.get_mut(at, map_key)?.used = stamp;
        }
        entries.get(at, map_key).map(|timed| &timed.value)
    }

    /// Whether the map of the current key has this map key.
    pub fn contains(&mut self, cx: &impl CurrentKey<K>, map_key: &M) -> bool {
        self.get(cx, map_key).is_some()
    }

    /// A value in the map of the current key for writing, made by `default` when there is none.
    pub fn get_or_insert_with(&mut self, cx: &impl CurrentKey<K>, map_key: M, default: impl FnOnce() -> V) -> &mut V {
        let (at, times) = (cx.current(), cx.times());
        let TtlTable { entries, ttl, .. } = self.declared.table_mut();
        let (stamp, unseen) = (ttl.stamp(&times), ttl.unseen(&times));
        if let Some(expiry) = unseen
            && entries.get(at, &map_key).is_some_and(|timed| expiry.reached(timed.used))
        {
            entries.remove(at, &map_key);
        }
        let timed = entries.get_or_insert_with(at, map_key, || Timed { used: stamp, value: default() });
        timed.used = stamp;
        &mut timed.value
    }

    /// Puts an entry into the map of the current key, in the place of an older one.
    pub fn put(&mut self, cx: &impl CurrentKey<K>, map_key: M, value: V) {
        let used = self.declared.table().ttl.stamp(&cx.times());
        let mut new = Some(Timed { used, value });
        let entries = &mut self.declared.table_mut().entries;
        let slot = entries.get_or_insert_with(cx.current(), map_key, || new.take().expect("called at most once"));
        if let Some(timed) = new {
            *slot = timed;
        }
    }

    /// Removes an entry from the map of the current key, and returns its value unless it has expired.
    pub fn remove(&mut self, cx: &impl CurrentKey<K>, map_key: &M) -> Option<V> {
        let TtlTable { entries, ttl, .. } = self.declared.table_mut();
        let removed = entries.remove(cx.current(), map_key)?;
        let unseen = ttl.unseen(&cx.times()).is_some_and(|expiry| expiry.reached(removed.used));
        (!unseen).then_some(removed.value)
    }

    /// The entries of the current key that have not expired, in the order of their map keys.
    pub fn entries(&mut self, cx: &impl CurrentKey<K>) -> impl DoubleEndedIterator<Item = (&M, &V)> {
        let (at, times) = (cx.current(), cx.times());
        let TtlTable { entries, ttl, .. } = self.declared.table_mut();
        if let Some(unseen) = ttl.unseen(&times) {
            entries.retain(at, |_, timed| !timed.is_stale(unseen));
        }
        if let Some(stamp) = ttl.stamp_of_read(&times) {
            let expiry = ttl.expiry(&times);
            let refresh = |timed: &mut Timed<V>| {
                timed.used = stamp;
                true
            };
            entries.revise(at, |_, timed| timed.used != stamp && !timed.is_stale(expiry), refresh);
        }
        entries.iter(at).map(|(map_key, timed)| (map_key, &timed.value))
    }

    /// Whether the map of the current key has nothing that can be seen.
    pub fn is_empty(&mut self, cx: &impl CurrentKey<K>) -> bool {
        self.entries(cx).next().is_none()
    }

    /// Removes all entries of the current key. The next cut names each of them.
    pub fn clear(&mut self, cx: &impl CurrentKey<K>) {
        self.declared.table_mut().entries.retain(cx.current(), |_, _| false);
    }
}

impl<K: Key, M: Key, V: StateValue> KeyedState<K> for TtlMapState<K, M, V> {
    fn backing(&mut self) -> &mut dyn StateBacking<K> {
        &mut self.declared
    }
}
