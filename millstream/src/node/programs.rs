//! The jobs compiled into this executable, as a node of a cluster makes them: from a record alone, so that every node, and
//! every later leader, makes the same. Only where stores are and what opens them is the node's own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use millstream_actors::dispatcher::{Submission, Submissions};
use millstream_actors::launch::LaunchOptions;
use millstream_actors::protocol::deploy::Programs;
use millstream_actors::world::SystemClock;
use millstream_config::{Configuration, Origin, keys, secret};
use millstream_runtime::graph::JobGraph;
use millstream_runtime::ports::{Clock, PortError};
use millstream_service::api::RunRequest;
use millstream_state::log::{Digest, JobRecord};

use super::memory;
use crate::error::{Error, Result};
use crate::executable;
use crate::jobs::{self, Job};
use crate::run::settings;
use crate::stream::Parameters;

/// Sections of keys that are a job's own; the others belong to nodes.
const OF_JOBS: [&str; 5] = ["Job", "Exchange", "Checkpoints", "Restarts", "State"];

/// The jobs of this executable on one node.
pub(crate) struct Compiled {
    jobs: Vec<Job>,
    digest: [u8; 32],
    /// Of the node.
    configuration: Configuration,
    /// The node's folder.
    folder: PathBuf,
}

impl Compiled {
    /// Reads the executable.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn new(jobs: Vec<Job>, configuration: Configuration, folder: PathBuf) -> Result<Self> {
        Ok(Self { jobs, digest: executable::digest()?, configuration, folder })
    }

    /// Which executable this is.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// All jobs.
    pub fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    /// What is recorded of a job that a client wants to run: everything resolved, so that it never depends on a node again.
    ///
    /// # Errors
    /// When there is no such job, or a setting is none of a job's.
    pub fn record(&self, name: &str, request: &RunRequest) -> Result<JobRecord> {
        let job = jobs::find(&self.jobs, name)?;
        let parameters = Parameters::parse(&request.arguments)?;
        let mut resolved = Configuration::default();
        let mut set = |key: &str, value: &str| {
            resolved.set(key, value, Origin::Program).map_err(|error| Error::usage(error.to_string()))
        };
        for (key, setting) in self.configuration.iter().filter(|(key, _)| is_of_jobs(key)) {
            set(key, &setting.value)?;
        }
        for (key, value) in &request.configuration {
            set(key, value)?;
        }
        if let Some(savepoint) = &request.savepoint {
            set(keys::RECOVERY_PATH.name, savepoint)?;
        }
        if request.allow_non_restored_state {
            set(keys::IGNORE_UNCLAIMED_STATE.name, "true")?;
        }
        self.check_places(&resolved, &request.configuration)?;
        // Left to a node, its number of processors would decide.
        let parallelism = request.parallelism.unwrap_or_else(|| resolved.get(&keys::PARALLELISM).0).to_string();
        let set = resolved.set(keys::PARALLELISM.name, &parallelism, Origin::Program);
        set.map_err(|error| Error::usage(error.to_string()))?;
        Ok(JobRecord {
            artefact: Digest(self.digest),
            name: job.name.to_string(),
            parameters: parameters.iter().map(|(key, value)| (key.to_string(), value.map(str::to_string))).collect(),
            configuration: resolved.iter().map(|(key, setting)| (key.to_string(), setting.value.clone())).collect(),
            submitted_ms: SystemClock.now_ms(),
            ..JobRecord::default()
        })
    }

    /// A job cannot have what only nodes can: one checkpoint store serves all jobs of a cluster.
    fn check_places(&self, resolved: &Configuration, given: &BTreeMap<String, String>) -> Result<()> {
        for key in given.keys() {
            if secret::is_secret(key) || !is_of_jobs(key) {
                return Err(Error::usage(format!(
                    "{key} is a setting of nodes, not of a job: set it where they are started"
                )));
            }
        }
        let (own, wanted) = (self.configuration.get(&keys::CHECKPOINT_DIR), resolved.get(&keys::CHECKPOINT_DIR));
        if own != wanted {
            return Err(Error::usage(format!(
                "{} is that of the cluster ({}) for all of its jobs: leave it out",
                keys::CHECKPOINT_DIR.name,
                own.as_deref().unwrap_or("in the folder of the node")
            )));
        }
        Ok(())
    }

    /// The job, its settings and its options, as they are recorded.
    fn recorded(&self, record: &JobRecord) -> Result<(&Job, Configuration, Parameters)> {
        if record.artefact != Digest(self.digest) {
            let (own, other) = (executable::hex(&self.digest), executable::hex(&record.artefact.0));
            return Err(Error::usage(another_build(&own, &other)));
        }
        let mut configuration = Configuration::default();
        for (key, value) in &record.configuration {
            let set = configuration.set(key, value, Origin::Program);
            set.map_err(|error| Error::usage(error.to_string()))?;
        }
        let with = |parameters: Parameters, (key, value): &(String, Option<String>)| match value {
            Some(value) => parameters.with(key, value.clone()),
            None => parameters.with_flag(key),
        };
        let parameters = record.parameters.iter().fold(Parameters::default(), with);
        Ok((jobs::find(&self.jobs, &record.name)?, configuration, parameters))
    }
}

impl Programs for Compiled {
    /// Asked when subtasks of the job are about to run on this node.
    fn graph(&self, record: &JobRecord) -> Result<Arc<JobGraph>, PortError> {
        memory::work();
        let (job, configuration, parameters) = self.recorded(record).map_err(refused)?;
        let graph = settings::graph(job, &configuration, &parameters).map_err(refused)?;
        let graph = graph.with_parallelism(&record.parallelism).map_err(|error| refused(error.into()))?;
        Ok(Arc::new(graph))
    }
}

impl Submissions for Compiled {
    fn submission(&self, record: &JobRecord) -> Result<Submission, PortError> {
        let (job, configuration, parameters) = self.recorded(record).map_err(refused)?;
        let graph = settings::graph(job, &configuration, &parameters).map_err(refused)?;
        let options = settings::launch(&configuration, &parameters, self.folder.clone(), false).map_err(refused)?;
        // Whose output it is, is up to whoever submits a job, as it is in Flink.
        let stores = settings::stores(&self.configuration);
        let options = LaunchOptions { guard_output: false, stores, ..options };
        Ok(Submission { record: record.clone(), graph: Arc::new(graph), options })
    }
}

fn is_of_jobs(key: &str) -> bool {
    // A key that Millstream does not know is a job's own business.
    keys::find(key).is_none_or(|info| OF_JOBS.contains(&info.section))
}

fn another_build(own: &str, other: &str) -> String {
    format!("the job was submitted with another build: this node runs the executable {own}, the job needs {other}")
}

fn refused(error: Error) -> PortError {
    match error {
        Error::Port(error) => error,
        error @ (Error::Usage(_) | Error::Plan(_)) => PortError::fix_input(error.to_string()),
    }
}
