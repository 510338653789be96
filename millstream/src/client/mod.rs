//! Speaks with a running program, from the command line ([`Client`]: `submit`, `list`, `nodes`, `describe`, `checkpoint`,
//! `savepoint`, `stop`, `cancel`) and from Rust ([`Cluster`]): any server of Flink's v1 API, which may send requests on to
//! the leader of its cluster. Blocking, one connection a request.
//!
//! - [`cluster`]: submit a job and look after it
//! - [`submission`]: a job and how it is to be run
//! - [`rescaling`]: a job at another parallelism
//! - [`error`]: not reachable, refused, failed, and the exit code of each
//! - [`place`]: addresses as people write them
//! - [`rest`]: requests and answers
//! - [`table`]: answers for people; `--json` prints the body unchanged

pub mod cluster;
pub mod error;
pub mod place;
pub mod rescaling;
pub mod rest;
pub mod submission;
pub mod table;

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use millstream_actors::view::checkpoint::CheckpointStatisticsView;
use millstream_actors::view::cluster::{ClusterOverview, TaskManagerView};
use millstream_actors::view::job::{JobDetails, JobOverview};
use millstream_actors::view::operation::{FailureCause, OperationResult, StatusName};
use millstream_runtime::ids::{JobId, VertexId};
use millstream_runtime::job::ParallelismBounds;

use crate::executable;
pub use cluster::{Cluster, JobClient, JobResult};
pub use error::Error;
pub use rescaling::Rescaling;
pub use rest::Patience;
use rest::Rest;
pub use submission::Submission;

/// How often an operation is asked for before the command gives up: with the pauses below about 20 minutes, twice the
/// default of `execution.checkpointing.timeout`, after which the server ends it itself.
const MAX_POLLS: u32 = 1_200;

/// Pause after the first question.
const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// Longest pause between two questions.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What a command prints on success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The body of the REST answer, unchanged: for `--json`.
    pub body: String,
    /// The same for people.
    pub text: String,
}

/// Speaks with one server.
#[derive(Clone, Debug)]
pub struct Client {
    rest: Rest,
}

impl Client {
    /// A client of the server at `rest.address` and `rest.port`. Nothing is sent yet.
    #[must_use]
    pub fn new(address: &str, port: u16) -> Self {
        Self { rest: Rest::new(address, port) }
    }

    /// The size of the cluster.
    ///
    /// # Errors
    /// When the server is not reachable or refuses.
    pub fn overview(&self) -> Result<ClusterOverview, Error> {
        self.parse(&self.rest.get("/overview")?)
    }

    /// Goes on asking for so long while nobody leads, or nobody is there; without, such a request fails at once.
    #[must_use]
    pub fn with_patience(mut self, patience: Patience) -> Self {
        self.rest.set_patience(patience);
        self
    }

    /// Submits a job; prints its id.
    ///
    /// # Errors
    /// When the server is not reachable, or its cluster cannot run the job so.
    pub fn submit_job(&self, submission: &Submission) -> Result<Reply, Error> {
        let (id, body) = self.submit(submission)?;
        Ok(Reply { text: format!("{id}\n"), body })
    }

    /// The task managers of the cluster.
    ///
    /// # Errors
    /// When the server is not reachable or refuses.
    pub fn nodes(&self) -> Result<Reply, Error> {
        #[derive(Deserialize)]
        struct TaskManagers {
            taskmanagers: Vec<TaskManagerView>,
        }
        let body = self.rest.get("/taskmanagers")?;
        let nodes: TaskManagers = self.parse(&body)?;
        Ok(Reply { text: table::nodes(&nodes.taskmanagers), body })
    }

    /// All jobs.
    ///
    /// # Errors
    /// When the server is not reachable or refuses.
    pub fn list(&self) -> Result<Reply, Error> {
        #[derive(Deserialize)]
        struct Jobs {
            jobs: Vec<JobOverview>,
        }
        let body = self.rest.get("/jobs/overview")?;
        let jobs: Jobs = self.parse(&body)?;
        Ok(Reply { text: table::jobs(&jobs.jobs), body })
    }

