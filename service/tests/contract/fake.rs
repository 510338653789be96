//! A cluster of plain data: one running job of two vertices, one that failed, one that is finished.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use millstream_actors::dispatcher::Wanted;
use millstream_actors::view::checkpoint::{
    CheckpointConfigView, CheckpointCounts, CheckpointStatisticsView, CheckpointView, CompletedSubtaskView,
    Externalization, RestoredCheckpoint, SubtaskCheckpointView, TaskCheckpointView, TaskSummary,
};
use millstream_actors::view::cluster::{ClusterOverview, ConfigEntry, TaskManagerView};
use millstream_actors::view::job::*;
use millstream_actors::view::observation::{BackpressureView, ExceptionEntry, ExceptionHistory, ExceptionsView};
use millstream_actors::view::operation::TriggerId;
use millstream_runtime::graph::SlotSharingGroup;
use millstream_runtime::ids::{CheckpointId, JobId, SubtaskId, VertexId};
use millstream_runtime::job::ParallelismBounds;
use millstream_service::api::{Answer, ApiError, CheckpointKind, ClusterApi, MetricsOf, Program, RunRequest};
use tokio::sync::Semaphore;

pub const RUNNING: JobId = JobId([0xaa; 16]);
pub const FAILED: JobId = JobId([0xbb; 16]);
pub const FINISHED: JobId = JobId([0xcc; 16]);
pub const SOURCE: VertexId = VertexId([0x01; 16]);
pub const SINK: VertexId = VertexId([0x02; 16]);

pub struct FakeCluster {
    next_id: AtomicU8,
    /// What has been asked for, in order.
    pub calls: Mutex<Vec<String>>,
    /// Triggers wait for a permit.
    pub gate: Semaphore,
    pub prometheus_calls: AtomicUsize,
}

impl Default for FakeCluster {
    fn default() -> Self {
        Self {
            next_id: AtomicU8::new(1),
            calls: Mutex::default(),
            gate: Semaphore::new(0),
            prometheus_calls: AtomicUsize::new(0),
        }
    }
}

fn now<'a, T: Send + 'a>(result: Result<T, ApiError>) -> Answer<'a, T> {
    Box::pin(std::future::ready(result))
}

fn known(job: JobId) -> Result<(&'static str, JobStatus), ApiError> {
    match job {
        RUNNING => Ok(("spending", JobStatus::Running)),
        FAILED => Ok(("broken", JobStatus::Failed)),
        FINISHED => Ok(("done", JobStatus::Finished)),
        _ => Err(ApiError::job_not_found(job)),
    }
}

fn subtask(index: u32) -> SubtaskView {
    SubtaskView {
        subtask: index,
        status: ExecutionState::Running,
        attempt: 3,
        endpoint: "127.0.0.1:0".to_string(),
        start_time: 100,
        start_time_again: 100,
        end_time: -1,
        duration: 900,
        metrics: IoMetrics { read_records: 5 + u64::from(index), ..IoMetrics::zero() },
        taskmanager_id: "tm-1".to_string(),
        status_duration: BTreeMap::from([(ExecutionState::Running, 900)]),
    }
}

fn vertices() -> Vec<VertexView> {
    let vertex = |id, name: &str, parallelism| VertexView {
        id,
        slot_sharing_group_id: SlotSharingGroup::default().id(),
        name: name.to_string(),
        max_parallelism: 128,
        parallelism,
        status: ExecutionState::Running,
        start_time: 100,
        end_time: -1,
        duration: 900,
        tasks: (0..parallelism).map(|_| ExecutionState::Running).collect(),
        metrics: IoMetrics::zero(),
    };
    vec![vertex(SOURCE, "Source: a", 2), vertex(SINK, "Sink: b", 1)]
}

