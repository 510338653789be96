//! Statistics of checkpoints, as the REST API shows them: counts, a bounded history, the latest of each kind.
//! Fed by the coordinator; nothing is decided by them.

use std::collections::{BTreeMap, VecDeque};

use serde::{Serialize, Serializer};

use crate::element::Purpose;
use crate::ids::{AttemptId, CheckpointId, SubtaskId, SubtaskIndex, VertexId};

/// Completed checkpoints that the summary looks back on.
const SUMMARY_WINDOW: usize = 100;

/// Where a checkpoint stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CheckpointStatus {
    /// Pending.
    InProgress,
    /// Durable.
    Completed,
    /// Aborted.
    Failed,
}

/// What a subtask tells about its part beside the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct AckMetrics {
    /// Milliseconds from the trigger to the first barrier.
    pub start_delay_ms: i64,
    /// Milliseconds from the first to the last barrier.
    pub alignment_ms: i64,
    /// Milliseconds the subtask stood still for the snapshot.
    pub sync_duration_ms: i64,
    /// Milliseconds until its state was durable.
    pub async_duration_ms: i64,
    /// Microseconds of the longest step between the barrier and the end of the encoding: for so long the subtask took
    /// no message.
    pub longest_step_us: i64,
    /// Bytes processed while aligning.
    pub processed_bytes: u64,
    /// Bytes of in-flight data in the snapshot.
    pub persisted_bytes: u64,
    /// The barrier overtook rows, here or before.
    pub unaligned: bool,
}

/// One subtask's part in a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SubtaskStatistics {
    /// Its index.
    pub index: SubtaskIndex,
    /// When it acknowledged.
    pub ack_timestamp_ms: i64,
    /// Milliseconds from the trigger to the acknowledgement.
    pub end_to_end_duration_ms: i64,
    /// Bytes written for this checkpoint.
    pub checkpointed_size_bytes: u64,
    /// Bytes of all state it refers to.
    pub state_size_bytes: u64,
    /// What the subtask measured.
    pub metrics: AckMetrics,
}

/// One vertex's part in a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VertexStatistics {
    /// The vertex, as 32 hex digits.
    #[serde(serialize_with = "as_text")]
    pub vertex: VertexId,
    /// By index; `None` has not acknowledged.
    pub subtasks: Vec<Option<SubtaskStatistics>>,
}

/// One checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckpointStatistics {
    /// Its number.
    pub id: CheckpointId,
    /// Where it stands.
    pub status: CheckpointStatus,
    /// What it is for.
    pub purpose: Purpose,
    /// The deployment it was triggered for.
    #[serde(serialize_with = "as_text")]
    pub attempt: AttemptId,
    /// When it was triggered.
    pub trigger_timestamp_ms: i64,
    /// When the last subtask so far acknowledged.
    pub latest_ack_timestamp_ms: Option<i64>,
    /// Milliseconds from the trigger to completion or failure, or so far to the latest acknowledgement.
    pub end_to_end_duration_ms: i64,
    /// Bytes written for it.
    pub checkpointed_size_bytes: u64,
    /// Bytes of all state it refers to.
    pub state_size_bytes: u64,
    /// Subtasks that must acknowledge.
    pub num_subtasks: usize,
    /// Subtasks that have.
    pub num_acknowledged_subtasks: usize,
    /// When it failed.
    pub failure_timestamp_ms: Option<i64>,
    /// Why it failed.
    pub failure_message: Option<String>,
    /// Whether its files were deleted since.
    pub discarded: bool,
    /// By vertex id.
    pub vertices: Vec<VertexStatistics>,
}

/// What the job was last restored from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RestoredStatistics {
    /// Its number.
    pub id: CheckpointId,
    /// What it was made for.
    pub purpose: Purpose,
    /// When it was restored.
    pub restore_timestamp_ms: i64,
    /// Where it lies.
    pub external_path: String,
}

/// Numbers of checkpoints since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Restores.
    pub restored: u64,
    /// Triggered.
    pub total: u64,
    /// Pending.
    pub in_progress: u64,
    /// Completed.
    pub completed: u64,
    /// Failed.
    pub failed: u64,
}

