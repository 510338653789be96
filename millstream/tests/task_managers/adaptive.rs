//! Jobs of a dispatcher that have other slots than they want, and vertices that are to have another parallelism: what they
//! write is what they write undisturbed.

use millstream_actors::dispatcher::{DispatcherHandle, Scheduling, Submission, Wanted};
use millstream_actors::protocol::deploy::Programs;
use millstream_runtime::graph::JobGraph;
use millstream_runtime::job::{Parallelism, ParallelismBounds, Requirements, adaptive};
use millstream_runtime::ports::PortError;

use super::quic::dispatcher_of;
use super::*;

/// Makes the job at the parallelism of its record.
struct AsRecorded(Arc<JobGraph>);

impl Programs for AsRecorded {
    fn graph(&self, record: &JobRecord) -> Result<Arc<JobGraph>, PortError> {
        let graph = self.0.with_parallelism(&record.parallelism);
        graph.map(Arc::new).map_err(|error| PortError::fix_input(error.to_string()))
    }
}

/// A cluster that runs one job.
struct Rig {
    ground: Ground,
    graph: Arc<JobGraph>,
    dispatcher: DispatcherHandle,
    nodes: BTreeMap<String, Node>,
}

/// Waits no longer than it must.
fn hasty() -> adaptive::Options {
    adaptive::Options {
        submission_stabilization_ms: 50,
        executing_stabilization_ms: 50,
        ..Scheduling::default().adaptive
    }
}

impl Rig {
    async fn start(dir: &std::path::Path, graph: JobGraph, adaptive: adaptive::Options) -> Self {
        let ground = Ground::new(dir);
        let dispatcher = dispatcher_of(&ground, Scheduling { adaptive, ..Scheduling::default() }).await;
        Self { ground, graph: Arc::new(graph), dispatcher, nodes: BTreeMap::new() }
    }

    async fn join(&mut self, name: &str, slots: u32) {
        let node = self.ground.node_with(name, slots, Arc::new(AsRecorded(Arc::clone(&self.graph)))).await;
        self.dispatcher.node_joined(node.offered());
        self.nodes.insert(name.to_owned(), node);
    }

    async fn lose(&mut self, name: &str) {
        let lost = self.nodes.remove(name).expect("it runs").kill().await;
        self.dispatcher.node_lost(lost, "its process was killed".to_owned());
    }

    async fn submit(&self, dir: &std::path::Path) -> JobHandle {
        let (record, graph) = (JobRecord::default(), Arc::clone(&self.graph));
        let submission = Submission { record, graph, options: options(dir) };
        self.dispatcher.submit(submission).await.expect("submitted")
    }

    /// Every vertex may have so many subtasks, in order.
    async fn require(&self, job: &JobHandle, bounds: &[(u32, u32)]) -> Result<(), PortError> {
        let of = |(vertex, (lower, upper)): (&millstream_runtime::graph::JobVertex, &(u32, u32))| {
            (vertex.id, ParallelismBounds { lower: *lower, upper: *upper })
        };
        let vertices = Requirements(self.graph.vertices.iter().zip(bounds).map(of).collect());
        self.dispatcher.require(job.id(), Wanted { parallelism: None, vertices }).await
    }

    async fn free(&self) -> u32 {
        self.dispatcher.nodes().await.expect("it answers").iter().map(|node| node.free).sum()
    }
}

/// Waits until the job runs with so many subtasks of its vertices, in order.
async fn until_parallelism(job: &JobHandle, wanted: &[u32]) {
    until(async || {
        let report = report(job).await;
        let has: Vec<u32> = report.vertices.iter().map(|vertex| vertex.parallelism).collect();
        let subtasks = report.subtasks.len() as u32;
        report.status == JobStatus::Running && has == wanted && subtasks == wanted.iter().sum::<u32>()
    })
    .await;
}

/// Lets the job end, which then has shown so many records of each split, each once.
async fn finished(job: &JobHandle, tap: &Tap, target: &Target<Summed>, records: u64) {
    tap.close_all();
    let outcome = job.outcome().await.expect("it answers");
    assert_eq!(outcome.status, JobStatus::Finished, "{outcome:?}");
    assert_eq!(sorted(target), expected(records));
    assert_eq!(target.pending(), 0);
}

async fn until_one_more_checkpoint(job: &JobHandle) {
    let before = report(job).await.checkpoints.counts().completed;
    until_completed(job, before + 1).await;
}

