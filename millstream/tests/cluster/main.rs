//! Clusters of real processes that are killed with SIGKILL: task managers, leading job managers, all at once. The output
//! must be that of a run without faults. The short form runs with the other tests, the whole is `cargo xtask torture`.
#![allow(clippy::disallowed_methods, reason = "real processes are watched, so real time is measured")]

mod intruders;
mod jobs;
mod metrics;
mod partition;
mod processes;
#[path = "../../../state/tests/support/s3_server.rs"]
mod s3_server;
mod stopped;
mod store;
mod store_proxy;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "every test uses a part of it")]
mod support;
mod takeover;

use std::path::Path;

use jobs::{Fraud, Sessions, Tormented, request};
use millstream_runtime::ids::VertexId;
use processes::{Cluster, Shape, is_alive, signal, until};
use support::random::Random;

const MILLSTREAM: &str = env!("CARGO_BIN_EXE_millstream");
const SHAPE: Shape = Shape { job_managers: 2, task_managers: 2, slots: 2, restart: true };
/// Records per second of a job, so that it is still running when things happen to it.
const RATE: u64 = 2_000;

/// Who is killed.
#[derive(Clone, Copy, Debug)]
enum Victim {
    TaskManager(usize),
    Leader,
    All,
}

impl Victim {
    fn draw(random: &mut Random) -> Self {
        match random.between((0, 9)) {
            number @ 0..=4 => Self::TaskManager(usize::from(number % 2 == 1)),
            5..=7 => Self::Leader,
            _ => Self::All,
        }
    }
}

fn kill(cluster: &Cluster, victim: Victim) {
    // One that was killed a moment ago may not be back yet: the job runs with the others.
    let running = |node: String| until("the node is back", || Some(cluster.pid(&node)).filter(|pid| is_alive(*pid)));
    match victim {
        Victim::TaskManager(number) => signal(running(format!("task-manager-{number}")), "KILL"),
        Victim::Leader => signal(running(format!("job-manager-{}", cluster.leader())), "KILL"),
        Victim::All => {
            let managers = (0..SHAPE.job_managers).map(|number| format!("job-manager-{number}"));
            let workers = (0..SHAPE.task_managers).map(|number| format!("task-manager-{number}"));
            let pids: Vec<u32> = managers.chain(workers).map(running).collect();
            pids.into_iter().for_each(|pid| signal(pid, "KILL"));
        }
    }
}

/// Kills one after the other, each after a newly completed checkpoint, until the job has finished, and checks its output.
/// Answers how many were killed in the middle of it.
fn torment(cluster: &Cluster, job: &dyn Tormented, victims: impl IntoIterator<Item = Victim>) -> usize {
    let id = job.submit(cluster, RATE);
    let mut killed = 0;
    for victim in victims {
        if !cluster.until_new_checkpoint(&id) {
            break;
        }
        kill(cluster, victim);
        killed += 1;
        println!("{id}: killed {victim:?} ({killed})");
    }
    cluster.until_finished(&id);
    job.check();
    killed
}

#[test]
fn a_job_survives_the_loss_of_task_managers_of_leaders_and_of_all_processes() {
    let victims = [Victim::TaskManager(0), Victim::Leader, Victim::TaskManager(1), Victim::All, Victim::Leader];
    let job = Fraud::new("cluster-short", 40_000, 11);
    let cluster = Cluster::start("short", Path::new(MILLSTREAM), &SHAPE);
    assert_eq!(torment(&cluster, &job, victims), victims.len());
}

#[test]
#[ignore = "takes minutes: cargo xtask torture"]
fn two_jobs_survive_fifty_kills_of_task_managers_of_leaders_and_of_all_processes() {
    let program = support::workload::built("user-sessions");
    let mut random = Random::new(5);
    let cluster = Cluster::start("fraud", Path::new(MILLSTREAM), &SHAPE);
    let mut killed = 0;
    for seed in 20.. {
        let job = Fraud::new("cluster-fraud", 100_000, seed);
        killed += torment(&cluster, &job, std::iter::from_fn(|| Some(Victim::draw(&mut random))).take(15));
        if killed >= 30 {
            break;
        }
    }
    drop(cluster);
    let cluster = Cluster::start("sessions", &program, &SHAPE);
    while killed < 50 {
        let job = Sessions::new("cluster-sessions", 60_000);
        killed += torment(&cluster, &job, std::iter::from_fn(|| Some(Victim::draw(&mut random))).take(10));
    }
    println!("{killed} kills, all outputs equal");
}

#[test]
fn a_job_is_rescaled_in_place_and_runs_with_the_slots_that_are_left() {
    let shape = Shape { job_managers: 1, task_managers: 2, slots: 2, restart: false };
    let job = Fraud::new("cluster-rescaled", 24_000, 13);
    let cluster = Cluster::start("rescaled", Path::new(MILLSTREAM), &shape);
    let id = job.submit(&cluster, RATE);
    cluster.until_parallelism(&id, 3);
    for parallelism in [4, 1, 3] {
        assert!(cluster.until_new_checkpoint(&id));
        let asked = cluster.command(0, &["rescale", &id, "-p", &parallelism.to_string()]);
        assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
        cluster.until_parallelism(&id, parallelism);
    }
    assert!(cluster.until_new_checkpoint(&id));
    signal(cluster.pid("task-manager-1"), "KILL");
    cluster.until_parallelism(&id, 2);
    assert!(cluster.until_new_checkpoint(&id));
    cluster.until_finished(&id);
    job.check();
}

