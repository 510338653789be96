//! Statistics and settings of checkpoints as REST shows them. Sizes in bytes, times in milliseconds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `/jobs/:jobid/checkpoints`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CheckpointStatisticsView {
    /// Numbers since the start.
    pub counts: CheckpointCounts,
    /// Distributions over the last completed checkpoints.
    pub summary: CheckpointSummary,
    /// The latest of each kind.
    pub latest: LatestCheckpoints,
    /// Newest first.
    pub history: Vec<CheckpointView>,
}

/// Numbers of checkpoints since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // Flink's names.
pub struct CheckpointCounts {
    pub restored: u64,
    pub total: u64,
    pub in_progress: u64,
    pub completed: u64,
    pub failed: u64,
}

/// Distribution of one figure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // Flink's names.
pub struct Distribution {
    pub min: u64,
    pub max: u64,
    pub avg: u64,
    pub p50: u64,
    pub p90: u64,
    pub p95: u64,
    pub p99: u64,
    pub p999: u64,
}

/// Distributions over the last completed checkpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointSummary {
    /// Bytes written.
    pub checkpointed_size: Distribution,
    /// Bytes referred to.
    pub state_size: Distribution,
    /// From trigger to completion.
    pub end_to_end_duration: Distribution,
    /// Always 0, as in Flink.
    pub alignment_buffered: Distribution,
    /// Bytes processed while aligning.
    pub processed_data: Distribution,
    /// Bytes of in-flight data.
    pub persisted_data: Distribution,
}

/// The latest checkpoint of each kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatestCheckpoints {
    /// Completed.
    pub completed: Option<CheckpointView>,
    /// Completed savepoint.
    pub savepoint: Option<CheckpointView>,
    /// Failed.
    pub failed: Option<CheckpointView>,
    /// What the job was restored from.
    pub restored: Option<RestoredCheckpoint>,
}

/// What a job was restored from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoredCheckpoint {
    /// Number.
    pub id: u64,
    /// When.
    pub restore_timestamp: i64,
    /// Whether it was a savepoint.
    pub is_savepoint: bool,
    /// Where it lies.
    pub external_path: String,
}

/// One checkpoint; `tasks` is filled in `/checkpoints/details/:checkpointid` only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointView {
    /// `in_progress`, `completed` or `failed`.
    #[serde(rename = "className")]
    pub class_name: String,
    /// Number.
    pub id: u64,
    /// `IN_PROGRESS`, `COMPLETED` or `FAILED`.
    pub status: String,
    /// Whether the user asked for it and keeps it.
    pub is_savepoint: bool,
    /// `CANONICAL` for savepoints.
    #[serde(rename = "savepointFormat")]
    pub savepoint_format: Option<String>,
    /// When it was triggered.
    pub trigger_timestamp: i64,
    /// When the last subtask so far acknowledged, or -1.
    pub latest_ack_timestamp: i64,
    /// Bytes written for it.
    pub checkpointed_size: u64,
    /// Bytes of all state it refers to.
    pub state_size: u64,
    /// From trigger to completion.
    pub end_to_end_duration: i64,
    /// Always 0, as in Flink.
    pub alignment_buffered: u64,
    /// Bytes processed while aligning.
    pub processed_data: u64,
    /// Bytes of in-flight data in it.
    pub persisted_data: u64,
    /// Subtasks that must acknowledge.
    pub num_subtasks: u64,
    /// Subtasks that have.
    pub num_acknowledged_subtasks: u64,
    /// `CHECKPOINT`, `SAVEPOINT` or `SYNC_SAVEPOINT`.
    pub checkpoint_type: String,
    /// By vertex id.
    pub tasks: BTreeMap<String, TaskCheckpointView>,
    /// Where it lies, if completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_path: Option<String>,
    /// Whether its files were deleted since, if completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discarded: Option<bool>,
    /// When it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_timestamp: Option<i64>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_message: Option<String>,
}

/// One vertex's part in a checkpoint; `subtasks` and `summary` are filled in
/// `/checkpoints/details/:checkpointid/subtasks/:vertexid` only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskCheckpointView {
    /// Number of the checkpoint.
    pub id: u64,
    /// Status of the checkpoint.
    pub status: String,
    /// When the last subtask so far acknowledged, or -1.
    pub latest_ack_timestamp: i64,
    /// Bytes written for it.
    pub checkpointed_size: u64,
    /// Bytes of all state it refers to.
    pub state_size: u64,
    /// From trigger to the last acknowledgement.
    pub end_to_end_duration: i64,
    /// Always 0, as in Flink.
    pub alignment_buffered: u64,
    /// Bytes processed while aligning.
    pub processed_data: u64,
    /// Bytes of in-flight data in it.
    pub persisted_data: u64,
    /// Subtasks that must acknowledge.
    pub num_subtasks: u64,
    /// Subtasks that have.
    pub num_acknowledged_subtasks: u64,
    /// Smallest, greatest and mean over the subtasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<TaskSummary>,
    /// By index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subtasks: Option<Vec<SubtaskCheckpointView>>,
}

