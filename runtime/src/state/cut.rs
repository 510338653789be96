//! A cut: what has changed in one subtask between two barriers, encoded but not yet sorted.
//! Made by the operator chain, turned into a segment by `state`.

use serde::{Deserialize, Serialize};

pub use super::entries::Entries;
use crate::ids::{CutNumber, OperatorUid};
use crate::key_group::KeyGroup;
use crate::ports::state::StateNumber;
use crate::time::Timestamp;

/// Everything one barrier took from one subtask.
#[derive(Clone, Debug, PartialEq)]
pub struct Cut {
    /// Place in the subtask's chain.
    pub number: CutNumber,
    /// The subtask's watermark at the barrier; a floor per key group after a restore.
    pub watermark: Timestamp,
    /// Per operator of the chain, in chain order.
    pub operators: Vec<OperatorCut>,
}

/// One operator's part of a cut.
#[derive(Clone, Debug, PartialEq)]
pub struct OperatorCut {
    /// Whose state it is.
    pub uid: OperatorUid,
    /// The keyed states, by number.
    pub declarations: Vec<StateDeclaration>,
    /// Changed keyed entries; at most one section per (state, key group).
    pub keyed: Vec<KeyedSection>,
    /// Operator state, always whole: it replaces what older cuts say.
    pub operator_states: Vec<OperatorState>,
}

/// Name and version of a keyed state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateDeclaration {
    /// Its number in the sections of this cut.
    pub number: StateNumber,
    /// The name that decides on restore.
    pub name: String,
    /// Version of the value's type, for migration.
    pub version: u32,
}

/// Changed entries of one state in one key group.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyedSection {
    /// The state.
    pub state: StateNumber,
    /// The key group.
    pub group: KeyGroup,
    /// The entries, in any order, each key at most once.
    pub entries: Entries,
}

/// How operator state is dealt out on a restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Redistribution {
    /// At the same parallelism every subtask gets its own items again: rows behind a cursor stay with the split they were
    /// read from. At another, item i of all subtasks' lists goes to subtask i mod parallelism.
    Split,
    /// Every subtask gets all items of all subtasks.
    Union,
    /// Each item begins with its key group, two bytes with the high one first, and goes to the subtask that has it.
    KeyGroup,
    /// All subtasks hold the same; every subtask gets the items of one.
    Broadcast,
}

/// State of an operator that is not keyed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorState {
    /// Name within the operator.
    pub name: String,
    /// Version of the items' type, for migration.
    pub version: u32,
    /// How it is dealt out.
    pub redistribution: Redistribution,
    /// The items, encoded.
    pub items: Vec<Vec<u8>>,
}
