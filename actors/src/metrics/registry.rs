//! The metrics of a node: one OpenTelemetry provider, and everything that is measured, by scope. Owned by the node and
//! handed to whoever measures or reads; there is no global.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, Weak};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{
    InstrumentKind, ManualReader, MeterProviderBuilder, Pipeline, SdkMeterProvider, Temporality,
};

use millstream_runtime::ids::{JobId, SubtaskId};

use super::instrument::{Group, Measured, Now};
use super::job::{ClusterMetrics, JobMetrics};
use super::process::{Probe, ProcessMetrics, ProcessReading};
use super::prometheus;
use super::source::SourceMetrics;
use super::subtask::{SubtaskMetrics, SubtaskReading};

/// A job, as metrics name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobScope {
    /// Id.
    pub job: JobId,
    /// Name.
    pub name: String,
}

/// An attempt of a subtask, as metrics name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskScope {
    /// The job.
    pub job: JobScope,
    /// The subtask.
    pub subtask: SubtaskId,
    /// Name of the vertex.
    pub task_name: String,
    /// Number of the deployment.
    pub attempt: u32,
}

/// What a process is to others; it may be both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Manager {
    /// It leads jobs, or may come to.
    Job,
    /// It runs subtasks.
    Task,
}

impl Manager {
    const ALL: [Self; 2] = [Self::Job, Self::Task];

    /// Flink's logical scope.
    fn scope(self) -> &'static str {
        match self {
            Self::Job => "jobmanager",
            Self::Task => "taskmanager",
        }
    }
}

/// Something that is measured, for as long as this value lives.
#[derive(Debug)]
pub struct Registered<M: Measured> {
    key: String,
    measured: Arc<M>,
    group: Arc<Group<M>>,
}

impl<M: Measured> Registered<M> {
    /// The metrics, to be handed on.
    #[must_use]
    pub fn metrics(&self) -> Arc<M> {
        self.measured.clone()
    }
}

impl<M: Measured> Deref for Registered<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.measured
    }
}

impl<M: Measured> Drop for Registered<M> {
    fn drop(&mut self) {
        self.group.remove(&self.key, &self.measured);
    }
}

/// The metrics of a node.
#[derive(Debug)]
pub struct Registry {
    host: String,
    tm_id: String,
    tasks: Arc<Group<SubtaskMetrics>>,
    sources: Arc<Group<SourceMetrics>>,
    jobs: Arc<Group<JobMetrics>>,
    cluster: Arc<Group<ClusterMetrics>>,
    processes: BTreeMap<Manager, Arc<Group<ProcessMetrics>>>,
    reader: SharedReader,
    /// Keeps the pipelines of all readers alive.
    provider: SdkMeterProvider,
}

impl Registry {
    /// The registry of the node with this host name and stable id. The builder may bring readers of its own, for example
    /// one that pushes to a collector.
    #[must_use]
    pub fn new(host: &str, tm_id: &str, provider: MeterProviderBuilder) -> Self {
        let reader = SharedReader(Arc::new(ManualReader::builder().build()));
        let provider = provider.with_reader(reader.clone()).build();
        let registry = Self {
            host: host.to_string(),
            tm_id: tm_id.to_string(),
            tasks: Arc::default(),
            sources: Arc::default(),
            jobs: Arc::default(),
            cluster: Arc::default(),
            processes: Manager::ALL.map(|manager| (manager, Arc::default())).into(),
            reader,
            provider,
        };
        registry.tasks.register(&registry.provider.meter(SubtaskMetrics::SCOPE));
        registry.sources.register(&registry.provider.meter(SourceMetrics::SCOPE));
        registry.jobs.register(&registry.provider.meter(JobMetrics::SCOPE));
        registry.cluster.register(&registry.provider.meter(ClusterMetrics::SCOPE));
        for (manager, group) in &registry.processes {
            group.register(&registry.provider.meter(manager.scope()));
        }
        registry
    }

    /// Measures an attempt of a subtask; it takes the place of an earlier attempt.
    #[must_use]
    pub fn task(&self, scope: &TaskScope, now_ns: u64) -> Registered<SubtaskMetrics> {
        let key = task_key(scope.job.job, scope.subtask);
        add(&self.tasks, key, Arc::new(SubtaskMetrics::new(now_ns)), self.task_attributes(scope))
    }

    /// Measures a source operator in an attempt of a subtask.
    #[must_use]
    pub fn source(&self, scope: &TaskScope, operator_name: &str, now_ms: i64) -> Registered<SourceMetrics> {
        let key = format!("{}/{operator_name}", task_key(scope.job.job, scope.subtask));
        let mut attributes = self.task_attributes(scope);
        attributes.push(KeyValue::new("operator_id", scope.subtask.vertex.to_string()));
        attributes.push(KeyValue::new("operator_name", operator_name.to_string()));
        add(&self.sources, key, Arc::new(SourceMetrics::new(now_ms)), attributes)
    }

