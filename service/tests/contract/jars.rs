//! The jobs that are compiled into the program, and their submission.

use serde_json::json;

use crate::client::Rest;

fn calls(rest: &Rest) -> Vec<String> {
    rest.cluster.calls.lock().unwrap().clone()
}

#[tokio::test]
async fn compiled_in_jobs_are_listed_in_the_shape_of_flinks_jars() {
    let rest = Rest::start().await;
    let expected = json!({
        "address": rest.url(),
        "files": [
            {"id": "spending", "name": "spending", "uploaded": 50,
             "entry": [{"name": "spending", "description": "Sums up what is spent."}]},
            {"id": "plain", "name": "plain", "uploaded": 50, "entry": [{"name": "plain", "description": null}]},
        ],
    });
    assert_eq!(rest.ok("/jars").await, expected);
}

#[tokio::test]
async fn a_job_is_run_as_the_body_says() {
    let rest = Rest::start().await;
    let body = json!({
        "entryClass": "spending",
        "programArgsList": ["--input", "/data"],
        "parallelism": 3,
        "savepointPath": "/s/1",
        "allowNonRestoredState": true,
        "claimMode": "NO_CLAIM",
        "flinkConfiguration": {"execution.checkpointing.interval": "1 s", "parallelism.default": 2},
        "artefact": "ab12",
    });
    for path in ["/jars/spending/run", "/v1/jars/spending/run"] {
        let answer = rest.post(path, &body.to_string()).await;
        assert_eq!((answer.status, answer.json()), (200, json!({"jobid": "aa".repeat(16)})));
    }
    let expected = "run spending RunRequest { arguments: [\"--input\", \"/data\"], parallelism: Some(3), savepoint: Some(\"/s/1\"), \
                    allow_non_restored_state: true, configuration: {\"execution.checkpointing.interval\": \"1 s\", \
                    \"parallelism.default\": \"2\"}, artefact: Some(\"ab12\") }";
    assert_eq!(calls(&rest), [expected, expected]);
}

#[tokio::test]
async fn the_query_says_what_the_body_does_not() {
    let rest = Rest::start().await;
    let path = "/jars/spending/run?parallelism=4&savepointPath=/s/2&allowNonRestoredState=true&programArg=--rate,5";
    assert_eq!(rest.post(path, "").await.status, 200);
    assert_eq!(rest.post(path, "{\"parallelism\":2,\"allowNonRestoredState\":false}").await.status, 200);
    assert_eq!(rest.post("/jars/spending/run", "{}").await.status, 200);
    let run = |parallelism, allow| {
        format!(
            "run spending RunRequest {{ arguments: [\"--rate\", \"5\"], parallelism: Some({parallelism}), \
             savepoint: Some(\"/s/2\"), allow_non_restored_state: {allow}, configuration: {{}}, artefact: None }}"
        )
    };
    let plain = "run spending RunRequest { arguments: [], parallelism: None, savepoint: None, \
                 allow_non_restored_state: false, configuration: {}, artefact: None }";
    assert_eq!(calls(&rest), [run(4, true), run(2, false), plain.to_string()]);
}

#[tokio::test]
async fn a_job_that_cannot_be_run_so_is_refused_before_the_cluster_is_asked() {
    let rest = Rest::start().await;
    let run = "/jars/spending/run";
    rest.post(run, "{").await.assert_error(400, "Request did not match expected format");
    rest.post(run, "{\"paralelism\":1}").await.assert_error(400, "paralelism");
    rest.post(run, "{\"parallelism\":0}").await.assert_error(400, "1 at least");
    rest.post(run, "{\"entryClass\":\"Other\"}").await.assert_error(400, "not Other");
    rest.post(run, "{\"jobId\":\"00\"}").await.assert_error(400, "leave jobId 00 out");
    rest.post(run, "{\"claimMode\":\"CLAIM\"}").await.assert_error(400, "NO_CLAIM");
    rest.post(run, "{\"flinkConfiguration\":{\"a\":[]}}").await.assert_error(400, "no value");
    rest.post("/jars/spending/run?parallelism=many", "").await.assert_error(400, "(parallelism)");
    rest.post("/jars/spending/run?allowNonRestoredState=1", "").await.assert_error(400, "(allowNonRestoredState)");
    assert!(calls(&rest).is_empty());
    rest.post("/jars/unknown/run", "{}").await.assert_error(400, "there is no job 'unknown'");
    rest.get("/jars/spending").await.assert_error(404, "Not found");
}
