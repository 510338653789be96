//! Turns the stream graph into the job graph: consecutive operators with forward edges become one vertex. Which ones is up
//! to the program alone, never to the parallelism that a job has: so its vertices stay what they are when it is rescaled,
//! one by one or all, and can be named by their ids.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::build::{ChainPlan, Consumer};
use super::job::{JobEdge, JobGraph, JobVertex};
use super::stream::{NodeId, NodeKind, ShipStrategy, SlotSharingGroup, StreamGraph};
use crate::ids::VertexId;

/// What a job graph is made with.
#[derive(Clone, Debug)]
pub struct PlanOptions {
    /// Name of the job.
    pub name: String,
    /// Parallelism of operators that do not set their own.
    pub parallelism: u32,
    /// Number of key groups.
    pub max_parallelism: u16,
    /// `pipeline.operator-chaining.enabled`.
    pub chaining: bool,
}

/// A graph that cannot be deployed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Nothing to run.
    #[error("the job has no operators: add a source with `from_source`")]
    Empty,
    /// Two operators with one uid.
    #[error("two operators have the uid '{0}': state could not be told apart, give each its own `.uid(..)`")]
    DuplicateUid(String),
    /// More subtasks than key groups.
    #[error(
        "operator '{name}' has parallelism {parallelism}, more than the {max} key groups: raise `pipeline.max-parallelism` (a new job only) or lower the parallelism"
    )]
    TooParallel {
        /// The operator.
        name: String,
        /// Asked for.
        parallelism: u32,
        /// Allowed.
        max: u16,
    },
    /// More subtasks than an operator can share its work among.
    #[error("operator '{name}' cannot work in parallel: it has at most {most} subtasks, not {parallelism}")]
    NotParallel {
        /// The operator.
        name: String,
        /// Asked for.
        parallelism: u32,
        /// Allowed.
        most: u32,
    },
    /// The parallelism of a vertex that the job does not have.
    #[error("the job has no vertex {vertex}; its vertices are {known}")]
    UnknownVertex {
        /// Asked for.
        vertex: VertexId,
        /// Those that there are.
        known: String,
    },
    /// A vertex without subtasks.
    #[error("vertex {0} needs a parallelism of at least 1")]
    NoSubtasks(VertexId),
}

/// Plans the job.
///
/// # Errors
/// When the graph cannot be deployed.
pub fn plan(graph: StreamGraph, options: &PlanOptions) -> Result<JobGraph, PlanError> {
    if graph.nodes.is_empty() {
        return Err(PlanError::Empty);
    }
    let parallelism: Vec<u32> =
        graph.nodes.iter().map(|node| node.parallelism.unwrap_or(options.parallelism).max(1)).collect();
    check(&graph, &parallelism, options)?;
    let groups = slot_sharing_groups(&graph);
    let graph = Arc::new(graph);
    let heads: Vec<NodeId> =
        (0..graph.nodes.len()).map(NodeId).filter(|id| !is_chained(&graph, *id, &groups, options)).collect();
    let mut chain_of = vec![0; graph.nodes.len()];
    for id in (0..graph.nodes.len()).map(NodeId) {
        chain_of[id.0] = match heads.iter().position(|head| *head == id) {
            Some(vertex) => vertex,
            None => chain_of[graph.nodes[id.0].inputs[0].from.0],
        };
    }
    let vertex = |(vertex, head): (usize, &NodeId)| {
        let members: Vec<NodeId> = (0..graph.nodes.len()).map(NodeId).filter(|id| chain_of[id.0] == vertex).collect();
        let limits = members.iter().filter_map(|id| graph.nodes[id.0].most_subtasks);
        JobVertex {
            id: VertexId::from_name(&graph.uid(*head).0),
            name: members.iter().map(|id| graph.nodes[id.0].name.as_str()).collect::<Vec<_>>().join(" -> "),
            operators: members.iter().map(|id| graph.uid(*id)).collect(),
            parallelism: parallelism[head.0],
            max_parallelism: options.max_parallelism,
            most_subtasks: limits.fold(u32::from(options.max_parallelism), u32::min),
            sets_parallelism: graph.nodes[head.0].parallelism.is_some(),
            slot_sharing_group: groups[head.0].clone(),
            enumerator: graph.nodes[head.0].enumerator.clone().map(|factory| (graph.uid(*head), factory)),
            plan: Arc::new(ChainPlan { graph: Arc::clone(&graph), head: *head, members, consumers: Vec::new() }),
        }
    };
    let mut job = JobGraph {
        name: options.name.clone(),
        vertices: heads.iter().enumerate().map(vertex).collect(),
        edges: Vec::new(),
        without_uid: without_uid(&graph),
        transaction_timeout: transaction_timeout(&graph),
        types: graph.nodes.iter().map(|node| node.output_type).collect(),
    };
    connect(&mut job);
    Ok(job)
}

impl JobGraph {
    /// The same job with so many subtasks of these vertices; the others keep theirs. Forward edges between vertices whose
    /// parallelism differs then deal rows out in turns.
    ///
    /// # Errors
    /// When there is no such vertex, or it cannot have as many subtasks.
    pub fn with_parallelism(&self, wanted: &BTreeMap<VertexId, u32>) -> Result<Self, PlanError> {
        let mut job = self.clone();
        for (id, parallelism) in wanted {
            let Some(vertex) = job.vertices.iter_mut().find(|vertex| vertex.id == *id) else {
                return Err(PlanError::UnknownVertex { vertex: *id, known: self.vertices_in_words() });
            };
            vertex.parallelism = *parallelism;
            vertex.check()?;
        }
        connect(&mut job);
        Ok(job)
    }
}

