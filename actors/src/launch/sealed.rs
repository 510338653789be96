//! Starts a job that the leader of a cluster has accepted, or has taken over: in two steps, since what can be wrong with it
//! is found before it is recorded, and nothing runs before it is.

use std::sync::Arc;

use millstream_runtime::graph::JobGraph;
use millstream_runtime::ids::{Epoch, JobId};
use millstream_runtime::job::Parallelism;
use millstream_runtime::ports::PortError;
use millstream_state::log::{AppendOutcome, JobLog, JobRecord, WriterNonce};

use super::starting::{Making, Starting, check_transaction_timeout};
use super::{LaunchOptions, Launched, StartFrom};
use crate::world::{Stopwatch, World};

/// The term of a leader.
#[derive(Clone, Copy, Debug)]
pub struct Term {
    /// Its number.
    pub epoch: Epoch,
    /// Its process.
    pub nonce: WriterNonce,
}

/// What a job is started from.
pub struct Sealing {
    /// The job.
    pub job: JobId,
    /// Its log, if it is sealed for this term already.
    pub log: Option<JobLog>,
    /// Of what every node records the graph.
    pub record: JobRecord,
    /// The graph, as this node has recorded it.
    pub graph: Arc<JobGraph>,
    /// Settings.
    pub options: LaunchOptions,
}

/// A job that can be started: its log is sealed, and what it starts from was read.
pub struct SealedJob {
    starting: Starting,
    record: JobRecord,
    graph: Arc<JobGraph>,
    options: LaunchOptions,
}

impl SealedJob {
    /// Seals the log of a job, and reads what it starts from: its newest checkpoint, or what its options say if it has never
    /// run. Blocks.
    ///
    /// # Errors
    /// When the store cannot answer, a newer leader is there, or what it is to start from cannot be used.
    pub fn prepare(sealing: Sealing, world: &World, term: Term) -> Result<Self, PortError> {
        let Sealing { job, log, record, graph, options } = sealing;
        check_transaction_timeout(&graph, &options)?;
        let log = match log {
            Some(log) => log,
            None => seal(job, world, term)?,
        };
        let state = log.state();
        let has_run = !state.retained.is_empty() || state.started_from.is_some();
        let start_from = if has_run { StartFrom::Latest } else { options.start_from.clone() };
        let starting = Starting::of_log(job, log, &start_from, &options, &world.blobs)?;
        for name in &graph.without_uid {
            tracing::warn!("operator '{name}' keeps state but has no uid: changing the job may lose track of it");
        }
        Ok(Self { starting, record, graph, options })
    }

    /// Its graph.
    #[must_use]
    pub fn graph(&self) -> &Arc<JobGraph> {
        &self.graph
    }

    /// What is recorded of it.
    #[must_use]
    pub fn record(&self) -> &JobRecord {
        &self.record
    }

    /// The same job with so many subtasks of its vertices.
    ///
    /// # Errors
    /// When it cannot have as many.
    pub fn with_parallelism(self, parallelism: Parallelism) -> Result<Self, PortError> {
        let graph = self.graph.with_parallelism(&parallelism);
        let graph = graph.map_err(|error| PortError::fix_input(error.to_string()))?;
        Ok(Self { graph: Arc::new(graph), record: JobRecord { parallelism, ..self.record }, ..self })
    }

    /// Starts it, without nodes at first.
    ///
    /// # Errors
    /// When its master cannot be spawned.
    pub async fn start(self, world: World, stopwatch: Stopwatch) -> Result<Launched, PortError> {
        let Self { starting, record, graph, options } = self;
        starting.spawn(Making { graph, record, options, world, stopwatch, nodes: Vec::new(), node: None }).await
    }
}

fn seal(job: JobId, world: &World, term: Term) -> Result<JobLog, PortError> {
    let blobs = Arc::clone(&world.blobs);
    let mut log = JobLog::open(blobs, job, term.epoch, term.nonce, world.failpoints.clone())?;
    match log.seal()? {
        AppendOutcome::Written(_) => Ok(log),
        AppendOutcome::Deposed { by } => Err(PortError::retry(format!("a newer leader (epoch {by}) is there"))),
        AppendOutcome::Undecided { reason } => Err(PortError::retry(reason)),
    }
}
