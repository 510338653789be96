//! A job at another parallelism in place: what is the same in it goes on, and what a task manager has of the state stays with
//! it.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;

use millstream_actors::job_master::report::{JobReport, SubtaskReportRow};
use millstream_actors::protocol::deploy::Programs;

#[path = "../support/growing_source.rs"]
mod growing_source;
use growing_source::Growing;

use super::*;

/// Makes the job as its record says.
struct ByRecord(BTreeMap<u32, Arc<JobGraph>>);

fn record(parallelism: u32) -> JobRecord {
    let configuration = BTreeMap::from([("parallelism.default".to_owned(), parallelism.to_string())]);
    JobRecord { configuration, ..JobRecord::default() }
}

impl Programs for ByRecord {
    fn graph(&self, record: &JobRecord) -> Result<Arc<JobGraph>, PortError> {
        let parallelism: u32 = record.configuration["parallelism.default"].parse().expect("a number");
        Ok(Arc::clone(&self.0[&parallelism]))
    }
}

/// A job at several parallelisms, and the task managers that it runs on.
struct Rescalable {
    graphs: BTreeMap<u32, Arc<JobGraph>>,
    launched: Launched,
    nodes: Vec<Node>,
}

impl Rescalable {
    /// Runs a job at the first of these parallelisms.
    async fn launch(
        ground: &Ground,
        nodes: &[(&str, u32)],
        parallelisms: &[u32],
        job: impl Fn(u32) -> Environment,
        options: LaunchOptions,
    ) -> Self {
        let graph = |parallelism: &u32| (*parallelism, Arc::new(graph_of(&job(*parallelism))));
        let graphs: BTreeMap<u32, Arc<JobGraph>> = parallelisms.iter().map(graph).collect();
        let programs = Arc::new(ByRecord(graphs.clone()));
        let mut started = Vec::new();
        for (name, slots) in nodes {
            started.push(ground.node_with(name, *slots, programs.clone()).await);
        }
        let (offered, first) = (started.iter().map(Node::offered).collect(), parallelisms[0]);
        let launched = launch_on(offered, record(first), Arc::clone(&graphs[&first]), options).await;
        Self { graphs, launched: launched.expect("launched"), nodes: started }
    }

    fn rescale(&self, parallelism: u32) {
        self.launched.handle.redeploy(Arc::clone(&self.graphs[&parallelism]), record(parallelism));
    }

    /// Has it run with so many subtasks of a vertex.
    async fn rescaled(&self, parallelism: u32, vertex: VertexId) -> Box<JobReport> {
        self.rescale(parallelism);
        let subtasks = async || {
            let report = report(&self.launched.handle).await;
            report.subtasks.iter().filter(|row| row.id.vertex == vertex).count()
        };
        until(async || subtasks().await == parallelism as usize).await;
        until_status(&self.launched.handle, JobStatus::Running).await;
        report(&self.launched.handle).await
    }
}

/// A pipeline by key, with so many subtasks or as many as the job has by default.
fn pipeline(
    env: &Environment,
    name: &str,
    parallelism: Option<u32>,
    source: impl Source<Record = Summed>,
    (trap, target): (&Trap, &Arc<Target<Summed>>),
) {
    let (trap, parallelism) = (trap.clone(), parallelism.unwrap_or(env.parallelism()));
    env.from_source(format!("{name}-numbers"), source)
        .uid(format!("{name}-numbers"))
        .set_parallelism(parallelism)
        .map(move |record| {
            trap.step();
            record
        })
        .set_parallelism(parallelism)
        .key_by(|(key, _, _)| *key)
        .reduce(|so_far: &mut Summed, (_, n, _)| {
            so_far.1 = n;
            so_far.2 += n;
        })
        .uid(format!("{name}-sums"))
        .set_parallelism(parallelism)
        .sink_to(format!("{name}-out"), MemorySink(Arc::clone(target)))
        .uid(format!("{name}-out"))
        .set_parallelism(parallelism);
}

fn summed(tap: &Tap) -> impl Source<Record = Summed> + use<> {
    tapped(tap, |split, n| (split * 7 + n % 7, n, n))
}

/// The subtasks of the pipeline of this name.
fn rows_of(report: &JobReport, name: &str) -> Vec<SubtaskReportRow> {
    let is_of = |row: &&SubtaskReportRow| {
        report.vertices.iter().any(|vertex| vertex.id == row.id.vertex && vertex.name.contains(name))
    };
    report.subtasks.iter().filter(is_of).cloned().collect()
}

