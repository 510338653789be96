//! From the report of the job master and the metrics to what REST shows.

use std::collections::BTreeMap;

use millstream_actors::dispatcher::NodeReport;
use millstream_actors::job_master::report::{JobReport, SubtaskReportRow, SubtaskStatus, VertexReport};
use millstream_actors::launch::EMBEDDED_NODE;
use millstream_actors::metrics::ProcessReading;
use millstream_actors::metrics::subtask::{Phase, SubtaskReading};
use millstream_actors::view::checkpoint::{CheckpointConfigView, Externalization};
use millstream_actors::view::cluster::{ClusterOverview, Hardware, TaskManagerView};
use millstream_actors::view::job::{
    ExecutionConfigView, ExecutionState, IoMetrics, JobConfigView, JobDetails, JobOverview, JobStatus, PlanInput,
    PlanNode, PlanView, StatusCounts, SubtaskView, VertexDetails, VertexView,
};
use millstream_actors::view::observation::{
    BackpressureView, ExceptionEntry as ExceptionView, ExceptionHistory, ExceptionsView,
};
use millstream_runtime::element::{CheckpointingMode, Overtaking, Purpose};
use millstream_runtime::ids::{SubtaskId, VertexId};
use millstream_runtime::job::{ExceptionEntry, JobStatus as Status, ParallelismBounds};

use super::figures::{Readings, of_vertex};

/// One job as of a moment.
pub(super) struct Snapshot {
    pub report: JobReport,
    pub readings: Readings,
    pub now_ms: i64,
}

pub(super) fn status(status: Status) -> JobStatus {
    match status {
        Status::Initializing => JobStatus::Initializing,
        Status::Created => JobStatus::Created,
        Status::Running => JobStatus::Running,
        Status::Failing => JobStatus::Failing,
        Status::Failed => JobStatus::Failed,
        Status::Cancelling => JobStatus::Cancelling,
        Status::Canceled => JobStatus::Canceled,
        Status::Finished => JobStatus::Finished,
        Status::Restarting => JobStatus::Restarting,
        Status::Suspended => JobStatus::Suspended,
    }
}

fn execution(status: SubtaskStatus) -> ExecutionState {
    match status {
        SubtaskStatus::Initializing => ExecutionState::Initializing,
        SubtaskStatus::Running => ExecutionState::Running,
        SubtaskStatus::Finished => ExecutionState::Finished,
        SubtaskStatus::Canceling => ExecutionState::Canceling,
        SubtaskStatus::Canceled => ExecutionState::Canceled,
        SubtaskStatus::Failed => ExecutionState::Failed,
    }
}

/// How many there are of everything.
pub(super) fn size(nodes: &[NodeReport], reports: &[JobReport]) -> ClusterOverview {
    let count = |wanted: &dyn Fn(Status) -> bool| counted(reports.iter().filter(|job| wanted(job.status)).count());
    ClusterOverview {
        taskmanagers: counted(nodes.len()),
        slots_total: nodes.iter().map(|node| node.slots).sum(),
        slots_available: nodes.iter().map(|node| node.free).sum(),
        jobs_running: count(&|status| !status.is_terminal()),
        jobs_finished: count(&|status| status == Status::Finished),
        jobs_cancelled: count(&|status| status == Status::Canceled),
        jobs_failed: count(&|status| status == Status::Failed),
        flink_version: env!("CARGO_PKG_VERSION").to_string(),
        flink_commit: "unknown".to_string(),
    }
}

/// How many subtasks each vertex may have where no slots are shared out: as many as it has.
pub(super) fn bounds(report: &JobReport) -> BTreeMap<VertexId, ParallelismBounds> {
    let exactly = |subtasks| ParallelismBounds { lower: subtasks, upper: subtasks };
    report.vertices.iter().map(|vertex| (vertex.id, exactly(vertex.parallelism))).collect()
}

/// What the process of a task manager takes, if it is known: an embedded one is this process itself.
pub(super) fn process(node: &NodeReport, own: Option<ProcessReading>) -> Option<ProcessReading> {
    if node.process.node.0 == EMBEDDED_NODE { own } else { node.reading }
}

/// A task manager with the subtasks that jobs have on it.
pub(super) fn task_manager(
    node: &NodeReport,
    own: Option<ProcessReading>,
    reports: &[JobReport],
    now_ms: i64,
) -> TaskManagerView {
    let id = &node.process.node;
    let is_embedded = id.0 == EMBEDDED_NODE;
    let usage = process(node, own).unwrap_or_default().usage;
    let running = |row: &&SubtaskReportRow| row.node == *id && !has_ended(row.status);
    TaskManagerView {
        id: id.to_string(),
        path: if is_embedded { EMBEDDED_NODE.to_string() } else { node.process.to_string() },
        data_port: -1,
        jmx_port: -1,
        // Only those are known that the failure detector holds for alive.
        time_since_last_heartbeat: now_ms,
        slots_number: node.slots,
        free_slots: node.free,
        assigned_tasks: counted(reports.iter().flat_map(|job| &job.subtasks).filter(running).count()),
        hardware: Hardware {
            cpu_cores: usage.cores,
            physical_memory: usage.machine_memory,
            free_memory: usage.machine_memory_free,
            managed_memory: usage.state_memory_limit,
        },
        blocked: false,
    }
}

