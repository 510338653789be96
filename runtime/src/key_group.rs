//! Key groups: the unit in which keyed state moves between subtasks, and the table that says where each one lives.
//! The table, not a formula, is what senders use, so that a later version of it can move groups one by one.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::ids::SubtaskIndex;
use crate::key::KeyHash;

/// Default number of key groups of an operator, `pipeline.max-parallelism`.
pub const DEFAULT_MAX_PARALLELISM: u16 = 128;

/// One of the `max_parallelism` shards of a keyed operator's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyGroup(pub u16);

impl KeyGroup {
    /// The group of a key. Uses the high bits of the hash; tables index with the low ones.
    #[inline]
    #[must_use]
    pub fn of(hash: KeyHash, max_parallelism: u16) -> Self {
        // Multiply-shift maps the high 32 bits onto 0..max without a division.
        Self((((hash.0 >> 32) * u64::from(max_parallelism)) >> 32) as u16)
    }
}

/// The groups of one subtask at a given parallelism: contiguous, and all subtasks together cover every group once.
/// This is Flink's assignment (`KeyGroupRangeAssignment`).
#[must_use]
pub fn key_group_range(max_parallelism: u16, parallelism: u32, subtask: SubtaskIndex) -> Range<u16> {
    assert!(subtask.0 < parallelism && parallelism <= u32::from(max_parallelism));
    let max = u64::from(max_parallelism);
    let bound = |index: u32| (u64::from(index) * max).div_ceil(u64::from(parallelism)) as u16;
    bound(subtask.0)..bound(subtask.0 + 1)
}

/// Which subtask owns each key group; versioned, because a new version takes effect at the barrier that carries it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutingTable {
    version: u64,
    owner: Vec<u32>,
}

impl RoutingTable {
    /// The contiguous assignment of `max_parallelism` groups to `parallelism` subtasks.
    #[must_use]
    pub fn contiguous(max_parallelism: u16, parallelism: u32) -> Self {
        let mut owner = vec![0; usize::from(max_parallelism)];
        for subtask in 0..parallelism {
            for group in key_group_range(max_parallelism, parallelism, SubtaskIndex(subtask)) {
                owner[usize::from(group)] = subtask;
            }
        }
        Self { version: 0, owner }
    }

    /// Number of key groups.
    #[must_use]
    pub fn max_parallelism(&self) -> u16 {
        self.owner.len() as u16
    }

    /// The subtask that owns the group.
    #[inline]
    #[must_use]
    pub fn owner(&self, group: KeyGroup) -> u32 {
        self.owner[usize::from(group.0)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_has_exactly_one_owner_at_every_parallelism() {
        for max in [1u16, 7, 128, 1000] {
            for parallelism in 1..=u32::from(max.min(130)) {
                let mut next = 0;
                for subtask in 0..parallelism {
                    let range = key_group_range(max, parallelism, SubtaskIndex(subtask));
                    assert_eq!(range.start, next);
                    assert!(!range.is_empty(), "max {max} parallelism {parallelism} subtask {subtask}");
                    next = range.end;
                }
                assert_eq!(next, max);
            }
        }
    }

    #[test]
    fn groups_spread_evenly_over_hashes() {
        let mut counts = vec![0u32; 128];
        for n in 0..128_000u64 {
            counts[usize::from(KeyGroup::of(crate::key::Key::key_hash(&n), 128).0)] += 1;
        }
        assert!(counts.iter().all(|&count| (850..1150).contains(&count)), "{counts:?}");
    }
}
