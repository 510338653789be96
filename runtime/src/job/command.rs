//! What the machine of a job commands, answers and is told of failures: the vocabulary between it and the job manager's actor.

use std::collections::BTreeMap;

use super::status::JobStatus;
use crate::ids::{AttemptId, RegionId};

/// What the job manager must do now. Commands of one event are carried out in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Deploy these regions from the newest restorable checkpoint, each as an attempt of its own.
    Deploy(BTreeMap<RegionId, AttemptId>),
    /// Cancel all subtasks of the deployment and report when none is left that could still act.
    CancelSubtasks(AttemptId),
    /// Call [`Job::restart_due`](super::Job::restart_due) at this time.
    ScheduleRestart {
        /// When.
        at_ms: i64,
    },
    /// Deployments failed: log it and count it.
    RecordFailure {
        /// The first of them.
        attempt: AttemptId,
        /// Whether others follow.
        restarts: bool,
    },
    /// A stop whose savepoint is durable was interrupted by a failure: the job goes on, the requester must be told.
    StopInterrupted,
    /// Write the job's end into the log, then report it: only then may anybody be told.
    RecordTerminal(JobStatus),
    /// The job has ended: answer whoever waits.
    ReachedTerminal(JobStatus),
}

/// How an event was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Obeyed.
    Accepted,
    /// About an older (or never made) deployment: nothing was done.
    Stale,
    /// Right, but nothing follows from it in this state.
    Ignored,
}

/// What has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope<'a> {
    /// These deployments, by one cause: others go on.
    Regions(&'a [AttemptId]),
    /// Something that concerns all regions: checkpoints, an enumerator, the end that was under way.
    Job,
}
