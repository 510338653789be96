//! State of an operator as a whole, not of a key: broadcast state, and lists that are dealt out on a rescale.

use std::ops::Range;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::cut::{OperatorState, Redistribution};
use super::versions::Versions;
use crate::ports::PortError;

/// What the runtime does with an operator state, without its type.
pub trait OperatorStateSlot: Send {
    /// The name within the operator.
    fn name(&self) -> &str;

    /// The whole state, encoded.
    ///
    /// # Errors
    /// When an item refuses to be serialised.
    fn snapshot(&self) -> Result<OperatorState, PortError>;

    /// Takes over restored items, already dealt out.
    ///
    /// # Errors
    /// When an item is not of this state's type.
    fn restore(&mut self, state: &OperatorState) -> Result<(), PortError>;
}

/// Encodes one item of operator state.
///
/// # Errors
/// When it refuses to be serialised.
pub fn encode_item<T: Serialize>(name: &str, item: &T) -> Result<Vec<u8>, PortError> {
    rmp_serde::to_vec(item).map_err(|error| PortError::fix_input(format!("state '{name}' cannot be stored: {error}")))
}

/// Decodes one item of operator state.
///
/// # Errors
/// When the bytes are not of this type.
pub fn decode_item<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, PortError> {
    rmp_serde::from_slice(bytes).map_err(|error| {
        PortError::fix_input(format!("state '{name}' is stored as another type than the program has: {error}"))
    })
}

/// Reads an item of an older version: name of the state, bytes.
type ReadItem<T> = dyn Fn(&str, &[u8]) -> Result<T, PortError> + Send + Sync;

fn read_and<Old: DeserializeOwned, T>(upgrade: impl Fn(Old) -> T + Send + Sync + 'static) -> Arc<ReadItem<T>> {
    Arc::new(move |name, bytes| decode_item(name, bytes).map(&upgrade))
}

/// Reads restored items, whatever version they are of.
fn read_items<T: DeserializeOwned>(
    versions: &Versions<ReadItem<T>>,
    state: &OperatorState,
) -> Result<Vec<T>, PortError> {
    let OperatorState { name, version, items, .. } = state;
    match versions.step_from(name, *version)? {
        Some(step) => items.iter().map(|item| step(name, item)).collect(),
        None => items.iter().map(|item| decode_item(name, item)).collect(),
    }
}

/// A value that every subtask holds alike, changed by broadcast records only.
#[derive(Clone, Debug)]
pub struct BroadcastState<V> {
    name: String,
    versions: Versions<ReadItem<V>>,
    /// The value.
    pub value: V,
}

impl<V> BroadcastState<V> {
    /// Declares the state with the value it has at first; it must be visited in `operator_states`.
    #[must_use]
    pub fn new(name: impl Into<String>, value: V) -> Self {
        Self { name: name.into(), versions: Versions::only(1), value }
    }

    /// Sets the version of the value's type.
    #[must_use]
    pub fn with_version(mut self, version: u32) -> Self {
        self.versions.set(&self.name, version);
        self
    }

    /// Tells what becomes of the value stored in an older version when the state is restored.
    ///
    /// # Panics
    /// When the version is not an older one than that of the state, or has a migration already.
    #[must_use]
    pub fn migrate_from<Old: DeserializeOwned>(
        mut self,
        version: u32,
        upgrade: impl Fn(Old) -> V + Send + Sync + 'static,
    ) -> Self {
        self.versions.add(&self.name, version, read_and(upgrade));
        self
    }
}

impl<V: Serialize + DeserializeOwned + Send> OperatorStateSlot for BroadcastState<V> {
    fn name(&self) -> &str {
        &self.name
    }

    fn snapshot(&self) -> Result<OperatorState, PortError> {
        let (version, items) = (self.versions.present(), vec![encode_item(&self.name, &self.value)?]);
        Ok(OperatorState { name: self.name.clone(), version, redistribution: Redistribution::Broadcast, items })
    }

