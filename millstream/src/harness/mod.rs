//! Runs a job on the calling thread, without actors, files or a clock: for unit tests of functions, operators and whole
//! pipelines. Operators, exchanges, watermarks, checkpoints and restores are those of a cluster; only who drives them
//! differs.
//!
//! ```
//! use millstream::harness::{Collected, Harness, TestInput};
//! use millstream::prelude::*;
//!
//! # fn main() -> millstream::Result<()> {
//! let env = Environment::new("doubled", 2, Parameters::default());
//! let (numbers, stream) = TestInput::<u64>::new(&env, "numbers");
//! let doubled = Collected::from(&stream.map(|n| n * 2));
//! let mut harness = Harness::new(&env)?;
//! numbers.push(21);
//! harness.run()?;
//! assert_eq!(doubled.take(), [42]);
//! # Ok(())
//! # }
//! ```

mod deployment;
mod input;
mod output;
mod snapshot;
mod task;
#[cfg(test)]
mod tests;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_runtime::batch::DEFAULT_BATCH_BYTES;
use millstream_runtime::credit::CreditLimit;
use millstream_runtime::element::{Barrier, CheckpointingMode, Overtaking, Purpose};
use millstream_runtime::graph::JobGraph;
use millstream_runtime::graph::chaining::{PlanOptions, plan};
use millstream_runtime::ids::{AttemptId, AttemptNumber, CheckpointId, Epoch, OperatorUid};
use millstream_runtime::key_group::DEFAULT_MAX_PARALLELISM;
use millstream_runtime::ports::source::SplitEnumerator;
use millstream_runtime::ports::{Clock, PortError};
use millstream_runtime::state::memory::StateMemory;
use millstream_runtime::time::Timestamp;

use crate::error::Result;
use crate::stream::Environment;
pub use input::TestInput;
pub use output::Collected;
pub use snapshot::Snapshot;
use task::{Stepped, Task};
use world::World;

/// How a harness runs a job.
#[derive(Clone, Copy, Debug)]
pub struct HarnessOptions {
    /// Number of key groups.
    pub max_parallelism: u16,
    /// Rows in a full batch; small ones make more of what can happen between two batches.
    pub batch_rows: usize,
    /// Bytes in a full batch between subtasks, whichever comes first.
    pub batch_bytes: usize,
    /// Credit of every channel; one batch makes backpressure the rule.
    pub credit: CreditLimit,
    /// Whether operators with forward edges share a subtask.
    pub chaining: bool,
    /// What keyed state may take in memory, in bytes. Beyond that, entries leave it once a checkpoint has them, and are read
    /// from there; a small limit makes that the rule.
    pub state_memory: Option<usize>,
    /// Which order subtasks are stepped in; every number gives another one, always the same.
    pub seed: u64,
}

impl Default for HarnessOptions {
    fn default() -> Self {
        Self {
            max_parallelism: DEFAULT_MAX_PARALLELISM,
            batch_rows: 16,
            batch_bytes: DEFAULT_BATCH_BYTES,
            credit: CreditLimit::default(),
            chaining: true,
            state_memory: None,
            seed: 0,
        }
    }
}

/// A job on the calling thread.
pub struct Harness {
    job: JobGraph,
    tasks: Vec<Task>,
    world: Arc<World>,
    enumerators: BTreeMap<usize, (OperatorUid, Box<dyn SplitEnumerator>, bool)>,
    /// State merged from all cuts so far.
    state: Snapshot,
    /// Subtasks that have still to take their part of the checkpoint under way.
    missing_cuts: usize,
    paused: Vec<usize>,
    random: u64,
    /// Completed checkpoints are folded into a local store, from which evicted state is read.
    folds: bool,
}

impl Harness {
    /// Deploys what the environment has recorded, with the environment's parallelism.
    ///
    /// # Errors
    /// When the graph cannot be planned or an operator not be made.
    pub fn new(env: &Environment) -> Result<Self> {
        Self::with_options(env, HarnessOptions::default())
    }

    /// As [`new`](Self::new), with options.
    ///
    /// # Errors
    /// When the graph cannot be planned or an operator not be made.
    pub fn with_options(env: &Environment, options: HarnessOptions) -> Result<Self> {
        Self::deploy(env, options, None)
    }

    /// Deploys with the state of a snapshot, of the same job at any parallelism. The clock goes on from its time.
    ///
    /// # Errors
    /// When the graph cannot be planned, or the state does not fit its operators.
    pub fn restore(env: &Environment, options: HarnessOptions, snapshot: &Snapshot) -> Result<Self> {
        Self::deploy(env, options, Some(snapshot))
    }

