//! What a job tells (availability, checkpoints) and what the cluster tells (slots, task managers). Written by the job
//! master and the resource manager.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use super::instrument::{Instrument, Measured, Now, Read};

/// Counters and gauges of one job.
#[derive(Debug, Default)]
pub struct JobMetrics {
    inner: Mutex<JobReading>,
}

/// What the last completed checkpoint was like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastCheckpoint {
    /// Number.
    pub id: u64,
    /// From trigger to completion, in milliseconds.
    pub duration_ms: i64,
    /// Bytes written for it.
    pub size_bytes: u64,
    /// Bytes of all state it refers to.
    pub full_size_bytes: u64,
    /// Bytes of its manifest.
    pub metadata_size_bytes: u64,
    /// When it was completed, milliseconds since the epoch.
    pub completed_ms: i64,
}

/// Whether the job works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Availability {
    /// Not yet.
    #[default]
    Starting,
    /// Since this time, in milliseconds since the epoch.
    Up(i64),
    /// Failed and not yet running again, since this time.
    Down(i64),
    /// It has ended.
    Ended,
}

/// All values of a job at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobReading {
    completed: u64,
    failed: u64,
    in_progress: u64,
    restarts: u64,
    last: Option<LastCheckpoint>,
    restored_ms: Option<i64>,
    availability: Availability,
    now_ms: i64,
}

impl JobMetrics {
    fn change(&self, change: impl FnOnce(&mut JobReading)) {
        change(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Numbers of checkpoints since the start of the job.
    pub fn set_checkpoints(&self, completed: u64, failed: u64, in_progress: u64) {
        self.change(|job| (job.completed, job.failed, job.in_progress) = (completed, failed, in_progress));
    }

    /// A checkpoint was completed.
    pub fn set_last_checkpoint(&self, last: LastCheckpoint) {
        self.change(|job| job.last = Some(last));
    }

    /// The job was restored from a checkpoint or savepoint.
    pub fn restored(&self, now_ms: i64) {
        self.change(|job| job.restored_ms = Some(now_ms));
    }

    /// Restarts since the start of the job.
    pub fn set_restarts(&self, restarts: u64) {
        self.change(|job| job.restarts = restarts);
    }

    /// The job works, works no longer, or has ended.
    pub fn set_availability(&self, availability: Availability) {
        self.change(|job| job.availability = availability);
    }
}

impl JobReading {
    fn uptime_ms(&self) -> i64 {
        match self.availability {
            Availability::Up(since) => self.now_ms.saturating_sub(since).max(0),
            Availability::Starting | Availability::Down(_) => 0,
            Availability::Ended => -1,
        }
    }

    fn downtime_ms(&self) -> i64 {
        match self.availability {
            Availability::Down(since) => self.now_ms.saturating_sub(since).max(0),
            Availability::Starting | Availability::Up(_) => 0,
            Availability::Ended => -1,
        }
    }

    fn of_last(&self, figure: impl FnOnce(&LastCheckpoint) -> i64) -> Option<i64> {
        Some(self.last.as_ref().map_or(-1, figure))
    }
}

/// Sizes beyond 8 EiB do not occur; a metric must not panic nevertheless.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

type Metric = Instrument<JobReading>;

impl JobMetrics {
    /// Flink's logical scope, with dots.
    pub(super) const SCOPE: &'static str = "jobmanager.job";
}

impl Measured for JobMetrics {
    type Reading = JobReading;

    #[rustfmt::skip]
    const INSTRUMENTS: &'static [Metric] = &[
        Metric::new("numberOfCompletedCheckpoints", "{checkpoint}", "Checkpoints completed.", Read::Counter(|r| r.completed)),
        Metric::new("numberOfFailedCheckpoints", "{checkpoint}", "Checkpoints failed.", Read::Counter(|r| r.failed)),
        Metric::new("numberOfInProgressCheckpoints", "{checkpoint}", "Checkpoints in progress.", Read::Gauge(|r| Some(signed(r.in_progress)))),
        Metric::new("totalNumberOfCheckpoints", "{checkpoint}", "Checkpoints triggered.", Read::Counter(|r| r.completed + r.failed + r.in_progress)),
        Metric::new("lastCheckpointDuration", "ms", "From trigger to completion; -1 before the first.", Read::Gauge(|r| r.of_last(|last| last.duration_ms))),
        Metric::new("lastCheckpointSize", "By", "Bytes written for the last checkpoint.", Read::Gauge(|r| r.of_last(|last| signed(last.size_bytes)))),
        Metric::new("lastCheckpointFullSize", "By", "Bytes of all state the last checkpoint refers to.", Read::Gauge(|r| r.of_last(|last| signed(last.full_size_bytes)))),
        Metric::new("lastCheckpointMetadataSize", "By", "Bytes of the manifest of the last checkpoint.", Read::Gauge(|r| r.of_last(|last| signed(last.metadata_size_bytes)))),
        Metric::new("lastCompletedCheckpointId", "", "Number of the last completed checkpoint.", Read::Gauge(|r| r.of_last(|last| signed(last.id)))),
        Metric::new("lastCheckpointCompletedTimestamp", "ms", "When the last checkpoint was completed.", Read::Gauge(|r| r.of_last(|last| last.completed_ms))),
        Metric::new("lastCheckpointRestoreTimestamp", "ms", "When the job was last restored; -1 if never.", Read::Gauge(|r| Some(r.restored_ms.unwrap_or(-1)))),
        Metric::new("numRestarts", "{restart}", "Restarts since the job was submitted.", Read::Counter(|r| r.restarts)),
        Metric::new("fullRestarts", "{restart}", "The same under Flink's earlier name.", Read::Counter(|r| r.restarts)),
        Metric::new("uptime", "ms", "Time the job has been running without interruption; -1 once it has ended.", Read::Gauge(|r| Some(r.uptime_ms()))),
        Metric::new("downtime", "ms", "Time since the failure of a job that is not running again; -1 once it has ended.", Read::Gauge(|r| Some(r.downtime_ms()))),
    ];

    fn sample(&self, _now: Now) {}

    fn reading(&self, now: Now) -> JobReading {
        let reading = self.inner.lock().unwrap_or_else(PoisonError::into_inner).clone();
        JobReading { now_ms: now.wall_ms, ..reading }
    }
}

/// Gauges of the cluster.
#[derive(Debug, Default)]
pub struct ClusterMetrics {
    task_managers: AtomicI64,
    running_jobs: AtomicI64,
    slots_available: AtomicU64,
    slots_total: AtomicU64,
}

/// All values of the cluster at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterReading {
    task_managers: i64,
    running_jobs: i64,
    slots_available: u64,
    slots_total: u64,
}

