//! How requests are read and answers are written: ids of 32 hex digits, JSON bodies, errors as `{"errors":["…"]}` with
//! Flink's status codes. Used by all routes.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, Query, RawPathParams};
use axum::http::{HeaderValue, StatusCode, header, request::Parts};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use millstream_actors::view::operation::TriggerId;
use millstream_runtime::ids::{CheckpointId, JobId, SubtaskIndex, VertexId};

use crate::api::ApiError;

/// The content type of Flink's answers.
const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=UTF-8");

/// An answer that is not the one asked for.
#[derive(Debug)]
pub struct Failure {
    status: StatusCode,
    message: String,
}

/// What a route gives back.
pub(crate) type Outcome = Result<Response, Failure>;

impl Failure {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        let status = match error {
            ApiError::NotFound(_) => StatusCode::NOT_FOUND,
            ApiError::BadRequest(_) => StatusCode::BAD_REQUEST,
            ApiError::Conflict(_) => StatusCode::CONFLICT,
            ApiError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            ApiError::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Errors {
            errors: [String; 1],
        }
        if self.status.is_server_error() {
            tracing::warn!(status = self.status.as_u16(), message = %self.message, "REST request failed");
        }
        write(self.status, &Errors { errors: [self.message] })
    }
}

/// An answer with status 200.
pub(crate) fn ok(body: &impl Serialize) -> Outcome {
    Ok(write(StatusCode::OK, body))
}

/// An answer with status 202.
pub(crate) fn accepted(body: &impl Serialize) -> Outcome {
    Ok(write(StatusCode::ACCEPTED, body))
}

/// The empty object.
#[derive(Serialize)]
pub(crate) struct Empty {}

fn write(status: StatusCode, body: &impl Serialize) -> Response {
    let (status, bytes) = match serde_json::to_vec(body) {
        Ok(bytes) => (status, bytes),
        Err(error) => {
            tracing::error!(%error, "a REST answer could not be written");
            (StatusCode::INTERNAL_SERVER_ERROR, br#"{"errors":["the answer could not be written"]}"#.to_vec())
        }
    };
    (status, [(header::CONTENT_TYPE, JSON)], Body::from(bytes)).into_response()
}

/// Reads a JSON body; an empty one is the default.
pub(crate) fn read<T: DeserializeOwned + Default>(body: &Bytes) -> Result<T, Failure> {
    if body.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(body)
        .map_err(|error| Failure::bad_request(format!("Request did not match expected format: {error}.")))
}

/// The parameters of a request, in its path and in its query.
#[derive(Debug)]
pub struct Parameters {
    path: BTreeMap<String, String>,
    query: BTreeMap<String, String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let unreadable =
            |what: &dyn Display| Failure::bad_request(format!("Bad request, could not parse parameters: {what}"));
        let path = RawPathParams::from_request_parts(parts, state).await.map_err(|error| unreadable(&error))?;
        let Query(query) = Query::try_from_uri(&parts.uri).map_err(|error| unreadable(&error))?;
        let path = path.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Ok(Self { path, query })
    }
}

impl Parameters {
    /// A parameter of the path, as text.
    pub(crate) fn text(&self, name: &'static str) -> &str {
        self.path.get(name).map_or("", String::as_str)
    }

    fn parsed<T: FromStr>(&self, name: &'static str) -> Result<T, Failure> {
        let value = self.text(name);
        value.parse().map_err(|_| {
            Failure::bad_request(format!(
                "Bad request, could not parse parameters: Cannot resolve path parameter ({name}) from value \"{value}\"."
            ))
        })
    }

    pub(crate) fn job(&self) -> Result<JobId, Failure> {
        self.parsed("jobid")
    }

    pub(crate) fn vertex(&self) -> Result<VertexId, Failure> {
        self.parsed("vertexid")
    }

    pub(crate) fn trigger(&self) -> Result<TriggerId, Failure> {
        self.parsed("triggerid")
    }

    pub(crate) fn checkpoint(&self) -> Result<CheckpointId, Failure> {
        self.parsed("checkpointid").map(CheckpointId)
    }

    pub(crate) fn subtask(&self) -> Result<SubtaskIndex, Failure> {
        self.parsed("subtaskindex").map(SubtaskIndex)
    }

    pub(crate) fn attempt(&self) -> Result<u32, Failure> {
        self.parsed("attempt")
    }

    /// A parameter of the query, as text.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// A whole number in the query.
    pub(crate) fn number(&self, name: &'static str) -> Result<Option<usize>, Failure> {
        self.query(name).map(str::parse).transpose().map_err(|_| Self::bad_query(name, self.query(name).unwrap_or("")))
    }

    /// `true` or `false` in the query.
    pub(crate) fn truth(&self, name: &'static str) -> Result<Option<bool>, Failure> {
        self.query(name).map(str::parse).transpose().map_err(|_| Self::bad_query(name, self.query(name).unwrap_or("")))
    }

    /// A list in the query, separated by commas; nothing if the parameter is absent.
    pub(crate) fn list(&self, name: &str) -> Option<Vec<&str>> {
        self.query(name).map(|list| list.split(',').filter(|item| !item.is_empty()).collect())
    }

    pub(crate) fn bad_query(name: &str, value: &str) -> Failure {
        Failure::bad_request(format!(
            "Bad request, could not parse parameters: Cannot resolve query parameter ({name}) from value \"{value}\"."
        ))
    }
}
