//! The state of a whole job at a checkpoint, in memory: merged from the cuts of its subtasks, dealt out again to
//! another parallelism.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use millstream_runtime::chain::context::RestoredOperator;
use millstream_runtime::graph::JobGraph;
use millstream_runtime::ids::{AttemptNumber, CheckpointId, OperatorUid};
use millstream_runtime::key_group::KeyGroup;
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::state::{EntryAddress, StateReader, VisitEntry};
use millstream_runtime::state::conversion::Conversion;
use millstream_runtime::state::cut::{Entries as Arena, OperatorCut, OperatorState, StateDeclaration};
use millstream_runtime::state::operator::deal;
use millstream_runtime::time::{MIN_TIMESTAMP, Timestamp};

/// By state name, key group and key.
type Entries = BTreeMap<(String, KeyGroup, Vec<u8>), Vec<u8>>;

/// State at one checkpoint. Cheap to keep, usable for any number of restores.
#[derive(Clone, Default)]
pub struct Snapshot {
    pub(super) checkpoint: CheckpointId,
    pub(super) attempt: AttemptNumber,
    /// The time of day, from which the clock of a restored harness goes on.
    pub(super) now_ms: Timestamp,
    pub(super) operators: BTreeMap<OperatorUid, OperatorSnapshot>,
    pub(super) enumerators: BTreeMap<OperatorUid, Vec<u8>>,
}

/// One operator, all subtasks.
#[derive(Clone, Default)]
pub(super) struct OperatorSnapshot {
    keyed: Entries,
    /// The keyed states that the newest cuts declare.
    declared: Vec<StateDeclaration>,
    /// By subtask.
    operator_states: BTreeMap<u32, Vec<OperatorState>>,
    /// Key groups of each subtask with its watermark.
    watermarks: Vec<(Range<u16>, Timestamp)>,
}

impl OperatorSnapshot {
    fn convert(&mut self, conversion: &Conversion, now_ms: Timestamp) -> Result<(), PortError> {
        let (from, to) = (conversion.from(), conversion.to());
        let mut stored = BTreeMap::new();
        std::mem::swap(&mut stored, &mut self.keyed);
        for ((name, group, key), value) in stored {
            if name != from.name {
                self.keyed.insert((name, group, key), value);
                continue;
            }
            let mut converted = Arena::default();
            let last_use = conversion.last_use(now_ms, self.watermark(group.0));
            conversion.convert(&key, &value, last_use, &mut converted)?;
            for (key, value) in converted.iter() {
                let value = value.unwrap_or_default().to_vec();
                if self.keyed.insert((to.name.clone(), group, key.to_vec()), value).is_some() {
                    let message =
                        format!("state '{}': its migration makes one map key of two of the same key", from.name);
                    return Err(PortError::fix_input(message));
                }
            }
        }
        for declared in self.declared.iter_mut().filter(|declared| declared.name == from.name) {
            *declared = StateDeclaration { number: declared.number, ..to.clone() };
        }
        Ok(())
    }

    fn watermark(&self, group: u16) -> Timestamp {
        let of = self.watermarks.iter().find(|(groups, _)| groups.contains(&group));
        of.map_or(MIN_TIMESTAMP, |(_, watermark)| *watermark)
    }
}

impl Snapshot {
    /// Names of all operators that have state, for assertions.
    #[must_use]
    pub fn operators(&self) -> Vec<&str> {
        self.operators.keys().map(|uid| uid.0.as_str()).collect()
    }

    /// Number of keyed entries of an operator, timers included.
    #[must_use]
    pub fn keyed_entries(&self, uid: &str) -> usize {
        self.operators.get(&OperatorUid(uid.to_string())).map_or(0, |operator| operator.keyed.len())
    }

    /// The same with keyed states in the form in which the operators of a job declare them.
    pub(super) fn migrated(&self, job: &JobGraph) -> Result<Self, PortError> {
        let mut migrated = self.clone();
        for (vertex, uid) in
            job.vertices.iter().flat_map(|vertex| vertex.operators.iter().map(move |uid| (vertex, uid)))
        {
            let Some(operator) = migrated.operators.get_mut(uid) else { continue };
            for conversion in vertex.conversions(uid, &operator.declared)? {
                operator.convert(&conversion, self.now_ms)?;
            }
        }
        Ok(migrated)
    }

