//! What the job master is told. Everything from subtasks carries their attempt; late messages change nothing.

use std::sync::Arc;

use millstream_runtime::element::Purpose;
use millstream_runtime::graph::JobGraph;
use millstream_runtime::ids::{AttemptId, NodeId, NodeProcess, VertexId};
use millstream_runtime::ports::PortError;
use millstream_runtime::time::Timestamp;
use millstream_state::log::JobRecord;
use ractor::RpcReplyPort;

use super::cleaning::{Cleaner, Cleaning};
use super::deployment::{Deployments, OfferedNode};
use super::enumerators::Discovery;
use super::handle::{JobOutcome, Requested};
use super::records::{Ledger, RecordOutcome, TerminalRecorded};
use super::report::JobReport;
use super::restore::Planned;
use crate::protocol::FromTaskManager;

/// Messages of the job master.
pub enum JobMasterMessage {
    /// A task manager may be used from now on.
    NodeJoined(OfferedNode),
    /// A process is lost: nothing of it will be heard again.
    NodeLost(NodeProcess, String),
    /// From a task manager.
    FromTaskManager(NodeId, FromTaskManager),
    /// What the subtasks of these regions are restored from was read; and the ledger, back from that. Task managers refuse
    /// deployments out of order, so that the next is planned only when this one is on its way.
    RestorePlanned(Deployments, Box<Result<Planned, PortError>>, Box<Ledger>),
    /// An enumerator came back from looking; with the number of the deployment that it was made for.
    Discovered(AttemptId, Box<Discovery>),
    /// An enumerator is to look again.
    Discover(AttemptId, VertexId),
    /// What became of a record of a checkpoint.
    Recorded(Box<RecordOutcome>),
    /// What became of the record of the job's end.
    TerminalRecorded(Box<TerminalRecorded>),
    /// A record has made files unreachable.
    Clean(Box<Cleaning>),
    /// The cleaner is back.
    CleanerBack(Box<Cleaner>),
    /// Something that waits for the ledger may try again.
    LedgerFree,
    /// The coordinator wanted to be woken at this time. The time of day may say that it is earlier: it is not to wait
    /// for a call that has come.
    Tick(Timestamp),
    /// The job machine wanted to be woken at this time.
    RestartDue(Timestamp),
    /// A checkpoint or savepoint is asked for; the answer comes when it is durable.
    Trigger {
        /// What for.
        purpose: Purpose,
        /// With a stop: end the input first.
        drain: bool,
        /// Where a savepoint goes; the job's savepoint folder if not given.
        target: Option<String>,
        /// Who waits.
        reply: RpcReplyPort<Result<Requested, String>>,
    },
    /// Cancel the job; answered when it has ended.
    Cancel(RpcReplyPort<JobOutcome>),
    /// Tell when the job has ended.
    Await(RpcReplyPort<JobOutcome>),
    /// Run as this graph from now on, the same program at another parallelism, and tell nodes this record of it. What is the
    /// same in it goes on.
    Redeploy(Arc<JobGraph>, Box<JobRecord>),
    /// The job cannot run, for this reason: it fails for good.
    Fail(String),
    /// Another leader goes on with the job: stop without a record.
    StepDown,
    /// What REST shows.
    Report(RpcReplyPort<Box<JobReport>>),
}
