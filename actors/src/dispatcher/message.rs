//! What the dispatcher is told: by users, by the node it runs on, and by itself.

use std::sync::Arc;

use millstream_runtime::graph::JobGraph;
use millstream_runtime::ids::{JobId, NodeProcess};
use millstream_runtime::job::placement::LoadBalance;
use millstream_runtime::job::{Requirements, adaptive};
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
    /// How long jobs wait for slots, and what for.
    pub adaptive: adaptive::Options,
    /// How slots are taken from nodes when there are more than a job needs.
    pub balance: LoadBalance,
}

impl Default for Scheduling {
    fn default() -> Self {
        let adaptive = adaptive::Options {
            resource_wait_ms: Some(300_000),
            submission_stabilization_ms: 3_000,
            executing_stabilization_ms: 3_000,
            cooldown_ms: 0,
            max_delay_ms: 5_000,
            max_checkpoint_failures: 2,
        };
        Self { mode: SchedulingMode::Adaptive, adaptive, balance: LoadBalance::default() }
    }
}

/// What a user wants of the vertices of a job from now on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The parallelism of vertices of which the program does not set it; without it all vertices are named.
    pub parallelism: Option<u32>,
    /// Vertices by name.
    pub vertices: Requirements,
}

/// Where the answer to a submission goes.
pub type SubmitReply = RpcReplyPort<Result<JobHandle, PortError>>;

/// What a record of the cluster's log is waited for with.
pub enum After {
    /// A job starts, and its submission is answered.
    Start(JobId, Box<SealedJob>, SubmitReply),
    /// A job may have another parallelism, and whoever asked for it is answered.
    Require(JobId, Box<JobRecord>, RpcReplyPort<Result<(), PortError>>),
    /// A job that does not run here yet was cancelled, and whoever wanted that is answered.
    Cancelled(JobId, RpcReplyPort<Result<bool, PortError>>),
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
    /// Cancel a job of an earlier leader that does not run here yet; answered with whether it is one, when that is recorded.
    CancelTaking(JobId, RpcReplyPort<Result<bool, PortError>>),
    /// What became of a record of the cluster's log.
    Recorded(Box<Written<After>>),
    /// A record whose fate is not known is to be written again.
    RecordAgain,
    /// A job may have another parallelism from now on; answered when that is recorded.
    Require(JobId, Wanted, RpcReplyPort<Result<(), PortError>>),
    /// How many subtasks the vertices of a job may have; nothing of one that does not run here.
    Requirements(JobId, RpcReplyPort<Option<Requirements>>),
    /// The scheduler of a job wanted to be woken now.
    Wake(JobId),
    /// A checkpoint that the scheduler of a job wanted is complete, or not.
    Checkpointed(JobId, u64, bool),
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