fn plan(jid: JobId, name: &str) -> PlanView {
    let node = |id, parallelism, description: &str, inputs| PlanNode {
        id,
        parallelism,
        operator: String::new(),
        operator_strategy: String::new(),
        description: description.to_string(),
        inputs,
        optimizer_properties: BTreeMap::new(),
    };
    let edge =
        PlanInput { num: 0, id: SOURCE, ship_strategy: "HASH".to_string(), exchange: "pipelined_bounded".to_string() };
    PlanView {
        jid,
        name: name.to_string(),
        job_type: "STREAMING".to_string(),
        nodes: vec![node(SOURCE, 2, "Source: a", vec![]), node(SINK, 1, "Sink: b", vec![edge])],
    }
}

pub fn checkpoint(id: u64) -> CheckpointView {
    let done =
        CompletedSubtaskView { index: 0, status: "completed".to_string(), ack_timestamp: 111, ..Default::default() };
    let pending = SubtaskCheckpointView::Pending { index: 1, status: "pending_or_failed".to_string() };
    let task = TaskCheckpointView {
        id,
        status: "COMPLETED".to_string(),
        num_subtasks: 2,
        num_acknowledged_subtasks: 1,
        summary: Some(TaskSummary::default()),
        subtasks: Some(vec![SubtaskCheckpointView::Completed(done), pending]),
        ..TaskCheckpointView::default()
    };
    CheckpointView {
        class_name: "completed".to_string(),
        id,
        status: "COMPLETED".to_string(),
        trigger_timestamp: 100,
        latest_ack_timestamp: 120,
        end_to_end_duration: 20,
        checkpointed_size: 10,
        state_size: 40,
        num_subtasks: 3,
        num_acknowledged_subtasks: 3,
        checkpoint_type: "CHECKPOINT".to_string(),
        tasks: BTreeMap::from([(SOURCE.to_string(), task)]),
        external_path: Some("/store/chk-7".to_string()),
        discarded: Some(false),
        ..CheckpointView::default()
    }
}

impl FakeCluster {
    fn call(&self, call: String) {
        self.calls.lock().unwrap().push(call);
    }

    async fn passed(&self) {
        self.gate.acquire().await.expect("the gate is never closed").forget();
    }
}

impl ClusterApi for FakeCluster {
    fn fresh_id(&self) -> TriggerId {
        TriggerId([self.next_id.fetch_add(1, Ordering::Relaxed); 16])
    }

