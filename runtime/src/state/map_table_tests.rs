//! The table of a map state against plain maps: whatever is written between freezes, the cuts replay to the same
//! content, entry by entry; restored lazily, it is what a resident one would be.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::ports::state::{EntryAddress, Wanted};

const GROUPS: u16 = 3;
type MapOfMaps = BTreeMap<u64, BTreeMap<i16, u32>>;

fn at(key: u64) -> KeyContext<u64> {
    KeyContext::new(key, GROUPS)
}

#[derive(Clone, Debug)]
enum Step {
    Put(u64, i16, u32),
    Change(u64, i16),
    Remove(u64, i16),
    RetainOdd(u64),
    Clear(u64),
    /// Halves the even values of a group, and removes those that are then odd.
    Revise(u16),
    Freeze,
    Encode(u16),
    /// In a lazily restored table: the background scan reaches a group.
    Finish(u16),
}

fn step() -> impl Strategy<Value = Step> {
    let (key, map_key) = (0..5u64, -3..3i16);
    prop_oneof![
        5 => (key.clone(), map_key.clone(), any::<u32>()).prop_map(|(key, m, value)| Step::Put(key, m, value)),
        2 => (key.clone(), map_key.clone()).prop_map(|(key, m)| Step::Change(key, m)),
        3 => (key.clone(), map_key).prop_map(|(key, m)| Step::Remove(key, m)),
        1 => key.clone().prop_map(Step::RetainOdd),
        1 => key.prop_map(Step::Clear),
        1 => (0..GROUPS).prop_map(Step::Revise),
        1 => Just(Step::Freeze),
        2 => (0..GROUPS).prop_map(Step::Encode),
        1 => (0..GROUPS).prop_map(Step::Finish),
    ]
}

type Stored = BTreeMap<(u16, Vec<u8>), Vec<u8>>;

fn encode(table: &mut MapTable<u64, i16, u32>, group: u16, stored: &mut Stored) {
    let Some(section) = table.encode_group(StateNumber(0), KeyGroup(group)).expect("u32 serialises") else { return };
    let mut seen = BTreeSet::new();
    for (key, value) in section.entries.iter() {
        assert!(seen.insert(key.to_vec()), "an entry stands once in a section");
        match value {
            Some(value) => drop(stored.insert((group, key.to_vec()), value.to_vec())),
            None => drop(stored.remove(&(group, key.to_vec()))),
        }
    }
}

fn encode_all(table: &mut MapTable<u64, i16, u32>, stored: &mut Stored) {
    (0..GROUPS).for_each(|group| encode(table, group, stored));
}

fn load(table: &mut MapTable<u64, i16, u32>, stored: &Stored, prefix: &EntryAddress) {
    let entries = stored.iter().filter(|((group, key), _)| *group == prefix.group.0 && key.starts_with(&prefix.key));
    for ((_, key), value) in entries {
        table.load(prefix.group, key, value).expect("just written");
    }
}

fn finish(table: &mut MapTable<u64, i16, u32>, stored: &Stored, group: u16) {
    load(table, stored, &EntryAddress { state: StateNumber(0), group: KeyGroup(group), key: Vec::new() });
    table.finish_restore(KeyGroup(group));
}

/// A table restored from what is stored, all of it.
fn restored(stored: &Stored) -> MapOfMaps {
    let mut table = MapTable::new(0..GROUPS);
    table.begin_restore();
    (0..GROUPS).for_each(|group| finish(&mut table, stored, group));
    contents(&table)
}

fn contents(table: &MapTable<u64, i16, u32>) -> MapOfMaps {
    let mut all = MapOfMaps::new();
    table.for_each(|key, map_key, value| {
        all.entry(*key).or_default().insert(*map_key, *value);
    });
    all
}

/// Applies a change to both, and compares what can be seen of the key.
fn change(table: &mut MapTable<u64, i16, u32>, model: &mut MapOfMaps, step: &Step) {
    let (Step::Put(key, ..) | Step::Change(key, _) | Step::Remove(key, _) | Step::RetainOdd(key) | Step::Clear(key)) =
        step
    else {
        return;
    };
    let (at, map) = (at(*key), model.entry(*key).or_default());
    match step {
        Step::Put(_, map_key, value) => {
            *table.get_or_insert_with(&at, *map_key, || 0) = *value;
            map.insert(*map_key, *value);
        }
        Step::Change(_, map_key) => {
            let (changed, wanted) = (table.get_mut(&at, map_key), map.get_mut(map_key));
            assert_eq!(changed.as_deref(), wanted.as_deref());
            changed.into_iter().chain(wanted).for_each(|value| *value = value.wrapping_add(1));
        }
        Step::Remove(_, map_key) => assert_eq!(table.remove(&at, map_key), map.remove(map_key)),
        Step::RetainOdd(_) => {
            table.retain(&at, |_, value| value % 2 == 1);
            map.retain(|_, value| *value % 2 == 1);
        }
        Step::Clear(_) => {
            table.retain(&at, |_, _| false);
            map.clear();
        }
        Step::Revise(_) | Step::Freeze | Step::Encode(_) | Step::Finish(_) => {}
    }
    assert_eq!(table.iter(&at).collect::<Vec<_>>(), map.iter().collect::<Vec<_>>());
    assert_eq!(table.range(&at, -1..2).rev().collect::<Vec<_>>(), map.range(-1..2).rev().collect::<Vec<_>>());
    assert_eq!(table.len_of(&at), map.len());
    if map.is_empty() {
        model.remove(key);
    }
}

