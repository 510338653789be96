//! Metrics with Flink's names: actors write plain atomics, OpenTelemetry instruments observe them, REST and Prometheus read.
//!
//! | question | module |
//! |---|---|
//! | what a subtask counts, and how it spends its time | [`subtask`] |
//! | what a source tells (FLIP-33) | [`source`] |
//! | what a job and the cluster tell | [`job`] |
//! | what a process takes of its machine | [`process`] |
//! | how a value becomes an instrument with a scope | [`instrument`] |
//! | who holds the instruments of a node, and samples rates | [`registry`] |
//! | the text that Prometheus scrapes | [`prometheus`] |
//!
//! The hot path touches relaxed atomics once a batch; names, attributes and rates exist on the reading side only.

pub mod instrument;
pub mod job;
pub mod process;
pub mod prometheus;
pub mod registry;
pub mod source;
pub mod subtask;

pub use instrument::Now;
pub use job::{ClusterMetrics, JobMetrics};
pub use process::{ProcessMetrics, ProcessReading};
pub use registry::{JobScope, Manager, Registered, Registry, TaskScope};
pub use source::SourceMetrics;
pub use subtask::{Phase, SubtaskMetrics};
