//! What is observed about a running job: failures, metrics, backpressure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `/jobs/:jobid/exceptions`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExceptionsView {
    /// The failures, newest first.
    pub exception_history: ExceptionHistory,
}

/// Failures of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExceptionHistory {
    /// Newest first.
    pub entries: Vec<ExceptionEntry>,
    /// Whether older ones are left out.
    pub truncated: bool,
}

/// One failure.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExceptionEntry {
    /// Kind of failure, or its message's first line.
    pub exception_name: String,
    /// The whole message with its causes.
    pub stacktrace: String,
    /// When, in milliseconds since the epoch.
    pub timestamp: i64,
    /// Labels given by enrichers.
    pub failure_labels: BTreeMap<String, String>,
    /// The subtask, as `name (1/2)`, if one failed.
    pub task_name: Option<String>,
    /// Where it ran.
    pub endpoint: Option<String>,
    /// Task manager it ran on.
    pub task_manager_id: Option<String>,
    /// Failures that followed from it.
    pub concurrent_exceptions: Vec<ExceptionEntry>,
}

/// One metric: the answers of `/metrics` and `/watermarks` are lists of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetricView {
    /// Name.
    pub id: String,
    /// Value as text; absent in lists of names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// `/jobs/:jobid/vertices/:vertexid/backpressure`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackpressureView {
    /// `ok`: figures are present.
    pub status: String,
    /// The worst level of its subtasks.
    #[serde(rename = "backpressureLevel")]
    pub level: String,
    /// The same under Flink's second name.
    #[serde(rename = "backpressure-level")]
    pub level_again: String,
    /// Time of the figures.
    #[serde(rename = "end-timestamp")]
    pub end_timestamp: i64,
    /// By index.
    pub subtasks: Vec<SubtaskBackpressure>,
}

/// How a subtask spent its time over the last sampling interval, as parts of 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubtaskBackpressure {
    /// Index.
    pub subtask: u32,
    /// Number of the deployment.
    #[serde(rename = "attempt-number")]
    pub attempt_number: u32,
    /// `ok`, `low` or `high`.
    #[serde(rename = "backpressureLevel")]
    pub level: String,
    /// The same under Flink's second name.
    #[serde(rename = "backpressure-level")]
    pub level_again: String,
    /// Waiting for credit.
    pub ratio: f64,
    /// Waiting for input.
    #[serde(rename = "idleRatio")]
    pub idle_ratio: f64,
    /// Working.
    #[serde(rename = "busyRatio")]
    pub busy_ratio: f64,
}

impl BackpressureView {
    /// From (attempt, backpressured, idle, busy) by subtask index.
    #[must_use]
    pub fn new(end_timestamp: i64, subtasks: impl IntoIterator<Item = (u32, f64, f64, f64)>) -> Self {
        let mut worst = 0.0f64;
        let subtasks = (0..)
            .zip(subtasks)
            .map(|(subtask, (attempt_number, ratio, idle_ratio, busy_ratio))| {
                worst = worst.max(ratio);
                let level = backpressure_level(ratio).to_string();
                let level_again = level.clone();
                SubtaskBackpressure { subtask, attempt_number, level, level_again, ratio, idle_ratio, busy_ratio }
            })
            .collect();
        let level = backpressure_level(worst).to_string();
        Self { status: "ok".to_string(), level_again: level.clone(), level, end_timestamp, subtasks }
    }
}

/// The level of backpressure by the part of time a subtask waits for credit, as Flink names it.
#[must_use]
pub fn backpressure_level(ratio: f64) -> &'static str {
    match ratio {
        ratio if ratio <= 0.1 => "ok",
        ratio if ratio <= 0.5 => "low",
        _ => "high",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_subtask_gives_the_level_of_the_vertex() {
        let view = BackpressureView::new(9, [(0, 0.05, 0.9, 0.05), (0, 0.6, 0.1, 0.3)]);
        assert_eq!(view.level, "high");
        assert_eq!(view.subtasks[0].level, "ok");
        assert_eq!(view.subtasks[1].subtask, 1);
        assert_eq!(backpressure_level(0.5), "low");
    }
}
