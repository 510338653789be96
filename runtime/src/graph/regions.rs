//! Pipelined regions: subtasks that are joined by channels, directly or over others, fail and restart together. A forward
//! edge joins subtask i with subtask i, every other edge all that it connects; so a job with keys is mostly one region,
//! two pipelines that share nothing are two, and a chain of forward edges has one for each subtask.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::job::JobGraph;
use crate::ids::{RegionId, SubtaskId, SubtaskIndex};

/// What is restarted when a subtask fails (`jobmanager.execution.failover-strategy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailoverStrategy {
    /// The region of the subtask.
    #[default]
    Region,
    /// All subtasks: the job counts as one region.
    Full,
}

/// The regions of a job's subtasks. Numbered from 0 in the order of their first subtasks, by vertex and index, so that the
/// same graph always has the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Regions {
    of: BTreeMap<SubtaskId, RegionId>,
    subtasks: Vec<Vec<SubtaskId>>,
}

impl Regions {
    /// The regions of a graph.
    #[must_use]
    pub fn of(graph: &JobGraph, strategy: FailoverStrategy) -> Self {
        let parallelism: Vec<u32> = graph.vertices.iter().map(|vertex| vertex.parallelism).collect();
        let edges: Vec<Joined> = match strategy {
            FailoverStrategy::Region => graph
                .edges
                .iter()
                .map(|edge| Joined { source: edge.source, target: edge.target, pointwise: edge.is_pointwise() })
                .collect(),
            FailoverStrategy::Full => {
                (0..parallelism.len()).map(|vertex| Joined { source: 0, target: vertex, pointwise: false }).collect()
            }
        };
        let numbers = number(&parallelism, &edges);
        let ids = graph.vertices.iter().flat_map(|vertex| {
            (0..vertex.parallelism).map(|index| SubtaskId { vertex: vertex.id, index: SubtaskIndex(index) })
        });
        let mut regions = Self::default();
        for (id, number) in ids.zip(numbers) {
            if number == regions.subtasks.len() {
                regions.subtasks.push(Vec::new());
            }
            regions.subtasks[number].push(id);
            regions.of.insert(id, RegionId(u32::try_from(number).expect("subtasks are counted in u32")));
        }
        regions
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.subtasks.len()
    }

    /// Whether there is none: a graph without vertices.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.subtasks.is_empty()
    }

    /// The region of a subtask.
    #[must_use]
    pub fn of_subtask(&self, id: SubtaskId) -> Option<RegionId> {
        self.of.get(&id).copied()
    }

    /// The subtasks of a region, by vertex and index.
    #[must_use]
    pub fn subtasks(&self, region: RegionId) -> &[SubtaskId] {
        self.subtasks.get(region.0 as usize).map_or(&[], Vec::as_slice)
    }
}

/// Two vertices that an edge joins.
#[derive(Clone, Copy, Debug)]
struct Joined {
    source: usize,
    target: usize,
    pointwise: bool,
}

/// The region of every subtask, subtasks in order of vertex and index. Union-find with the smallest member as root.
fn number(parallelism: &[u32], edges: &[Joined]) -> Vec<usize> {
    let mut first = vec![0];
    parallelism.iter().for_each(|width| first.push(first[first.len() - 1] + *width as usize));
    let mut parents: Vec<usize> = (0..first[parallelism.len()]).collect();
    for edge in edges {
        let (senders, receivers) =
            (first[edge.source]..first[edge.source + 1], first[edge.target]..first[edge.target + 1]);
        if edge.pointwise {
            senders.zip(receivers).for_each(|(sender, receiver)| join(&mut parents, sender, receiver));
        } else if let (Some(one), false) = (senders.clone().next(), receivers.is_empty()) {
            senders.chain(receivers).for_each(|other| join(&mut parents, one, other));
        }
    }
    let mut numbers: BTreeMap<usize, usize> = BTreeMap::new();
    (0..parents.len())
        .map(|subtask| {
            let next = numbers.len();
            *numbers.entry(root(&mut parents, subtask)).or_insert(next)
        })
        .collect()
}

fn root(parents: &mut [usize], mut subtask: usize) -> usize {
    while parents[subtask] != subtask {
        parents[subtask] = parents[parents[subtask]];
        subtask = parents[subtask];
    }
    subtask
}

fn join(parents: &mut [usize], one: usize, other: usize) {
    let (one, other) = (root(parents, one), root(parents, other));
    parents[one.max(other)] = one.min(other);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forward(source: usize, target: usize) -> Joined {
        Joined { source, target, pointwise: true }
    }

    fn all_to_all(source: usize, target: usize) -> Joined {
        Joined { source, target, pointwise: false }
    }

    #[test]
    fn a_chain_of_forward_edges_has_a_region_for_each_subtask() {
        assert_eq!(number(&[3, 3], &[forward(0, 1)]), [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn an_edge_between_all_subtasks_makes_one_region_of_what_it_connects() {
        assert_eq!(number(&[2, 2, 2], &[forward(0, 1), all_to_all(1, 2)]), [0; 6]);
        assert_eq!(number(&[2, 3], &[all_to_all(0, 1)]), [0; 5]);
    }

    #[test]
    fn pipelines_that_share_nothing_are_regions_of_their_own() {
        assert_eq!(number(&[2, 2, 1, 3], &[all_to_all(0, 1), all_to_all(2, 3)]), [0, 0, 0, 0, 1, 1, 1, 1]);
        assert_eq!(number(&[2, 1], &[]), [0, 1, 2]);
        assert_eq!(number(&[], &[]), [0; 0]);
    }

    /// Channels one by one, closed by repetition until nothing changes.
    fn naive(parallelism: &[u32], edges: &[Joined]) -> Vec<usize> {
        let subtasks: Vec<(usize, u32)> =
            (0..).zip(parallelism).flat_map(|(vertex, width)| (0..*width).map(move |index| (vertex, index))).collect();
        let mut regions: Vec<usize> = (0..subtasks.len()).collect();
        let connected = |one: (usize, u32), other: (usize, u32)| {
            edges
                .iter()
                .any(|edge| (one.0, other.0) == (edge.source, edge.target) && (!edge.pointwise || one.1 == other.1))
        };
        loop {
            let before = regions.clone();
            for one in 0..subtasks.len() {
                for other in 0..subtasks.len() {
                    if connected(subtasks[one], subtasks[other]) {
                        let least = regions[one].min(regions[other]);
                        (regions[one], regions[other]) = (least, least);
                    }
                }
            }
            if regions == before {
                let mut roots = regions.clone();
                roots.sort_unstable();
                roots.dedup();
                return regions
                    .iter()
                    .map(|region| roots.iter().position(|root| root == region).unwrap_or(0))
                    .collect();
            }
        }
    }

    #[test]
    fn regions_are_what_a_naive_closure_over_all_channels_finds() {
        let mut random = 1u64;
        let mut draw = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        for _ in 0..2_000 {
            let vertices = 1 + draw(6) as usize;
            let parallelism: Vec<u32> = (0..vertices).map(|_| 1 + draw(4) as u32).collect();
            let mut edges = Vec::new();
            for source in 0..vertices {
                for target in source + 1..vertices {
                    match draw(5) {
                        0 if parallelism[source] == parallelism[target] => edges.push(forward(source, target)),
                        1 => edges.push(all_to_all(source, target)),
                        _ => {}
                    }
                }
            }
            assert_eq!(number(&parallelism, &edges), naive(&parallelism, &edges), "{parallelism:?} {edges:?}");
        }
    }
}
