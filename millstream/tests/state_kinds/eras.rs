//! Three versions of a program whose states have other types in each.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::*;

/// The types that one version of the program has. Numbers and map keys mean the same in all.
pub trait Era: Clone + Send + 'static {
    type Num: Serialize + DeserializeOwned + Clone + Send + 'static;
    type MapKey: Key;

    fn num(n: u64) -> Self::Num;
    fn n(num: &Self::Num) -> u64;
    fn map_key(n: u64) -> Self::MapKey;
    fn of_map_key(key: &Self::MapKey) -> u64;
    fn declare() -> States<Self>;
    fn items(union: bool) -> OperatorListState<Self::Num>;
    fn rules() -> BroadcastState<Vec<Self::Num>>;
}

/// Every kind of keyed state.
pub struct States<E: Era> {
    pub value: ValueState<u64, E::Num>,
    pub list: ListState<u64, E::Num>,
    pub map: MapState<u64, E::MapKey, E::Num>,
    pub greatest: ReducingState<u64, E::Num>,
    pub mean: AggregatingState<u64, MeanOf<E>>,
}

impl<E: Era> Clone for States<E> {
    fn clone(&self) -> Self {
        let Self { value, list, map, greatest, mean } = self;
        let (value, list, map) = (value.clone(), list.clone(), map.clone());
        Self { value, list, map, greatest: greatest.clone(), mean: mean.clone() }
    }
}

#[derive(Clone)]
pub struct MeanOf<E>(std::marker::PhantomData<fn(E)>);

impl<E: Era> AggregateFunction for MeanOf<E> {
    type In = u64;
    type Accumulator = (E::Num, E::Num);
    type Out = u64;

    fn create(&self) -> Self::Accumulator {
        (E::num(0), E::num(0))
    }

    fn add(&self, (count, sum): &mut Self::Accumulator, value: u64) {
        (*count, *sum) = (E::num(E::n(count) + 1), E::num(E::n(sum) + value));
    }

    fn result(&self, (count, sum): &Self::Accumulator) -> u64 {
        E::n(sum) / E::n(count)
    }
}

pub fn greatest<E: Era>() -> ReducingState<u64, E::Num> {
    ReducingState::new("greatest", |greatest: &mut E::Num, num| {
        if E::n(&num) > E::n(greatest) {
            *greatest = num;
        }
    })
}

pub fn mean<E: Era>() -> AggregatingState<u64, MeanOf<E>> {
    AggregatingState::new("mean", MeanOf(std::marker::PhantomData))
}

pub fn operator_list<T>(union: bool) -> OperatorListState<T> {
    if union { OperatorListState::union("items") } else { OperatorListState::split("items") }
}

/// Numbers of 32 bits.
#[derive(Clone)]
pub struct First;

impl Era for First {
    type Num = u32;
    type MapKey = u16;

    fn num(n: u64) -> u32 {
        u32::try_from(n).expect("a number")
    }
    fn n(num: &u32) -> u64 {
        (*num).into()
    }
    fn map_key(n: u64) -> u16 {
        u16::try_from(n).expect("a number")
    }
    fn of_map_key(key: &u16) -> u64 {
        (*key).into()
    }
    fn declare() -> States<Self> {
        States {
            value: ValueState::new("value"),
            list: ListState::new("list"),
            map: MapState::new("map"),
            greatest: greatest::<Self>(),
            mean: mean(),
        }
    }
    fn items(union: bool) -> OperatorListState<u32> {
        operator_list(union)
    }
    fn rules() -> BroadcastState<Vec<u32>> {
        BroadcastState::new("rules", Vec::new())
    }
}

/// A number as text; map keys sort otherwise.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Text {
    pub text: String,
}

pub fn text(n: u32) -> Text {
    Text { text: n.to_string() }
}

pub fn second_key(key: u16) -> String {
    format!("k{key}")
}

#[derive(Clone)]
pub struct Second;

impl Era for Second {
    type Num = Text;
    type MapKey = String;

    fn num(n: u64) -> Text {
        Text { text: n.to_string() }
    }
    fn n(num: &Text) -> u64 {
        num.text.parse().expect("a number")
    }
    fn map_key(n: u64) -> String {
        format!("k{n}")
    }
    fn of_map_key(key: &String) -> u64 {
        key[1..].parse().expect("a number")
    }
    fn declare() -> States<Self> {
        let pair = |(a, b): (u32, u32)| (text(a), text(b));
        States {
            value: ValueState::new("value").with_version(2).migrate_from(1, text),
            list: ListState::new("list").with_version(2).migrate_from(1, text),
            map: MapState::new("map")
                .with_version(2)
                .migrate_from(1, |key: u16, value: u32| (second_key(key), text(value))),
            greatest: greatest::<Self>().with_version(2).migrate_from(1, text),
            mean: mean().with_version(2).migrate_from(1, pair),
        }
    }
    fn items(union: bool) -> OperatorListState<Text> {
        operator_list(union).with_version(2).migrate_from(1, text)
    }
    fn rules() -> BroadcastState<Vec<Text>> {
        let texts = |old: Vec<u32>| old.into_iter().map(text).collect();
        BroadcastState::new("rules", Vec::new()).with_version(2).migrate_from(1, texts)
    }
}

/// A number with how it was come by.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Traced {
    pub migrated: bool,
    pub n: u64,
}

pub fn traced(text: Text) -> Traced {
    Traced { migrated: true, n: text.text.parse().expect("a number") }
}

/// Another order again, and the state "list" is not migrated in this step: its type has stayed.
#[derive(Clone)]
pub struct Third;

impl Era for Third {
    type Num = Traced;
    type MapKey = (bool, u64);

    fn num(n: u64) -> Traced {
        Traced { migrated: false, n }
    }
    fn n(num: &Traced) -> u64 {
        num.n
    }
    fn map_key(n: u64) -> (bool, u64) {
        (n.is_multiple_of(2), n)
    }
    fn of_map_key((_, n): &(bool, u64)) -> u64 {
        *n
    }
    fn declare() -> States<Self> {
        let from_first = |old: u32| traced(text(old));
        let key = |key: &str| Self::map_key(Second::of_map_key(&key.to_owned()));
        let pair = |(a, b): (Text, Text)| (traced(a), traced(b));
        States {
            value: ValueState::new("value").with_version(3).migrate_from(2, traced).migrate_from(1, from_first),
            list: ListState::new("list").with_version(3).migrate_from(2, traced).migrate_from(1, from_first),
            map: MapState::new("map")
                .with_version(3)
                .migrate_from(2, move |old: String, value: Text| (key(&old), traced(value)))
                .migrate_from(1, move |old: u16, value: u32| (key(&second_key(old)), from_first(value))),
            greatest: greatest::<Self>().with_version(3).migrate_from(2, traced).migrate_from(1, from_first),
            mean: mean()
                .with_version(3)
                .migrate_from(2, pair)
                .migrate_from(1, move |(a, b): (u32, u32)| pair((text(a), text(b)))),
        }
    }
    fn items(union: bool) -> OperatorListState<Traced> {
        operator_list(union).with_version(3).migrate_from(2, traced).migrate_from(1, |old: u32| traced(text(old)))
    }
    fn rules() -> BroadcastState<Vec<Traced>> {
        let numbers = |old: Vec<Text>| old.into_iter().map(traced).collect();
        BroadcastState::new("rules", Vec::new()).with_version(3).migrate_from(2, numbers)
    }
}
