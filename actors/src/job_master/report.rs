//! What the job master tells about its job: plain data from which views are made.

use std::collections::BTreeMap;

use millstream_runtime::checkpoint::coordinator::{Options as CheckpointOptions, Statistics};
use millstream_runtime::graph::JobEdge;
use millstream_runtime::ids::{AttemptId, CheckpointId, JobId, NodeId, SlotSharingGroupId, SubtaskId, VertexId};
use millstream_runtime::job::{ExceptionHistory, JobStatus, StatusTimestamps};
use millstream_runtime::time::Timestamp;

use crate::metrics::subtask::SubtaskReading;

/// Where a subtask is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SubtaskStatus {
    /// Spawned, restoring.
    Initializing,
    /// At work.
    Running,
    /// Done.
    Finished,
    /// Told to go.
    Canceling,
    /// Gone.
    Canceled,
    /// Failed.
    Failed,
}

/// A vertex.
#[derive(Clone, Debug)]
pub struct VertexReport {
    /// Its id.
    pub id: VertexId,
    /// Its name.
    pub name: String,
    /// Number of subtasks.
    pub parallelism: u32,
    /// Subtasks that it can have at most.
    pub max_parallelism: u32,
    /// Whose slots its subtasks share.
    pub slot_sharing_group: SlotSharingGroupId,
}

/// A subtask.
#[derive(Clone, Debug)]
pub struct SubtaskReportRow {
    /// Which one.
    pub id: SubtaskId,
    /// How often it was deployed before: Flink's attempt number.
    pub attempt: u32,
    /// Its deployment.
    pub deployment: AttemptId,
    /// Where it is in its life.
    pub status: SubtaskStatus,
    /// Since when, milliseconds since the epoch.
    pub since_ms: Timestamp,
    /// When it was spawned.
    pub started_ms: Timestamp,
    /// Where it runs.
    pub node: NodeId,
    /// What it measured last, as its task manager has told; nothing before the first time.
    pub reading: Option<SubtaskReading>,
}

/// A job at one moment.
#[derive(Clone, Debug)]
pub struct JobReport {
    /// Its id.
    pub job: JobId,
    /// Its name.
    pub name: String,
    /// Where it is in its life.
    pub status: JobStatus,
    /// When it entered its states.
    pub timestamps: StatusTimestamps,
    /// When it was submitted.
    pub started_ms: Timestamp,
    /// When it ended.
    pub ended_ms: Option<Timestamp>,
    /// The newest deployment of any region.
    pub attempt: Option<AttemptId>,
    /// Restarts so far.
    pub restarts: u64,
    /// Vertices in topological order.
    pub vertices: Vec<VertexReport>,
    /// Edges between them.
    pub edges: Vec<JobEdge>,
    /// Subtasks, each of its newest deployment.
    pub subtasks: Vec<SubtaskReportRow>,
    /// Failures.
    pub exceptions: ExceptionHistory,
    /// Checkpoints.
    pub checkpoints: Statistics,
    /// Their settings.
    pub checkpoint_options: CheckpointOptions,
    /// Where the last completed ones lie.
    pub locations: BTreeMap<CheckpointId, String>,
    /// Options of the job, as key and value.
    pub properties: Vec<(String, String)>,
    /// The configuration it was submitted with; empty for a job that has that of its process.
    pub configuration: Vec<(String, String)>,
}
