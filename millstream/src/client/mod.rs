//! The REST client of the command line: `list`, `describe`, `checkpoint`, `savepoint`, `stop`, `cancel` against any server
//! that speaks Flink's v1 API. Blocking, one connection a request.
//!
//! - [`error`]: not reachable, refused, failed, and the exit code of each
//! - [`rest`]: requests and answers
//! - [`table`]: answers for people; `--json` prints the body unchanged

pub mod error;
pub mod rest;
pub mod table;

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use millstream_actors::view::checkpoint::CheckpointStatisticsView;
use millstream_actors::view::cluster::ClusterOverview;
use millstream_actors::view::job::{JobDetails, JobOverview};
use millstream_actors::view::operation::{FailureCause, OperationResult, StatusName};
use millstream_runtime::ids::JobId;

pub use error::Error;
use rest::Rest;

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
#[derive(Debug)]
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
        let path = job_path(job)?;
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
        let path = format!("{}/checkpoints", job_path(job)?);
        self.operation("checkpoint", &path, &path, "{}")
    }

    /// Makes a savepoint and waits for it; without a folder in the configured one.
    ///
    /// # Errors
    /// When the server is not reachable, does not know the job, or the savepoint fails.
    pub fn savepoint(&self, job: &str, folder: Option<&str>) -> Result<Reply, Error> {
        let path = format!("{}/savepoints", job_path(job)?);
        let request = serde_json::json!({ "target-directory": folder, "cancel-job": false });
        self.operation("savepoint", &path, &path, &request.to_string())
    }

    /// Stops a job with a savepoint and waits for it; `drain` fires all timers first.
    ///
    /// # Errors
    /// When the server is not reachable, does not know the job, or the savepoint fails: the job then goes on.
    pub fn stop(&self, job: &str, folder: Option<&str>, drain: bool) -> Result<Reply, Error> {
        let path = job_path(job)?;
        let request = serde_json::json!({ "targetDirectory": folder, "drain": drain });
        self.operation("savepoint", &format!("{path}/stop"), &format!("{path}/savepoints"), &request.to_string())
    }

    /// Cancels a job.
    ///
    /// # Errors
    /// When the server is not reachable, does not know the job, or the job has ended otherwise.
    pub fn cancel(&self, job: &str) -> Result<Reply, Error> {
        let body = self.rest.patch(&format!("{}?mode=cancel", job_path(job)?))?;
        Ok(Reply { text: format!("cancelled: {job}\n"), body })
    }

    /// Starts an operation, then asks for it until it is completed.
    fn operation(&self, what: &'static str, start: &str, status: &str, request: &str) -> Result<Reply, Error> {
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
                (StatusName::Completed, Some(Outcome::Result(result))) => {
                    let text = match result {
                        OperationResult::Savepoint { location } => format!("savepoint: {location}\n"),
                        OperationResult::Checkpoint { checkpoint_id } => format!("checkpoint: {checkpoint_id}\n"),
                        OperationResult::Done {} => String::new(),
                    };
                    return Ok(Reply { text, body });
                }
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

/// The path of a job; its id is checked first, so that nothing else gets into the path.
fn job_path(job: &str) -> Result<String, Error> {
    let id: JobId = job.parse().map_err(|reason| Error::BadId { reason })?;
    Ok(format!("/jobs/{id}"))
}

#[cfg(test)]
mod tests;
