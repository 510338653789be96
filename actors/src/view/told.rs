//! From the coordinator's statistics to what REST shows. Used by the job master when somebody asks.

use millstream_runtime::checkpoint::coordinator::{
    self, CheckpointStatistics, CheckpointStatus, Statistics, SubtaskStatistics, VertexStatistics,
};
use millstream_runtime::element::Purpose;
use millstream_runtime::ids::CheckpointId;

use super::checkpoint::{
    Alignment, AlignmentDistributions, CheckpointCounts, CheckpointStatisticsView, CheckpointSummary, CheckpointView,
    CompletedSubtaskView, Distribution, LatestCheckpoints, RestoredCheckpoint, SnapshotDistributions, SnapshotTimes,
    SubtaskCheckpointView, TaskCheckpointView, TaskSummary,
};

/// All statistics of a job's checkpoints; `location` tells where a completed one lies.
#[must_use]
pub fn statistics(
    statistics: &Statistics,
    location: &dyn Fn(CheckpointId) -> Option<String>,
) -> CheckpointStatisticsView {
    let counts = statistics.counts();
    let summary = statistics.summary();
    let view = |told: &CheckpointStatistics| checkpoint(told, location(told.id));
    let restored = statistics.latest_restored().map(|restored| RestoredCheckpoint {
        id: restored.id.0,
        restore_timestamp: restored.restore_timestamp_ms,
        is_savepoint: is_savepoint(restored.purpose),
        external_path: restored.external_path.clone(),
    });
    CheckpointStatisticsView {
        counts: CheckpointCounts {
            restored: counts.restored,
            total: counts.total,
            in_progress: counts.in_progress,
            completed: counts.completed,
            failed: counts.failed,
        },
        summary: CheckpointSummary {
            checkpointed_size: summary.checkpointed_size_bytes.into(),
            state_size: summary.state_size_bytes.into(),
            end_to_end_duration: summary.end_to_end_duration_ms.into(),
            ..CheckpointSummary::default()
        },
        latest: LatestCheckpoints {
            completed: statistics.latest_completed().map(view),
            savepoint: statistics.latest_savepoint().map(view),
            failed: statistics.latest_failed().map(view),
            restored,
        },
        history: statistics.history().map(view).collect(),
    }
}

/// One checkpoint with its vertices and their subtasks.
#[must_use]
pub fn checkpoint(told: &CheckpointStatistics, location: Option<String>) -> CheckpointView {
    let (class_name, status) = names(told.status);
    let completed = told.status == CheckpointStatus::Completed;
    let sum = |figure: fn(&SubtaskStatistics) -> u64| -> u64 {
        told.vertices.iter().flat_map(|vertex| &vertex.subtasks).flatten().map(figure).sum()
    };
    CheckpointView {
        class_name: class_name.to_string(),
        id: told.id.0,
        status: status.to_string(),
        is_savepoint: is_savepoint(told.purpose),
        savepoint_format: is_savepoint(told.purpose).then(|| "CANONICAL".to_string()),
        trigger_timestamp: told.trigger_timestamp_ms,
        latest_ack_timestamp: told.latest_ack_timestamp_ms.unwrap_or(-1),
        checkpointed_size: told.checkpointed_size_bytes,
        state_size: told.state_size_bytes,
        end_to_end_duration: told.end_to_end_duration_ms,
        alignment_buffered: 0,
        processed_data: sum(|subtask| subtask.metrics.processed_bytes),
        persisted_data: sum(|subtask| subtask.metrics.persisted_bytes),
        num_subtasks: told.num_subtasks as u64,
        num_acknowledged_subtasks: told.num_acknowledged_subtasks as u64,
        checkpoint_type: match told.purpose {
            Purpose::Checkpoint | Purpose::Final => "CHECKPOINT",
            Purpose::Savepoint => "SAVEPOINT",
            Purpose::StopWithSavepoint => "SYNC_SAVEPOINT",
        }
        .to_string(),
        tasks: told.vertices.iter().map(|vertex| (vertex.vertex.to_string(), task(told, vertex))).collect(),
        external_path: location.filter(|_| completed),
        discarded: completed.then_some(told.discarded),
        failure_timestamp: told.failure_timestamp_ms,
        failure_message: told.failure_message.clone(),
    }
}

