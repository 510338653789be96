//! The commands of a client, as processes: `submit` and `nodes`.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::fake::RUNNING;
use crate::servers::{Servers, nobody};

fn millstream(folder: &Path, address: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command.current_dir(folder).env_remove("RUST_LOG").env("MILLSTREAM_REST_ADDRESS", address);
    command.args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> &str {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::str::from_utf8(&output.stdout).unwrap()
}

#[test]
fn submit_sends_a_job_with_absolute_places_and_prints_its_id_last() {
    let servers = Servers::start();
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        &["submit", "fraud-detection", "-p", "2", "-s", "savepoints/1", "--allow-non-restored-state"][..],
        &["-D", "execution.checkpointing.interval=500 ms", "-D", "rest.port=1"],
        &["--", "--input", "data", "--rules=/rules.jsonl", "--watch"],
    ];
    let submitted = millstream(folder.path(), &servers.standby, &arguments.concat());
    assert_eq!(stdout(&submitted).lines().last(), Some(RUNNING.to_string().as_str()));
    let calls = servers.fake.calls.lock().unwrap().clone();
    let folder = folder.path().canonicalize().unwrap().display().to_string();
    let expected = format!(
        "run fraud-detection RunRequest {{ arguments: [\"--input={folder}/data\", \
         \"--output={folder}/out/fraud-detection\", \"--rules=/rules.jsonl\", \"--watch\"], parallelism: Some(2), \
         savepoint: Some(\"{folder}/savepoints/1\"), allow_non_restored_state: true, \
         configuration: {{\"execution.checkpointing.interval\": \"500 ms\"}}, artefact: Some(\""
    );
    assert!(calls[0].starts_with(&expected), "{}\nis not\n{expected}", calls[0]);
}

#[test]
fn submit_prints_the_answer_of_the_server_if_told_to() {
    let servers = Servers::start();
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["submit", "fraud-detection", "--json", "--", "--input", "data"];
    let submitted = millstream(folder.path(), &servers.leader, &arguments);
    let body: Value = serde_json::from_str(stdout(&submitted)).unwrap();
    assert_eq!(body, json!({"jobid": RUNNING.to_string()}));
}

#[test]
fn submit_refuses_what_cannot_be_submitted() {
    let folder = tempfile::tempdir().unwrap();
    let address = nobody();
    for (arguments, code, said) in [
        (&["submit", "no-such-job"][..], 2, "fraud-detection"),
        (&["submit"], 2, "<JOB>"),
        (&["submit", "fraud-detection", "-p", "0", "--", "--input", "data"], 2, "1.."),
        (&["submit", "fraud-detection", "-D", "rest.port=http", "--", "--input", "data"], 2, "rest.port"),
        (&["submit", "fraud-detection", "--", "--input", "data"], 4, "no cluster answers"),
    ] {
        let refused = millstream(folder.path(), &address, arguments);
        let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(said), "{arguments:?}: {stderr}");
    }
}

#[test]
fn nodes_are_a_table_or_the_answer_of_the_server() {
    let servers = Servers::start();
    let folder = tempfile::tempdir().unwrap();
    let table = millstream(folder.path(), &servers.standby, &["nodes"]);
    assert_eq!(stdout(&table), "NODE  SLOTS  FREE  SUBTASKS  PROCESS\ntm-1      4     1         0\n");
    let body = millstream(folder.path(), &servers.standby, &["nodes", "--json"]);
    let body: Value = serde_json::from_str(stdout(&body)).unwrap();
    assert_eq!(body["taskmanagers"][0]["id"], "tm-1");
}
