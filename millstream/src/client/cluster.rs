//! Jobs on a cluster, from Rust: connect, submit, and look after what runs. Blocking; every call asks the leader anew, so
//! it goes on when another job manager takes over.

use std::time::Duration;

use serde::Deserialize;

use millstream_actors::view::job::JobStatus;
use millstream_actors::view::operation::{OperationResult, StatusName};
use millstream_runtime::ids::{CheckpointId, JobId};

use super::error::Error;
use super::rescaling::Rescaling;
use super::rest::Patience;
use super::submission::Submission;
use super::{Client, place, rest};

/// How long [`Cluster::connect`] and every call after it waits for a leader: twice what a takeover takes with the default
/// settings.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The port of a URL without one.
const DEFAULT_PORT: u16 = 8081;

/// First and longest pause between two questions for the end of a job.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// A cluster that answers.
///
/// ```no_run
/// use millstream::client::{Cluster, Submission};
///
/// # fn main() -> Result<(), millstream::client::Error> {
/// let cluster = Cluster::connect("http://127.0.0.1:8081")?;
/// let job = cluster.submit(Submission::new("spending-alerts").parallelism(4).option("output", "/data/alerts"))?;
/// println!("{} is {}", job.id(), job.status()?.name());
/// let savepoint = job.stop(None, false)?;
/// println!("goes on from {savepoint}");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Cluster {
    client: Client,
}

impl Cluster {
    /// Connects to the cluster with a job manager at this URL (`http://HOST:PORT`), whether it leads or not. Waits up to
    /// [`PATIENCE`] until there is a leader.
    ///
    /// # Errors
    /// When the URL is none, or nobody leads within that time.
    pub fn connect(url: &str) -> Result<Self, Error> {
        Self::connect_within(url, PATIENCE)
    }

    /// As [`connect`](Self::connect), but this call and every later one waits so long for a leader.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_within(url: &str, patience: Duration) -> Result<Self, Error> {
        let (host, port) =
            place::parse(url, DEFAULT_PORT).ok_or_else(|| Error::BadAddress { address: url.to_string() })?;
        let client = Client::new(&host, port).with_patience(Patience { leader: patience, server: patience });
        client.overview()?;
        Ok(Self { client })
    }

    /// Runs a job. Once this has answered, the cluster goes on with it whatever becomes of this program.
    ///
    /// # Errors
    /// When no leader answers in time, the cluster does not have the job or is another build, or the job cannot be run so.
    /// [`Error::Unanswered`] when the connection broke while it was submitted: it may run then.
    pub fn submit(&self, submission: impl Into<Submission>) -> Result<JobClient, Error> {
        let (id, _) = self.client.submit(&submission.into())?;
        Ok(JobClient { client: self.client.clone(), id })
    }

    /// A job that was submitted before.
    ///
    /// # Errors
    /// When no leader answers in time, or it does not know the job.
    pub fn job(&self, id: JobId) -> Result<JobClient, Error> {
        let job = JobClient { client: self.client.clone(), id };
        job.status()?;
        Ok(job)
    }
}

/// A job of a cluster. Dropping it changes nothing about the job.
#[derive(Clone, Debug)]
pub struct JobClient {
    client: Client,
    id: JobId,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobResult {
    /// Finished, canceled or failed.
    pub status: JobStatus,
    /// How long it ran; nothing if it ended before the cluster got its present leader.
    pub duration: Option<Duration>,
    /// The failure that ended it.
    pub failure: Option<String>,
}

impl JobClient {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> JobId {
        self.id
    }

    /// Where it is in its life.
    ///
    /// # Errors
    /// When no leader answers in time, or it does not know the job any longer.
    pub fn status(&self) -> Result<JobStatus, Error> {
        #[derive(Deserialize)]
        struct Status {
            status: JobStatus,
        }
        let answer: Status = self.client.parse(&self.client.rest.get(&format!("/jobs/{}/status", self.id))?)?;
        Ok(answer.status)
    }

