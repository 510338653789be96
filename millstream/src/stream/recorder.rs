//! Collects the nodes of the graph while a program calls the API; shared by all streams of an environment.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use millstream_runtime::graph::stream::{
    EnumeratorFactory, NodeId, NodeKind, OperatorFactory, StreamEdge, StreamGraph, StreamNode,
};

/// A node about to be recorded; what users set comes later.
pub(crate) struct NewNode {
    pub name: String,
    pub kind: NodeKind,
    pub stateful: bool,
    pub inputs: Vec<StreamEdge>,
    pub factory: Arc<dyn OperatorFactory>,
    pub enumerator: Option<Arc<dyn EnumeratorFactory>>,
    pub transaction_timeout_ms: Option<u64>,
    pub output_type: &'static str,
}

#[derive(Default)]
struct Recording {
    graph: StreamGraph,
    /// Nodes that nothing may be chained to.
    unchained: BTreeSet<NodeId>,
    /// Sources that assign timestamps themselves.
    timed_sources: BTreeSet<NodeId>,
}

/// The graph so far.
#[derive(Clone, Default)]
pub(crate) struct Recorder(Rc<RefCell<Recording>>);

impl Recorder {
    pub fn add(&self, node: NewNode) -> NodeId {
        let mut recording = self.0.borrow_mut();
        let chaining = !node.inputs.iter().any(|edge| recording.unchained.contains(&edge.from));
        recording.graph.add(StreamNode {
            name: node.name,
            uid: None,
            parallelism: None,
            most_subtasks: None,
            slot_sharing_group: None,
            kind: node.kind,
            stateful: node.stateful,
            chaining,
            inputs: node.inputs,
            factory: node.factory,
            enumerator: node.enumerator,
            transaction_timeout_ms: node.transaction_timeout_ms,
            output_type: node.output_type,
        })
    }

    pub fn change(&self, id: NodeId, change: impl FnOnce(&mut StreamNode)) {
        change(&mut self.0.borrow_mut().graph.nodes[id.0]);
    }

    /// Nothing is chained to this node, nor it to others.
    pub fn disable_chaining(&self, id: NodeId) {
        let mut recording = self.0.borrow_mut();
        recording.unchained.insert(id);
        for (index, node) in recording.graph.nodes.iter_mut().enumerate() {
            if index == id.0 || node.inputs.iter().any(|edge| edge.from == id) {
                node.chaining = false;
            }
        }
    }

    /// Whether a source may still be made to assign timestamps itself: nobody reads it yet. Answers so once.
    pub fn claim_timestamps(&self, source: NodeId) -> bool {
        let mut recording = self.0.borrow_mut();
        let mut edges = recording.graph.nodes.iter().flat_map(|node| &node.inputs);
        let unread = !edges.any(|edge| edge.from == source);
        unread && recording.timed_sources.insert(source)
    }

    pub fn take_graph(&self) -> StreamGraph {
        std::mem::take(&mut *self.0.borrow_mut()).graph
    }
}