fn task(told: &CheckpointStatistics, vertex: &VertexStatistics) -> TaskCheckpointView {
    let acked: Vec<&SubtaskStatistics> = vertex.subtasks.iter().flatten().collect();
    let sum = |figure: fn(&SubtaskStatistics) -> u64| -> u64 { acked.iter().map(|subtask| figure(subtask)).sum() };
    let greatest = |figure: fn(&SubtaskStatistics) -> i64| acked.iter().map(|subtask| figure(subtask)).max();
    TaskCheckpointView {
        id: told.id.0,
        status: names(told.status).1.to_string(),
        latest_ack_timestamp: greatest(|subtask| subtask.ack_timestamp_ms).unwrap_or(-1),
        checkpointed_size: sum(|subtask| subtask.checkpointed_size_bytes),
        state_size: sum(|subtask| subtask.state_size_bytes),
        end_to_end_duration: greatest(|subtask| subtask.end_to_end_duration_ms).unwrap_or(-1),
        alignment_buffered: 0,
        processed_data: sum(|subtask| subtask.metrics.processed_bytes),
        persisted_data: sum(|subtask| subtask.metrics.persisted_bytes),
        num_subtasks: vertex.subtasks.len() as u64,
        num_acknowledged_subtasks: acked.len() as u64,
        summary: Some(task_summary(&acked)),
        subtasks: Some((0..).zip(&vertex.subtasks).map(|(index, told)| subtask(index, told.as_ref())).collect()),
    }
}

fn task_summary(acked: &[&SubtaskStatistics]) -> TaskSummary {
    let over =
        |figure: fn(&SubtaskStatistics) -> u64| Distribution::over(acked.iter().map(|told| figure(told)).collect());
    // Clocks of different nodes may differ: a negative time is none.
    let millis = |figure: fn(&SubtaskStatistics) -> i64| {
        Distribution::over(acked.iter().map(|told| u64::try_from(figure(told)).unwrap_or(0)).collect())
    };
    TaskSummary {
        checkpointed_size: over(|told| told.checkpointed_size_bytes),
        state_size: over(|told| told.state_size_bytes),
        end_to_end_duration: millis(|told| told.end_to_end_duration_ms),
        checkpoint_duration: SnapshotDistributions {
            sync: millis(|told| told.metrics.sync_duration_ms),
            asynchronous: millis(|told| told.metrics.async_duration_ms),
        },
        alignment: AlignmentDistributions {
            buffered: Distribution::default(),
            processed: over(|told| told.metrics.processed_bytes),
            persisted: over(|told| told.metrics.persisted_bytes),
            duration: millis(|told| told.metrics.alignment_ms),
        },
        start_delay: millis(|told| told.metrics.start_delay_ms),
    }
}

fn subtask(index: u32, told: Option<&SubtaskStatistics>) -> SubtaskCheckpointView {
    let Some(told) = told else {
        return SubtaskCheckpointView::Pending { index, status: "pending_or_failed".to_string() };
    };
    let metrics = &told.metrics;
    SubtaskCheckpointView::Completed(CompletedSubtaskView {
        index,
        status: "completed".to_string(),
        ack_timestamp: told.ack_timestamp_ms,
        end_to_end_duration: told.end_to_end_duration_ms,
        checkpointed_size: told.checkpointed_size_bytes,
        state_size: told.state_size_bytes,
        checkpoint: SnapshotTimes { sync: metrics.sync_duration_ms, asynchronous: metrics.async_duration_ms },
        alignment: Alignment {
            buffered: 0,
            processed: metrics.processed_bytes,
            persisted: metrics.persisted_bytes,
            duration: metrics.alignment_ms,
        },
        start_delay: metrics.start_delay_ms,
        unaligned_checkpoint: metrics.unaligned,
        aborted: false,
    })
}

fn names(status: CheckpointStatus) -> (&'static str, &'static str) {
    match status {
        CheckpointStatus::InProgress => ("in_progress", "IN_PROGRESS"),
        CheckpointStatus::Completed => ("completed", "COMPLETED"),
        CheckpointStatus::Failed => ("failed", "FAILED"),
    }
}

fn is_savepoint(purpose: Purpose) -> bool {
    matches!(purpose, Purpose::Savepoint | Purpose::StopWithSavepoint)
}