    fn deploy(env: &Environment, options: HarnessOptions, restored: Option<&Snapshot>) -> Result<Self> {
        let plan_options = PlanOptions {
            name: env.name().to_string(),
            parallelism: env.parallelism(),
            max_parallelism: options.max_parallelism,
            chaining: options.chaining,
        };
        let job = plan(env.take_graph(), &plan_options)?;
        let restored = restored.map(|snapshot| snapshot.migrated(&job)).transpose()?;
        let restored = restored.as_ref();
        let world = Arc::new(World::default());
        world.set_time(restored.map_or(0, |snapshot| snapshot.now_ms));
        let memory = StateMemory::new(options.state_memory);
        let tasks = deployment::tasks(&job, &options, (&world, &memory), restored)?;
        let mut state = restored.cloned().unwrap_or_default();
        if restored.is_some() {
            state.attempt.0 += 1;
        }
        let enumerators = BTreeMap::new();
        let (paused, random, folds) = (Vec::new(), options.seed, options.state_memory.is_some());
        let mut harness = Self { job, tasks, world, enumerators, state, missing_cuts: 0, paused, random, folds };
        harness.open_enumerators(restored)?;
        Ok(harness)
    }

    fn open_enumerators(&mut self, restored: Option<&Snapshot>) -> Result<()> {
        for (vertex, job_vertex) in self.job.vertices.iter().enumerate() {
            let Some((uid, factory)) = &job_vertex.enumerator else { continue };
            let snapshot = restored.and_then(|snapshot| snapshot.enumerators.get(uid));
            let enumerator = factory.enumerator(snapshot.map(Vec::as_slice))?;
            self.enumerators.insert(vertex, (uid.clone(), enumerator, factory.is_bounded()));
        }
        self.assign(true)
    }

    /// Looks for new splits of unbounded sources, as a cluster does from time to time.
    ///
    /// # Errors
    /// When the place to look is not readable.
    pub fn discover(&mut self) -> Result<()> {
        self.assign(false)
    }

    fn assign(&mut self, initial: bool) -> Result<()> {
        for (vertex, (_, enumerator, bounded)) in &mut self.enumerators {
            let splits = enumerator.discover()?;
            let readers = self.tasks.iter_mut().filter(|task| task.vertex == *vertex);
            let parallelism = self.job.vertices[*vertex].parallelism as usize;
            for (subtask, reader) in readers.enumerate() {
                let mine = splits.iter().skip(subtask).step_by(parallelism).cloned().collect();
                if let millstream_runtime::chain::head::ChainHead::Source(source) = reader.chain() {
                    source.assign(mine, initial, *bounded, millstream_runtime::time::MIN_TIMESTAMP)?;
                }
            }
        }
        Ok(())
    }

    /// Steps all subtasks until nothing more moves.
    ///
    /// # Errors
    /// When user code, a source or a sink fails.
    pub fn run(&mut self) -> Result<()> {
        while self.round()? {}
        Ok(())
    }

