//! Which node each subtask runs on: slots and a graph in, places out. A pure function, so that a placement can be
//! computed again from what it was made of.

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::{JobGraph, JobVertex, job};
use crate::ids::{NodeId, SubtaskId, SubtaskIndex, VertexId};
use crate::key_group::key_group_range;

/// What a node has to offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotOffer {
    /// The node.
    pub node: NodeId,
    /// Slots that are free on it.
    pub slots: u32,
}

/// How slots are taken when more are free than the job needs, Flink's `taskmanager.load-balance.mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoadBalance {
    /// One node after the other is filled: fewer links between subtasks.
    MinResources,
    /// From all nodes alike.
    #[default]
    Slots,
    /// As with slots, and subtasks of narrow vertices go to the nodes with the fewest subtasks.
    Tasks,
}

/// There are fewer slots than the job needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the job needs {needed} slots, {free} are free: start more task managers, give them more slots (taskmanager.numberOfTaskSlots), or run it with a lower parallelism"
)]
pub struct TooFewSlots {
    /// Subtasks of the widest vertex, over all slot sharing groups.
    pub needed: u32,
    /// What is on offer.
    pub free: u32,
}

/// Where subtasks run, or ran.
pub type Places = BTreeMap<SubtaskId, NodeId>;

/// Places all subtasks. The subtasks of a slot are one of each vertex of a slot sharing group, so a group takes as many slots
/// as its widest vertex has subtasks, and a forward edge within it stays on its node. A subtask goes where it ran `before`, or
/// else where most of its key groups were, as long as that node has slots: there is its local state.
///
/// # Errors
/// When there are too few slots.
pub fn place(
    graph: &JobGraph,
    offers: &[SlotOffer],
    before: &Places,
    balance: LoadBalance,
) -> Result<Places, TooFewSlots> {
    let groups = graph.slot_sharing_groups();
    let widest = groups.values().map(|group| Widest::of(group)).collect::<Vec<_>>();
    let mut slots = Slots::take(&widest, offers, before, balance)?;
    for group in groups.values() {
        let rest = slots.nodes.split_off(job::widest(group) as usize);
        for column in columns(graph, group) {
            slots.place(&column, before, balance);
        }
        slots.nodes = rest;
    }
    Ok(slots.places)
}

/// Vertices of a group whose subtasks of one index stay together, joined by forward edges; the widest first.
fn columns<'a>(graph: &JobGraph, group: &[&'a JobVertex]) -> Vec<Vec<&'a JobVertex>> {
    let mut column: Vec<usize> = (0..group.len()).collect();
    let position = |vertex: usize| group.iter().position(|member| member.id == graph.vertices[vertex].id);
    for edge in graph.edges.iter().filter(|edge| edge.is_pointwise()) {
        if let (Some(source), Some(target)) = (position(edge.source), position(edge.target)) {
            let (one, other) = (column[source], column[target]);
            column.iter_mut().filter(|column| **column == one.max(other)).for_each(|column| *column = one.min(other));
        }
    }
    let mut columns: BTreeMap<usize, Vec<&JobVertex>> = BTreeMap::new();
    for (vertex, column) in group.iter().zip(column) {
        columns.entry(column).or_default().push(vertex);
    }
    let mut columns: Vec<_> = columns.into_values().collect();
    columns.sort_by_key(|column| std::cmp::Reverse(column[0].parallelism));
    columns
}

/// The widest vertices of a slot sharing group: each of its slots has one subtask of them.
struct Widest<'a> {
    vertices: Vec<&'a JobVertex>,
    parallelism: u32,
}

