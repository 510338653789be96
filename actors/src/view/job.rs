//! Jobs as REST shows them: overview, details with vertices and subtasks, the plan.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use millstream_runtime::ids::{JobId, SlotSharingGroupId, VertexId};

use super::as_text;

/// The state of a job, with Flink's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum JobStatus {
    /// The job master starts.
    Initializing,
    /// Known, nothing deployed.
    Created,
    /// Subtasks are deployed.
    Running,
    /// A failure that no restart follows; subtasks are being stopped.
    Failing,
    /// Ended by a failure.
    Failed,
    /// Subtasks are being stopped on request.
    Cancelling,
    /// Ended on request.
    Canceled,
    /// Ended by itself, or stopped with a savepoint.
    Finished,
    /// Stopped by a failure, about to be deployed again.
    Restarting,
    /// Ended here, may be continued by another leader.
    Suspended,
    /// Being taken over by a new leader.
    Reconciling,
}

impl JobStatus {
    /// Whether nothing follows.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Failed | Self::Canceled | Self::Finished)
    }

    /// The name as REST and logs write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Initializing => "INITIALIZING",
            Self::Created => "CREATED",
            Self::Running => "RUNNING",
            Self::Failing => "FAILING",
            Self::Failed => "FAILED",
            Self::Cancelling => "CANCELLING",
            Self::Canceled => "CANCELED",
            Self::Finished => "FINISHED",
            Self::Restarting => "RESTARTING",
            Self::Suspended => "SUSPENDED",
            Self::Reconciling => "RECONCILING",
        }
    }
}

/// The state of a vertex or subtask, with Flink's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ExecutionState {
    /// Known.
    Created,
    /// Waits for a slot.
    Scheduled,
    /// Being started.
    Deploying,
    /// Works.
    Running,
    /// Ended by itself.
    Finished,
    /// Being stopped.
    Canceling,
    /// Stopped.
    Canceled,
    /// Ended by a failure.
    Failed,
    /// Being taken over.
    Reconciling,
    /// Restores its state.
    Initializing,
}

impl ExecutionState {
    /// All of them, in the order of Flink's documentation.
    pub const ALL: [Self; 10] = [
        Self::Created,
        Self::Scheduled,
        Self::Deploying,
        Self::Running,
        Self::Finished,
        Self::Canceling,
        Self::Canceled,
        Self::Failed,
        Self::Reconciling,
        Self::Initializing,
    ];

    /// The state of a vertex whose subtasks are in these states: the least advanced one counts, failures first.
    #[must_use]
    pub fn of_vertex(subtasks: &StatusCounts) -> Self {
        let some = |state: Self| subtasks.0.get(&state).is_some_and(|&count| count > 0);
        let order = [
            Self::Failed,
            Self::Canceling,
            Self::Canceled,
            Self::Initializing,
            Self::Running,
            Self::Deploying,
            Self::Scheduled,
            Self::Reconciling,
            Self::Created,
        ];
        order.into_iter().find(|&state| some(state)).unwrap_or(if some(Self::Finished) {
            Self::Finished
        } else {
            Self::Created
        })
    }
}

/// How many subtasks (or vertices) are in each state; every state has an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StatusCounts(pub BTreeMap<ExecutionState, u32>);

impl Default for StatusCounts {
    fn default() -> Self {
        Self(ExecutionState::ALL.into_iter().map(|state| (state, 0)).collect())
    }
}

impl FromIterator<ExecutionState> for StatusCounts {
    fn from_iter<I: IntoIterator<Item = ExecutionState>>(states: I) -> Self {
        let mut counts = Self::default();
        for state in states {
            *counts.0.entry(state).or_default() += 1;
        }
        counts
    }
}

/// How many subtasks of a job are in each state, as the overview writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // Flink's names of the states.
pub struct TaskCounts {
    pub running: u32,
    pub canceling: u32,
    pub canceled: u32,
    pub total: u32,
    pub created: u32,
    pub scheduled: u32,
    pub deploying: u32,
    pub reconciling: u32,
    pub finished: u32,
    pub initializing: u32,
    pub failed: u32,
}

