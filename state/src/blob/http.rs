//! HTTP for object stores over a blocking client. A call is over when it returns, on the thread of the blocking executor
//! that made it, so no runtime has to drive it. Requests that may be repeated are, with growing pauses; conditional ones
//! never: whoever made them reads what became of them.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::BodyExt;
use object_store::client::{
    ClientOptions, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use ureq::http::header::{IF_MATCH, IF_NONE_MATCH};
use ureq::http::request::Parts;
use ureq::http::{Method, Request, Response, StatusCode};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Timeout};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// From the end of the request to the first line of the answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// For a body in either direction: a part of 32 MiB at 3 Mbit/s.
const BODY_TIMEOUT: Duration = Duration::from_secs(90);

/// How often a request is tried, and how long the pauses are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// Tries in all, at least 1.
    pub attempts: u32,
    /// Pause before the second try; each further one is twice as long, and up to half as long again by chance.
    pub first_pause: Duration,
    /// Longest pause.
    pub longest_pause: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self { attempts: 6, first_pause: Duration::from_millis(100), longest_pause: Duration::from_secs(3) }
    }
}

/// Makes the clients of a store: one for its requests, others for where its credentials come from.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    retries: Retries,
    /// Certificates that are trusted instead of those that the program brings along.
    authorities: Option<Vec<Certificate<'static>>>,
}

impl Connector {
    /// `authorities` is the text of a file with certificates.
    pub(super) fn new(retries: Retries, authorities: Option<&[u8]>) -> Result<Self, ureq::Error> {
        let authorities = authorities.map(|pem| {
            let items = parse_pem(pem).filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
                Ok(_) => None,
                Err(error) => Some(Err(error)),
            });
            items.collect::<Result<Vec<_>, _>>()
        });
        Ok(Self { retries, authorities: authorities.transpose()? })
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        let roots = match &self.authorities {
            Some(authorities) => RootCerts::new_with_certs(authorities),
            None => RootCerts::WebPki,
        };
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("millstream/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(CONNECT_TIMEOUT))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_send_body(Some(BODY_TIMEOUT))
            .timeout_recv_response(Some(ANSWER_TIMEOUT))
            .timeout_recv_body(Some(BODY_TIMEOUT))
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .build();
        Ok(HttpClient::new(Blocking { agent: agent.into(), retries: self.retries }))
    }
}

#[derive(Debug)]
struct Blocking {
    agent: Agent,
    retries: Retries,
}

#[async_trait]
impl HttpService for Blocking {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        // The body is in memory: this is ready at once, and copies nothing if it is one piece.
        let body = body.collect().await?.to_bytes();
        self.send(&parts, &body)
    }
}

impl Blocking {
    fn send(&self, parts: &Parts, body: &Bytes) -> Result<HttpResponse, HttpError> {
        let is_conditional = [IF_NONE_MATCH, IF_MATCH].iter().any(|header| parts.headers.contains_key(header));
        let attempts = if is_conditional { 1 } else { self.retries.attempts };
        let mut pause = self.retries.first_pause;
        // Subtasks that failed together must not come back together.
        let spread = f64::from(crc32fast::hash(parts.uri.path().as_bytes()) % 1_000) / 2_000.0;
        for _ in 1..attempts {
            let outcome = self.send_once(parts, body);
            let may_pass = match &outcome {
                Ok(response) => status_may_pass(response.status()),
                Err(error) => error_may_pass(error.kind()),
            };
            if !may_pass {
                return outcome;
            }
            wait(pause.mul_f64(1.0 + spread));
            pause = (pause * 2).min(self.retries.longest_pause);
        }
        self.send_once(parts, body)
    }

    fn send_once(&self, parts: &Parts, body: &Bytes) -> Result<HttpResponse, HttpError> {
        let mut request = Request::new(());
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = parts.uri.clone();
        *request.headers_mut() = parts.headers.clone();
        let answer = if matches!(parts.method, Method::PUT | Method::POST) {
            self.agent.run(request.map(|()| body.as_ref()))
        } else {
            self.agent.run(request)
        };
        let (parts, body) = answer.map_err(failed)?.into_parts();
        let body = body.into_with_config().limit(u64::MAX).read_to_vec().map_err(failed)?;
        Ok(Response::from_parts(parts, body.into()))
    }
}

fn wait(pause: Duration) {
    #[expect(
        clippy::disallowed_methods,
        reason = "on a thread of the blocking executor, for a server in the real world"
    )]
    std::thread::sleep(pause);
}

/// A conflict of two plain writes passes; one of conditional writes never gets here.
fn status_may_pass(status: StatusCode) -> bool {
    status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
        || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT)
}

fn error_may_pass(kind: HttpErrorKind) -> bool {
    matches!(
        kind,
        HttpErrorKind::Connect | HttpErrorKind::Request | HttpErrorKind::Timeout | HttpErrorKind::Interrupted
    )
}

fn failed(error: ureq::Error) -> HttpError {
    use std::io::ErrorKind as Io;
    let kind = match &error {
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => HttpErrorKind::Connect,
        ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect) => HttpErrorKind::Connect,
        ureq::Error::Timeout(_) => HttpErrorKind::Timeout,
        ureq::Error::Io(error) => match error.kind() {
            Io::ConnectionRefused | Io::HostUnreachable | Io::NetworkUnreachable => HttpErrorKind::Connect,
            Io::TimedOut | Io::WouldBlock => HttpErrorKind::Timeout,
            // A certificate that is not trusted does not become so.
            Io::InvalidData | Io::InvalidInput => HttpErrorKind::Unknown,
            _ => HttpErrorKind::Interrupted,
        },
        ureq::Error::Protocol(_) => HttpErrorKind::Request,
        _ => HttpErrorKind::Unknown,
    };
    HttpError::new(kind, error)
}
