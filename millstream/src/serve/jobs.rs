//! Where the jobs and the task managers are that REST shows: in an embedded run, or with the dispatcher of a cluster.

use millstream_actors::dispatcher::{DispatcherHandle, NodeReport};
use millstream_actors::job_master::JobHandle;
use millstream_actors::job_master::handle::JobGone;
use millstream_actors::job_master::report::JobReport;
use millstream_actors::launch::EMBEDDED_NODE;
use millstream_runtime::ids::{JobId, NodeId, NodeIncarnation, NodeProcess};
use millstream_runtime::ports::{ErrorKind, PortError};
use millstream_service::ApiError;

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
    /// All jobs, the newest last; ended ones too.
    pub async fn all(&self) -> Result<Vec<JobHandle>, ApiError> {
        match self {
            Self::Embedded { job, .. } => Ok(vec![job.clone()]),
            Self::Dispatched(dispatcher) => dispatcher.jobs().await.map_err(refusal),
        }
    }

    /// One job.
    pub async fn find(&self, job: JobId) -> Result<JobHandle, ApiError> {
        let all = self.all().await?;
        all.into_iter().find(|known| known.id() == job).ok_or_else(|| ApiError::job_not_found(job))
    }

    /// What the masters of all jobs tell.
    pub async fn reports(&self) -> Result<Vec<JobReport>, ApiError> {
        let mut reports = Vec::new();
        for job in self.all().await? {
            // One whose master is gone is shown by whoever runs it now.
            if let Ok(report) = job.report().await {
                reports.push(*report);
            }
        }
        Ok(reports)
    }

    /// All task managers.
    pub async fn nodes(&self) -> Result<Vec<NodeReport>, ApiError> {
        match self {
            Self::Embedded { job, slots } => {
                let ended = job.report().await.map_err(gone)?.status.is_terminal();
                let node = NodeId(EMBEDDED_NODE.to_owned());
                let process = NodeProcess { node, incarnation: NodeIncarnation::default() };
                Ok(vec![NodeReport { process, slots: *slots, free: if ended { *slots } else { 0 } }])
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