/// Distribution of one figure over the last completed checkpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Distribution {
    /// Smallest.
    pub min: u64,
    /// Greatest.
    pub max: u64,
    /// Mean.
    pub avg: u64,
    /// Median.
    pub p50: u64,
    /// 90 of 100 are not above it.
    pub p90: u64,
    /// 95 of 100.
    pub p95: u64,
    /// 99 of 100.
    pub p99: u64,
    /// 999 of 1,000.
    pub p999: u64,
}

/// Distributions over the last completed checkpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Bytes written.
    pub checkpointed_size_bytes: Distribution,
    /// Bytes referred to.
    pub state_size_bytes: Distribution,
    /// Milliseconds.
    pub end_to_end_duration_ms: Distribution,
}

/// All statistics of a job's checkpoints.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    history_size: usize,
    counts: Counts,
    /// Oldest first; at most `history_size`, and pending ones beyond it.
    history: VecDeque<CheckpointStatistics>,
    latest_completed: Option<CheckpointStatistics>,
    latest_savepoint: Option<CheckpointStatistics>,
    latest_failed: Option<CheckpointStatistics>,
    latest_restored: Option<RestoredStatistics>,
    /// (written, state, duration) of the last completed ones.
    window: VecDeque<[u64; 3]>,
}

impl Statistics {
    pub(super) fn new(history_size: usize) -> Self {
        Self { history_size, ..Self::default() }
    }

    /// Numbers since the start.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The last checkpoints, newest first.
    pub fn history(&self) -> impl Iterator<Item = &CheckpointStatistics> {
        self.history.iter().rev()
    }

    /// One checkpoint, while it is remembered.
    #[must_use]
    pub fn checkpoint(&self, id: CheckpointId) -> Option<&CheckpointStatistics> {
        let latest = [&self.latest_completed, &self.latest_savepoint, &self.latest_failed];
        self.history.iter().chain(latest.into_iter().flatten()).find(|entry| entry.id == id)
    }

    /// The newest completed checkpoint.
    #[must_use]
    pub fn latest_completed(&self) -> Option<&CheckpointStatistics> {
        self.latest_completed.as_ref()
    }

    /// The newest completed savepoint.
    #[must_use]
    pub fn latest_savepoint(&self) -> Option<&CheckpointStatistics> {
        self.latest_savepoint.as_ref()
    }

    /// The checkpoint that failed last.
    #[must_use]
    pub fn latest_failed(&self) -> Option<&CheckpointStatistics> {
        self.latest_failed.as_ref()
    }

    /// What the job was last restored from.
    #[must_use]
    pub fn latest_restored(&self) -> Option<&RestoredStatistics> {
        self.latest_restored.as_ref()
    }

