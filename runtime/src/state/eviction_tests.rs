//! Tables that evict whatever they may against plain maps: through cuts, folds that lag behind, scans and fetches that come
//! back late, and restores, a table says what one that keeps everything would say.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::cut::KeyedSection;
use super::keyed::backing::Table;
use super::map_table::MapTable;
use super::table::{KeyContext, StateTable};
use crate::key_group::KeyGroup;
use crate::ports::state::{StateNumber, Wanted};

const GROUPS: u16 = 2;
const STATE: StateNumber = StateNumber(0);

fn at(key: u64) -> KeyContext<u64> {
    KeyContext::new(key, GROUPS)
}

/// By group and encoded key.
type Stored = BTreeMap<(u16, Vec<u8>), Vec<u8>>;

fn apply(stored: &mut Stored, section: &KeyedSection) {
    for (key, value) in section.entries.iter() {
        let address = (section.group.0, key.to_vec());
        match value {
            Some(value) => stored.insert(address, value.to_vec()),
            None => stored.remove(&address),
        };
    }
}

/// What a test needs of a table with entries (key, sub key) -> number.
trait Tested: Table<u64> {
    fn make() -> Self;
    fn get(&self, key: u64, sub: u8) -> Option<u32>;
    fn put(&mut self, key: u64, sub: u8, value: u32);
    fn remove(&mut self, key: u64, sub: u8);
    /// Removes the even numbers of a key group.
    fn revise(&mut self, group: KeyGroup);
    /// How many of a key's entries there may be.
    const SUBS: u8;
}

impl Tested for StateTable<(), u64, u32> {
    const SUBS: u8 = 1;

    fn make() -> Self {
        Self::new(0..GROUPS)
    }

    fn get(&self, key: u64, _sub: u8) -> Option<u32> {
        self.get(&at(key), &()).copied()
    }

    fn put(&mut self, key: u64, _sub: u8, value: u32) {
        *self.get_or_insert_with(&at(key), &(), || 0) = value;
    }

    fn remove(&mut self, key: u64, _sub: u8) {
        self.remove(&at(key), &());
    }

    fn revise(&mut self, group: KeyGroup) {
        self.revise(group, 0..self.buckets(group), |value| value.is_multiple_of(2), |_| false);
    }
}

/// Values that own memory are accounted for and evicted in another way.
impl Tested for StateTable<(), u64, String> {
    const SUBS: u8 = 1;

    fn make() -> Self {
        Self::new(0..GROUPS)
    }

    fn get(&self, key: u64, _sub: u8) -> Option<u32> {
        self.get(&at(key), &()).map(|value| value.parse().expect("a number"))
    }

    fn put(&mut self, key: u64, _sub: u8, value: u32) {
        *self.get_or_insert_with(&at(key), &(), String::new) = value.to_string();
    }

    fn remove(&mut self, key: u64, _sub: u8) {
        self.remove(&at(key), &());
    }

    fn revise(&mut self, group: KeyGroup) {
        let is_even = |value: &String| value.parse::<u32>().expect("a number").is_multiple_of(2);
        self.revise(group, 0..self.buckets(group), is_even, |_| false);
    }
}

impl Tested for MapTable<u64, u8, u32> {
    const SUBS: u8 = 3;

    fn make() -> Self {
        Self::new(0..GROUPS)
    }

    fn get(&self, key: u64, sub: u8) -> Option<u32> {
        self.get(&at(key), &sub).copied()
    }

    fn put(&mut self, key: u64, sub: u8, value: u32) {
        *self.get_or_insert_with(&at(key), sub, || 0) = value;
    }

    fn remove(&mut self, key: u64, sub: u8) {
        self.remove(&at(key), &sub);
    }