    /// Forgets what every cut says whole; keyed entries stay, cuts only change them.
    pub(super) fn begin_cut(&mut self) {
        for operator in self.operators.values_mut() {
            operator.operator_states.clear();
            operator.watermarks.clear();
        }
    }

    /// Takes in one operator's part of the cut of a subtask.
    pub(super) fn merge(&mut self, subtask: u32, groups: &Range<u16>, watermark: Timestamp, cut: OperatorCut) {
        let operator = self.operators.entry(cut.uid).or_default();
        if !cut.declarations.is_empty() {
            operator.declared = cut.declarations;
        }
        operator.watermarks.push((groups.clone(), watermark));
        operator.operator_states.insert(subtask, cut.operator_states);
        for section in cut.keyed {
            let declared = operator.declared.iter().find(|declared| declared.number == section.state);
            let name = &declared.expect("a section is of a declared state").name;
            for (key, value) in section.entries.iter() {
                let address = (name.clone(), section.group, key.to_vec());
                match value {
                    Some(value) => operator.keyed.insert(address, value.to_vec()),
                    None => operator.keyed.remove(&address),
                };
            }
        }
    }

    /// What one of `parallelism` subtasks gets.
    pub(super) fn restored(
        &self,
        uid: &OperatorUid,
        subtask: u32,
        parallelism: u32,
        groups: &Range<u16>,
    ) -> RestoredOperator {
        let Some(operator) = self.operators.get(uid) else { return RestoredOperator::default() };
        let stored: Vec<_> = operator.operator_states.values().cloned().collect();
        let OperatorSnapshot { keyed, declared, .. } = operator;
        let reader = || MemoryState { entries: keyed.clone(), declared: OnceLock::new() };
        let keyed = (!declared.is_empty()).then(|| Arc::new(reader()) as Arc<dyn StateReader>);
        RestoredOperator { keyed, operator_states: deal(&stored, subtask, parallelism, groups) }
    }

    /// The watermark floor of key groups, by the subtasks that had them.
    pub(super) fn floor(&self, uid: &OperatorUid, groups: &Range<u16>) -> Vec<Timestamp> {
        let Some(operator) = self.operators.get(uid) else { return Vec::new() };
        groups.clone().map(|group| operator.watermark(group)).collect()
    }
}

/// Keyed entries as a restarted subtask reads them.
struct MemoryState {
    entries: Entries,
    declared: OnceLock<Vec<StateDeclaration>>,
}

impl MemoryState {
    /// Where an address is, by the name that the program has for its number.
    fn place(&self, EntryAddress { state, group, key }: &EntryAddress) -> (String, KeyGroup, Vec<u8>) {
        let declared = self.declared.get().into_iter().flatten().find(|declared| declared.number == *state);
        (declared.expect("states are declared before they are read").name.clone(), *group, key.clone())
    }
}

impl StateReader for MemoryState {
    fn declare(&self, declarations: &[StateDeclaration]) {
        self.declared.get_or_init(|| declarations.to_vec());
    }

    fn fetch(&self, addresses: &[EntryAddress]) -> Result<Vec<Option<Vec<u8>>>, PortError> {
        Ok(addresses.iter().map(|address| self.entries.get(&self.place(address)).cloned()).collect())
    }

    fn scan(&self, prefixes: &[EntryAddress], visit: VisitEntry<'_>) -> Result<(), PortError> {
        for prefix in prefixes {
            let place = self.place(prefix);
            let begins_so = |(name, group, key): &(String, KeyGroup, Vec<u8>)| {
                (name, group) == (&place.0, &place.1) && key.starts_with(&place.2)
            };
            for ((_, _, key), value) in self.entries.range(place.clone()..).take_while(|(found, _)| begins_so(found)) {
                visit(prefix, key, value)?;
            }
        }
        Ok(())
    }
}