impl ClusterMetrics {
    /// Task managers that are alive.
    pub fn set_task_managers(&self, task_managers: u32) {
        self.task_managers.store(i64::from(task_managers), Relaxed);
    }

    /// Jobs that have not ended.
    pub fn set_running_jobs(&self, jobs: u32) {
        self.running_jobs.store(i64::from(jobs), Relaxed);
    }

    /// Slots without subtask, and all of them.
    pub fn set_slots(&self, available: u32, total: u32) {
        self.slots_available.store(u64::from(available), Relaxed);
        self.slots_total.store(u64::from(total), Relaxed);
    }
}

impl ClusterMetrics {
    /// Flink's logical scope, with dots.
    pub(super) const SCOPE: &'static str = "jobmanager";
}

impl Measured for ClusterMetrics {
    type Reading = ClusterReading;

    #[rustfmt::skip]
    const INSTRUMENTS: &'static [Instrument<ClusterReading>] = &[
        Instrument::new("numRegisteredTaskManagers", "", "Task managers that are alive.", Read::Gauge(|r| Some(r.task_managers))),
        Instrument::new("numRunningJobs", "", "Jobs that have not ended.", Read::Gauge(|r| Some(r.running_jobs))),
        Instrument::new("taskSlotsAvailable", "", "Slots without subtask.", Read::Gauge(|r| Some(signed(r.slots_available)))),
        Instrument::new("taskSlotsTotal", "", "All slots.", Read::Gauge(|r| Some(signed(r.slots_total)))),
    ];

    fn sample(&self, _now: Now) {}

    fn reading(&self, _now: Now) -> ClusterReading {
        ClusterReading {
            task_managers: self.task_managers.load(Relaxed),
            running_jobs: self.running_jobs.load(Relaxed),
            slots_available: self.slots_available.load(Relaxed),
            slots_total: self.slots_total.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(metrics: &JobMetrics, wall_ms: i64) -> Vec<(&'static str, String)> {
        let reading = metrics.reading(Now { wall_ms, monotonic_ns: 0 });
        JobMetrics::INSTRUMENTS.iter().filter_map(|metric| Some((metric.name, metric.text(&reading)?))).collect()
    }

    fn value(metrics: &JobMetrics, wall_ms: i64, name: &str) -> Option<String> {
        values(metrics, wall_ms).into_iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    #[test]
    fn uptime_and_downtime_follow_the_availability() {
        let metrics = JobMetrics::default();
        let both = |at| (value(&metrics, at, "uptime"), value(&metrics, at, "downtime"));
        let text = |up: i64, down: i64| (Some(up.to_string()), Some(down.to_string()));
        assert_eq!(both(50), text(0, 0));
        metrics.set_availability(Availability::Up(100));
        assert_eq!(both(350), text(250, 0));
        metrics.set_availability(Availability::Down(400));
        assert_eq!(both(500), text(0, 100));
        metrics.set_availability(Availability::Ended);
        assert_eq!(both(600), text(-1, -1));
    }

    #[test]
    fn checkpoint_figures_are_minus_one_before_the_first() {
        let metrics = JobMetrics::default();
        assert_eq!(value(&metrics, 0, "lastCheckpointSize").as_deref(), Some("-1"));
        metrics.set_checkpoints(3, 1, 1);
        metrics.set_last_checkpoint(LastCheckpoint {
            id: 4,
            duration_ms: 12,
            size_bytes: 9,
            ..LastCheckpoint::default()
        });
        assert_eq!(value(&metrics, 0, "lastCheckpointSize").as_deref(), Some("9"));
        assert_eq!(value(&metrics, 0, "lastCheckpointDuration").as_deref(), Some("12"));
        assert_eq!(value(&metrics, 0, "totalNumberOfCheckpoints").as_deref(), Some("5"));
        assert_eq!(value(&metrics, 0, "lastCompletedCheckpointId").as_deref(), Some("4"));
    }
}
