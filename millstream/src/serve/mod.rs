//! Answers the REST server's questions about the jobs that this process leads: the one of an embedded run, or those of a
//! cluster. Asks job masters and the dispatcher, reads the metrics; decides nothing.
//!
//! - [`jobs`]: where jobs and task managers are
//! - [`remembered`]: jobs that only the log of the cluster knows
//! - [`programs`]: which jobs can be submitted
//! - [`figures`]: what subtasks measure
//! - [`views`]: from reports and figures to what is shown

pub(crate) mod figures;
pub(crate) mod jobs;
pub(crate) mod measuring;
pub(crate) mod programs;
mod remembered;
#[cfg(test)]
mod tests;
mod views;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use millstream_actors::dispatcher::{NodeReport, Wanted};
use millstream_actors::job_master::report::JobReport;
use millstream_actors::metrics::{ClusterMetrics, Manager, Registered};
use millstream_actors::view::checkpoint::CheckpointView;
use millstream_actors::view::cluster::{ClusterOverview, ConfigEntry, TaskManagerView};
use millstream_actors::view::job::{JobConfigView, JobDetails, JobOverview, JobStatus, VertexDetails};
use millstream_actors::view::observation::{BackpressureView, ExceptionsView};
use millstream_actors::view::operation::TriggerId;
use millstream_actors::view::{CheckpointConfigView, CheckpointStatisticsView, told};
use millstream_actors::world::SystemClock;
use millstream_config::{Configuration, Origin, keys};
use millstream_runtime::element::Purpose;
use millstream_runtime::ids::{CheckpointId, JobId, SubtaskId, VertexId};
use millstream_runtime::job::{JobStatus as Status, ParallelismBounds};
use millstream_runtime::ports::Clock;
use millstream_service::api::{CheckpointKind, Program, RunRequest};
use millstream_service::{Answer, ApiError, ClusterApi, MetricsOf};

use crate::run::settings;
use figures::Figures;
use jobs::{Jobs, gone};
use programs::Programs;
use views::Snapshot;

/// A process that leads jobs.
pub(crate) struct Leader {
    jobs: Jobs,
    programs: Programs,
    figures: Arc<Figures>,
    settings: Settings,
    cluster: Registered<ClusterMetrics>,
    /// Makes ids that no other process makes.
    ids: (String, AtomicU64),
}

/// What REST shows of the settings.
pub(crate) struct Settings {
    /// The options in force; a job's own win over them.
    pub configuration: Configuration,
    /// Where checkpoints lie unless a job says.
    pub checkpoint_storage: String,
}

impl Settings {
    /// The options in force for a job.
    fn of_job(&self, report: &JobReport) -> Configuration {
        let mut configuration = self.configuration.clone();
        for (key, value) in &report.configuration {
            // What cannot be read was not obeyed either.
            drop(configuration.set(key, value, Origin::Program));
        }
        configuration
    }
}

impl Leader {
    pub fn new(jobs: Jobs, programs: Programs, figures: Arc<Figures>, settings: Settings) -> Self {
        let cluster = figures.registry().cluster();
        let seed = format!("{} {}", std::process::id(), SystemClock.now_ms());
        Self { jobs, programs, figures, settings, cluster, ids: (seed, AtomicU64::new(0)) }
    }

    fn snapshot(&self, report: JobReport) -> Snapshot {
        Snapshot { readings: self.figures.read(&report), report, now_ms: self.figures.now().wall_ms }
    }

    async fn of_job(&self, job: JobId) -> Result<Snapshot, ApiError> {
        Ok(self.snapshot(self.report(job).await?))
    }

    async fn report(&self, job: JobId) -> Result<JobReport, ApiError> {
        self.jobs.report(job).await
    }

    /// All jobs; figures of those that are not known any longer are forgotten.
    async fn reports(&self) -> Result<Vec<JobReport>, ApiError> {
        let reports = self.jobs.reports().await?;
        self.figures.retain(&reports.iter().map(|report| report.job).collect::<BTreeSet<_>>());
        Ok(reports)
    }

    /// The size of the cluster, which its metrics are told as well.
    async fn size(&self) -> Result<ClusterOverview, ApiError> {
        let (nodes, reports) = (self.jobs.nodes().await?, self.reports().await?);
        let size = views::size(&nodes, &reports);
        self.cluster.set_task_managers(size.taskmanagers);
        self.cluster.set_running_jobs(size.jobs_running);
        self.cluster.set_slots(size.slots_available, size.slots_total);
        Ok(size)
    }