impl From<&StatusCounts> for TaskCounts {
    fn from(counts: &StatusCounts) -> Self {
        let of = |state| counts.0.get(&state).copied().unwrap_or(0);
        Self {
            running: of(ExecutionState::Running),
            canceling: of(ExecutionState::Canceling),
            canceled: of(ExecutionState::Canceled),
            total: counts.0.values().sum(),
            created: of(ExecutionState::Created),
            scheduled: of(ExecutionState::Scheduled),
            deploying: of(ExecutionState::Deploying),
            reconciling: of(ExecutionState::Reconciling),
            finished: of(ExecutionState::Finished),
            initializing: of(ExecutionState::Initializing),
            failed: of(ExecutionState::Failed),
        }
    }
}

/// One job in `/jobs/overview`. Times in milliseconds since the epoch; -1 for one that has not come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct JobOverview {
    /// Id.
    #[serde(with = "as_text")]
    pub jid: JobId,
    /// Name.
    pub name: String,
    /// When it was submitted.
    pub start_time: i64,
    /// When it ended, or -1.
    pub end_time: i64,
    /// Milliseconds from start to end, or to now.
    pub duration: i64,
    /// State.
    pub state: JobStatus,
    /// When the state changed last.
    pub last_modification: i64,
    /// Subtasks by state.
    pub tasks: TaskCounts,
}

/// `/jobs/:jobid`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct JobDetails {
    /// Id.
    #[serde(with = "as_text")]
    pub jid: JobId,
    /// Name.
    pub name: String,
    /// Always false, as in Flink.
    #[serde(rename = "isStoppable")]
    pub is_stoppable: bool,
    /// State.
    pub state: JobStatus,
    /// `STREAMING`.
    pub job_type: String,
    /// When it was submitted.
    pub start_time: i64,
    /// When it ended, or -1.
    pub end_time: i64,
    /// Milliseconds from start to end, or to now.
    pub duration: i64,
    /// Upper bound of the parallelism, or -1.
    #[serde(rename = "maxParallelism")]
    pub max_parallelism: i64,
    /// Time of the answer.
    pub now: i64,
    /// When each state was entered last, 0 for never.
    pub timestamps: BTreeMap<JobStatus, i64>,
    /// Vertices in topological order.
    pub vertices: Vec<VertexView>,
    /// Vertices by state.
    pub status_counts: StatusCounts,
    /// The graph.
    pub plan: PlanView,
    /// Operators not yet part of the graph: 0.
    #[serde(default)]
    pub pending_operators: u32,
}

/// One vertex of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct VertexView {
    /// Id.
    #[serde(with = "as_text")]
    pub id: VertexId,
    /// Vertices with the same share slots.
    #[serde(rename = "slotSharingGroupId", with = "as_text")]
    pub slot_sharing_group_id: SlotSharingGroupId,
    /// Names of the chained operators, joined by ` -> `.
    pub name: String,
    /// Number of subtasks that it can have at most.
    #[serde(rename = "maxParallelism")]
    pub max_parallelism: u32,
    /// Number of subtasks.
    pub parallelism: u32,
    /// State.
    pub status: ExecutionState,
    /// When its first subtask was deployed, or -1.
    pub start_time: i64,
    /// When its last subtask ended, or -1.
    pub end_time: i64,
    /// Milliseconds from start to end, or to now.
    pub duration: i64,
    /// Subtasks by state.
    pub tasks: StatusCounts,
    /// Sums over the subtasks.
    pub metrics: IoMetrics,
}

/// Input and output of a subtask, or of all subtasks of a vertex, since the attempt began. Times in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct IoMetrics {
    /// Bytes received.
    pub read_bytes: u64,
    /// Whether every subtask has told.
    pub read_bytes_complete: bool,
    /// Bytes sent.
    pub write_bytes: u64,
    /// Whether every subtask has told.
    pub write_bytes_complete: bool,
    /// Records received.
    pub read_records: u64,
    /// Whether every subtask has told.
    pub read_records_complete: bool,
    /// Records sent.
    pub write_records: u64,
    /// Whether every subtask has told.
    pub write_records_complete: bool,
    /// Time waiting for credit.
    pub accumulated_backpressured_time: u64,
    /// Time waiting for input.
    pub accumulated_idle_time: u64,
    /// Time working.
    pub accumulated_busy_time: f64,
}

