//! What the tests of whole jobs in one process share: a source that gives records when the test says so, a sink whose
//! target outlives every attempt and can be made to fail, places that panic, and waiting for a condition.
// Not every file uses everything; a write that does not return sleeps on a thread of its own.
#![allow(dead_code, clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millstream::prelude::*;
use millstream::stream::Parameters;
use millstream_actors::job_master::JobHandle;
use millstream_actors::job_master::handle::JobOutcome;
use millstream_actors::job_master::report::JobReport;
use millstream_actors::launch::{LaunchOptions, Launched, launch};
use millstream_actors::metrics::Now;
use millstream_actors::metrics::subtask::SubtaskReading;
use millstream_runtime::graph::JobGraph;
use millstream_runtime::graph::chaining::{PlanOptions, plan};
use millstream_runtime::ids::VertexId;
use millstream_runtime::job::{JobStatus, RestartOptions};
use millstream_state::blob::Location;

#[path = "memory_sink.rs"]
mod memory_sink;
pub use memory_sink::*;

/// Numbers of a split with the running sum of their key.
pub type Summed = (u64, u64, u64);

/// The sums of `split * 7 + n % 7` over so many numbers of each split, in order.
pub fn expected_sums(splits: u64, records: u64) -> Vec<Summed> {
    let mut sums = BTreeMap::<u64, u64>::new();
    let mut rows = Vec::new();
    for (split, n) in (0..splits).flat_map(|split| (0..records).map(move |n| (split, n))) {
        let sum = sums.entry(split * 7 + n % 7).or_default();
        *sum += n;
        rows.push((split * 7 + n % 7, n, *sum));
    }
    rows.sort_unstable();
    rows
}

/// No test takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn new_runtime() -> tokio::runtime::Runtime {
    // For whoever looks into a failure: RUST_LOG=info.
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    drop(tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init());
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// Runs a test on a runtime of its own, within a minute.
pub fn run<F: Future<Output = ()>>(test: F) {
    Ending::new().block_on(within_a_minute(test));
}

/// A runtime that a failed test does not wait for: the work that it waited for may stand still for ever.
struct Ending(Option<tokio::runtime::Runtime>);

impl Ending {
    fn new() -> Self {
        Self(Some(new_runtime()))
    }

    fn block_on<F: Future>(&self, work: F) -> F::Output {
        self.0.as_ref().expect("it has not ended").block_on(work)
    }

    /// Ends whatever runs on it, without waiting.
    fn end(&mut self) {
        self.0.take().into_iter().for_each(tokio::runtime::Runtime::shutdown_background);
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.end();
        }
    }
}

pub async fn within_a_minute<F: Future>(test: F) -> F::Output {
    tokio::time::timeout(PATIENCE, test).await.expect("done within a minute")
}