    /// Makes a checkpoint and waits for it; gives its number.
    ///
    /// # Errors
    /// When no leader answers in time, the job has ended, or the checkpoint fails.
    pub fn checkpoint(&self) -> Result<CheckpointId, Error> {
        match self.client.make_checkpoint(self.id)?.0 {
            OperationResult::Checkpoint { checkpoint_id } => Ok(CheckpointId(checkpoint_id)),
            OperationResult::Savepoint { .. } | OperationResult::Done {} => {
                Err(self.client.rest.unexpected("a checkpoint without a number"))
            }
        }
    }

    /// Makes a savepoint in a folder, or in the configured one, and waits for it; gives its place.
    ///
    /// # Errors
    /// When no leader answers in time, the job has ended, or the savepoint fails.
    pub fn savepoint(&self, folder: Option<&str>) -> Result<String, Error> {
        self.place(self.client.make_savepoint(self.id, folder)?.0)
    }

    /// Stops the job with a savepoint, after firing all timers if `drain`, and waits for both; gives the savepoint's place.
    ///
    /// # Errors
    /// When no leader answers in time, the job has ended, or the savepoint fails: the job then goes on.
    pub fn stop(&self, folder: Option<&str>, drain: bool) -> Result<String, Error> {
        self.place(self.client.make_stop(self.id, folder, drain)?.0)
    }

    /// Runs the job at another parallelism from now on, from its newest checkpoint; with fewer subtasks while there are too few
    /// slots. Answers when that is recorded. A number is the parallelism of all vertices of which the program does not set it.
    ///
    /// # Errors
    /// When no leader answers in time, the job has ended, or it cannot run so.
    pub fn rescale(&self, rescaling: impl Into<Rescaling>) -> Result<(), Error> {
        self.client.make_rescale(self.id, &rescaling.into()).map(drop)
    }

    /// Cancels the job and waits until it has ended.
    ///
    /// # Errors
    /// When no leader answers in time, or the job has ended otherwise.
    pub fn cancel(&self) -> Result<(), Error> {
        self.client.make_cancel(self.id).map(drop)
    }

    /// Waits for the end of the job, however long that takes. A failed job is no error of this call.
    ///
    /// # Errors
    /// When no leader answers in time, or it does not know the job any longer.
    pub fn wait(&self) -> Result<JobResult, Error> {
        let (mut pause, longest) = PAUSES;
        loop {
            if let Some(result) = self.result()? {
                return Ok(result);
            }
            rest::pause(pause);
            pause = (pause * 3 / 2).min(longest);
        }
    }

    /// How the job ended; nothing while it runs.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn result(&self) -> Result<Option<JobResult>, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "kebab-case")]
        struct Answer {
            status: Id,
            job_execution_result: Option<Ended>,
        }
        #[derive(Deserialize)]
        struct Id {
            id: StatusName,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "kebab-case")]
        struct Ended {
            application_status: Application,
            net_runtime: i64,
            failure_cause: Option<Cause>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "UPPERCASE")]
        enum Application {
            Succeeded,
            Failed,
            Canceled,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "kebab-case")]
        struct Cause {
            stack_trace: String,
        }
        let answer: Answer =
            self.client.parse(&self.client.rest.get(&format!("/jobs/{}/execution-result", self.id))?)?;
        match (answer.status.id, answer.job_execution_result) {
            (StatusName::Completed, Some(ended)) => Ok(Some(JobResult {
                status: match ended.application_status {
                    Application::Succeeded => JobStatus::Finished,
                    Application::Failed => JobStatus::Failed,
                    Application::Canceled => JobStatus::Canceled,
                },
                duration: u64::try_from(ended.net_runtime).ok().map(Duration::from_millis),
                failure: ended.failure_cause.map(|cause| cause.stack_trace),
            })),
            (StatusName::Completed, None) => Err(self.client.rest.unexpected("completed without a result")),
            (StatusName::Queued | StatusName::InProgress, _) => Ok(None),
        }
    }

    fn place(&self, made: OperationResult) -> Result<String, Error> {
        match made {
            OperationResult::Savepoint { location } => Ok(location),
            OperationResult::Checkpoint { .. } | OperationResult::Done {} => {
                Err(self.client.rest.unexpected("a savepoint without a place"))
            }
        }
    }
}