impl JobVertex {
    fn check(&self) -> Result<(), PlanError> {
        let (name, parallelism) = (self.name.clone(), self.parallelism);
        if parallelism == 0 {
            return Err(PlanError::NoSubtasks(self.id));
        }
        if parallelism > u32::from(self.max_parallelism) {
            return Err(PlanError::TooParallel { name, parallelism, max: self.max_parallelism });
        }
        if parallelism > self.most_subtasks {
            return Err(PlanError::NotParallel { name, parallelism, most: self.most_subtasks });
        }
        Ok(())
    }
}

fn check(graph: &StreamGraph, parallelism: &[u32], options: &PlanOptions) -> Result<(), PlanError> {
    let mut seen = std::collections::BTreeSet::new();
    for id in (0..graph.nodes.len()).map(NodeId) {
        let uid = graph.uid(id);
        if !seen.insert(uid.clone()) {
            return Err(PlanError::DuplicateUid(uid.0));
        }
        if parallelism[id.0] > u32::from(options.max_parallelism) {
            return Err(PlanError::TooParallel {
                name: graph.nodes[id.0].name.clone(),
                parallelism: parallelism[id.0],
                max: options.max_parallelism,
            });
        }
        let node = &graph.nodes[id.0];
        if let Some(most) = node.most_subtasks.filter(|most| *most < parallelism[id.0]) {
            let (name, parallelism) = (node.name.clone(), parallelism[id.0]);
            return Err(PlanError::NotParallel { name, parallelism, most });
        }
    }
    Ok(())
}

/// The group of each node: its own, or that of all of its inputs if they have the same, as in Flink.
fn slot_sharing_groups(graph: &StreamGraph) -> Vec<SlotSharingGroup> {
    let mut groups: Vec<SlotSharingGroup> = Vec::new();
    for node in &graph.nodes {
        let mut inputs = node.inputs.iter().map(|edge| &groups[edge.from.0]);
        let inherited = inputs.next().filter(|first| inputs.all(|other| other == *first)).cloned();
        groups.push(node.slot_sharing_group.clone().or(inherited).unwrap_or_default());
    }
    groups
}

/// Whether a node runs in the chain of its input. Both must have the job's parallelism, or set the same themselves: two
/// that only happen to have the same might not at another.
fn is_chained(graph: &StreamGraph, id: NodeId, groups: &[SlotSharingGroup], options: &PlanOptions) -> bool {
    let node = &graph.nodes[id.0];
    let [edge] = node.inputs.as_slice() else { return false };
    options.chaining
        && node.chaining
        && matches!(node.kind, NodeKind::Operator | NodeKind::Sink)
        && edge.strategy == ShipStrategy::Forward
        && graph.nodes[edge.from.0].parallelism == node.parallelism
        && groups[edge.from.0] == groups[id.0]
}

/// Joins the vertices as their parallelism says.
fn connect(job: &mut JobGraph) {
    job.edges.clear();
    let Some(graph) = job.vertices.first().map(|vertex| Arc::clone(&vertex.plan.graph)) else { return };
    let mut chain_of = vec![0; graph.nodes.len()];
    for (index, vertex) in job.vertices.iter().enumerate() {
        vertex.plan.members.iter().for_each(|member| chain_of[member.0] = index);
    }
    let parallelism: Vec<u32> = chain_of.iter().map(|vertex| job.vertices[*vertex].parallelism).collect();
    for (index, vertex) in job.vertices.iter_mut().enumerate() {
        let (head, members) = (vertex.plan.head, vertex.plan.members.clone());
        let consumers = chain_plan(&graph, index, &members, &chain_of, &parallelism, &mut job.edges);
        vertex.plan = Arc::new(ChainPlan { graph: Arc::clone(&graph), head, members, consumers });
    }
}

/// The consumers of every member of a chain, in graph order; edges that leave the chain are added to `edges`.
fn chain_plan(
    graph: &StreamGraph,
    vertex: usize,
    members: &[NodeId],
    chain_of: &[usize],
    parallelism: &[u32],
    edges: &mut Vec<JobEdge>,
) -> Vec<(NodeId, Vec<Consumer>)> {
    let mut outputs = 0;
    let mut plan = Vec::new();
    for &member in members {
        let mut consumers = Vec::new();
        for (target, node) in graph.nodes.iter().enumerate() {
            for (index, edge) in node.inputs.iter().enumerate().filter(|(_, edge)| edge.from == member) {
                if chain_of[target] == vertex {
                    consumers.push(Consumer::Chained(NodeId(target), index));
                    continue;
                }
                let by_parallelism =
                    edge.strategy == ShipStrategy::Forward && parallelism[member.0] != parallelism[target];
                let strategy = if by_parallelism { ShipStrategy::Rebalance } else { edge.strategy };
                consumers.push(Consumer::Exchange(NodeId(target), index, outputs));
                let name = format!("{}/{}/{index}", graph.uid(member).0, graph.uid(NodeId(target)).0);
                let (target, input) = (chain_of[target], edge.input);
                edges.push(JobEdge { name, source: vertex, output: outputs, target, input, strategy, by_parallelism });
                outputs += 1;
            }
        }
        plan.push((member, consumers));
    }
    plan
}

fn without_uid(graph: &StreamGraph) -> Vec<String> {
    graph.nodes.iter().filter(|node| node.stateful && node.uid.is_none()).map(|node| node.name.clone()).collect()
}

fn transaction_timeout(graph: &StreamGraph) -> Option<(String, u64)> {
    graph
        .nodes
        .iter()
        .filter_map(|node| Some((node.name.clone(), node.transaction_timeout_ms?)))
        .min_by_key(|(_, timeout)| *timeout)
}
