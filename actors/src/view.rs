//! What the outside sees of a cluster: plain data with the field names of Flink's REST API, filled by the actors, sent by
//! the REST server and shown by the command line. Nothing is decided by it.
//!
//! - [`job`]: jobs, vertices, subtasks, plan
//! - [`observation`]: failures, metrics, backpressure
//! - [`checkpoint`]: statistics and settings of checkpoints
//! - [`told`]: from the coordinator's statistics to those
//! - [`operation`]: checkpoints, savepoints and stops that run in the background
//! - [`cluster`]: task managers, the cluster, configuration

pub mod checkpoint;
pub mod cluster;
pub mod job;
pub mod observation;
pub mod operation;
pub mod told;

pub use checkpoint::{CheckpointConfigView, CheckpointStatisticsView, CheckpointView};
pub use cluster::{ClusterOverview, ConfigEntry, TaskManagerView};
pub use job::{
    ExecutionState, JobConfigView, JobDetails, JobOverview, JobStatus, PlanView, SubtaskView, VertexDetails, VertexView,
};
pub use observation::{BackpressureView, ExceptionsView, MetricView};
pub use operation::{FailureCause, OperationResult, OperationStatus, StatusName, TriggerId};

/// Ids as 32 hex digits: `#[serde(with = "as_text")]`.
pub(crate) mod as_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err = String>,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
