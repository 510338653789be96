//! Requests to a server and their answers as text: follows redirections to the leader, and asks again while there is none.
//! Used by [`Client`](super::Client) only.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use serde::Deserialize;
use ureq::http::{Response, header};
use ureq::{Agent, Body, Timeout};

use super::error::Error;

/// A server on this network answers within that or not at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// No single answer takes longer: operations are asked for, not waited for.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest answer that is read; a job of thousands of vertices stays below.
const MAX_BODY_BYTES: u64 = 64 << 20;

/// Servers that send a request on; each knows one leader, so two are enough but while the leader changes.
const MAX_REDIRECTS: u32 = 5;

/// Pause before a leader is asked for again.
const LEADER_PAUSE: Duration = Duration::from_millis(100);

/// How long a client goes on asking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Patience {
    /// While a server answers that there is no leader, or tells one that is gone.
    pub leader: Duration,
    /// While no server answers at all.
    pub server: Duration,
}

/// One server.
#[derive(Clone, Debug)]
pub struct Rest {
    url: String,
    agent: Agent,
    patience: Patience,
}

/// A request.
#[derive(Clone, Copy)]
enum Asked<'a> {
    Get,
    Post(&'a str),
    Put(&'a str),
    Patch,
}

/// Why a request was not carried out.
enum Failed {
    /// It reached no server.
    NoServer(Error),
    /// It reached a server that knows no leader, or one that is gone.
    NoLeader(Error),
    /// Asking again changes nothing, or may do it twice.
    For(Error),
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
            // Followed here, since a body is to be sent again.
            .max_redirects(0)
            // On a connection that was used before it would not be known whether a request has been received.
            .max_idle_connections(0)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(ANSWER_TIMEOUT))
            .build()
            .into();
        Self { url: format!("http://{host}:{port}"), agent, patience: Patience::default() }
    }

    pub(super) fn set_patience(&mut self, patience: Patience) {
        self.patience = patience;
    }

    pub(super) fn get(&self, path: &str) -> Result<String, Error> {
        self.ask(Asked::Get, path)
    }

    pub(super) fn post(&self, path: &str, body: &str) -> Result<String, Error> {
        self.ask(Asked::Post(body), path)
    }

    pub(super) fn put(&self, path: &str, body: &str) -> Result<String, Error> {
        self.ask(Asked::Put(body), path)
    }

    pub(super) fn patch(&self, path: &str) -> Result<String, Error> {
        self.ask(Asked::Patch, path)
    }

    pub(super) fn unexpected(&self, reason: &str) -> Error {
        Error::Unexpected { url: self.url.clone(), reason: reason.to_string() }
    }

    fn ask(&self, asked: Asked<'_>, path: &str) -> Result<String, Error> {
        let start = now();
        loop {
            let (error, patience) = match self.attempt(asked, path) {
                Ok(body) => return Ok(body),
                Err(Failed::For(error)) => return Err(error),
                Err(Failed::NoServer(error)) => (error, self.patience.server),
                Err(Failed::NoLeader(error)) => (error, self.patience.leader),
            };
            if start.elapsed() >= patience {
                return Err(error);
            }
            pause(LEADER_PAUSE);
        }
    }

    /// Asks once, wherever servers send it.
    fn attempt(&self, asked: Asked<'_>, path: &str) -> Result<String, Failed> {
        let mut url = format!("{}/v1{path}", self.url);
        for hop in 0..=MAX_REDIRECTS {
            let answer = match asked {
                Asked::Get => self.agent.get(&url).call(),
                Asked::Post(body) => self.agent.post(&url).content_type("application/json").send(body),
                Asked::Put(body) => self.agent.put(&url).content_type("application/json").send(body),
                Asked::Patch => self.agent.patch(&url).send_empty(),
            };
            let answer = answer.map_err(|error| self.unanswered(asked, hop, &error))?;
            if !answer.status().is_redirection() {
                return self.answer(asked, hop, answer);
            }
            url = self.elsewhere(&answer)?;
        }
        Err(Failed::NoLeader(self.unexpected(&format!("a request was sent on more than {MAX_REDIRECTS} times"))))
    }

    fn elsewhere(&self, answer: &Response<Body>) -> Result<String, Failed> {
        let location = answer.headers().get(header::LOCATION).and_then(|location| location.to_str().ok());
        match location.filter(|location| location.starts_with("http://")) {
            Some(location) => Ok(location.to_string()),
            None => {
                let status = answer.status();
                Err(Failed::For(self.unexpected(&format!("status {status} without a place to go on"))))
            }
        }
    }

    fn answer(&self, asked: Asked<'_>, hop: u32, mut answer: Response<Body>) -> Result<String, Failed> {
        let status = answer.status();
        let body = answer.body_mut().with_config().limit(MAX_BODY_BYTES).read_to_string();
        let body = body.map_err(|error| self.unanswered(asked, hop, &error))?;
        if status.is_success() {
            return Ok(body);
        }
        #[derive(Deserialize)]
        struct Errors {
            errors: Vec<String>,
        }
        match serde_json::from_str::<Errors>(&body) {
            Ok(Errors { errors }) => {
                let refused = Error::Refused { status: status.as_u16(), message: errors.join("\n") };
                Err(if status.as_u16() == 503 { Failed::NoLeader(refused) } else { Failed::For(refused) })
            }
            Err(_) => Err(Failed::For(self.unexpected(&format!("status {status} without a list of errors")))),
        }
    }

    fn unanswered(&self, asked: Asked<'_>, hop: u32, error: &ureq::Error) -> Failed {
        let (url, reason) = (self.url.clone(), error.to_string());
        if let ureq::Error::Protocol(_) | ureq::Error::BodyExceedsLimit(_) | ureq::Error::LargeResponseHeader(..) =
            error
        {
            return Failed::For(self.unexpected(&reason));
        }
        // Only what was certainly not received, or changes nothing, may be asked for again.
        if !matches!(asked, Asked::Get) && !was_not_sent(error) {
            return Failed::For(Error::Unanswered { url, reason });
        }
        let error = Error::NotReachable { url, reason };
        if hop == 0 { Failed::NoServer(error) } else { Failed::NoLeader(error) }
    }
}

fn was_not_sent(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Io(error) => matches!(
            error.kind(),
            ErrorKind::ConnectionRefused
                | ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable
                | ErrorKind::AddrNotAvailable
        ),
        ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect)
        | ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::BadUri(_) => true,
        _ => false,
    }
}

/// Waits before the next question.
#[expect(clippy::disallowed_methods, reason = "a command has nothing else to do, and nothing of it is replayed")]
pub(super) fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

#[expect(clippy::disallowed_methods, reason = "how long a person waits; nothing of it is replayed")]
fn now() -> Instant {
    Instant::now()
}
