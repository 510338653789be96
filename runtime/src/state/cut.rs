//! A cut: what has changed in one subtask between two barriers, encoded but not yet sorted.
//! Made by the operator chain, turned into a segment by `state`.

use serde::{Deserialize, Serialize};

use crate::ids::{CutNumber, OperatorUid};
use crate::key_group::KeyGroup;
use crate::ports::PortError;
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

/// What the stored name of a state with a time to live ends with: its values have a time.
pub const TTL_SUFFIX: &str = "+ttl";

/// Refuses states that are stored in another form than the program declares: reading them would be guesswork, and
/// beginning them anew would lose what is there. A stored state that the program does not declare is left alone.
///
/// # Errors
/// `FixInput` for another version, and for a time to live that was given to a state or taken from it.
pub fn check_stored(declared: &[StateDeclaration], stored: &[StateDeclaration]) -> Result<(), PortError> {
    let plain = |name: &str| name.strip_suffix(TTL_SUFFIX).unwrap_or(name).to_owned();
    for StateDeclaration { name, version, .. } in declared {
        for other in stored.iter().filter(|other| plain(&other.name) == plain(name)) {
            if other.name != *name && declared.iter().all(|state| state.name != other.name) {
                let (has, wants) = if other.name.ends_with(TTL_SUFFIX) { ("with", "none") } else { ("without", "one") };
                return Err(PortError::fix_input(format!(
                    "state '{}' is stored {has} a time to live, and the program declares {wants}: declare it as it is stored, or under another name to begin anew",
                    plain(name)
                )));
            }
            if other.name == *name && other.version != *version {
                return Err(PortError::fix_input(format!(
                    "state '{name}' is stored in version {}, and the program declares version {version}: restore it with a program of that version, or declare it under another name to begin anew",
                    other.version
                )));
            }
        }
    }
    Ok(())
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
    /// How it is dealt out.
    pub redistribution: Redistribution,
    /// The items, encoded.
    pub items: Vec<Vec<u8>>,
}

/// Encoded entries in one arena: a key with its value, or with a tombstone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entries {
    bytes: Vec<u8>,
    index: Vec<EntrySpan>,
}

/// Where an entry lies in the arena: the key, then the value.
#[derive(Clone, Copy, Debug, PartialEq)]
struct EntrySpan {
    start: u32,
    key_end: u32,
    end: u32,
    /// Whether the entry is a deletion.
    tombstone: bool,
}

impl Entries {
    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Bytes of keys and values.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Appends an entry: `write` appends the key, returns where it ended, then appends the value.
    /// `write_value` answers false for a tombstone.
    ///
    /// # Panics
    /// When one section grows beyond 4 GiB; sections are one key group of one cut.
    pub fn push_with(&mut self, write_key: impl FnOnce(&mut Vec<u8>), write_value: impl FnOnce(&mut Vec<u8>) -> bool) {
        let start = offset(&self.bytes);
        write_key(&mut self.bytes);
        let key_end = offset(&self.bytes);
        let tombstone = !write_value(&mut self.bytes);
        self.index.push(EntrySpan { start, key_end, end: offset(&self.bytes), tombstone });
    }

    /// Appends an entry; `None` is a tombstone.
    pub fn push(&mut self, key: &[u8], value: Option<&[u8]>) {
        self.push_with(
            |out| out.extend_from_slice(key),
            |out| value.inspect(|value| out.extend_from_slice(value)).is_some(),
        );
    }

    /// Sorts by key bytes. Keys are unique, so the order is total.
    pub fn sort(&mut self) {
        let bytes = &self.bytes;
        let key = |span: &EntrySpan| &bytes[span.start as usize..span.key_end as usize];
        self.index.sort_unstable_by(|a, b| key(a).cmp(key(b)));
    }

    /// The entries in their present order; `None` is a tombstone.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.index.iter().map(|span| {
            let key = &self.bytes[span.start as usize..span.key_end as usize];
            let value = &self.bytes[span.key_end as usize..span.end as usize];
            (key, (!span.tombstone).then_some(value))
        })
    }
}

fn offset(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("a section of one key group in one cut stays below 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_sorted_with_their_tombstones() {
        let mut entries = Entries::default();
        entries.push(b"b", Some(b"2"));
        entries.push(b"a", None);
        entries.push(b"ab", Some(b""));
        entries.sort();
        let seen: Vec<_> = entries.iter().collect();
        assert_eq!(seen, [(&b"a"[..], None), (&b"ab"[..], Some(&b""[..])), (&b"b"[..], Some(&b"2"[..]))]);
    }
}
