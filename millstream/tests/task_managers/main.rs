//! Whole jobs over several task managers of one process: all messages and all batches between them in their wire form,
//! through failures, lost nodes, broken links and other parallelisms.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use millstream::prelude::*;
use millstream_actors::job_master::JobHandle;
use millstream_actors::launch::{LaunchOptions, Launched, StartFrom, launch_on};
use millstream_actors::task_manager::Cancellation;
use millstream_runtime::element::Purpose;
use millstream_runtime::graph::JobGraph;
use millstream_runtime::ids::VertexId;
use millstream_runtime::job::{JobStatus, RestartOptions};
use millstream_state::blob::Location;
use millstream_state::log::JobRecord;

#[path = "../support/engine.rs"]
mod engine;
use engine::*;

mod adaptive;
mod cluster;
mod large_state;
mod network;
mod quic;
mod rescaling;
use cluster::{Ground, Node};

const SPLITS: u64 = 4;

fn sums(parallelism: u32, tap: &Tap, trap: &Trap, target: &Arc<Target<Summed>>) -> Environment {
    let env = environment(parallelism);
    let trap = trap.clone();
    env.from_source("numbers", tapped(tap, |split, n| (split * 7 + n % 7, n, n)))
        .uid("numbers")
        .map(move |record| {
            trap.step();
            record
        })
        .key_by(|(key, _, _)| *key)
        .reduce(|so_far, (_, n, _)| {
            so_far.1 = n;
            so_far.2 += n;
        })
        .uid("sums")
        .rebalance()
        .map(|row| row)
        .sink_to("out", MemorySink(Arc::clone(target)))
        .uid("out");
    env
}

fn expected(records: u64) -> Vec<Summed> {
    expected_sums(SPLITS, records)
}

async fn launch(graph: &JobGraph, ground: &Ground, names: &[&str], options: LaunchOptions) -> (Launched, Vec<Node>) {
    let slots = graph.parallelism().div_ceil(u32::try_from(names.len()).expect("few"));
    let mut nodes = Vec::new();
    for name in names {
        nodes.push(ground.node(name, slots, graph).await);
    }
    let offered = nodes.iter().map(Node::offered).collect();
    (launch_on(offered, JobRecord::default(), Arc::new(graph.clone()), options).await.expect("launched"), nodes)
}

fn vertex_of(graph: &JobGraph, uid: &str) -> VertexId {
    graph.vertices.iter().find(|vertex| vertex.operators.iter().any(|own| own.0 == uid)).expect("a vertex").id
}

/// Makes two checkpoints of a job that makes none by itself, with records in between, and waits until each of these nodes has
/// folded the first: it does so before it reads the segments of the second. Answers the segments of the first.
async fn folded_once(
    job: &JobHandle,
    (tap, target): (&Tap, &Target<Summed>),
    nodes: &[&str],
    read: impl Fn(&str) -> Vec<String>,
) -> Vec<String> {
    let mut first = Vec::new();
    for round in 1..=2 {
        tap.release_all(100 * round);
        until(async || target.written.load(Ordering::SeqCst) == SPLITS * 100 * round).await;
        job.trigger(Purpose::Checkpoint, false, None).await.expect("made");
        let folds = |name: &&str| read(name).iter().any(|path| !first.contains(path));
        until(async || nodes.iter().all(folds)).await;
        if round == 1 {
            first = nodes.iter().flat_map(|name| read(name)).collect();
        }
    }
    first
}

async fn end_nodes(nodes: Vec<Node>) {
    for node in nodes {
        node.kill().await;
    }
}

#[test]
fn a_job_over_two_task_managers_survives_panics_exactly_once() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let ground = Ground::new(dir.path());
        let (tap, target) = (Tap::new(SPLITS as usize), Target::new());
        let trap = Trap::at(&[300, 900, 1_500]);
        let (launched, _nodes) =
            launch(&graph_of(&sums(4, &tap, &trap, &target)), &ground, &["a", "b"], options(dir.path())).await;
        tap.release_all(250);
        until_completed(&launched.handle, 3).await;
        tap.release_all(500);
        tap.close_all();
        finish(&launched).await;
        assert_eq!(sorted(&target), expected(500));
        assert_eq!(target.pending(), 0);
        assert!(report(&launched.handle).await.restarts >= 1);
        assert!(ground.network.batches() > 0, "half of the keys live on the other node");
    });
}

