//! Pipelined regions: subtasks that are joined by channels, directly or over others, fail and restart together. A forward
//! edge joins subtask i with subtask i, every other edge all that it connects; so a job with keys is mostly one region,
//! two pipelines that share nothing are two, and a chain of forward edges has one for each subtask. What a region has to have
//! in common with one of another graph to be the same is decided here as well.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::job::{JobEdge, JobGraph, JobVertex};
use crate::ids::{OperatorUid, RegionId, SubtaskId, SubtaskIndex, VertexId};

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

/// The regions of a job's subtasks. Those of its first graph are numbered from 0 in the order of their first subtasks, by
/// vertex and index, so that the same graph always has the same. Numbers are never used again: a region that the next graph
/// has as well keeps its own there, every other gets a new one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Regions {
    of: BTreeMap<SubtaskId, RegionId>,
    subtasks: BTreeMap<RegionId, Vec<SubtaskId>>,
    next: u32,
}

impl Regions {
    /// The regions of a job's first graph.
    #[must_use]
    pub fn of(graph: &JobGraph, strategy: FailoverStrategy) -> Self {
        let mut regions = Self::default();
        for subtasks in grouped(graph, strategy) {
            regions.add(None, subtasks);
        }
        regions
    }

    /// The regions of the next graph of the job, where these are those of the one `before`. A region is the same when it has
    /// the same subtasks and every vertex of them is the same: its operators, its parallelism, its edges. A subtask that
    /// does not stay makes a new region of its own.
    #[must_use]
    pub fn after(
        &self,
        before: &JobGraph,
        graph: &JobGraph,
        strategy: FailoverStrategy,
        stays: impl Fn(SubtaskId) -> bool,
    ) -> Self {
        let unchanged = unchanged(before, graph);
        let mut regions = Self { next: self.next, ..Self::default() };
        for subtasks in grouped(graph, strategy) {
            let known = subtasks.first().and_then(|first| self.of_subtask(*first));
            let is_same = known.is_some_and(|known| {
                let members: BTreeSet<&SubtaskId> = subtasks.iter().collect();
                members == self.subtasks(known).iter().collect()
                    && subtasks.iter().all(|id| unchanged.contains(&id.vertex) && stays(*id))
            });
            regions.add(known.filter(|_| is_same), subtasks);
        }
        regions
    }

    /// A region under its number, or under the next one.
    fn add(&mut self, known: Option<RegionId>, subtasks: Vec<SubtaskId>) {
        let region = known.unwrap_or_else(|| {
            self.next = self.next.checked_add(1).expect("regions are counted in u32");
            RegionId(self.next - 1)
        });
        self.of.extend(subtasks.iter().map(|id| (*id, region)));
        self.subtasks.insert(region, subtasks);
    }

    /// Their numbers.
    #[must_use]
    pub fn ids(&self) -> BTreeSet<RegionId> {
        self.subtasks.keys().copied().collect()
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
        self.subtasks.get(&region).map_or(&[], Vec::as_slice)
    }
}

/// The subtasks of a graph by region.
fn grouped(graph: &JobGraph, strategy: FailoverStrategy) -> Vec<Vec<SubtaskId>> {
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
    let ids = graph.vertices.iter().flat_map(|vertex| {
        (0..vertex.parallelism).map(|index| SubtaskId { vertex: vertex.id, index: SubtaskIndex(index) })
    });
    let mut groups: Vec<Vec<SubtaskId>> = Vec::new();
    for (id, number) in ids.zip(number(&parallelism, &edges)) {
        if number == groups.len() {
            groups.push(Vec::new());
        }
        groups[number].push(id);
    }
    groups
}

/// The vertices that are the same in two graphs of a job. There is none when one has operators that the other lacks: what
/// becomes of their state concerns the whole job.
fn unchanged(before: &JobGraph, graph: &JobGraph) -> BTreeSet<VertexId> {
    let operators = |graph: &JobGraph| -> BTreeSet<OperatorUid> {
        graph.vertices.iter().flat_map(|vertex| vertex.operators.iter().cloned()).collect()
    };
    if operators(before) != operators(graph) {
        return BTreeSet::new();
    }
    let is_same = |(index, vertex): &(usize, &JobVertex)| {
        let known = before.vertices.iter().position(|known| known.id == vertex.id);
        known.is_some_and(|known| Shape::of(before, known) == Shape::of(graph, *index))
    };
    graph.vertices.iter().enumerate().filter(is_same).map(|(_, vertex)| vertex.id).collect()
}

/// All that the subtasks of a vertex are made by, but for the code of the program, which is the same.
#[derive(PartialEq)]
struct Shape<'a> {
    operators: &'a [OperatorUid],
    parallelism: u32,
    max_parallelism: u16,
    /// Without the places that vertices have in the graph.
    inputs: Vec<JobEdge>,
    outputs: Vec<JobEdge>,
}

