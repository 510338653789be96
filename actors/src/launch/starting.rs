//! From the log of a job, sealed for this process, to its running master: the same for a job of this process alone and for
//! one of a cluster.

use std::sync::Arc;

use millstream_runtime::batch::BatchLimit;
use millstream_runtime::checkpoint::coordinator::Retained;
use millstream_runtime::element::Purpose;
use millstream_runtime::graph::JobGraph;
use millstream_runtime::ids::{AttemptId, AttemptNumber, Epoch, JobId};
use millstream_runtime::job::Options as JobOptions;
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::store::BlobStore;
use millstream_state::blob::Location;
use millstream_state::local::NodeFolder;
use millstream_state::log::{JobLog, JobRecord, LogState, read_manifest};
use millstream_state::savepoint::read_savepoint;
use ractor::Actor;

use super::{LaunchOptions, Launched, StartFrom};
use crate::job_master::cleaning::Cleaner;
use crate::job_master::deployment::{Blueprint, OfferedNode};
use crate::job_master::records::Ledger;
use crate::job_master::restore::Restored;
use crate::job_master::{JobArguments, JobHandle, JobMaster};
use crate::protocol::deploy::ChannelOptions;
use crate::world::{Stopwatch, World};

/// A job whose log this process may write.
pub(super) struct Starting {
    job: JobId,
    ledger: Box<Ledger>,
    restore: Option<Restored>,
    restored_from: Option<String>,
    retained: Vec<Retained>,
}

/// Everything else that its master is made with.
pub(super) struct Making {
    pub graph: Arc<JobGraph>,
    pub record: JobRecord,
    pub options: LaunchOptions,
    pub world: World,
    pub stopwatch: Stopwatch,
    pub nodes: Vec<OfferedNode>,
    pub node: Option<Arc<NodeFolder>>,
}

impl Starting {
    /// Reads what a job starts from. Blocks.
    pub(super) fn of_log(
        job: JobId,
        log: JobLog,
        start_from: &StartFrom,
        options: &LaunchOptions,
        blobs: &Arc<dyn BlobStore>,
    ) -> Result<Self, PortError> {
        let epoch = log.epoch();
        let restore = match start_from {
            StartFrom::Savepoint(path) => Some(import(path, options, &**blobs, job, epoch)?),
            StartFrom::Nothing => None,
            // The job master looks for the newest whole checkpoint, for this deployment as for every later one. Before
            // the first one, the savepoint that the run was started from is where it stands.
            StartFrom::Latest => match &log.state().started_from {
                Some(path) if log.state().retained.is_empty() => {
                    Some(import(&Location::parse(path)?, options, &**blobs, job, epoch)?)
                }
                _ => None,
            },
        };
        let restored_from = match &restore {
            Some(restored) => Some(format!("savepoint {} ({})", restored.manifest.checkpoint, restored.path)),
            None => {
                let newest = log.state().retained.last();
                newest.map(|kept| format!("checkpoint {} ({})", kept.checkpoint, kept.manifest.path))
            }
        };
        let retained = retained(&**blobs, log.state());
        let ledger = Box::new(Ledger {
            job,
            log,
            blobs: Arc::clone(blobs),
            stores: options.stores.clone(),
            failpoints: options.failpoints.clone(),
        });
        Ok(Self { job, ledger, restore, restored_from, retained })
    }

    /// Spawns the master.
    pub(super) async fn spawn(self, making: Making) -> Result<Launched, PortError> {
        let Self { job, ledger, restore, restored_from, retained } = self;
        let Making { graph, record, options, world, stopwatch, nodes, node } = making;
        let (registry, memory) = (Arc::clone(&world.registry), Arc::clone(&world.memory));
        let batch = BatchLimit { rows: options.batch_rows, bytes: options.batch_bytes };
        let channels = ChannelOptions { credit: options.credit, batch };
        let arguments = JobArguments {
            blueprint: Blueprint {
                job,
                graph,
                record,
                channels,
                fold_lag: options.fold_lag,
                failover: options.failover,
                world,
            },
            cleaner: Box::new(Cleaner::new(job, Arc::clone(&ledger.blobs))),
            ledger,
            checkpoints: options.checkpoints,
            retained,
            job: JobOptions { restart: options.restart, exception_history_size: options.exception_history_size },
            restore,
            allow_non_restored_state: options.allow_non_restored_state,
            allow_fallback: options.allow_fallback,
            savepoint_dir: options.savepoint_dir.map(|dir| dir.to_string()),
            properties: options.properties,
            nodes,
            balance: options.balance,
            node,
        };
        let (master, _joined) = Actor::spawn(None, JobMaster, arguments)
            .await
            .map_err(|error| PortError::give_up(format!("the job could not be started: {error}")))?;
        Ok(Launched { handle: JobHandle::new(job, master), registry, memory, restored_from, stopwatch })
    }
}

/// A transaction must outlive the time between two checkpoints and an outage, or data would be lost in silence.
pub(super) fn check_transaction_timeout(graph: &JobGraph, options: &LaunchOptions) -> Result<(), PortError> {
    let Some((sink, timeout_ms)) = &graph.transaction_timeout else { return Ok(()) };
    let interval_ms = options.checkpoints.interval_ms.unwrap_or(0) + options.checkpoints.timeout_ms;
    if i64::try_from(*timeout_ms).unwrap_or(i64::MAX) < interval_ms {
        return Err(PortError::fix_input(format!(
            "sink '{sink}' keeps a transaction for {timeout_ms} ms, but a checkpoint may take up to {interval_ms} ms (interval + timeout): raise the sink's time-out or lower execution.checkpointing.timeout"
        )));
    }
    Ok(())
}

/// Copies a savepoint into the store of the job: the savepoint stays the user's, and may be deleted at once.
fn import(
    path: &Location,
    options: &LaunchOptions,
    blobs: &dyn BlobStore,
    job: JobId,
    epoch: Epoch,
) -> Result<Restored, PortError> {
    let savepoint = read_savepoint(&options.stores, path)?;
    let attempt = AttemptId { epoch, attempt: AttemptNumber(0) };
    let manifest = savepoint.import(blobs, job, attempt)?;
    let path = savepoint.path.to_string();
    Ok(Restored { manifest: Arc::new(manifest), path, is_savepoint: true })
}

/// The checkpoints of the log as the coordinator counts them.
fn retained(blobs: &dyn BlobStore, state: &LogState) -> Vec<Retained> {
    state
        .retained
        .iter()
        .map(|kept| {
            // A damaged manifest is found again, and told, when the restore is planned.
            let purpose = read_manifest(blobs, &kept.manifest).map_or(Purpose::Checkpoint, |manifest| manifest.purpose);
            Retained { checkpoint: kept.checkpoint, purpose }
        })
        .collect()
}