    fn restore(&mut self, state: &OperatorState) -> Result<(), PortError> {
        if let Some(value) = read_items(&self.versions, state)?.into_iter().next() {
            self.value = value;
        }
        Ok(())
    }
}

/// A list of items dealt out item by item when the parallelism changes.
#[derive(Clone, Debug)]
pub struct OperatorListState<T> {
    name: String,
    versions: Versions<ReadItem<T>>,
    redistribution: Redistribution,
    /// The items of this subtask.
    pub items: Vec<T>,
}

impl<T> OperatorListState<T> {
    /// Declares a list whose items are dealt out evenly.
    #[must_use]
    pub fn split(name: impl Into<String>) -> Self {
        Self::new(name, Redistribution::Split)
    }

    /// Declares a list of which every subtask gets all items.
    #[must_use]
    pub fn union(name: impl Into<String>) -> Self {
        Self::new(name, Redistribution::Union)
    }

    fn new(name: impl Into<String>, redistribution: Redistribution) -> Self {
        Self { name: name.into(), versions: Versions::only(1), redistribution, items: Vec::new() }
    }

    /// Sets the version of the items' type.
    #[must_use]
    pub fn with_version(mut self, version: u32) -> Self {
        self.versions.set(&self.name, version);
        self
    }

    /// Tells what becomes of each item stored in an older version when the state is restored.
    ///
    /// # Panics
    /// When the version is not an older one than that of the state, or has a migration already.
    #[must_use]
    pub fn migrate_from<Old: DeserializeOwned>(
        mut self,
        version: u32,
        upgrade: impl Fn(Old) -> T + Send + Sync + 'static,
    ) -> Self {
        self.versions.add(&self.name, version, read_and(upgrade));
        self
    }
}

impl<T: Serialize + DeserializeOwned + Send> OperatorStateSlot for OperatorListState<T> {
    fn name(&self) -> &str {
        &self.name
    }

    fn snapshot(&self) -> Result<OperatorState, PortError> {
        let items = self.items.iter().map(|item| encode_item(&self.name, item)).collect::<Result<_, _>>()?;
        let Self { name, versions, redistribution, .. } = self;
        Ok(OperatorState { name: name.clone(), version: versions.present(), redistribution: *redistribution, items })
    }

    fn restore(&mut self, state: &OperatorState) -> Result<(), PortError> {
        self.items = read_items(&self.versions, state)?;
        Ok(())
    }
}

/// The name under which a subtask gets its share of a state that all subtasks get whole.
#[must_use]
pub fn share_of(name: &str) -> String {
    format!("{name}/share")
}

