//! Manifests, the job's log and savepoints: one write at a time on the blocking executor. Whoever writes
//! holds the ledger; nothing is promised before its record is there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_runtime::checkpoint::coordinator::Record;
use millstream_runtime::checkpoint::manifest::{Manifest, SubtaskState, VertexState};
use millstream_runtime::element::Purpose;
use millstream_runtime::graph::JobGraph;
use millstream_runtime::ids::{CheckpointId, JobId, SubtaskId, SubtaskIndex};
use millstream_runtime::key::KEY_FORMAT_VERSION;
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::store::BlobStore;
use millstream_state::blob::{Location, Stores};
use millstream_state::failpoint::Failpoints;
use millstream_state::log::{
    AppendOutcome, JobLog, LogPosition, ManifestRef, RecordKind, RetainedCheckpoint, SavepointRef, TerminalState,
    write_manifest,
};
use millstream_state::savepoint::write_savepoint;

use super::cleaning::Cleaning;

/// The log in the hands of its writer.
pub struct Ledger {
    /// The job.
    pub job: JobId,
    /// The log.
    pub log: JobLog,
    /// The store.
    pub blobs: Arc<dyn BlobStore>,
    /// Opens where savepoints go.
    pub stores: Stores,
    /// Where a test may kill the process.
    pub failpoints: Failpoints,
}

/// A record to be written.
pub struct RecordWork {
    record: Box<Record>,
    manifest: Arc<Manifest>,
    /// The folder of a savepoint.
    target: Option<String>,
    progress: Progress,
}

/// How far a record has come. A step that is done stands: writing again goes on at the append whose outcome is not
/// known, since nothing but that very append may follow it in the log.
#[derive(Default)]
struct Progress {
    /// The segments of a savepoint are in its folder.
    copied: bool,
    /// The manifest, once it is in the store, and what is retained with it.
    manifest: Option<(ManifestRef, Vec<RetainedCheckpoint>)>,
    /// The record of the completed checkpoint, once it is in the log.
    completed: Option<LogPosition>,
    /// What that made unreachable has been told.
    told: bool,
}

impl RecordWork {
    /// What the coordinator has collected, its manifest, and the folder of a savepoint.
    #[must_use]
    pub fn new(record: Box<Record>, manifest: Manifest, target: Option<String>) -> Self {
        Self { record, manifest: Arc::new(manifest), target, progress: Progress::default() }
    }

    /// The checkpoint that it records.
    #[must_use]
    pub fn checkpoint(&self) -> CheckpointId {
        self.record.checkpoint
    }

    /// What may be deleted now that the record of a completed checkpoint is in the log; told once.
    pub fn made_unreachable(&mut self) -> Option<Cleaning> {
        let (reference, retained) = self.progress.manifest.as_ref()?;
        if self.progress.completed.is_none() || std::mem::replace(&mut self.progress.told, true) {
            return None;
        }
        Some(Cleaning::After {
            reference: reference.clone(),
            manifest: Arc::clone(&self.manifest),
            retained: retained.clone(),
        })
    }
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
    pub fn write(&mut self, work: &mut RecordWork) -> Outcome {
        match self.try_write(work) {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Failed(error),
        }
    }

    fn try_write(&mut self, work: &mut RecordWork) -> Result<Outcome, PortError> {
        let purpose = work.record.purpose;
        let is_savepoint = matches!(purpose, Purpose::Savepoint | Purpose::StopWithSavepoint);
        if is_savepoint && !work.progress.copied {
            write_savepoint(&self.stores, &Location::parse(savepoint_folder(work)?)?, &work.manifest, &self.blobs)?;
            work.progress.copied = true;
        }
        let mut written = None;
        if purpose != Purpose::Savepoint {
            match self.complete_checkpoint(work)? {
                AppendOutcome::Written(position) => written = Some(position),
                other => return Ok(not_written(other)),
            }
        }
        if is_savepoint {
            let kind = RecordKind::SavepointMade(SavepointRef {
                checkpoint: work.record.checkpoint,
                path: savepoint_folder(work)?.to_owned(),
                stop: purpose == Purpose::StopWithSavepoint,
                manifest: None,
            });
            match self.log.append(kind)? {
                AppendOutcome::Written(position) => written = Some(position),
                other => return Ok(not_written(other)),
            }
        }
        let location = match (&work.target, &work.progress.manifest) {
            (Some(folder), _) if is_savepoint => folder.clone(),
            (_, Some((reference, _))) => reference.path.clone(),
            (_, None) => String::new(),
        };
        Ok(Outcome::Written { location, position: written })
    }

    /// Records that the checkpoint is complete.
    fn complete_checkpoint(&mut self, work: &mut RecordWork) -> Result<AppendOutcome, PortError> {
        if let Some(position) = work.progress.completed {
            return Ok(AppendOutcome::Written(position));
        }
        let (reference, retained) = match work.progress.manifest.take() {
            Some(stored) => stored,
            None => {
                let manifest = write_manifest(&*self.blobs, &work.manifest, &self.failpoints)?;
                let retained = self.retained(work, manifest.clone());
                (manifest, retained)
            }
        };
        let (_, retained) = work.progress.manifest.insert((reference, retained));
        let checkpoint = work.record.checkpoint;
        let outcome = self.log.append(RecordKind::CheckpointCompleted { checkpoint, retained: retained.clone() })?;
        let AppendOutcome::Written(position) = outcome else { return Ok(outcome) };
        work.progress.completed = Some(position);
        self.failpoints.hit("before-commit");
        Ok(outcome)
    }

    /// What is kept once this record is written: what the coordinator says, with the references of the log.
    fn retained(&self, work: &RecordWork, manifest: ManifestRef) -> Vec<RetainedCheckpoint> {
        let new = RetainedCheckpoint { checkpoint: work.record.checkpoint, manifest };
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

fn savepoint_folder(work: &RecordWork) -> Result<&str, PortError> {
    work.target
        .as_deref()
        .ok_or_else(|| PortError::fix_input("no folder for the savepoint: set execution.checkpointing.savepoint-dir"))
}

fn not_written(outcome: AppendOutcome) -> Outcome {
    match outcome {
        AppendOutcome::Undecided { reason } => Outcome::Undecided(reason),
        AppendOutcome::Deposed { .. } => Outcome::Deposed,
        AppendOutcome::Written(_) => unreachable!("asked only when it was not written"),
    }
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
