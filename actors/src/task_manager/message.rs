//! What the task manager is told: by job masters, and by its own blocking work.

use std::time::Duration;

use millstream_runtime::ids::{AttemptId, JobId, SubtaskId};
use millstream_runtime::ports::PortError;

use super::opening::Opened;
use crate::protocol::{Answers, ToTaskManager};

/// Messages of a task manager.
pub enum TaskManagerMessage {
    /// From the master of a job.
    FromMaster {
        /// The job.
        job: JobId,
        /// What it says.
        message: ToTaskManager,
        /// Where the node's answers about the job go from now on.
        answers: Answers,
    },
    /// The state of a deployment was opened, or not.
    Opened {
        /// The job.
        job: JobId,
        /// The deployment.
        attempt: AttemptId,
        /// What its subtasks are made of.
        opened: Box<Result<Opened, PortError>>,
    },
    /// A channel between a subtask of this node and one of another has failed.
    ChannelFailed {
        /// The job.
        job: JobId,
        /// The deployment.
        attempt: AttemptId,
        /// The end of the channel that is here.
        subtask: SubtaskId,
        /// Why.
        error: PortError,
    },
    /// It is time to look whether subtasks that were told to go are gone.
    StillThere {
        /// The job.
        job: JobId,
        /// The deployment.
        attempt: AttemptId,
        /// How long ago they were told.
        waited: Duration,
    },
    /// It is time to tell what subtasks measure.
    TellReadings,
}
