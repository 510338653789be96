//! A proxy before an S3 server that has whatever trouble a test wants: it delays, refuses, or answers 503.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the store has just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    None,
    /// Every answer takes so long.
    Slow(Duration),
    /// Every request is answered by 503, as S3 does when it is asked too much.
    Unavailable,
    /// Connections are closed unread.
    Away,
}

/// It lives as long as the process of the test.
pub struct Proxy {
    port: u16,
    trouble: Arc<Mutex<Trouble>>,
}

impl Proxy {
    /// Before the server at this port of this machine.
    pub fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("bound").port();
        let trouble = Arc::new(Mutex::new(Trouble::None));
        let read = Arc::clone(&trouble);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let read = Arc::clone(&read);
                // A client that goes away is no error.
                std::thread::spawn(move || drop(serve(client, server, &read)));
            }
        });
        Self { port, trouble }
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn set(&self, trouble: Trouble) {
        *self.trouble.lock().expect("no panic") = trouble;
    }
}

/// One request and its answer.
fn serve(mut client: TcpStream, server: u16, trouble: &Mutex<Trouble>) -> io::Result<()> {
    let now = || *trouble.lock().expect("no panic");
    if now() == Trouble::Away {
        return Ok(());
    }
    let Some(request) = read_request(&mut client)? else { return Ok(()) };
    match now() {
        Trouble::Away => return Ok(()),
        Trouble::Unavailable => {
            let body = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
            let length = body.len();
            write!(
                client,
                "HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            )?;
            return client.shutdown(Shutdown::Write);
        }
        Trouble::Slow(delay) => std::thread::sleep(delay),
        Trouble::None => {}
    }
    let mut upstream = TcpStream::connect(("127.0.0.1", server))?;
    upstream.write_all(&request)?;
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer)?;
    client.write_all(&answer)?;
    client.shutdown(Shutdown::Write)
}

/// Head and body of a request that asks for the connection to be closed behind the answer.
fn read_request(client: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 64 << 10];
    loop {
        let read = client.read(&mut chunk)?;
        if read == 0 {
            return Ok(None);
        }
        bytes.extend_from_slice(&chunk[..read]);
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().expect("a number"))
        });
        let mut body = bytes.split_off(end + 4);
        let have = body.len();
        body.resize(length.unwrap_or(0).max(have), 0);
        client.read_exact(&mut body[have..])?;
        let kept = head.lines().filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
        let mut request: Vec<u8> = kept.flat_map(|line| [line, "\r\n"]).collect::<String>().into_bytes();
        request.extend_from_slice(b"Connection: close\r\n\r\n");
        request.extend(body);
        return Ok(Some(request));
    }
}
