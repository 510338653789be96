//! A server that does not lead sends clients to the one that does.

use millstream_service::Leading;
use tokio::sync::watch;

use crate::client::Rest;

const REQUESTS: [(&str, &str); 7] = [
    ("GET", "/jobs/overview"),
    ("GET", "/v1/jobs/overview?get=a,b"),
    ("POST", "/v1/jars/spending/run"),
    ("PATCH", "/jobs/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa?mode=cancel"),
    ("GET", "/metrics"),
    ("GET", "/v1/unknown/path"),
    ("DELETE", "/jobs/overview"),
];

#[tokio::test]
async fn every_path_is_redirected_to_the_leader_as_it_was_asked() {
    let (_leading, receiver) = watch::channel(Leading::At("http://10.0.0.1:8081/".to_string()));
    let rest = Rest::follow(receiver).await;
    for (method, path) in REQUESTS {
        let answer = rest.request(method, path, "").await;
        let expected = (307, format!("http://10.0.0.1:8081{path}"));
        assert_eq!((answer.status, answer.location), expected, "{method} {path}");
    }
}

#[tokio::test]
async fn every_path_is_unavailable_while_no_leader_is_known() {
    let (_leading, receiver) = watch::channel(Leading::Unknown);
    let rest = Rest::follow(receiver).await;
    for (method, path) in REQUESTS {
        rest.request(method, path, "").await.assert_error(503, "no leader");
    }
}

#[tokio::test]
async fn a_server_answers_itself_from_when_it_leads() {
    let leader = Rest::start().await;
    let (leading, receiver) = watch::channel(Leading::Unknown);
    let rest = Rest::follow(receiver).await;
    leading.send_replace(Leading::At(leader.url()));
    assert_eq!(rest.get("/overview").await.location, format!("{}/overview", leader.url()));
    leading.send_replace(Leading::Here(leader.cluster.clone()));
    assert_eq!(rest.get("/overview").await.text, leader.get("/overview").await.text);
    leading.send_replace(Leading::At("no\nurl".to_string()));
    rest.get("/overview").await.assert_error(503, "no usable address");
}