#[test]
fn vertices_are_rescaled_each_on_its_own_up_and_down_under_failures_exactly_once() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let (tap, target) = (Tap::new(SPLITS as usize), Target::new());
        let trap = Trap::at(&[300, 900, 1_500, 2_100]);
        let graph = graph_of(&sums(2, &tap, &trap, &target));
        assert_eq!(graph.vertices.len(), 3);
        let mut rig = Rig::start(dir.path(), graph, hasty()).await;
        rig.join("a", 3).await;
        rig.join("b", 3).await;
        let job = rig.submit(dir.path()).await;
        until_parallelism(&job, &[2, 2, 2]).await;
        let wanted: [[u32; 3]; 6] = [[4, 1, 2], [1, 5, 3], [3, 3, 3], [2, 6, 1], [4, 2, 2], [1, 1, 4]];
        for (round, wanted) in (1..).zip(wanted) {
            tap.release_all(100 * round - 50);
            until_one_more_checkpoint(&job).await;
            rig.require(&job, &wanted.map(|upper| (1, upper))).await.expect("it can");
            tap.release_all(100 * round);
            until_parallelism(&job, &wanted).await;
            trap.spring();
        }
        tap.release_all(700);
        finished(&job, &tap, &target, 700).await;
        assert!(report(&job).await.restarts >= 10, "four traps, six rescalings");
        until(async || rig.free().await == 6).await;
    });
}

#[test]
fn rows_in_flight_come_through_when_only_one_end_of_an_edge_is_rescaled() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let (tap, target) = (Tap::new(SPLITS as usize), Target::new());
        let graph = graph_of(&sums(2, &tap, &Trap::default(), &target));
        let mut rig = Rig::start(dir.path(), graph, hasty()).await;
        rig.join("a", 4).await;
        let mut options = options(dir.path());
        options.credit.batches = 2;
        options.batch_rows = 10;
        options.checkpoints.aligned_timeout_ms = Some(5);
        let submission = Submission { record: JobRecord::default(), graph: Arc::clone(&rig.graph), options };
        let job = rig.dispatcher.submit(submission).await.expect("submitted");
        until_parallelism(&job, &[2, 2, 2]).await;
        let wanted: [[u32; 3]; 4] = [[2, 3, 2], [4, 3, 2], [4, 3, 1], [1, 4, 4]];
        for (round, wanted) in (1..).zip(wanted) {
            target.stalled.store(true, Ordering::SeqCst);
            tap.release_all(400 * round);
            let persisted = async || {
                let report = report(&job).await;
                let newest = report.checkpoints.latest_completed();
                let acks = newest.iter().flat_map(|newest| &newest.vertices).flat_map(|vertex| &vertex.subtasks);
                acks.flatten().map(|ack| ack.metrics.persisted_bytes).sum::<u64>()
            };
            until(async || persisted().await > 0).await;
            rig.require(&job, &wanted.map(|upper| (1, upper))).await.expect("it can");
            until(async || report(&job).await.vertices.iter().zip(wanted).all(|(now, then)| now.parallelism == then))
                .await;
            target.stalled.store(false, Ordering::SeqCst);
            until_parallelism(&job, &wanted).await;
        }
        finished(&job, &tap, &target, 1_600).await;
    });
}

#[test]
fn a_job_with_fewer_slots_than_it_wants_runs_with_less_and_is_scaled_up_when_they_come() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let (tap, target) = (Tap::new(SPLITS as usize), Target::new());
        let graph = graph_of(&sums(4, &tap, &Trap::default(), &target));
        let mut rig = Rig::start(dir.path(), graph, hasty()).await;
        rig.join("a", 2).await;
        let job = rig.submit(dir.path()).await;
        for (round, (join, parallelism)) in (1..).zip([(None, 2), (Some("b"), 3), (Some("c"), 4)]) {
            if let Some(name) = join {
                rig.join(name, 1).await;
            }
            until_parallelism(&job, &[parallelism; 3]).await;
            tap.release_all(100 * round);
            until_one_more_checkpoint(&job).await;
        }
        rig.lose("b").await;
        until_parallelism(&job, &[3; 3]).await;
        tap.release_all(400);
        finished(&job, &tap, &target, 400).await;
    });
}

