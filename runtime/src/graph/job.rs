//! The job graph: chains of operators that are deployed together, and the edges between them.

use std::collections::BTreeMap;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_128;

use super::build::ChainPlan;
use super::stream::{EnumeratorFactory, ShipStrategy, SlotSharingGroup};
use crate::ids::{OperatorUid, VertexId};
use crate::ports::PortError;
use crate::ports::sink::SinkOutput;
use crate::state::conversion::Conversion;
use crate::state::cut::StateDeclaration;
use crate::state::schema::conversions;

/// An edge between two vertices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobEdge {
    /// Says which operators it joins: the same at every parallelism, however chains are cut.
    pub name: String,
    /// Index of the sending vertex.
    pub source: usize,
    /// Which of the sender's edges it is.
    pub output: usize,
    /// Index of the receiving vertex.
    pub target: usize,
    /// Which input of the receiver.
    pub input: u8,
    /// How rows choose their channel, `Forward` resolved.
    pub strategy: ShipStrategy,
    /// Forward, were it not for the parallelism of its two ends: at another, subtask i sends to subtask i only.
    pub by_parallelism: bool,
}

impl JobEdge {
    /// Whether subtask i sends to subtask i only.
    #[must_use]
    pub fn is_pointwise(&self) -> bool {
        self.strategy == ShipStrategy::Forward
    }
}

/// A chain of operators, deployed as `parallelism` subtasks.
#[derive(Clone)]
pub struct JobVertex {
    /// Derived from the uid of its first operator.
    pub id: VertexId,
    /// Names of its operators, joined by arrows.
    pub name: String,
    /// Uids of its operators, in chain order.
    pub operators: Vec<OperatorUid>,
    /// Number of subtasks.
    pub parallelism: u32,
    /// Number of key groups.
    pub max_parallelism: u16,
    /// Subtasks that it can have at most: one for each key group, fewer when an operator cannot share its work among as many.
    pub most_subtasks: u32,
    /// Whether the program says how many subtasks it has: it keeps those when the parallelism of the job changes.
    pub sets_parallelism: bool,
    /// Whose slots its subtasks share.
    pub slot_sharing_group: SlotSharingGroup,
    /// Makes the enumerator, if it reads a source: the uid of the source and the factory.
    pub enumerator: Option<(OperatorUid, Arc<dyn EnumeratorFactory>)>,
    /// Makes the operators of a subtask.
    pub plan: Arc<ChainPlan>,
}

impl JobVertex {
    /// What has to be done with stored keyed states of an operator before it can read them.
    ///
    /// # Errors
    /// `FixInput` when the program cannot read one of them.
    pub fn conversions(&self, uid: &OperatorUid, stored: &[StateDeclaration]) -> Result<Vec<Conversion>, PortError> {
        conversions(&self.plan.states(uid), stored)
            .map_err(|error| PortError { message: format!("operator '{uid}': {}", error.message), kind: error.kind })
    }
}

/// A job that can be deployed.
#[derive(Clone)]
pub struct JobGraph {
    /// Name of the job.
    pub name: String,
    /// Vertices in topological order.
    pub vertices: Vec<JobVertex>,
    /// Edges, grouped by sender in the order of its outputs.
    pub edges: Vec<JobEdge>,
    /// Stateful operators without a uid of the user's: their state is found by name only.
    pub without_uid: Vec<String>,
    /// The shortest transaction time-out of a sink, with its name.
    pub transaction_timeout: Option<(String, u64)>,
    /// Types of the records on the edges, for the fingerprint.
    pub types: Vec<&'static str>,
}

