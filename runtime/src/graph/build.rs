//! Builds the operators of one subtask from the last to the first: consumers before producers.

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

use super::job::JobEdge;
use super::stream::{ExchangeFactory, ExchangePlace, NodeId, NodeOutputs, OperatorPlace, StreamGraph};
use crate::batch::{Batch, BatchLimit};
use crate::chain::context::RestoredOperator;
use crate::chain::head::ChainHead;
use crate::chain::{ChainContext, OperatorSlot};
use crate::exchange::Outlet;
use crate::ids::OperatorUid;
use crate::ports::PortError;
use crate::ports::transport::DecodeBatch;
use crate::state::schema::StateSchema;

/// Where an output of a node goes: (consumer, which of its inputs).
#[derive(Clone, Copy, Debug)]
pub enum Consumer {
    /// To an operator of the same chain.
    Chained(NodeId, usize),
    /// To another vertex, through this output of the vertex.
    Exchange(NodeId, usize, usize),
}

/// How the chain of a vertex is built.
pub struct ChainPlan {
    pub(super) graph: Arc<StreamGraph>,
    pub(super) head: NodeId,
    pub(super) members: Vec<NodeId>,
    pub(super) consumers: Vec<(NodeId, Vec<Consumer>)>,
}

/// An output of the vertex, for one subtask.
pub struct VertexOutput {
    /// The edge.
    pub edge: JobEdge,
    /// Parallelism and key groups of the receiver.
    pub receiver: (u32, u16),
    /// The channels, in the order of the receiving subtasks.
    pub outlets: Vec<Outlet>,
}

/// Looks up what is restored into an operator.
pub type RestoreOperator<'a> = &'a dyn Fn(&OperatorUid) -> RestoredOperator;

impl ChainPlan {
    /// How a receiver on another node reads what comes out of this output of the vertex.
    #[must_use]
    pub fn decoder(&self, output: usize) -> DecodeBatch {
        self.exchange(output).decoder()
    }

    /// The rows of a batch of this output, an edge by key, whose keys are in these groups.
    #[must_use]
    pub fn of_groups(
        &self,
        output: usize,
        batch: Box<dyn Batch>,
        groups: &Range<u16>,
        max_parallelism: u16,
    ) -> Option<Box<dyn Batch>> {
        self.exchange(output).of_groups(batch, groups, max_parallelism)
    }

    /// What an operator of the chain declares of its keyed states.
    #[must_use]
    pub fn states(&self, uid: &OperatorUid) -> Vec<StateSchema> {
        let member = self.members.iter().find(|member| self.graph.uid(**member) == *uid);
        member.map_or_else(Vec::new, |member| self.graph.nodes[member.0].factory.states())
    }

    fn exchange(&self, output: usize) -> &dyn ExchangeFactory {
        let consumers = self.consumers.iter().flat_map(|(_, consumers)| consumers);
        let mut edges = consumers.filter_map(|consumer| match *consumer {
            Consumer::Exchange(target, input, of) if of == output => Some(&self.graph.nodes[target.0].inputs[input]),
            Consumer::Exchange(..) | Consumer::Chained(..) => None,
        });
        &*edges.next().expect("every output of a vertex is an edge of the graph").exchange
    }

    /// Builds the chain of one subtask. `outputs` are in the order of the vertex's edges.
    ///
    /// # Errors
    /// When an operator cannot be made or restored.
    pub fn build(
        &self,
        outputs: Vec<VertexOutput>,
        restored: RestoreOperator<'_>,
        cx: &ChainContext,
    ) -> Result<ChainHead, PortError> {
        let mut building = Building { plan: self, outputs: outputs.into_iter().map(Some).collect(), restored, cx };
        let outputs = building.node_outputs(self.head)?;
        let place = building.place(self.head);
        self.graph.nodes[self.head.0].factory.head(outputs, place, cx)
    }
}

struct Building<'a> {
    plan: &'a ChainPlan,
    outputs: Vec<Option<VertexOutput>>,
    restored: RestoreOperator<'a>,
    cx: &'a ChainContext,
}

impl Building<'_> {
    fn place(&self, id: NodeId) -> OperatorPlace {
        let uid = self.plan.graph.uid(id);
        let slot = self.plan.members.iter().position(|member| *member == id).expect("a member of the chain");
        let restored = (self.restored)(&uid);
        OperatorPlace { uid, slot: OperatorSlot(u32::try_from(slot).expect("chains are short")), restored }
    }

    fn node_outputs(&mut self, id: NodeId) -> Result<NodeOutputs, PortError> {
        let plan = self.plan;
        let consumers = plan.consumers.iter().find(|(member, _)| *member == id).map(|(_, consumers)| consumers);
        let mut main = Vec::new();
        let mut sides: Vec<(super::stream::SideEdge, Vec<Box<dyn Any>>)> = Vec::new();
        for consumer in consumers.into_iter().flatten() {
            let (Consumer::Chained(target, input) | Consumer::Exchange(target, input, _)) = *consumer;
            let edge = &plan.graph.nodes[target.0].inputs[input];
            let stage = match *consumer {
                Consumer::Chained(target, _) => {
                    let outputs = self.node_outputs(target)?;
                    let place = self.place(target);
                    plan.graph.nodes[target.0].factory.stage(outputs, place, self.cx)?
                }
                Consumer::Exchange(_, _, output) => {
                    let output = self.outputs[output].take().expect("every output is built once");
                    edge.exchange.build(output.outlets, &self.exchange_place(&output.edge, output.receiver))
                }
            };
            match &edge.side {
                None => main.push(stage),
                Some(side) => match sides.iter_mut().find(|(known, _)| known.name == side.name) {
                    Some((_, stages)) => stages.push(stage),
                    None => sides.push((side.clone(), vec![stage])),
                },
            }
        }
        let sides = sides.into_iter().map(|(side, stages)| (side.name, (side.buffer)(stages))).collect();
        Ok(NodeOutputs::new(main, sides))
    }

    fn exchange_place(&self, edge: &JobEdge, receiver: (u32, u16)) -> ExchangePlace {
        ExchangePlace {
            strategy: edge.strategy,
            subtask: self.cx.task.subtask.0,
            parallelism: self.cx.task.parallelism,
            receiver_parallelism: receiver.0,
            receiver_max_parallelism: receiver.1,
            limit: BatchLimit { rows: self.cx.task.batch_rows, bytes: self.cx.task.batch_bytes },
        }
    }
}