    /// Distributions over the last completed checkpoints.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let over = |figure: usize| distribution(self.window.iter().map(|figures| figures[figure]).collect());
        Summary { checkpointed_size_bytes: over(0), state_size_bytes: over(1), end_to_end_duration_ms: over(2) }
    }

    pub(super) fn restored(&mut self, restored: RestoredStatistics) {
        self.counts.restored += 1;
        self.latest_restored = Some(restored);
    }

    pub(super) fn triggered<'a>(
        &mut self,
        id: CheckpointId,
        purpose: Purpose,
        attempt: AttemptId,
        now_ms: i64,
        subtasks: impl Iterator<Item = &'a SubtaskId>,
    ) {
        let mut by_vertex: BTreeMap<VertexId, usize> = BTreeMap::new();
        let mut num_subtasks = 0;
        for subtask in subtasks {
            let size = by_vertex.entry(subtask.vertex).or_default();
            *size = (*size).max(subtask.index.0 as usize + 1);
            num_subtasks += 1;
        }
        self.counts.total += 1;
        self.counts.in_progress += 1;
        self.history.push_back(CheckpointStatistics {
            id,
            status: CheckpointStatus::InProgress,
            purpose,
            attempt,
            trigger_timestamp_ms: now_ms,
            latest_ack_timestamp_ms: None,
            end_to_end_duration_ms: 0,
            checkpointed_size_bytes: 0,
            state_size_bytes: 0,
            num_subtasks,
            num_acknowledged_subtasks: 0,
            failure_timestamp_ms: None,
            failure_message: None,
            discarded: false,
            vertices: by_vertex
                .into_iter()
                .map(|(vertex, size)| VertexStatistics { vertex, subtasks: vec![None; size] })
                .collect(),
        });
        self.forget();
    }

    pub(super) fn acked(
        &mut self,
        id: CheckpointId,
        subtask: SubtaskId,
        sizes: (u64, u64),
        metrics: AckMetrics,
        now_ms: i64,
    ) {
        let Some(entry) = self.history.iter_mut().find(|entry| entry.id == id) else { return };
        let (checkpointed_size_bytes, state_size_bytes) = sizes;
        entry.num_acknowledged_subtasks += 1;
        entry.latest_ack_timestamp_ms = Some(now_ms);
        entry.end_to_end_duration_ms = now_ms - entry.trigger_timestamp_ms;
        entry.checkpointed_size_bytes += checkpointed_size_bytes;
        entry.state_size_bytes += state_size_bytes;
        let vertex = entry.vertices.iter_mut().find(|vertex| vertex.vertex == subtask.vertex);
        if let Some(place) = vertex.and_then(|vertex| vertex.subtasks.get_mut(subtask.index.0 as usize)) {
            *place = Some(SubtaskStatistics {
                index: subtask.index,
                ack_timestamp_ms: now_ms,
                end_to_end_duration_ms: now_ms - entry.trigger_timestamp_ms,
                checkpointed_size_bytes,
                state_size_bytes,
                metrics,
            });
        }
    }

    pub(super) fn completed(&mut self, id: CheckpointId, is_savepoint: bool, now_ms: i64) {
        self.counts.in_progress -= 1;
        self.counts.completed += 1;
        let Some(entry) = self.history.iter_mut().find(|entry| entry.id == id) else { return };
        entry.status = CheckpointStatus::Completed;
        entry.end_to_end_duration_ms = now_ms - entry.trigger_timestamp_ms;
        let duration = u64::try_from(entry.end_to_end_duration_ms).unwrap_or(0);
        self.window.push_back([entry.checkpointed_size_bytes, entry.state_size_bytes, duration]);
        if self.window.len() > SUMMARY_WINDOW {
            self.window.pop_front();
        }
        let latest = if is_savepoint { &mut self.latest_savepoint } else { &mut self.latest_completed };
        *latest = Some(entry.clone());
        self.forget();
    }

    pub(super) fn failed(&mut self, id: CheckpointId, message: String, now_ms: i64) {
        self.counts.in_progress -= 1;
        self.counts.failed += 1;
        let Some(entry) = self.history.iter_mut().find(|entry| entry.id == id) else { return };
        entry.status = CheckpointStatus::Failed;
        entry.end_to_end_duration_ms = now_ms - entry.trigger_timestamp_ms;
        entry.failure_timestamp_ms = Some(now_ms);
        entry.failure_message = Some(message);
        self.latest_failed = Some(entry.clone());
        self.forget();
    }

    pub(super) fn discarded(&mut self, ids: &[CheckpointId]) {
        let latest = self.latest_completed.iter_mut();
        self.history
            .iter_mut()
            .chain(latest)
            .filter(|entry| ids.contains(&entry.id))
            .for_each(|entry| entry.discarded = true);
    }

    /// Bounds the history; pending ones stay, their number is bounded by the coordinator.
    fn forget(&mut self) {
        while self.history.len() > self.history_size {
            let Some(oldest) = self.history.iter().position(|entry| entry.status != CheckpointStatus::InProgress)
            else {
                return;
            };
            self.history.remove(oldest);
        }
    }
}

fn distribution(mut values: Vec<u64>) -> Distribution {
    if values.is_empty() {
        return Distribution::default();
    }
    values.sort_unstable();
    let count = values.len();
    // The smallest value that so many thousandths of all values do not exceed.
    let at = |per_mille: usize| values[(count * per_mille).div_ceil(1000).max(1) - 1];
    Distribution {
        min: values[0],
        max: values[count - 1],
        avg: values.iter().sum::<u64>() / count as u64,
        p50: at(500),
        p90: at(900),
        p95: at(950),
        p99: at(990),
        p999: at(999),
    }
}

fn as_text<S: Serializer>(value: &impl std::fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
