//! What the dispatcher is told: by users, by the node it runs on, and by itself.

use std::sync::Arc;

use millstream_runtime::graph::JobGraph;
use millstream_runtime::ids::{JobId, NodeProcess};
use millstream_runtime::ports::PortError;
use ractor::RpcReplyPort;

use crate::job_master::JobHandle;
use crate::job_master::deployment::OfferedNode;
use crate::launch::{LaunchOptions, Launched};
use crate::protocol::JobRecord;

/// A job to be run.
pub struct Submission {
    /// Of what every node records the graph.
    pub record: JobRecord,
    /// The graph, as this node has recorded it.
    pub graph: Arc<JobGraph>,
    /// Settings.
    pub options: LaunchOptions,
}

/// A job that was launched, or not.
pub struct Submitted {
    /// What became of it.
    pub launched: Result<Launched, PortError>,
    /// Slots that it wants.
    pub slots: u32,
    /// Who waits.
    pub reply: RpcReplyPort<Result<JobHandle, PortError>>,
}

/// A task manager, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeReport {
    /// The node, and which of its processes.
    pub process: NodeProcess,
    /// Its slots.
    pub slots: u32,
    /// Those that no job has.
    pub free: u32,
}

/// Messages of the dispatcher.
pub enum DispatcherMessage {
    /// A task manager is there.
    NodeJoined(OfferedNode),
    /// A process is lost, and why.
    NodeLost(NodeProcess, String),
    /// Run a job; answered when its log is open.
    Submit(Box<Submission>, RpcReplyPort<Result<JobHandle, PortError>>),
    /// A job was launched, or not.
    Submitted(Box<Submitted>),
    /// A job has ended.
    Ended(JobId),
    /// All jobs, the newest last; ended ones too.
    Jobs(RpcReplyPort<Vec<JobHandle>>),
    /// All task managers.
    Nodes(RpcReplyPort<Vec<NodeReport>>),
}
