//! Answers the REST server's questions about the job of this process: a cluster of one. Asks the job master, reads the
//! metrics; decides nothing.

pub(crate) mod figures;
mod views;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use millstream_actors::job_master::JobHandle;
use millstream_actors::job_master::handle::JobGone;
use millstream_actors::metrics::{ClusterMetrics, Registered};
use millstream_actors::view::checkpoint::CheckpointView;
use millstream_actors::view::cluster::{ClusterOverview, ConfigEntry, Hardware, TaskManagerView};
use millstream_actors::view::job::{JobConfigView, JobDetails, JobOverview, JobStatus, VertexDetails};
use millstream_actors::view::observation::{BackpressureView, ExceptionsView};
use millstream_actors::view::operation::TriggerId;
use millstream_actors::view::{CheckpointConfigView, CheckpointStatisticsView, told};
use millstream_actors::world::SystemClock;
use millstream_runtime::element::Purpose;
use millstream_runtime::ids::{CheckpointId, JobId, VertexId};
use millstream_runtime::job::JobStatus as Status;
use millstream_runtime::ports::Clock;
use millstream_service::api::CheckpointKind;
use millstream_service::{Answer, ApiError, ClusterApi, MetricsOf};

use figures::Figures;
use views::Snapshot;

/// What an embedded run is and is told at its start.
pub(crate) struct Embedded {
    handle: JobHandle,
    figures: Arc<Figures>,
    settings: Settings,
    cluster: Registered<ClusterMetrics>,
    /// Makes ids that no other process makes.
    ids: (String, AtomicU64),
}

/// What REST shows of the settings.
pub(crate) struct Settings {
    /// The options in force.
    pub options: Vec<ConfigEntry>,
    /// Where checkpoints lie.
    pub checkpoint_storage: String,
    /// The restart strategy in words.
    pub restart_strategy: String,
}

impl Embedded {
    pub fn new(handle: JobHandle, figures: Arc<Figures>, settings: Settings, slots: u32) -> Self {
        let cluster = figures.registry().cluster();
        cluster.set_task_managers(1);
        cluster.set_running_jobs(1);
        cluster.set_slots(0, slots);
        let seed = format!("{} {} {}", handle.id(), std::process::id(), SystemClock.now_ms());
        Self { handle, figures, settings, cluster, ids: (seed, AtomicU64::new(0)) }
    }

    fn task_manager(&self) -> String {
        format!("embedded-{}", std::process::id())
    }

    async fn snapshot(&self) -> Result<Snapshot, ApiError> {
        let report = self.handle.report().await.map_err(gone)?;
        let readings = self.figures.read(&report);
        Ok(Snapshot { readings, report, now_ms: self.figures.now().wall_ms, task_manager: self.task_manager() })
    }

    async fn of_job(&self, job: JobId) -> Result<Snapshot, ApiError> {
        if job == self.handle.id() { self.snapshot().await } else { Err(ApiError::job_not_found(job)) }
    }

    /// The job, if it has not ended.
    async fn running(&self, job: JobId) -> Result<(), ApiError> {
        let status = self.of_job(job).await?.report.status;
        if status.is_terminal() {
            return Err(ApiError::Conflict(format!("Job {job} is {status}: nothing can be triggered any more")));
        }
        Ok(())
    }

    async fn savepoint(
        &self,
        job: JobId,
        purpose: Purpose,
        folder: Option<String>,
        drain: bool,
    ) -> Result<String, ApiError> {
        self.running(job).await?;
        let made = self.handle.trigger(purpose, drain, folder).await.map_err(ApiError::Internal)?;
        made.location.ok_or_else(|| ApiError::Internal("the savepoint has no place".to_string()))
    }
}

fn gone(gone: JobGone) -> ApiError {
    ApiError::Unavailable(gone.to_string())
}

impl ClusterApi for Embedded {
    fn fresh_id(&self) -> TriggerId {
        let (seed, next) = &self.ids;
        TriggerId(JobId::from_name(&format!("{seed} {}", next.fetch_add(1, Ordering::Relaxed))).0)
    }

