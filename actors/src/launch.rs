//! Starts a job in this process: a cluster of one. Decides whether it goes on where an earlier run stopped, takes the
//! lead over its log, and spawns its master. Used by `run`, by programs that embed the engine, and by benchmarks.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_runtime::checkpoint::coordinator::Options as CheckpointOptions;
use millstream_runtime::credit::CreditLimit;
use millstream_runtime::graph::{FailoverStrategy, JobGraph};
use millstream_runtime::ids::{CheckpointId, Epoch, JobId, NodeId, NodeIncarnation, NodeProcess};
use millstream_runtime::job::RestartOptions;
use millstream_runtime::job::placement::LoadBalance;
use millstream_runtime::ports::sink::SinkOutput;
use millstream_runtime::ports::store::BlobStore;
use millstream_runtime::ports::{Clock, PortError};
use millstream_runtime::state::memory::StateMemory;
use millstream_state::blob::{Location, Stores};
use millstream_state::failpoint::Failpoints;
use millstream_state::local::NodeFolder;
use millstream_state::log::{AppendOutcome, JobLog, JobRecord, TerminalState, WriterNonce, recover};
use millstream_state::names::job_folder;

use crate::job_master::JobHandle;
use crate::job_master::deployment::OfferedNode;
use crate::metrics::Registry;
use crate::protocol::deploy::Recorded;
use crate::task_manager::{self, Cancellation, NoTransport, TaskManagerArguments};
use crate::world::{BlockingPool, Stopwatch, SystemClock, World, blocking};

mod guard;
pub mod sealed;
mod starting;

use starting::{Making, Starting, check_transaction_timeout};

/// The file in the state folder that names its present job.
const CURRENT_JOB: &str = "current-job";

/// The node on which jobs run that [`launch`] starts.
pub const EMBEDDED_NODE: &str = "embedded";

/// What a job starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartFrom {
    /// The newest completed checkpoint of an unfinished run in the same state folder; else from nothing.
    Latest,
    /// From nothing; what an earlier run left in the state folder is deleted.
    Nothing,
    /// A savepoint or checkpoint of any run.
    Savepoint(Location),
}

/// Settings of one job in this process.
#[derive(Clone, Debug)]
pub struct LaunchOptions {
    /// Checkpoints, log and local state lie below this folder.
    pub state_dir: PathBuf,
    /// Checkpoints and log lie there instead, a place which jobs may share.
    pub checkpoint_dir: Option<Location>,
    /// Where savepoints go unless a request says.
    pub savepoint_dir: Option<Location>,
    /// Opens these places.
    pub stores: Stores,
    /// What it starts from.
    pub start_from: StartFrom,
    /// State without an operator may be left behind.
    pub allow_non_restored_state: bool,
    /// Going back past a damaged checkpoint may repeat output that it committed.
    pub allow_fallback: bool,
    /// Settings of its checkpoints.
    pub checkpoints: CheckpointOptions,
    /// What follows a failure.
    pub restart: RestartOptions,
    /// Which subtasks restart together.
    pub failover: FailoverStrategy,
    /// Failures remembered.
    pub exception_history_size: usize,
    /// Credit of a channel.
    pub credit: CreditLimit,
    /// Rows in a full batch.
    pub batch_rows: usize,
    /// Bytes in a full batch.
    pub batch_bytes: usize,
    /// Completed checkpoints folded into the local store together; `None` keeps no local store.
    pub fold_lag: Option<u32>,
    /// How subtasks are shared out to nodes.
    pub balance: LoadBalance,
    /// What keyed state may take in memory, in bytes: beyond that, entries that the local store has leave it. `None` is no
    /// limit.
    pub state_memory: Option<usize>,
    /// Settings shown by REST and kept in manifests.
    pub properties: Vec<(String, String)>,
    /// Whether output that does not belong to what the job starts from is replaced (where the start is anew) or makes
    /// the launch refuse. Without it, sinks write to what is there.
    pub guard_output: bool,
    /// How long subtasks of a task manager of this process may take to go.
    pub cancellation: Cancellation,
    /// Where a test may kill the process.
    pub failpoints: Failpoints,
}

