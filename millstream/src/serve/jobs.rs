//! Where the jobs and the task managers are that REST shows: in an embedded run, or with the dispatcher of a cluster.

use std::collections::BTreeSet;

use millstream_actors::dispatcher::{DispatcherHandle, NodeReport, RememberedJob, Wanted};
use millstream_actors::job_master::JobHandle;
use millstream_actors::job_master::handle::JobGone;
use millstream_actors::job_master::report::JobReport;
use millstream_actors::launch::EMBEDDED_NODE;
use millstream_runtime::ids::{JobId, NodeId, NodeIncarnation, NodeProcess};
use millstream_runtime::job::Requirements;
use millstream_runtime::ports::{ErrorKind, PortError};
use millstream_service::ApiError;
use millstream_state::log::KnownJob;

use super::remembered;

/// The jobs of a cluster and the nodes that run them.
pub(crate) enum Jobs {
    /// The job of this process, on slots of its own.
    Embedded {
        /// The job.
        job: JobHandle,
        /// As many as the job needs.
        slots: u32,
    },
    /// All jobs of a cluster that this process leads.
    Dispatched(DispatcherHandle),
}

impl Jobs {
    /// All jobs of this leader, the newest last; ended ones too.
    async fn all(&self) -> Result<Vec<JobHandle>, ApiError> {
        match self {
            Self::Embedded { job, .. } => Ok(vec![job.clone()]),
            Self::Dispatched(dispatcher) => dispatcher.jobs().await.map_err(refusal),
        }
    }

    /// One job that runs here, or has run here.
    pub async fn find(&self, job: JobId) -> Result<JobHandle, ApiError> {
        match self.running(job).await? {
            Some(handle) => Ok(handle),
            None => Err(match self.remembered().await?.into_iter().find(|known| known.job == job) {
                Some(RememberedJob { known: KnownJob { ended: None, .. }, trouble, .. }) => {
                    let trouble = trouble.map_or_else(String::new, |trouble| format!(": {trouble}"));
                    ApiError::Unavailable(format!("Job {job} does not run under the new leader yet{trouble}"))
                }
                Some(_) => ApiError::Conflict(format!("Job {job} had ended before its cluster got a new leader")),
                None => ApiError::job_not_found(job),
            }),
        }
    }

    /// How many subtasks the vertices of a job may have; nothing of one that does not run here, or on slots of its own.
    pub async fn requirements(&self, job: JobId) -> Result<Option<Requirements>, ApiError> {
        match self {
            Self::Embedded { .. } => Ok(None),
            Self::Dispatched(dispatcher) => dispatcher.requirements(job).await.map_err(refusal),
        }
    }

    /// Says how many subtasks the vertices of a job may have from now on.
    pub async fn require(&self, job: JobId, wanted: Wanted) -> Result<(), ApiError> {
        match self {
            Self::Embedded { .. } => Err(ApiError::Conflict(
                "this process runs one job as it was started: stop it with a savepoint, and run it from that with -p"
                    .to_string(),
            )),
            Self::Dispatched(dispatcher) => dispatcher.require(job, wanted).await.map_err(refusal),
        }
    }

    /// Cancels a job that waits for something before it goes on under this leader; answers whether it is one.
    pub async fn cancel_waiting(&self, job: JobId) -> Result<bool, ApiError> {
        match self {
            Self::Embedded { .. } => Ok(false),
            Self::Dispatched(dispatcher) => dispatcher.cancel_taking(job).await.map_err(refusal),
        }
    }

    async fn running(&self, job: JobId) -> Result<Option<JobHandle>, ApiError> {
        Ok(self.all().await?.into_iter().find(|known| known.id() == job))
    }

    /// Jobs of earlier leaders.
    async fn remembered(&self) -> Result<Vec<RememberedJob>, ApiError> {
        match self {
            Self::Embedded { .. } => Ok(Vec::new()),
            Self::Dispatched(dispatcher) => dispatcher.remembered().await.map_err(refusal),
        }
    }

    /// What its master tells about a job, or what is remembered of it.
    pub async fn report(&self, job: JobId) -> Result<JobReport, ApiError> {
        // In this order: a job that begins to run meanwhile is seen in one of both.
        let remembered = self.remembered().await?.into_iter().find(|known| known.job == job);
        match (self.running(job).await?, remembered) {
            (Some(handle), _) => Ok(*handle.report().await.map_err(gone)?),
            (None, Some(known)) => Ok(remembered::report(known)),
            (None, None) => Err(ApiError::job_not_found(job)),
        }
    }

    /// The same of all jobs.
    pub async fn reports(&self) -> Result<Vec<JobReport>, ApiError> {
        let remembered = self.remembered().await?;
        let mut reports = Vec::new();
        for job in self.all().await? {
            // One whose master is gone is shown by whoever runs it now.
            if let Ok(report) = job.report().await {
                reports.push(*report);
            }
        }
        let runs: BTreeSet<JobId> = reports.iter().map(|report| report.job).collect();
        let before = remembered.into_iter().filter(|known| !runs.contains(&known.job)).map(remembered::report);
        Ok(before.chain(reports).collect())
    }

    /// All task managers.
    pub async fn nodes(&self) -> Result<Vec<NodeReport>, ApiError> {
        match self {
            Self::Embedded { job, slots } => {
                let ended = job.report().await.map_err(gone)?.status.is_terminal();
                let node = NodeId(EMBEDDED_NODE.to_owned());
                let process = NodeProcess { node, incarnation: NodeIncarnation::default() };
                Ok(vec![NodeReport { process, slots: *slots, free: if ended { *slots } else { 0 }, reading: None }])
            }
            Self::Dispatched(dispatcher) => dispatcher.nodes().await.map_err(refusal),
        }
    }
}

/// The answer for a job whose master has gone.
pub(super) fn gone(gone: JobGone) -> ApiError {
    ApiError::Unavailable(gone.to_string())
}

/// The answer for what could not be done.
pub(crate) fn refusal(error: PortError) -> ApiError {
    match error.kind {
        ErrorKind::Retry => ApiError::Unavailable(error.message),
        ErrorKind::FixInput => ApiError::BadRequest(error.message),
        ErrorKind::GiveUp => ApiError::Internal(error.message),
    }
}