    fn revise(&mut self, group: KeyGroup) {
        self.revise_buckets(group, 0..self.buckets(group), |value| value.is_multiple_of(2), |_| false);
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Put(u64, u8, u32),
    Remove(u64, u8),
    Revise(u16),
    /// Fetches a key, and looks at it.
    Use(u64),
    Freeze,
    Encode(u16),
    /// The local store takes in the oldest cuts it has not got, this many.
    Fold(usize),
    Remember,
    Evict(u16),
    /// Reads a key group.
    BeginScan(u16),
    EndScan,
    /// Goes back to the newest cut that is whole; so many of the cuts are in the local store then.
    Restore(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let key = || 0..10u64;
    prop_oneof![
        6 => (key(), 0..3u8, 0..9u32).prop_map(|(key, sub, value)| Step::Put(key, sub, value)),
        4 => (key(), 0..3u8).prop_map(|(key, sub)| Step::Remove(key, sub)),
        1 => (0..GROUPS).prop_map(Step::Revise),
        3 => key().prop_map(Step::Use),
        2 => Just(Step::Freeze),
        4 => (0..GROUPS).prop_map(Step::Encode),
        3 => (1..3usize).prop_map(Step::Fold),
        1 => Just(Step::Remember),
        5 => (0..GROUPS).prop_map(Step::Evict),
        2 => (0..GROUPS).prop_map(Step::BeginScan),
        2 => Just(Step::EndScan),
        1 => (0..4usize).prop_map(Step::Restore),
    ]
}

type Content = BTreeMap<(u64, u8), u32>;

/// A table with what surrounds it.
struct Rig<T> {
    table: T,
    model: Content,
    /// What was in the model at each freeze since the restore.
    frozen: Vec<Content>,
    /// Sections of each freeze, with the groups that are still to be encoded.
    cuts: Vec<(Vec<KeyedSection>, Vec<u16>)>,
    local: Stored,
    /// Cuts in `local`.
    folded: usize,
    scan: Option<(u16, Stored)>,
    evicted: usize,
}

impl<T: Tested> Rig<T> {
    fn new() -> Self {
        Self {
            table: T::make(),
            model: Content::new(),
            frozen: Vec::new(),
            cuts: Vec::new(),
            local: Stored::new(),
            folded: 0,
            scan: None,
            evicted: 0,
        }
    }

    fn fetch(&mut self, key: u64) {
        let mut wanted = Wanted::default();
        self.table.missing(STATE, &at(key), &mut wanted);
        let addresses = wanted.entries.into_iter().chain(wanted.prefixes);
        for address in addresses {
            let found = self
                .local
                .iter()
                .filter(|((group, stored), _)| *group == address.group.0 && stored.starts_with(&address.key));
            for ((group, stored), value) in found {
                self.table.load(KeyGroup(*group), stored, value).expect("of the table's types");
            }
        }
    }

    fn encode(&mut self, group: u16) {
        let Some((sections, missing)) = self.cuts.last_mut() else { return };
        if missing.contains(&group) {
            missing.retain(|other| *other != group);
            sections.extend(self.table.encode_group(STATE, KeyGroup(group)).expect("numbers serialise"));
        }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Put(key, sub, value) => {
                self.fetch(key);
                self.table.put(key, sub % T::SUBS, value);
                self.model.insert((key, sub % T::SUBS), value);
            }
            Step::Remove(key, sub) => {
                self.fetch(key);
                self.table.remove(key, sub % T::SUBS);
                self.model.remove(&(key, sub % T::SUBS));
            }
            Step::Revise(group) => {
                // Only what is in memory is looked at: the model follows.
                let in_memory = |table: &T, (key, sub): (u64, u8)| table.get(key, sub).is_some();
                let Self { table, model, .. } = self;
                model.retain(|place, value| {
                    at(place.0).group.0 != group || *value % 2 == 1 || !in_memory(table, *place)
                });
                table.revise(KeyGroup(group));
            }
            Step::Use(key) => {
                self.fetch(key);
                for sub in 0..T::SUBS {
                    assert_eq!(self.table.get(key, sub), self.model.get(&(key, sub)).copied(), "key {key}, {sub}");
                }
            }
            Step::Freeze => {
                (0..GROUPS).for_each(|group| self.encode(group));
                self.table.freeze();
                self.frozen.push(self.model.clone());
                self.cuts.push((Vec::new(), (0..GROUPS).collect()));
            }
            Step::Encode(group) => self.encode(group),
            Step::Fold(count) => self.fold(count),
            Step::Remember => self.table.remember(),
            Step::Evict(group) => {
                if self.scan.is_none() && self.folded > 0 {
                    let durable = u32::try_from(self.folded).expect("few cuts");
                    self.evicted += usize::from(self.table.evict(KeyGroup(group), durable) > 0);
                }
            }
            Step::BeginScan(group) => {
                if self.scan.is_none() && self.folded > 0 && !self.table.is_resident(KeyGroup(group)) {
                    self.scan = Some((group, self.local.clone()));
                }
            }
            Step::EndScan => {
                let Some((group, stored)) = self.scan.take() else { return };
                for ((_, key), value) in stored.iter().filter(|((other, _), _)| *other == group) {
                    self.table.load(KeyGroup(group), key, value).expect("of the table's types");
                }
                self.table.finish_restore(KeyGroup(group));
            }
            Step::Restore(folded) => self.restore(folded),
        }
    }

    fn fold(&mut self, count: usize) {
        let whole = self.cuts.iter().take_while(|(_, missing)| missing.is_empty()).count();
        let until = whole.min(self.folded + count);
        for (sections, _) in &self.cuts[self.folded..until] {
            sections.iter().for_each(|section| apply(&mut self.local, section));
        }
        if until > self.folded {
            self.folded = until;
            if self.scan.is_none() {
                self.table.forget(u32::try_from(until).expect("few cuts"));
            }
        }
    }

    fn restore(&mut self, folded: usize) {
        let whole = self.cuts.iter().take_while(|(_, missing)| missing.is_empty()).count();
        if whole == 0 {
            return;
        }
        self.scan = None;
        self.cuts.truncate(whole);
        self.fold(folded.max(1));
        while self.folded < self.cuts.len() {
            self.fold(1);
        }
        self.model = self.frozen[self.folded - 1].clone();
        self.table = T::make();
        self.table.begin_restore();
        self.frozen.clear();
        self.cuts.clear();
        self.folded = 0;
    }

    fn check_all(&mut self) {
        for key in 0..10 {
            self.run(Step::Use(key));
        }
    }
}

fn follows_the_model<T: Tested>(steps: Vec<Step>) -> usize {
    let mut rig = Rig::<T>::new();
    for step in steps {
        rig.run(step);
    }
    rig.check_all();
    // What a restart would read is complete as well.
    rig.run(Step::Freeze);
    (0..GROUPS).for_each(|group| rig.encode(group));
    rig.run(Step::Restore(1));
    rig.check_all();
    rig.evicted
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_table_that_evicts_says_what_one_that_keeps_everything_says(steps in prop::collection::vec(step(), 1..120)) {
        follows_the_model::<StateTable<(), u64, u32>>(steps);
    }

    #[test]
    fn so_does_one_of_values_that_own_memory(steps in prop::collection::vec(step(), 1..120)) {
        follows_the_model::<StateTable<(), u64, String>>(steps);
    }

    #[test]
    fn so_does_a_map_table(steps in prop::collection::vec(step(), 1..120)) {
        follows_the_model::<MapTable<u64, u8, u32>>(steps);
    }
}

#[test]
fn what_the_store_has_and_nobody_uses_leaves_and_the_table_shrinks() {
    let mut rig = Rig::<StateTable<(), u64, u32>>::new();
    rig.table.remember();
    (0..1_000).for_each(|key| rig.table.put(key, 0, 1));
    let full = rig.table.memory();
    assert_eq!(rig.table.evict(KeyGroup(0), 0), 0, "nothing is durable");
    rig.run(Step::Freeze);
    rig.run(Step::Freeze);
    rig.run(Step::Fold(1));
    (0..100).for_each(|key| rig.table.put(key, 0, 2));
    let freed: usize = (0..GROUPS).map(|group| rig.table.evict(KeyGroup(group), 1)).sum();
    assert!(freed * 5 > full * 2, "{freed} of {full}");
    assert_eq!(rig.table.memory(), full - freed);
    assert!(
        (0..100).all(|key| Tested::get(&rig.table, key, 0) == Some(2)),
        "what the store has an older version of stays"
    );
    assert!(!rig.table.is_resident(KeyGroup(0)));
}