    /// One job with its vertices; for people also its checkpoints.
    ///
    /// # Errors
    /// When the server is not reachable or does not know the job.
    pub fn describe(&self, job: &str) -> Result<Reply, Error> {
        let path = format!("/jobs/{}", job_id(job)?);
        let body = self.rest.get(&path)?;
        let details: JobDetails = self.parse(&body)?;
        let checkpoints: CheckpointStatisticsView = self.parse(&self.rest.get(&format!("{path}/checkpoints"))?)?;
        Ok(Reply { text: table::job(&details, &checkpoints), body })
    }

    /// Makes a checkpoint and waits for it.
    ///
    /// # Errors
    /// When the server is not reachable, does not know the job, or the checkpoint fails.
    pub fn checkpoint(&self, job: &str) -> Result<Reply, Error> {
        self.make_checkpoint(job_id(job)?).map(reply)
    }

    /// Makes a savepoint and waits for it; without a folder in the configured one.
    ///
    /// # Errors
    /// When the server is not reachable, does not know the job, or the savepoint fails.
    pub fn savepoint(&self, job: &str, folder: Option<&str>) -> Result<Reply, Error> {
        self.make_savepoint(job_id(job)?, folder).map(reply)
    }

    /// Stops a job with a savepoint and waits for it; `drain` fires all timers first.
    ///
    /// # Errors
    /// When the server is not reachable, does not know the job, or the savepoint fails: the job then goes on.
    pub fn stop(&self, job: &str, folder: Option<&str>, drain: bool) -> Result<Reply, Error> {
        self.make_stop(job_id(job)?, folder, drain).map(reply)
    }

    /// Runs a job at another parallelism from now on, from its newest checkpoint.
    ///
    /// # Errors
    /// When the server is not reachable, does not know the job, or it cannot run so.
    pub fn rescale(&self, job: &str, rescaling: &Rescaling) -> Result<Reply, Error> {
        let body = self.make_rescale(job_id(job)?, rescaling)?;
        Ok(Reply { text: format!("rescaled: {job} to {rescaling}\n"), body })
    }

    fn make_rescale(&self, job: JobId, rescaling: &Rescaling) -> Result<String, Error> {
        let path = format!("/jobs/{job}/resource-requirements");
        let Rescaling { parallelism, vertices } = rescaling;
        let bounds = |(vertex, ParallelismBounds { lower, upper }): (&VertexId, &ParallelismBounds)| {
            let bounds = serde_json::json!({ "parallelism": { "lowerBound": lower, "upperBound": upper } });
            (vertex.to_string(), bounds)
        };
        let named: serde_json::Map<_, _> = vertices.iter().map(bounds).collect();
        let (path, wanted) = match parallelism {
            Some(parallelism) => (format!("{path}?parallelism={parallelism}"), named),
            None => {
                // Those that are not named keep theirs.
                let mut all: serde_json::Map<String, serde_json::Value> = self.parse(&self.rest.get(&path)?)?;
                all.extend(named);
                (path, all)
            }
        };
        self.rest.put(&path, &serde_json::Value::Object(wanted).to_string())
    }

    /// Cancels a job.
    ///
    /// # Errors
    /// When the server is not reachable, does not know the job, or the job has ended otherwise.
    pub fn cancel(&self, job: &str) -> Result<Reply, Error> {
        let body = self.make_cancel(job_id(job)?)?;
        Ok(Reply { text: format!("cancelled: {job}\n"), body })
    }

    fn submit(&self, submission: &Submission) -> Result<(JobId, String), Error> {
        #[derive(Deserialize)]
        struct Submitted {
            jobid: String,
        }
        let digest = if submission.any_build {
            None
        } else {
            let unreadable = |error: crate::Error| Error::Executable { reason: error.to_string() };
            Some(executable::hex(&executable::digest().map_err(unreadable)?))
        };
        let body = submission.body(digest.as_deref()).to_string();
        let answer = self.rest.post(&format!("/jars/{}/run", in_path(&submission.job)?), &body)?;
        let submitted: Submitted = self.parse(&answer)?;
        let id = submitted.jobid.parse().map_err(|reason: String| self.rest.unexpected(&reason))?;
        Ok((id, answer))
    }

