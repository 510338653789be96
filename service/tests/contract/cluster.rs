//! The cluster, task managers, configuration, Prometheus, and paths that do not exist.

use crate::client::{Rest, fields};

#[tokio::test]
async fn the_overview_has_flinks_fields() {
    let rest = Rest::start().await;
    let overview = rest.ok("/overview").await;
    let expected = [
        "flink-commit",
        "flink-version",
        "jobs-cancelled",
        "jobs-failed",
        "jobs-finished",
        "jobs-running",
        "slots-available",
        "slots-total",
        "taskmanagers",
    ];
    assert_eq!(fields(&overview), expected);
    assert_eq!(overview["slots-total"], 4);
}

#[tokio::test]
async fn the_dashboard_configuration_has_flinks_fields() {
    let rest = Rest::start().await;
    let config = rest.ok("/config").await;
    let expected =
        ["features", "flink-revision", "flink-version", "refresh-interval", "timezone-name", "timezone-offset"];
    assert_eq!(fields(&config), expected);
    assert_eq!(fields(&config["features"]), ["web-cancel", "web-history", "web-rescale", "web-submit"]);
}

#[tokio::test]
async fn the_cluster_configuration_is_a_list_of_keys_and_values() {
    let rest = Rest::start().await;
    let expected = serde_json::json!([{"key": "rest.port", "value": "0"}]);
    assert_eq!(rest.ok("/jobmanager/config").await, expected);
    assert_eq!(rest.ok(&format!("/jobs/{}/jobmanager/config", "aa".repeat(16))).await, expected);
    rest.get(&format!("/jobs/{}/jobmanager/config", "00".repeat(16))).await.assert_error(404, "not found");
}

#[tokio::test]
async fn task_managers_are_listed_and_found_by_id() {
    let rest = Rest::start().await;
    let all = rest.ok("/taskmanagers").await;
    assert_eq!(all["taskmanagers"][0]["id"], "tm-1");
    let one = rest.ok("/taskmanagers/tm-1").await;
    assert_eq!(one, all["taskmanagers"][0]);
    for field in ["dataPort", "freeSlots", "hardware", "jmxPort", "path", "slotsNumber", "timeSinceLastHeartbeat"] {
        assert!(one.get(field).is_some(), "{field}");
    }
    assert_eq!(fields(&one["hardware"]), ["cpuCores", "freeMemory", "managedMemory", "physicalMemory"]);
    rest.get("/taskmanagers/tm-2").await.assert_error(404, "tm-2");
}

#[tokio::test]
async fn metrics_of_cluster_and_task_managers_are_selected_and_aggregated() {
    let rest = Rest::start().await;
    assert_eq!(rest.ok("/jobmanager/metrics").await, serde_json::json!([{"id": "numRunningJobs"}]));
    let values = rest.ok("/jobmanager/metrics?get=numRunningJobs,unknown").await;
    assert_eq!(values, serde_json::json!([{"id": "numRunningJobs", "value": "1"}]));
    let managed = "Status.Flink.Memory.Managed.Used";
    assert_eq!(rest.ok("/taskmanagers/tm-1/metrics").await, serde_json::json!([{"id": managed}]));
    let sum = rest.ok(&format!("/taskmanagers/metrics?get={managed}&agg=sum&taskmanagers=tm-1")).await;
    assert_eq!(sum, serde_json::json!([{"id": managed, "sum": 0.0}]));
    rest.get("/taskmanagers/metrics?taskmanagers=tm-2").await.assert_error(404, "tm-2");
    rest.get("/taskmanagers/tm-2/metrics").await.assert_error(404, "tm-2");
}

#[tokio::test]
async fn prometheus_text_is_served_without_version() {
    let rest = Rest::start().await;
    let answer = rest.get("/metrics").await;
    assert_eq!((answer.status, answer.text.as_str()), (200, "flink_jobmanager_numRunningJobs 1\n"));
    assert_eq!(answer.content_type, "text/plain; version=0.0.4; charset=utf-8");
    rest.get("/v1/metrics").await.assert_error(404, "Not found: /v1/metrics");
}

#[tokio::test]
async fn unknown_paths_and_wrong_methods_are_not_found_in_flinks_shape() {
    let rest = Rest::start().await;
    for path in ["/", "/job", "/v1", "/v1/job", "/v2/jobs", "/jobs/overview/x", "/jobs/overview/"] {
        rest.get(path).await.assert_error(404, &format!("Not found: {path}"));
    }
    rest.request("DELETE", "/jobs/overview", "").await.assert_error(404, "Not found: /jobs/overview");
    rest.post("/v1/overview", "{}").await.assert_error(404, "Not found");
}

#[tokio::test]
async fn a_busy_port_is_told_apart_from_other_errors() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let cluster = std::sync::Arc::new(crate::fake::FakeCluster::default());
    let error = millstream_service::Server::start("127.0.0.1", port, cluster).await.expect_err("the port is taken");
    assert!(error.is_address_in_use());
    assert!(error.to_string().contains("rest.port"), "{error}");
}
