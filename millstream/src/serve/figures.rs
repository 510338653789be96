//! The last figures of every subtask of the newest deployment, kept when the subtask has ended and its metrics are gone.
//! Used by progress, by the summary and by REST.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use millstream_actors::job_master::report::JobReport;
use millstream_actors::metrics::subtask::SubtaskReading;
use millstream_actors::metrics::{Now, Registry};
use millstream_actors::world::{Stopwatch, SystemClock};
use millstream_runtime::ids::{AttemptId, SubtaskId, VertexId};
use millstream_runtime::ports::Clock;

/// Reads the registry and remembers.
pub(crate) struct Figures {
    registry: Arc<Registry>,
    stopwatch: Stopwatch,
    last: Mutex<BTreeMap<SubtaskId, (AttemptId, SubtaskReading)>>,
}

impl Figures {
    pub fn new(registry: Arc<Registry>, stopwatch: Stopwatch) -> Self {
        Self { registry, stopwatch, last: Mutex::default() }
    }

    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    pub fn now(&self) -> Now {
        Now { wall_ms: SystemClock.now_ms(), monotonic_ns: self.stopwatch.elapsed_ns() }
    }

    /// Seconds since the job was launched.
    pub fn elapsed_seconds(&self) -> f64 {
        self.stopwatch.elapsed_ns() as f64 / 1e9
    }

    /// Computes rates as of now.
    pub fn sample(&self) {
        self.registry.sample(self.now());
    }

    /// Reads all subtasks of the deployment that the report is about.
    pub fn read(&self, report: &JobReport) -> BTreeMap<SubtaskId, SubtaskReading> {
        let now = self.now();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let attempt = report.attempt.unwrap_or_default();
        last.retain(|_, (of, _)| *of == attempt);
        for subtask in &report.subtasks {
            if let Some(reading) = self.registry.task_reading(report.job, subtask.id, now) {
                last.insert(subtask.id, (attempt, reading));
            }
        }
        last.iter().map(|(id, (_, reading))| (*id, *reading)).collect()
    }
}

/// The readings of one vertex.
pub(crate) fn of_vertex(
    readings: &BTreeMap<SubtaskId, SubtaskReading>,
    vertex: VertexId,
) -> impl Iterator<Item = (&SubtaskId, &SubtaskReading)> {
    readings.iter().filter(move |(id, _)| id.vertex == vertex)
}
