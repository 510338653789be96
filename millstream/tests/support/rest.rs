//! Asks the REST server of a running program. An answer that does not come is no error: the program may be starting, or
//! have been killed.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Where the server of one run listens.
pub struct Rest {
    host: Ipv4Addr,
    /// Its port there.
    pub port: u16,
}

impl Rest {
    /// A port that is free now.
    pub fn on_free_port() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        Self::at(Ipv4Addr::LOCALHOST, listener.local_addr().expect("a bound port").port())
    }

    /// A server elsewhere.
    pub fn at(host: Ipv4Addr, port: u16) -> Self {
        Self { host, port }
    }

    /// Id of the running job.
    pub fn running_job(&self) -> Option<String> {
        let jobs = self.get("/jobs")?;
        let running = jobs["jobs"].as_array()?.iter().find(|job| job["status"] == "RUNNING")?;
        running["id"].as_str().map(str::to_string)
    }

    /// How many checkpoints the job has completed, and how many it was restored from, since this process began.
    pub fn checkpoints(&self, job: &str) -> Option<(u64, u64)> {
        let counts = &self.get(&format!("/jobs/{job}/checkpoints"))?["counts"];
        Some((counts["completed"].as_u64()?, counts["restored"].as_u64()?))
    }

    /// The answer for a path, if it is one of success.
    pub fn get(&self, path: &str) -> Option<Value> {
        serde_json::from_str(&self.ask("GET", path, "")?).ok()
    }

    /// The same of an answer that is no JSON.
    pub fn text(&self, path: &str) -> Option<String> {
        self.ask("GET", path, "")
    }

    /// The answer to a body, if it is one of success.
    pub fn post(&self, path: &str, body: &Value) -> Option<Value> {
        serde_json::from_str(&self.ask("POST", path, &body.to_string())?).ok()
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Option<String> {
        let address = SocketAddr::from((self.host, self.port));
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        // Version 1.0, so that the answer is neither chunked nor kept open.
        let length = body.len();
        let head =
            format!("{method} {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {length}");
        write!(stream, "{head}\r\n\r\n{body}").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        (head.split(' ').nth(1) == Some("200")).then(|| body.to_string())
    }
}