impl IoMetrics {
    /// Adds another subtask's.
    pub fn add(&mut self, other: &Self) {
        self.read_bytes += other.read_bytes;
        self.write_bytes += other.write_bytes;
        self.read_records += other.read_records;
        self.write_records += other.write_records;
        self.accumulated_backpressured_time += other.accumulated_backpressured_time;
        self.accumulated_idle_time += other.accumulated_idle_time;
        self.accumulated_busy_time += other.accumulated_busy_time;
        self.read_bytes_complete &= other.read_bytes_complete;
        self.write_bytes_complete &= other.write_bytes_complete;
        self.read_records_complete &= other.read_records_complete;
        self.write_records_complete &= other.write_records_complete;
    }

    /// Nothing yet, complete: where sums start.
    #[must_use]
    pub fn zero() -> Self {
        Self {
            read_bytes_complete: true,
            write_bytes_complete: true,
            read_records_complete: true,
            write_records_complete: true,
            ..Self::default()
        }
    }
}

/// The graph of a job: the value of `plan`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanView {
    /// Id of the job.
    #[serde(with = "as_text")]
    pub jid: JobId,
    /// Its name.
    pub name: String,
    /// `STREAMING`.
    #[serde(rename = "type")]
    pub job_type: String,
    /// Vertices in topological order.
    pub nodes: Vec<PlanNode>,
}

/// A vertex in the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanNode {
    /// Id.
    #[serde(with = "as_text")]
    pub id: VertexId,
    /// Number of subtasks.
    pub parallelism: u32,
    /// Kind of operator; empty, as in Flink.
    pub operator: String,
    /// Empty, as in Flink.
    pub operator_strategy: String,
    /// Names of the chained operators.
    pub description: String,
    /// Edges into it; a source has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<PlanInput>,
    /// Empty, as in Flink.
    pub optimizer_properties: BTreeMap<String, String>,
}

/// An edge in the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanInput {
    /// Position among the inputs.
    pub num: u32,
    /// The vertex it comes from.
    #[serde(with = "as_text")]
    pub id: VertexId,
    /// `FORWARD`, `HASH`, `REBALANCE`, `RESCALE`, `BROADCAST`, `GLOBAL` or `CUSTOM`.
    pub ship_strategy: String,
    /// `pipelined_bounded`.
    pub exchange: String,
}

/// `/jobs/:jobid/config`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobConfigView {
    /// Id.
    #[serde(with = "as_text")]
    pub jid: JobId,
    /// Name.
    pub name: String,
    /// How it is executed.
    #[serde(rename = "execution-config")]
    pub execution_config: ExecutionConfigView,
}

/// How a job is executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ExecutionConfigView {
    /// `PIPELINED`.
    pub execution_mode: String,
    /// The restart strategy in words.
    pub restart_strategy: String,
    /// Default parallelism.
    pub job_parallelism: u32,
    /// Always true: batches are moved, never copied between chained operators.
    pub object_reuse_mode: bool,
    /// Parameters of the job.
    pub user_config: BTreeMap<String, String>,
}

/// `/jobs/:jobid/vertices/:vertexid`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VertexDetails {
    /// Id.
    #[serde(with = "as_text")]
    pub id: VertexId,
    /// Names of the chained operators.
    pub name: String,
    /// Number of subtasks.
    pub parallelism: u32,
    /// Number of subtasks that it can have at most.
    #[serde(rename = "maxParallelism")]
    pub max_parallelism: u32,
    /// Time of the answer.
    pub now: i64,
    /// By index.
    pub subtasks: Vec<SubtaskView>,
}

/// One subtask.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SubtaskView {
    /// Index.
    pub subtask: u32,
    /// State.
    pub status: ExecutionState,
    /// Number of the deployment.
    pub attempt: u32,
    /// Where it runs, as `host:port`, or `(unassigned)`.
    pub endpoint: String,
    /// When it was deployed, or -1.
    pub start_time: i64,
    /// The same under Flink's second name.
    #[serde(rename = "start_time")]
    pub start_time_again: i64,
    /// When it ended, or -1.
    pub end_time: i64,
    /// Milliseconds from start to end, or to now.
    pub duration: i64,
    /// Input and output.
    pub metrics: IoMetrics,
    /// Task manager it runs on, or `(unassigned)`.
    pub taskmanager_id: String,
    /// Milliseconds spent in each state, -1 for none.
    pub status_duration: BTreeMap<ExecutionState, i64>,
}

#[cfg(test)]
#[path = "job_tests.rs"]
mod tests;