fn counted(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Where a node is, as far as it is known.
fn endpoint(node: &str) -> String {
    if node == EMBEDDED_NODE { "localhost".to_string() } else { node.to_string() }
}

fn has_ended(status: SubtaskStatus) -> bool {
    matches!(status, SubtaskStatus::Finished | SubtaskStatus::Canceled | SubtaskStatus::Failed)
}

impl Snapshot {
    fn rows(&self, vertex: VertexId) -> impl Iterator<Item = &SubtaskReportRow> {
        self.report.subtasks.iter().filter(move |row| row.id.vertex == vertex)
    }

    /// The states of all subtasks of a vertex; those that are not deployed are created.
    fn states(&self, vertex: &VertexReport) -> StatusCounts {
        let deployed: Vec<ExecutionState> = self.rows(vertex.id).map(|row| execution(row.status)).collect();
        let missing = (vertex.parallelism as usize).saturating_sub(deployed.len());
        deployed.into_iter().chain(std::iter::repeat_n(ExecutionState::Created, missing)).collect()
    }

    fn io(&self, id: SubtaskId) -> IoMetrics {
        self.readings.get(&id).map_or_else(IoMetrics::zero, SubtaskReading::io)
    }

    pub fn overview(&self) -> JobOverview {
        let report = &self.report;
        let end = report.ended_ms.unwrap_or(-1);
        // When a job ended under an earlier leader is not remembered.
        let is_known = report.ended_ms.is_some() || !report.status.is_terminal();
        let subtasks: StatusCounts = report.vertices.iter().flat_map(|vertex| expand(&self.states(vertex))).collect();
        JobOverview {
            jid: report.job,
            name: report.name.clone(),
            start_time: report.started_ms,
            end_time: end,
            duration: if is_known { self.since(report.started_ms, report.ended_ms) } else { -1 },
            state: status(report.status),
            last_modification: report.timestamps.iter().map(|(_, at)| at).max().unwrap_or(0).max(report.started_ms),
            tasks: (&subtasks).into(),
        }
    }

    fn since(&self, start: i64, end: Option<i64>) -> i64 {
        end.unwrap_or(self.now_ms).saturating_sub(start).max(0)
    }

    pub fn details(&self) -> JobDetails {
        let report = &self.report;
        let overview = self.overview();
        let vertices: Vec<VertexView> = report.vertices.iter().map(|vertex| self.vertex(vertex)).collect();
        let mut timestamps: BTreeMap<JobStatus, i64> =
            report.timestamps.iter().map(|(of, at)| (status(of), at)).collect();
        timestamps.insert(JobStatus::Reconciling, 0);
        JobDetails {
            jid: overview.jid,
            name: overview.name,
            is_stoppable: false,
            state: overview.state,
            job_type: "STREAMING".to_string(),
            start_time: overview.start_time,
            end_time: overview.end_time,
            duration: overview.duration,
            max_parallelism: -1,
            now: self.now_ms,
            timestamps,
            status_counts: vertices.iter().map(|vertex| vertex.status).collect(),
            vertices,
            plan: self.plan(),
            pending_operators: 0,
        }
    }

    fn vertex(&self, vertex: &VertexReport) -> VertexView {
        let states = self.states(vertex);
        let start = self.rows(vertex.id).map(|row| row.started_ms).min();
        let all_ended = self.rows(vertex.id).all(|row| has_ended(row.status)) && start.is_some();
        let end = all_ended.then(|| self.rows(vertex.id).map(|row| row.since_ms).max()).flatten();
        let mut metrics = IoMetrics::zero();
        for (_, reading) in of_vertex(&self.readings, vertex.id) {
            metrics.add(&reading.io());
        }
        VertexView {
            id: vertex.id,
            slot_sharing_group_id: vertex.slot_sharing_group,
            name: vertex.name.clone(),
            max_parallelism: vertex.max_parallelism,
            parallelism: vertex.parallelism,
            status: ExecutionState::of_vertex(&states),
            start_time: start.unwrap_or(-1),
            end_time: end.unwrap_or(-1),
            duration: start.map_or(-1, |start| self.since(start, end)),
            tasks: states,
            metrics,
        }
    }

    fn plan(&self) -> PlanView {
        let report = &self.report;
        let nodes = report.vertices.iter().enumerate().map(|(index, vertex)| PlanNode {
            id: vertex.id,
            parallelism: vertex.parallelism,
            operator: String::new(),
            operator_strategy: String::new(),
            description: vertex.name.clone(),
            inputs: (0..)
                .zip(report.edges.iter().filter(|edge| edge.target == index))
                .map(|(num, edge)| PlanInput {
                    num,
                    id: report.vertices[edge.source].id,
                    ship_strategy: edge.strategy.name().to_string(),
                    exchange: "pipelined_bounded".to_string(),
                })
                .collect(),
            optimizer_properties: BTreeMap::new(),
        });
        PlanView {
            jid: report.job,
            name: report.name.clone(),
            job_type: "STREAMING".to_string(),
            nodes: nodes.collect(),
        }
    }

    pub fn vertex_details(&self, vertex: VertexId) -> Option<VertexDetails> {
        let told = self.report.vertices.iter().find(|told| told.id == vertex)?;
        Some(VertexDetails {
            id: vertex,
            name: told.name.clone(),
            parallelism: told.parallelism,
            max_parallelism: told.max_parallelism,
            now: self.now_ms,
            subtasks: self.rows(vertex).map(|row| self.subtask(row)).collect(),
        })
    }

    fn subtask(&self, row: &SubtaskReportRow) -> SubtaskView {
        let end = has_ended(row.status).then_some(row.since_ms);
        let status = execution(row.status);
        let mut status_duration: BTreeMap<ExecutionState, i64> =
            ExecutionState::ALL.into_iter().map(|state| (state, -1)).collect();
        status_duration.insert(status, self.since(row.since_ms, None));
        SubtaskView {
            subtask: row.id.index.0,
            status,
            attempt: row.attempt,
            endpoint: endpoint(&row.node.0),
            start_time: row.started_ms,
            start_time_again: row.started_ms,
            end_time: end.unwrap_or(-1),
            duration: self.since(row.started_ms, end),
            metrics: self.io(row.id),
            taskmanager_id: row.node.to_string(),
            status_duration,
        }
    }

    pub fn backpressure(&self, vertex: VertexId) -> Option<BackpressureView> {
        self.report.vertices.iter().find(|told| told.id == vertex)?;
        let attempts: BTreeMap<SubtaskId, u32> = self.rows(vertex).map(|row| (row.id, row.attempt)).collect();
        let parts = of_vertex(&self.readings, vertex).map(|(id, reading)| {
            let attempt = attempts.get(id).copied().unwrap_or(0);
            (attempt, reading.ratio(Phase::BackPressured), reading.ratio(Phase::Idle), reading.ratio(Phase::Busy))
        });
        Some(BackpressureView::new(self.now_ms, parts))
    }

    pub fn exceptions(&self) -> ExceptionsView {
        let history = &self.report.exceptions;
        ExceptionsView {
            exception_history: ExceptionHistory {
                entries: history.entries().map(exception).collect(),
                truncated: history.is_truncated(),
            },
        }
    }

    pub fn configuration(&self, restart_strategy: &str) -> JobConfigView {
        let report = &self.report;
        JobConfigView {
            jid: report.job,
            name: report.name.clone(),
            execution_config: ExecutionConfigView {
                execution_mode: "PIPELINED".to_string(),
                restart_strategy: restart_strategy.to_string(),
                job_parallelism: report.vertices.iter().map(|vertex| vertex.parallelism).max().unwrap_or(1),
                object_reuse_mode: true,
                user_config: report.properties.iter().cloned().collect(),
            },
        }
    }

    pub fn checkpoint_configuration(&self, storage: &str) -> CheckpointConfigView {
        let options = &self.report.checkpoint_options;
        CheckpointConfigView {
            mode: match options.mode {
                CheckpointingMode::ExactlyOnce => "exactly_once",
                CheckpointingMode::AtLeastOnce => "at_least_once",
            }
            .to_string(),
            interval: options.interval_ms.unwrap_or(i64::MAX),
            timeout: options.timeout_ms,
            min_pause: options.min_pause_ms,
            max_concurrent: options.max_concurrent,
            externalization: Externalization { enabled: true, delete_on_cancellation: false },
            state_backend: "millstream".to_string(),
            checkpoint_storage: storage.to_string(),
            unaligned_checkpoints: options.overtaking(Purpose::Checkpoint) != Overtaking::Never,
            tolerable_failed_checkpoints: options.tolerable_failed.map_or(-1, i64::from),
            aligned_checkpoint_timeout: options
                .aligned_timeout_ms
                .map_or(0, |timeout| i64::try_from(timeout).unwrap_or(i64::MAX)),
            checkpoints_after_tasks_finish: true,
            state_changelog_enabled: false,
            changelog_periodic_materialization_interval: -1,
            changelog_storage: String::new(),
        }
    }
}

fn expand(counts: &StatusCounts) -> Vec<ExecutionState> {
    counts.0.iter().flat_map(|(state, count)| std::iter::repeat_n(*state, *count as usize)).collect()
}

fn exception(entry: &ExceptionEntry) -> ExceptionView {
    ExceptionView {
        exception_name: entry.message.lines().next().unwrap_or_default().to_string(),
        stacktrace: entry.message.clone(),
        timestamp: entry.timestamp_ms,
        failure_labels: BTreeMap::from([("kind".to_string(), entry.kind.to_string())]),
        task_name: entry.subtask_name.clone(),
        endpoint: entry.location.as_deref().map(endpoint),
        task_manager_id: entry.location.clone(),
        concurrent_exceptions: entry.concurrent.iter().map(exception).collect(),
    }
}
