//! What is converted and what refused, and what becomes of entries of every kind.
#![allow(clippy::unwrap_used)]

use serde::{Deserialize, Serialize};

use super::*;
use crate::ports::state::StateNumber;
use crate::state::cut::Entries;
use crate::state::keyed::ttl::StateTtl;
use crate::state::keyed::{
    AggregateFunction, AggregatingState, KeyedState, ListState, MapState, ReducingState, ValueState,
};
use crate::time::milliseconds;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Profile {
    name: String,
    visits: u64,
}

fn stored(name: &str, version: u32) -> StateDeclaration {
    StateDeclaration { number: StateNumber(3), name: name.to_owned(), version }
}

fn schema(state: &mut dyn KeyedState<u64>) -> StateSchema {
    state.backing().schema()
}

fn ttl(time: TtlTime) -> StateTtl {
    StateTtl::new(milliseconds(100)).with_time(time)
}

/// What becomes of one entry at time 77.
fn converted<V: Serialize>(conversion: &Conversion, key: &[u8], value: &V) -> Result<(Vec<u8>, Vec<u8>), PortError> {
    let mut out = Entries::default();
    conversion.convert(key, &rmp_serde::to_vec(value).unwrap(), 77, &mut out)?;
    let (key, value) = out.iter().next().unwrap();
    Ok((key.to_vec(), value.unwrap().to_vec()))
}

fn only(schema: StateSchema, stored: StateDeclaration) -> Conversion {
    let mut conversions = conversions(&[schema], &[stored]).unwrap();
    assert_eq!(conversions.len(), 1);
    conversions.remove(0)
}

fn value<V: serde::de::DeserializeOwned>(converted: Result<(Vec<u8>, Vec<u8>), PortError>) -> V {
    rmp_serde::from_slice(&converted.unwrap().1).unwrap()
}

fn profile() -> ValueState<u64, Profile> {
    ValueState::new("profile")
        .with_version(3)
        .migrate_from(1, |name: String| Profile { name, visits: 0 })
        .migrate_from(2, |(name, visits): (String, u32)| Profile { name, visits: visits.into() })
}

#[test]
fn what_is_stored_as_declared_or_not_declared_at_all_is_left_alone() {
    let declared = [schema(&mut profile()), schema(&mut ValueState::<u64, u8>::new("other"))];
    let as_declared = [stored("profile", 3), stored("other", 1), stored("gone", 7)];
    assert!(conversions(&declared, &as_declared).unwrap().is_empty());
    assert!(conversions(&declared, &[]).unwrap().is_empty());
}

#[test]
fn each_older_version_is_read_by_its_own_migration() {
    let name = "Ada".to_owned();
    let conversion = only(schema(&mut profile()), stored("profile", 1));
    assert_eq!(conversion.to(), &StateDeclaration { number: StateNumber(0), ..stored("profile", 3) });
    assert_eq!(value::<Profile>(converted(&conversion, b"k", &name)), Profile { name: name.clone(), visits: 0 });
    let conversion = only(schema(&mut profile()), stored("profile", 2));
    assert_eq!(value::<Profile>(converted(&conversion, b"k", &(&name, 5u32))), Profile { name, visits: 5 });
    // Segments may number a state differently.
    let twice = [stored("profile", 2), StateDeclaration { number: StateNumber(0), ..stored("profile", 2) }];
    assert_eq!(conversions(&[schema(&mut profile())], &twice).unwrap().len(), 1);
}

#[test]
fn versions_without_a_migration_newer_ones_and_other_types_are_refused_with_what_to_do() {
    let refused =
        |schema: StateSchema, stored: &[StateDeclaration]| conversions(&[schema], stored).err().unwrap().message;
    let other = || schema(&mut ValueState::<u64, u8>::new("other").with_version(2));
    let message = refused(other(), &[stored("other", 1)]);
    assert!(message.contains("stored in version 1") && message.contains("add `migrate_from(1, ..)`"), "{message}");
    let message = refused(other(), &[stored("other", 3)]);
    assert!(message.contains("stored in version 3") && message.contains("restore it with a program"), "{message}");
    let conversion = only(schema(&mut profile()), stored("profile", 1));
    let message = converted(&conversion, b"k", &(1, 2, 3)).unwrap_err().message;
    assert!(
        message.contains("state 'profile', stored in version 1: a stored value is not a alloc::string::String"),
        "{message}"
    );
    let message = refused(schema(&mut profile()), &[stored("profile", 1), stored("profile", 2)]);
    assert!(message.contains("several forms"), "{message}");
    let with_ttl = || schema(&mut profile().with_ttl(ttl(TtlTime::ProcessingTime)));
    let message = refused(with_ttl(), &[stored("profile", 3), stored("profile+ttl", 3)]);
    assert!(message.contains("several forms"), "{message}");
    let both = [schema(&mut profile()), with_ttl()];
    assert!(conversions(&both, &[stored("profile", 3), stored("profile+ttl", 3)]).unwrap().is_empty());
}

