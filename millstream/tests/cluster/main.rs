//! Clusters of real processes that are killed with SIGKILL: task managers, leading job managers, all at once. The output
//! must be that of a run without faults. The short form runs with the other tests, the whole is `cargo xtask torture`.

mod processes;
#[path = "../support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use processes::{Cluster, Shape, is_alive, signal, until};
use serde_json::json;
use support::workload::Workload;

const SHAPE: Shape = Shape { job_managers: 2, task_managers: 2, slots: 2, restart: true };

/// The job slowed down, so that it is still running when things happen to it.
fn submit(cluster: &Cluster, workload: &Workload, rate: u64) -> String {
    let configuration = json!({ "source.rate-limit": rate.to_string(), "execution.checkpointing.interval": "100ms" });
    let request =
        json!({ "programArgsList": workload.options(), "parallelism": 3, "flinkConfiguration": configuration });
    cluster.submit("fraud-detection", &request)
}

/// Who is killed.
#[derive(Clone, Copy, Debug)]
enum Victim {
    TaskManager(usize),
    Leader,
    All,
}

fn kill(cluster: &Cluster, victim: Victim) {
    match victim {
        Victim::TaskManager(number) => signal(cluster.pid(&format!("task-manager-{number}")), "KILL"),
        Victim::Leader => signal(cluster.pid(&format!("job-manager-{}", cluster.leader())), "KILL"),
        Victim::All => {
            let managers = (0..SHAPE.job_managers).map(|number| format!("job-manager-{number}"));
            let workers = (0..SHAPE.task_managers).map(|number| format!("task-manager-{number}"));
            let pids: Vec<u32> = managers.chain(workers).map(|node| cluster.pid(&node)).collect();
            pids.into_iter().for_each(|pid| signal(pid, "KILL"));
        }
    }
}

/// Kills one after the other, each after a newly completed checkpoint, and checks the output.
fn torment(name: &str, events: u64, victims: &[Victim]) {
    let workload = Workload::generate(&format!("cluster-{name}"), events, 11);
    let cluster = Cluster::start(name, &SHAPE);
    let job = submit(&cluster, &workload, 2_000);
    for victim in victims {
        cluster.until_new_checkpoint(&job);
        assert_eq!(cluster.state(&job).as_deref(), Some("RUNNING"), "before {victim:?} is killed");
        kill(&cluster, *victim);
        println!("{name}: killed {victim:?} after checkpoint {:?}", cluster.newest_checkpoint(&job));
    }
    cluster.until_new_checkpoint(&job);
    cluster.until_finished(&job);
    workload.check();
}

#[test]
fn a_job_survives_the_loss_of_task_managers_of_leaders_and_of_all_processes() {
    let victims = [Victim::TaskManager(0), Victim::Leader, Victim::TaskManager(1), Victim::All, Victim::Leader];
    torment("short", 50_000, &victims);
}

#[test]
fn a_leader_that_slept_through_a_takeover_is_refused_and_follows() {
    let workload = Workload::generate("cluster-asleep", 24_000, 12);
    let cluster = Cluster::start("asleep", &SHAPE);
    let job = submit(&cluster, &workload, 2_000);
    cluster.until_new_checkpoint(&job);
    let first = cluster.leader();
    let pid = cluster.pid(&format!("job-manager-{first}"));
    signal(pid, "STOP");
    let asleep = Instant::now();
    let second = until("the other job manager leads", || cluster.ask("/overview").filter(|(now, _)| *now != first)).0;
    assert!(asleep.elapsed() < Duration::from_secs(5), "taken over after {:?}", asleep.elapsed());
    cluster.until_new_checkpoint(&job);
    signal(pid, "CONT");
    cluster.until_new_checkpoint(&job);
    cluster.until_finished(&job);
    assert_eq!(cluster.leader(), second);
    workload.check();
}

#[test]
fn nodes_end_with_a_launcher_that_is_killed() {
    let shape = Shape { job_managers: 1, task_managers: 1, slots: 1, restart: true };
    let cluster = Cluster::start("launcher", &shape);
    let nodes = ["job-manager-0", "task-manager-0"].map(|node| cluster.pid(node));
    assert!(nodes.iter().all(|pid| is_alive(*pid)));
    signal(cluster.launcher(), "KILL");
    until("the nodes have ended", || nodes.iter().all(|pid| !is_alive(*pid)).then_some(()));
}