#[test]
fn a_lost_task_manager_comes_back_as_another_process_and_the_job_goes_on_exactly_once() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let ground = Ground::new(dir.path());
        let (tap, target) = (Tap::new(SPLITS as usize), Target::new());
        let env = sums(4, &tap, &Trap::default(), &target);
        let graph = graph_of(&env);
        let (launched, mut nodes) = launch(&graph, &ground, &["a", "b"], options(dir.path())).await;
        for round in 1..=6u64 {
            tap.release_all(100 * round - 50);
            until(async || report(&launched.handle).await.status == JobStatus::Running).await;
            let before = report(&launched.handle).await.checkpoints.counts().completed;
            until_completed(&launched.handle, before + 2).await;
            tap.release_all(100 * round);
            let victim = nodes.remove(round as usize % nodes.len());
            let name = victim.process.node.0.clone();
            let lost = victim.kill().await;
            launched.handle.node_lost(lost, "its process was killed");
            let back = ground.node(&name, 2, &graph).await;
            assert!(back.process.incarnation.0 >= 2);
            launched.handle.node_joined(back.offered());
            nodes.push(back);
        }
        tap.close_all();
        finish(&launched).await;
        assert_eq!(sorted(&target), expected(600));
        assert_eq!(target.pending(), 0);
        let report = report(&launched.handle).await;
        assert_eq!(report.restarts, 6, "one for each loss");
    });
}

#[test]
fn only_the_subtasks_of_a_lost_task_manager_move_and_the_others_read_nothing_back() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let ground = Ground::new(dir.path());
        let (tap, target) = (Tap::new(SPLITS as usize), Target::new());
        let env = sums(2, &tap, &Trap::default(), &target);
        let graph = graph_of(&env);
        let mut options = options(dir.path());
        options.checkpoints.interval_ms = None;
        let (launched, mut nodes) = launch(&graph, &ground, &["a", "b"], options).await;
        until_status(&launched.handle, JobStatus::Running).await;
        let sums = vertex_of(&graph, "sums");
        let read = |name: &str| ground.segments_read(name, sums);
        let first = folded_once(&launched.handle, (&tap, &target), &["a", "b"], read).await;
        let before = read("b").len();
        let places = async || {
            let report = report(&launched.handle).await;
            report.subtasks.into_iter().map(|row| (row.id, row.node.0)).collect::<BTreeMap<_, _>>()
        };
        let ran = places().await;
        launched.handle.node_lost(nodes.remove(0).kill().await, "its process was killed");
        let c = ground.node("c", 1, &graph).await;
        launched.handle.node_joined(c.offered());
        tap.close_all();
        finish(&launched).await;
        let moved: BTreeMap<_, _> =
            ran.iter().map(|(id, node)| (*id, if node == "a" { "c" } else { "b" }.to_owned())).collect();
        assert_eq!(places().await, moved);
        let back = |paths: &[String]| paths.iter().filter(|path| first.contains(path)).cloned().collect::<Vec<_>>();
        assert_eq!(back(&read("b")[before..]), Vec::<String>::new(), "it has them itself");
        assert!(!back(&read("c")).is_empty(), "a new one loads what the lost one had");
        assert_eq!(sorted(&target), expected(200));
    });
}

#[test]
fn a_lost_task_manager_restarts_the_lanes_that_ran_on_it_and_no_other() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let ground = Ground::new(dir.path());
        let (tap, target) = (Tap::new(8), Target::new());
        let env = environment(4);
        env.from_source("numbers", tapped(&tap, |split, n| (split, n)))
            .uid("numbers")
            .disable_chaining()
            .sink_to("out", MemorySink(Arc::clone(&target)))
            .uid("out");
        let graph = graph_of(&env);
        let mut options = options(dir.path());
        // Both lanes are gone before their restart is due, so that it is one.
        options.restart = RestartOptions::FixedDelay { attempts: 1_000, delay_ms: 20 };
        let (launched, mut nodes) = launch(&graph, &ground, &["a", "b"], options).await;
        let deployments = async || {
            until_status(&launched.handle, JobStatus::Running).await;
            let report = report(&launched.handle).await;
            report.subtasks.into_iter().map(|row| (row.id, (row.node.0, row.deployment))).collect::<BTreeMap<_, _>>()
        };
        tap.release_all(100);
        until(async || target.len() == 800).await;
        for round in 2..=4 {
            let before = deployments().await;
            tap.release_all(100 * round - 50);
            let lost = nodes.remove(0).kill().await;
            let name = lost.node.0.clone();
            launched.handle.node_lost(lost, "its process was killed");
            nodes.push(ground.node(&name, 2, &graph).await);
            launched.handle.node_joined(nodes[1].offered());
            tap.release_all(100 * round);
            until(async || target.len() as u64 == 800 * round).await;
            let after = deployments().await;
            assert_eq!(before.len(), 8);
            for (id, (node, deployment)) in before {
                let is_same = after[&id] == (node.clone(), deployment);
                assert_eq!(is_same, node != name, "{id} on {node}, of which {name} was lost: {:?}", after[&id]);
            }
        }
        tap.close_all();
        finish(&launched).await;
        let mut rows = target.rows();
        rows.sort_unstable();
        assert_eq!(rows, (0..8).flat_map(|split| (0..400).map(move |n| (split, n))).collect::<Vec<_>>());
        assert_eq!(report(&launched.handle).await.restarts, 3, "one for each loss");
    });
}

