//! What a cluster must answer so that the server can speak for it. Implemented by the handle of the actors, and by a fake
//! in the contract tests.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use millstream_actors::dispatcher::Wanted;
use millstream_actors::view::checkpoint::CheckpointView;
use millstream_actors::view::cluster::{ClusterOverview, ConfigEntry, TaskManagerView};
use millstream_actors::view::job::{JobConfigView, JobDetails, JobOverview, JobStatus, VertexDetails};
use millstream_actors::view::observation::{BackpressureView, ExceptionsView};
use millstream_actors::view::operation::TriggerId;
use millstream_actors::view::{CheckpointConfigView, CheckpointStatisticsView};
use millstream_runtime::ids::{CheckpointId, JobId, SubtaskId, VertexId};
use millstream_runtime::job::ParallelismBounds;

/// A value that comes later, or the reason why not.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, ApiError>> + Send + 'a>>;

/// Why a cluster does not answer a question. The message is shown to the user as it stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// There is no such thing: 404.
    #[error("{0}")]
    NotFound(String),
    /// The request cannot be carried out as it is: 400.
    #[error("{0}")]
    BadRequest(String),
    /// The thing is in a state that does not allow it: 409.
    #[error("{0}")]
    Conflict(String),
    /// Not now, for example while the leader changes: 503.
    #[error("{0}")]
    Unavailable(String),
    /// Something broke: 500.
    #[error("{0}")]
    Internal(String),
}

impl ApiError {
    /// The answer for a job that nobody knows.
    #[must_use]
    pub fn job_not_found(job: JobId) -> Self {
        Self::NotFound(format!("Job {job} not found"))
    }

    /// The answer for a vertex that the job does not have.
    #[must_use]
    pub fn vertex_not_found(vertex: VertexId) -> Self {
        Self::NotFound(format!("Vertex {vertex} not found"))
    }

    /// The answer for a checkpoint that is not, or no longer, remembered.
    #[must_use]
    pub fn checkpoint_not_found(checkpoint: CheckpointId) -> Self {
        Self::NotFound(format!("Could not find checkpointing statistics for checkpoint {checkpoint}."))
    }
}

/// Whose metrics are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetricsOf {
    /// The cluster (`/jobmanager/metrics`).
    Cluster,
    /// A job.
    Job(JobId),
    /// A subtask of a job; operators' metrics as `operator.name`.
    Subtask(JobId, SubtaskId),
    /// A task manager.
    TaskManager(String),
}

/// A job that is compiled into the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// What it is run by.
    pub name: String,
    /// What it does, in one line; may be empty.
    pub about: String,
    /// Since when it can be run, in milliseconds since the epoch.
    pub available_since_ms: i64,
}

/// How a program is to be run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunRequest {
    /// Options of the job, as on a command line.
    pub arguments: Vec<String>,
    /// Subtasks of operators that do not set their own number; else as configured.
    pub parallelism: Option<u32>,
    /// The savepoint or checkpoint it starts from.
    pub savepoint: Option<String>,
    /// State that no operator claims may be left behind.
    pub allow_non_restored_state: bool,
    /// Keys of the configuration that win over those of the cluster.
    pub configuration: BTreeMap<String, String>,
    /// SHA-256 of the client's executable as hex digits: a leader of another build refuses the job.
    pub artefact: Option<String>,
}

/// `checkpointType` of a trigger request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum CheckpointKind {
    /// As the job is configured.
    #[default]
    Configured,
    /// Self-contained.
    Full,
    /// As small as possible.
    Incremental,
}

/// A cluster, as far as the REST server needs it. Answers are snapshots of a moment.
///
/// Every method about a job answers [`ApiError::job_not_found`] for one it does not know; ended jobs are known.
pub trait ClusterApi: Send + Sync + 'static {
    /// An id never given before, not by an earlier process either.
    fn fresh_id(&self) -> TriggerId;

    /// Size of the cluster.
    fn overview(&self) -> Answer<'_, ClusterOverview>;

    /// The options in force.
    fn configuration(&self) -> Answer<'_, Vec<ConfigEntry>>;

    /// All task managers.
    fn task_managers(&self) -> Answer<'_, Vec<TaskManagerView>>;

    /// The jobs that can be run.
    fn programs(&self) -> Answer<'_, Vec<Program>>;

    /// Runs one of them; answers with its id once the cluster would go on with it after the loss of this process.
    /// [`ApiError::BadRequest`] if there is no such program, or it cannot be run so.
    fn run_program<'a>(&'a self, name: &'a str, request: RunRequest) -> Answer<'a, JobId>;

    /// All jobs, ended ones too.
    fn jobs(&self) -> Answer<'_, Vec<JobOverview>>;

    /// The state of a job.
    fn job_status(&self, job: JobId) -> Answer<'_, JobStatus>;

    /// A job with its vertices and its plan.
    fn job(&self, job: JobId) -> Answer<'_, JobDetails>;

    /// How a job is executed.
    fn job_configuration(&self, job: JobId) -> Answer<'_, JobConfigView>;

    /// Failures of a job, newest first.
    fn exceptions(&self, job: JobId) -> Answer<'_, ExceptionsView>;

    /// A vertex with its subtasks.
    fn vertex(&self, job: JobId, vertex: VertexId) -> Answer<'_, VertexDetails>;

    /// How many subtasks the vertices of a job may have.
    fn resource_requirements(&self, job: JobId) -> Answer<'_, BTreeMap<VertexId, ParallelismBounds>>;

    /// Says how many subtasks the vertices of a job may have from now on; answers once that is recorded.
    /// [`ApiError::BadRequest`] if it cannot have them.
    fn require_resources(&self, job: JobId, wanted: Wanted) -> Answer<'_, ()>;

    /// How the subtasks of a vertex spend their time.
    fn backpressure(&self, job: JobId, vertex: VertexId) -> Answer<'_, BackpressureView>;

    /// Statistics of a job's checkpoints.
    fn checkpoints(&self, job: JobId) -> Answer<'_, CheckpointStatisticsView>;

    /// One checkpoint, with vertices and their subtasks.
    fn checkpoint(&self, job: JobId, checkpoint: CheckpointId) -> Answer<'_, CheckpointView>;

    /// How checkpoints are made.
    fn checkpoint_configuration(&self, job: JobId) -> Answer<'_, CheckpointConfigView>;

    /// Values by name.
    fn metrics(&self, of: MetricsOf) -> Answer<'_, BTreeMap<String, String>>;

    /// Everything in Prometheus' text format.
    fn prometheus(&self) -> Answer<'_, String>;

    /// Makes a checkpoint; answers with its number once it is complete.
    fn trigger_checkpoint(&self, job: JobId, kind: CheckpointKind) -> Answer<'_, CheckpointId>;

    /// Makes a savepoint in the folder, or in the configured one, and cancels the job afterwards if asked to; answers with
    /// its place once it is durable.
    fn trigger_savepoint(&self, job: JobId, folder: Option<String>, cancel: bool) -> Answer<'_, String>;

    /// Stops with a savepoint, after firing all timers if `drain`; answers with its place once the job has ended.
    fn stop(&self, job: JobId, folder: Option<String>, drain: bool) -> Answer<'_, String>;

    /// Cancels a job; answers once that is recorded. [`ApiError::Conflict`] if it has ended otherwise.
    fn cancel(&self, job: JobId) -> Answer<'_, ()>;
}
