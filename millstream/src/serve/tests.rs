//! What REST is told about two jobs of a dispatcher, each on a node of its own whose metrics only its task manager sees.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use millstream_actors::dispatcher::{
    self, DispatcherArguments, DispatcherHandle, Scheduling, SchedulingMode, Submission, Submissions,
};
use millstream_actors::job_master::deployment::OfferedNode;
use millstream_actors::launch::LaunchOptions;
use millstream_actors::launch::sealed::Term;
use millstream_actors::metrics::Registry;
use millstream_actors::protocol::deploy;
use millstream_actors::task_manager::{self, NoTransport, TaskManagerArguments};
use millstream_actors::world::{BlockingPool, Stopwatch, World};
use millstream_runtime::graph::JobGraph;
use millstream_runtime::graph::chaining::{PlanOptions, plan};
use millstream_runtime::ids::{NodeId, NodeIncarnation, NodeProcess, SubtaskIndex};
use millstream_runtime::job::{Requirements, RestartOptions};
use millstream_runtime::ports::PortError;
use millstream_runtime::state::memory::StateMemory;
use millstream_state::blob::{LocalBlobs, MemoryBlobs};
use millstream_state::failpoint::Failpoints;
use millstream_state::local::NodeFolder;
use millstream_state::log::{
    AppendOutcome, ClusterLog, ClusterRecord, JobRecord, Leader as LeadingNode, Takeover, TerminalState, WriterNonce,
    take_over,
};

use super::*;
use crate::prelude::*;

const PATIENCE: Duration = Duration::from_secs(60);

/// The graphs of all jobs, as every node's executable holds them.
#[derive(Clone)]
struct Graphs(BTreeMap<String, Arc<JobGraph>>);

impl deploy::Programs for Graphs {
    fn graph(&self, record: &JobRecord) -> Result<Arc<JobGraph>, PortError> {
        Ok(Arc::clone(&self.0[&record.name]))
    }
}

fn graph(name: &str, build: impl Fn(&Environment)) -> Arc<JobGraph> {
    let env = Environment::new(name, 1, Parameters::default());
    build(&env);
    let options = PlanOptions { name: name.to_string(), parallelism: 1, max_parallelism: 128, chaining: true };
    Arc::new(plan(env.take_graph(), &options).unwrap())
}

/// One job that runs for ever, one that does so after a failure, and one that ends after a thousand records.
fn graphs() -> Graphs {
    let for_ever = |name: &str, failed: AtomicBool| {
        let failed = Arc::new(failed);
        graph(name, |env| {
            let failed = Arc::clone(&failed);
            let numbers = DataGeneratorSource::unbounded(|n| n).records_per_second(2_000);
            env.from_source("numbers", numbers)
                .key_by(|n| n % 7)
                .reduce(|sum, n| *sum += n)
                .map(move |n| {
                    assert!(failed.swap(true, Ordering::Relaxed), "planned");
                    n
                })
                .sink_to("out", BlackholeSink);
        })
    };
    let counted = graph("counted", |env| {
        let numbers = env.from_sequence("numbers", 1..=1_000);
        numbers.key_by(|n| *n).reduce(|sum, n| *sum += n).sink_to("out", BlackholeSink);
    });
    let graphs = [for_ever("steady", AtomicBool::new(true)), for_ever("failing", AtomicBool::new(false)), counted];
    Graphs(graphs.into_iter().map(|graph| (graph.name.clone(), graph)).collect())
}

fn checkpoints(dir: &Path) -> PathBuf {
    dir.join("checkpoints")
}

/// What a process uses of the world; its metrics are its own.
fn world(dir: &Path, name: &str) -> World {
    World {
        blobs: Arc::new(LocalBlobs::open(checkpoints(dir)).unwrap()),
        blocking: Arc::new(BlockingPool::new(tokio::runtime::Handle::current())),
        clock: Arc::new(SystemClock),
        failpoints: Failpoints::none(),
        registry: Arc::new(Registry::new("localhost", name, Default::default())),
        memory: StateMemory::new(None),
        seed: 1,
    }
}

/// A leader that took nothing over has nothing to make anew.
struct NoneBefore;

impl Submissions for NoneBefore {
    fn submission(&self, record: &JobRecord) -> Result<Submission, PortError> {
        Err(PortError::give_up(format!("{} was never submitted", record.name)))
    }
}