impl<'a> Shape<'a> {
    fn of(graph: &'a JobGraph, index: usize) -> Self {
        let JobVertex { operators, parallelism, max_parallelism, .. } = &graph.vertices[index];
        let placeless = |edge: &JobEdge| JobEdge { source: 0, target: 0, ..edge.clone() };
        let mut inputs: Vec<JobEdge> = graph.inputs(index).map(placeless).collect();
        inputs.sort_by(|a, b| (a.input, &a.name, a.output).cmp(&(b.input, &b.name, b.output)));
        let outputs = graph.outputs(index).map(placeless).collect();
        Self { operators, parallelism: *parallelism, max_parallelism: *max_parallelism, inputs, outputs }
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
    use crate::graph::stream::ShipStrategy;

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

    /// Numbers of the regions of the subtasks, by vertex and index.
    fn numbers(regions: &Regions, graph: &JobGraph) -> Vec<u32> {
        let subtasks = graph.vertices.iter().flat_map(|vertex| {
            (0..vertex.parallelism).map(|index| SubtaskId { vertex: vertex.id, index: SubtaskIndex(index) })
        });
        subtasks.map(|id| regions.of_subtask(id).map_or(u32::MAX, |region| region.0)).collect()
    }

    #[test]
    fn a_region_that_the_next_graph_has_as_well_keeps_its_number_and_others_get_new_ones() {
        let pipelines = |parallelism: u32| {
            let edges = [(0, 1, ShipStrategy::Hash), (2, 3, ShipStrategy::Hash)];
            JobGraph::of_shape(&[1, 2, 1, parallelism], &edges)
        };
        let (two, three) = (pipelines(2), pipelines(3));
        let first = Regions::of(&two, FailoverStrategy::Region);
        assert_eq!(numbers(&first, &two), [0, 0, 0, 1, 1, 1]);
        let same = first.after(&two, &two, FailoverStrategy::Region, |_| true);
        assert_eq!(same, first, "nothing has changed");
        let second = first.after(&two, &three, FailoverStrategy::Region, |_| true);
        assert_eq!(numbers(&second, &three), [0, 0, 0, 2, 2, 2, 2]);
        let third = second.after(&three, &two, FailoverStrategy::Region, |_| true);
        assert_eq!(numbers(&third, &two), [0, 0, 0, 3, 3, 3], "a number is not used again");
        let moved = third.after(&two, &two, FailoverStrategy::Region, |id| id.vertex != two.vertices[1].id);
        assert_eq!(numbers(&moved, &two), [4, 4, 4, 3, 3, 3], "some of its subtasks have to move");
        let whole = Regions::of(&two, FailoverStrategy::Full).after(&two, &three, FailoverStrategy::Full, |_| true);
        assert_eq!(numbers(&whole, &three), [1; 7]);
    }

    #[test]
    fn lanes_are_others_when_their_vertex_is_but_stay_each_on_its_own_where_it_is_not() {
        let lanes =
            |parallelism: u32| JobGraph::of_shape(&[parallelism, parallelism], &[(0, 1, ShipStrategy::Forward)]);
        let (two, three) = (lanes(2), lanes(3));
        let first = Regions::of(&two, FailoverStrategy::Region);
        let wider = first.after(&two, &three, FailoverStrategy::Region, |_| true);
        assert_eq!(numbers(&wider, &three), [2, 3, 4, 2, 3, 4], "key groups and operator state are dealt out anew");
        let moved = first.after(&two, &two, FailoverStrategy::Region, |id| id.index.0 == 0);
        assert_eq!(numbers(&moved, &two), [0, 2, 0, 2]);
    }

    #[test]
    fn a_region_is_another_when_its_edges_or_the_operators_of_the_job_are() {
        let shape = |strategy| JobGraph::of_shape(&[2, 2, 1], &[(0, 1, strategy)]);
        let (hash, rebalance) = (shape(ShipStrategy::Hash), shape(ShipStrategy::Rebalance));
        let first = Regions::of(&hash, FailoverStrategy::Region);
        let second = first.after(&hash, &rebalance, FailoverStrategy::Region, |_| true);
        assert_eq!(numbers(&second, &rebalance), [2, 2, 2, 2, 1]);
        let more = JobGraph::of_shape(&[2, 2, 1, 1], &[(0, 1, ShipStrategy::Hash)]);
        let third = first.after(&hash, &more, FailoverStrategy::Region, |_| true);
        assert_eq!(numbers(&third, &more), [2, 2, 2, 2, 3, 4]);
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