/// What tells deployments of the subtasks of a pipeline apart.
fn deployed(report: &JobReport, name: &str) -> Vec<String> {
    let rows = rows_of(report, name);
    let deployed = |row: &SubtaskReportRow| {
        let SubtaskReportRow { id, attempt, deployment, node, started_ms, .. } = row;
        format!("{id} {attempt} {deployment} on {node} since {started_ms}")
    };
    rows.iter().map(deployed).collect()
}

/// Records that a pipeline has read since its subtasks were deployed, as its task managers tell.
async fn read_by(job: &JobHandle, name: &str) -> u64 {
    let report = report(job).await;
    let readings = rows_of(&report, &format!("{name}-out")).into_iter().filter_map(|row| row.reading);
    readings.map(|reading| reading.records_in).sum()
}

async fn goes_on_beside(nodes: &[(&str, u32)]) {
    let dir = tempfile::tempdir().expect("a folder");
    let ground = Ground::new(dir.path());
    let (fixed_tap, fixed) = (Tap::new(4), Target::new());
    let (scaled_tap, scaled) = (Tap::new(4), Target::new());
    let job = |parallelism| {
        let env = environment(parallelism);
        pipeline(&env, "fixed", Some(2), summed(&fixed_tap), (&Trap::default(), &fixed));
        pipeline(&env, "scaled", None, summed(&scaled_tap), (&Trap::default(), &scaled));
        env
    };
    let job = Rescalable::launch(&ground, nodes, &[2, 1, 3, 4], job, options(dir.path())).await;
    let handle = &job.launched.handle;
    until_status(handle, JobStatus::Running).await;
    let sums = vertex_of(&job.graphs[&2], "scaled-sums");
    let before = report(handle).await;
    for (round, parallelism) in (1..).zip([4, 3, 1, 2, 2]) {
        // Both read while it is rescaled.
        [&fixed_tap, &scaled_tap].iter().for_each(|tap| tap.release_all(round * 100));
        let now = job.rescaled(parallelism, sums).await;
        assert_eq!(deployed(&now, "fixed"), deployed(&before, "fixed"), "at {parallelism}");
        until(async || fixed.len() as u64 == 4 * round * 100 && scaled.len() as u64 == 4 * round * 100).await;
    }
    let after = report(handle).await;
    assert_eq!(after.restarts, 4, "the last one changes nothing");
    let attempts = |name: &str| rows_of(&after, name).iter().map(|row| row.attempt).collect::<BTreeSet<_>>();
    assert_eq!((attempts("fixed"), attempts("scaled")), (BTreeSet::from([0]), BTreeSet::from([4])));
    until(async || read_by(handle, "fixed").await == 4 * 500).await;
    [&fixed_tap, &scaled_tap].iter().for_each(|tap| tap.close_all());
    finish(&job.launched).await;
    assert_eq!((sorted(&fixed), sorted(&scaled)), (expected_sums(4, 500), expected_sums(4, 500)));
}

#[test]
fn a_pipeline_that_a_rescale_does_not_change_goes_on_undisturbed() {
    run(goes_on_beside(&[("a", 4)]));
}

#[test]
fn a_pipeline_that_a_rescale_does_not_change_goes_on_undisturbed_over_two_task_managers() {
    run(goes_on_beside(&[("a", 2), ("b", 2)]));
}

#[test]
fn a_job_that_a_redeployment_does_not_change_goes_on_even_while_it_is_being_deployed() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let ground = Ground::new(dir.path());
        let (tap, trap, target) = (Tap::new(4), Trap::default(), Target::new());
        let job = |parallelism| sums(parallelism, &tap, &trap, &target);
        let job = Rescalable::launch(&ground, &[("a", 2)], &[2], job, options(dir.path())).await;
        let handle = &job.launched.handle;
        job.rescale(2);
        until_status(handle, JobStatus::Running).await;
        let before = report(handle).await;
        for records in [100, 200] {
            tap.release_all(records);
            job.rescale(2);
            until(async || target.len() as u64 == 4 * records).await;
        }
        let after = report(handle).await;
        assert_eq!((deployed(&before, ""), after.restarts), (deployed(&after, ""), 0));
        trap.spring();
        tap.release_all(300);
        until(async || report(handle).await.restarts == 1).await;
        job.rescale(2);
        until(async || target.len() == 4 * 300).await;
        until_status(handle, JobStatus::Running).await;
        assert_eq!(report(handle).await.restarts, 1, "one that restarts is not stopped again");
        tap.close_all();
        finish(&job.launched).await;
        assert_eq!(sorted(&target), expected(300));
    });
}