/// The dispatcher of the only job manager: the log of its cluster lies in memory.
async fn dispatcher(world: World, before: Vec<ClusterRecord>) -> DispatcherHandle {
    let nonce = WriterNonce([1; 16]);
    let mut log = ClusterLog::open(Arc::new(MemoryBlobs::default()), nonce, Failpoints::none()).unwrap();
    let leader = LeadingNode { node: NodeId("leader".to_owned()), rest: String::new() };
    assert!(matches!(log.lead(&leader), Ok(AppendOutcome::Written(_))));
    for record in before {
        assert!(matches!(log.append(record), Ok(AppendOutcome::Written(_))));
    }
    let Takeover::Taken(taken) = take_over(&mut log, &world.blobs, nonce, &Failpoints::none()).unwrap() else {
        panic!("nobody else leads");
    };
    let arguments = DispatcherArguments {
        term: Term { epoch: log.epoch(), nonce },
        log,
        taken,
        world,
        stopwatch: Stopwatch::start(),
        submissions: Arc::new(NoneBefore),
        scheduling: Scheduling { mode: SchedulingMode::Whole, ..Scheduling::default() },
        deposed: Arc::new(|| panic!("nobody else leads")),
    };
    dispatcher::start(arguments).await.unwrap()
}

struct Ground {
    dir: tempfile::TempDir,
    graphs: Graphs,
    dispatcher: DispatcherHandle,
    /// The metrics of the leading process.
    registry: Arc<Registry>,
    folders: Vec<Arc<NodeFolder>>,
}

impl Ground {
    async fn start() -> Self {
        Self::after(Vec::new()).await
    }

    /// A cluster with a leader that finds this in its log.
    async fn after(records: Vec<ClusterRecord>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let world = world(dir.path(), "leader");
        let dispatcher = dispatcher(world.clone(), records).await;
        let mut ground = Self { dir, graphs: graphs(), dispatcher, registry: world.registry, folders: Vec::new() };
        for name in ["a", "b"] {
            ground.node(name).await;
        }
        ground
    }

    fn checkpoints(&self) -> PathBuf {
        checkpoints(self.dir.path())
    }

    async fn node(&mut self, name: &str) {
        let folder = Arc::new(NodeFolder::open(self.dir.path().join(name), [7; 16]).unwrap());
        let process = NodeProcess { node: NodeId(name.to_owned()), incarnation: NodeIncarnation(folder.incarnation()) };
        let gateway = task_manager::start(TaskManagerArguments {
            cancellation: task_manager::Cancellation::patient(),
            process: process.clone(),
            world: world(self.dir.path(), name),
            transport: Arc::new(NoTransport),
            programs: Arc::new(self.graphs.clone()),
            folder: Arc::downgrade(&folder),
            stopwatch: Stopwatch::start(),
        });
        let gateway = Arc::new(gateway.await.unwrap());
        self.dispatcher.node_joined(OfferedNode { process, slots: 1, gateway });
        self.folders.push(folder);
    }

    fn leader(&self) -> Leader {
        let figures = Arc::new(Figures::new(Arc::clone(&self.registry), Stopwatch::start()));
        let checkpoint_storage = self.checkpoints().display().to_string();
        let settings = Settings { configuration: Configuration::default(), checkpoint_storage };
        Leader::new(Jobs::Dispatched(self.dispatcher.clone()), Programs::new(&[], 0, None), figures, settings)
    }

    async fn submit(&self, name: &str) -> JobId {
        let mut options = LaunchOptions::new(self.dir.path().join(format!("of-{name}")));
        options.checkpoint_dir = Some(self.checkpoints().into());
        options.checkpoints.interval_ms = Some(20);
        options.restart = RestartOptions::FixedDelay { attempts: 1, delay_ms: 1 };
        let record = JobRecord {
            name: name.to_string(),
            configuration: BTreeMap::from([("restart-strategy.type".to_string(), "fixed-delay".to_string())]),
            ..JobRecord::default()
        };
        let submission = Submission { record, graph: Arc::clone(&self.graphs.0[name]), options };
        self.dispatcher.submit(submission).await.unwrap().id()
    }
}

async fn until(mut condition: impl AsyncFnMut() -> bool) {
    while !condition().await {
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

async fn until_status(leader: &Leader, job: JobId, status: JobStatus) {
    until(async || leader.job_status(job).await.unwrap() == status).await;
}

/// The task managers of a job, each once.
async fn homes(leader: &Leader, job: JobId) -> BTreeSet<String> {
    let mut homes = BTreeSet::new();
    for vertex in leader.job(job).await.unwrap().vertices {
        let subtasks = leader.vertex(job, vertex.id).await.unwrap().subtasks;
        homes.extend(subtasks.into_iter().map(|subtask| subtask.taskmanager_id));
    }
    homes
}

fn run<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("done within a minute") });
}