impl<'a> Widest<'a> {
    fn of(group: &[&'a JobVertex]) -> Self {
        let parallelism = job::widest(group);
        let vertices = group.iter().copied().filter(|vertex| vertex.parallelism == parallelism).collect();
        Self { vertices, parallelism }
    }
}

/// The slots of a job on their nodes, group by group, and what is in them so far.
struct Slots {
    /// Of the groups that are not placed yet.
    nodes: Vec<NodeId>,
    places: Places,
}

impl Slots {
    /// Slot i of a group is for subtask i of its widest vertices.
    fn take(
        groups: &[Widest<'_>],
        offers: &[SlotOffer],
        before: &Places,
        balance: LoadBalance,
    ) -> Result<Self, TooFewSlots> {
        let mut free: BTreeMap<&NodeId, u32> = BTreeMap::new();
        for offer in offers {
            *free.entry(&offer.node).or_default() += offer.slots;
        }
        let mut slots: Vec<Option<NodeId>> = Vec::new();
        // Whoever can stay takes its slot before anybody else takes one.
        for group in groups {
            let mut own: Vec<Option<NodeId>> = vec![None; group.parallelism as usize];
            for (_, slot, node) in by_locality(&group.vertices, before) {
                let left = free.get_mut(node).filter(|left| **left > 0);
                if let (Some(left), None) = (left, &own[slot]) {
                    *left -= 1;
                    own[slot] = Some(node.clone());
                }
            }
            slots.append(&mut own);
        }
        let left: Vec<SlotOffer> =
            free.into_iter().map(|(node, slots)| SlotOffer { node: node.clone(), slots }).collect();
        let needed = slots.len() as u32;
        let kept = slots.iter().flatten().count() as u32;
        let others = take_slots(&left, needed - kept, balance)
            .map_err(|TooFewSlots { free, .. }| TooFewSlots { needed, free: free + kept })?;
        let mut others = others.into_iter();
        let nodes = slots.into_iter().map(|slot| slot.or_else(|| others.next()).expect("so many were taken")).collect();
        Ok(Self { nodes, places: Places::new() })
    }

    /// Puts each subtask of a column into a slot of its own of the group that is placed now.
    fn place(&mut self, column: &[&JobVertex], before: &Places, balance: LoadBalance) {
        let (parallelism, first) = (column[0].parallelism, column[0].id);
        let is_widest = parallelism as usize == self.nodes.len();
        let mut free: BTreeSet<usize> = (0..self.nodes.len()).collect();
        let mut waiting = Vec::new();
        // Those that can stay take their slots before others do.
        for index in 0..parallelism {
            let stays = subtasks(before, first).count() == parallelism as usize;
            let node = before.get(&subtask(first, index)).filter(|_| stays && !is_widest);
            match node.and_then(|node| free.iter().copied().find(|slot| self.nodes[*slot] == *node)) {
                Some(slot) => self.fill(column, index, slot, &mut free),
                None => waiting.push(index),
            }
        }
        for index in waiting {
            let same = index as usize;
            let slot = match balance {
                LoadBalance::Tasks if !is_widest => free.iter().copied().min_by_key(|slot| (self.load(*slot), *slot)),
                LoadBalance::Tasks | LoadBalance::Slots | LoadBalance::MinResources => {
                    free.get(&same).or(free.first()).copied()
                }
            };
            self.fill(column, index, slot.expect("no vertex has more subtasks than there are slots"), &mut free);
        }
    }

    fn fill(&mut self, column: &[&JobVertex], index: u32, slot: usize, free: &mut BTreeSet<usize>) {
        free.remove(&slot);
        for vertex in column {
            self.places.insert(subtask(vertex.id, index), self.nodes[slot].clone());
        }
    }

    /// Subtasks on the node of a slot.
    fn load(&self, slot: usize) -> usize {
        self.places.values().filter(|node| **node == self.nodes[slot]).count()
    }
}

/// More than any number of key groups.
const STAYS: usize = 1 << 16;

/// Pairs of a slot and a node that has state of its subtasks, the most first.
fn by_locality<'a>(widest: &[&JobVertex], before: &'a Places) -> Vec<(usize, usize, &'a NodeId)> {
    let mut groups: BTreeMap<(usize, &NodeId), usize> = BTreeMap::new();
    for vertex in widest {
        let max = vertex.max_parallelism;
        let was = u32::try_from(subtasks(before, vertex.id).count()).unwrap_or(u32::MAX);
        for (old, node) in subtasks(before, vertex.id).filter(|(old, _)| old.index.0 < was && was <= u32::from(max)) {
            let kept = key_group_range(max, was, old.index);
            for index in 0..vertex.parallelism {
                let range = key_group_range(max, vertex.parallelism, SubtaskIndex(index));
                let common = usize::from(range.end.min(kept.end).saturating_sub(range.start.max(kept.start)));
                if common > 0 {
                    // Who can stay is not moved for state that moves anyway.
                    let stays = was == vertex.parallelism && old.index.0 == index;
                    *groups.entry((index as usize, node)).or_default() += common + if stays { STAYS } else { 0 };
                }
            }
        }
    }
    let mut pairs: Vec<_> = groups.into_iter().map(|((slot, node), common)| (common, slot, node)).collect();
    pairs.sort_by_key(|(common, slot, node)| (std::cmp::Reverse(*common), *slot, *node));
    pairs
}

fn subtask(vertex: VertexId, index: u32) -> SubtaskId {
    SubtaskId { vertex, index: SubtaskIndex(index) }
}

fn subtasks(places: &Places, vertex: VertexId) -> impl Iterator<Item = (SubtaskId, &NodeId)> {
    places.range(subtask(vertex, 0)..=subtask(vertex, u32::MAX)).map(|(id, node)| (*id, node))
}

/// The node of each slot of a job that takes `needed` slots; offers in any order give the same answer.
///
/// # Errors
/// When there are too few.
pub fn take_slots(offers: &[SlotOffer], needed: u32, balance: LoadBalance) -> Result<Vec<NodeId>, TooFewSlots> {
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
            let take = match balance {
                LoadBalance::MinResources => *left,
                // Nodes with the most free slots first, so that loads become equal and stay so.
                LoadBalance::Slots | LoadBalance::Tasks => u32::from(*left > 0 && *left == most),
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
#[path = "placement_tests.rs"]
mod tests;
