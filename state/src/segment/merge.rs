//! What a chain of segments says as a whole: later entries win, tombstones hide, key groups are clipped as each
//! reference says. Used by compaction, the local store, savepoints and views.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use millstream_runtime::checkpoint::manifest::SegmentRef;
use millstream_runtime::ids::OperatorUid;
use millstream_runtime::key_group::KeyGroup;
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::state::StateNumber;
use millstream_runtime::state::cut::StateDeclaration;

use crate::names;

use super::reader::{EntryCursor, SegmentReader};
use super::writer::{EncodedSegment, SegmentBuilder, SegmentContext};

/// A chain of open segments, oldest first.
#[derive(Clone, Copy)]
pub struct Chain<'a>(pub &'a [Arc<SegmentReader>]);

/// The operators of a chain with the states any of its segments declares, numbered anew.
pub type ChainStates = BTreeMap<OperatorUid, Vec<StateDeclaration>>;

impl<'a> Chain<'a> {
    /// Operators and their states. Segments may number states differently: names decide.
    ///
    /// # Errors
    /// `FixInput` when two segments hold a state in two versions: entries are bytes here, only the program that
    /// declares the newer version can migrate them.
    pub fn states(&self) -> Result<ChainStates, PortError> {
        let mut states = ChainStates::new();
        for reader in self.0 {
            for uid in reader.operators() {
                let known = states.entry(uid.clone()).or_default();
                for declaration in reader.declarations(uid) {
                    add_declaration(known, declaration).map_err(|how| {
                        PortError::fix_input(format!("{}: operator '{uid}': {how}", reader.reference().path))
                    })?;
                }
            }
        }
        Ok(states)
    }

    /// Key groups in which some segment has entries of a state.
    #[must_use]
    pub fn groups(&self, uid: &OperatorUid, state: &str) -> BTreeSet<KeyGroup> {
        self.0.iter().flat_map(|reader| reader.groups(uid, state)).map(|(group, _)| group).collect()
    }

    /// The newest entry of every key of one state in one key group, tombstones included.
    #[must_use]
    pub fn entries(&self, uid: &OperatorUid, state: &str, group: KeyGroup) -> Merge<'a> {
        Merge::new(self.0.iter().filter_map(|reader| reader.scan(uid, state, group)).collect())
    }

    /// The same, from the first key at or behind `from`.
    ///
    /// # Errors
    /// When a segment is damaged or cannot be read.
    pub fn entries_from(
        &self,
        uid: &OperatorUid,
        state: &str,
        group: KeyGroup,
        from: &[u8],
    ) -> Result<Merge<'a>, PortError> {
        if from.is_empty() {
            return Ok(self.entries(uid, state, group));
        }
        let mut cursors = Vec::new();
        for mut cursor in self.0.iter().filter_map(|reader| reader.lookup(uid, state, group)) {
            if cursor.seek(from)? {
                cursors.push(cursor);
            }
        }
        Ok(Merge::of_entered(cursors))
    }
}

fn add_declaration(known: &mut Vec<StateDeclaration>, declaration: &StateDeclaration) -> Result<(), String> {
    match known.iter().find(|known| known.name == declaration.name) {
        Some(known) if known.version == declaration.version => Ok(()),
        Some(known) => Err(format!(
            "state '{}' is here in version {} and elsewhere in the chain in version {}: restore it with a program that declares the newer version, which migrates it",
            declaration.name, declaration.version, known.version
        )),
        None => {
            let number = u16::try_from(known.len()).map_err(|_| "more than 65,536 states".to_string())?;
            known.push(StateDeclaration { number: StateNumber(number), ..declaration.clone() });
            Ok(())
        }
    }
}

/// Walks several sections of the same state and key group as one. Chains are short, so the smallest key is found by
/// looking at every cursor.
pub struct Merge<'a> {
    /// Oldest first; those at their end are taken out.
    cursors: Vec<EntryCursor<'a>>,
    /// Which of them are at the smallest key; of equal keys the last counts.
    current: Vec<usize>,
    /// Whether the cursors stand before their next entries, all or the current ones.
    passed: bool,
}

impl<'a> Merge<'a> {
    /// Merges cursors that stand before their first entry, oldest first.
    #[must_use]
    pub fn new(cursors: Vec<EntryCursor<'a>>) -> Self {
        Self { current: (0..cursors.len()).collect(), cursors, passed: true }
    }

    /// Merges cursors that stand at their first entry, oldest first.
    fn of_entered(cursors: Vec<EntryCursor<'a>>) -> Self {
        Self { current: Vec::with_capacity(cursors.len()), cursors, passed: false }
    }

