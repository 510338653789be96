//! Jobs, vertices, subtasks, checkpoints: what is read.

use serde_json::json;

use crate::client::{Rest, fields};

fn running() -> String {
    "aa".repeat(16)
}

fn vertex(path: &str) -> String {
    format!("/jobs/{}/vertices/{}{path}", running(), "01".repeat(16))
}

#[tokio::test]
async fn jobs_are_listed_with_and_without_details() {
    let rest = Rest::start().await;
    let ids = rest.ok("/jobs").await;
    assert_eq!(ids["jobs"][0], json!({"id": running(), "status": "RUNNING"}));
    assert_eq!(ids["jobs"].as_array().map(Vec::len), Some(3));
    let overview = rest.ok("/jobs/overview").await;
    let first = &overview["jobs"][0];
    let expected = ["duration", "end-time", "jid", "last-modification", "name", "start-time", "state", "tasks"];
    assert_eq!(fields(first), expected);
    assert_eq!((&first["jid"], &first["end-time"]), (&json!(running()), &json!(-1)));
    assert_eq!((&first["tasks"]["total"], &first["tasks"]["running"]), (&json!(3), &json!(3)));
}

#[tokio::test]
async fn a_job_has_vertices_status_counts_and_plan() {
    let rest = Rest::start().await;
    let job = rest.ok(&format!("/jobs/{}", running())).await;
    let expected = [
        "duration",
        "end-time",
        "isStoppable",
        "jid",
        "job-type",
        "maxParallelism",
        "name",
        "now",
        "pending-operators",
        "plan",
        "start-time",
        "state",
        "status-counts",
        "timestamps",
        "vertices",
    ];
    assert_eq!(fields(&job), expected);
    assert_eq!(job["status-counts"]["RUNNING"], 2);
    assert_eq!(job["timestamps"]["RUNNING"], 150);
    let source = &job["vertices"][0];
    assert_eq!(source["id"], "01".repeat(16));
    assert_eq!((&source["parallelism"], &source["maxParallelism"]), (&json!(2), &json!(128)));
    assert_eq!((&source["tasks"]["RUNNING"], &source["tasks"]["FAILED"]), (&json!(2), &json!(0)));
    assert_eq!(source["metrics"]["read-bytes-complete"], true);
    assert_eq!(job["plan"]["nodes"][1]["inputs"][0]["ship_strategy"], "HASH");
    let plan = rest.ok(&format!("/jobs/{}/plan", running())).await;
    assert_eq!(plan, json!({"plan": job["plan"]}));
    assert_eq!(fields(&plan["plan"]), ["jid", "name", "nodes", "type"]);
    assert!(plan["plan"]["nodes"][0].get("inputs").is_none(), "a source has none");
}

#[tokio::test]
async fn status_configuration_and_result_of_jobs() {
    let rest = Rest::start().await;
    assert_eq!(rest.ok(&format!("/jobs/{}/status", running())).await, json!({"status": "RUNNING"}));
    let config = rest.ok(&format!("/jobs/{}/config", running())).await;
    assert_eq!(config["execution-config"]["user-config"], json!({"input": "data"}));
    let result = rest.ok(&format!("/jobs/{}/execution-result", running())).await;
    assert_eq!(result, json!({"status": {"id": "IN_PROGRESS"}}));
    let result = rest.ok(&format!("/jobs/{}/execution-result", "cc".repeat(16))).await;
    assert_eq!(result["job-execution-result"]["application-status"], "SUCCEEDED");
    let result = rest.ok(&format!("/jobs/{}/execution-result", "bb".repeat(16))).await;
    assert_eq!(result["status"]["id"], "COMPLETED");
    assert_eq!(result["job-execution-result"]["failure-cause"]["class"], "second");
}