impl LaunchOptions {
    /// Defaults with state below `state_dir`: a checkpoint every second, Flink's restart strategy.
    #[must_use]
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        Self {
            state_dir: state_dir.into(),
            checkpoint_dir: None,
            savepoint_dir: None,
            stores: Stores::default(),
            start_from: StartFrom::Latest,
            allow_non_restored_state: false,
            allow_fallback: false,
            checkpoints: CheckpointOptions { interval_ms: Some(1_000), ..CheckpointOptions::default() },
            restart: RestartOptions::default_for(true),
            failover: FailoverStrategy::default(),
            exception_history_size: 16,
            credit: CreditLimit::default(),
            batch_rows: millstream_runtime::batch::DEFAULT_BATCH_ROWS,
            batch_bytes: millstream_runtime::batch::DEFAULT_BATCH_BYTES,
            fold_lag: Some(4),
            balance: LoadBalance::default(),
            state_memory: None,
            properties: Vec::new(),
            guard_output: false,
            cancellation: Cancellation::patient(),
            failpoints: Failpoints::none(),
        }
    }
}

impl LaunchOptions {
    /// The place of the checkpoint store.
    #[must_use]
    pub fn checkpoints(&self) -> Location {
        self.checkpoint_dir.clone().unwrap_or_else(|| self.state_dir.join("checkpoints").into())
    }
}

/// What is in a state folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EarlierRun {
    /// Nothing.
    None,
    /// A run that has not finished, with its newest completed checkpoint.
    Unfinished {
        /// The job.
        job: JobId,
        /// Its newest completed checkpoint.
        checkpoint: Option<CheckpointId>,
    },
    /// A run that has finished or was cancelled.
    Over {
        /// The job.
        job: JobId,
        /// How it ended.
        state: TerminalState,
    },
}

/// A started job.
pub struct Launched {
    /// The job.
    pub handle: JobHandle,
    /// The metrics of this process.
    pub registry: Arc<Registry>,
    /// What keyed state of this process may take in memory.
    pub memory: Arc<StateMemory>,
    /// The checkpoint or savepoint it goes on from, for the user.
    pub restored_from: Option<String>,
    /// The clock of the metrics.
    pub stopwatch: Stopwatch,
}

/// Looks at what an earlier run has left.
///
/// # Errors
/// When the folder cannot be read or the log is damaged.
pub fn earlier_run(options: &LaunchOptions) -> Result<EarlierRun, PortError> {
    let Some(job) = current_job(&options.state_dir)? else { return Ok(EarlierRun::None) };
    let blobs = options.stores.open(&options.checkpoints())?;
    let state = recover(&*blobs, job)?;
    Ok(match state.terminal {
        // A stop and a failure leave something to go on with.
        Some(terminal @ (TerminalState::Finished | TerminalState::Canceled)) => {
            EarlierRun::Over { job, state: terminal }
        }
        Some(TerminalState::Stopped | TerminalState::Failed { .. }) | None => {
            let checkpoint = state.retained.last().map(|retained| retained.checkpoint);
            EarlierRun::Unfinished { job, checkpoint }
        }
    })
}

fn current_job(state_dir: &Path) -> Result<Option<JobId>, PortError> {
    let path = state_dir.join(CURRENT_JOB);
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let damaged = |error| {
                PortError::fix_input(format!("{}: {error}; delete the folder or run with --fresh", path.display()))
            };
            text.trim().parse().map(Some).map_err(damaged)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(PortError::fix_input(format!("{} cannot be read: {error}", path.display()))),
    }
}

