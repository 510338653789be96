//! A real S3 API server on this machine for tests: moto's, from PyPI. Shared by the tests of `state` and of whole jobs.
//! Where it is not installed, `start` says so and answers nothing; `MILLSTREAM_REQUIRE_S3=1` makes that a failure.
// Not every test uses everything.
#![allow(dead_code)]

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use millstream_state::blob::{Location, Retries, S3Options, Stores};

/// Ends with its parent, however that ends: then its standard input is closed.
const PROGRAM: &str = "
import os, sys, threading
def watch():
    sys.stdin.read()
    os._exit(0)
threading.Thread(target=watch, daemon=True).start()
from moto.server import main
main(['-H', '127.0.0.1', '-p', sys.argv[1]])
";

/// A key that only this server knows.
#[derive(Clone, Debug)]
pub struct Credentials {
    pub id: String,
    pub secret: String,
}

/// A running server. Dropping it ends it.
pub struct S3Server {
    child: Child,
    port: u16,
    buckets: AtomicU32,
}

impl Drop for S3Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The one server that the tests of a binary share, each with buckets of its own.
pub fn shared() -> Option<&'static S3Server> {
    static SERVER: OnceLock<Option<S3Server>> = OnceLock::new();
    SERVER.get_or_init(start).as_ref()
}

/// A server of one's own: to stop it, or to have it check who asks.
pub fn start() -> Option<S3Server> {
    let Some(python) = python() else {
        let hint = "moto's server is not installed (.ci/run does it: python3 -m venv, pip install 'moto[server]')";
        assert!(std::env::var_os("MILLSTREAM_REQUIRE_S3").is_none(), "{hint}");
        // Past the capture of tests: a skipped test must not look like one that passed.
        drop(writeln!(std::io::stderr(), "skipped, as there is no S3 server: {hint}"));
        return None;
    };
    for _ in 0..5 {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let mut command = Command::new(&python);
        command.args(["-c", PROGRAM, &port.to_string()]).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("python starts");
        for _ in 0..600 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(S3Server { child, port, buckets: AtomicU32::new(0) });
            }
            if child.try_wait().expect("its state is known").is_some() {
                // Another process was quicker with the port.
                break;
            }
            pause(Duration::from_millis(50));
        }
        drop(child.kill());
        drop(child.wait());
    }
    panic!("moto's server does not start");
}

fn pause(time: Duration) {
    #[expect(clippy::disallowed_methods, reason = "another process starts")]
    std::thread::sleep(time);
}

/// A Python that has moto: the one that `.ci/run` prepares, or the system's.
fn python() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let prepared = cache.map(|cache| cache.join("millstream/python/bin/python"));
    let has_moto = |python: &PathBuf| {
        let find = "import importlib.util as u, sys; sys.exit(not (u.find_spec('moto') and u.find_spec('flask') and u.find_spec('flask_cors')))";
        let mut command = Command::new(python);
        command.args(["-c", find]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    [prepared, Some(PathBuf::from("python3"))].into_iter().flatten().find(has_moto)
}

/// Moto finds out by it which service is meant; it checks no signature until it is told to.
fn authorization(service: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=none"
    )
}

impl S3Server {
    /// Where it listens on this machine.
    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A new bucket.
    pub fn bucket(&self) -> String {
        let bucket = format!("bucket-{}-{}", std::process::id(), self.buckets.fetch_add(1, Ordering::Relaxed));
        let address = format!("{}/{bucket}", self.endpoint());
        ureq::put(&address).header("Authorization", authorization("s3")).send_empty().expect("the bucket is made");
        bucket
    }

    /// A place in a new bucket.
    pub fn location(&self, prefix: &str) -> Location {
        Location::S3 { bucket: self.bucket(), prefix: prefix.to_string() }
    }

    /// How clients reach this server; pauses between tries are short.
    pub fn options(&self) -> S3Options {
        self.options_of(&Credentials { id: "test".to_string(), secret: "test".to_string() })
    }

    pub fn options_of(&self, credentials: &Credentials) -> S3Options {
        S3Options {
            endpoint: Some(self.endpoint()),
            region: None,
            access_key: Some(credentials.id.clone()),
            secret_key: Some(credentials.secret.clone()),
            path_style: true,
            retries: Retries { attempts: 4, first_pause: Duration::from_millis(5), ..Retries::default() },
        }
    }

    pub fn stores(&self) -> Stores {
        Stores::new(self.options())
    }

    /// Makes a user with a policy, as IAM has them: the statement is JSON.
    pub fn user(&self, name: &str, statement: &str) -> Credentials {
        let document = format!(r#"{{"Version":"2012-10-17","Statement":{statement}}}"#);
        self.iam(&[("Action", "CreateUser"), ("UserName", name)]);
        let policy = [("Action", "PutUserPolicy"), ("UserName", name), ("PolicyName", "p")];
        self.iam(&[&policy[..], &[("PolicyDocument", document.as_str())]].concat());
        let answer = self.iam(&[("Action", "CreateAccessKey"), ("UserName", name)]);
        let field = |name: &str| {
            let (_, rest) = answer.split_once(&format!("<{name}>")).expect("the key is in the answer");
            rest.split_once('<').expect("the element ends").0.to_string()
        };
        Credentials { id: field("AccessKeyId"), secret: field("SecretAccessKey") }
    }

    fn iam(&self, form: &[(&str, &str)]) -> String {
        let request = ureq::post(self.endpoint()).header("Authorization", authorization("iam"));
        let form = form.iter().copied().chain([("Version", "2010-05-08")]);
        let mut answer = request.send_form(form).expect("IAM answers");
        answer.body_mut().read_to_string().expect("text")
    }

    /// From now on the server checks signatures and policies.
    pub fn check_permissions(&self) {
        ureq::post(format!("{}/moto-api/reset-auth", self.endpoint())).send("0").expect("moto answers");
    }
}
