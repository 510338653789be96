//! The jobs that are compiled into the program, under Flink's paths for uploaded jars, and their submission.

use std::collections::BTreeMap;

use axum::body::Bytes;
use serde::{Deserialize, Deserializer, Serialize};

use super::App;
use crate::api::{Program, RunRequest};
use crate::exchange::{Failure, Outcome, Parameters, ok, read};

pub(super) async fn list(app: App) -> Outcome {
    #[derive(Serialize)]
    struct Jars {
        address: String,
        files: Vec<File>,
    }
    #[derive(Serialize)]
    struct File {
        id: String,
        name: String,
        uploaded: i64,
        entry: [Entry; 1],
    }
    #[derive(Serialize)]
    struct Entry {
        name: String,
        description: Option<String>,
    }
    let file = |Program { name, about, available_since_ms }: Program| File {
        id: name.clone(),
        name: name.clone(),
        uploaded: available_since_ms,
        entry: [Entry { name, description: Some(about).filter(|about| !about.is_empty()) }],
    };
    let files = app.api.programs().await?.into_iter().map(file).collect();
    ok(&Jars { address: format!("http://{}", app.address), files })
}

/// What Flink's clients send, and with `artefact` the digest of the executable that a client of ours is.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct Body {
    entry_class: Option<String>,
    program_args_list: Option<Vec<String>>,
    parallelism: Option<u32>,
    job_id: Option<String>,
    allow_non_restored_state: Option<bool>,
    savepoint_path: Option<String>,
    claim_mode: Option<String>,
    restore_mode: Option<String>,
    flink_configuration: Option<BTreeMap<String, Text>>,
    artefact: Option<String>,
}

/// A value of the configuration: text, or a number or truth value as JSON writes it.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => Ok(Self(text)),
            value @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_)) => Ok(Self(value.to_string())),
            value => Err(serde::de::Error::custom(format!("{value} is no value of a key of the configuration"))),
        }
    }
}

pub(super) async fn run(app: App, parameters: Parameters, body: Bytes) -> Outcome {
    #[derive(Serialize)]
    struct Submitted {
        jobid: String,
    }
    let name = parameters.text("jarid");
    let request = request(name, read(&body)?, &parameters)?;
    let job = app.api.run_program(name, request).await?;
    ok(&Submitted { jobid: job.to_string() })
}

/// The body wins over the query, as in Flink.
fn request(name: &str, body: Body, parameters: &Parameters) -> Result<RunRequest, Failure> {
    if let Some(entry) = body.entry_class.as_deref().or(parameters.query("entry-class")).filter(|entry| *entry != name)
    {
        return Err(Failure::bad_request(format!(
            "{name} has one entry, which has its name: it is not {entry}; leave entryClass out"
        )));
    }
    if let Some(id) = body.job_id {
        return Err(Failure::bad_request(format!("the cluster chooses the id of a job: leave jobId {id} out")));
    }
    if let Some(mode) = body.claim_mode.or(body.restore_mode).filter(|mode| !mode.eq_ignore_ascii_case("NO_CLAIM")) {
        return Err(Failure::bad_request(format!(
            "a savepoint stays its owner's, which Flink calls claim mode NO_CLAIM; there is no {mode}"
        )));
    }
    let parallelism = match body.parallelism {
        None => parameters.number("parallelism")?.map(u32::try_from).transpose().map_err(too_large)?,
        given => given,
    };
    if parallelism == Some(0) {
        return Err(Failure::bad_request("the parallelism must be 1 at least"));
    }
    let arguments = body
        .program_args_list
        .or_else(|| parameters.list("programArg").map(|arguments| arguments.into_iter().map(str::to_string).collect()));
    Ok(RunRequest {
        arguments: arguments.unwrap_or_default(),
        parallelism,
        savepoint: body.savepoint_path.or_else(|| parameters.query("savepointPath").map(str::to_string)),
        allow_non_restored_state: match body.allow_non_restored_state {
            None => parameters.truth("allowNonRestoredState")?.unwrap_or(false),
            Some(given) => given,
        },
        configuration: body
            .flink_configuration
            .unwrap_or_default()
            .into_iter()
            .map(|(key, Text(value))| (key, value))
            .collect(),
        artefact: body.artefact,
    })
}

fn too_large(_: std::num::TryFromIntError) -> Failure {
    Failure::bad_request("the parallelism is too large")
}
