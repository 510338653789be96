//! The last figures of the newest deployment of every subtask of each job: from the metrics of this process if it runs
//! here, else as its task manager has told the job master. Kept when a subtask has ended and its metrics are gone. Used by
//! progress, by the summary and by REST.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use millstream_actors::job_master::report::JobReport;
use millstream_actors::metrics::subtask::SubtaskReading;
use millstream_actors::metrics::{Now, Registry};
use millstream_actors::world::Stopwatch;
use millstream_runtime::ids::{AttemptId, JobId, SubtaskId, VertexId};

use super::measuring;

/// The readings of one job.
pub(crate) type Readings = BTreeMap<SubtaskId, SubtaskReading>;

/// The last readings of one job, and which deployment each is of.
type LastReadings = BTreeMap<SubtaskId, (AttemptId, SubtaskReading)>;

/// Reads the registry and remembers.
pub(crate) struct Figures {
    registry: Arc<Registry>,
    stopwatch: Stopwatch,
    last: Mutex<BTreeMap<JobId, LastReadings>>,
}

impl Figures {
    pub fn new(registry: Arc<Registry>, stopwatch: Stopwatch) -> Self {
        Self { registry, stopwatch, last: Mutex::default() }
    }

    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    pub fn now(&self) -> Now {
        measuring::now(self.stopwatch)
    }

    /// Seconds since the job was launched.
    pub fn elapsed_seconds(&self) -> f64 {
        self.stopwatch.elapsed_ns() as f64 / 1e9
    }

    /// Reads all subtasks that the report is about.
    pub fn read(&self, report: &JobReport) -> Readings {
        let now = self.now();
        let mut all = self.lock();
        let last = all.entry(report.job).or_default();
        let deployments: BTreeMap<_, _> = report.subtasks.iter().map(|row| (row.id, row.deployment)).collect();
        last.retain(|id, (deployment, _)| deployments.get(id) == Some(deployment));
        for subtask in &report.subtasks {
            let known = last.get(&subtask.id).map(|(_, reading)| reading);
            let told = || subtask.reading.filter(|told| is_newer(told, known));
            if let Some(reading) = self.registry.task_reading(report.job, subtask.id, now).or_else(told) {
                last.insert(subtask.id, (subtask.deployment, reading));
            }
        }
        last.iter().map(|(id, (_, reading))| (*id, *reading)).collect()
    }

    /// Forgets all jobs but these.
    pub fn retain(&self, jobs: &BTreeSet<JobId>) {
        self.lock().retain(|job, _| jobs.contains(job));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<JobId, LastReadings>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reading that was told may be older than the last one from here.
fn is_newer(told: &SubtaskReading, known: Option<&SubtaskReading>) -> bool {
    known.is_none_or(|known| told.elapsed_ns() >= known.elapsed_ns())
}

/// The readings of one vertex.
pub(crate) fn of_vertex(readings: &Readings, vertex: VertexId) -> impl Iterator<Item = (&SubtaskId, &SubtaskReading)> {
    readings.iter().filter(move |(id, _)| id.vertex == vertex)
}
