//! List state whose items expire one by one.

use super::config::StateTtl;
use super::table::{Perishable, Timed, TtlTable};
use crate::key::Key;
use crate::state::keyed::{CurrentKey, Declared, KeyedState, StateBacking};
use crate::state::table::{StateTable, StateValue};

type ListTable<K, T> = StateTable<(), K, Vec<Timed<T>>>;

/// A list per key, each item with a time to live of its own. Made by
/// [`ListState::with_ttl`](crate::state::keyed::ListState::with_ttl).
pub struct TtlListState<K, T> {
    declared: Declared<TtlTable<ListTable<K, T>>>,
}

impl<K, T> Clone for TtlListState<K, T> {
    fn clone(&self) -> Self {
        Self { declared: self.declared.clone() }
    }
}

impl<K: Key, T: StateValue> TtlListState<K, T> {
    pub(in crate::state::keyed) fn new(declared: &Declared<StateTable<(), K, Vec<T>>>, ttl: StateTtl) -> Self {
        let make = move |groups: std::ops::Range<u16>| TtlTable::new(StateTable::new(groups.clone()), ttl, groups);
        Self { declared: declared.expiring(ttl.time(), make) }
    }

    /// The items of the current key that have not expired.
    pub fn get(&mut self, cx: &impl CurrentKey<K>) -> impl DoubleEndedIterator<Item = &T> {
        let (at, times) = (cx.current(), cx.times());
        let TtlTable { entries, ttl, .. } = self.declared.table_mut();
        let expiry = ttl.expiry(&times);
        let stamp = ttl.stamp_of_read(&times);
        if let Some(items) = entries.get(at, &()) {
            let purged = ttl.unseen(&times).filter(|unseen| items.is_stale(*unseen));
            let refreshed =
                stamp.filter(|stamp| items.iter().any(|item| item.used != *stamp && !item.is_stale(expiry)));
            if (purged.is_some() || refreshed.is_some())
                && let Some(items) = entries.get_mut(at, &())
            {
                if let Some(stamp) = refreshed {
                    items.iter_mut().filter(|item| !item.is_stale(expiry)).for_each(|item| item.used = stamp);
                }
                if purged.is_some_and(|unseen| !items.purge(unseen)) {
                    entries.remove(at, &());
                }
            }
        }
        entries.get(at, &()).into_iter().flatten().map(|item| &item.value)
    }

    /// Appends to the list of the current key.
    pub fn add(&mut self, cx: &impl CurrentKey<K>, item: T) {
        self.add_all(cx, [item]);
    }

    /// Appends several items to the list of the current key.
    pub fn add_all(&mut self, cx: &impl CurrentKey<K>, items: impl IntoIterator<Item = T>) {
        let TtlTable { entries, ttl, .. } = self.declared.table_mut();
        let used = ttl.stamp(&cx.times());
        let mut items = items.into_iter().map(|value| Timed { used, value }).peekable();
        if items.peek().is_some() {
            entries.get_or_insert_with(cx.current(), &(), Vec::new).extend(items);
        }
    }

    /// Replaces the list of the current key; an empty one is removed.
    pub fn update(&mut self, cx: &impl CurrentKey<K>, items: Vec<T>) {
        self.clear(cx);
        self.add_all(cx, items);
    }

    /// Removes the list of the current key.
    pub fn clear(&mut self, cx: &impl CurrentKey<K>) {
        self.declared.table_mut().entries.remove(cx.current(), &());
    }
}

impl<K: Key, T: StateValue> KeyedState<K> for TtlListState<K, T> {
    fn backing(&mut self) -> &mut dyn StateBacking<K> {
        &mut self.declared
    }
}