#[test]
fn jobs_of_a_dispatcher_are_shown_with_the_nodes_and_figures_of_their_subtasks() {
    run(async {
        let ground = Ground::start().await;
        let leader = ground.leader();
        let steady = ground.submit("steady").await;
        until_status(&leader, steady, JobStatus::Running).await;
        let counted = ground.submit("counted").await;
        until_status(&leader, counted, JobStatus::Finished).await;
        assert_ne!(homes(&leader, steady).await, homes(&leader, counted).await);

        let listed: Vec<(String, JobStatus)> =
            leader.jobs().await.unwrap().into_iter().map(|job| (job.name, job.state)).collect();
        assert_eq!(listed[1], ("counted".to_string(), JobStatus::Finished));
        let vertices = leader.job(counted).await.unwrap().vertices;
        assert_eq!(vertices[0].metrics.write_records, 1_000, "also what was counted last");
        assert_eq!(vertices[1].metrics.read_records, 1_000);

        // The figures of the other job are its own, and change.
        let source = leader.job(steady).await.unwrap().vertices[0].id;
        let subtask = MetricsOf::Subtask(steady, SubtaskId { vertex: source, index: SubtaskIndex(0) });
        let sent = async || {
            let values = leader.metrics(subtask.clone()).await.unwrap();
            values.get("numRecordsOut").map_or(0, |value| value.parse::<u64>().unwrap())
        };
        let metrics = leader.metrics(MetricsOf::Job(steady)).await.unwrap();
        assert_eq!(metrics["numRestarts"], "0");
        let before = sent().await;
        until(async || sent().await > before).await;
        assert!(leader.backpressure(steady, source).await.unwrap().subtasks.len() == 1);

        let present = leader.resource_requirements(steady).await.unwrap();
        assert_eq!(present[&source], ParallelismBounds { lower: 1, upper: 1 });
        let all = |vertices: BTreeMap<VertexId, ParallelismBounds>| Wanted {
            parallelism: None,
            vertices: Requirements(vertices),
        };
        leader.require_resources(steady, all(present.clone())).await.unwrap();
        let too_many = present.keys().map(|vertex| (*vertex, ParallelismBounds { lower: 1, upper: 129 })).collect();
        let mut unknown = present.clone();
        unknown.insert(VertexId([9; 16]), present[&source]);
        for (wrong, why) in
            [(too_many, "maximum parallelism 128"), (BTreeMap::new(), "missing"), (unknown, "has no vertex 0909")]
        {
            let refused = leader.require_resources(steady, all(wrong)).await;
            assert!(matches!(&refused, Err(ApiError::BadRequest(told)) if told.contains(why)), "{refused:?}");
        }
        assert_eq!(leader.resource_requirements(steady).await.unwrap(), present);
    });
}

#[test]
fn a_failure_names_the_task_manager_it_happened_on() {
    run(async {
        let ground = Ground::start().await;
        let leader = ground.leader();
        let failing = ground.submit("failing").await;
        until(async || !leader.exceptions(failing).await.unwrap().exception_history.entries.is_empty()).await;
        let failure = leader.exceptions(failing).await.unwrap().exception_history.entries.remove(0);
        let node = failure.task_manager_id.unwrap();
        assert!(["a", "b"].contains(&node.as_str()), "{node}");
        assert_eq!(failure.endpoint.as_deref(), Some(node.as_str()));
    });
}

