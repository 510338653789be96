//! Checkpoint, savepoint, stop: answered at once with a trigger id, then asked for until completed. And cancel.

use axum::body::Bytes;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use millstream_actors::view::operation::{FailureCause, OperationResult, OperationStatus, StatusName, TriggerId};
use millstream_runtime::ids::JobId;

use super::App;
use crate::api::{Answer, CheckpointKind, ClusterApi};
use crate::exchange::{Empty, Failure, Outcome, Parameters, accepted, ok, read};
use crate::operations::Kind;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct CheckpointRequest {
    #[serde(rename = "checkpointType")]
    checkpoint_type: Option<CheckpointKind>,
    #[serde(rename = "triggerId")]
    trigger_id: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SavepointRequest {
    #[serde(rename = "target-directory")]
    target_directory: Option<String>,
    #[serde(rename = "cancel-job")]
    cancel_job: Option<bool>,
    #[serde(rename = "formatType")]
    _format_type: Option<FormatType>,
    #[serde(rename = "triggerId")]
    trigger_id: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct StopRequest {
    target_directory: Option<String>,
    drain: Option<bool>,
    #[serde(rename = "formatType")]
    _format_type: Option<FormatType>,
    trigger_id: Option<String>,
}

/// There is one format: self-contained and independent of the state backend. Both names are accepted.
#[derive(Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum FormatType {
    Canonical,
    Native,
}

pub(super) async fn checkpoint(app: App, parameters: Parameters, body: Bytes) -> Outcome {
    let request: CheckpointRequest = read(&body)?;
    let kind = request.checkpoint_type.unwrap_or_default();
    start(&app, &parameters, Kind::Checkpoint, request.trigger_id, move |api, job| {
        Box::pin(async move {
            let checkpoint_id = api.trigger_checkpoint(job, kind).await?.0;
            Ok(OperationResult::Checkpoint { checkpoint_id })
        })
    })
    .await
}

pub(super) async fn savepoint(app: App, parameters: Parameters, body: Bytes) -> Outcome {
    let request: SavepointRequest = read(&body)?;
    let (folder, cancel) = (request.target_directory, request.cancel_job.unwrap_or(false));
    start(&app, &parameters, Kind::Savepoint, request.trigger_id, move |api, job| {
        Box::pin(async move {
            let location = api.trigger_savepoint(job, folder, cancel).await?;
            Ok(OperationResult::Savepoint { location })
        })
    })
    .await
}

pub(super) async fn stop(app: App, parameters: Parameters, body: Bytes) -> Outcome {
    let request: StopRequest = read(&body)?;
    let (folder, drain) = (request.target_directory, request.drain.unwrap_or(false));
    start(&app, &parameters, Kind::Savepoint, request.trigger_id, move |api, job| {
        Box::pin(async move {
            let location = api.stop(job, folder, drain).await?;
            Ok(OperationResult::Savepoint { location })
        })
    })
    .await
}

async fn start<W>(app: &App, parameters: &Parameters, kind: Kind, trigger: Option<String>, work: W) -> Outcome
where
    W: for<'a> FnOnce(&'a dyn ClusterApi, JobId) -> Answer<'a, OperationResult> + Send + 'static,
{
    #[derive(Serialize)]
    #[serde(rename_all = "kebab-case")]
    struct Started {
        request_id: String,
    }
    let job = parameters.job()?;
    let trigger = match trigger {
        None => app.api.fresh_id(),
        Some(text) => text.parse::<TriggerId>().map_err(Failure::bad_request)?,
    };
    app.api.job_status(job).await?;
    let api = app.api.clone();
    app.operations.start(job, kind, trigger, async move { work(api.as_ref(), job).await })?;
    accepted(&Started { request_id: trigger.to_string() })
}

pub(super) async fn checkpoint_status(app: App, parameters: Parameters) -> Outcome {
    status(&app, &parameters, Kind::Checkpoint).await
}

pub(super) async fn savepoint_status(app: App, parameters: Parameters) -> Outcome {
    status(&app, &parameters, Kind::Savepoint).await
}

async fn status(app: &App, parameters: &Parameters, kind: Kind) -> Outcome {
    #[derive(Serialize)]
    struct Status {
        status: Id,
        operation: Option<Operation>,
    }
    #[derive(Serialize)]
    struct Id {
        id: StatusName,
    }
    #[derive(Serialize)]
    #[serde(untagged)]
    enum Operation {
        Result(OperationResult),
        Failure {
            #[serde(rename = "failure-cause")]
            cause: FailureCause,
        },
    }
    let (job, trigger) = (parameters.job()?, parameters.trigger()?);
    let Some(status) = app.operations.status(job, kind, trigger) else {
        return Err(Failure::not_found(format!("Operation not found under key: {trigger} of job {job}")));
    };
    let id = Id { id: status.name() };
    let operation = match status {
        OperationStatus::Queued | OperationStatus::InProgress => None,
        OperationStatus::Completed(result) => Some(Operation::Result(result)),
        OperationStatus::Failed(cause) => Some(Operation::Failure { cause }),
    };
    ok(&Status { status: id, operation })
}

pub(super) async fn cancel(app: App, parameters: Parameters) -> Outcome {
    let job = parameters.job()?;
    match parameters.query("mode").unwrap_or("cancel").to_ascii_lowercase().as_str() {
        "cancel" => {}
        "stop" => {
            let advice = "The termination mode \"stop\" has been removed. For an ungraceful shutdown, please use \
                          \"cancel\" instead. For a graceful shutdown, please use \"jobs/:jobid/stop\" instead.";
            return Err(Failure::new(StatusCode::PERMANENT_REDIRECT, advice));
        }
        mode => return Err(Parameters::bad_query("mode", mode)),
    }
    app.api.cancel(job).await?;
    accepted(&Empty {})
}