/// What one of `parallelism` subtasks, which has these key groups, gets of the operator states that all old subtasks
/// stored, in their order. At the same parallelism everybody gets its own again: of a union too, beside the whole of it,
/// as its share. So a region that is restored alone takes nothing from those that go on.
#[must_use]
pub fn deal(stored: &[Vec<OperatorState>], subtask: u32, parallelism: u32, groups: &Range<u16>) -> Vec<OperatorState> {
    let mut dealt: Vec<OperatorState> = Vec::new();
    let mut counters: Vec<u64> = Vec::new();
    let mut shares: Vec<Vec<Vec<u8>>> = Vec::new();
    let is_rescaled = stored.len() != parallelism as usize;
    for (owner, state) in (0..).zip(stored).flat_map(|(owner, states)| states.iter().map(move |state| (owner, state))) {
        // One program writes one version; what an older one left would be told apart.
        let index = dealt
            .iter()
            .position(|known| known.name == state.name && known.version == state.version)
            .unwrap_or_else(|| {
                dealt.push(OperatorState { items: Vec::new(), ..state.clone() });
                counters.push(0);
                shares.push(Vec::new());
                dealt.len() - 1
            });
        match state.redistribution {
            Redistribution::Union => {
                for item in &state.items {
                    let turn = counters[index] % u64::from(parallelism);
                    counters[index] += 1;
                    if turn == u64::from(subtask) && is_rescaled || owner == subtask && !is_rescaled {
                        shares[index].push(item.clone());
                    }
                }
                dealt[index].items.extend(state.items.iter().cloned());
            }
            Redistribution::KeyGroup => {
                let mine = state.items.iter().filter(|item| {
                    let group = item.first_chunk().map(|group| u16::from_be_bytes(*group));
                    group.is_some_and(|group| groups.contains(&group))
                });
                dealt[index].items.extend(mine.cloned());
            }
            Redistribution::Broadcast => {
                if dealt[index].items.is_empty() {
                    dealt[index].items.clone_from(&state.items);
                }
            }
            Redistribution::Split if !is_rescaled => {
                if owner == subtask {
                    dealt[index].items.extend(state.items.iter().cloned());
                }
            }
            Redistribution::Split => {
                for item in &state.items {
                    if counters[index] % u64::from(parallelism) == u64::from(subtask) {
                        dealt[index].items.push(item.clone());
                    }
                    counters[index] += 1;
                }
            }
        }
    }
    let unions = dealt.iter().zip(shares).filter(|(state, _)| state.redistribution == Redistribution::Union);
    let share = |(state, items): (&OperatorState, _)| OperatorState {
        name: share_of(&state.name),
        version: state.version,
        redistribution: Redistribution::Split,
        items,
    };
    let shares: Vec<OperatorState> = unions.map(share).collect();
    dealt.extend(shares);
    dealt
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(redistribution: Redistribution, items: &[u8]) -> OperatorState {
        OperatorState {
            name: "s".into(),
            version: 1,
            redistribution,
            items: items.iter().map(|item| vec![*item]).collect(),
        }
    }

    #[test]
    fn every_item_is_dealt_as_its_kind_says() {
        for parallelism in 1..5 {
            let stored = [vec![state(Redistribution::Split, &[1, 2, 3])], vec![state(Redistribution::Split, &[4, 5])]];
            let mut all: Vec<_> = (0..parallelism)
                .flat_map(|subtask| deal(&stored, subtask, parallelism, &(0..128)))
                .flat_map(|state| state.items)
                .collect();
            all.sort();
            assert_eq!(all, [[1], [2], [3], [4], [5]]);
            if parallelism == 2 {
                assert_eq!(deal(&stored, 0, 2, &(0..64))[0].items, [[1], [2], [3]], "each keeps its own");
            }
        }
        let union = [vec![state(Redistribution::Union, &[1])], vec![state(Redistribution::Union, &[2])]];
        assert_eq!(deal(&union, 1, 2, &(64..128))[0].items, [[1], [2]]);
        let share = |subtask, parallelism| deal(&union, subtask, parallelism, &(0..1)).swap_remove(1);
        assert_eq!((share(1, 2).name, share(1, 2).items), ("s/share".to_owned(), vec![vec![2]]), "its own");
        assert_eq!((share(0, 1).items.len(), share(2, 3).items.len()), (2, 0), "or some of all at another parallelism");
        let broadcast = [vec![state(Redistribution::Broadcast, &[1])], vec![state(Redistribution::Broadcast, &[1])]];
        assert_eq!(deal(&broadcast, 2, 3, &(0..1))[0].items, [[1]]);
        let of_group = |group: u8, row: u8| vec![0, group, row];
        let state = |items| vec![OperatorState { items, ..state(Redistribution::KeyGroup, &[]) }];
        let keyed = [state(vec![of_group(3, 1), of_group(9, 2)]), state(vec![of_group(4, 3)])];
        assert_eq!(deal(&keyed, 0, 2, &(0..5))[0].items, [of_group(3, 1), of_group(4, 3)]);
        assert_eq!(deal(&keyed, 1, 2, &(5..128))[0].items, [of_group(9, 2)]);
    }
}
