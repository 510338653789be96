//! A job that is to be run on a cluster, and how.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::jobs::Job;

/// A job of this program, with all that a cluster is told about it. Nodes run it with the functions that are compiled into
/// their executable, so they must be the same build as this program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    pub(super) job: String,
    arguments: Vec<String>,
    parallelism: Option<u32>,
    savepoint: Option<String>,
    allow_non_restored_state: bool,
    configuration: BTreeMap<String, String>,
    pub(super) any_build: bool,
}

impl Submission {
    /// The job of this name, without options.
    #[must_use]
    pub fn new(job: impl Into<String>) -> Self {
        Self {
            job: job.into(),
            arguments: Vec::new(),
            parallelism: None,
            savepoint: None,
            allow_non_restored_state: false,
            configuration: BTreeMap::new(),
            any_build: false,
        }
    }

    /// An option of the job: `--name value`. Paths should be absolute: nodes have working directories of their own.
    #[must_use]
    pub fn option(mut self, name: &str, value: impl Into<String>) -> Self {
        // In one word: a value may begin as an option does.
        self.arguments.push(format!("--{name}={}", value.into()));
        self
    }

    /// A flag of the job: `--name`.
    #[must_use]
    pub fn flag(mut self, name: &str) -> Self {
        self.arguments.push(format!("--{name}"));
        self
    }

    /// Subtasks of operators that do not set their own number; else as the cluster is configured.
    #[must_use]
    pub fn parallelism(mut self, subtasks: u32) -> Self {
        self.parallelism = Some(subtasks);
        self
    }

    /// Starts from a savepoint or checkpoint: an absolute path, or `s3://bucket/prefix`.
    #[must_use]
    pub fn from_savepoint(mut self, place: impl Into<String>) -> Self {
        self.savepoint = Some(place.into());
        self
    }

    /// State that no operator claims is left behind.
    #[must_use]
    pub fn allow_non_restored_state(mut self) -> Self {
        self.allow_non_restored_state = true;
        self
    }

    /// Sets a key of the configuration, which wins over that of the cluster.
    #[must_use]
    pub fn set(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.configuration.insert(key.into(), value.into());
        self
    }

    /// Whatever build the cluster is: for programs that submit jobs which they do not contain themselves.
    #[must_use]
    pub fn any_build(mut self) -> Self {
        self.any_build = true;
        self
    }

    /// The body of the request.
    pub(super) fn body(&self, artefact: Option<&str>) -> Value {
        let mut body = json!({
            "programArgsList": self.arguments,
            "allowNonRestoredState": self.allow_non_restored_state,
            "flinkConfiguration": self.configuration,
        });
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                body[name] = value;
            }
        };
        put("parallelism", self.parallelism.map(Value::from));
        put("savepointPath", self.savepoint.as_deref().map(Value::from));
        put("artefact", artefact.map(Value::from));
        body
    }
}

impl From<&Job> for Submission {
    fn from(job: &Job) -> Self {
        Self::new(job.name.as_ref())
    }
}

impl From<Job> for Submission {
    fn from(job: Job) -> Self {
        Self::from(&job)
    }
}

impl From<&str> for Submission {
    fn from(job: &str) -> Self {
        Self::new(job)
    }
}
