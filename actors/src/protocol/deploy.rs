//! What a task manager needs to run its part of an attempt. It makes the operators itself, from the program that its
//! executable holds; only what the job is given travels, and where its state lies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_runtime::batch::BatchLimit;
use millstream_runtime::checkpoint::manifest::SegmentRef;
use millstream_runtime::credit::CreditLimit;
use millstream_runtime::graph::JobGraph;
use millstream_runtime::ids::{AttemptId, CheckpointId, NodeProcess, OperatorUid, SubtaskId};
use millstream_runtime::ports::PortError;
use millstream_runtime::state::cut::{OperatorState, StateDeclaration};
use millstream_runtime::time::Timestamp;
use millstream_state::log::JobRecord;
use serde::{Deserialize, Serialize};

use crate::in_flight::InFlightRef;

/// The programs compiled into this executable.
pub trait Programs: Send + Sync {
    /// Records the graph of a job. May block: called on the blocking executor.
    ///
    /// # Errors
    /// When this executable has no such program, is another build, or the program refuses what it is given.
    fn graph(&self, record: &JobRecord) -> Result<Arc<JobGraph>, PortError>;
}

/// A graph that was recorded in this process, for whatever is asked: an embedded run.
pub struct Recorded(pub Arc<JobGraph>);

impl Programs for Recorded {
    fn graph(&self, _record: &JobRecord) -> Result<Arc<JobGraph>, PortError> {
        Ok(Arc::clone(&self.0))
    }
}

/// How subtasks exchange rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelOptions {
    /// Credit of a channel.
    pub credit: CreditLimit,
    /// When a batch is full.
    pub batch: BatchLimit,
}

/// One subtask's part of a restore.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskRestore {
    /// What each operator that was there at the cut gets.
    pub operators: Vec<OperatorRestore>,
    /// Watermark at the restored cut per key group; empty without a restore.
    pub watermark_floor: Vec<Timestamp>,
    /// The chain of segments to go on with, clipped to the subtask's key groups.
    pub segments: Vec<SegmentRef>,
    /// Where rows in flight at the cut lie that the subtask may have to go on with.
    pub in_flight: Vec<InFlightRef>,
}

/// One operator's part of a restore.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OperatorRestore {
    /// The operator.
    pub uid: OperatorUid,
    /// Its operator state, dealt out to this subtask.
    pub states: Vec<OperatorState>,
    /// What the segments declare of its keyed state: a node that has that itself need not open them.
    pub declared: Vec<StateDeclaration>,
}

/// A subtask to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskDeployment {
    /// Which one.
    pub id: SubtaskId,
    /// What it starts from.
    pub restore: TaskRestore,
}

/// The part of an attempt, the deployment of one region, that runs on one task manager.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deploy {
    /// The attempt.
    pub attempt: AttemptId,
    /// The attempts of the job's other regions: whatever else is here of the job is over, and goes first.
    pub beside: BTreeSet<AttemptId>,
    /// How often the region was deployed before, as users see it.
    pub deployments_before: u32,
    /// Of what the graph is made.
    pub record: JobRecord,
    /// The fingerprint the graph must have: another program of the same name is refused.
    pub fingerprint: [u8; 16],
    /// The subtasks to run here.
    pub tasks: Vec<TaskDeployment>,
    /// Where all subtasks of the attempt run; no channel leads out of it.
    pub places: BTreeMap<SubtaskId, NodeProcess>,
    /// The restored checkpoint; 0 for a start from nothing. What a node keeps locally counts if it is not newer.
    pub restored: CheckpointId,
    /// How subtasks exchange rows.
    pub channels: ChannelOptions,
    /// Completed checkpoints folded into the local store together; `None` keeps no local store.
    pub fold_lag: Option<u32>,
}