#[test]
fn the_overview_sums_over_all_nodes_and_jobs() {
    run(async {
        let ground = Ground::start().await;
        let leader = ground.leader();
        until(async || leader.overview().await.unwrap().slots_available == 2).await;
        let steady = ground.submit("steady").await;
        let counted = ground.submit("counted").await;
        until_status(&leader, counted, JobStatus::Finished).await;
        until(async || leader.overview().await.unwrap().slots_available == 1).await;
        let size = leader.overview().await.unwrap();
        assert_eq!((size.taskmanagers, size.slots_total), (2, 2));
        assert_eq!((size.jobs_running, size.jobs_finished, size.jobs_cancelled), (1, 1, 0));
        let managers = leader.task_managers().await.unwrap();
        assert_eq!(managers.iter().map(|manager| manager.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(managers.iter().map(|manager| manager.free_slots).sum::<u32>(), 1);
        assert_eq!(managers.iter().filter(|manager| manager.assigned_tasks > 0).count(), 1);
        let cluster = leader.metrics(MetricsOf::Cluster).await.unwrap();
        assert_eq!(cluster["numRunningJobs"], "1");
        assert_eq!(cluster["taskSlotsAvailable"], "1");
        assert_eq!(leader.metrics(MetricsOf::TaskManager("a".to_string())).await.unwrap(), BTreeMap::new());
        let unknown = leader.metrics(MetricsOf::TaskManager("c".to_string())).await;
        assert!(matches!(unknown, Err(ApiError::NotFound(_))));

        leader.cancel(steady).await.unwrap();
        let size = leader.overview().await.unwrap();
        assert_eq!((size.jobs_running, size.jobs_finished, size.jobs_cancelled), (0, 1, 1));
        let refused = leader.trigger_checkpoint(steady, CheckpointKind::default()).await;
        assert!(matches!(refused, Err(ApiError::Conflict(_))));
        let unknown = JobId([9; 16]);
        assert_eq!(leader.job_status(unknown).await, Err(ApiError::job_not_found(unknown)));
    });
}

#[test]
fn a_job_is_shown_with_the_configuration_it_was_submitted_with() {
    run(async {
        let ground = Ground::start().await;
        let leader = ground.leader();
        let steady = ground.submit("steady").await;
        let shown = leader.job_configuration(steady).await.unwrap().execution_config;
        assert_eq!(shown.restart_strategy, "fixed-delay");
        let storage = leader.checkpoint_configuration(steady).await.unwrap().checkpoint_storage;
        assert_eq!(storage, ground.checkpoints().display().to_string());
        leader.cancel(steady).await.unwrap();
    });
}

#[test]
fn jobs_of_earlier_leaders_are_shown_as_the_log_of_the_cluster_remembers_them() {
    run(async {
        let [failed, finished, waiting] = [1, 2, 3].map(|number| JobId([number; 16]));
        let submitted = |job, name: &str| {
            let configuration = BTreeMap::from([("pipeline.name".to_string(), format!("my {name}"))]);
            let record = JobRecord { name: name.to_string(), configuration, submitted_ms: 5, ..JobRecord::default() };
            ClusterRecord::Submitted { job, record: Box::new(record) }
        };
        let ground = Ground::after(vec![
            submitted(failed, "failed"),
            submitted(finished, "finished"),
            submitted(waiting, "waiting"),
            ClusterRecord::Ended {
                job: failed,
                state: TerminalState::Failed { reason: "the disk is full".to_string() },
            },
            ClusterRecord::Ended { job: finished, state: TerminalState::Stopped },
        ]);
        let ground = ground.await;
        let leader = ground.leader();
        let trouble = async || {
            let mut entries = leader.exceptions(waiting).await.unwrap().exception_history.entries;
            entries.pop().map(|entry| entry.stacktrace)
        };
        // Nobody can make it anew, which its user is told.
        until(async || trouble().await.is_some_and(|told| told.contains("was never submitted"))).await;
        let listed: Vec<(String, JobStatus, i64)> =
            leader.jobs().await.unwrap().into_iter().map(|job| (job.name, job.state, job.duration)).collect();
        assert_eq!(listed[0], ("my failed".to_string(), JobStatus::Failed, -1));
        assert_eq!(listed[1], ("my finished".to_string(), JobStatus::Finished, -1));
        assert_eq!((listed[2].0.as_str(), listed[2].1), ("my waiting", JobStatus::Initializing));
        let failure = leader.exceptions(failed).await.unwrap().exception_history.entries.remove(0);
        assert_eq!(failure.stacktrace, "the disk is full");
        let size = leader.overview().await.unwrap();
        assert_eq!((size.jobs_running, size.jobs_finished, size.jobs_failed), (1, 1, 1));
        assert!(matches!(leader.cancel(failed).await, Err(ApiError::Conflict(_))));
        let refused = leader.trigger_checkpoint(waiting, CheckpointKind::default()).await;
        assert!(matches!(refused, Err(ApiError::Unavailable(told)) if told.contains("was never submitted")));
        // It is not stuck for ever: it can be cancelled, also twice.
        let (once, twice) = tokio::join!(leader.cancel(waiting), leader.cancel(waiting));
        assert_eq!((once, twice), (Ok(()), Ok(())));
        assert_eq!(leader.job_status(waiting).await.unwrap(), JobStatus::Canceled);
        assert_eq!(leader.cancel(waiting).await, Ok(()));
        assert_eq!(leader.overview().await.unwrap().jobs_cancelled, 1);
    });
}