/// Waits for a condition; the time-out of the test ends what never comes.
pub async fn until(mut condition: impl AsyncFnMut() -> bool) {
    while !condition().await {
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

pub async fn report(handle: &JobHandle) -> Box<JobReport> {
    handle.report().await.expect("the job answers")
}

pub async fn until_completed(handle: &JobHandle, checkpoints: u64) {
    until(async || report(handle).await.checkpoints.counts().completed >= checkpoints).await;
}

pub async fn until_status(handle: &JobHandle, status: JobStatus) {
    until(async || report(handle).await.status == status).await;
}

/// Checkpoints every 20 ms, restarts at once, any number of failed checkpoints.
pub fn options(state: &Path) -> LaunchOptions {
    let mut options = LaunchOptions::new(state);
    options.checkpoints.interval_ms = Some(20);
    options.checkpoints.tolerable_failed = None;
    options.restart = RestartOptions::FixedDelay { attempts: 1_000, delay_ms: 1 };
    options.savepoint_dir = Some(state.join("savepoints").into());
    options.fold_lag = Some(1);
    options
}

/// Where a savepoint was made.
pub fn place(made: Option<String>) -> Location {
    Location::parse(&made.expect("a place")).expect("a location")
}

pub fn environment(parallelism: u32) -> Environment {
    Environment::new("test", parallelism, Parameters::default())
}

pub fn graph_of(env: &Environment) -> JobGraph {
    plan(env.take_graph(), &plan_options(env)).expect("a valid graph")
}

pub fn plan_options(env: &Environment) -> PlanOptions {
    PlanOptions { name: env.name().to_owned(), parallelism: env.parallelism(), max_parallelism: 128, chaining: true }
}

pub async fn start(env: &Environment, options: LaunchOptions) -> Launched {
    launch(graph_of(env), options).await.expect("launched")
}

pub async fn outcome(launched: &Launched) -> JobOutcome {
    launched.handle.outcome().await.expect("the job answers")
}

pub async fn finish(launched: &Launched) {
    let outcome = outcome(launched).await;
    assert_eq!(outcome.status, JobStatus::Finished, "{outcome:?}");
}

/// The process ends in the middle, as far as that can be played: its runtime and all its actors are gone.
pub fn crash(env: &Environment, options: &LaunchOptions, seen: impl AsyncFnOnce(&Launched)) {
    let mut runtime = Ending::new();
    runtime.block_on(within_a_minute(async {
        let launched = launch_when_free(env, options).await;
        seen(&launched).await;
    }));
    runtime.end();
}

/// Threads of the process before may still be at their last work and hold the folder.
pub async fn launch_when_free(env: &Environment, options: &LaunchOptions) -> Launched {
    let graph = graph_of(env);
    loop {
        match launch(graph.clone(), options.clone()).await {
            Ok(launched) => return launched,
            Err(error) if error.message.contains("another running process") => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Numbers from a seed (SplitMix64).
#[derive(Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// A place in user code that panics at given visits, counted over all attempts and subtasks.
#[derive(Clone, Default)]
pub struct Trap {
    visits: Arc<AtomicU64>,
    at: Arc<Mutex<Vec<u64>>>,
}

impl Trap {
    pub fn at(visits: &[u64]) -> Self {
        Self { visits: Arc::default(), at: Arc::new(Mutex::new(visits.to_vec())) }
    }

    /// Panics at the next visit.
    pub fn spring(&self) {
        lock(&self.at).push(0);
    }

    pub fn step(&self) {
        let visit = self.visits.fetch_add(1, Ordering::SeqCst) + 1;
        let mut at = lock(&self.at);
        let sprung = at.iter().position(|planned| *planned <= visit);
        if let Some(place) = sprung {
            at.remove(place);
            drop(at);
            panic!("a trap was sprung at visit {visit}");
        }
    }

    pub fn visits(&self) -> u64 {
        self.visits.load(Ordering::SeqCst)
    }
}

/// How many records of each split of a [`Tapped`] source may be read, over all attempts.
#[derive(Clone)]
pub struct Tap(Arc<TapState>);

struct TapState {
    released: Mutex<Vec<u64>>,
    /// Splits end once they have been read so far.
    closed: Mutex<Vec<bool>>,
    idle: AtomicBool,
}

impl Tap {
    pub fn new(splits: usize) -> Self {
        Self(Arc::new(TapState {
            released: Mutex::new(vec![0; splits]),
            closed: Mutex::new(vec![false; splits]),
            idle: AtomicBool::new(false),
        }))
    }

    /// All splits hold so many records and end after them.
    pub fn bounded(splits: usize, records: u64) -> Self {
        let tap = Self::new(splits);
        tap.release_all(records);
        tap.close_all();
        tap
    }

    /// The split may be read up to this number of records, from its beginning.
    pub fn release(&self, split: usize, records: u64) {
        lock(&self.0.released)[split] = records;
    }

    pub fn release_all(&self, records: u64) {
        lock(&self.0.released).fill(records);
    }

    /// What the first split may be read up to.
    pub fn released(&self) -> u64 {
        lock(&self.0.released)[0]
    }

    pub fn close(&self, split: usize) {
        lock(&self.0.closed)[split] = true;
    }

    pub fn close_all(&self) {
        lock(&self.0.closed).fill(true);
    }

    /// Whether splits without records say that they are idle.
    pub fn say_idle(&self, idle: bool) {
        self.0.idle.store(idle, Ordering::SeqCst);
    }
}

/// `make(split, n)` for the n-th record of a split, as far as its [`Tap`] is open.
pub struct Tapped<M> {
    pub tap: Tap,
    pub make: M,
    /// Records a poll answers at most.
    pub batch: usize,
}

pub fn tapped<T: Data, M: Fn(u64, u64) -> T + Clone + Send + Sync + 'static>(tap: &Tap, make: M) -> Tapped<M> {
    Tapped { tap: tap.clone(), make, batch: 50 }
}

use millstream_runtime::ports::source::{
    Polled, ReaderContext, SourceReader, Split, SplitEnumerator, SplitIndex, SplitProgress,
};

impl<T: Data, M: Fn(u64, u64) -> T + Clone + Send + Sync + 'static> Source for Tapped<M> {
    type Record = T;

    fn is_bounded(&self) -> bool {
        false
    }

    fn enumerator(&self, restored: Option<&[u8]>) -> Result<Box<dyn SplitEnumerator>, PortError> {
        let splits = lock(&self.tap.0.released).len();
        Ok(Box::new(TapEnumerator { splits, given: restored == Some(&[1]) }))
    }

    fn reader(&self, context: ReaderContext) -> Result<Box<dyn SourceReader<T>>, PortError> {
        let (tap, make, batch) = (self.tap.clone(), self.make.clone(), self.batch);
        Ok(Box::new(TapReader { tap, make, batch, context, splits: Vec::new(), turn: 0, last: false, asleep: false }))
    }
}

struct TapEnumerator {
    splits: usize,
    given: bool,
}

impl SplitEnumerator for TapEnumerator {
    fn discover(&mut self) -> Result<Vec<Split>, PortError> {
        if std::mem::replace(&mut self.given, true) {
            return Ok(Vec::new());
        }
        Ok((0..self.splits)
            .map(|split| Split { id: split.to_string(), position: 0u64.to_be_bytes().to_vec() })
            .collect())
    }

    fn discovery_interval_ms(&self) -> Option<u64> {
        None
    }

    fn snapshot(&self) -> Vec<u8> {
        vec![u8::from(self.given)]
    }
}

struct TapReader<M> {
    tap: Tap,
    make: M,
    batch: usize,
    context: ReaderContext,
    /// Split, next record, finished, said to be idle.
    splits: Vec<(usize, u64, bool, bool)>,
    turn: usize,
    last: bool,
    asleep: bool,
}

impl<T, M: Fn(u64, u64) -> T + Send> SourceReader<T> for TapReader<M> {
    fn add_splits(&mut self, splits: Vec<Split>, _floor: Timestamp) -> Result<(), PortError> {
        for split in splits {
            let position = split.position.try_into().map_err(|_| PortError::fix_input("not a position"))?;
            let id = split.id.parse().map_err(|_| PortError::fix_input("not a split"))?;
            self.splits.push((id, u64::from_be_bytes(position), false, false));
        }
        Ok(())
    }

    fn no_more_splits(&mut self) {
        self.last = true;
    }

    fn poll(&mut self, _progress: &dyn SplitProgress, max_rows: usize, rows: &mut Vec<T>) -> Result<Polled, PortError> {
        let count = self.splits.len();
        for offset in 0..count {
            let index = (self.turn + offset) % count;
            let (split, next, finished, said_idle) = &mut self.splits[index];
            let released = lock(&self.tap.0.released)[*split];
            if *finished {
                continue;
            }
            if *next < released {
                *said_idle = false;
                let upper = released.min(*next + self.batch.min(max_rows) as u64);
                rows.extend((*next..upper).map(|n| (self.make)(*split as u64, n)));
                *next = upper;
                self.turn = index + 1;
                return Ok(Polled::Rows(SplitIndex(index)));
            }
            if lock(&self.tap.0.closed)[*split] {
                *finished = true;
                return Ok(Polled::Finished(SplitIndex(index)));
            }
            if self.tap.0.idle.load(Ordering::SeqCst) && !*said_idle {
                *said_idle = true;
                return Ok(Polled::Idle(SplitIndex(index)));
            }
        }
        if self.last && self.splits.iter().all(|(_, _, finished, _)| *finished) {
            return Ok(Polled::EndOfInput);
        }
        (self.context.wake_after)(2);
        self.asleep = true;
        Ok(Polled::Waiting)
    }

    fn snapshot(&mut self) -> Result<Vec<(SplitIndex, Split)>, PortError> {
        let unfinished = self.splits.iter().enumerate().filter(|(_, (_, _, finished, _))| !finished);
        Ok(unfinished
            .map(|(index, (split, next, _, _))| {
                (SplitIndex(index), Split { id: split.to_string(), position: next.to_be_bytes().to_vec() })
            })
            .collect())
    }
}

/// What the subtasks of a vertex measure just now, by index.
pub async fn readings(launched: &Launched, vertex: &str) -> Vec<SubtaskReading> {
    let report = report(&launched.handle).await;
    let now = Now { monotonic_ns: launched.stopwatch.elapsed_ns(), wall_ms: 0 };
    let of_vertex = |id: VertexId| report.vertices.iter().any(|one| one.id == id && one.name.contains(vertex));
    let ids = report.subtasks.iter().map(|row| row.id).filter(|id| of_vertex(id.vertex));
    ids.filter_map(|id| launched.registry.task_reading(report.job, id, now)).collect()
}

/// Records that the subtasks of a vertex have taken in since their attempt began.
pub async fn records_in(launched: &Launched, vertex: &str) -> u64 {
    readings(launched, vertex).await.iter().map(|reading| reading.records_in).sum()
}
