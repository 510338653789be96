//! Value state whose values expire.

use super::config::StateTtl;
use super::table::{Timed, TtlTable};
use crate::key::Key;
use crate::state::keyed::{CurrentKey, Declared, KeyedState, StateBacking};
use crate::state::table::{StateTable, StateValue};

/// One value per key, with a time to live. Made by [`ValueState::with_ttl`](crate::state::keyed::ValueState::with_ttl).
pub struct TtlValueState<K, V> {
    declared: Declared<TtlTable<StateTable<(), K, Timed<V>>>>,
}

impl<K, V> Clone for TtlValueState<K, V> {
    fn clone(&self) -> Self {
        Self { declared: self.declared.clone() }
    }
}

impl<K: Key, V: StateValue> TtlValueState<K, V> {
    pub(in crate::state::keyed) fn new(declared: &Declared<StateTable<(), K, V>>, ttl: StateTtl) -> Self {
        let make = move |groups: std::ops::Range<u16>| TtlTable::new(StateTable::new(groups.clone()), ttl, groups);
        Self { declared: declared.expiring(ttl.time(), make) }
    }

    /// The value of the current key.
    pub fn get(&mut self, cx: &impl CurrentKey<K>) -> Option<&V> {
        let (at, times) = (cx.current(), cx.times());
        let TtlTable { entries, ttl, .. } = self.declared.table_mut();
        let used = entries.get(at, &())?.used;
        if ttl.expiry(&times).reached(used) {
            if ttl.unseen(&times).is_some() {
                entries.remove(at, &());
            }
        } else if let Some(stamp) = ttl.stamp_of_read(&times).filter(|stamp| *stamp != used) {
            entries.get_mut(at, &())?.used = stamp;
        }
        entries.get(at, &()).map(|timed| &timed.value)
    }

    /// The value of the current key for writing.
    pub fn get_mut(&mut self, cx: &impl CurrentKey<K>) -> Option<&mut V> {
        let (at, times) = (cx.current(), cx.times());
        let TtlTable { entries, ttl, .. } = self.declared.table_mut();
        let used = entries.get(at, &())?.used;
        if ttl.unseen(&times).is_some_and(|expiry| expiry.reached(used)) {
            entries.remove(at, &());
            return None;
        }
        let timed = entries.get_mut(at, &())?;
        timed.used = ttl.stamp(&times);
        Some(&mut timed.value)
    }

    /// The value of the current key for writing, made by `default` when there is none.
    pub fn get_or_insert_with(&mut self, cx: &impl CurrentKey<K>, default: impl FnOnce() -> V) -> &mut V {
        let (at, times) = (cx.current(), cx.times());
        let TtlTable { entries, ttl, .. } = self.declared.table_mut();
        let (stamp, unseen) = (ttl.stamp(&times), ttl.unseen(&times));
        if let Some(expiry) = unseen
            && entries.get(at, &()).is_some_and(|timed| expiry.reached(timed.used))
        {
            entries.remove(at, &());
        }
        let timed = entries.get_or_insert_with(at, &(), || Timed { used: stamp, value: default() });
        timed.used = stamp;
        &mut timed.value
    }

    /// Sets the value of the current key.
    pub fn set(&mut self, cx: &impl CurrentKey<K>, value: V) {
        let used = self.declared.table().ttl.stamp(&cx.times());
        let timed = Timed { used, value };
        let mut new = Some(timed);
        let entries = &mut self.declared.table_mut().entries;
        let slot = entries.get_or_insert_with(cx.current(), &(), || new.take().expect("called at most once"));
        if let Some(timed) = new {
            *slot = timed;
        }
    }

    /// Removes the value of the current key, and returns it unless it has expired.
    pub fn clear(&mut self, cx: &impl CurrentKey<K>) -> Option<V> {
        let TtlTable { entries, ttl, .. } = self.declared.table_mut();
        let removed = entries.remove(cx.current(), &())?;
        let unseen = ttl.unseen(&cx.times()).is_some_and(|expiry| expiry.reached(removed.used));
        (!unseen).then_some(removed.value)
    }
}

impl<K: Key, V: StateValue> KeyedState<K> for TtlValueState<K, V> {
    fn backing(&mut self) -> &mut dyn StateBacking<K> {
        &mut self.declared
    }
}