impl From<coordinator::Distribution> for Distribution {
    fn from(told: coordinator::Distribution) -> Self {
        let coordinator::Distribution { min, max, avg, p50, p90, p95, p99, p999 } = told;
        Self { min, max, avg, p50, p90, p95, p99, p999 }
    }
}

impl Distribution {
    /// The distribution of some values; all 0 if there is none.
    #[must_use]
    pub fn over(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        let (Some(&min), Some(&max)) = (values.first(), values.last()) else { return Self::default() };
        // The smallest value that so many thousandths of all values do not exceed.
        let at = |per_mille: usize| values[(values.len() * per_mille).div_ceil(1_000).max(1) - 1];
        let avg = values.iter().sum::<u64>() / values.len() as u64;
        Self { min, max, avg, p50: at(500), p90: at(900), p95: at(950), p99: at(990), p999: at(999) }
    }
}

#[cfg(test)]
mod tests {
    use millstream_runtime::checkpoint::coordinator::AckMetrics;
    use millstream_runtime::ids::{AttemptId, SubtaskIndex, VertexId};

    use super::*;

    fn told(status: CheckpointStatus, purpose: Purpose) -> CheckpointStatistics {
        let acked = SubtaskStatistics {
            index: SubtaskIndex(1),
            ack_timestamp_ms: 130,
            end_to_end_duration_ms: 30,
            checkpointed_size_bytes: 10,
            state_size_bytes: 40,
            metrics: AckMetrics { alignment_ms: 7, start_delay_ms: 3, processed_bytes: 5, ..AckMetrics::default() },
        };
        CheckpointStatistics {
            id: CheckpointId(4),
            status,
            purpose,
            attempt: AttemptId::default(),
            trigger_timestamp_ms: 100,
            latest_ack_timestamp_ms: Some(130),
            end_to_end_duration_ms: 30,
            checkpointed_size_bytes: 10,
            state_size_bytes: 40,
            num_subtasks: 2,
            num_acknowledged_subtasks: 1,
            failure_timestamp_ms: None,
            failure_message: None,
            discarded: false,
            vertices: vec![VertexStatistics { vertex: VertexId([1; 16]), subtasks: vec![None, Some(acked)] }],
        }
    }

    #[test]
    fn a_pending_checkpoint_has_neither_place_nor_discarded() {
        let view = checkpoint(&told(CheckpointStatus::InProgress, Purpose::Checkpoint), Some("/s".to_string()));
        assert_eq!((view.class_name.as_str(), view.status.as_str()), ("in_progress", "IN_PROGRESS"));
        assert_eq!((view.external_path, view.discarded), (None, None));
        assert_eq!((view.processed_data, view.checkpoint_type.as_str()), (5, "CHECKPOINT"));
    }

    #[test]
    fn a_stop_is_a_savepoint_with_its_place() {
        let view = checkpoint(&told(CheckpointStatus::Completed, Purpose::StopWithSavepoint), Some("/s".to_string()));
        assert!(view.is_savepoint);
        assert_eq!(view.checkpoint_type, "SYNC_SAVEPOINT");
        assert_eq!((view.external_path.as_deref(), view.discarded), (Some("/s"), Some(false)));
    }

    #[test]
    fn subtasks_keep_their_index_and_vertices_sum_what_is_acknowledged() {
        let view = checkpoint(&told(CheckpointStatus::InProgress, Purpose::Checkpoint), None);
        let task = &view.tasks[&"01".repeat(16)];
        assert_eq!((task.num_subtasks, task.num_acknowledged_subtasks, task.state_size), (2, 1, 40));
        let subtasks = task.subtasks.as_ref().expect("always filled");
        assert!(matches!(&subtasks[0], SubtaskCheckpointView::Pending { index: 0, .. }));
        assert!(
            matches!(&subtasks[1], SubtaskCheckpointView::Completed(done) if done.index == 1 && done.alignment.duration == 7)
        );
        assert_eq!(task.summary.map(|summary| summary.start_delay.max), Some(3));
    }

    #[test]
    fn distributions_have_the_greatest_value_at_the_high_end() {
        let over = Distribution::over((1..=1_000).collect());
        assert_eq!((over.min, over.p50, over.p99, over.p999, over.max), (1, 500, 990, 999, 1_000));
        assert_eq!(Distribution::over(vec![]), Distribution::default());
        let nothing = statistics(&Statistics::default(), &|_| None);
        assert_eq!(nothing, CheckpointStatisticsView::default());
    }
}
