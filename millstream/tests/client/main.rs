//! Clients of a cluster, from Rust and from the command line, against real servers over a cluster that is plain data.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

#[path = "../../../service/tests/contract/fake.rs"]
#[allow(dead_code)]
mod fake;

mod program;
mod servers;

use std::time::Duration;

use millstream::client::{Cluster, Error, Submission};
use millstream_actors::view::job::JobStatus;
use millstream_runtime::ids::{CheckpointId, JobId};
use millstream_service::Leading;

use fake::{FAILED, FINISHED, RUNNING};
use servers::Servers;

/// Long enough for whatever comes, on any machine.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_job_is_submitted_and_looked_after_through_a_server_that_does_not_lead() {
    let servers = Servers::start();
    let cluster = Cluster::connect(&servers.standby).unwrap();
    let submission = Submission::new("spending").parallelism(3).option("input", "--data").flag("watch");
    let submission = submission.set("pipeline.name", "mine").from_savepoint("/s/0").allow_non_restored_state();
    let job = cluster.submit(submission).unwrap();
    assert_eq!((job.id(), job.status().unwrap()), (RUNNING, JobStatus::Running));
    servers.fake.gate.add_permits(10);
    assert_eq!(job.checkpoint().unwrap(), CheckpointId(8));
    assert_eq!(job.savepoint(Some("/s")).unwrap(), "/s/savepoint-1");
    assert_eq!(job.stop(None, true).unwrap(), "/savepoints/savepoint-2");
    job.cancel().unwrap();
    assert_eq!(job.result().unwrap(), None);
    let calls = servers.fake.calls.lock().unwrap().clone();
    let digest = millstream::executable::hex(&millstream::executable::digest().unwrap());
    let run = format!(
        "run spending RunRequest {{ arguments: [\"--input=--data\", \"--watch\"], parallelism: Some(3), \
         savepoint: Some(\"/s/0\"), allow_non_restored_state: true, configuration: {{\"pipeline.name\": \"mine\"}}, \
         artefact: Some(\"{digest}\") }}"
    );
    let expected = [
        run,
        format!("checkpoint {RUNNING} Configured"),
        format!("savepoint {RUNNING} Some(\"/s\") false"),
        format!("stop {RUNNING} None true"),
        format!("cancel {RUNNING}"),
    ];
    assert_eq!(calls, expected);
}

#[test]
fn a_program_that_does_not_contain_a_job_may_submit_it_all_the_same() {
    let servers = Servers::start();
    let cluster = Cluster::connect(&servers.leader).unwrap();
    cluster.submit(Submission::new("spending").any_build()).unwrap();
    assert!(servers.fake.calls.lock().unwrap()[0].ends_with("artefact: None }"));
    let refused = cluster.submit("unknown").unwrap_err();
    assert!(matches!(&refused, Error::Refused { status: 400, message } if message.contains("unknown")), "{refused}");
    let refused = cluster.submit("../jobs").unwrap_err();
    assert!(matches!(refused, Error::BadName { .. }), "{refused}");
}

#[test]
fn the_end_of_a_job_is_waited_for_and_told_with_its_cause() {
    let servers = Servers::start();
    let cluster = Cluster::connect(&servers.standby).unwrap();
    let finished = cluster.job(FINISHED).unwrap().wait().unwrap();
    assert_eq!(finished.status, JobStatus::Finished);
    assert_eq!((finished.duration, finished.failure), (Some(Duration::from_millis(900)), None));
    let failed = cluster.job(FAILED).unwrap().wait().unwrap();
    assert_eq!((failed.status, failed.failure.as_deref()), (JobStatus::Failed, Some("second: because")));
    let unknown = cluster.job(JobId([0; 16])).unwrap_err();
    assert!(matches!(unknown, Error::Refused { status: 404, .. }), "{unknown}");
    let conflict = cluster.job(FINISHED).unwrap().cancel().unwrap_err();
    assert!(matches!(conflict, Error::Refused { status: 409, .. }), "{conflict}");
}

#[test]
fn a_client_waits_for_a_leader_but_only_for_the_stated_time() {
    let servers = Servers::start();
    servers.follow(Leading::Unknown);
    let none = Cluster::connect_within(&servers.standby, Duration::from_millis(200)).unwrap_err();
    assert!(matches!(&none, Error::Refused { status: 503, message } if message.contains("no leader")), "{none}");
    assert_eq!(none.exit_code(), 4);
    // The leader that is told has gone, then another one is there.
    servers.follow(Leading::At(servers::nobody()));
    let gone = Cluster::connect_within(&servers.standby, Duration::ZERO).unwrap_err();
    assert!(matches!(gone, Error::NotReachable { .. }), "{gone}");
    std::thread::scope(|scope| {
        let connecting = scope.spawn(|| Cluster::connect_within(&servers.standby, LONG));
        servers.follow(Leading::Unknown);
        servers.follow(Leading::Here(servers.fake.clone()));
        connecting.join().unwrap().unwrap().submit("spending").unwrap();
    });
}

#[test]
fn servers_that_send_a_client_in_circles_are_told_so() {
    let servers = Servers::start();
    servers.follow(Leading::At(servers.standby.clone()));
    let circle = Cluster::connect_within(&servers.standby, Duration::ZERO).unwrap_err();
    assert!(circle.to_string().contains("sent on more than 5 times"), "{circle}");
}

#[test]
fn an_address_that_is_none_or_where_nobody_answers_is_told() {
    let wrong = Cluster::connect("https://host/path").unwrap_err();
    assert!(matches!(wrong, Error::BadAddress { .. }), "{wrong}");
    assert_eq!(wrong.exit_code(), 2);
    let nobody = Cluster::connect_within(&servers::nobody(), Duration::from_millis(150)).unwrap_err();
    assert!(matches!(nobody, Error::NotReachable { .. }), "{nobody}");
}