/// Lanes of a source and a sink each.
fn lanes(env: &Environment, source: impl Source<Record = Summed>, (trap, target): (&Trap, &Arc<Target<Summed>>)) {
    let trap = trap.clone();
    env.from_source("lanes-numbers", source)
        .uid("lanes-numbers")
        .map(move |record| {
            trap.step();
            record
        })
        .disable_chaining()
        .sink_to("lanes-out", MemorySink(Arc::clone(target)))
        .uid("lanes-out");
}

#[test]
fn pipelines_and_lanes_that_fail_while_a_job_is_rescaled_again_and_again_lose_and_repeat_nothing() {
    let mut attempts = BTreeSet::new();
    for seed in 0..30 {
        run(async {
            let mut random = Random(seed);
            let dir = tempfile::tempdir().expect("a folder");
            let ground = Ground::new(dir.path());
            let (tap, targets) = (Tap::new(6), [Target::new(), Target::new(), Target::new()]);
            let mut trap = || {
                let visits: Vec<u64> = (0..random.below(3)).map(|_| 1 + random.below(6 * 200)).collect();
                Trap::at(&visits)
            };
            let traps = [trap(), trap(), trap()];
            let job = |parallelism| {
                let env = environment(parallelism);
                pipeline(&env, "fixed", Some(2), summed(&tap), (&traps[0], &targets[0]));
                pipeline(&env, "scaled", None, summed(&tap), (&traps[1], &targets[1]));
                lanes(&env, summed(&tap), (&traps[2], &targets[2]));
                env
            };
            let mut options = options(dir.path());
            options.checkpoints.interval_ms = Some(1 + random.below(20) as i64);
            let nodes: &[(&str, u32)] = if seed % 2 == 0 { &[("a", 4)] } else { &[("a", 2), ("b", 2)] };
            let job = Rescalable::launch(&ground, nodes, &[2, 1, 3, 4], job, options).await;
            for step in 1..=5 {
                tap.release_all(step * 40);
                tokio::time::sleep(Duration::from_millis(random.below(12))).await;
                job.rescale(1 + random.below(4) as u32);
                tokio::time::sleep(Duration::from_millis(random.below(12))).await;
            }
            tap.close_all();
            finish(&job.launched).await;
            let report = report(&job.launched.handle).await;
            attempts.extend(rows_of(&report, "fixed").iter().map(|row| row.attempt));
            assert_eq!(sorted(&targets[0]), expected_sums(6, 200), "fixed, seed {seed}");
            assert_eq!(sorted(&targets[1]), expected_sums(6, 200), "scaled, seed {seed}");
            let numbers = (0..6).flat_map(|split| (0..200).map(move |n| (split * 7 + n % 7, n, n)));
            let mut numbers: Vec<Summed> = numbers.collect();
            numbers.sort_unstable();
            assert_eq!(sorted(&targets[2]), numbers, "lanes, seed {seed}");
            assert_eq!(targets.iter().map(|target| target.pending()).sum::<usize>(), 0, "seed {seed}");
            end_nodes(job.nodes).await;
        });
    }
    assert!(
        attempts.contains(&0) && attempts.len() > 1,
        "what is fixed failed sometimes, and else went on: {attempts:?}"
    );
}

