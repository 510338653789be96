//! Jobs that only the log of the cluster knows: they ended under an earlier leader, or are about to go on under this one.
//! What is remembered of them as a job master would tell it.

use std::collections::BTreeMap;

use millstream_actors::dispatcher::RememberedJob;
use millstream_actors::job_master::report::JobReport;
use millstream_config::keys;
use millstream_runtime::job::{ExceptionHistory, JobStatus};
use millstream_state::log::{KnownJob, TerminalState};

/// Its graph, its checkpoints and when it ended are not remembered.
pub(super) fn report(remembered: RememberedJob) -> JobReport {
    let RememberedJob { job, known: KnownJob { record, ended }, trouble } = remembered;
    let (status, failure) = match ended {
        None => (JobStatus::Initializing, trouble),
        Some(TerminalState::Finished | TerminalState::Stopped) => (JobStatus::Finished, None),
        Some(TerminalState::Canceled) => (JobStatus::Canceled, None),
        Some(TerminalState::Failed { reason }) => (JobStatus::Failed, Some(reason)),
    };
    JobReport {
        job,
        name: record.configuration.get(keys::PIPELINE_NAME.name).unwrap_or(&record.name).clone(),
        status,
        timestamps: Default::default(),
        started_ms: record.submitted_ms,
        ended_ms: None,
        attempt: None,
        restarts: 0,
        vertices: Vec::new(),
        edges: Vec::new(),
        subtasks: Vec::new(),
        exceptions: failure.map(ExceptionHistory::of_remembered).unwrap_or_default(),
        checkpoints: Default::default(),
        checkpoint_options: Default::default(),
        locations: BTreeMap::new(),
        properties: Vec::new(),
        configuration: record.configuration.into_iter().collect(),
    }
}
