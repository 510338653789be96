//! Requests to the server and their answers as text. Used by [`Client`](super::Client) only.

use std::time::Duration;

use serde::Deserialize;
use ureq::http::Response;
use ureq::{Agent, Body};

use super::error::Error;

/// A server on this network answers within that or not at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// No single answer takes longer: operations are asked for, not waited for.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest answer that is read; a job of thousands of vertices stays below.
const MAX_BODY_BYTES: u64 = 64 << 20;

/// One server.
#[derive(Debug)]
pub struct Rest {
    url: String,
    agent: Agent,
}

impl Rest {
    /// The server at this address and port.
    pub(super) fn new(address: &str, port: u16) -> Self {
        // An IPv6 address needs brackets in a URL.
        let host = if address.contains(':') { format!("[{address}]") } else { address.to_string() };
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            // A proxy from the environment is for the outside world, not for the cluster.
            .proxy(None)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(ANSWER_TIMEOUT))
            .build()
            .into();
        Self { url: format!("http://{host}:{port}"), agent }
    }

    pub(super) fn get(&self, path: &str) -> Result<String, Error> {
        self.answer(self.agent.get(self.to(path)).call())
    }

    pub(super) fn post(&self, path: &str, body: &str) -> Result<String, Error> {
        self.answer(self.agent.post(self.to(path)).content_type("application/json").send(body))
    }

    pub(super) fn patch(&self, path: &str) -> Result<String, Error> {
        self.answer(self.agent.patch(self.to(path)).send_empty())
    }

    pub(super) fn unexpected(&self, reason: &str) -> Error {
        Error::Unexpected { url: self.url.clone(), reason: reason.to_string() }
    }

    fn to(&self, path: &str) -> String {
        format!("{}/v1{path}", self.url)
    }

    fn answer(&self, answer: Result<Response<Body>, ureq::Error>) -> Result<String, Error> {
        let mut answer = answer.map_err(|error| self.unanswered(&error))?;
        let status = answer.status();
        let body = answer.body_mut().with_config().limit(MAX_BODY_BYTES).read_to_string();
        let body = body.map_err(|error| self.unanswered(&error))?;
        if status.is_success() {
            return Ok(body);
        }
        #[derive(Deserialize)]
        struct Errors {
            errors: Vec<String>,
        }
        match serde_json::from_str::<Errors>(&body) {
            Ok(Errors { errors }) => Err(Error::Refused { status: status.as_u16(), message: errors.join("\n") }),
            Err(_) => Err(self.unexpected(&format!("status {status} without a list of errors"))),
        }
    }

    fn unanswered(&self, error: &ureq::Error) -> Error {
        match error {
            ureq::Error::Protocol(_) | ureq::Error::BodyExceedsLimit(_) | ureq::Error::LargeResponseHeader(..) => {
                self.unexpected(&error.to_string())
            }
            _ => Error::NotReachable { url: self.url.clone(), reason: error.to_string() },
        }
    }
}

/// Waits before the next question.
#[expect(clippy::disallowed_methods, reason = "a command has nothing else to do, and nothing of it is replayed")]
pub(super) fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