    async fn nodes(&self) -> Result<(Vec<NodeReport>, Vec<JobReport>), ApiError> {
        Ok((self.jobs.nodes().await?, self.reports().await?))
    }

    /// The job, if it has not ended.
    async fn running(&self, job: JobId) -> Result<JobReport, ApiError> {
        let report = self.report(job).await?;
        if report.status.is_terminal() {
            let status = report.status;
            return Err(ApiError::Conflict(format!("Job {job} is {status}: nothing can be triggered any more")));
        }
        Ok(report)
    }

    async fn savepoint(
        &self,
        job: JobId,
        purpose: Purpose,
        folder: Option<String>,
        drain: bool,
    ) -> Result<String, ApiError> {
        self.running(job).await?;
        let made = self.jobs.find(job).await?.trigger(purpose, drain, folder).await.map_err(ApiError::Internal)?;
        made.location.ok_or_else(|| ApiError::Internal("the savepoint has no place".to_string()))
    }

    /// The values of a subtask: of this process, or as its task manager has told.
    async fn subtask_values(&self, job: JobId, subtask: SubtaskId) -> Result<BTreeMap<String, String>, ApiError> {
        let snapshot = self.of_job(job).await?;
        if let Some(values) = self.figures.registry().task_values(job, subtask) {
            return Ok(values);
        }
        Ok(snapshot.readings.get(&subtask).map(|reading| reading.values()).unwrap_or_default())
    }
}

impl ClusterApi for Leader {
    fn fresh_id(&self) -> TriggerId {
        let (seed, next) = &self.ids;
        TriggerId(JobId::from_name(&format!("{seed} {}", next.fetch_add(1, Ordering::Relaxed))).0)
    }