#[test]
fn a_job_does_not_run_below_its_lower_bounds_and_goes_on_when_they_are_met() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let (tap, target) = (Tap::new(SPLITS as usize), Target::new());
        let graph = graph_of(&sums(4, &tap, &Trap::default(), &target));
        let mut rig = Rig::start(dir.path(), graph, hasty()).await;
        rig.join("a", 2).await;
        rig.join("b", 2).await;
        let job = rig.submit(dir.path()).await;
        until_parallelism(&job, &[4; 3]).await;
        rig.require(&job, &[(1, 4), (3, 4), (1, 2)]).await.expect("it can");
        until_parallelism(&job, &[4, 4, 2]).await;
        tap.release_all(100);
        until_one_more_checkpoint(&job).await;
        rig.lose("b").await;
        until_status(&job, JobStatus::Restarting).await;
        // Two slots are too few, however long they stay the same.
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(report(&job).await.status, JobStatus::Restarting);
        rig.join("c", 1).await;
        until_parallelism(&job, &[3, 3, 2]).await;
        let refused = rig.require(&job, &[(1, 4), (5, 4), (1, 2)]).await.expect_err("no number is 5 and 4");
        assert!(refused.message.contains("5 to 4 subtasks"), "{refused}");
        tap.release_all(200);
        finished(&job, &tap, &target, 200).await;
    });
}

#[test]
fn a_job_that_waits_for_its_lower_bounds_for_too_long_fails_and_says_so() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let (tap, target) = (Tap::new(SPLITS as usize), Target::new());
        let graph = graph_of(&sums(4, &tap, &Trap::default(), &target));
        let bounds = graph.vertices.iter().map(|vertex| (vertex.id, ParallelismBounds { lower: 3, upper: 4 }));
        let requirements = Requirements(bounds.collect());
        let adaptive = adaptive::Options { resource_wait_ms: Some(150), ..hasty() };
        let mut rig = Rig::start(dir.path(), graph, adaptive).await;
        rig.join("a", 2).await;
        let record = JobRecord { requirements, ..JobRecord::default() };
        let submission = Submission { record, graph: Arc::clone(&rig.graph), options: options(dir.path()) };
        let job = rig.dispatcher.submit(submission).await.expect("submitted");
        let outcome = job.outcome().await.expect("it answers");
        assert_eq!(outcome.status, JobStatus::Failed);
        let failure = outcome.failure.expect("a failure");
        assert!(failure.contains("needs 3 slots at least") && failure.contains("resource-wait-timeout"), "{failure}");
        assert_eq!(target.len(), 0);
        assert_eq!(rig.free().await, 2);
    });
}

#[test]
fn two_slot_sharing_groups_need_the_slots_of_both_and_run_with_less() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let (tap, target) = (Tap::new(SPLITS as usize), Target::new());
        let env = environment(4);
        env.from_source("numbers", tapped(&tap, |split, n| (split * 7 + n % 7, n, n)))
            .uid("numbers")
            .key_by(|(key, _, _)| *key)
            .reduce(|so_far, (_, n, _)| {
                so_far.1 = n;
                so_far.2 += n;
            })
            .uid("sums")
            .slot_sharing_group("heavy")
            .sink_to("out", MemorySink(Arc::clone(&target)))
            .uid("out")
            .slot_sharing_group("default");
        let graph = graph_of(&env);
        assert_eq!((graph.vertices.len(), graph.slots()), (3, 8));
        let mut rig = Rig::start(dir.path(), graph, hasty()).await;
        rig.join("a", 3).await;
        rig.join("b", 2).await;
        let job = rig.submit(dir.path()).await;
        // Five slots are three of one group and two of the other.
        until(async || report(&job).await.status == JobStatus::Running).await;
        let with_less: Parallelism =
            report(&job).await.vertices.iter().map(|vertex| (vertex.id, vertex.parallelism)).collect();
        let of = |uid: &str| with_less[&vertex_of(&rig.graph, uid)];
        assert_eq!((of("numbers"), of("out"), of("sums")), (2, 2, 3));
        tap.release_all(100);
        until_one_more_checkpoint(&job).await;
        rig.join("c", 3).await;
        until_parallelism(&job, &[4; 3]).await;
        assert_eq!(rig.free().await, 0);
        let report = report(&job).await;
        let groups: std::collections::BTreeSet<_> =
            report.vertices.iter().map(|vertex| vertex.slot_sharing_group).collect();
        assert_eq!(groups.len(), 2);
        tap.release_all(200);
        finished(&job, &tap, &target, 200).await;
        until(async || rig.free().await == 8).await;
    });
}
