//! Another job manager takes over from one that sleeps or is killed.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::jobs::{Fraud, Tormented};
use super::processes::{Cluster, Shape, signal, until};
use super::{MILLSTREAM, RATE, SHAPE, Victim, kill};

#[test]
fn a_leader_that_slept_through_a_takeover_is_refused_and_follows() {
    let job = Fraud::new("cluster-asleep", 24_000, 12);
    let cluster = Cluster::start("asleep", Path::new(MILLSTREAM), &SHAPE);
    let id = job.submit(&cluster, RATE);
    assert!(cluster.until_new_checkpoint(&id));
    let first = cluster.leader();
    let pid = cluster.pid(&format!("job-manager-{first}"));
    signal(pid, "STOP");
    let asleep = Instant::now();
    let second = until("the other job manager leads", || cluster.ask("/overview").filter(|(now, _)| *now != first)).0;
    assert!(asleep.elapsed() < Duration::from_secs(5), "taken over after {:?}", asleep.elapsed());
    assert!(cluster.until_new_checkpoint(&id));
    signal(pid, "CONT");
    assert!(cluster.until_new_checkpoint(&id));
    cluster.until_finished(&id);
    assert_eq!(cluster.leader(), second);
    // Whoever asks the one that slept is sent on.
    let listed = cluster.command(first, &["list", "--json"]);
    assert!(String::from_utf8_lossy(&listed.stdout).contains(&id), "{}", String::from_utf8_lossy(&listed.stderr));
    job.check();
}

#[test]
fn a_finished_job_is_not_run_again_and_clients_find_the_next_leader() {
    let jobs = [16, 17].map(|seed| Fraud::new(&format!("cluster-takeover-{seed}"), 6_000, seed));
    let cluster = Cluster::start("takeover", Path::new(MILLSTREAM), &SHAPE);
    let finished = jobs[0].submit(&cluster, 100_000);
    cluster.until_finished(&finished);
    jobs[0].check();
    let visible = jobs[0].visible();

    let first = cluster.leader();
    let standby = 1 - first;
    signal(cluster.pid(&format!("job-manager-{first}")), "KILL");
    // Nobody leads now, or the standby still sends everybody to the one that was killed: clients wait until that is over.
    let mut arguments = vec!["submit", "fraud-detection", "-p", "3", "-D", "source.rate-limit=3000", "--"];
    let options = jobs[1].options();
    arguments.extend(options.iter().map(String::as_str));
    let submitted = cluster.command(standby, &arguments);
    assert!(submitted.status.success(), "{}", String::from_utf8_lossy(&submitted.stderr));
    let text = String::from_utf8_lossy(&submitted.stdout).into_owned();
    let running = text.lines().last().expect("its last line is the id");
    assert!(cluster.until_new_checkpoint(running));
    let listed = cluster.command(standby, &["list", "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    let states: Vec<_> =
        listed["jobs"].as_array().expect("a list").iter().map(|job| (&job["jid"], &job["state"])).collect();
    assert_eq!(
        states,
        [(&Value::from(&*finished), &Value::from("FINISHED")), (&Value::from(running), &Value::from("RUNNING"))]
    );

    // The same when nobody is left who has seen it finish.
    kill(&cluster, Victim::All);
    until("both jobs are known again", || cluster.state(running).zip(cluster.state(&finished)));
    cluster.until_finished(running);
    assert_eq!(cluster.state(&finished).as_deref(), Some("FINISHED"));
    jobs[1].check();
    assert_eq!(jobs[0].visible(), visible, "nothing of it was written again");
}

#[test]
fn a_stopped_job_goes_on_from_its_savepoint_as_another_job_over_the_same_output() {
    let shape = Shape { job_managers: 1, task_managers: 1, slots: 3, restart: false };
    let job = Fraud::new("cluster-upgraded", 90_000, 18);
    let cluster = Cluster::start("upgraded", Path::new(MILLSTREAM), &shape);
    let command = |arguments: &[&str]| {
        let done = cluster.command(0, arguments);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        text.lines().last().expect("a last line").to_string()
    };
    let options = job.options();
    let submit = |parallelism: &str, from: &[&str]| {
        // So much between two checkpoints that every subtask has something to commit in each.
        let settings = ["-D", "source.rate-limit=20000", "-D", "execution.checkpointing.interval=500ms", "--"];
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        command(&[&["submit", "fraud-detection", "-p", parallelism], from, &settings, &options].concat())
    };
    let mut id = submit("3", &[]);
    for parallelism in ["2", "3"] {
        assert!(cluster.until_new_checkpoint(&id));
        let last = command(&["stop", &id]);
        id = submit(parallelism, &["-s", last.strip_prefix("savepoint: ").expect("where it is")]);
    }
    cluster.until_finished(&id);
    job.check();
}
