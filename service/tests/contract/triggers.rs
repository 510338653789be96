//! Checkpoint, savepoint, stop and cancel: what is started, and how its outcome is found.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::Rest;

fn job(path: &str) -> String {
    format!("/v1/jobs/{}{path}", "aa".repeat(16))
}

async fn until_completed(rest: &Rest, path: &str) -> Value {
    loop {
        let status = rest.get(path).await.json();
        match status["status"]["id"].as_str() {
            Some("COMPLETED") => return status,
            Some("IN_PROGRESS") => assert_eq!(status["operation"], Value::Null),
            _ => panic!("{status}"),
        }
    }
}

fn calls(rest: &Rest) -> Vec<String> {
    rest.cluster.calls.lock().unwrap().clone()
}

#[tokio::test]
async fn a_checkpoint_is_accepted_in_progress_and_completed() {
    let rest = Rest::start().await;
    let answer = rest.post(&job("/checkpoints"), "{\"checkpointType\":\"FULL\"}").await;
    assert_eq!((answer.status, answer.json()), (202, json!({"request-id": "01".repeat(16)})));
    let path = job(&format!("/checkpoints/{}", "01".repeat(16)));
    let status = rest.get(&path).await;
    assert_eq!((status.status, status.json()), (200, json!({"status": {"id": "IN_PROGRESS"}, "operation": null})));
    rest.cluster.gate.add_permits(1);
    let status = until_completed(&rest, &path).await;
    assert_eq!(status["operation"], json!({"checkpointId": 8}));
    assert_eq!(calls(&rest), [format!("checkpoint {} Full", "aa".repeat(16))]);
}

#[tokio::test]
async fn a_repeated_trigger_id_starts_once_and_keeps_its_outcome() {
    let rest = Rest::start().await;
    rest.cluster.gate.add_permits(5);
    let body = format!("{{\"triggerId\":\"{}\",\"target-directory\":\"/s\"}}", "fe".repeat(16));
    let path = job(&format!("/savepoints/{}", "fe".repeat(16)));
    for _ in 0..2 {
        let answer = rest.post(&job("/savepoints"), &body).await;
        assert_eq!((answer.status, answer.json()), (202, json!({"request-id": "fe".repeat(16)})));
        let status = until_completed(&rest, &path).await;
        assert_eq!(status["operation"], json!({"location": "/s/savepoint-1"}));
    }
    assert_eq!(calls(&rest), [format!("savepoint {} Some(\"/s\") false", "aa".repeat(16))]);
}

#[tokio::test]
async fn a_body_may_be_empty_and_every_option_is_passed_on() {
    let rest = Rest::start().await;
    rest.cluster.gate.add_permits(5);
    for (path, body) in [
        ("/savepoints", ""),
        ("/savepoints", "{\"cancel-job\":true,\"formatType\":\"NATIVE\"}"),
        ("/stop", "{}"),
        ("/stop", "{\"drain\":true,\"targetDirectory\":\"/t\",\"formatType\":\"CANONICAL\"}"),
        ("/checkpoints", ""),
    ] {
        let answer = rest.post(&job(path), body).await;
        assert_eq!(answer.status, 202, "{}", answer.text);
        let id = answer.json()["request-id"].as_str().unwrap().to_string();
        let kind = if path == "/checkpoints" { "checkpoints" } else { "savepoints" };
        until_completed(&rest, &job(&format!("/{kind}/{id}"))).await;
    }
    let id = "aa".repeat(16);
    let expected = [
        format!("savepoint {id} None false"),
        format!("savepoint {id} None true"),
        format!("stop {id} None false"),
        format!("stop {id} Some(\"/t\") true"),
        format!("checkpoint {id} Configured"),
    ];
    assert_eq!(calls(&rest), expected);
}

#[tokio::test]
async fn the_outcome_of_a_failed_operation_tells_why() {
    let rest = Rest::start().await;
    rest.cluster.gate.add_permits(1);
    let finished = format!("/jobs/{}/checkpoints", "cc".repeat(16));
    let answer = rest.post(&finished, "{}").await;
    let id = answer.json()["request-id"].as_str().unwrap().to_string();
    let status = until_completed(&rest, &format!("{finished}/{id}")).await;
    assert_eq!(
        status["operation"],
        json!({"failure-cause": {"class": "Conflict", "stack-trace": "the job has ended"}})
    );
}

#[tokio::test]
async fn what_cannot_be_started_is_refused_at_once() {
    let rest = Rest::start().await;
    let unknown = format!("/jobs/{}/stop", "00".repeat(16));
    rest.post(&unknown, "{}").await.assert_error(404, "not found");
    rest.post("/jobs/xyz/stop", "{}").await.assert_error(400, "(jobid)");
    rest.post(&job("/stop"), "{").await.assert_error(400, "Request did not match expected format");
    rest.post(&job("/stop"), "{\"drian\":true}").await.assert_error(400, "drian");
    rest.post(&job("/savepoints"), "{\"formatType\":\"ZIP\"}").await.assert_error(400, "ZIP");
    rest.post(&job("/savepoints"), "{\"triggerId\":\"1\"}").await.assert_error(400, "32 hex digits");
    assert!(calls(&rest).is_empty());
}

#[tokio::test]
async fn an_operation_is_found_only_under_its_own_job_and_path() {
    let rest = Rest::start().await;
    rest.cluster.gate.add_permits(1);
    let id = rest.post(&job("/checkpoints"), "").await.json()["request-id"].as_str().unwrap().to_string();
    until_completed(&rest, &job(&format!("/checkpoints/{id}"))).await;
    rest.get(&job(&format!("/savepoints/{id}"))).await.assert_error(404, "Operation not found");
    let other = format!("/jobs/{}/checkpoints/{id}", "cc".repeat(16));
    rest.get(&other).await.assert_error(404, "Operation not found");
    rest.get(&job("/checkpoints/5")).await.assert_error(400, "(triggerid) from value \"5\"");
}

#[tokio::test]
async fn cancelling_is_accepted_once_and_conflicts_afterwards() {
    let rest = Rest::start().await;
    let answer = rest.request("PATCH", &job("?mode=cancel"), "").await;
    assert_eq!((answer.status, answer.json()), (202, json!({})));
    let answer = rest.request("PATCH", &job(""), "").await;
    assert_eq!(answer.status, 202, "cancel is the default mode");
    let ended = format!("/jobs/{}?mode=cancel", "cc".repeat(16));
    rest.request("PATCH", &ended, "").await.assert_error(409, "already ended");
    let unknown = format!("/jobs/{}?mode=cancel", "00".repeat(16));
    rest.request("PATCH", &unknown, "").await.assert_error(404, "not found");
    rest.request("PATCH", &job("?mode=pause"), "").await.assert_error(400, "(mode) from value \"pause\"");
    rest.request("PATCH", &job("?mode=stop"), "").await.assert_error(308, "jobs/:jobid/stop");
}

#[tokio::test]
async fn a_server_that_ends_lets_the_client_read_the_outcome_first() {
    let rest = Rest::start().await;
    let id = rest.post(&job("/stop"), "{}").await.json()["request-id"].as_str().unwrap().to_string();
    let path = job(&format!("/savepoints/{id}"));
    rest.cluster.gate.add_permits(1);
    let status = until_completed(&rest, &path).await;
    assert_eq!(status["operation"]["location"], "/savepoints/savepoint-2");
    // Everything is read: the grace is not used up.
    let ended = tokio::time::timeout(Duration::from_secs(60), rest.shutdown(Duration::from_secs(3_600))).await;
    assert!(ended.is_ok());
}