    fn overview(&self) -> Answer<'_, ClusterOverview> {
        Box::pin(self.size())
    }

    fn configuration(&self) -> Answer<'_, Vec<ConfigEntry>> {
        Box::pin(std::future::ready(Ok(settings::entries(&self.settings.configuration))))
    }

    fn task_managers(&self) -> Answer<'_, Vec<TaskManagerView>> {
        Box::pin(async {
            let (nodes, reports) = self.nodes().await?;
            let now_ms = self.figures.now().wall_ms;
            let own = self.figures.registry().process_reading(Manager::Task);
            Ok(nodes.iter().map(|node| views::task_manager(node, own, &reports, now_ms)).collect())
        })
    }

    fn programs(&self) -> Answer<'_, Vec<Program>> {
        Box::pin(std::future::ready(Ok(self.programs.all())))
    }

    fn run_program<'a>(&'a self, name: &'a str, request: RunRequest) -> Answer<'a, JobId> {
        Box::pin(self.programs.run(name, request))
    }

    fn jobs(&self) -> Answer<'_, Vec<JobOverview>> {
        Box::pin(async {
            Ok(self.reports().await?.into_iter().map(|report| self.snapshot(report).overview()).collect())
        })
    }

    fn job_status(&self, job: JobId) -> Answer<'_, JobStatus> {
        Box::pin(async move { Ok(views::status(self.report(job).await?.status)) })
    }

    fn job(&self, job: JobId) -> Answer<'_, JobDetails> {
        Box::pin(async move { Ok(self.of_job(job).await?.details()) })
    }

    fn job_configuration(&self, job: JobId) -> Answer<'_, JobConfigView> {
        Box::pin(async move {
            let snapshot = self.of_job(job).await?;
            let strategy = settings::restart_in_words(&self.settings.of_job(&snapshot.report));
            Ok(snapshot.configuration(&strategy))
        })
    }

    fn exceptions(&self, job: JobId) -> Answer<'_, ExceptionsView> {
        Box::pin(async move { Ok(self.of_job(job).await?.exceptions()) })
    }

    fn vertex(&self, job: JobId, vertex: VertexId) -> Answer<'_, VertexDetails> {
        Box::pin(async move {
            self.of_job(job).await?.vertex_details(vertex).ok_or_else(|| ApiError::vertex_not_found(vertex))
        })
    }

    fn resource_requirements(&self, job: JobId) -> Answer<'_, BTreeMap<VertexId, ParallelismBounds>> {
        Box::pin(async move {
            let report = self.report(job).await?;
            Ok(self.jobs.requirements(job).await?.map_or_else(|| views::bounds(&report), |requirements| requirements.0))
        })
    }

    fn require_resources(&self, job: JobId, wanted: Wanted) -> Answer<'_, ()> {
        Box::pin(async move {
            self.running(job).await?;
            self.jobs.require(job, wanted).await
        })
    }

    fn backpressure(&self, job: JobId, vertex: VertexId) -> Answer<'_, BackpressureView> {
        Box::pin(async move {
            self.of_job(job).await?.backpressure(vertex).ok_or_else(|| ApiError::vertex_not_found(vertex))
        })
    }

    fn checkpoints(&self, job: JobId) -> Answer<'_, CheckpointStatisticsView> {
        Box::pin(async move {
            let report = self.report(job).await?;
            Ok(told::statistics(&report.checkpoints, &|id| report.locations.get(&id).cloned()))
        })
    }

    fn checkpoint(&self, job: JobId, checkpoint: CheckpointId) -> Answer<'_, CheckpointView> {
        Box::pin(async move {
            let report = self.report(job).await?;
            let told = report.checkpoints.checkpoint(checkpoint);
            let told = told.ok_or_else(|| ApiError::checkpoint_not_found(checkpoint))?;
            Ok(told::checkpoint(told, report.locations.get(&checkpoint).cloned()))
        })
    }

    fn checkpoint_configuration(&self, job: JobId) -> Answer<'_, CheckpointConfigView> {
        Box::pin(async move {
            let snapshot = self.of_job(job).await?;
            let storage = self.settings.of_job(&snapshot.report).get(&keys::CHECKPOINT_DIR);
            Ok(snapshot.checkpoint_configuration(storage.as_deref().unwrap_or(&self.settings.checkpoint_storage)))
        })
    }

    fn metrics(&self, of: MetricsOf) -> Answer<'_, BTreeMap<String, String>> {
        Box::pin(async move {
            let registry = self.figures.registry();
            match of {
                MetricsOf::Cluster => {
                    self.size().await?;
                    let mut values = registry.cluster_values().unwrap_or_default();
                    values.extend(registry.process_reading(Manager::Job).into_iter().flat_map(|own| own.values()));
                    Ok(values)
                }
                MetricsOf::Job(job) => {
                    self.report(job).await?;
                    Ok(registry.job_values(job).unwrap_or_default())
                }
                MetricsOf::Subtask(job, subtask) => self.subtask_values(job, subtask).await,
                MetricsOf::TaskManager(id) => {
                    let nodes = self.jobs.nodes().await?;
                    let node = nodes.iter().find(|node| node.process.node.0 == id);
                    let node = node.ok_or_else(|| ApiError::NotFound(format!("TaskManager {id} not found")))?;
                    let reading = views::process(node, registry.process_reading(Manager::Task));
                    Ok(reading.map(|reading| reading.values()).unwrap_or_default())
                }
            }
        })
    }

    fn prometheus(&self) -> Answer<'_, String> {
        Box::pin(async {
            self.size().await?;
            self.figures.registry().prometheus().map_err(|error| ApiError::Internal(error.to_string()))
        })
    }

    fn trigger_checkpoint(&self, job: JobId, _kind: CheckpointKind) -> Answer<'_, CheckpointId> {
        Box::pin(async move {
            self.running(job).await?;
            let made = self.jobs.find(job).await?.trigger(Purpose::Checkpoint, false, None).await;
            Ok(made.map_err(ApiError::Internal)?.checkpoint)
        })
    }

    fn trigger_savepoint(&self, job: JobId, folder: Option<String>, cancel: bool) -> Answer<'_, String> {
        Box::pin(async move {
            let location = self.savepoint(job, Purpose::Savepoint, folder, false).await?;
            if cancel {
                self.jobs.find(job).await?.cancel().await.map_err(gone)?;
            }
            Ok(location)
        })
    }

    fn stop(&self, job: JobId, folder: Option<String>, drain: bool) -> Answer<'_, String> {
        Box::pin(async move {
            let location = self.savepoint(job, Purpose::StopWithSavepoint, folder, drain).await?;
            self.jobs.find(job).await?.outcome().await.map_err(gone)?;
            Ok(location)
        })
    }

    fn cancel(&self, job: JobId) -> Answer<'_, ()> {
        Box::pin(async move {
            let before = self.report(job).await?.status;
            let conflict =
                |status: Status| ApiError::Conflict(format!("Job {job} is {status} and cannot be cancelled"));
            if before.is_terminal() {
                return if before == Status::Canceled { Ok(()) } else { Err(conflict(before)) };
            }
            if self.jobs.cancel_waiting(job).await? {
                return Ok(());
            }
            let outcome = self.jobs.find(job).await?.cancel().await.map_err(gone)?;
            if outcome.status == Status::Canceled { Ok(()) } else { Err(conflict(outcome.status)) }
        })
    }
}