#[test]
fn an_enumerator_goes_on_with_its_readers_while_another_is_made_for_other_readers() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let ground = Ground::new(dir.path());
        let (tap, found) = (Tap::bounded(12, 20), Arc::new(AtomicU64::new(2)));
        let (fixed, scaled) = (Target::new(), Target::new());
        let (made_fixed, made_scaled) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let growing =
            |made: &Arc<AtomicU64>| Growing { source: summed(&tap), found: Arc::clone(&found), made: Arc::clone(made) };
        let job = |parallelism| {
            let env = environment(parallelism);
            pipeline(&env, "fixed", Some(2), growing(&made_fixed), (&Trap::default(), &fixed));
            pipeline(&env, "scaled", None, growing(&made_scaled), (&Trap::default(), &scaled));
            env
        };
        let job = Rescalable::launch(&ground, &[("a", 4)], &[2, 3, 4], job, options(dir.path())).await;
        let handle = &job.launched.handle;
        until_status(handle, JobStatus::Running).await;
        let sums = vertex_of(&job.graphs[&2], "scaled-sums");
        for parallelism in [4, 3, 2, 4, 3] {
            found.fetch_add(1, Ordering::SeqCst);
            job.rescale(parallelism);
            // Found while it is rescaled.
            found.fetch_add(1, Ordering::SeqCst);
            job.rescaled(parallelism, sums).await;
        }
        let all = 20 * found.load(Ordering::SeqCst);
        until(async || fixed.len() as u64 >= all && scaled.len() as u64 >= all).await;
        assert_eq!([&made_fixed, &made_scaled].map(|made| made.load(Ordering::SeqCst)), [1, 6]);
        handle.trigger(Purpose::StopWithSavepoint, false, None).await.expect("stopped");
        finish(&job.launched).await;
        assert_eq!((sorted(&fixed), sorted(&scaled)), (expected_sums(12, 20), expected_sums(12, 20)));
    });
}

/// Rescales a job whose task managers have all of its state, and answers which of the segments that they had folded they
/// read again.
async fn read_again(nodes: &[(&str, u32)], parallelisms: &[u32]) -> Vec<String> {
    let dir = tempfile::tempdir().expect("a folder");
    let ground = Ground::new(dir.path());
    let (tap, target) = (Tap::new(SPLITS as usize), Target::new());
    let mut options = options(dir.path());
    options.checkpoints.interval_ms = None;
    let job = |parallelism| sums(parallelism, &tap, &Trap::default(), &target);
    let job = Rescalable::launch(&ground, nodes, parallelisms, job, options).await;
    let handle = &job.launched.handle;
    until_status(handle, JobStatus::Running).await;
    let vertex = vertex_of(&job.graphs[&parallelisms[0]], "sums");
    let names: Vec<&str> = nodes.iter().map(|(name, _)| *name).collect();
    let read = |name: &str| ground.segments_read(name, vertex);
    let first = folded_once(handle, (&tap, &target), &names, read).await;
    let before: Vec<usize> = names.iter().map(|name| read(name).len()).collect();
    for (round, parallelism) in (3..).zip(&parallelisms[1..]) {
        job.rescaled(*parallelism, vertex).await;
        tap.release_all(100 * round);
        until(async || target.written.load(Ordering::SeqCst) >= SPLITS * 100 * round).await;
        // Folded from what the rescale has left behind.
        handle.trigger(Purpose::Checkpoint, false, None).await.expect("made");
    }
    tap.close_all();
    finish(&job.launched).await;
    assert_eq!(sorted(&target), expected(tap.released()));
    let again = names.iter().zip(before).flat_map(|(name, before)| read(name).split_off(before));
    again.filter(|path| first.contains(path)).collect()
}

#[test]
fn a_task_manager_keeps_the_state_of_key_groups_that_stay_on_it_when_a_job_is_scaled_out() {
    run(async {
        assert_eq!(read_again(&[("a", 2), ("b", 2)], &[2, 4]).await, Vec::<String>::new());
    });
}

#[test]
fn key_groups_of_several_subtasks_that_come_together_are_read_from_the_local_state_of_their_task_manager() {
    run(async {
        assert_eq!(read_again(&[("a", 4)], &[4, 3, 1]).await, Vec::<String>::new());
        assert_eq!(read_again(&[("a", 2), ("b", 2)], &[4, 2]).await, Vec::<String>::new());
    });
}

#[test]
fn of_key_groups_that_come_from_another_task_manager_only_those_are_read_from_the_store() {
    run(async {
        let again = read_again(&[("a", 1), ("b", 1)], &[2, 1]).await;
        assert!(!again.is_empty(), "one of the two had only half of it");
        let subtask_of = |path: &String| path.split('-').rev().nth(1).map(str::to_owned);
        let subtasks: BTreeSet<_> = again.iter().map(subtask_of).collect();
        assert_eq!(subtasks.len(), 1, "what was another subtask's: {again:?}");
    });
}
