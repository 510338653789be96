//! A sink that stops: jobs print, and nobody reads what they print. Every node waits with as much memory as before, and
//! checkpoints go on, since they overtake the rows that wait; then so does everything else, and nothing is printed twice.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;

use super::jobs::{Session, Sessions};
use super::processes::{Cluster, Shape, until};
use super::support;

const SHAPE: Shape = Shape { job_managers: 1, task_managers: 2, slots: 2, restart: false };
const NODES: [&str; 3] = ["job-manager-0", "task-manager-0", "task-manager-1"];
/// Clicks per second, so that there are some left.
const RATE: u64 = 100_000;
/// More than that is not flat.
const GROWTH: u64 = 16 << 20;

/// Anonymous memory of a node, in bytes.
fn anonymous(cluster: &Cluster, node: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", cluster.pid(node))).expect("it is running");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("Linux tells");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

/// Rows printed in this time.
fn printed_within(cluster: &Cluster, time: Duration) -> usize {
    let before = cluster.printed().count();
    std::thread::sleep(time);
    cluster.printed().count() - before
}

/// A row as it is printed.
fn session(row: &str) -> Session {
    let (_, row) = row.split_once("> Session { ").unwrap_or_else(|| panic!("not a session: {row}"));
    let field = |name: &str| {
        let (_, rest) = row.split_once(&format!("{name}: ")).expect("it has the field");
        rest.split([',', ' ']).next().expect("a value").parse::<i64>().expect("a number")
    };
    let unsigned = |name: &str| u64::try_from(field(name)).expect("not negative");
    (unsigned("user"), field("start"), field("end"), unsigned("clicks"))
}

fn stop_for(name: &str, stopped: Duration, seconds: u64, configuration: &[(&str, &str)]) {
    let clicks = seconds * RATE;
    let job = Sessions::new(&format!("{name}-none"), clicks);
    let cluster = Cluster::start(name, &support::workload::built("user-sessions"), &SHAPE);
    // One of the three subtasks reads, with its third of the rate.
    let rate = (3 * RATE).to_string();
    let settings: serde_json::Map<_, _> = [("source.rate-limit", rate.as_str())]
        .iter()
        .chain(configuration)
        .chain(&[("execution.checkpointing.tolerable-failed-checkpoints", "0")])
        .map(|(key, value)| ((*key).to_string(), json!(value)))
        .collect();
    let options = ["--clicks", &clicks.to_string(), "--output", "-"];
    let request = json!({ "programArgsList": options, "parallelism": 3, "flinkConfiguration": settings });
    let id = cluster.submit("user-sessions", &request);
    until("rows are printed", || (cluster.printed().count() > 0).then_some(()));
    let second = Duration::from_secs(1);
    let speed = printed_within(&cluster, second);

    cluster.printed().stop(true);
    // Once two checkpoints more are complete, every queue is full.
    assert!(cluster.until_new_checkpoint(&id));
    assert!(cluster.until_new_checkpoint(&id));
    let count = || until("checkpoints are told", || cluster.newest_checkpoint(&id));
    let (completed, memory) = (count(), NODES.map(|node| anonymous(&cluster, node)));
    let mut most = memory;
    let since = Instant::now();
    while since.elapsed() < stopped {
        std::thread::sleep(second / 10);
        for (node, most) in NODES.iter().zip(&mut most) {
            *most = (*most).max(anonymous(&cluster, node));
        }
    }
    let made = count() - completed;
    println!("{made} checkpoints in {stopped:?}; memory of {NODES:?} {memory:?}, at most {most:?}");
    assert!(made >= 10, "{made} checkpoints in {stopped:?}");
    let is_flat = memory.iter().zip(most).all(|(before, most)| most < before + GROWTH);
    assert!(is_flat, "memory of {NODES:?} has grown from {memory:?} to {most:?} bytes while the sink stood still");

    cluster.printed().stop(false);
    // What has waited comes first.
    std::thread::sleep(second / 2);
    let after = printed_within(&cluster, second);
    assert!(after > speed / 2, "{after} rows a second, {speed} before the sink stopped");
    cluster.until_finished(&id);
    let expected = job.expected();
    until("everything is printed", || (cluster.printed().count() >= expected.len()).then_some(()));
    let mut found: Vec<Session> = cluster.printed().take().iter().map(|row| session(row)).collect();
    found.sort_unstable();
    assert!(found == expected, "{} sessions, {} expected", found.len(), expected.len());
}

#[test]
fn a_sink_that_stops_costs_no_memory_on_any_node_and_no_checkpoint() {
    let often = ("execution.checkpointing.interval", "100 ms");
    let soon = ("execution.checkpointing.aligned-checkpoint-timeout", "50 ms");
    stop_for("stopped", Duration::from_secs(3), 5, &[often, soon]);
}

#[test]
#[ignore = "takes minutes: cargo xtask torture"]
fn a_sink_that_stops_for_a_minute_costs_no_memory_on_any_node_and_no_checkpoint() {
    let every_second = ("execution.checkpointing.interval", "1 s");
    stop_for("stopped-long", Duration::from_secs(60), 15, &[every_second]);
}
