//! What a subtask actor is told. Everything that can be late carries the attempt by construction: an actor lives for
//! one attempt, and messages to a dead one go nowhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use millstream_runtime::chain::Completion;
use millstream_runtime::chain::context::RestoredOperator;
use millstream_runtime::checkpoint::manifest::SegmentRef;
use millstream_runtime::element::{Barrier, Element, Overtaking, Purpose};
use millstream_runtime::exchange::Parcel;
use millstream_runtime::graph::build::VertexOutput;
use millstream_runtime::ids::{ChannelIndex, CheckpointId, OperatorUid};
use millstream_runtime::ports::PortError;
use millstream_runtime::time::Timestamp;
use millstream_state::log::LogPosition;

use super::snapshot::{Compacted, Written};
use crate::in_flight::Replayed;
use crate::local::{Folded, LocalState};
use crate::protocol::SplitAssignment;

/// Beside the mailbox of a subtask: the newest barrier in it that may overtake. Elements before it are taken in before
/// another batch is worked on.
#[derive(Clone, Debug, Default)]
pub struct Announced(Arc<AtomicU64>);

impl Announced {
    /// An element is about to be put into the mailbox.
    pub fn sending(&self, element: &Element<Parcel>) {
        if let Element::Barrier(barrier) = element
            && barrier.overtaking != Overtaking::Never
        {
            self.0.fetch_max(barrier.checkpoint.0, Ordering::Release);
        }
    }

    /// Whether a barrier newer than the newest taken in is in the mailbox.
    #[must_use]
    pub fn is_ahead_of(&self, taken_in: CheckpointId) -> bool {
        self.0.load(Ordering::Relaxed) > taken_in.0
    }
}

/// Everything a subtask needs to run.
pub struct Deployment {
    /// Its outputs, in the order of the vertex's edges.
    pub outputs: Vec<VertexOutput>,
    /// What is restored into each operator.
    pub restored: Vec<(OperatorUid, RestoredOperator)>,
    /// Watermark at the restored cut per key group; empty without a restore.
    pub watermark_floor: Vec<Timestamp>,
    /// The chain of segments that the restored state lies in; the next ack goes on with it.
    pub segments: Vec<SegmentRef>,
    /// Rows that the restored cut overtook, to go on with before anything else.
    pub in_flight: Vec<Replayed>,
    /// The node's materialisation of keyed state, if it keeps one.
    pub local: Option<Arc<LocalState>>,
}

/// Messages of a subtask actor.
pub enum SubtaskMessage {
    /// Build the chain and run.
    Deploy(Box<Deployment>),
    /// An element from an input channel.
    Element(ChannelIndex, Element<Parcel>),
    /// Splits from the enumerator, in order with the triggers.
    Assign(SplitAssignment),
    /// Take a checkpoint (sources only).
    Trigger {
        /// The barrier to send.
        barrier: Barrier,
        /// End the input before it.
        drain: bool,
    },
    /// A checkpoint is complete.
    Complete {
        /// Its number.
        checkpoint: CheckpointId,
        /// What it was for.
        purpose: Purpose,
        /// The place of its record in the job's log.
        position: Option<LogPosition>,
    },
    /// Completed cuts were folded into the local store, or not.
    Folded(Box<Folded>),
    /// A checkpoint will not complete.
    Abort(CheckpointId),
    /// Self-sent or from a waker: go on.
    Wake,
    /// Self-sent: everything that was in the mailbox before has been handled; hand over partly filled batches.
    Flush,
    /// Blocking work of an operator is done.
    Completed(Completion),
    /// A cut is durable, or not.
    Written(Box<Written>),
    /// A part of the segment chain was merged into one file.
    Compacted(Box<Compacted>),
    /// Blocking work of an operator panicked: its answer will never come.
    WorkFailed(PortError),
    /// Barriers of this checkpoint have waited as long as they may.
    AlignmentTimeout(CheckpointId),
    /// A processing-time timer asked for.
    Timer,
}
