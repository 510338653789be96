//! The states of Flink's adaptive scheduler, by its names: what a job is doing about its slots and subtasks, where the status
//! of a job is too coarse. Told in logs at each change; decides nothing.

use std::fmt;

use super::status::JobStatus;

/// What the scheduler of a job is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchedulerState {
    /// Nothing yet.
    Created,
    /// There are too few slots for the job.
    WaitingForResources,
    /// There are enough: subtasks are placed, restored and started.
    CreatingExecutionGraph,
    /// All subtasks run.
    Executing,
    /// Subtasks have to go, or wait for the delay of the restart strategy.
    Restarting,
    /// The job ends with a savepoint that was asked for.
    StoppingWithSavepoint,
    /// The job has failed for good, and its subtasks have to go.
    Failing,
    /// The job was cancelled, and its subtasks have to go.
    Canceling,
    /// The job has ended.
    Finished,
}

/// What a job does beside its status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Doing {
    /// Subtasks are to be deployed for which there are too few slots.
    pub waits_for_slots: bool,
    /// Subtasks are on their way, or about to be.
    pub deploys: bool,
    /// A stop with a savepoint is under way.
    pub stops: bool,
}

impl SchedulerState {
    /// The state of a job.
    #[must_use]
    pub fn of(status: JobStatus, doing: Doing) -> Self {
        let Doing { waits_for_slots, deploys, stops } = doing;
        match status {
            JobStatus::Initializing => Self::Created,
            JobStatus::Created | JobStatus::Restarting if waits_for_slots => Self::WaitingForResources,
            JobStatus::Created | JobStatus::Restarting if deploys => Self::CreatingExecutionGraph,
            JobStatus::Created => Self::Created,
            JobStatus::Restarting => Self::Restarting,
            JobStatus::Running if stops => Self::StoppingWithSavepoint,
            JobStatus::Running => Self::Executing,
            JobStatus::Failing => Self::Failing,
            JobStatus::Cancelling => Self::Canceling,
            JobStatus::Failed | JobStatus::Canceled | JobStatus::Finished | JobStatus::Suspended => Self::Finished,
        }
    }

    /// Flink's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "CREATED",
            Self::WaitingForResources => "WAITING_FOR_RESOURCES",
            Self::CreatingExecutionGraph => "CREATING_EXECUTION_GRAPH",
            Self::Executing => "EXECUTING",
            Self::Restarting => "RESTARTING",
            Self::StoppingWithSavepoint => "STOPPING_WITH_SAVEPOINT",
            Self::Failing => "FAILING",
            Self::Canceling => "CANCELING",
            Self::Finished => "FINISHED",
        }
    }
}

impl fmt::Display for SchedulerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_goes_through_the_states_of_flinks_adaptive_scheduler() {
        let idle = Doing::default();
        let waits = Doing { waits_for_slots: true, deploys: true, ..idle };
        let deploys = Doing { deploys: true, ..idle };
        let stops = Doing { stops: true, ..idle };
        let life = [
            (JobStatus::Initializing, idle, "CREATED"),
            (JobStatus::Created, waits, "WAITING_FOR_RESOURCES"),
            (JobStatus::Created, deploys, "CREATING_EXECUTION_GRAPH"),
            (JobStatus::Running, idle, "EXECUTING"),
            (JobStatus::Restarting, idle, "RESTARTING"),
            (JobStatus::Restarting, waits, "WAITING_FOR_RESOURCES"),
            (JobStatus::Restarting, deploys, "CREATING_EXECUTION_GRAPH"),
            (JobStatus::Running, stops, "STOPPING_WITH_SAVEPOINT"),
            (JobStatus::Failing, deploys, "FAILING"),
            (JobStatus::Cancelling, waits, "CANCELING"),
            (JobStatus::Finished, idle, "FINISHED"),
            (JobStatus::Failed, idle, "FINISHED"),
            (JobStatus::Canceled, idle, "FINISHED"),
            (JobStatus::Suspended, idle, "FINISHED"),
        ];
        for (status, doing, name) in life {
            assert_eq!(SchedulerState::of(status, doing).name(), name, "{status} {doing:?}");
        }
    }
}
