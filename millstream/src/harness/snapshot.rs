//! The state of a whole job at a checkpoint, in memory: merged from the cuts of its subtasks, dealt out again to
//! another parallelism.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use millstream_runtime::chain::context::RestoredOperator;
use millstream_runtime::ids::{AttemptNumber, CheckpointId, OperatorUid};
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::state::{EntryAddress, StateReader, VisitEntry};
use millstream_runtime::state::cut::{OperatorCut, OperatorState};
use millstream_runtime::state::operator::deal;
use millstream_runtime::time::{MIN_TIMESTAMP, Timestamp};

type Entries = BTreeMap<EntryAddress, Vec<u8>>;

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
    has_keyed: bool,
    /// By subtask.
    operator_states: BTreeMap<u32, Vec<OperatorState>>,
    /// Key groups of each subtask with its watermark.
    watermarks: Vec<(Range<u16>, Timestamp)>,
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
        operator.has_keyed |= !cut.declarations.is_empty();
        operator.watermarks.push((groups.clone(), watermark));
        operator.operator_states.insert(subtask, cut.operator_states);
        for section in cut.keyed {
            for (key, value) in section.entries.iter() {
                let address = EntryAddress { state: section.state, group: section.group, key: key.to_vec() };
                match value {
                    Some(value) => operator.keyed.insert(address, value.to_vec()),
                    None => operator.keyed.remove(&address),
                };
            }
        }
    }

    /// What one of `parallelism` subtasks gets.
    pub(super) fn restored(&self, uid: &OperatorUid, subtask: u32, parallelism: u32) -> RestoredOperator {
        let Some(operator) = self.operators.get(uid) else { return RestoredOperator::default() };
        let stored: Vec<_> = operator.operator_states.values().cloned().collect();
        let keyed = operator.has_keyed.then(|| Arc::new(MemoryState(operator.keyed.clone())) as Arc<dyn StateReader>);
        RestoredOperator { keyed, operator_states: deal(&stored, subtask, parallelism) }
    }

    /// The watermark floor of key groups, by the subtasks that had them.
    pub(super) fn floor(&self, uid: &OperatorUid, groups: &Range<u16>) -> Vec<Timestamp> {
        let Some(operator) = self.operators.get(uid) else { return Vec::new() };
        let of = |group: u16| operator.watermarks.iter().find(|(groups, _)| groups.contains(&group));
        groups.clone().map(|group| of(group).map_or(MIN_TIMESTAMP, |(_, watermark)| *watermark)).collect()
    }
}

/// Keyed entries as a restarted subtask reads them.
struct MemoryState(Entries);

impl StateReader for MemoryState {
    fn fetch(&self, addresses: &[EntryAddress]) -> Result<Vec<Option<Vec<u8>>>, PortError> {
        Ok(addresses.iter().map(|address| self.0.get(address).cloned()).collect())
    }

    fn scan(&self, prefixes: &[EntryAddress], visit: VisitEntry<'_>) -> Result<(), PortError> {
        for prefix in prefixes {
            let begins_so = |address: &EntryAddress| {
                (address.state, address.group) == (prefix.state, prefix.group) && address.key.starts_with(&prefix.key)
            };
            let found = self.0.range(prefix..).take_while(|(address, _)| begins_so(address));
            for (address, value) in found {
                visit(prefix, &address.key, value)?;
            }
        }
        Ok(())
    }
}
