//! A server that fails now and then: what may be repeated is, what may not is left to whoever asked. The server is a
//! script of answers, so that each case is exact.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use millstream_runtime::ports::store::{BlobStore, Created};
use millstream_state::blob::{Location, Retries, S3Options, Stores};

/// What the server does with a request.
#[derive(Clone, Copy)]
enum Answer {
    /// Answers with this status and body.
    Status(u16, &'static str),
    /// Closes the connection.
    HangUp,
}

use Answer::{HangUp, Status};

const CONFLICT: &str = "<Error><Code>ConditionalRequestConflict</Code><Message>At the same time</Message></Error>";
const DENIED: &str = "<Error><Code>AccessDenied</Code><Message>No</Message></Error>";
const SLOW_DOWN: &str = "<Error><Code>SlowDown</Code><Message>Reduce your request rate</Message></Error>";

/// Gives these answers in turn, one a connection; tells which requests it got.
fn server(answers: &'static [Answer]) -> (Stores, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (requests, received) = channel();
    #[expect(clippy::disallowed_methods, reason = "the other side of a connection")]
    thread::spawn(move || {
        for answer in answers {
            let (stream, _) = listener.accept().expect("a connection");
            let mut reader = BufReader::new(stream);
            let mut line = String::new();
            reader.read_line(&mut line).expect("a request line");
            let request = line.trim().to_string();
            let mut length = 0;
            loop {
                line.clear();
                reader.read_line(&mut line).expect("a header");
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().expect("a number");
                }
                if line.trim().is_empty() {
                    break;
                }
            }
            reader.read_exact(&mut vec![0; length]).expect("the body");
            drop(requests.send(request));
            let mut stream = reader.into_inner();
            if let Status(status, body) = answer {
                let length = body.len();
                let head =
                    format!("HTTP/1.1 {status} X\r\nETag: \"e\"\r\nLast-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n");
                write!(stream, "{head}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}").expect("is read");
            }
        }
    });
    let options = S3Options {
        endpoint: Some(format!("http://127.0.0.1:{port}")),
        access_key: Some("test".to_string()),
        secret_key: Some("test".to_string()),
        retries: Retries { attempts: 4, first_pause: Duration::from_millis(1), ..Retries::default() },
        ..S3Options::default()
    };
    (Stores::new(options), received)
}

fn open(stores: &Stores) -> std::sync::Arc<dyn BlobStore> {
    stores.open(&Location::parse("s3://bucket/p").expect("a location")).expect("opens")
}

#[test]
fn a_plain_write_is_repeated_until_it_succeeds() {
    let (stores, requests) = server(&[Status(503, SLOW_DOWN), HangUp, Status(409, CONFLICT), Status(200, "")]);
    open(&stores).put("a", &[b"1"]).expect("written in the end");
    assert_eq!(requests.try_iter().collect::<Vec<_>>(), ["PUT /bucket/p/a HTTP/1.1"; 4]);
}

#[test]
fn a_read_is_repeated_until_it_succeeds() {
    let (stores, requests) = server(&[HangUp, Status(500, ""), Status(200, "content")]);
    assert_eq!(open(&stores).get("a").expect("read in the end"), Some(b"content".to_vec()));
    assert_eq!(requests.try_iter().count(), 3);
}

#[test]
fn a_server_that_stays_busy_is_an_error_that_says_so() {
    let (stores, requests) = server(&[Status(503, SLOW_DOWN); 4]);
    let error = open(&stores).put("a", &[b"1"]).expect_err("given up");
    assert!(error.message.contains("SlowDown: Reduce your request rate"), "{error}");
    assert!(error.message.contains("s3://bucket/p: writing a failed"), "{error}");
    assert_eq!(requests.try_iter().count(), 4, "bounded");
}

#[test]
fn a_permission_that_is_missing_is_not_asked_for_again() {
    let (stores, requests) = server(&[Status(403, DENIED)]);
    let error = open(&stores).put("a", &[b"1"]).expect_err("refused");
    assert!(error.message.contains("AccessDenied: No; allow s3:GetObject"), "{error}");
    assert_eq!(requests.try_iter().count(), 1);
}

/// The first try may have happened: whoever creates a slot reads it, instead of taking its own first try for a rival.
#[test]
fn a_conditional_create_is_never_repeated() {
    for answer in [&[HangUp] as &'static [Answer], &[Status(500, "")], &[Status(503, SLOW_DOWN)]] {
        let (stores, requests) = server(answer);
        open(&stores).put_if_absent("a", b"1").expect_err("not known");
        assert_eq!(requests.try_iter().count(), 1);
    }
    // S3's 409 can also mean "try again": it is no success, and the slot says what happened.
    let (stores, requests) = server(&[Status(409, CONFLICT)]);
    assert_ne!(open(&stores).put_if_absent("a", b"1").ok(), Some(Created::Yes));
    assert_eq!(requests.try_iter().count(), 1);
    let (stores, _requests) = server(&[Status(412, "")]);
    assert_eq!(open(&stores).put_if_absent("a", b"1").expect("answers"), Created::AlreadyExists);
}

#[test]
fn many_blobs_go_with_one_request_or_one_by_one_where_that_is_not_known() {
    const DELETED: &str =
        "<DeleteResult><Deleted><Key>p/a</Key></Deleted><Deleted><Key>p/b</Key></Deleted></DeleteResult>";
    const ONE_REFUSED: &str = "<DeleteResult><Deleted><Key>p/a</Key></Deleted><Error><Key>p/b</Key><Code>AccessDenied</Code><Message>No</Message></Error></DeleteResult>";
    const UNKNOWN: &str = "<Error><Code>NotImplemented</Code><Message>Not here</Message></Error>";
    let paths = ["a", "b"].map(str::to_string);
    let (stores, requests) = server(&[Status(503, SLOW_DOWN), Status(200, DELETED)]);
    assert!(open(&stores).delete_each(&paths).iter().all(Result::is_ok));
    assert!(requests.iter().take(2).all(|request| request.starts_with("POST ")), "repeated, and no more");

    let (stores, _requests) = server(&[Status(200, ONE_REFUSED)]);
    let results = open(&stores).delete_each(&paths);
    assert!(results[0].is_ok() && results[1].as_ref().expect_err("refused").message.contains("AccessDenied"));

    let (stores, requests) = server(&[Status(501, UNKNOWN), Status(204, ""), Status(403, DENIED)]);
    let results = open(&stores).delete_each(&paths);
    assert!(results.len() == 2 && results[0].is_ok() && results[1].is_err(), "{results:?}");
    let methods: Vec<_> =
        requests.iter().take(3).map(|request| request.split(' ').next().map(str::to_string)).collect();
    assert_eq!(methods, ["POST", "DELETE", "DELETE"].map(|method| Some(method.to_string())));
}