#[test]
fn what_is_required_of_vertices_outlives_the_leader() {
    let vertex = |uid: &str| VertexId::from_name(uid);
    let (source, judge, summary) = (vertex("transactions"), vertex("judge"), vertex("summarise"));
    let job = Fraud::new("cluster-required", 40_000, 14);
    let cluster = Cluster::start("required", Path::new(MILLSTREAM), &SHAPE);
    let mut request = request(&job.options(), 3, RATE);
    let overrides = "pipeline.jobvertex-parallelism-overrides";
    let unknown = format!("-D{overrides}={}:1", vertex("elsewhere"));
    let options = job.options();
    let options: Vec<&str> =
        ["submit", "fraud-detection", &unknown, "--"].into_iter().chain(options.iter().map(String::as_str)).collect();
    let refused = cluster.command(cluster.leader(), &options);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no vertex"), "{refused:?}");
    request["flinkConfiguration"][overrides] = format!("{source}:1,{judge}:2").into();
    let id = cluster.submit("fraud-detection", &request);
    cluster.until_subtasks(&id, &[(source, 1), (judge, 2), (summary, 1)]);
    assert!(cluster.until_new_checkpoint(&id));
    let rescale = |arguments: &[&str]| {
        let asked = cluster.command(cluster.leader(), &[&["rescale", &id], arguments].concat());
        (asked.status.success(), String::from_utf8_lossy(&asked.stderr).into_owned())
    };
    let required = || {
        let path = format!("/jobs/{id}/resource-requirements");
        let told = until("the requirements are told", || cluster.ask(&path)).1;
        [source, judge, summary].map(|vertex| {
            let bounds = &told[vertex.to_string()]["parallelism"];
            (bounds["lowerBound"].as_u64().expect("a number"), bounds["upperBound"].as_u64().expect("a number"))
        })
    };
    assert_eq!(required(), [(1, 1), (1, 2), (1, 1)]);
    assert_eq!(
        rescale(&["--vertex", &format!("{judge}=1..4"), "--vertex", &format!("{source}=2")]),
        (true, String::new())
    );
    cluster.until_subtasks(&id, &[(source, 2), (judge, 4), (summary, 1)]);
    assert!(cluster.until_new_checkpoint(&id));
    kill(&cluster, Victim::Leader);
    let goes_on = "going on with a job of the leader before";
    until("the next leader has the job", || (cluster.logged(&[goes_on]) > 0).then_some(()));
    cluster.until_subtasks(&id, &[(source, 2), (judge, 4), (summary, 1)]);
    assert_eq!(required(), [(1, 2), (1, 4), (1, 1)]);
    assert!(cluster.until_new_checkpoint(&id));
    // The summary is one subtask's; the program says nothing of the others.
    assert_eq!(rescale(&["-p", "3", "--vertex", &format!("{source}=1")]), (true, String::new()));
    cluster.until_subtasks(&id, &[(source, 1), (judge, 3), (summary, 1)]);
    for (vertex, wrong, why) in [
        (vertex("elsewhere"), "2", "the job has no vertex"),
        (judge, "129", "exceeds its maximum parallelism 128"),
        (summary, "2", "cannot work in parallel"),
    ] {
        let (is_done, told) = rescale(&["--vertex", &format!("{vertex}={wrong}")]);
        assert!(!is_done && told.contains(why), "{told}");
    }
    cluster.until_finished(&id);
    job.check();
    for states in [["CREATING_EXECUTION_GRAPH", "EXECUTING"], ["EXECUTING", "RESTARTING"], ["EXECUTING", "FINISHED"]] {
        assert!(
            cluster.logged(&[&format!("the scheduler goes from {} to {}", states[0], states[1])]) > 0,
            "{states:?}"
        );
    }
}

#[test]
fn reactive_jobs_share_all_slots_whatever_comes_and_goes() {
    let shape = Shape { job_managers: 1, task_managers: 2, slots: 2, restart: false };
    let jobs = [21, 22].map(|seed| Fraud::new(&format!("cluster-reactive-{seed}"), 12_000, seed));
    let settings = "scheduler-mode = \"reactive\"";
    let cluster = Cluster::start_over("reactive", Path::new(MILLSTREAM), &shape, "", settings);
    let first = jobs[0].submit(&cluster, RATE);
    cluster.until_parallelism(&first, 4);
    assert!(cluster.until_new_checkpoint(&first));
    let refused = cluster.command(0, &["rescale", &first, "-p", "2"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("scheduler-mode"), "{refused:?}");
    let second = jobs[1].submit(&cluster, RATE);
    for job in [&first, &second] {
        cluster.until_parallelism(job, 2);
        assert!(cluster.until_new_checkpoint(job));
    }
    signal(cluster.pid("task-manager-1"), "KILL");
    for job in [&first, &second] {
        cluster.until_parallelism(job, 1);
        assert!(cluster.until_new_checkpoint(job));
    }
    for (job, id) in jobs.iter().zip([&first, &second]) {
        cluster.until_finished(id);
        job.check();
    }
}

#[test]
fn nodes_end_with_a_launcher_that_is_killed() {
    let shape = Shape { job_managers: 1, task_managers: 1, slots: 1, restart: true };
    let cluster = Cluster::start("launcher", Path::new(MILLSTREAM), &shape);
    let nodes = ["job-manager-0", "task-manager-0"].map(|node| cluster.pid(node));
    assert!(nodes.iter().all(|pid| is_alive(*pid)));
    signal(cluster.launcher(), "KILL");
    until("the nodes have ended", || nodes.iter().all(|pid| !is_alive(*pid)).then_some(()));
}
