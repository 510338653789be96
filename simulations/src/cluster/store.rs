//! The checkpoint store of a cluster: in memory, the same for all hosts, and it outlives them. Watches every record: slots
//! never change, checkpoints and attempts only go forward; and tells the output which transactions a checkpoint lists.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use millstream_runtime::chain::sink::TRANSACTIONS;
use millstream_runtime::checkpoint::manifest::{Manifest, SegmentRef};
use millstream_runtime::ids::JobId;
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::store::{BlobStore, Created};
use millstream_runtime::state::operator::decode_item;
use millstream_state::blob::MemoryBlobs;
use millstream_state::log::{LogState, read_manifest, recover};
use millstream_state::segment::SegmentReader;

use super::findings::Findings;
use super::output::{Output, TransactionId};
use crate::trace::Trace;

/// The store. Clones are the same.
#[derive(Clone)]
pub struct Store {
    blobs: MemoryBlobs,
    trace: Trace,
    findings: Findings,
    output: Output,
    /// A bug: what is there is written over.
    overwrites: bool,
    records: Arc<Mutex<Records>>,
}

#[derive(Default)]
struct Records {
    slots: BTreeMap<String, Vec<u8>>,
    jobs: BTreeMap<JobId, LogState>,
}

impl Store {
    /// An empty store.
    #[must_use]
    pub fn new(trace: Trace, findings: Findings, output: Output, overwrites: bool) -> Self {
        Self { blobs: MemoryBlobs::new(), trace, findings, output, overwrites, records: Arc::default() }
    }

    /// The store as a host uses it.
    #[must_use]
    pub fn of(&self, host: &str) -> HostStore {
        HostStore { store: self.clone(), host: host.to_owned() }
    }

    /// The blobs themselves.
    #[must_use]
    pub fn blobs(&self) -> &MemoryBlobs {
        &self.blobs
    }

    fn records(&self) -> std::sync::MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A slot of a log was occupied.
    fn slot_written(&self, path: &str, bytes: &[u8]) {
        let before = self.records().slots.insert(path.to_owned(), bytes.to_vec());
        if before.is_some() {
            self.findings.violation(format!("{path} is written over: two leaders have the same slot"));
        }
        if let Some(job) = job_of(path)
            && let Err(error) = self.job_recorded(job)
        {
            self.findings.violation(format!("what is recorded cannot be read: {error}"));
        }
    }

    fn job_recorded(&self, job: JobId) -> Result<(), PortError> {
        let state = recover(&self.blobs, job)?;
        let before = self.records().jobs.insert(job, state.clone()).unwrap_or_default();
        if state.epoch > before.epoch {
            self.trace.event("record", &format!("a leader has the job in epoch {}", state.epoch));
        }
        if state.attempt != before.attempt {
            let from = state.retained.last().map(|kept| kept.checkpoint.0);
            let attempt = state.attempt.unwrap_or_default();
            self.trace.event("record", &format!("attempt {attempt} starts from checkpoint {from:?}"));
        }
        let backwards = state.attempt < before.attempt || state.last_checkpoint < before.last_checkpoint;
        if backwards || state.epoch < before.epoch {
            self.findings.violation(format!("the log goes back from {before:?} to {state:?}"));
        }
        if let Some(newest) = state.retained.last()
            && state.last_checkpoint != before.last_checkpoint
        {
            let manifest = read_manifest(&self.blobs, &newest.manifest)?;
            let listed = self.transactions(&manifest)?;
            let (checkpoint, attempt) = (newest.checkpoint, manifest.attempt);
            let what = format!("checkpoint {checkpoint} of attempt {attempt} is complete, it lists {}", listed.len());
            self.trace.event("record", &what);
            self.output.listed(listed);
        }
        if let Some(terminal) = &state.terminal {
            self.trace.event("record", &format!("the job is over: {terminal:?}"));
        }
        Ok(())
    }

    /// The transactions that a checkpoint lists.
    fn transactions(&self, manifest: &Manifest) -> Result<Vec<TransactionId>, PortError> {
        let blobs: Arc<dyn BlobStore> = Arc::new(self.blobs.clone());
        let mut listed = Vec::new();
        for vertex in &manifest.vertices {
            let newest = |state: &'_ [SegmentRef]| state.last().cloned();
            for segment in vertex.subtasks.iter().filter_map(|subtask| newest(&subtask.segments)) {
                let reader = SegmentReader::open(&blobs, &segment)?;
                for uid in &vertex.operators {
                    let states = reader.operator_states(uid)?;
                    for item in states.iter().filter(|state| state.name == TRANSACTIONS).flat_map(|state| &state.items)
                    {
                        listed.push(decode_item(TRANSACTIONS, item)?);
                    }
                }
            }
        }
        Ok(listed)
    }
}

fn is_slot(path: &str) -> bool {
    path.contains("/log/")
}

/// Whose log a slot is in; nothing for that of the cluster.
fn job_of(path: &str) -> Option<JobId> {
    path.strip_prefix("jobs/")?.split('/').next()?.parse().ok()
}

/// The store as a host uses it.
pub struct HostStore {
    store: Store,
    host: String,
}

impl BlobStore for HostStore {
    fn put(&self, path: &str, parts: &[&[u8]]) -> Result<(), PortError> {
        self.store.trace.blob(&self.host, path, parts.iter().map(|part| part.len()).sum());
        if is_slot(path) {
            self.store.findings.violation(format!("{} writes the slot {path} without looking", self.host));
        }
        self.store.blobs.put(path, parts)
    }

    fn put_if_absent(&self, path: &str, bytes: &[u8]) -> Result<Created, PortError> {
        self.store.trace.blob(&self.host, path, bytes.len());
        let mut created = self.store.blobs.put_if_absent(path, bytes)?;
        if created == Created::AlreadyExists {
            self.store.trace.event(&self.host, &format!("finds that {path} is written already"));
            if self.store.overwrites {
                self.store.blobs.put(path, &[bytes])?;
                created = Created::Yes;
            }
        }
        if created == Created::Yes && is_slot(path) {
            self.store.slot_written(path, bytes);
        }
        Ok(created)
    }

    fn get(&self, path: &str) -> Result<Option<Vec<u8>>, PortError> {
        self.store.blobs.get(path)
    }

    fn get_range(&self, path: &str, offset: u64, length: u64) -> Result<Vec<u8>, PortError> {
        self.store.blobs.get_range(path, offset, length)
    }

    fn delete(&self, path: &str) -> Result<(), PortError> {
        self.store.trace.blob(&self.host, path, 0);
        if is_slot(path) {
            self.store.findings.violation(format!("{} deletes the slot {path}", self.host));
        }
        self.store.blobs.delete(path)
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, PortError> {
        self.store.blobs.list(prefix)
    }
}
