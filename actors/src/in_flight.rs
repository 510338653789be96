//! Rows that a cut has overtaken in the channels of a subtask: recorded by the subtask, stored in its segment beside the
//! state of its operators, and given to the subtasks that go on with them after a restore.
//!
//! At the same parallelism every subtask gets its own rows. At another, rows of an edge by key go to the subtask that has
//! their key group, whole batches of the others round robin. A new subtask processes them before anything else, so they
//! are ahead of every watermark it passes on.

use std::sync::Arc;

use millstream_runtime::batch::Batch;
use millstream_runtime::checkpoint::manifest::SegmentRef;
use millstream_runtime::graph::stream::ShipStrategy;
use millstream_runtime::graph::{JobEdge, JobGraph};
use millstream_runtime::ids::{ChannelIndex, OperatorUid, SubtaskId};
use millstream_runtime::key_group::key_group_range;
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::store::BlobStore;
use millstream_runtime::state::cut::{OperatorCut, OperatorState, Redistribution};
use millstream_state::segment::SegmentReader;
use serde::{Deserialize, Serialize};

/// Stands for the channels of a subtask among the operators of a segment: no operator has such a uid.
const CHANNELS: &str = "\0channels";
/// Before each batch: the sending subtask.
const SENDER_BYTES: usize = size_of::<u32>();

/// The uid under which rows in flight are stored.
#[must_use]
pub fn channels_uid() -> OperatorUid {
    OperatorUid(CHANNELS.to_owned())
}

/// Whether a segment contains rows in flight.
#[must_use]
pub fn has_rows_in_flight(segment: &SegmentReader) -> bool {
    segment.operators().any(|uid| uid.0 == CHANNELS)
}

/// Whether barriers may overtake rows of this edge: those can be dealt out again at another parallelism. Rows that
/// everybody gets, or whose place a function of the user decides, cannot; nor those that belong to one subtask, nor those
/// of an edge whose rows belong to one subtask at another parallelism.
#[must_use]
pub fn may_be_overtaken(edge: &JobEdge) -> bool {
    let can_be_dealt_out = match edge.strategy {
        ShipStrategy::Hash
        | ShipStrategy::Rebalance
        | ShipStrategy::Shuffle
        | ShipStrategy::Rescale
        | ShipStrategy::Global => true,
        ShipStrategy::Forward | ShipStrategy::Broadcast | ShipStrategy::Custom => false,
    };
    can_be_dealt_out && !edge.by_parallelism
}

/// An input channel as its subtask knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelPlace {
    /// Which input of the head its rows go to.
    pub input: u8,
    /// Whether barriers may overtake its rows.
    pub may_be_overtaken: bool,
    /// The name of its edge.
    pub edge: Arc<str>,
    /// The sending subtask.
    pub sender: u32,
}

/// The rows that one cut has overtaken, encoded.
#[derive(Debug, Default)]
pub struct InFlight {
    batches: Vec<(ChannelIndex, Vec<u8>)>,
    bytes: u64,
}

impl InFlight {
    /// Adds a batch; batches of a channel come in order.
    ///
    /// # Errors
    /// When a record refuses to be serialised.
    pub fn record(&mut self, channel: ChannelIndex, batch: &dyn Batch) -> Result<(), PortError> {
        let mut bytes = Vec::with_capacity(batch.size_bytes() + SENDER_BYTES);
        batch.encode(&mut bytes).map_err(|error| PortError::fix_input(error.to_string()))?;
        self.bytes += bytes.len() as u64;
        self.batches.push((channel, bytes));
        Ok(())
    }

    /// Bytes of all batches.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.bytes
    }

    /// The part of the cut that holds them; none when nothing was overtaken.
    #[must_use]
    pub fn into_cut(self, channels: &[ChannelPlace]) -> Option<OperatorCut> {
        let mut operator_states: Vec<OperatorState> = Vec::new();
        for (channel, batch) in self.batches {
            let ChannelPlace { edge, sender, .. } = &channels[channel.0 as usize];
            let known = operator_states.iter().position(|state| *state.name == **edge);
            let index = known.unwrap_or_else(|| {
                let (name, redistribution) = (edge.to_string(), Redistribution::Split);
                operator_states.push(OperatorState { name, version: 1, redistribution, items: Vec::new() });
                operator_states.len() - 1
            });
            let mut item = sender.to_be_bytes().to_vec();
            item.extend(batch);
            operator_states[index].items.push(item);
        }
        let cut = OperatorCut { uid: channels_uid(), declarations: Vec::new(), keyed: Vec::new(), operator_states };
        (!cut.operator_states.is_empty()).then_some(cut)
    }
}