    fn make_checkpoint(&self, job: JobId) -> Result<Made, Error> {
        let path = format!("/jobs/{job}/checkpoints");
        self.operation("checkpoint", &path, &path, "{}")
    }

    fn make_savepoint(&self, job: JobId, folder: Option<&str>) -> Result<Made, Error> {
        let path = format!("/jobs/{job}/savepoints");
        let request = serde_json::json!({ "target-directory": folder, "cancel-job": false });
        self.operation("savepoint", &path, &path, &request.to_string())
    }

    fn make_stop(&self, job: JobId, folder: Option<&str>, drain: bool) -> Result<Made, Error> {
        let (start, status) = (format!("/jobs/{job}/stop"), format!("/jobs/{job}/savepoints"));
        let request = serde_json::json!({ "targetDirectory": folder, "drain": drain });
        self.operation("savepoint", &start, &status, &request.to_string())
    }

    fn make_cancel(&self, job: JobId) -> Result<String, Error> {
        self.rest.patch(&format!("/jobs/{job}?mode=cancel"))
    }

    /// Starts an operation, then asks for it until it is completed.
    fn operation(&self, what: &'static str, start: &str, status: &str, request: &str) -> Result<Made, Error> {
        #[derive(Deserialize)]
        struct Started {
            #[serde(rename = "request-id")]
            request_id: String,
        }
        #[derive(Deserialize)]
        struct Status {
            status: Id,
            operation: Option<Outcome>,
        }
        #[derive(Deserialize)]
        struct Id {
            id: StatusName,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Outcome {
            Failure {
                #[serde(rename = "failure-cause")]
                cause: FailureCause,
            },
            Result(OperationResult),
        }
        let started: Started = self.parse(&self.rest.post(start, request)?)?;
        let path = format!("{status}/{}", started.request_id);
        let mut pause = FIRST_PAUSE;
        for _ in 0..MAX_POLLS {
            let body = self.rest.get(&path)?;
            let status: Status = self.parse(&body)?;
            match (status.status.id, status.operation) {
                (StatusName::Completed, Some(Outcome::Failure { cause })) => {
                    return Err(Error::OperationFailed { what, reason: cause.stack_trace });
                }
                (StatusName::Completed, Some(Outcome::Result(result))) => return Ok((result, body)),
                (StatusName::Completed, None) => {
                    return Err(self.rest.unexpected("completed without an outcome"));
                }
                (StatusName::Queued | StatusName::InProgress, _) => {
                    rest::pause(pause);
                    pause = (pause * 3 / 2).min(LONGEST_PAUSE);
                }
            }
        }
        Err(Error::StillRunning { what, path })
    }

    fn parse<T: DeserializeOwned>(&self, body: &str) -> Result<T, Error> {
        serde_json::from_str(body).map_err(|error| self.rest.unexpected(&error.to_string()))
    }
}

/// What an operation made, and the body that tells it.
type Made = (OperationResult, String);

fn reply((result, body): Made) -> Reply {
    let text = match result {
        OperationResult::Savepoint { location } => format!("savepoint: {location}\n"),
        OperationResult::Checkpoint { checkpoint_id } => format!("checkpoint: {checkpoint_id}\n"),
        OperationResult::Done {} => String::new(),
    };
    Reply { text, body }
}

/// The id of a job; checked first, so that nothing else gets into a path.
fn job_id(job: &str) -> Result<JobId, Error> {
    job.parse().map_err(|reason| Error::BadId { reason })
}

/// The name of a job as it stands in a path.
fn in_path(job: &str) -> Result<&str, Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if job.chars().all(plain) && !job.trim_matches('.').is_empty() {
        return Ok(job);
    }
    Err(Error::BadName { name: job.to_string() })
}

#[cfg(test)]
mod tests;