#[test]
fn a_job_over_two_task_managers_goes_on_from_rows_in_flight() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let ground = Ground::new(dir.path());
        let (tap, target) = (Tap::new(SPLITS as usize), Target::new());
        let mut options = options(dir.path());
        options.credit.batches = 2;
        options.batch_rows = 10;
        options.checkpoints.aligned_timeout_ms = Some(5);
        let runs: [(u32, &[&str]); 3] = [(4, &["a", "b"]), (3, &["a", "b"]), (3, &["a", "b", "c"])];
        for (round, (parallelism, names)) in (1..).zip(runs) {
            target.stalled.store(true, Ordering::SeqCst);
            let env = sums(parallelism, &tap, &Trap::default(), &target);
            let (launched, nodes) = launch(&graph_of(&env), &ground, names, options.clone()).await;
            tap.release_all(500 * round);
            let persisted = async || {
                let report = report(&launched.handle).await;
                let newest = report.checkpoints.latest_completed();
                let acks = newest.iter().flat_map(|newest| &newest.vertices).flat_map(|vertex| &vertex.subtasks);
                acks.flatten().map(|ack| ack.metrics.persisted_bytes).sum::<u64>()
            };
            until(async || persisted().await > 0).await;
            // All at once, and with them what they had in their queues.
            launched.handle.cancel().await.expect("the job answers");
            target.stalled.store(false, Ordering::SeqCst);
            assert_eq!(outcome(&launched).await.status, JobStatus::Canceled);
            end_nodes(nodes).await;
        }
        tap.close_all();
        let (launched, _nodes) =
            launch(&graph_of(&sums(2, &tap, &Trap::default(), &target)), &ground, &["a", "b"], options).await;
        finish(&launched).await;
        assert_eq!(sorted(&target), expected(1_500));
        assert_eq!(target.pending(), 0);
        assert!(ground.network.batches() > 0, "rows crossed from node to node");
    });
}

#[test]
fn a_broken_link_between_two_task_managers_restarts_the_job() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let ground = Ground::new(dir.path());
        let (tap, target) = (Tap::new(SPLITS as usize), Target::new());
        let env = sums(3, &tap, &Trap::default(), &target);
        let (launched, _nodes) = launch(&graph_of(&env), &ground, &["a", "b", "c"], options(dir.path())).await;
        for round in 1..=5 {
            tap.release_all(100 * round);
            until_status(&launched.handle, JobStatus::Running).await;
            let before = report(&launched.handle).await.checkpoints.counts().completed;
            until_completed(&launched.handle, before + 1).await;
            ground.network.cut();
            until(async || report(&launched.handle).await.restarts >= round).await;
        }
        tap.close_all();
        finish(&launched).await;
        assert_eq!(sorted(&target), expected(500));
        assert_eq!(target.pending(), 0);
    });
}

#[test]
fn a_savepoint_moves_a_job_to_other_nodes_at_another_parallelism() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let ground = Ground::new(dir.path());
        let (tap, target) = (Tap::new(SPLITS as usize), Target::new());
        let mut start_from = StartFrom::Nothing;
        let runs: [(u32, &[&str]); 4] = [(2, &["a", "b"]), (5, &["a", "b", "c"]), (3, &["c"]), (1, &["d"])];
        for (round, (parallelism, names)) in (1..).zip(runs) {
            let options = LaunchOptions { start_from: start_from.clone(), ..options(dir.path()) };
            let env = sums(parallelism, &tap, &Trap::default(), &target);
            let (launched, nodes) = launch(&graph_of(&env), &ground, names, options).await;
            tap.release_all(100 * round);
            until_completed(&launched.handle, 2).await;
            if round < 4 {
                let stopped = launched.handle.trigger(Purpose::StopWithSavepoint, false, None).await.expect("stopped");
                let location = stopped.location.expect("a savepoint");
                start_from = StartFrom::Savepoint(Location::parse(&location).expect("a folder"));
            } else {
                tap.close_all();
            }
            finish(&launched).await;
            end_nodes(nodes).await;
        }
        assert_eq!(sorted(&target), expected(400));
        assert_eq!(target.pending(), 0);
    });
}