    /// Steps all subtasks at most so many times, a batch each: to stop in the middle of an input.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_rounds(&mut self, rounds: usize) -> Result<()> {
        for _ in 0..rounds {
            if !self.round()? {
                break;
            }
        }
        Ok(())
    }

    /// Whether anything moved or is about to.
    fn round(&mut self) -> Result<bool> {
        let mut moved = self.world.run_blocking();
        for index in self.order() {
            if !self.paused.contains(&self.tasks[index].vertex) {
                moved |= self.step(index)?;
            }
        }
        if moved {
            return Ok(true);
        }
        for task in &mut self.tasks {
            if !self.paused.contains(&task.vertex) {
                task.flush()?;
            }
        }
        let paused = &self.paused;
        let has_mail = self.tasks.iter().any(|task| task.has_mail() && !paused.contains(&task.vertex));
        Ok(has_mail || self.world.has_blocking())
    }

    fn step(&mut self, index: usize) -> Result<bool, PortError> {
        let task = &mut self.tasks[index];
        match task.step()? {
            Stepped::Idle => Ok(false),
            Stepped::Worked => Ok(true),
            Stepped::Cut(operators) => {
                let info = &task.cx.task;
                for operator in operators {
                    self.state.merge(info.subtask.0, &info.key_groups, task.cut_watermark(), operator);
                }
                self.missing_cuts -= 1;
                Ok(true)
            }
        }
    }

    /// An order of the subtasks, another one at each call (xorshift).
    fn order(&mut self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.tasks.len()).collect();
        if self.random != 0 {
            for place in (1..order.len()).rev() {
                self.random ^= self.random << 13;
                self.random ^= self.random >> 7;
                self.random ^= self.random << 17;
                order.swap(place, usize::try_from(self.random % (place as u64 + 1)).unwrap_or(0));
            }
        }
        order
    }

    /// Moves the clock to this time of day (it never goes back) and runs.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn advance_processing_time(&mut self, now_ms: Timestamp) -> Result<()> {
        self.world.set_time(now_ms);
        self.run()
    }

    /// Stops stepping the subtasks of the vertex that this operator is in: what is before it meets backpressure.
    ///
    /// # Panics
    /// When there is no such operator.
    pub fn pause(&mut self, uid: &str) {
        let vertex = self.vertex(uid);
        self.paused.push(vertex);
    }

    /// Goes on with a paused vertex.
    ///
    /// # Panics
    /// When there is no such operator.
    pub fn unpause(&mut self, uid: &str) {
        let vertex = self.vertex(uid);
        self.paused.retain(|other| *other != vertex);
    }

    fn vertex(&self, uid: &str) -> usize {
        let found = self.job.vertices.iter().position(|vertex| vertex.operators.iter().any(|other| other.0 == uid));
        found.unwrap_or_else(|| panic!("the job has no operator '{uid}'"))
    }

    /// Takes a checkpoint: its barrier goes out at each source after what that has read so far. Sinks commit.
    ///
    /// # Errors
    /// When user code, a source or a sink fails.
    pub fn checkpoint(&mut self) -> Result<Snapshot> {
        self.take(Purpose::Checkpoint)
    }

    /// Takes a savepoint: as a checkpoint, but sinks do not commit.
    ///
    /// # Errors
    /// When user code, a source or a sink fails.
    pub fn savepoint(&mut self) -> Result<Snapshot> {
        self.take(Purpose::Savepoint)
    }

    fn take(&mut self, purpose: Purpose) -> Result<Snapshot> {
        self.state.checkpoint.0 += 1;
        self.state.begin_cut();
        self.missing_cuts = self.tasks.len();
        for (uid, enumerator, _) in self.enumerators.values() {
            self.state.enumerators.insert(uid.clone(), enumerator.snapshot());
        }
        let checkpoint = self.state.checkpoint;
        let attempt = attempt(self.state.attempt);
        let (mode, overtaking) = (CheckpointingMode::ExactlyOnce, Overtaking::Never);
        let barrier = Barrier { checkpoint, attempt, purpose, mode, overtaking, triggered_ms: 0 };
        self.tasks.iter_mut().for_each(|task| task.trigger(barrier));
        while self.missing_cuts > 0 {
            if !self.round()? && self.missing_cuts > 0 {
                let message = format!(
                    "{} subtasks did not take part in checkpoint {checkpoint}: is one paused?",
                    self.missing_cuts
                );
                return Err(PortError::retry(message).into());
            }
        }
        self.state.now_ms = self.world.now_ms();
        let snapshot = self.state.clone();
        if purpose != Purpose::Savepoint {
            self.complete(checkpoint, purpose)?;
        }
        Ok(snapshot)
    }

    fn complete(&mut self, checkpoint: CheckpointId, purpose: Purpose) -> Result<()> {
        for task in &mut self.tasks {
            task.complete(checkpoint, purpose)?;
            while task.run_started()? {}
        }
        // A fold lags behind now and then.
        if self.folds && purpose == Purpose::Checkpoint && !self.random.is_multiple_of(3) {
            for task in &mut self.tasks {
                task.folded(&self.state)?;
            }
        }
        Ok(())
    }

    /// What keyed state takes in memory, in bytes, as it was looked at last; 0 without a limit.
    #[must_use]
    pub fn state_bytes(&self) -> u64 {
        self.tasks.iter().map(|task| task.cx.counters.state_bytes).sum()
    }

    /// Runs to the end of all inputs, takes the last checkpoint, and has sinks commit everything.
    ///
    /// # Errors
    /// When an input has not ended, a commit is missing, or user code, a source or a sink fails.
    pub fn finish(&mut self) -> Result<Snapshot> {
        self.run()?;
        let running = self.tasks.iter().filter(|task| !task.has_ended()).count();
        if running > 0 {
            return Err(
                PortError::retry(format!("{running} subtasks still wait for input: end every input first")).into()
            );
        }
        let snapshot = self.take(Purpose::Final)?;
        let uncommitted: usize = self.tasks.iter_mut().map(Task::uncommitted).sum();
        if uncommitted > 0 {
            return Err(PortError::retry(format!("{uncommitted} sinks have not committed everything")).into());
        }
        Ok(snapshot)
    }

    /// Records that operators dropped because they were late.
    #[must_use]
    pub fn late_records_dropped(&self) -> u64 {
        self.tasks.iter().map(|task| task.cx.counters.late_records_dropped).sum()
    }
}

fn attempt(number: AttemptNumber) -> AttemptId {
    AttemptId { epoch: Epoch(1), attempt: number }
}