/// Distributions over the subtasks of a vertex.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSummary {
    /// Bytes written.
    pub checkpointed_size: Distribution,
    /// Bytes referred to.
    pub state_size: Distribution,
    /// From trigger to acknowledgement.
    pub end_to_end_duration: Distribution,
    /// Time of the snapshot.
    pub checkpoint_duration: SnapshotDistributions,
    /// From the first to the last barrier.
    pub alignment: AlignmentDistributions,
    /// From trigger to the first barrier.
    pub start_delay: Distribution,
}

/// Time of snapshots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotDistributions {
    /// The subtask stood still.
    pub sync: Distribution,
    /// Beside processing.
    #[serde(rename = "async")]
    pub asynchronous: Distribution,
}

/// Alignments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlignmentDistributions {
    /// Always 0, as in Flink.
    pub buffered: Distribution,
    /// Bytes processed meanwhile.
    pub processed: Distribution,
    /// Bytes of in-flight data.
    pub persisted: Distribution,
    /// From the first to the last barrier.
    pub duration: Distribution,
}

/// One subtask's part in a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "className", rename_all = "lowercase")]
pub enum SubtaskCheckpointView {
    /// It has acknowledged.
    Completed(CompletedSubtaskView),
    /// It has not, or never will.
    Pending {
        /// Index.
        index: u32,
        /// `pending_or_failed`.
        status: String,
    },
}

/// What a subtask that has acknowledged told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletedSubtaskView {
    /// Index.
    pub index: u32,
    /// `completed`.
    pub status: String,
    /// When it acknowledged.
    pub ack_timestamp: i64,
    /// From trigger to acknowledgement.
    pub end_to_end_duration: i64,
    /// Bytes written.
    pub checkpointed_size: u64,
    /// Bytes referred to.
    pub state_size: u64,
    /// Time of the snapshot.
    pub checkpoint: SnapshotTimes,
    /// The alignment.
    pub alignment: Alignment,
    /// From trigger to the first barrier.
    pub start_delay: i64,
    /// Whether barriers overtook data.
    pub unaligned_checkpoint: bool,
    /// Whether it was given up.
    pub aborted: bool,
}

/// Time of a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotTimes {
    /// The subtask stood still.
    pub sync: i64,
    /// Beside processing.
    #[serde(rename = "async")]
    pub asynchronous: i64,
}

/// An alignment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alignment {
    /// Always 0, as in Flink.
    pub buffered: u64,
    /// Bytes processed meanwhile.
    pub processed: u64,
    /// Bytes of in-flight data.
    pub persisted: u64,
    /// From the first to the last barrier.
    pub duration: i64,
}

/// `/jobs/:jobid/checkpoints/config`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointConfigView {
    /// `exactly_once` or `at_least_once`.
    pub mode: String,
    /// Milliseconds; Flink's i64::MAX if there are no periodic checkpoints.
    pub interval: i64,
    /// Milliseconds.
    pub timeout: i64,
    /// Milliseconds.
    pub min_pause: i64,
    /// Checkpoints in progress at most.
    pub max_concurrent: u32,
    /// What becomes of checkpoints when the job ends.
    pub externalization: Externalization,
    /// `millstream`: a working set in memory over LMDB.
    pub state_backend: String,
    /// The checkpoint store.
    pub checkpoint_storage: String,
    /// Whether barriers may overtake data.
    pub unaligned_checkpoints: bool,
    /// Checkpoints in a row that may fail; -1 tolerates all.
    pub tolerable_failed_checkpoints: i64,
    /// Milliseconds after which an aligned checkpoint lets barriers overtake data.
    pub aligned_checkpoint_timeout: i64,
    /// Always true.
    pub checkpoints_after_tasks_finish: bool,
    /// Always false: every checkpoint is incremental without one.
    pub state_changelog_enabled: bool,
    /// Milliseconds; -1 without changelog.
    pub changelog_periodic_materialization_interval: i64,
    /// Empty without changelog.
    pub changelog_storage: String,
}

/// What becomes of checkpoints when the job ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Externalization {
    /// Whether they can outlive it.
    pub enabled: bool,
    /// Whether a cancellation removes them.
    pub delete_on_cancellation: bool,
}
