//! The table against a plain map: whatever is written between freezes, the cuts replay to the same content.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::ports::state::Wanted;

const GROUPS: u16 = 4;

fn at(key: u64) -> KeyContext<u64> {
    KeyContext::new(key, GROUPS)
}

#[derive(Clone, Debug)]
enum Step {
    Put(u64, u32),
    Remove(u64),
    /// Halves the even values of a group, and removes those that are then odd.
    Revise(u16),
    Freeze,
    Encode(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..12u64, any::<u32>()).prop_map(|(key, value)| Step::Put(key, value)),
        3 => (0..12u64).prop_map(Step::Remove),
        1 => (0..GROUPS).prop_map(Step::Revise),
        1 => Just(Step::Freeze),
        2 => (0..GROUPS).prop_map(Step::Encode),
    ]
}

fn revise(table: &mut StateTable<(), u64, u32>, model: &mut BTreeMap<u64, u32>, group: KeyGroup) {
    let halve = |value: &mut u32| {
        *value /= 2;
        value.is_multiple_of(2)
    };
    table.revise(group, 0..table.buckets(group), |value| value.is_multiple_of(2), halve);
    model.retain(|key, value| at(*key).group != group || *value % 2 == 1 || halve(value));
}

type Stored = BTreeMap<(u16, Vec<u8>), Vec<u8>>;

fn apply(stored: &mut Stored, section: Option<KeyedSection>) {
    let Some(section) = section else { return };
    let mut seen = std::collections::BTreeSet::new();
    for (key, value) in section.entries.iter() {
        assert!(seen.insert(key.to_vec()), "a key stands once in a section");
        match value {
            Some(value) => {
                stored.insert((section.group.0, key.to_vec()), value.to_vec());
            }
            None => {
                stored.remove(&(section.group.0, key.to_vec()));
            }
        }
    }
}

fn encode_all(table: &mut StateTable<(), u64, u32>, stored: &mut Stored) {
    for group in 0..GROUPS {
        apply(stored, table.encode_group(StateNumber(0), KeyGroup(group)).expect("u32 serialises"));
    }
}

fn restored(stored: &Stored) -> StateTable<(), u64, u32> {
    let mut table = StateTable::new(0..GROUPS);
    table.begin_restore();
    for ((group, key), value) in stored {
        table.load(KeyGroup(*group), key, value).expect("just written");
    }
    for group in 0..GROUPS {
        table.finish_restore(KeyGroup(group));
    }
    table
}

fn contents(table: &StateTable<(), u64, u32>) -> BTreeMap<u64, u32> {
    let mut all = BTreeMap::new();
    table.for_each(|(), key, value| {
        all.insert(*key, *value);
    });
    all
}