#[tokio::test]
async fn exceptions_are_bounded_and_filtered_by_label() {
    let rest = Rest::start().await;
    let path = format!("/jobs/{}/exceptions", running());
    let all = rest.ok(&path).await;
    assert_eq!(all["exceptionHistory"]["entries"].as_array().map(Vec::len), Some(2));
    assert_eq!(all["exceptionHistory"]["truncated"], false);
    let expected = [
        "concurrentExceptions",
        "endpoint",
        "exceptionName",
        "failureLabels",
        "stacktrace",
        "taskManagerId",
        "taskName",
        "timestamp",
    ];
    assert_eq!(fields(&all["exceptionHistory"]["entries"][0]), expected);
    let one = rest.ok(&format!("{path}?maxExceptions=1")).await;
    assert_eq!(one["exceptionHistory"]["entries"].as_array().map(Vec::len), Some(1));
    assert_eq!(one["exceptionHistory"]["truncated"], true);
    let system = rest.ok(&format!("{path}?failureLabelFilter=type:system")).await;
    assert_eq!(system["exceptionHistory"]["entries"][0]["exceptionName"], "first");
    rest.get(&format!("{path}?maxExceptions=x")).await.assert_error(400, "(maxExceptions) from value \"x\"");
    rest.get(&format!("{path}?failureLabelFilter=type")).await.assert_error(400, "failureLabelFilter");
}

#[tokio::test]
async fn a_vertex_has_subtasks_and_each_attempt_is_found() {
    let rest = Rest::start().await;
    let details = rest.ok(&vertex("")).await;
    assert_eq!(fields(&details), ["id", "maxParallelism", "name", "now", "parallelism", "subtasks"]);
    let expected = [
        "attempt",
        "duration",
        "end-time",
        "endpoint",
        "metrics",
        "start-time",
        "start_time",
        "status",
        "status-duration",
        "subtask",
        "taskmanager-id",
    ];
    assert_eq!(fields(&details["subtasks"][1]), expected);
    assert_eq!(rest.ok(&vertex("/subtasks/1")).await, details["subtasks"][1]);
    assert_eq!(rest.ok(&vertex("/subtasks/1/attempts/3")).await, details["subtasks"][1]);
    rest.get(&vertex("/subtasks/2")).await.assert_error(404, "Invalid subtask index");
    rest.get(&vertex("/subtasks/1/attempts/4")).await.assert_error(404, "attempt 4");
    rest.get(&vertex("/subtasks/x")).await.assert_error(400, "(subtaskindex) from value \"x\"");
    let other = format!("/jobs/{}/vertices/{}", running(), "09".repeat(16));
    rest.get(&other).await.assert_error(404, &"09".repeat(16));
}

#[tokio::test]
async fn backpressure_is_given_by_subtask_with_the_worst_level_on_top() {
    let rest = Rest::start().await;
    let view = rest.ok(&vertex("/backpressure")).await;
    assert_eq!(fields(&view), ["backpressure-level", "backpressureLevel", "end-timestamp", "status", "subtasks"]);
    assert_eq!((&view["status"], &view["backpressureLevel"]), (&json!("ok"), &json!("high")));
    let subtask = json!({"subtask": 0, "attempt-number": 3, "backpressureLevel": "high", "backpressure-level": "high",
        "ratio": 0.6, "idleRatio": 0.1, "busyRatio": 0.3});
    assert_eq!(view["subtasks"][0], subtask);
}

#[tokio::test]
async fn metrics_of_subtasks_are_named_selected_and_aggregated() {
    let rest = Rest::start().await;
    let watermarks = rest.ok(&vertex("/watermarks")).await;
    let expected =
        json!([{"id": "0.currentInputWatermark", "value": "1000"}, {"id": "1.currentInputWatermark", "value": "1001"}]);
    assert_eq!(watermarks, expected);
    let one = rest.ok(&vertex("/subtasks/1/metrics?get=numRecordsIn")).await;
    assert_eq!(one, json!([{"id": "numRecordsIn", "value": "20"}]));
    let names = rest.ok(&vertex("/metrics")).await;
    assert_eq!(names.as_array().map(Vec::len), Some(4));
    let values = rest.ok(&vertex("/metrics?get=1.numRecordsIn")).await;
    assert_eq!(values, json!([{"id": "1.numRecordsIn", "value": "20"}]));
    let names = rest.ok(&vertex("/subtasks/metrics")).await;
    assert_eq!(names, json!([{"id": "currentInputWatermark"}, {"id": "numRecordsIn"}]));
    let all = rest.ok(&vertex("/subtasks/metrics?get=numRecordsIn")).await;
    let skew = all[0]["skew"].as_f64().expect("a number");
    assert!((skew - 100.0 / 3.0).abs() < 1e-9, "{skew}");
    let some = rest.ok(&vertex("/subtasks/metrics?get=numRecordsIn&agg=min,max,avg,sum")).await;
    assert_eq!(some, json!([{"id": "numRecordsIn", "min": 10.0, "max": 20.0, "avg": 15.0, "sum": 30.0}]));
    let last = rest.ok(&vertex("/subtasks/metrics?get=numRecordsIn&agg=sum&subtasks=1-5")).await;
    assert_eq!(last, json!([{"id": "numRecordsIn", "sum": 20.0}]));
    rest.get(&vertex("/subtasks/metrics?get=a&agg=median")).await.assert_error(400, "(agg) from value \"median\"");
    rest.get(&vertex("/subtasks/metrics?subtasks=a")).await.assert_error(400, "(subtasks)");
}