fn set_current_job(state_dir: &Path, job: JobId) -> Result<(), PortError> {
    let failed =
        |error: std::io::Error| PortError::fix_input(format!("{} cannot be written: {error}", state_dir.display()));
    let temporary = state_dir.join(".current-job");
    std::fs::write(&temporary, job.to_string()).map_err(failed)?;
    std::fs::rename(&temporary, state_dir.join(CURRENT_JOB)).map_err(failed)
}

/// Starts a job on a task manager of this process.
///
/// # Errors
/// When the state folder is in use or unusable, or what it is to start from cannot be read.
pub async fn launch(graph: JobGraph, options: LaunchOptions) -> Result<Launched, PortError> {
    let graph = Arc::new(graph);
    let launching = Launching::prepare(&graph, options).await?;
    let incarnation = NodeIncarnation(launching.prepared.node.incarnation());
    let process = NodeProcess { node: NodeId(EMBEDDED_NODE.to_owned()), incarnation };
    let task_manager = task_manager::start(TaskManagerArguments {
        process: process.clone(),
        world: launching.world.clone(),
        transport: Arc::new(NoTransport),
        programs: Arc::new(Recorded(Arc::clone(&graph))),
        folder: Arc::downgrade(&launching.prepared.node),
        stopwatch: launching.stopwatch,
        cancellation: launching.options.cancellation.clone(),
    })
    .await?;
    let offered = OfferedNode { process, slots: graph.slots(), gateway: Arc::new(task_manager) };
    let record = JobRecord { name: graph.name.clone(), ..JobRecord::default() };
    launching.start(record, graph, vec![offered]).await
}

/// Starts a job whose subtasks run on the given task managers, and on those that join later. They must read the same
/// checkpoint store, and record the same graph of `record`.
///
/// # Errors
/// As [`launch`].
pub async fn launch_on(
    nodes: Vec<OfferedNode>,
    record: JobRecord,
    graph: Arc<JobGraph>,
    options: LaunchOptions,
) -> Result<Launched, PortError> {
    Launching::prepare(&graph, options).await?.start(record, graph, nodes).await
}

/// A job over whose log this process has taken the lead.
struct Launching {
    prepared: Prepared,
    options: LaunchOptions,
    world: World,
    stopwatch: Stopwatch,
}

impl Launching {
    async fn prepare(graph: &JobGraph, options: LaunchOptions) -> Result<Self, PortError> {
        let stopwatch = Stopwatch::start();
        let handle = tokio::runtime::Handle::current();
        let clock = SystemClock;
        let seed = seed(&clock);
        check_transaction_timeout(graph, &options)?;
        let prepared = {
            let options = options.clone();
            let (name, outputs) = (graph.name.clone(), graph.sink_outputs().collect::<Vec<_>>());
            let pool = BlockingPool::new(handle.clone());
            blocking(&pool, move || prepare(&name, &options, &outputs, seed)).await??
        };
        for name in &graph.without_uid {
            tracing::warn!("operator '{name}' keeps state but has no uid: changing the job may lose track of it");
        }
        let world = World {
            blobs: Arc::clone(&prepared.blobs),
            blocking: Arc::new(BlockingPool::new(handle)),
            clock: Arc::new(clock),
            failpoints: options.failpoints.clone(),
            registry: Arc::new(Registry::new("localhost", EMBEDDED_NODE, Default::default())),
            memory: StateMemory::new(options.state_memory),
            seed,
        };
        Ok(Self { prepared, options, world, stopwatch })
    }

    async fn start(
        self,
        record: JobRecord,
        graph: Arc<JobGraph>,
        nodes: Vec<OfferedNode>,
    ) -> Result<Launched, PortError> {
        let Self { prepared, options, world, stopwatch } = self;
        let Prepared { starting, node, .. } = prepared;
        starting.spawn(Making { graph, record, options, world, stopwatch, nodes, node: Some(node) }).await
    }
}

struct Prepared {
    starting: Starting,
    node: Arc<NodeFolder>,
    blobs: Arc<dyn BlobStore>,
}