proptest! {
    #[test]
    fn cuts_replay_to_the_content_at_their_freeze(steps in prop::collection::vec(step(), 0..200)) {
        let mut table = StateTable::<(), u64, u32>::new(0..GROUPS);
        let (mut model, mut at_freeze) = (BTreeMap::new(), BTreeMap::new());
        let mut stored = Stored::new();
        for step in steps {
            match step {
                Step::Put(key, value) => {
                    *table.get_or_insert_with(&at(key), &(), || 0) = value;
                    model.insert(key, value);
                }
                Step::Remove(key) => {
                    prop_assert_eq!(table.remove(&at(key), &()), model.remove(&key));
                }
                Step::Revise(group) => revise(&mut table, &mut model, KeyGroup(group)),
                Step::Freeze => {
                    encode_all(&mut table, &mut stored);
                    prop_assert_eq!(contents(&restored(&stored)), at_freeze.clone());
                    table.freeze();
                    at_freeze.clone_from(&model);
                }
                Step::Encode(group) => {
                    apply(&mut stored, table.encode_group(StateNumber(0), KeyGroup(group)).expect("u32 serialises"));
                }
            }
            prop_assert_eq!(contents(&table), model.clone());
        }
        encode_all(&mut table, &mut stored);
        prop_assert_eq!(contents(&restored(&stored)), at_freeze);
    }

    /// The same, started from a store that is not in memory: wanted entries are fetched before each step.
    #[test]
    fn a_lazily_restored_table_behaves_like_a_resident_one(
        before in prop::collection::btree_map(0..12u64, any::<u32>(), 0..12),
        steps in prop::collection::vec(step(), 0..100),
    ) {
        let mut first = StateTable::<(), u64, u32>::new(0..GROUPS);
        for (key, value) in &before {
            *first.get_or_insert_with(&at(*key), &(), || 0) = *value;
        }
        let mut stored = Stored::new();
        first.freeze();
        encode_all(&mut first, &mut stored);
        let original = stored.clone();
        let mut model = before;
        let mut table = StateTable::<(), u64, u32>::new(0..GROUPS);
        table.begin_restore();
        let fetch = |table: &mut StateTable<(), u64, u32>, key: u64| {
            let mut wanted = Wanted::default();
            table.missing(StateNumber(0), &at(key), &(), &mut wanted);
            for address in wanted.entries {
                if let Some(value) = original.get(&(address.group.0, address.key.clone())) {
                    table.load(address.group, &address.key, value).expect("just written");
                }
            }
        };
        for step in steps {
            match step {
                Step::Put(key, value) => {
                    fetch(&mut table, key);
                    *table.get_or_insert_with(&at(key), &(), || 0) = value;
                    model.insert(key, value);
                }
                Step::Remove(key) => {
                    fetch(&mut table, key);
                    prop_assert_eq!(table.remove(&at(key), &()), model.remove(&key));
                }
                Step::Revise(group) => {
                    (0..12).for_each(|key| fetch(&mut table, key));
                    revise(&mut table, &mut model, KeyGroup(group));
                }
                Step::Freeze => {
                    encode_all(&mut table, &mut stored);
                    table.freeze();
                }
                Step::Encode(group) => {
                    if table.is_resident(KeyGroup(group)) {
                        continue;
                    }
                    for ((of, key), value) in original.iter().filter(|((of, _), _)| *of == group) {
                        table.load(KeyGroup(*of), key, value).expect("just written");
                    }
                    table.finish_restore(KeyGroup(group));
                }
            }
        }
        encode_all(&mut table, &mut stored);
        table.freeze();
        encode_all(&mut table, &mut stored);
        prop_assert_eq!(contents(&restored(&stored)), model);
    }
}

#[test]
fn an_entry_that_dies_before_any_cut_leaves_no_tombstone() {
    let mut table = StateTable::<i64, u64, u32>::new(0..GROUPS);
    table.get_or_insert_with(&at(1), &5, || 7);
    assert_eq!(table.remove(&at(1), &5), Some(7));
    table.freeze();
    assert_eq!(table.encode_group(StateNumber(0), at(1).group).expect("nothing to write"), None);
}

#[test]
fn what_was_looked_up_ahead_is_found_also_when_entries_have_moved_or_gone_meanwhile() {
    let mut table = StateTable::<(), u64, u64>::new(0..GROUPS);
    let mut model = BTreeMap::new();
    for round in 0..40u64 {
        // Some keys are known, some not yet; the table grows and shrinks between the look ahead and the work.
        let keys: Vec<u64> = (0..64).map(|n| (n * 7 + round * 31) % 500).collect();
        let contexts: Vec<_> =
            keys.iter().zip(0..).map(|(key, place)| KeyContext::ahead(*key, GROUPS, place)).collect();
        table.look_ahead(&contexts, &());
        if round % 3 == 1 {
            for key in (0..500).filter(|key| key % 5 == round % 5) {
                assert_eq!(table.remove(&at(key), &()), model.remove(&key));
            }
        }
        if round % 3 == 2 {
            for key in 1_000 * round..1_000 * round + 300 {
                *table.get_or_insert_with(&at(key), &(), || 0) += key;
                *model.entry(key).or_insert(0) += key;
            }
        }
        for context in &contexts {
            assert_eq!(table.get(context, &()), model.get(&context.key));
            *table.get_or_insert_with(context, &(), || 0) += round + 1;
            *model.entry(context.key).or_insert(0) += round + 1;
            assert_eq!(table.get_mut(context, &()).map(|value| *value), model.get(&context.key).copied());
        }
    }
    assert_eq!(table.len(), model.len());
    for (key, value) in &model {
        assert_eq!(table.get(&at(*key), &()), Some(value));
    }
}
