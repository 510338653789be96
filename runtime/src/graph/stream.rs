//! The stream graph: one node per call of the API, typed factories behind untyped traits.

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::batch::{Batch, BatchLimit, Data};
use crate::chain::context::RestoredOperator;
use crate::chain::head::ChainHead;
use crate::chain::map::FanOut;
use crate::chain::output::{SideBuffer, TypedSide};
use crate::chain::{ChainContext, Downstream, OperatorSlot};
use crate::exchange::Outlet;
use crate::ids::{OperatorUid, SlotSharingGroupId};
use crate::ports::PortError;
use crate::ports::sink::SinkOutput;
use crate::ports::source::SplitEnumerator;
use crate::ports::transport::DecodeBatch;
use crate::state::schema::StateSchema;

/// Position of a node in the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub usize);

/// Whose subtasks share slots: one of each vertex of the group fits into a slot. Vertices of different groups share none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SlotSharingGroup(pub String);

impl SlotSharingGroup {
    /// How REST tells it from others.
    #[must_use]
    pub fn id(&self) -> SlotSharingGroupId {
        SlotSharingGroupId::from_name(&self.0)
    }
}

impl Default for SlotSharingGroup {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

/// How rows of an edge choose their channel; the names are those of Flink's plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShipStrategy {
    /// Subtask i to subtask i; becomes `Rebalance` when the parallelism differs.
    Forward,
    /// By key group.
    Hash,
    /// Round robin over all.
    Rebalance,
    /// By chance over all.
    Shuffle,
    /// Round robin over the local part.
    Rescale,
    /// To all.
    Broadcast,
    /// To the first.
    Global,
    /// By a function of the user.
    Custom,
}

impl ShipStrategy {
    /// The name in plans and REST.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Forward => "FORWARD",
            Self::Hash => "HASH",
            Self::Rebalance => "REBALANCE",
            Self::Shuffle => "SHUFFLE",
            Self::Rescale => "RESCALE",
            Self::Broadcast => "BROADCAST",
            Self::Global => "GLOBAL",
            Self::Custom => "CUSTOM",
        }
    }
}

/// Where an exchange is built.
#[derive(Clone, Debug)]
pub struct ExchangePlace {
    /// The strategy, with `Forward` resolved.
    pub strategy: ShipStrategy,
    /// The sending subtask.
    pub subtask: u32,
    /// Parallelism of the sender.
    pub parallelism: u32,
    /// Parallelism of the receiver.
    pub receiver_parallelism: u32,
    /// Key groups of the receiver.
    pub receiver_max_parallelism: u16,
    /// When a batch is full.
    pub limit: BatchLimit,
}

/// Makes the sending side of an edge; answers a `Downstream<T>`.
pub trait ExchangeFactory: Send + Sync {
    /// How a receiver on another node reads the batches of this edge.
    fn decoder(&self) -> DecodeBatch;

    /// The rows of a batch whose keys are in these groups of so many; none where there is none. Only asked of edges by key.
    fn of_groups(&self, batch: Box<dyn Batch>, groups: &Range<u16>, max_parallelism: u16) -> Option<Box<dyn Batch>>;

    /// Builds the exchange over these channels (for forward edges exactly one).
    fn build(&self, outlets: Vec<Outlet>, place: &ExchangePlace) -> Box<dyn Any>;
}

/// Makes a typed side buffer out of untyped consumers.
pub type MakeSideBuffer = fn(Vec<Box<dyn Any>>) -> Box<dyn SideBuffer>;

/// A side output as an edge knows it.
#[derive(Clone)]
pub struct SideEdge {
    /// The tag.
    pub name: &'static str,
    /// Makes the typed buffer from the consumers (`Downstream<X>` each).
    pub buffer: MakeSideBuffer,
}

impl SideEdge {
    /// The edge of a side output with records of type `X`.
    #[must_use]
    pub fn new<X: Data>(name: &'static str) -> Self {
        Self { name, buffer: |consumers| Box::new(TypedSide::new(join::<X>(consumers))) }
    }
}

/// An edge into a node.
#[derive(Clone)]
pub struct StreamEdge {
    /// Where rows come from.
    pub from: NodeId,
    /// The side output of it, if not the main one.
    pub side: Option<SideEdge>,
    /// How rows choose their channel.
    pub strategy: ShipStrategy,
    /// The sending side.
    pub exchange: Arc<dyn ExchangeFactory>,
    /// Which input of the node (0 or 1).
    pub input: u8,
}

/// Where an operator is built.
pub struct OperatorPlace {
    /// Its uid.
    pub uid: OperatorUid,
    /// Its position in the chain.
    pub slot: OperatorSlot,
    /// What is restored into it.
    pub restored: RestoredOperator,
}

