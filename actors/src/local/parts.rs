//! What the key groups of one subtask have in the local store. After a rescale they come from several subtasks, and each
//! stands where its own did: what is missing is told, read and folded for every part of them on its own.

use std::ops::Range;

use millstream_runtime::key_group::KeyGroup;
use millstream_runtime::ports::PortError;
use millstream_state::local::Position;

/// What the local store has of a key group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The checkpoint it stands at.
    pub position: Position,
    /// The first segment of the subtask's chain that it may lack.
    pub next: usize,
}

/// Neighbouring key groups that have the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which.
    pub groups: Range<u16>,
    /// What they have; `None` when nothing of it can be used.
    pub standing: Option<Standing>,
}

impl Part {
    /// The first segment of the chain that they may lack.
    #[must_use]
    pub fn lacks_from(&self) -> usize {
        self.standing.as_ref().map_or(0, |standing| standing.next)
    }
}

/// The parts of these key groups, in order.
///
/// # Errors
/// When it cannot be told what a group has.
pub fn parts(
    groups: &Range<u16>,
    mut standing: impl FnMut(KeyGroup) -> Result<Option<Standing>, PortError>,
) -> Result<Vec<Part>, PortError> {
    let mut parts: Vec<Part> = Vec::new();
    for group in groups.clone() {
        let standing = standing(KeyGroup(group))?;
        match parts.last_mut().filter(|last| last.standing == standing) {
            Some(last) => last.groups.end = group + 1,
            None => parts.push(Part { groups: group..group + 1, standing }),
        }
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use millstream_runtime::ids::{CheckpointId, JobId};
    use millstream_state::log::{Digest, LogPosition};

    use super::*;

    fn at(checkpoint: u64, next: usize) -> Option<Standing> {
        let log = LogPosition { slot: checkpoint, digest: Digest::of(&[]) };
        Some(Standing { position: Position { job: JobId([1; 16]), log, checkpoint: CheckpointId(checkpoint) }, next })
    }

    #[test]
    fn neighbours_that_have_the_same_are_one_part_and_nothing_is_left_out() {
        let has = [at(1, 2), at(1, 2), at(1, 5), None, None, at(2, 5), at(1, 2)];
        let parts = parts(&(3..10), |group| Ok(has[usize::from(group.0 - 3)].clone())).expect("nothing fails");
        let expected = [(3..5, at(1, 2)), (5..6, at(1, 5)), (6..8, None), (8..9, at(2, 5)), (9..10, at(1, 2))];
        assert_eq!(parts, expected.map(|(groups, standing)| Part { groups, standing }));
        assert_eq!(parts.iter().map(Part::lacks_from).collect::<Vec<_>>(), [2, 5, 0, 5, 2]);
    }
}
