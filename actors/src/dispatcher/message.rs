//! What the dispatcher is told: by users, by the node it runs on, and by itself.

use std::sync::Arc;
use std::time::Duration;

use millstream_runtime::graph::JobGraph;
use millstream_runtime::ids::{JobId, NodeProcess};
use millstream_runtime::job::placement::LoadBalance;
use millstream_runtime::ports::PortError;
use millstream_state::log::{JobRecord, KnownJob};
use ractor::RpcReplyPort;

use super::journal::Written;
use crate::job_master::JobHandle;
use crate::job_master::deployment::OfferedNode;
use crate::launch::LaunchOptions;
use crate::launch::sealed::SealedJob;
use crate::metrics::ProcessReading;

/// A job to be run.
#[derive(Clone)]
pub struct Submission {
    /// Of what every node records the graph.
    pub record: JobRecord,
    /// The graph, as this node has recorded it.
    pub graph: Arc<JobGraph>,
    /// Settings.
    pub options: LaunchOptions,
}

/// Makes a submission anew from what is recorded of it: for jobs that an earlier leader had accepted.
pub trait Submissions: Send + Sync {
    /// Records the graph and reads the settings. May block: called on the blocking executor.
    ///
    /// # Errors
    /// When this executable has no such job or is another build.
    fn submission(&self, record: &JobRecord) -> Result<Submission, PortError>;

    /// The record of the same job at another parallelism.
    fn rescaled(&self, record: &JobRecord, parallelism: u32) -> JobRecord;
}

/// What jobs do with other slots than they were submitted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchedulingMode {
    /// A job waits for all that it wants.
    Whole,
    /// Too few run a job with less, and new ones scale it up again.
    Adaptive,
    /// Jobs share all slots that there are, whatever they were submitted for.
    Reactive,
}

/// How jobs get along with slots.
#[derive(Clone, Copy, Debug)]
pub struct Scheduling {
    /// What a job does with other slots than it wants.
    pub mode: SchedulingMode,
    /// How long fewer slots than wanted must stay the same before a job is made to fit.
    pub stabilization: Duration,
    /// How slots are taken from nodes when there are more than a job needs.
    pub balance: LoadBalance,
}

impl Default for Scheduling {
    fn default() -> Self {
        Self { mode: SchedulingMode::Adaptive, stabilization: Duration::from_secs(3), balance: LoadBalance::default() }
    }
}

/// A job made anew at another parallelism, or not.
pub struct Remade {
    /// The job.
    pub job: JobId,
    /// Which making it was: an older one counts for nothing.
    pub making: u64,
    /// What became of it.
    pub submission: Result<Submission, PortError>,
}

/// Where the answer to a submission goes.
pub type SubmitReply = RpcReplyPort<Result<JobHandle, PortError>>;

/// What a record of the cluster's log is waited for with.
pub enum After {
    /// A job starts, and its submission is answered.
    Start(JobId, Box<SealedJob>, SubmitReply),
    /// A job is to run at another parallelism, and whoever asked for it is answered.
    Rescale(JobId, Box<Submission>, RpcReplyPort<Result<(), PortError>>),
    /// Nothing.
    Nothing,
}

/// A job that can be started, or not.
pub struct Prepared {
    /// The job.
    pub job: JobId,
    /// What became of it.
    pub sealed: Result<SealedJob, PortError>,
    /// Who waits; nobody does for a job of an earlier leader.
    pub reply: Option<SubmitReply>,
}

/// A job that only the log of the cluster knows: it does not run here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RememberedJob {
    /// Its id.
    pub job: JobId,
    /// What it is made from, and how it ended under an earlier leader; one that has not ended is about to go on here.
    pub known: KnownJob,
    /// Why it does not go on yet.
    pub trouble: Option<String>,
}

/// A task manager, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeReport {
    /// The node, and which of its processes.
    pub process: NodeProcess,
    /// Its slots.
    pub slots: u32,
    /// Those that no job has.
    pub free: u32,
    /// What its process takes, once it has told that.
    pub reading: Option<ProcessReading>,
}

/// Messages of the dispatcher.
pub enum DispatcherMessage {
    /// A task manager is there.
    NodeJoined(OfferedNode),
    /// What the process of a task manager takes.
    NodeMeasured(NodeProcess, Box<ProcessReading>),
    /// A process is lost, and why.
    NodeLost(NodeProcess, String),
    /// Run a job; answered when it is recorded and started.
    Submit(Box<Submission>, SubmitReply),
    /// A job can be started, or not.
    Prepared(Box<Prepared>),
    /// A job of an earlier leader is to be tried again.
    TakeUp(JobId),
    /// What became of a record of the cluster's log.
    Recorded(Box<Written<After>>),
    /// A record whose fate is not known is to be written again.
    RecordAgain,
    /// Run a job at another parallelism from now on; answered when that is recorded.
    Rescale(JobId, u32, RpcReplyPort<Result<(), PortError>>),
    /// What a job is to be at another parallelism was made, or not.
    Rescalable(JobId, Box<Result<Submission, PortError>>, RpcReplyPort<Result<(), PortError>>),
    /// The slots that a job has were the same for long enough.
    Stabilized(JobId, u64),
    /// A job was made anew, to fit its slots.
    Remade(Box<Remade>),
    /// A job has ended.
    Ended(JobId),
    /// All jobs, the newest last; ended ones too.
    Jobs(RpcReplyPort<Vec<JobHandle>>),
    /// Jobs of earlier leaders that do not run here, or not yet.
    Remembered(RpcReplyPort<Vec<RememberedJob>>),
    /// All task managers.
    Nodes(RpcReplyPort<Vec<NodeReport>>),
    /// A newer leader is there: stop everything, record nothing.
    StepDown,
}
