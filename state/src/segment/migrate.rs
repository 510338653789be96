//! A chain whose states a program declares otherwise than they are stored, rewritten as a base of its own: a compaction that
//! converts entries on the way. Used when a subtask is restored, before anything reads its state, so that no chain ever
//! holds a state in two forms.

use std::collections::BTreeMap;
use std::ops::Range;

use millstream_runtime::checkpoint::manifest::SegmentRef;
use millstream_runtime::ids::OperatorUid;
use millstream_runtime::key_group::KeyGroup;
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::state::StateNumber;
use millstream_runtime::state::conversion::Conversion;
use millstream_runtime::state::cut::{Entries, StateDeclaration};
use millstream_runtime::time::{MIN_TIMESTAMP, Timestamp};

use super::merge::{Chain, ChainStates, split_by_size};
use super::writer::{EncodedSegment, SegmentBuilder, SegmentContext, Sorter};
use crate::names;

/// How a chain is rewritten.
pub struct Migration<'a> {
    /// Who writes; its key groups clip the result.
    pub context: SegmentContext,
    /// What is to be done, by operator. Other states are copied.
    pub conversions: &'a BTreeMap<OperatorUid, Vec<Conversion>>,
    /// The watermark at the restored cut for each key group of the context: what was late stays late.
    pub watermarks: &'a [Timestamp],
    /// The time of day, for entries that get a time to live.
    pub now_ms: Timestamp,
    /// Segments are split by key groups above about this size. Zero means never.
    pub target_bytes: u64,
}

impl Migration<'_> {
    fn watermark(&self, group: u16) -> Timestamp {
        let slot = usize::from(group - self.context.key_groups.start);
        self.watermarks.get(slot).copied().unwrap_or(MIN_TIMESTAMP)
    }

    /// A segment has one watermark, so key groups with different ones go into different segments.
    fn split(&self, range: Range<u16>) -> Vec<Range<u16>> {
        let groups: Vec<u16> = range.collect();
        let pieces = groups.chunk_by(|one, other| self.watermark(*one) == self.watermark(*other));
        pieces.filter_map(|piece| Some(*piece.first()?..*piece.last()? + 1)).collect()
    }

    fn conversion(&self, uid: &OperatorUid, stored: &StateDeclaration) -> Option<&Conversion> {
        let conversions = self.conversions.get(uid).into_iter().flatten();
        conversions.into_iter().find(|conversion| conversion.from().name == stored.name)
    }
}

/// Rewrites a chain, handing each new segment to `store` in order. They hold disjoint key groups and no operator state.
///
/// # Errors
/// When a segment is damaged, an entry is not of the type that its migration takes, two entries would become one, or `store`
/// fails.
pub fn migrate(
    chain: Chain,
    migration: &Migration,
    store: &mut dyn FnMut(EncodedSegment) -> Result<(), PortError>,
) -> Result<Vec<SegmentRef>, PortError> {
    let states = chain.states()?;
    let ranges = split_by_size(chain, &migration.context.key_groups, migration.target_bytes);
    let mut references = Vec::new();
    for range in ranges.into_iter().flat_map(|range| migration.split(range)) {
        let segment = migrate_range(chain, &states, migration, range)?;
        references.push(segment.reference.clone());
        store(segment)?;
    }
    Ok(references)
}

fn migrate_range(
    chain: Chain,
    states: &ChainStates,
    migration: &Migration,
    range: Range<u16>,
) -> Result<EncodedSegment, PortError> {
    let cuts = chain.0.iter().map(|segment| segment.reference().cuts);
    let cuts = cuts.reduce(|all, cuts| (all.0.min(cuts.0), all.1.max(cuts.1))).unwrap_or_default();
    let context = SegmentContext { key_groups: range.clone(), ..migration.context.clone() };
    let mut builder = SegmentBuilder::new(context.info(cuts, migration.watermark(range.start)), 0);
    let (mut sorter, mut converted) = (Sorter::default(), Entries::default());
    for (uid, stored) in states {
        let conversions: Vec<_> = stored.iter().map(|declared| migration.conversion(uid, declared)).collect();
        let becomes = stored.iter().zip(&conversions).zip(0..).map(|((declared, conversion), number)| {
            StateDeclaration { number: StateNumber(number), ..conversion.map_or(declared, Conversion::to).clone() }
        });
        let becomes: Vec<StateDeclaration> = becomes.collect();
        builder.begin_operator(uid.clone(), becomes.clone());
        for ((stored, conversion), to) in stored.iter().zip(&conversions).zip(&becomes) {
            for group in chain.groups(uid, &stored.name).into_iter().filter(|group| range.contains(&group.0)) {
                builder.begin_section(to.number, group);
                let mut entries = chain.entries(uid, &stored.name, group);
                let Some(conversion) = conversion else {
                    while entries.advance()? {
                        entries.value().iter().for_each(|value| builder.push(entries.key(), Some(value)));
                    }
                    continue;
                };
                let last_use = conversion.last_use(migration.now_ms, migration.watermark(group.0));
                converted.clear();
                while entries.advance()? {
                    if let Some(value) = entries.value() {
                        let outcome = conversion.convert(entries.key(), value, last_use, &mut converted);
                        outcome.map_err(|error| of_operator(uid, group, error))?;
                    }
                }
                if !sorter.push_sorted(&mut builder, &converted) {
                    return Err(of_operator(uid, group, twice(stored)));
                }
            }
        }
        builder.end_operator(&[]);
    }
    let SegmentContext { job, vertex, subtask, attempt, .. } = &context;
    Ok(builder.finish(|digest| {
        let content = u32::from_be_bytes(digest[..4].try_into().expect("four bytes"));
        names::compacted_segment(*job, *vertex, *attempt, *subtask, cuts, content)
    }))
}

fn of_operator(uid: &OperatorUid, group: KeyGroup, error: PortError) -> PortError {
    let message = format!("operator '{uid}', key group {}: {}", group.0, error.message);
    PortError { kind: error.kind, message }
}

fn twice(stored: &StateDeclaration) -> PortError {
    PortError::fix_input(format!(
        "state '{}', stored in version {}: its migration makes one map key of two of the same key, and one value would be lost",
        stored.name, stored.version
    ))
}

#[cfg(test)]
#[path = "migrate_tests.rs"]
mod tests;