/// Rows in flight at the restored cut, by reference: some of them may go to a subtask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlightRef {
    /// The segment they are in.
    pub segment: SegmentRef,
    /// The subtask that recorded them.
    pub subtask: u32,
    /// Subtasks of its vertex at the time.
    pub parallelism: u32,
}

/// A batch in flight, and a channel it may have come from.
pub type Replayed = (ChannelIndex, Box<dyn Batch>);

/// The rows in flight that a subtask goes on with, in order.
///
/// # Errors
/// When they cannot be read, or the graph has no place for them.
pub fn restore(
    graph: &JobGraph,
    vertex: usize,
    id: SubtaskId,
    stored: &[InFlightRef],
    blobs: &Arc<dyn BlobStore>,
) -> Result<Vec<Replayed>, PortError> {
    let mut batches = Vec::new();
    for part in stored {
        let segment = SegmentReader::open(blobs, &part.segment)?;
        for state in segment.operator_states(&channels_uid())? {
            let Some(place) = EdgePlace::find(graph, vertex, id, &state.name)? else { continue };
            for (number, item) in (0..).zip(&state.items) {
                batches.extend(place.batch(part, number, item)?);
            }
        }
    }
    Ok(batches)
}

/// An edge into a subtask that goes on with rows in flight.
struct EdgePlace<'a> {
    graph: &'a JobGraph,
    edge: &'a JobEdge,
    id: SubtaskId,
    parallelism: u32,
    max_parallelism: u16,
    /// The first channel of the edge.
    first: u32,
}

impl<'a> EdgePlace<'a> {
    /// None for an edge into another vertex, which was one with this when the rows were stored.
    fn find(graph: &'a JobGraph, vertex: usize, id: SubtaskId, name: &str) -> Result<Option<Self>, PortError> {
        let mut first = 0;
        for edge in graph.inputs(vertex) {
            if edge.name == name {
                let receiver = &graph.vertices[vertex];
                let (parallelism, max_parallelism) = (receiver.parallelism, receiver.max_parallelism);
                return Ok(Some(Self { graph, edge, id, parallelism, max_parallelism, first }));
            }
            first += if edge.is_pointwise() { 1 } else { graph.vertices[edge.source].parallelism };
        }
        if graph.edges.iter().any(|edge| edge.name == name) {
            return Ok(None);
        }
        Err(PortError::fix_input(format!(
            "the checkpoint holds rows in flight to '{}' on an edge that the job has not: go on with the graph it was made with and change the graph over a savepoint, which holds none",
            graph.vertices[vertex].name
        )))
    }

    /// What the subtask gets of a batch.
    fn batch(&self, part: &InFlightRef, number: u32, item: &[u8]) -> Result<Option<Replayed>, PortError> {
        let Some((sender, bytes)) = item.split_first_chunk::<SENDER_BYTES>() else {
            return Err(PortError::fix_input(format!("{}: a batch in flight is cut short", part.segment.path)));
        };
        let (sender, index) = (u32::from_be_bytes(*sender), self.id.index.0);
        let plan = &self.graph.vertices[self.edge.source].plan;
        let decode = || {
            (plan.decoder(self.edge.output))(bytes)
                .map_err(|error| PortError::fix_input(format!("{}, rows in flight: {error}", part.segment.path)))
        };
        let mine = if part.parallelism == self.parallelism {
            (part.subtask == index).then(decode).transpose()?
        } else {
            match self.edge.strategy {
                ShipStrategy::Hash => {
                    let groups = key_group_range(self.max_parallelism, self.parallelism, self.id.index);
                    plan.of_groups(self.edge.output, decode()?, &groups, self.max_parallelism)
                }
                ShipStrategy::Rebalance | ShipStrategy::Shuffle | ShipStrategy::Rescale | ShipStrategy::Forward => {
                    let turn = part.subtask.wrapping_add(number) % self.parallelism;
                    (turn == index).then(decode).transpose()?
                }
                ShipStrategy::Global => (index == 0).then(decode).transpose()?,
                ShipStrategy::Broadcast | ShipStrategy::Custom => {
                    return Err(PortError::fix_input(format!(
                        "the checkpoint holds rows in flight on what is now a {} edge: change the graph over a savepoint, which holds none",
                        self.edge.strategy.name()
                    )));
                }
            }
        };
        // Which channel of the edge a row came from decides nothing any more.
        let senders = if self.edge.is_pointwise() { 1 } else { self.graph.vertices[self.edge.source].parallelism };
        let channel = ChannelIndex(self.first + if sender < senders { sender } else { 0 });
        Ok(mine.map(|batch| (channel, batch)))
    }
}
