//! Buckets that are not there, credentials that are wrong and permissions that are missing: each is told before a job
//! starts, with what to do about it. moto checks signatures and the policies of users, but not bucket policies, and it
//! mistakes the signature of a request whose query holds a `/`, so that listing under its checks is not shown.

use millstream_runtime::ports::ErrorKind;
use millstream_runtime::ports::store::Created;
use millstream_state::blob::{Location, Retries, S3Options, Stores};

use crate::s3_server::{self, Credentials, S3Server};

/// Opens the location, which must be refused; answers what the user is told.
fn refusal(stores: &Stores, location: &Location) -> String {
    let error = stores.open_tried(location, "trial").err().expect("it is refused");
    assert_eq!(error.kind, ErrorKind::FixInput, "{error}");
    assert!(error.message.contains(&location.to_string()), "{error}");
    error.message
}

fn assert_tells(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "'{part}' is not in: {message}");
    }
}

#[test]
fn a_missing_bucket_is_named() {
    let Some(server) = s3_server::shared() else { return };
    let location = Location::parse("s3://nobody-made-it/prefix").expect("a location");
    assert_tells(&refusal(&server.stores(), &location), &["NoSuchBucket", "make the bucket"]);
}

#[test]
fn a_missing_bucket_is_never_taken_for_an_empty_one() {
    let Some(server) = s3_server::shared() else { return };
    let location = Location::parse("s3://nobody-made-it/prefix").expect("a location");
    let blobs = server.stores().open(&location).expect("opens without asking");
    for error in [
        blobs.get("jobs/x").expect_err("no answer"),
        blobs.get_range("jobs/x", 0, 1).expect_err("no answer"),
        blobs.delete("jobs/x").expect_err("no answer"),
        blobs.list("jobs").expect_err("no answer"),
        blobs.put("jobs/x", &[b"1"]).expect_err("no answer"),
        blobs.put_if_absent("jobs/x", b"1").expect_err("no answer"),
    ] {
        assert_tells(&error.message, &["NoSuchBucket"]);
    }
}

#[test]
fn a_server_that_does_not_answer_is_named() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    let stores = Stores::new(S3Options {
        endpoint: Some(format!("http://127.0.0.1:{port}")),
        access_key: Some("test".to_string()),
        secret_key: Some("test".to_string()),
        retries: Retries { attempts: 2, first_pause: std::time::Duration::from_millis(1), ..Retries::default() },
        ..S3Options::default()
    });
    let location = Location::parse("s3://bucket/prefix").expect("a location");
    assert_tells(&refusal(&stores, &location), &["refused", "s3.endpoint"]);
}

/// A server with a bucket and users, which checks what they may.
fn guarded(users: &[(&str, &str)]) -> Option<(S3Server, Location, Vec<Credentials>)> {
    let server = s3_server::start()?;
    let location = server.location("prefix");
    let users = users.iter().map(|(name, statement)| server.user(name, statement)).collect();
    server.check_permissions();
    Some((server, location, users))
}

#[test]
fn wrong_credentials_and_missing_permissions_are_told_apart() {
    let all = r#"{"Effect":"Allow","Action":"s3:*","Resource":"*"}"#;
    let without = |action: &str| format!(r#"[{all},{{"Effect":"Deny","Action":"{action}","Resource":"*"}}]"#);
    let (no_put, no_delete) = (without("s3:PutObject"), without("s3:DeleteObject"));
    let users = [("whole", all), ("no-put", no_put.as_str()), ("no-delete", no_delete.as_str())];
    let Some((server, location, users)) = guarded(&users) else { return };
    let open = |credentials: &Credentials| Stores::new(server.options_of(credentials)).open(&location).expect("opens");
    let refused = |credentials: &Credentials| refusal(&Stores::new(server.options_of(credentials)), &location);

    // The server checks what it is sent, and accepts the signatures of a right key.
    let blobs = open(&users[0]);
    assert_eq!(blobs.put_if_absent("a/b", b"1").expect("allowed"), Created::Yes);
    assert_eq!(blobs.put_if_absent("a/b", b"2").expect("allowed"), Created::AlreadyExists);
    assert_eq!(blobs.get("a/b").expect("allowed"), Some(b"1".to_vec()));
    blobs.delete("a/b").expect("allowed");

    let wrong = Credentials { secret: "wrong".to_string(), ..users[0].clone() };
    assert_tells(&refused(&wrong), &["SignatureDoesNotMatch", "correct s3.access-key and s3.secret-key"]);
    let unknown = Credentials { id: "AKIAUNKNOWN".to_string(), secret: "wrong".to_string() };
    assert_tells(&refused(&unknown), &["InvalidAccessKeyId", "correct s3.access-key and s3.secret-key"]);
    assert_tells(&refused(&users[1]), &["AccessDenied", "creating", "allow s3:GetObject, s3:PutObject"]);
    let error = open(&users[2]).delete("a/b").expect_err("denied");
    assert_tells(&error.message, &["AccessDenied", "deleting", "s3:DeleteObject"]);
}