    /// Measures a job.
    #[must_use]
    pub fn job(&self, scope: &JobScope) -> Registered<JobMetrics> {
        let mut attributes = vec![KeyValue::new("host", self.host.clone())];
        attributes.extend(job_attributes(scope));
        add(&self.jobs, scope.job.to_string(), Arc::new(JobMetrics::default()), attributes)
    }

    /// Measures the cluster.
    #[must_use]
    pub fn cluster(&self) -> Registered<ClusterMetrics> {
        let attributes = vec![KeyValue::new("host", self.host.clone())];
        add(&self.cluster, String::new(), Arc::new(ClusterMetrics::default()), attributes)
    }

    /// Measures this process, which is these managers: the same figures are told of each.
    #[must_use]
    pub fn process(&self, managers: &[Manager], probe: Arc<dyn Probe>, now: Now) -> Vec<Registered<ProcessMetrics>> {
        let measured = Arc::new(ProcessMetrics::new(probe, now));
        let register = |manager: &Manager| {
            let mut attributes = vec![KeyValue::new("host", self.host.clone())];
            if *manager == Manager::Task {
                attributes.push(KeyValue::new("tm_id", self.tm_id.clone()));
            }
            add(&self.processes[manager], String::new(), Arc::clone(&measured), attributes)
        };
        managers.iter().map(register).collect()
    }

    /// Computes rates and lags as of now. Called every `metrics.fetcher.update-interval`.
    pub fn sample(&self, now: Now) {
        self.tasks.sample(now);
        self.sources.sample(now);
        self.jobs.sample(now);
        self.cluster.sample(now);
        self.processes.values().for_each(|group| group.sample(now));
    }

    /// The values of a subtask by Flink's names, its source's as `operator.name`; nothing if it does not run here.
    #[must_use]
    pub fn task_values(&self, job: JobId, subtask: SubtaskId) -> Option<BTreeMap<String, String>> {
        let key = task_key(job, subtask);
        let mut values = self.tasks.values(&key)?;
        let prefix = format!("{key}/");
        for source in self.sources.keys(&prefix) {
            let operator = source[prefix.len()..].replace(' ', "_");
            let of_source = self.sources.values(&source).unwrap_or_default();
            values.extend(of_source.into_iter().map(|(name, value)| (format!("{operator}.{name}"), value)));
        }
        Some(values)
    }

    /// The values of a subtask as numbers; nothing if it does not run here.
    #[must_use]
    pub fn task_reading(&self, job: JobId, subtask: SubtaskId, now: Now) -> Option<SubtaskReading> {
        Some(self.tasks.get(&task_key(job, subtask))?.reading(now))
    }

    /// The values of a job by Flink's names; nothing if its master does not run here.
    #[must_use]
    pub fn job_values(&self, job: JobId) -> Option<BTreeMap<String, String>> {
        self.jobs.values(&job.to_string())
    }

    /// The values of the cluster by Flink's names; nothing if its manager does not run here.
    #[must_use]
    pub fn cluster_values(&self) -> Option<BTreeMap<String, String>> {
        self.cluster.values("")
    }

    /// What this process takes as a manager of this kind; nothing if it is none.
    #[must_use]
    pub fn process_reading(&self, manager: Manager) -> Option<ProcessReading> {
        Some(self.processes[&manager].get("")?.reading(Now::default()))
    }

    /// Everything in Prometheus' text format.
    ///
    /// # Errors
    /// When the provider has been shut down.
    pub fn prometheus(&self) -> Result<String, OTelSdkError> {
        let mut metrics = ResourceMetrics::default();
        self.reader.collect(&mut metrics)?;
        Ok(prometheus::text(&metrics))
    }

    fn task_attributes(&self, scope: &TaskScope) -> Vec<KeyValue> {
        let mut attributes = vec![KeyValue::new("host", self.host.clone()), KeyValue::new("tm_id", self.tm_id.clone())];
        attributes.extend(job_attributes(&scope.job));
        attributes.extend([
            KeyValue::new("task_id", scope.subtask.vertex.to_string()),
            KeyValue::new("task_name", scope.task_name.clone()),
            KeyValue::new("task_attempt_num", i64::from(scope.attempt)),
            KeyValue::new("subtask_index", i64::from(scope.subtask.index.0)),
        ]);
        attributes
    }
}

fn add<M: Measured>(group: &Arc<Group<M>>, key: String, measured: Arc<M>, attributes: Vec<KeyValue>) -> Registered<M> {
    group.insert(key.clone(), measured.clone(), attributes);
    Registered { key, measured, group: group.clone() }
}

fn task_key(job: JobId, subtask: SubtaskId) -> String {
    format!("{job}/{}/{}", subtask.vertex, subtask.index)
}

fn job_attributes(scope: &JobScope) -> [KeyValue; 2] {
    [KeyValue::new("job_id", scope.job.to_string()), KeyValue::new("job_name", scope.name.clone())]
}

/// A reader that the provider and the registry share: the provider takes readers by value.
#[derive(Clone, Debug)]
struct SharedReader(Arc<ManualReader>);

impl MetricReader for SharedReader {
    fn register_pipeline(&self, pipeline: Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, metrics: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(metrics)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.0.temporality(kind)
    }
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