#[test]
fn a_job_waits_for_the_slots_that_it_needs() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let ground = Ground::new(dir.path());
        let (tap, target) = (Tap::bounded(SPLITS as usize, 100), Target::new());
        let env = sums(2, &tap, &Trap::default(), &target);
        let graph = graph_of(&env);
        let first = ground.node("a", 1, &graph).await;
        let launched =
            launch_on(vec![first.offered()], JobRecord::default(), Arc::new(graph.clone()), options(dir.path()))
                .await
                .expect("launched");
        until_status(&launched.handle, JobStatus::Created).await;
        let second = ground.node("b", 1, &graph).await;
        launched.handle.node_joined(second.offered());
        finish(&launched).await;
        assert_eq!(sorted(&target), expected(100));
        assert_eq!(report(&launched.handle).await.restarts, 0);
    });
}

#[test]
fn a_subtask_whose_code_never_returns_ends_its_task_manager_and_the_job_goes_on_elsewhere() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let mut ground = Ground::new(dir.path());
        let (ended, why) = std::sync::mpsc::channel::<String>();
        ground.cancellation = Cancellation {
            interval: Duration::from_millis(10),
            timeout: Some(Duration::from_millis(50)),
            end_process: Arc::new(move |reason| drop(ended.send(reason.to_owned()))),
        };
        let (tap, target, stuck) = (Tap::new(1), Target::new(), Stuck::default());
        let graph = |parallelism| {
            let (env, in_code) = (environment(parallelism), stuck.clone());
            env.from_source("numbers", tapped(&tap, |_, n| n))
                .uid("numbers")
                .map(move |n| {
                    if n == 70 {
                        in_code.visit();
                    }
                    n
                })
                .uid("code")
                .sink_to("out", MemorySink(Arc::clone(&target)))
                .uid("out");
            graph_of(&env)
        };
        let (graph, wider) = (graph(1), graph(2));
        let a = ground.node("a", 2, &graph).await;
        let launched = launch_on(vec![a.offered()], JobRecord::default(), Arc::new(graph), options(dir.path()))
            .await
            .expect("launched");
        tap.release_all(60);
        until_completed(&launched.handle, 2).await;
        tap.release_all(100);
        until(async || stuck.visits() == 1).await;
        // A job that is to run otherwise tells its subtasks to go.
        launched.handle.redeploy(Arc::new(wider.clone()), JobRecord::default());
        let mut told = None;
        until(async || {
            told = told.take().or_else(|| why.try_recv().ok());
            told.is_some()
        })
        .await;
        assert!(told.expect("just told").contains("task.cancellation.timeout"));
        // As the end of its process would: the rest of the job sees that it is lost.
        let lost = a.process.clone();
        launched.handle.node_lost(lost, "its process ended");
        let b = ground.node("b", 2, &wider).await;
        launched.handle.node_joined(b.offered());
        tap.close_all();
        finish(&launched).await;
        let mut rows = target.rows();
        rows.sort_unstable();
        assert_eq!(rows, (0..100).collect::<Vec<u64>>());
        stuck.release();
        end_nodes(vec![a, b]).await;
    });
}

/// A place in user code in which the first visitor stays until it is released.
#[derive(Clone, Default)]
struct Stuck(Arc<(Mutex<(u64, bool)>, Condvar)>);

impl Stuck {
    fn visit(&self) {
        let (state, released) = &*self.0;
        let mut state = state.lock().expect("nobody panics");
        state.0 += 1;
        if state.0 == 1 {
            drop(released.wait_while(state, |(_, released)| !*released));
        }
    }

    fn visits(&self) -> u64 {
        self.0.0.lock().expect("nobody panics").0
    }

    fn release(&self) {
        self.0.0.lock().expect("nobody panics").1 = true;
        self.0.1.notify_all();
    }
}
