//! What callers hold of a running job: cheap to clone, every call a message.

use std::sync::Arc;

use millstream_runtime::element::Purpose;
use millstream_runtime::graph::JobGraph;
use millstream_runtime::ids::{CheckpointId, JobId, NodeProcess};
use millstream_runtime::job::JobStatus;
use millstream_state::log::JobRecord;
use ractor::ActorRef;

use super::deployment::OfferedNode;
use super::message::JobMasterMessage;
use super::report::JobReport;

/// A checkpoint or savepoint that was asked for and is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requested {
    /// Its number.
    pub checkpoint: CheckpointId,
    /// Where a savepoint lies.
    pub location: Option<String>,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobOutcome {
    /// The terminal state.
    pub status: JobStatus,
    /// The savepoint it was stopped with.
    pub savepoint: Option<String>,
    /// The last failure, for a failed job.
    pub failure: Option<String>,
    /// Whether the failure lies in what the user gave (input, state, configuration).
    pub refused: bool,
}

/// A job of this process.
#[derive(Clone)]
pub struct JobHandle {
    job: JobId,
    master: ActorRef<JobMasterMessage>,
}

/// The job is gone: its actor has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the job has ended and its actor is gone")]
pub struct JobGone;

impl JobHandle {
    /// The handle of a job.
    #[must_use]
    pub fn new(job: JobId, master: ActorRef<JobMasterMessage>) -> Self {
        Self { job, master }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> JobId {
        self.job
    }

    /// Takes a checkpoint or savepoint; answers when it is durable.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn trigger(&self, purpose: Purpose, drain: bool, target: Option<String>) -> Result<Requested, String> {
        let call = self.master.call(|reply| JobMasterMessage::Trigger { purpose, drain, target, reply }, None);
        match call.await {
            Ok(ractor::rpc::CallResult::Success(answer)) => answer,
            _ => Err(JobGone.to_string()),
        }
    }

    /// Cancels the job; answers when it has ended.
    ///
    /// # Errors
    /// When the job is gone.
    pub async fn cancel(&self) -> Result<JobOutcome, JobGone> {
        self.call(JobMasterMessage::Cancel).await
    }

    /// Waits for the end of the job.
    ///
    /// # Errors
    /// When the job is gone.
    pub async fn outcome(&self) -> Result<JobOutcome, JobGone> {
        self.call(JobMasterMessage::Await).await
    }

    /// A task manager may be used from now on.
    pub fn node_joined(&self, node: OfferedNode) {
        drop(self.master.cast(JobMasterMessage::NodeJoined(node)));
    }

    /// A process is lost; whatever ran there has failed.
    pub fn node_lost(&self, process: NodeProcess, reason: &str) {
        drop(self.master.cast(JobMasterMessage::NodeLost(process, reason.to_owned())));
    }

    /// Runs with this graph from now on: the same job at another parallelism, from its newest checkpoint.
    pub fn redeploy(&self, graph: Arc<JobGraph>, record: JobRecord) {
        drop(self.master.cast(JobMasterMessage::Redeploy(graph, Box::new(record))));
    }

    /// The job cannot run, for this reason: it fails for good.
    pub fn fail(&self, reason: String) {
        drop(self.master.cast(JobMasterMessage::Fail(reason)));
    }

    /// Another leader goes on with the job: it stops here, and nothing of that is recorded.
    pub fn step_down(&self) {
        drop(self.master.cast(JobMasterMessage::StepDown));
    }

    /// What REST shows.
    ///
    /// # Errors
    /// When the job is gone.
    pub async fn report(&self) -> Result<Box<JobReport>, JobGone> {
        self.call(JobMasterMessage::Report).await
    }

    async fn call<A: Send + 'static>(
        &self,
        message: impl FnOnce(ractor::RpcReplyPort<A>) -> JobMasterMessage,
    ) -> Result<A, JobGone> {
        match self.master.call(message, None).await {
            Ok(ractor::rpc::CallResult::Success(answer)) => Ok(answer),
            _ => Err(JobGone),
        }
    }
}
