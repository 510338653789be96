//! Commands against a server that plays back a script.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;

use super::*;

const JOB: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// A server that answers one request after another as written, and tells in the end what it was asked.
struct Script {
    port: u16,
    asked: JoinHandle<Vec<String>>,
}

impl Script {
    fn play(answers: &[(u16, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let answers: Vec<(u16, String)> = answers.iter().map(|(status, body)| (*status, (*body).to_string())).collect();
        let asked = std::thread::spawn(move || {
            answers.into_iter().map(|(status, body)| serve(&listener.accept().unwrap().0, status, &body)).collect()
        });
        Self { port, asked }
    }

    fn client(&self) -> Client {
        Client::new("127.0.0.1", self.port)
    }

    fn asked(self) -> Vec<String> {
        self.asked.join().unwrap()
    }
}

/// Answers one request; gives back its first line and its body.
fn serve(mut stream: &TcpStream, status: u16, answer: &str) -> String {
    let mut reader = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first).unwrap();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    if status == 0 {
        // The server is lost before it answers.
        return first.trim().to_string();
    }
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", answer.len());
    stream.write_all(format!("{head}{answer}").as_bytes()).unwrap();
    let first = first.trim().trim_end_matches(" HTTP/1.1");
    format!("{first} {}", String::from_utf8(body).unwrap()).trim().to_string()
}

#[test]
fn jobs_are_listed_as_a_table_and_the_body_is_kept() {
    let body = format!(
        r#"{{"jobs":[{{"jid":"{JOB}","name":"spending","start-time":0,"end-time":-1,"duration":61000,"state":"RUNNING","last-modification":5,
        "tasks":{{"running":3,"canceling":0,"canceled":0,"total":4,"created":0,"scheduled":0,"deploying":1,"reconciling":0,"finished":0,"initializing":0,"failed":0}}}}]}}"#
    );
    let script = Script::play(&[(200, &body), (200, r#"{"jobs":[]}"#)]);
    let client = script.client();
    let reply = client.list().unwrap();
    assert_eq!(reply.body, body);
    let expected = format!(
        "JOB ID                            NAME      STATE    STARTED                DURATION  TASKS\n\
         {JOB}  spending  RUNNING  1970-01-01 00:00:00Z  1 min 1 s    3/4\n"
    );
    assert_eq!(reply.text, expected);
    assert_eq!(client.list().unwrap().text, "no jobs\n");
    assert_eq!(script.asked(), ["GET /v1/jobs/overview", "GET /v1/jobs/overview"]);
}

#[test]
fn a_savepoint_is_started_and_asked_for_until_it_is_completed() {
    let completed = r#"{"status":{"id":"COMPLETED"},"operation":{"location":"/s/1"}}"#;
    let script = Script::play(&[
        (202, r#"{"request-id":"01"}"#),
        (200, r#"{"status":{"id":"IN_PROGRESS"},"operation":null}"#),
        (200, completed),
    ]);
    let reply = script.client().savepoint(JOB, Some("/s")).unwrap();
    assert_eq!((reply.text.as_str(), reply.body.as_str()), ("savepoint: /s/1\n", completed));
    assert_eq!(
        script.asked(),
        [
            format!(r#"POST /v1/jobs/{JOB}/savepoints {{"cancel-job":false,"target-directory":"/s"}}"#),
            format!("GET /v1/jobs/{JOB}/savepoints/01"),
            format!("GET /v1/jobs/{JOB}/savepoints/01"),
        ]
    );
}

#[test]
fn stop_asks_for_its_outcome_among_the_savepoints() {
    let completed = r#"{"status":{"id":"COMPLETED"},"operation":{"location":"/s/2"}}"#;
    let script = Script::play(&[(202, r#"{"request-id":"02"}"#), (200, completed)]);
    assert_eq!(script.client().stop(JOB, None, true).unwrap().text, "savepoint: /s/2\n");
    let asked = script.asked();
    assert_eq!(asked[0], format!(r#"POST /v1/jobs/{JOB}/stop {{"drain":true,"targetDirectory":null}}"#));
    assert_eq!(asked[1], format!("GET /v1/jobs/{JOB}/savepoints/02"));
}

#[test]
fn a_checkpoint_is_named_by_its_number_and_a_failed_one_tells_why() {
    let completed = r#"{"status":{"id":"COMPLETED"},"operation":{"checkpointId":8}}"#;
    let failed = r#"{"status":{"id":"COMPLETED"},"operation":{"failure-cause":{"class":"Conflict","stack-trace":"the job has ended"}}}"#;
    let script = Script::play(&[
        (202, r#"{"request-id":"03"}"#),
        (200, completed),
        (202, r#"{"request-id":"04"}"#),
        (200, failed),
    ]);
    assert_eq!(script.client().checkpoint(JOB).unwrap().text, "checkpoint: 8\n");
    let error = script.client().checkpoint(JOB).unwrap_err();
    assert_eq!((error.to_string().as_str(), error.exit_code()), ("the checkpoint failed: the job has ended", 1));
    script.asked();
}

#[test]
fn cancelling_is_a_patch() {
    let script = Script::play(&[(202, "{}")]);
    assert_eq!(script.client().cancel(JOB).unwrap().body, "{}");
    assert_eq!(script.asked(), [format!("PATCH /v1/jobs/{JOB}?mode=cancel")]);
}

#[test]
fn a_request_whose_answer_is_lost_is_not_sent_again_unless_it_changes_nothing() {
    let script = Script::play(&[(0, ""), (0, ""), (200, r#"{"jobs":[]}"#)]);
    let minute = Duration::from_secs(60);
    let client = script.client().with_patience(Patience { leader: minute, server: minute });
    let error = client.cancel(JOB).unwrap_err();
    assert!(matches!(error, Error::Unanswered { .. }), "{error}");
    assert!(error.to_string().contains("not known"), "{error}");
    assert_eq!(client.list().unwrap().text, "no jobs\n");
    assert_eq!(script.asked().len(), 3);
}

#[test]
fn a_leader_that_is_not_there_yet_is_asked_again() {
    let none = r#"{"errors":["no leader"]}"#;
    let submitted = format!(r#"{{"jobid":"{JOB}"}}"#);
    let script = Script::play(&[(503, none), (503, none), (200, &submitted)]);
    let client = script.client().with_patience(Patience { leader: Duration::from_secs(60), server: Duration::ZERO });
    let reply = client.submit_job(&Submission::new("spending").any_build()).unwrap();
    assert_eq!(reply.text, format!("{JOB}\n"));
    let body = r#"{"allowNonRestoredState":false,"flinkConfiguration":{},"programArgsList":[]}"#;
    let post = format!("POST /v1/jars/spending/run {body}");
    assert_eq!(script.asked(), [post.clone(), post.clone(), post]);
}

#[test]
fn what_the_server_refuses_is_told_in_its_words_with_an_exit_code() {
    let script = Script::play(&[
        (404, r#"{"errors":["Job x not found"]}"#),
        (409, r#"{"errors":["it has ended"]}"#),
        (500, r#"{"errors":["broken","twice"]}"#),
        (503, r#"{"errors":["no leader"]}"#),
        (404, "<html>"),
        (200, "[]"),
    ]);
    let client = script.client();
    let refused: Vec<(String, u8)> =
        (0..4).map(|_| client.cancel(JOB).unwrap_err()).map(|error| (error.to_string(), error.exit_code())).collect();
    let expected = [("Job x not found", 2), ("it has ended", 3), ("broken\ntwice", 1), ("no leader", 4)];
    assert_eq!(refused, expected.map(|(message, code)| (message.to_string(), code)));
    for _ in 0..2 {
        let error = client.list().unwrap_err();
        assert!(matches!(error, Error::Unexpected { .. }), "{error}");
        assert_eq!(error.exit_code(), 4);
    }
    script.asked();
}

#[test]
fn a_cluster_that_is_not_there_is_exit_code_four_and_a_bad_id_is_two() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let client = Client::new("127.0.0.1", free);
    let error = client.list().unwrap_err();
    assert!(matches!(error, Error::NotReachable { .. }), "{error}");
    assert_eq!(error.exit_code(), 4);
    assert!(error.to_string().contains("rest.port"), "{error}");
    let error = client.stop("../jobs", None, false).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("32 hex digits"), "{error}");
}

#[test]
fn a_job_is_described_with_its_vertices_and_checkpoints() {
    let details = format!(
        r#"{{"jid":"{JOB}","name":"spending","isStoppable":false,"state":"RUNNING","job-type":"STREAMING","start-time":0,"end-time":-1,
        "duration":5000,"maxParallelism":-1,"now":5000,"timestamps":{{"RUNNING":1}},"status-counts":{{"RUNNING":1}},"pending-operators":0,
        "plan":{{"jid":"{JOB}","name":"spending","type":"STREAMING","nodes":[]}},
        "vertices":[{{"id":"{JOB}","slotSharingGroupId":"{JOB}","name":"Source: a","maxParallelism":128,"parallelism":2,"status":"RUNNING","start-time":0,"end-time":-1,
        "duration":5000,"tasks":{{"RUNNING":2}},"metrics":{{"read-bytes":0,"read-bytes-complete":true,"write-bytes":9,"write-bytes-complete":true,
        "read-records":0,"read-records-complete":true,"write-records":1234567,"write-records-complete":true,
        "accumulated-backpressured-time":250,"accumulated-idle-time":250,"accumulated-busy-time":500.0}}}}]}}"#
    );
    let statistics = serde_json::to_string(&CheckpointStatisticsView::default()).unwrap();
    let script = Script::play(&[(200, &details), (200, &statistics)]);
    let reply = script.client().describe(JOB).unwrap();
    assert_eq!(reply.body, details);
    let expected = format!(
        "Job          {JOB}\nName         spending\nState        RUNNING\nStarted      1970-01-01 00:00:00Z\nDuration     5.0 s\n\
         Checkpoints  0 completed, 0 failed, 0 in progress\n\n\
         VERTEX     STATE    PARALLELISM  RECORDS IN  RECORDS OUT  BUSY  IDLE  BACKPRESSURED  ID\n\
         Source: a  RUNNING            2           0    1,234,567  50 %  25 %           25 %  {JOB}\n"
    );
    assert_eq!(reply.text, expected);
    assert_eq!(script.asked(), [format!("GET /v1/jobs/{JOB}"), format!("GET /v1/jobs/{JOB}/checkpoints")]);
}