fn revise(table: &mut MapTable<u64, i16, u32>, model: &mut MapOfMaps, group: KeyGroup) {
    let halve = |value: &mut u32| {
        *value /= 2;
        value.is_multiple_of(2)
    };
    table.revise_buckets(group, 0..table.buckets(group), |value| value.is_multiple_of(2), halve);
    model.retain(|key, map| {
        map.retain(|_, value| at(*key).group != group || *value % 2 == 1 || halve(value));
        !map.is_empty()
    });
}

proptest! {
    #[test]
    fn cuts_of_maps_replay_to_the_content_at_their_freeze(steps in prop::collection::vec(step(), 0..200)) {
        let mut table = MapTable::new(0..GROUPS);
        let (mut model, mut at_freeze) = (MapOfMaps::new(), MapOfMaps::new());
        let mut stored = Stored::new();
        for step in steps {
            match step {
                Step::Freeze => {
                    encode_all(&mut table, &mut stored);
                    prop_assert_eq!(restored(&stored), at_freeze);
                    table.freeze();
                    at_freeze = model.clone();
                }
                Step::Encode(group) => encode(&mut table, group, &mut stored),
                Step::Revise(group) => revise(&mut table, &mut model, KeyGroup(group)),
                _ => change(&mut table, &mut model, &step),
            }
            prop_assert_eq!(contents(&table), model.clone());
        }
        encode_all(&mut table, &mut stored);
        prop_assert_eq!(restored(&stored), at_freeze);
    }

    /// The same, started from a store that is not in memory: the entries of a key are fetched before each step.
    #[test]
    fn a_lazily_restored_map_table_behaves_like_a_resident_one(
        before in prop::collection::vec((0..5u64, -3..3i16, any::<u32>()), 0..20),
        steps in prop::collection::vec(step(), 0..100),
    ) {
        let (mut first, mut model) = (MapTable::new(0..GROUPS), MapOfMaps::new());
        before.into_iter().for_each(|(key, m, value)| change(&mut first, &mut model, &Step::Put(key, m, value)));
        let mut stored = Stored::new();
        first.freeze();
        encode_all(&mut first, &mut stored);
        let original = stored.clone();
        let mut table = MapTable::new(0..GROUPS);
        table.begin_restore();
        let mut finished = BTreeSet::new();
        let fetch = |table: &mut MapTable<u64, i16, u32>, key: u64| {
            let mut wanted = Wanted::default();
            table.missing(StateNumber(0), &at(key), &mut wanted);
            wanted.prefixes.iter().for_each(|prefix| load(table, &original, prefix));
        };
        for step in steps {
            match step {
                Step::Revise(group) => {
                    (0..5).for_each(|key| fetch(&mut table, key));
                    revise(&mut table, &mut model, KeyGroup(group));
                }
                Step::Freeze => {
                    encode_all(&mut table, &mut stored);
                    table.freeze();
                }
                Step::Encode(group) => encode(&mut table, group, &mut stored),
                Step::Finish(group) => {
                    if finished.insert(group) {
                        finish(&mut table, &original, group);
                    }
                }
                Step::Put(key, ..) | Step::Change(key, _) | Step::Remove(key, _) | Step::RetainOdd(key) | Step::Clear(key) => {
                    fetch(&mut table, key);
                    change(&mut table, &mut model, &step);
                }
            }
        }
        encode_all(&mut table, &mut stored);
        table.freeze();
        encode_all(&mut table, &mut stored);
        prop_assert_eq!(restored(&stored), model);
    }
}

#[test]
fn a_cut_has_the_changed_entries_of_a_map_alone_in_the_order_of_their_encoding() {
    let mut table = MapTable::<u64, i16, u32>::new(0..GROUPS);
    (0..1_000).for_each(|map_key| *table.get_or_insert_with(&at(7), map_key, || 0) = 1);
    table.freeze();
    let first = table.encode_group(StateNumber(0), at(7).group).expect("serialises").expect("something changed");
    assert_eq!(first.entries.len(), 1_000);
    *table.get_mut(&at(7), &300).expect("was put") += 1;
    assert_eq!(table.remove(&at(7), &-1), None);
    assert_eq!(table.remove(&at(7), &500), Some(1));
    table.freeze();
    let second = table.encode_group(StateNumber(0), at(7).group).expect("serialises").expect("something changed");
    let key = |map_key: i16| {
        let mut bytes = Vec::new();
        (7u64, map_key).encode_key(&mut bytes);
        bytes
    };
    let mut seen: Vec<_> = second.entries.iter().map(|(key, value)| (key.to_vec(), value.is_some())).collect();
    seen.sort();
    assert_eq!(seen, [(key(300), true), (key(500), false)]);
    table.freeze();
    assert_eq!(table.encode_group(StateNumber(0), at(7).group).expect("serialises"), None);
}
