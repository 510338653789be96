//! Turns the stream graph into the job graph: consecutive operators with forward edges become one vertex.

use std::sync::Arc;

use super::build::{ChainPlan, Consumer};
use super::job::{JobEdge, JobGraph, JobVertex};
use super::stream::{NodeId, NodeKind, ShipStrategy, StreamGraph};
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
    let graph = Arc::new(graph);
    let heads: Vec<NodeId> =
        (0..graph.nodes.len()).map(NodeId).filter(|id| !is_chained(&graph, *id, &parallelism, options)).collect();
    let mut chain_of = vec![0; graph.nodes.len()];
    for id in (0..graph.nodes.len()).map(NodeId) {
        chain_of[id.0] = match heads.iter().position(|head| *head == id) {
            Some(vertex) => vertex,
            None => chain_of[graph.nodes[id.0].inputs[0].from.0],
        };
    }
    let mut job = JobGraph {
        name: options.name.clone(),
        vertices: Vec::new(),
        edges: Vec::new(),
        without_uid: without_uid(&graph),
        transaction_timeout: transaction_timeout(&graph),
        types: graph.nodes.iter().map(|node| node.output_type).collect(),
    };
    for (vertex, head) in heads.iter().enumerate() {
        let members: Vec<NodeId> = (0..graph.nodes.len()).map(NodeId).filter(|id| chain_of[id.0] == vertex).collect();
        let plan = chain_plan(&graph, vertex, &members, &chain_of, &parallelism, &mut job.edges);
        job.vertices.push(JobVertex {
            id: VertexId::from_name(&graph.uid(*head).0),
            name: members.iter().map(|id| graph.nodes[id.0].name.as_str()).collect::<Vec<_>>().join(" -> "),
            operators: members.iter().map(|id| graph.uid(*id)).collect(),
            parallelism: parallelism[head.0],
            max_parallelism: options.max_parallelism,
            enumerator: graph.nodes[head.0].enumerator.clone().map(|factory| (graph.uid(*head), factory)),
            plan: Arc::new(ChainPlan { graph: Arc::clone(&graph), head: *head, members, consumers: plan }),
        });
    }
    Ok(job)
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
    }
    Ok(())
}

/// Whether a node runs in the chain of its input.
fn is_chained(graph: &StreamGraph, id: NodeId, parallelism: &[u32], options: &PlanOptions) -> bool {
    let node = &graph.nodes[id.0];
    let [edge] = node.inputs.as_slice() else { return false };
    options.chaining
        && node.chaining
        && matches!(node.kind, NodeKind::Operator | NodeKind::Sink)
        && edge.strategy == ShipStrategy::Forward
        && parallelism[edge.from.0] == parallelism[id.0]
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
