//! The manifest of a completed checkpoint: everything needed to restore the job, by reference to immutable segments.
//! Written by the job master through `state`, read by every restore.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::element::Purpose;
use crate::ids::{AttemptId, CheckpointId, CutNumber, JobId, OperatorUid, SubtaskIndex, VertexId};

/// A segment file in the checkpoint store, and the part of it that counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentRef {
    /// Blob name, relative to the root of the store.
    pub path: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// BLAKE3 of the whole blob.
    pub digest: [u8; 32],
    /// First and last cut it covers; more than one after compaction.
    pub cuts: (CutNumber, CutNumber),
    /// The deployment that wrote it.
    pub attempt: AttemptId,
    /// Only keyed entries of these key groups count for the subtask that refers to it.
    pub key_groups: Range<u16>,
}

/// What one subtask contributes to a checkpoint: also the content of its ack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubtaskState {
    /// The chain of segments, oldest first: a later entry of a key wins. Operator state is read from the last one only.
    pub segments: Vec<SegmentRef>,
    /// The subtask has seen the end of all its inputs.
    pub finished: bool,
}

/// One vertex in a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VertexState {
    /// The vertex.
    pub vertex: VertexId,
    /// For messages.
    pub name: String,
    /// Uids of the operators chained in it.
    pub operators: Vec<OperatorUid>,
    /// Parallelism at the time.
    pub parallelism: u32,
    /// Number of key groups.
    pub max_parallelism: u16,
    /// By subtask index.
    pub subtasks: Vec<SubtaskState>,
    /// Snapshot of the source's enumerator, if the vertex reads a source: (operator, state).
    pub enumerator: Option<(OperatorUid, Vec<u8>)>,
}

/// A completed checkpoint or a savepoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The job.
    pub job: JobId,
    /// Its name, for messages.
    pub job_name: String,
    /// Number.
    pub checkpoint: CheckpointId,
    /// The deployment it was triggered for.
    pub attempt: AttemptId,
    /// What it was made for.
    pub purpose: Purpose,
    /// Processing time of the trigger, milliseconds since the epoch.
    pub triggered_ms: i64,
    /// [`KEY_FORMAT_VERSION`](crate::key::KEY_FORMAT_VERSION) at the time.
    pub key_format: u16,
    /// Digest of the job's graph: uids, types, state versions and edges.
    pub graph_fingerprint: [u8; 16],
    /// All vertices, in topological order.
    pub vertices: Vec<VertexState>,
    /// Options of the job needed to go on with it (job parameters, configuration), as key and value.
    pub properties: Vec<(String, String)>,
}

/// Index of a subtask with its state, for acks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// The deployment of the subtask that answers.
    pub attempt: AttemptId,
    /// The vertex.
    pub vertex: VertexId,
    /// The subtask.
    pub subtask: SubtaskIndex,
    /// Its durable state.
    pub state: SubtaskState,
}