fn prepare(
    name: &str,
    options: &LaunchOptions,
    outputs: &[Arc<dyn SinkOutput>],
    seed: u64,
) -> Result<Prepared, PortError> {
    let dir = &options.state_dir;
    let node = Arc::new(NodeFolder::open(dir.join("node"), nonce(seed, 1))?);
    let blobs = open_stores(options, seed)?;
    let earlier = earlier_run(options)?;
    let mut keep = match (&options.start_from, &earlier) {
        (StartFrom::Latest, EarlierRun::Unfinished { job, .. }) => Some(*job),
        _ => None,
    };
    let mut start_from = options.start_from.clone();
    if options.guard_output && keep.is_none() {
        keep = guard::output(outputs, options, &earlier)?;
        if keep.is_some() {
            // The savepoint is the newest checkpoint of the run that wrote the output.
            start_from = StartFrom::Latest;
        }
    }
    if keep.is_none() {
        if let EarlierRun::Unfinished { job, .. } | EarlierRun::Over { job, .. } = &earlier {
            let folder = job_folder(*job);
            if !is_inside(&start_from, &options.checkpoints().join(&folder)) {
                blobs.delete_all(&folder)?;
            }
        }
        remove(&dir.join("node").join("state"))?;
    }
    let job = keep.unwrap_or_else(|| JobId::from_name(&format!("{name} {seed:016x}")));
    if keep.is_none() {
        set_current_job(dir, job)?;
    }
    let log = take_the_lead(&blobs, job, seed, options)?;
    let starting = Starting::of_log(job, log, &start_from, options, &blobs)?;
    Ok(Prepared { starting, node, blobs })
}

/// Opens the checkpoint store after a trial, and tries out where savepoints go: later would be too late for the user.
fn open_stores(options: &LaunchOptions, seed: u64) -> Result<Arc<dyn BlobStore>, PortError> {
    let trial = format!("{seed:016x}");
    let checkpoints = options.checkpoints();
    let blobs = options.stores.open_tried(&checkpoints, &trial)?;
    if let Some(savepoints @ Location::S3 { bucket, .. }) = &options.savepoint_dir
        && !matches!(&checkpoints, Location::S3 { bucket: same, .. } if same == bucket)
    {
        options.stores.open_tried(savepoints, &trial)?;
    }
    Ok(blobs)
}

/// Opens the log of a job in a new epoch: whoever led it before can write nothing more.
fn take_the_lead(
    blobs: &Arc<dyn BlobStore>,
    job: JobId,
    seed: u64,
    options: &LaunchOptions,
) -> Result<JobLog, PortError> {
    let epoch = Epoch(recover(&**blobs, job)?.epoch.0 + 1);
    let writer = WriterNonce(nonce(seed, 2));
    let mut log = JobLog::open(Arc::clone(blobs), job, epoch, writer, options.failpoints.clone())?;
    match log.seal()? {
        AppendOutcome::Written(_) => Ok(log),
        AppendOutcome::Deposed { by } => {
            Err(PortError::retry(format!("another process (epoch {by}) has just taken over this job")))
        }
        AppendOutcome::Undecided { reason } => Err(PortError::retry(reason)),
    }
}

/// Whether the job starts from a checkpoint in this folder.
fn is_inside(start_from: &StartFrom, folder: &Location) -> bool {
    matches!(start_from, StartFrom::Savepoint(path) if path.is_inside(folder))
}

fn remove(folder: &Path) -> Result<(), PortError> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(PortError::fix_input(format!("{} cannot be deleted: {error}", folder.display())))
        }
        _ => Ok(()),
    }
}

/// A number that differs from process to process: the time of day and the process id.
fn seed(clock: &dyn Clock) -> u64 {
    let now = clock.now_ms().cast_unsigned();
    now.rotate_left(20) ^ u64::from(std::process::id()).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn nonce(seed: u64, purpose: u64) -> [u8; 16] {
    JobId::from_name(&format!("{seed:016x} {purpose}")).0
}
