//! Which node each subtask runs on: slots and vertices in, places out. A pure function, so that a placement can be
//! computed again from what it was made of.

use std::collections::BTreeMap;

use crate::graph::JobVertex;
use crate::ids::{NodeId, SubtaskId, SubtaskIndex};

/// What a node has to offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotOffer {
    /// The node.
    pub node: NodeId,
    /// Slots that are free on it.
    pub slots: u32,
}

/// How slots are taken when more are free than the job needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spreading {
    /// One node after the other is filled: fewer links between subtasks.
    Fill,
    /// From all nodes alike (`cluster.evenly-spread-out-slots`): the load is shared.
    #[default]
    Spread,
}

/// There are fewer slots than the job needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the job needs {needed} slots, {free} are free: start more task managers, give them more slots (taskmanager.numberOfTaskSlots), or run it with a lower parallelism"
)]
pub struct TooFewSlots {
    /// Subtasks of the widest vertex.
    pub needed: u32,
    /// What is on offer.
    pub free: u32,
}

/// Places all subtasks. Subtask i of every vertex shares slot i, so a job takes as many slots as its widest vertex has
/// subtasks, and a forward edge stays on its node.
///
/// # Errors
/// When there are too few slots.
pub fn place(
    vertices: &[JobVertex],
    offers: &[SlotOffer],
    spreading: Spreading,
) -> Result<BTreeMap<SubtaskId, NodeId>, TooFewSlots> {
    let needed = vertices.iter().map(|vertex| vertex.parallelism).max().unwrap_or(0);
    let slots = take_slots(offers, needed, spreading)?;
    let mut places = BTreeMap::new();
    for vertex in vertices {
        for (index, node) in (0..vertex.parallelism).zip(&slots) {
            places.insert(SubtaskId { vertex: vertex.id, index: SubtaskIndex(index) }, node.clone());
        }
    }
    Ok(places)
}

/// The node of each slot of a job that takes `needed` slots; offers in any order give the same answer.
///
/// # Errors
/// When there are too few.
pub fn take_slots(offers: &[SlotOffer], needed: u32, spreading: Spreading) -> Result<Vec<NodeId>, TooFewSlots> {
    let mut free: BTreeMap<&NodeId, u32> = BTreeMap::new();
    for offer in offers {
        *free.entry(&offer.node).or_default() += offer.slots;
    }
    let total = free.values().fold(0u32, |sum, slots| sum.saturating_add(*slots));
    if total < needed {
        return Err(TooFewSlots { needed, free: total });
    }
    let mut slots = Vec::new();
    while slots.len() < needed as usize {
        let most = free.values().copied().max().unwrap_or(0);
        for (node, left) in &mut free {
            let take = match spreading {
                Spreading::Fill => *left,
                // Nodes with the most free slots first, so that loads become equal and stay so.
                Spreading::Spread => u32::from(*left > 0 && *left == most),
            };
            let take = take.min(needed - u32::try_from(slots.len()).expect("no more than needed"));
            slots.extend((0..take).map(|_| (*node).clone()));
            *left -= take;
        }
    }
    // Neighbouring subtasks on one node: what is dealt out by ranges of key groups then moves less when a node is added.
    slots.sort();
    Ok(slots)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offers(slots: &[u32]) -> Vec<SlotOffer> {
        let offer = |(index, slots): (usize, &u32)| SlotOffer { node: NodeId(format!("n{index}")), slots: *slots };
        slots.iter().enumerate().map(offer).collect()
    }

    fn counts(slots: &[u32], needed: u32, spreading: Spreading) -> Vec<usize> {
        let taken = take_slots(&offers(slots), needed, spreading).expect("enough");
        assert_eq!(taken.len(), needed as usize);
        (0..slots.len()).map(|index| taken.iter().filter(|node| node.0 == format!("n{index}")).count()).collect()
    }

    #[test]
    fn slots_are_taken_from_all_nodes_alike_or_node_by_node() {
        assert_eq!(counts(&[4, 4, 4], 6, Spreading::Spread), [2, 2, 2]);
        assert_eq!(counts(&[4, 4, 4], 6, Spreading::Fill), [4, 2, 0]);
        assert_eq!(counts(&[1, 4], 4, Spreading::Spread), [1, 3]);
    }

    #[test]
    fn nodes_of_one_size_never_differ_by_more_than_one() {
        for nodes in 1..5usize {
            for needed in 0..=(nodes as u32 * 3) {
                let counts = counts(&vec![3; nodes], needed, Spreading::Spread);
                let (most, least) = (counts.iter().max().expect("nodes"), counts.iter().min().expect("nodes"));
                assert!(most - least <= 1, "{counts:?}");
            }
        }
    }

    #[test]
    fn too_few_slots_are_told_with_both_numbers() {
        let error = take_slots(&offers(&[1, 1]), 3, Spreading::Spread).expect_err("too few");
        assert_eq!(error, TooFewSlots { needed: 3, free: 2 });
    }
}