/// The consumers of a node, built already.
pub struct NodeOutputs {
    main: Vec<Box<dyn Any>>,
    sides: Vec<(&'static str, Box<dyn SideBuffer>)>,
}

impl NodeOutputs {
    /// From the consumers of the main output and the side outputs.
    #[must_use]
    pub fn new(main: Vec<Box<dyn Any>>, sides: Vec<(&'static str, Box<dyn SideBuffer>)>) -> Self {
        Self { main, sides }
    }

    /// The main consumer; side outputs are dropped (for operators that have none).
    #[must_use]
    pub fn downstream<O: Data>(self) -> Downstream<O> {
        join(self.main)
    }

    /// All outputs.
    #[must_use]
    pub fn outputs<O: Data>(self) -> crate::chain::output::Outputs<O> {
        crate::chain::output::Outputs::new(join(self.main), self.sides)
    }
}

fn join<T: Data>(consumers: Vec<Box<dyn Any>>) -> Downstream<T> {
    let mut typed: Vec<Downstream<T>> = consumers
        .into_iter()
        .map(|consumer| *consumer.downcast::<Downstream<T>>().expect("the typed API connects equal types only"))
        .collect();
    match typed.len() {
        1 => typed.remove(0),
        _ => Box::new(FanOut::new(typed)),
    }
}

/// Makes an operator for one subtask.
pub trait OperatorFactory: Send + Sync {
    /// As a stage behind another operator; answers a `Downstream<I>`.
    ///
    /// # Errors
    /// When the operator cannot be made or restored.
    fn stage(&self, outputs: NodeOutputs, place: OperatorPlace, cx: &ChainContext) -> Result<Box<dyn Any>, PortError>;

    /// As the head of a chain.
    ///
    /// # Errors
    /// When the operator cannot be made or restored.
    fn head(&self, outputs: NodeOutputs, place: OperatorPlace, cx: &ChainContext) -> Result<ChainHead, PortError>;

    /// The keyed states of the operator.
    fn states(&self) -> Vec<StateSchema> {
        Vec::new()
    }

    /// What earlier runs have left where a sink writes.
    fn output(&self) -> Option<Arc<dyn SinkOutput>> {
        None
    }
}

/// Makes the enumerator of a source.
pub trait EnumeratorFactory: Send + Sync {
    /// See [`Source::enumerator`](crate::ports::source::Source::enumerator).
    ///
    /// # Errors
    /// When the snapshot or the options are unusable.
    fn enumerator(&self, restored: Option<&[u8]>) -> Result<Box<dyn SplitEnumerator>, PortError>;

    /// Whether the input ends by itself.
    fn is_bounded(&self) -> bool;
}

/// What kind of node, for plans and for chaining.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// Reads.
    Source,
    /// Transforms.
    Operator,
    /// Transforms two inputs: always the head of a chain.
    TwoInputs,
    /// Writes.
    Sink,
}

/// One call of the API.
pub struct StreamNode {
    /// Shown in plans.
    pub name: String,
    /// Given by the user.
    pub uid: Option<String>,
    /// Given by the user; otherwise the job's.
    pub parallelism: Option<u32>,
    /// Subtasks that it can share its work among at most; as many as there are without.
    pub most_subtasks: Option<u32>,
    /// Given by the user; otherwise that of its inputs.
    pub slot_sharing_group: Option<SlotSharingGroup>,
    /// What it is.
    pub kind: NodeKind,
    /// Whether it keeps state that a restore looks for by uid.
    pub stateful: bool,
    /// Whether it may be chained to what is before it.
    pub chaining: bool,
    /// Edges into it.
    pub inputs: Vec<StreamEdge>,
    /// Makes it.
    pub factory: Arc<dyn OperatorFactory>,
    /// For sources.
    pub enumerator: Option<Arc<dyn EnumeratorFactory>>,
    /// Transaction time-out of a sink, in milliseconds.
    pub transaction_timeout_ms: Option<u64>,
    /// Type of the records out, for the fingerprint.
    pub output_type: &'static str,
}

/// The graph that the API records.
#[derive(Default)]
pub struct StreamGraph {
    /// Nodes in the order of the calls: every edge goes from a lower to a higher number.
    pub nodes: Vec<StreamNode>,
}

impl StreamGraph {
    /// Adds a node.
    pub fn add(&mut self, node: StreamNode) -> NodeId {
        debug_assert!(node.inputs.iter().all(|edge| edge.from.0 < self.nodes.len()));
        self.nodes.push(node);
        NodeId(self.nodes.len() - 1)
    }

    /// The uid of a node: the user's, or one derived from its place.
    #[must_use]
    pub fn uid(&self, id: NodeId) -> OperatorUid {
        let node = &self.nodes[id.0];
        OperatorUid(node.uid.clone().unwrap_or_else(|| {
            let same = self.nodes[..id.0].iter().filter(|other| other.name == node.name).count();
            if same == 0 { node.name.clone() } else { format!("{}-{same}", node.name) }
        }))
    }
}