#[tokio::test]
async fn metrics_of_jobs_leave_out_those_that_have_none() {
    let rest = Rest::start().await;
    let one = rest.ok(&format!("/jobs/{}/metrics?get=uptime", running())).await;
    assert_eq!(one, json!([{"id": "uptime", "value": "850"}]));
    assert_eq!(rest.ok("/jobs/metrics").await, json!([{"id": "uptime"}]));
    let sum = rest.ok(&format!("/jobs/metrics?get=uptime&agg=sum&jobs={},{}", running(), "cc".repeat(16))).await;
    assert_eq!(sum, json!([{"id": "uptime", "sum": 850.0}]));
    rest.get("/jobs/metrics?jobs=x").await.assert_error(400, "(jobs) from value \"x\"");
}

#[tokio::test]
async fn checkpoints_have_counts_summary_latest_and_history() {
    let rest = Rest::start().await;
    let view = rest.ok(&format!("/jobs/{}/checkpoints", running())).await;
    assert_eq!(fields(&view), ["counts", "history", "latest", "summary"]);
    assert_eq!(view["counts"], json!({"restored": 1, "total": 8, "in_progress": 0, "completed": 7, "failed": 1}));
    assert_eq!(fields(&view["latest"]), ["completed", "failed", "restored", "savepoint"]);
    let distribution = ["avg", "max", "min", "p50", "p90", "p95", "p99", "p999"];
    assert_eq!(fields(&view["summary"]["end_to_end_duration"]), distribution);
    let newest = &view["history"][0];
    assert_eq!((&newest["className"], &newest["tasks"]), (&json!("completed"), &json!({})));
    for field in ["checkpoint_type", "external_path", "discarded", "is_savepoint", "num_acknowledged_subtasks"] {
        assert!(newest.get(field).is_some(), "{field}");
    }
    assert!(newest.get("failure_message").is_none(), "only of failed ones");
}

#[tokio::test]
async fn one_checkpoint_shows_vertices_and_a_vertex_shows_subtasks() {
    let rest = Rest::start().await;
    let details = format!("/jobs/{}/checkpoints/details/7", running());
    let checkpoint = rest.ok(&details).await;
    let task = &checkpoint["tasks"]["01".repeat(16)];
    assert_eq!((&task["id"], &task["num_subtasks"]), (&json!(7), &json!(2)));
    assert!(task.get("subtasks").is_none());
    let subtasks = rest.ok(&format!("{details}/subtasks/{}", "01".repeat(16))).await;
    assert_eq!(subtasks["subtasks"][0]["className"], "completed");
    let expected = json!({"className": "pending", "index": 1, "status": "pending_or_failed"});
    assert_eq!(subtasks["subtasks"][1], expected);
    assert_eq!(fields(&subtasks["subtasks"][0]["checkpoint"]), ["async", "sync"]);
    assert_eq!(fields(&subtasks["summary"]["alignment"]), ["buffered", "duration", "persisted", "processed"]);
    rest.get(&format!("/jobs/{}/checkpoints/details/8", running())).await.assert_error(404, "checkpoint 8");
    rest.get(&format!("/jobs/{}/checkpoints/details/x", running())).await.assert_error(400, "(checkpointid)");
    rest.get(&format!("{details}/subtasks/{}", "09".repeat(16))).await.assert_error(404, &"09".repeat(16));
}