    fn overview(&self) -> Answer<'_, ClusterOverview> {
        now(Ok(ClusterOverview {
            taskmanagers: 1,
            slots_total: 4,
            slots_available: 1,
            jobs_running: 1,
            jobs_finished: 1,
            jobs_failed: 1,
            flink_version: "0.1.0".to_string(),
            flink_commit: "abc".to_string(),
            ..ClusterOverview::default()
        }))
    }

    fn configuration(&self) -> Answer<'_, Vec<ConfigEntry>> {
        now(Ok(vec![ConfigEntry { key: "rest.port".to_string(), value: "0".to_string() }]))
    }

    fn task_managers(&self) -> Answer<'_, Vec<TaskManagerView>> {
        now(Ok(vec![TaskManagerView { id: "tm-1".to_string(), slots_number: 4, free_slots: 1, ..Default::default() }]))
    }

    fn programs(&self) -> Answer<'_, Vec<Program>> {
        let program = |name: &str, about: &str| Program {
            name: name.to_string(),
            about: about.to_string(),
            available_since_ms: 50,
        };
        now(Ok(vec![program("spending", "Sums up what is spent."), program("plain", "")]))
    }

    fn run_program<'a>(&'a self, name: &'a str, request: RunRequest) -> Answer<'a, JobId> {
        self.call(format!("run {name} {request:?}"));
        now(match name {
            "unknown" => Err(ApiError::BadRequest(format!("there is no job '{name}'"))),
            _ => Ok(RUNNING),
        })
    }

    fn jobs(&self) -> Answer<'_, Vec<JobOverview>> {
        let overview = |jid| {
            let (name, state) = known(jid).unwrap();
            JobOverview {
                jid,
                name: name.to_string(),
                start_time: 100,
                end_time: -1,
                duration: 900,
                state,
                last_modification: 150,
                tasks: TaskCounts { running: 3, total: 3, ..TaskCounts::default() },
            }
        };
        now(Ok([RUNNING, FAILED, FINISHED].map(overview).to_vec()))
    }

    fn job_status(&self, job: JobId) -> Answer<'_, JobStatus> {
        now(known(job).map(|(_, status)| status))
    }

    fn job(&self, job: JobId) -> Answer<'_, JobDetails> {
        now(known(job).map(|(name, state)| JobDetails {
            jid: job,
            name: name.to_string(),
            is_stoppable: false,
            state,
            job_type: "STREAMING".to_string(),
            start_time: 100,
            end_time: -1,
            duration: 900,
            max_parallelism: -1,
            now: 1_000,
            timestamps: BTreeMap::from([(JobStatus::Running, 150)]),
            vertices: vertices(),
            status_counts: [ExecutionState::Running; 2].into_iter().collect(),
            plan: plan(job, name),
            pending_operators: 0,
        }))
    }

    fn job_configuration(&self, job: JobId) -> Answer<'_, JobConfigView> {
        now(known(job).map(|(name, _)| JobConfigView {
            jid: job,
            name: name.to_string(),
            execution_config: ExecutionConfigView {
                execution_mode: "PIPELINED".to_string(),
                restart_strategy: "none".to_string(),
                job_parallelism: 2,
                object_reuse_mode: true,
                user_config: BTreeMap::from([("input".to_string(), "data".to_string())]),
            },
        }))
    }

    fn exceptions(&self, job: JobId) -> Answer<'_, ExceptionsView> {
        let entry = |name: &str, label: &str| ExceptionEntry {
            exception_name: name.to_string(),
            stacktrace: format!("{name}: because"),
            timestamp: 5,
            failure_labels: BTreeMap::from([("type".to_string(), label.to_string())]),
            ..ExceptionEntry::default()
        };
        let entries = vec![entry("second", "user"), entry("first", "system")];
        now(known(job).map(|_| ExceptionsView { exception_history: ExceptionHistory { entries, truncated: false } }))
    }

    fn vertex(&self, job: JobId, vertex: VertexId) -> Answer<'_, VertexDetails> {
        now(known(job).and_then(|_| {
            let found = vertices().into_iter().find(|known| known.id == vertex);
            let found = found.ok_or_else(|| ApiError::vertex_not_found(vertex))?;
            let subtasks = (0..found.parallelism).map(subtask).collect();
            let (name, parallelism, max_parallelism) = (found.name, found.parallelism, found.max_parallelism);
            Ok(VertexDetails { id: vertex, name, parallelism, max_parallelism, now: 1_000, subtasks })
        }))
    }

    fn resource_requirements(&self, job: JobId) -> Answer<'_, BTreeMap<VertexId, ParallelismBounds>> {
        let bounds = |vertex: VertexView| (vertex.id, ParallelismBounds { lower: 1, upper: vertex.parallelism });
        now(known(job).map(|_| vertices().into_iter().map(bounds).collect()))
    }

    fn require_resources(&self, job: JobId, wanted: Wanted) -> Answer<'_, ()> {
        self.call(format!("require {job} {:?} {:?}", wanted.parallelism, wanted.vertices));
        now(known(job).map(drop))
    }

    fn backpressure(&self, job: JobId, _vertex: VertexId) -> Answer<'_, BackpressureView> {
        now(known(job).map(|_| BackpressureView::new(1_000, [(3, 0.6, 0.1, 0.3), (3, 0.0, 0.9, 0.1)])))
    }

    fn checkpoints(&self, job: JobId) -> Answer<'_, CheckpointStatisticsView> {
        now(known(job).map(|_| {
            let mut view = CheckpointStatisticsView {
                counts: CheckpointCounts { restored: 1, total: 8, in_progress: 0, completed: 7, failed: 1 },
                history: vec![checkpoint(7)],
                ..CheckpointStatisticsView::default()
            };
            view.latest.completed = Some(checkpoint(7));
            let external_path = "/savepoints/1".to_string();
            view.latest.restored =
                Some(RestoredCheckpoint { id: 3, restore_timestamp: 9, is_savepoint: true, external_path });
            view
        }))
    }

    fn checkpoint(&self, job: JobId, id: CheckpointId) -> Answer<'_, CheckpointView> {
        now(known(job)
            .and_then(|_| if id.0 == 7 { Ok(checkpoint(7)) } else { Err(ApiError::checkpoint_not_found(id)) }))
    }

    fn checkpoint_configuration(&self, job: JobId) -> Answer<'_, CheckpointConfigView> {
        now(known(job).map(|_| CheckpointConfigView {
            mode: "exactly_once".to_string(),
            interval: 1_000,
            timeout: 600_000,
            min_pause: 0,
            max_concurrent: 1,
            externalization: Externalization { enabled: true, delete_on_cancellation: false },
            state_backend: "millstream".to_string(),
            checkpoint_storage: "file:///store".to_string(),
            unaligned_checkpoints: false,
            tolerable_failed_checkpoints: 0,
            aligned_checkpoint_timeout: 0,
            checkpoints_after_tasks_finish: true,
            state_changelog_enabled: false,
            changelog_periodic_materialization_interval: -1,
            changelog_storage: String::new(),
        }))
    }

    fn metrics(&self, of: MetricsOf) -> Answer<'_, BTreeMap<String, String>> {
        let value = |name: &str, value: String| (name.to_string(), value);
        now(match of {
            MetricsOf::Cluster => Ok(BTreeMap::from([value("numRunningJobs", "1".to_string())])),
            MetricsOf::Job(RUNNING) => Ok(BTreeMap::from([value("uptime", "850".to_string())])),
            MetricsOf::TaskManager(id) if id == "tm-1" => {
                Ok(BTreeMap::from([value("Status.Flink.Memory.Managed.Used", "0".to_string())]))
            }
            MetricsOf::Subtask(RUNNING, SubtaskId { index, .. }) => Ok(BTreeMap::from([
                value("currentInputWatermark", (1_000 + index.0).to_string()),
                value("numRecordsIn", (10 * (index.0 + 1)).to_string()),
            ])),
            other => Err(ApiError::NotFound(format!("{other:?} has no metrics"))),
        })
    }

    fn prometheus(&self) -> Answer<'_, String> {
        self.prometheus_calls.fetch_add(1, Ordering::Relaxed);
        now(Ok("flink_jobmanager_numRunningJobs 1\n".to_string()))
    }

    fn trigger_checkpoint(&self, job: JobId, kind: CheckpointKind) -> Answer<'_, CheckpointId> {
        self.call(format!("checkpoint {job} {kind:?}"));
        Box::pin(async move {
            self.passed().await;
            if job == FINISHED { Err(ApiError::Conflict("the job has ended".to_string())) } else { Ok(CheckpointId(8)) }
        })
    }

    fn trigger_savepoint(&self, job: JobId, folder: Option<String>, cancel: bool) -> Answer<'_, String> {
        self.call(format!("savepoint {job} {folder:?} {cancel}"));
        Box::pin(async move {
            self.passed().await;
            Ok(format!("{}/savepoint-1", folder.unwrap_or_else(|| "/savepoints".to_string())))
        })
    }

    fn stop(&self, job: JobId, folder: Option<String>, drain: bool) -> Answer<'_, String> {
        self.call(format!("stop {job} {folder:?} {drain}"));
        Box::pin(async move {
            self.passed().await;
            Ok("/savepoints/savepoint-2".to_string())
        })
    }

    fn cancel(&self, job: JobId) -> Answer<'_, ()> {
        self.call(format!("cancel {job}"));
        now(known(job).and_then(|(_, status)| match status {
            JobStatus::Running => Ok(()),
            _ => Err(ApiError::Conflict("Job cancellation failed because the job has already ended.".to_string())),
        }))
    }
}
