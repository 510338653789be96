//! Which changes of a value's type need no migration, and what is said of those that do.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::*;
use crate::harness::{Collected, Harness, Snapshot, TestInput};
use crate::prelude::*;

/// Keeps the newest value, and tells the one before.
#[derive(Clone)]
struct Newest<V> {
    value: ValueState<u32, V>,
}

impl<V: Data> KeyedProcessFunction for Newest<V> {
    type Key = u32;
    type In = V;
    type Out = Option<V>;

    fn states(&mut self, visit: StateVisitor<'_, u32>) {
        visit(&mut self.value);
    }

    fn process(&mut self, value: V, cx: &mut KeyedContext<'_, u32, Option<V>>) -> Result<(), PortError> {
        let before = self.value.clear(cx);
        self.value.set(cx, value);
        cx.emit(before);
        Ok(())
    }
}

fn state<V: Data>() -> ValueState<u32, V> {
    ValueState::new("value")
}

/// What was kept before this value, and the state with it.
fn next<V: Data>(
    state: ValueState<u32, V>,
    value: V,
    snapshot: Option<&Snapshot>,
) -> Result<(Option<V>, Snapshot), String> {
    let env = environment(1);
    let (input, values) = TestInput::<V>::new(&env, "values");
    let output = Collected::from(&values.key_by(|_| 7).process(Newest { value: state }).uid("newest"));
    let harness = match snapshot {
        None => Harness::new(&env),
        Some(snapshot) => Harness::restore(&env, HarnessOptions::default(), snapshot),
    };
    let mut harness = harness.map_err(|error| error.to_string())?;
    input.push(value);
    harness.run().map_err(|error| error.to_string())?;
    let snapshot = harness.checkpoint().map_err(|error| error.to_string())?;
    Ok((output.take().pop().unwrap(), snapshot))
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Level {
    Low,
    High(u32),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Profile {
    name: String,
    visits: u32,
    level: Level,
}

fn ada() -> Profile {
    Profile { name: "Ada".to_owned(), visits: 3, level: Level::High(2) }
}

fn stored() -> Snapshot {
    next(state(), ada(), None).unwrap().1
}

/// Reads what was stored as a [`Profile`] as something else.
fn read_as<V: Data>(value: V) -> Result<V, String> {
    next(state(), value, Some(&stored())).map(|(before, _)| before.unwrap())
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum MoreLevels {
    Low,
    High(u32),
    Top { since: u64 },
}

/// Fields have other names and wider types, there is one more variant, and a field at the end with a default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Customer {
    full_name: String,
    logins: u64,
    level: MoreLevels,
    #[serde(default)]
    vip: bool,
}

#[test]
fn a_new_last_field_with_a_default_other_names_wider_numbers_and_more_variants_need_no_migration() {
    let customer = |level| Customer { full_name: "Ada".to_owned(), logins: 3, level, vip: false };
    assert_eq!(read_as(customer(MoreLevels::Top { since: 1 })).unwrap(), customer(MoreLevels::High(2)));
    let optional = read_as::<(String, u32, Level)>(("x".to_owned(), 1, Level::Low)).unwrap();
    assert_eq!(optional, ("Ada".to_owned(), 3, Level::High(2)), "fields have no names where they are stored");
    assert_eq!(next(state::<Option<Profile>>(), None, Some(&stored())).unwrap().0, Some(Some(ada())));
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct WithoutDefault {
    name: String,
    visits: u32,
    level: Level,
    vip: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct FieldInTheMiddle {
    name: String,
    #[serde(default)]
    vip: bool,
    visits: u32,
    level: Level,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct FieldRemoved {
    name: String,
    visits: u32,
}

fn refused<V: Data + std::fmt::Debug>(value: V) {
    let error = read_as(value).unwrap_err();
    let says = error.contains("state 'value': a stored value is not a ") && error.contains("without a migration");
    assert!(says, "{error}");
}

#[test]
fn other_changes_are_refused_when_the_first_value_is_read() {
    let (name, visits, level) = ("Ada".to_owned(), 3, Level::Low);
    refused(WithoutDefault { name: name.clone(), visits, level: level.clone(), vip: true });
    refused(FieldInTheMiddle { name: name.clone(), vip: true, visits, level });
    refused(FieldRemoved { name: name.clone(), visits });
    refused(name);
    refused(5u64);
    let (_, large) = next(state(), 70_000u32, None).unwrap();
    let error = next(state(), 5u16, Some(&large)).err().unwrap();
    assert!(error.contains("a stored value is not a u16"), "{error}");
}

fn migrated<V: Data + DeserializeOwned>(upgrade: impl Fn(Profile) -> V + Send + Sync + 'static, value: V) -> V {
    let state = state::<V>().with_version(2).migrate_from(1, upgrade);
    let (before, snapshot) = next(state, value.clone(), Some(&stored())).unwrap();
    let unmigrated = next(self::state::<V>().with_version(2), value, Some(&snapshot)).unwrap();
    assert!(unmigrated.0.is_some(), "all of it is in the new version");
    before.unwrap()
}

#[test]
fn with_a_migration_any_change_is_possible() {
    let level = ada().level;
    let removed = migrated(
        |Profile { name, visits, .. }| FieldRemoved { name, visits },
        FieldRemoved { name: String::new(), visits: 0 },
    );
    assert_eq!(removed, FieldRemoved { name: "Ada".to_owned(), visits: 3 });
    let middle = FieldInTheMiddle { name: "Ada".to_owned(), vip: true, visits: 3, level };
    let upgrade = |Profile { name, visits, level }| FieldInTheMiddle { name, vip: visits > 2, visits, level };
    assert_eq!(migrated(upgrade, middle.clone()), middle);
    assert_eq!(migrated(|old| old.name, String::new()), "Ada");
    assert_eq!(migrated(|old| old.visits as u8, 0u8), 3, "narrower");
}

#[test]
fn a_migration_from_another_type_than_the_stored_one_is_refused_and_says_of_which_state() {
    let state = state::<String>().with_version(2).migrate_from(1, |old: u64| old.to_string());
    let error = next(state, String::new(), Some(&stored())).err().unwrap();
    assert!(error.contains("state 'value', stored in version 1: a stored value is not a u64"), "{error}");
}
