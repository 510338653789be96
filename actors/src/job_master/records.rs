//! Manifests, the job's log, savepoints and retention: one write at a time on the blocking executor. Whoever writes
//! holds the ledger; nothing is promised before its record is there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use millstream_runtime::checkpoint::coordinator::Record;
use millstream_runtime::checkpoint::manifest::{Manifest, SubtaskState, VertexState};
use millstream_runtime::element::Purpose;
use millstream_runtime::graph::JobGraph;
use millstream_runtime::ids::{CheckpointId, JobId, SubtaskId, SubtaskIndex};
use millstream_runtime::key::KEY_FORMAT_VERSION;
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::store::BlobStore;
use millstream_state::failpoint::Failpoints;
use millstream_state::log::{
    AppendOutcome, JobLog, LogPosition, RecordKind, RetainedCheckpoint, Retention, SavepointRef, TerminalState,
    write_manifest,
};
use millstream_state::savepoint::write_savepoint;

/// The log in the hands of its writer, with what is reachable through it.
pub struct Ledger {
    /// The job.
    pub job: JobId,
    /// The log.
    pub log: JobLog,
    /// Which files are reachable.
    pub retention: Retention,
    /// The store.
    pub blobs: Arc<dyn BlobStore>,
    /// Where a test may kill the process.
    pub failpoints: Failpoints,
}

/// A record to be written.
pub struct RecordWork {
    /// What the coordinator has collected.
    pub record: Box<Record>,
    /// The manifest made of it.
    pub manifest: Manifest,
    /// The folder of a savepoint.
    pub target: Option<String>,
}

/// What a write came to.
pub enum Outcome {
    /// The record is there.
    Written {
        /// Where a savepoint lies, or the manifest of a checkpoint.
        location: String,
        /// The place of the record in the log.
        position: Option<LogPosition>,
    },
    /// Not known.
    Undecided(String),
    /// Certainly not there.
    Failed(PortError),
    /// Another leader has the log.
    Deposed,
}

/// A record and what became of it.
pub struct RecordOutcome {
    /// The ledger, back.
    pub ledger: Box<Ledger>,
    /// What was to be written.
    pub work: RecordWork,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of the record of the job's end.
pub struct TerminalRecorded {
    /// The ledger, back.
    pub ledger: Box<Ledger>,
    /// What became of it.
    pub outcome: Result<AppendOutcome, PortError>,
}

/// Makes the manifest of what the subtasks have acknowledged.
#[must_use]
pub fn manifest(job: JobId, graph: &JobGraph, record: &Record, properties: Vec<(String, String)>) -> Manifest {
    let states: BTreeMap<SubtaskId, &SubtaskState> = record.subtasks.iter().map(|(id, state)| (*id, state)).collect();
    let vertices = graph
        .vertices
        .iter()
        .map(|vertex| VertexState {
            vertex: vertex.id,
            name: vertex.name.clone(),
            operators: vertex.operators.clone(),
            parallelism: vertex.parallelism,
            max_parallelism: vertex.max_parallelism,
            subtasks: (0..vertex.parallelism)
                .map(|index| {
                    let id = SubtaskId { vertex: vertex.id, index: SubtaskIndex(index) };
                    states.get(&id).map(|state| (*state).clone()).unwrap_or_default()
                })
                .collect(),
            enumerator: record
                .enumerators
                .iter()
                .find(|(of, _, _)| *of == vertex.id)
                .map(|(_, uid, state)| (uid.clone(), state.clone())),
        })
        .collect();
    Manifest {
        job,
        job_name: graph.name.clone(),
        checkpoint: record.checkpoint,
        attempt: record.attempt,
        purpose: record.purpose,
        triggered_ms: record.triggered_ms,
        key_format: KEY_FORMAT_VERSION,
        graph_fingerprint: graph.fingerprint(),
        vertices,
        properties,
    }
}

impl Ledger {
    /// Writes the record of a checkpoint or savepoint. Writing again after `Undecided` settles it.
    pub fn write(&mut self, work: &RecordWork) -> Outcome {
        match self.try_write(work) {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Failed(error),
        }
    }

    fn try_write(&mut self, work: &RecordWork) -> Result<Outcome, PortError> {
        let purpose = work.record.purpose;
        let mut location = String::new();
        if matches!(purpose, Purpose::Savepoint | Purpose::StopWithSavepoint) {
            let target = work.target.as_deref().ok_or_else(|| {
                PortError::fix_input("no folder for the savepoint: set execution.checkpointing.savepoint-dir")
            })?;
            write_savepoint(Path::new(target), &work.manifest, &self.blobs)?;
            target.clone_into(&mut location);
        }
        let mut position = None;
        if purpose != Purpose::Savepoint {
            let reference = write_manifest(&*self.blobs, &work.manifest, &self.failpoints)?;
            if location.is_empty() {
                location.clone_from(&reference.path);
            }
            let retained = self
                .retained(work, RetainedCheckpoint { checkpoint: work.record.checkpoint, manifest: reference.clone() });
            let kind =
                RecordKind::CheckpointCompleted { checkpoint: work.record.checkpoint, retained: retained.clone() };
            match self.log.append(kind)? {
                AppendOutcome::Written(at) => position = Some(at),
                other => return Ok(not_written(other)),
            }
            self.failpoints.hit("before-commit");
            self.retention.add(&reference, &work.manifest);
            if let (_, Some(error)) = self.retention.collect(&*self.blobs, &retained, &BTreeSet::new()) {
                tracing::warn!("files of old checkpoints could not be deleted, they are tried again later: {error}");
            }
        }
        if matches!(purpose, Purpose::Savepoint | Purpose::StopWithSavepoint) {
            let kind = RecordKind::SavepointMade(SavepointRef {
                checkpoint: work.record.checkpoint,
                path: location.clone(),
                stop: purpose == Purpose::StopWithSavepoint,
                manifest: None,
            });
            match self.log.append(kind)? {
                AppendOutcome::Written(at) => position = Some(at),
                other => return Ok(not_written(other)),
            }
        }
        Ok(Outcome::Written { location, position })
    }

    /// What is kept once this record is written: what the coordinator says, with the references of the log.
    fn retained(&self, work: &RecordWork, new: RetainedCheckpoint) -> Vec<RetainedCheckpoint> {
        let keep: BTreeSet<CheckpointId> = work.record.retained.iter().map(|kept| kept.checkpoint).collect();
        let mut retained: Vec<_> = self
            .log
            .state()
            .retained
            .iter()
            .filter(|known| keep.contains(&known.checkpoint) && known.checkpoint != new.checkpoint)
            .cloned()
            .collect();
        retained.push(new);
        retained
    }

    /// Writes the record of the job's end.
    ///
    /// # Errors
    /// When the log refuses.
    pub fn write_terminal(&mut self, state: TerminalState) -> Result<AppendOutcome, PortError> {
        self.log.append(RecordKind::Terminal(state))
    }
}

fn not_written(outcome: AppendOutcome) -> Outcome {
    match outcome {
        AppendOutcome::Undecided { reason } => Outcome::Undecided(reason),
        AppendOutcome::Deposed { .. } => Outcome::Deposed,
        AppendOutcome::Written(_) => unreachable!("asked only when it was not written"),
    }
}