#[test]
#[should_panic(expected = "cannot migrate from version Some(2)")]
fn a_migration_comes_from_an_older_version() {
    drop(ValueState::<u64, u8>::new("state").with_version(2).migrate_from(2, |old: u8| old));
}

#[test]
fn a_time_to_live_is_given_taken_kept_or_begun_anew_by_another_clock() {
    let with = |time| schema(&mut profile().with_ttl(ttl(time)));
    let of = |visits| Profile { name: "Ada".to_owned(), visits };
    let given = only(with(TtlTime::ProcessingTime), stored("profile", 3));
    assert_eq!(given.to().name, "profile+ttl");
    assert_eq!(value::<(i64, Profile)>(converted(&given, b"k", &of(1))), (77, of(1)));
    let taken = only(schema(&mut profile()), stored("profile+ttl", 3));
    assert_eq!(value::<Profile>(converted(&taken, b"k", &(12, of(1)))), of(1));
    let kept = only(with(TtlTime::ProcessingTime), stored("profile+ttl", 2));
    assert_eq!(value::<(i64, Profile)>(converted(&kept, b"k", &(-300_000, ("Ada", 4)))), (-300_000, of(4)));
    let both = only(with(TtlTime::EventTime), stored("profile", 1));
    assert_eq!(value::<(i64, Profile)>(converted(&both, b"k", &"Ada")), (77, of(0)));
    let other_clock = only(with(TtlTime::EventTime), stored("profile+ttl", 3));
    assert_eq!(value::<(i64, Profile)>(converted(&other_clock, b"k", &(12, of(1)))), (77, of(1)));
    assert_eq!((given.last_use(5, 6), other_clock.last_use(5, 6)), (5, 6));
}

#[test]
fn lists_are_converted_item_by_item_also_long_ones() {
    let list =
        || ListState::<u64, (u64, String)>::new("list").with_version(2).migrate_from(1, |n: u64| (n, n.to_string()));
    for count in [0, 1, 15, 16, 70_000] {
        let old: Vec<u64> = (0..count).collect();
        let new: Vec<_> = old.iter().map(|n| (*n, n.to_string())).collect();
        let plain = only(schema(&mut list()), stored("list", 1));
        assert_eq!(value::<Vec<(u64, String)>>(converted(&plain, b"k", &old)), new);
        let given = only(schema(&mut list().with_ttl(ttl(TtlTime::ProcessingTime))), stored("list", 1));
        let timed: Vec<_> = new.iter().map(|item| (77i64, item.clone())).collect();
        assert_eq!(value::<Vec<(i64, (u64, String))>>(converted(&given, b"k", &old)), timed);
        let taken = only(schema(&mut list()), stored("list+ttl", 2));
        assert_eq!(value::<Vec<(u64, String)>>(converted(&taken, b"k", &timed)), new);
    }
    let conversion = only(schema(&mut list()), stored("list", 1));
    assert!(converted(&conversion, b"k", &5).unwrap_err().message.contains("not of the kind"));
}

#[test]
fn maps_are_converted_with_their_map_keys() {
    let mut map = MapState::<u64, String, u64>::new("map")
        .with_version(2)
        .migrate_from(1, |key: u16, value: u8| (format!("k{key}"), value.into()));
    let conversion = only(schema(&mut map), stored("map", 1));
    let (mut old, mut new) = (Vec::new(), Vec::new());
    9u64.encode_key(&mut old);
    9u64.encode_key(&mut new);
    300u16.encode_key(&mut old);
    "k300".to_owned().encode_key(&mut new);
    let (key, value) = converted(&conversion, &old, &7u8).unwrap();
    assert_eq!((key, rmp_serde::from_slice::<u64>(&value).unwrap()), (new, 7));
    let message = converted(&conversion, &old[..9], &7u8).unwrap_err().message;
    assert!(message.contains("the key type"), "{message}");
}

/// Counts.
#[derive(Clone)]
struct Count;

impl AggregateFunction for Count {
    type In = ();
    type Accumulator = (u64, u64);
    type Out = u64;

    fn create(&self) -> (u64, u64) {
        (0, 0)
    }

    fn add(&self, accumulator: &mut (u64, u64), (): ()) {
        accumulator.0 += 1;
    }

    fn result(&self, accumulator: &(u64, u64)) -> u64 {
        accumulator.0
    }
}

#[test]
fn what_was_folded_together_is_converted_as_a_value() {
    let sum = ReducingState::<u64, u64>::new("sum", |sum, n| *sum += n).with_version(2);
    let conversion = only(schema(&mut sum.migrate_from(1, |old: i8| old.unsigned_abs().into())), stored("sum", 1));
    assert_eq!(value::<u64>(converted(&conversion, b"k", &-5i8)), 5);
    let mut count =
        AggregatingState::<u64, Count>::new("count", Count).with_version(2).migrate_from(1, |n: u64| (n, 1));
    let conversion = only(schema(&mut count), stored("count", 1));
    assert_eq!(value::<(u64, u64)>(converted(&conversion, b"k", &6u64)), (6, 1));
}
