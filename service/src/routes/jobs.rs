//! Jobs, their vertices and subtasks.

use serde::Serialize;

use millstream_actors::view::job::{JobOverview, JobStatus, PlanView, SubtaskView};
use millstream_actors::view::operation::{FailureCause, StatusName};

use super::App;
use crate::exchange::{Failure, Outcome, Parameters, ok};

/// `maxExceptions` if the request does not say.
const DEFAULT_MAX_EXCEPTIONS: usize = 20;

#[derive(Serialize)]
struct Jobs<T> {
    jobs: Vec<T>,
}

pub(super) async fn ids(app: App) -> Outcome {
    #[derive(Serialize)]
    struct IdWithStatus {
        id: String,
        status: JobStatus,
    }
    let jobs = app.api.jobs().await?;
    ok(&Jobs { jobs: jobs.iter().map(|job| IdWithStatus { id: job.jid.to_string(), status: job.state }).collect() })
}

pub(super) async fn overview(app: App) -> Outcome {
    let jobs: Vec<JobOverview> = app.api.jobs().await?;
    ok(&Jobs { jobs })
}

pub(super) async fn details(app: App, parameters: Parameters) -> Outcome {
    ok(&app.api.job(parameters.job()?).await?)
}

pub(super) async fn status(app: App, parameters: Parameters) -> Outcome {
    #[derive(Serialize)]
    struct Status {
        status: JobStatus,
    }
    ok(&Status { status: app.api.job_status(parameters.job()?).await? })
}

pub(super) async fn configuration(app: App, parameters: Parameters) -> Outcome {
    ok(&app.api.job_configuration(parameters.job()?).await?)
}

pub(super) async fn plan(app: App, parameters: Parameters) -> Outcome {
    #[derive(Serialize)]
    struct Plan {
        plan: PlanView,
    }
    ok(&Plan { plan: app.api.job(parameters.job()?).await?.plan })
}

pub(super) async fn exceptions(app: App, parameters: Parameters) -> Outcome {
    let max = parameters.number("maxExceptions")?.unwrap_or(DEFAULT_MAX_EXCEPTIONS);
    let mut exceptions = app.api.exceptions(parameters.job()?).await?;
    let history = &mut exceptions.exception_history;
    if let Some(filter) = parameters.list("failureLabelFilter") {
        // `key:value`, all of which must be given; values that contain a colon are not filtered by, as in Flink.
        let wanted: Option<Vec<(&str, &str)>> = filter.into_iter().map(|label| label.split_once(':')).collect();
        let wanted = wanted.ok_or_else(|| Parameters::bad_query("failureLabelFilter", "key:value expected"))?;
        history.entries.retain(|entry| {
            wanted.iter().all(|(key, value)| entry.failure_labels.get(*key).is_some_and(|label| label == value))
        });
    }
    history.truncated |= history.entries.len() > max;
    history.entries.truncate(max);
    ok(&exceptions)
}

pub(super) async fn execution_result(app: App, parameters: Parameters) -> Outcome {
    #[derive(Serialize)]
    #[serde(rename_all = "kebab-case")]
    struct ExecutionResult {
        status: Id,
        #[serde(skip_serializing_if = "Option::is_none")]
        job_execution_result: Option<JobExecutionResult>,
    }
    #[derive(Serialize)]
    struct Id {
        id: StatusName,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "kebab-case")]
    struct JobExecutionResult {
        id: String,
        application_status: &'static str,
        accumulator_results: crate::exchange::Empty,
        net_runtime: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        failure_cause: Option<FailureCause>,
    }
    let job = app.api.job(parameters.job()?).await?;
    let application_status = match job.state {
        JobStatus::Finished => "SUCCEEDED",
        JobStatus::Failed => "FAILED",
        JobStatus::Canceled => "CANCELED",
        _ => return ok(&ExecutionResult { status: Id { id: StatusName::InProgress }, job_execution_result: None }),
    };
    let failure_cause = if job.state == JobStatus::Failed {
        let newest = app.api.exceptions(job.jid).await?.exception_history.entries.into_iter().next();
        newest.map(|entry| FailureCause { class: entry.exception_name, stack_trace: entry.stacktrace })
    } else {
        None
    };
    ok(&ExecutionResult {
        status: Id { id: StatusName::Completed },
        job_execution_result: Some(JobExecutionResult {
            id: job.jid.to_string(),
            application_status,
            accumulator_results: crate::exchange::Empty {},
            net_runtime: job.duration,
            failure_cause,
        }),
    })
}

pub(super) async fn vertex(app: App, parameters: Parameters) -> Outcome {
    ok(&app.api.vertex(parameters.job()?, parameters.vertex()?).await?)
}

pub(super) async fn backpressure(app: App, parameters: Parameters) -> Outcome {
    ok(&app.api.backpressure(parameters.job()?, parameters.vertex()?).await?)
}

pub(super) async fn subtask(app: App, parameters: Parameters) -> Outcome {
    ok(&find_subtask(&app, &parameters).await?)
}

pub(super) async fn subtask_attempt(app: App, parameters: Parameters) -> Outcome {
    let attempt = parameters.attempt()?;
    let subtask = find_subtask(&app, &parameters).await?;
    if subtask.attempt != attempt {
        return Err(Failure::not_found(format!(
            "Could not find execution for subtask {} and attempt {attempt}.",
            subtask.subtask
        )));
    }
    ok(&subtask)
}

async fn find_subtask(app: &App, parameters: &Parameters) -> Result<SubtaskView, Failure> {
    let index = parameters.subtask()?;
    let vertex = app.api.vertex(parameters.job()?, parameters.vertex()?).await?;
    let found = vertex.subtasks.into_iter().find(|subtask| subtask.subtask == index.0);
    found.ok_or_else(|| Failure::not_found(format!("Invalid subtask index for vertex {}: {index}", vertex.id)))
}