    /// Goes to the next key; false at the end. After an error the merge is not used any more.
    ///
    /// # Errors
    /// When a segment is damaged or cannot be read.
    pub fn advance(&mut self) -> Result<bool, PortError> {
        if std::mem::replace(&mut self.passed, true) {
            // From the last on, so that taking one out moves none that is still to come.
            for index in self.current.drain(..).rev() {
                if !self.cursors[index].advance()? {
                    self.cursors.remove(index);
                }
            }
        }
        let Some(first) = self.cursors.first() else { return Ok(false) };
        let mut smallest = first.key();
        self.current.push(0);
        for (index, cursor) in self.cursors.iter().enumerate().skip(1) {
            match cursor.key().cmp(smallest) {
                Ordering::Greater => continue,
                Ordering::Equal => {}
                Ordering::Less => {
                    smallest = cursor.key();
                    self.current.clear();
                }
            }
            self.current.push(index);
        }
        Ok(true)
    }

    fn winner(&self) -> &EntryCursor<'a> {
        &self.cursors[*self.current.last().expect("it stands at an entry")]
    }

    /// The key.
    ///
    /// # Panics
    /// When it has not been advanced to an entry.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.winner().key()
    }

    /// Its newest value; `None` for a tombstone.
    ///
    /// # Panics
    /// When it has not been advanced to an entry.
    #[must_use]
    pub fn value(&self) -> Option<&[u8]> {
        self.winner().value()
    }
}

/// How a chain is compacted.
#[derive(Clone, Debug)]
pub struct Compaction {
    /// Who writes; its key groups clip the result.
    pub context: SegmentContext,
    /// The chain starts with its first segment: nothing older exists that a tombstone would have to hide.
    pub base_included: bool,
    /// Segments are split by key groups above about this size. Zero means never.
    pub target_bytes: u64,
}

/// Merges a chain into as few segments as the target size allows, handing each to `store` in order. The results hold
/// disjoint key groups; operator state is in the last one, taken from the last of the chain, which must therefore be a
/// cut of the subtask itself.
///
/// # Errors
/// When a segment is damaged, versions of a state differ, or `store` fails.
pub fn compact(
    chain: Chain,
    compaction: &Compaction,
    store: &mut dyn FnMut(EncodedSegment) -> Result<(), PortError>,
) -> Result<Vec<SegmentRef>, PortError> {
    let states = chain.states()?;
    let ranges = split_by_size(chain, &compaction.context.key_groups, compaction.target_bytes);
    let last = ranges.len() - 1;
    let mut references = Vec::with_capacity(ranges.len());
    for (index, range) in ranges.into_iter().enumerate() {
        let segment = merge_range(chain, &states, compaction, range, index == last)?;
        references.push(segment.reference.clone());
        store(segment)?;
    }
    Ok(references)
}

pub(super) fn split_by_size(chain: Chain, groups: &Range<u16>, target_bytes: u64) -> Vec<Range<u16>> {
    let mut sizes: BTreeMap<u16, u64> = BTreeMap::new();
    for (group, bytes) in chain.0.iter().flat_map(|reader| reader.group_bytes()) {
        *sizes.entry(group.0).or_default() += bytes;
    }
    let mut ranges = Vec::new();
    let mut start = groups.start;
    let mut size = 0;
    for group in groups.clone() {
        let bytes = sizes.get(&group).copied().unwrap_or(0);
        if target_bytes > 0 && size > 0 && size + bytes > target_bytes {
            ranges.push(start..group);
            (start, size) = (group, 0);
        }
        size += bytes;
    }
    ranges.push(start..groups.end);
    ranges
}

fn merge_range(
    chain: Chain,
    states: &ChainStates,
    compaction: &Compaction,
    range: Range<u16>,
    with_operator_states: bool,
) -> Result<EncodedSegment, PortError> {
    let (first, last) = chain.0.first().zip(chain.0.last()).expect("a chain to compact is not empty");
    let cuts = (first.reference().cuts.0, last.reference().cuts.1);
    let context = SegmentContext { key_groups: range.clone(), ..compaction.context.clone() };
    let expected = chain.0.iter().flat_map(|reader| reader.group_bytes()).filter(|(group, _)| range.contains(&group.0));
    let expected = expected.map(|(_, bytes)| bytes).sum::<u64>();
    let mut builder = SegmentBuilder::new(context.info(cuts, last.watermark()), expected as usize);
    for (uid, declarations) in states {
        builder.begin_operator(uid.clone(), declarations.clone());
        for declaration in declarations {
            for group in chain.groups(uid, &declaration.name).into_iter().filter(|group| range.contains(&group.0)) {
                builder.begin_section(declaration.number, group);
                let mut entries = chain.entries(uid, &declaration.name, group);
                while entries.advance()? {
                    let value = entries.value();
                    if value.is_some() || !compaction.base_included {
                        builder.push(entries.key(), value);
                    }
                }
            }
        }
        let operator_states = if with_operator_states { last.operator_states(uid)? } else { Vec::new() };
        builder.end_operator(&operator_states);
    }
    let SegmentContext { job, vertex, subtask, attempt, .. } = &context;
    Ok(builder.finish(|digest| {
        let content = u32::from_be_bytes(digest[..4].try_into().expect("four bytes"));
        names::compacted_segment(*job, *vertex, *attempt, *subtask, cuts, content)
    }))
}