    fn overview(&self) -> Answer<'_, ClusterOverview> {
        Box::pin(async {
            let status = self.snapshot().await?.report.status;
            let is = |wanted: Status| u32::from(status == wanted);
            let ended = status.is_terminal();
            self.cluster.set_running_jobs(u32::from(!ended));
            Ok(ClusterOverview {
                taskmanagers: 1,
                slots_total: 1,
                slots_available: u32::from(ended),
                jobs_running: u32::from(!ended),
                jobs_finished: is(Status::Finished),
                jobs_cancelled: is(Status::Canceled),
                jobs_failed: is(Status::Failed),
                flink_version: env!("CARGO_PKG_VERSION").to_string(),
                flink_commit: "unknown".to_string(),
            })
        })
    }

    fn configuration(&self) -> Answer<'_, Vec<ConfigEntry>> {
        Box::pin(std::future::ready(Ok(self.settings.options.clone())))
    }

    fn task_managers(&self) -> Answer<'_, Vec<TaskManagerView>> {
        Box::pin(async {
            let snapshot = self.snapshot().await?;
            let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
            let ended = u32::from(snapshot.report.status.is_terminal());
            Ok(vec![TaskManagerView {
                id: self.task_manager(),
                path: "embedded".to_string(),
                data_port: -1,
                jmx_port: -1,
                time_since_last_heartbeat: snapshot.now_ms,
                slots_number: 1,
                free_slots: ended,
                assigned_tasks: u32::try_from(snapshot.report.subtasks.len()).unwrap_or(u32::MAX),
                hardware: Hardware { cpu_cores: u32::try_from(cores).unwrap_or(u32::MAX), ..Hardware::default() },
                blocked: false,
            }])
        })
    }

    fn jobs(&self) -> Answer<'_, Vec<JobOverview>> {
        Box::pin(async { Ok(vec![self.snapshot().await?.overview()]) })
    }

    fn job_status(&self, job: JobId) -> Answer<'_, JobStatus> {
        Box::pin(async move { Ok(views::status(self.of_job(job).await?.report.status)) })
    }

    fn job(&self, job: JobId) -> Answer<'_, JobDetails> {
        Box::pin(async move { Ok(self.of_job(job).await?.details()) })
    }

    fn job_configuration(&self, job: JobId) -> Answer<'_, JobConfigView> {
        Box::pin(async move { Ok(self.of_job(job).await?.configuration(&self.settings.restart_strategy)) })
    }

    fn exceptions(&self, job: JobId) -> Answer<'_, ExceptionsView> {
        Box::pin(async move { Ok(self.of_job(job).await?.exceptions()) })
    }

    fn vertex(&self, job: JobId, vertex: VertexId) -> Answer<'_, VertexDetails> {
        Box::pin(async move {
            self.of_job(job).await?.vertex_details(vertex).ok_or_else(|| ApiError::vertex_not_found(vertex))
        })
    }

    fn backpressure(&self, job: JobId, vertex: VertexId) -> Answer<'_, BackpressureView> {
        Box::pin(async move {
            self.of_job(job).await?.backpressure(vertex).ok_or_else(|| ApiError::vertex_not_found(vertex))
        })
    }

    fn checkpoints(&self, job: JobId) -> Answer<'_, CheckpointStatisticsView> {
        Box::pin(async move {
            let report = self.of_job(job).await?.report;
            Ok(told::statistics(&report.checkpoints, &|id| report.locations.get(&id).cloned()))
        })
    }

    fn checkpoint(&self, job: JobId, checkpoint: CheckpointId) -> Answer<'_, CheckpointView> {
        Box::pin(async move {
            let report = self.of_job(job).await?.report;
            let told = report.checkpoints.checkpoint(checkpoint);
            let told = told.ok_or_else(|| ApiError::checkpoint_not_found(checkpoint))?;
            Ok(told::checkpoint(told, report.locations.get(&checkpoint).cloned()))
        })
    }

    fn checkpoint_configuration(&self, job: JobId) -> Answer<'_, CheckpointConfigView> {
        Box::pin(async move { Ok(self.of_job(job).await?.checkpoint_configuration(&self.settings.checkpoint_storage)) })
    }

    fn metrics(&self, of: MetricsOf) -> Answer<'_, BTreeMap<String, String>> {
        Box::pin(async move {
            let registry = self.figures.registry();
            match of {
                MetricsOf::Cluster => Ok(registry.cluster_values().unwrap_or_default()),
                MetricsOf::Job(job) if job == self.handle.id() => Ok(registry.job_values(job).unwrap_or_default()),
                MetricsOf::Subtask(job, subtask) if job == self.handle.id() => {
                    Ok(registry.task_values(job, subtask).unwrap_or_default())
                }
                MetricsOf::Job(job) | MetricsOf::Subtask(job, _) => Err(ApiError::job_not_found(job)),
                MetricsOf::TaskManager(id) if id == self.task_manager() => Ok(BTreeMap::new()),
                MetricsOf::TaskManager(id) => Err(ApiError::NotFound(format!("TaskManager {id} not found"))),
            }
        })
    }

    fn prometheus(&self) -> Answer<'_, String> {
        let text = self.figures.registry().prometheus().map_err(|error| ApiError::Internal(error.to_string()));
        Box::pin(std::future::ready(text))
    }

    fn trigger_checkpoint(&self, job: JobId, _kind: CheckpointKind) -> Answer<'_, CheckpointId> {
        Box::pin(async move {
            self.running(job).await?;
            let made = self.handle.trigger(Purpose::Checkpoint, false, None).await;
            Ok(made.map_err(ApiError::Internal)?.checkpoint)
        })
    }

    fn trigger_savepoint(&self, job: JobId, folder: Option<String>, cancel: bool) -> Answer<'_, String> {
        Box::pin(async move {
            let location = self.savepoint(job, Purpose::Savepoint, folder, false).await?;
            if cancel {
                self.handle.cancel().await.map_err(gone)?;
            }
            Ok(location)
        })
    }

    fn stop(&self, job: JobId, folder: Option<String>, drain: bool) -> Answer<'_, String> {
        Box::pin(async move {
            let location = self.savepoint(job, Purpose::StopWithSavepoint, folder, drain).await?;
            self.handle.outcome().await.map_err(gone)?;
            Ok(location)
        })
    }

    fn cancel(&self, job: JobId) -> Answer<'_, ()> {
        Box::pin(async move {
            let before = self.of_job(job).await?.report.status;
            let conflict =
                |status: Status| ApiError::Conflict(format!("Job {job} is {status} and cannot be cancelled"));
            if before.is_terminal() && before != Status::Canceled {
                return Err(conflict(before));
            }
            let outcome = self.handle.cancel().await.map_err(gone)?;
            if outcome.status == Status::Canceled { Ok(()) } else { Err(conflict(outcome.status)) }
        })
    }
}