impl JobGraph {
    /// Digest of uids, types and edges; parallelism is not part of it.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 16] {
        let mut text = String::new();
        for vertex in &self.vertices {
            for uid in &vertex.operators {
                text.push_str(&uid.0);
                text.push('\n');
            }
        }
        for edge in &self.edges {
            text.push_str(&format!("{}>{}:{} {}\n", edge.source, edge.target, edge.input, edge.strategy.name()));
        }
        self.types.iter().for_each(|name| text.push_str(name));
        xxh3_128(text.as_bytes()).to_be_bytes()
    }

    /// Edges into a vertex.
    pub fn inputs(&self, vertex: usize) -> impl Iterator<Item = &JobEdge> {
        self.edges.iter().filter(move |edge| edge.target == vertex)
    }

    /// Edges out of a vertex, in the order of its outputs.
    pub fn outputs(&self, vertex: usize) -> impl Iterator<Item = &JobEdge> {
        self.edges.iter().filter(move |edge| edge.source == vertex)
    }

    /// The places its sinks write to.
    pub fn sink_outputs(&self) -> impl Iterator<Item = Arc<dyn SinkOutput>> {
        // Every chain knows the whole graph.
        let nodes = self.vertices.first().into_iter().flat_map(|vertex| &vertex.plan.graph.nodes);
        nodes.filter_map(|node| node.factory.output())
    }

    /// The greatest parallelism of a vertex.
    #[must_use]
    pub fn parallelism(&self) -> u32 {
        self.vertices.iter().map(|vertex| vertex.parallelism).max().unwrap_or(1)
    }

    /// Ids and names of all vertices, for errors.
    pub(crate) fn vertices_in_words(&self) -> String {
        let words = self.vertices.iter().map(|vertex| format!("{} ({})", vertex.id, vertex.name));
        words.collect::<Vec<_>>().join(", ")
    }

    /// The slots that the job needs: of each slot sharing group as many as its widest vertex has subtasks.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.slot_sharing_groups().values().map(|group| widest(group)).fold(0, u32::saturating_add)
    }

    /// The vertices of each slot sharing group, in topological order.
    #[must_use]
    pub fn slot_sharing_groups(&self) -> BTreeMap<&SlotSharingGroup, Vec<&JobVertex>> {
        let mut groups: BTreeMap<&SlotSharingGroup, Vec<&JobVertex>> = BTreeMap::new();
        for vertex in &self.vertices {
            groups.entry(&vertex.slot_sharing_group).or_default().push(vertex);
        }
        groups
    }

    /// How many subtasks each vertex has.
    #[must_use]
    pub fn parallelism_by_vertex(&self) -> BTreeMap<VertexId, u32> {
        self.vertices.iter().map(|vertex| (vertex.id, vertex.parallelism)).collect()
    }

    /// Whether every source ends by itself.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        self.vertices
            .iter()
            .filter_map(|vertex| vertex.enumerator.as_ref())
            .all(|(_, enumerator)| enumerator.is_bounded())
    }
}

/// The parallelism of the widest of some vertices.
#[must_use]
pub fn widest(vertices: &[&JobVertex]) -> u32 {
    vertices.iter().map(|vertex| vertex.parallelism).max().unwrap_or(0)
}

#[cfg(test)]
impl JobGraph {
    /// A graph that cannot be run, only looked at: the parallelism of its vertices, and edges between them by index.
    pub(crate) fn of_shape(vertices: &[u32], edges: &[(usize, usize, ShipStrategy)]) -> Self {
        use super::stream::{NodeId, StreamGraph};

        let plan = ChainPlan {
            graph: Arc::new(StreamGraph::default()),
            head: NodeId(0),
            members: Vec::new(),
            consumers: Vec::new(),
        };
        let plan = Arc::new(plan);
        let vertex = |(index, parallelism): (usize, &u32)| JobVertex {
            id: VertexId::from_name(&format!("v{index}")),
            name: format!("v{index}"),
            operators: vec![OperatorUid(format!("v{index}"))],
            parallelism: *parallelism,
            max_parallelism: 128,
            most_subtasks: 128,
            sets_parallelism: false,
            slot_sharing_group: SlotSharingGroup::default(),
            enumerator: None,
            plan: Arc::clone(&plan),
        };
        let edge = |&(source, target, strategy): &(usize, usize, ShipStrategy)| JobEdge {
            name: format!("{source}-{target}"),
            source,
            output: edges.iter().filter(|edge| edge.0 == source).position(|edge| edge.1 == target).unwrap_or(0),
            target,
            input: 0,
            strategy,
            by_parallelism: false,
        };
        Self {
            name: "shape".to_owned(),
            vertices: vertices.iter().enumerate().map(vertex).collect(),
            edges: edges.iter().map(edge).collect(),
            without_uid: Vec::new(),
            transaction_timeout: None,
            types: Vec::new(),
        }
    }
}
