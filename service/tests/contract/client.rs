//! A client of a few lines, and the server under test.

use std::sync::Arc;
use std::time::Duration;

use millstream_service::{Leading, Server};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::fake::FakeCluster;

pub struct Response {
    pub status: u16,
    pub content_type: String,
    pub location: String,
    pub text: String,
}

impl Response {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The names of the fields of an object.
    pub fn fields(&self) -> Vec<String> {
        fields(&self.json())
    }

    pub fn assert_error(&self, status: u16, message: &str) {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.content_type, "application/json; charset=UTF-8");
        assert_eq!(self.fields(), ["errors"]);
        assert_eq!(self.json()["errors"].as_array().map(Vec::len), Some(1));
        let said = self.json()["errors"][0].as_str().unwrap().to_string();
        assert!(said.contains(message), "{said}");
    }
}

pub fn fields(value: &Value) -> Vec<String> {
    let mut names: Vec<String> = value.as_object().expect("an object").keys().cloned().collect();
    names.sort();
    names
}

pub struct Rest {
    server: Server,
    pub cluster: Arc<FakeCluster>,
}

impl Rest {
    pub async fn start() -> Self {
        let cluster = Arc::new(FakeCluster::default());
        let server = Server::start("127.0.0.1", 0, cluster.clone()).await.expect("a free port");
        Self { server, cluster }
    }

    /// A server whose cluster may be led by another one.
    pub async fn follow(leading: watch::Receiver<Leading>) -> Self {
        let server = Server::follow("127.0.0.1", 0, leading).await.expect("a free port");
        Self { server, cluster: Arc::default() }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.server.local_address())
    }

    pub async fn get(&self, path: &str) -> Response {
        self.request("GET", path, "").await
    }

    /// The body of a successful GET, the same with and without `/v1`.
    pub async fn ok(&self, path: &str) -> Value {
        let plain = self.get(path).await;
        let versioned = self.get(&format!("/v1{path}")).await;
        assert_eq!(plain.status, 200, "{path}: {}", plain.text);
        assert_eq!(plain.content_type, "application/json; charset=UTF-8", "{path}");
        assert_eq!((plain.status, &plain.text), (versioned.status, &versioned.text), "{path}");
        plain.json()
    }

    pub async fn post(&self, path: &str, body: &str) -> Response {
        self.request("POST", path, body).await
    }

    pub async fn request(&self, method: &str, path: &str, body: &str) -> Response {
        let address = self.server.local_address();
        let mut stream = TcpStream::connect(address).await.expect("the server listens");
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.expect("the server reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("the server answers");
        let (head, text) = answer.split_once("\r\n\r\n").expect("a header and a body");
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
        let headers: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(':')).collect();
        let header = |wanted: &str| {
            let found = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.map(|(_, value)| value.trim().to_string()).unwrap_or_default()
        };
        let (content_type, location) = (header("content-type"), header("location"));
        Response { status: status.expect("a status"), content_type, location, text: text.to_string() }
    }

    pub async fn shutdown(self, grace: Duration) {
        self.server.shutdown(grace).await;
    }
}