#[tokio::test]
async fn the_checkpoint_configuration_has_flinks_fields() {
    let rest = Rest::start().await;
    let config = rest.ok(&format!("/jobs/{}/checkpoints/config", running())).await;
    let expected = [
        "aligned_checkpoint_timeout",
        "changelog_periodic_materialization_interval",
        "changelog_storage",
        "checkpoint_storage",
        "checkpoints_after_tasks_finish",
        "externalization",
        "interval",
        "max_concurrent",
        "min_pause",
        "mode",
        "state_backend",
        "state_changelog_enabled",
        "timeout",
        "tolerable_failed_checkpoints",
        "unaligned_checkpoints",
    ];
    assert_eq!(fields(&config), expected);
}

#[tokio::test]
async fn unknown_jobs_are_404_and_malformed_ids_400_on_every_path() {
    let rest = Rest::start().await;
    let unknown = "00".repeat(16);
    let paths = [
        "",
        "/status",
        "/config",
        "/plan",
        "/exceptions",
        "/execution-result",
        "/checkpoints",
        "/checkpoints/config",
        "/checkpoints/details/1",
        "/vertices/01010101010101010101010101010101",
        "/vertices/01010101010101010101010101010101/backpressure",
        "/vertices/01010101010101010101010101010101/watermarks",
    ];
    for path in paths {
        rest.get(&format!("/jobs/{unknown}{path}")).await.assert_error(404, &format!("Job {unknown} not found"));
        let answer = rest.get(&format!("/v1/jobs/xyz{path}")).await;
        answer.assert_error(400, "Cannot resolve path parameter (jobid) from value \"xyz\".");
    }
    rest.get("/jobs/%FF").await.assert_error(400, "could not parse parameters");
}

#[tokio::test]
async fn resource_requirements_are_shown_and_set_by_vertex() {
    let rest = Rest::start().await;
    let path = format!("/jobs/{}/resource-requirements", running());
    let (source, sink) = ("01".repeat(16), "02".repeat(16));
    let bounds = |lower, upper| json!({"parallelism": {"lowerBound": lower, "upperBound": upper}});
    assert_eq!(rest.ok(&path).await, json!({&source: bounds(1, 2), &sink: bounds(1, 1)}));
    let wanted = json!({&source: bounds(2, 4), &sink: bounds(1, 3)}).to_string();
    let answer = rest.request("PUT", &path, &wanted).await;
    assert_eq!((answer.status, answer.json()), (200, json!({})));
    let some = json!({&sink: bounds(1, 3)}).to_string();
    assert_eq!(rest.request("PUT", &format!("{path}?parallelism=4"), &some).await.status, 200);
    let sink_bounds = format!("{sink}: ParallelismBounds {{ lower: 1, upper: 3 }}");
    let source_bounds = format!("{source}: ParallelismBounds {{ lower: 2, upper: 4 }}");
    let expected = [
        format!("require {} None Requirements({{{source_bounds}, {sink_bounds}}})", running()),
        format!("require {} Some(4) Requirements({{{sink_bounds}}})", running()),
    ];
    assert_eq!(rest.cluster.calls.lock().unwrap().clone(), expected);
    rest.request("PUT", &format!("{path}?parallelism=many"), "{}").await.assert_error(400, "parallelism");
    for (lower, upper) in [(0, 1), (3, 2)] {
        let wanted = json!({&source: bounds(lower, upper)}).to_string();
        rest.request("PUT", &path, &wanted).await.assert_error(400, &format!("{lower} to {upper} subtasks"));
    }
    rest.request("PUT", &path, "{\"x\":{\"parallelism\":{\"lowerBound\":1,\"upperBound\":1}}}")
        .await
        .assert_error(400, "32 hex");
    rest.request("PUT", &path, "{\"x\":{}}").await.assert_error(400, "parallelism");
    let unknown = format!("/jobs/{}/resource-requirements", "00".repeat(16));
    rest.get(&unknown).await.assert_error(404, "not found");
    rest.request("PUT", &unknown, "{}").await.assert_error(404, "not found");
}
