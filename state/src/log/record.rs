//! What a slot of a log holds, what that is in a job's log, and what all slots of a job together say. Written by the
//! leader, replayed by every recovery.

use std::fmt;

use millstream_runtime::ids::{AttemptId, CheckpointId, Epoch};
use millstream_runtime::ports::PortError;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::frame::{self, FrameKind};

/// BLAKE3 of a whole blob.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Drawn by each process that writes a log, so that it knows its own records after an undecided put.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WriterNonce(pub [u8; 16]);

/// A manifest file and what must be in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestRef {
    /// Blob name, relative to the root of the store.
    pub path: String,
    /// Digest of the file.
    pub digest: Digest,
}

/// A completed checkpoint whose files are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetainedCheckpoint {
    /// Its number.
    pub checkpoint: CheckpointId,
    /// Its manifest.
    pub manifest: ManifestRef,
}

/// A savepoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavepointRef {
    /// The number it took among the job's checkpoints.
    pub checkpoint: CheckpointId,
    /// Its folder, as the user named it.
    pub path: String,
    /// The job stops with it: its transactions are committed once this record is written.
    pub stop: bool,
    /// A manifest in the checkpoint store of the same cut, for resuming and for commits after a stop.
    pub manifest: Option<ManifestRef>,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TerminalState {
    /// All input was processed and committed.
    Finished,
    /// The user ended it.
    Canceled,
    /// Stopped with a savepoint.
    Stopped,
    /// It failed for good.
    Failed {
        /// Why, for users.
        reason: String,
    },
}

/// What is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecordKind {
    /// A leader of this epoch took over; records of older epochs are not written any more.
    Sealed {
        /// Its epoch.
        epoch: Epoch,
    },
    /// A deployment starts from here. Files of older attempts that no retained manifest names may go after it.
    Restored {
        /// The deployment.
        attempt: AttemptId,
        /// The checkpoint it starts from, if not from nothing or from a savepoint.
        checkpoint: Option<CheckpointId>,
        /// The savepoint it starts from.
        savepoint: Option<String>,
    },
    /// A checkpoint is complete.
    CheckpointCompleted {
        /// Its number.
        checkpoint: CheckpointId,
        /// All that are kept from now on, oldest first, this one included.
        retained: Vec<RetainedCheckpoint>,
    },
    /// A savepoint is complete.
    SavepointMade(SavepointRef),
    /// Newer checkpoints were damaged: the job goes on from an older one.
    FellBack {
        /// The one it goes on from; `None` for the beginning.
        to: Option<CheckpointId>,
        /// What was wrong with the newer ones, for users.
        reasons: Vec<String>,
        /// Whether the operator agreed that output of the newer ones may be repeated.
        consented: bool,
    },
    /// The job is over.
    Terminal(TerminalState),
}

/// One slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRecord<K = RecordKind> {
    /// Term of the writer.
    pub epoch: Epoch,
    /// The writer.
    pub writer: WriterNonce,
    /// Digest of the slot before; zeros in the first.
    pub previous: Digest,
    /// What is recorded.
    pub kind: K,
}

impl<K: Serialize + DeserializeOwned> LogRecord<K> {
    pub(super) fn encode(&self, form: FrameKind) -> Vec<u8> {
        let content = rmp_serde::to_vec_named(self).expect("plain data serialises");
        frame::seal(form, &content)
    }

    pub(super) fn decode(form: FrameKind, path: &str, bytes: &[u8]) -> Result<Self, PortError> {
        let content = frame::open(form, path, bytes)?;
        rmp_serde::from_slice(content)
            .map_err(|error| PortError::give_up(format!("{path}: the {} cannot be read: {error}", form.what)))
    }
}

/// A place in the log: everything up to and including this slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPosition {
    /// Number of the slot.
    pub slot: u64,
    /// Digest of the slot, and so of the whole log up to it.
    pub digest: Digest,
}

/// What all slots up to a place say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogState {
    /// The newest slot; `None` while the log is empty.
    pub position: Option<LogPosition>,
    /// The greatest epoch in it.
    pub epoch: Epoch,
    /// Completed checkpoints whose files are kept, oldest first.
    pub retained: Vec<RetainedCheckpoint>,
    /// The greatest number any checkpoint or savepoint in the log has; the next one must be greater.
    pub last_checkpoint: CheckpointId,
    /// The newest savepoint.
    pub savepoint: Option<SavepointRef>,
    /// The newest deployment.
    pub attempt: Option<AttemptId>,
    /// How the job ended, unless it was restored since.
    pub terminal: Option<TerminalState>,
    /// The savepoint that the newest deployment started from, if it was one.
    #[serde(default)]
    pub started_from: Option<String>,
}

impl LogState {
    /// Takes in the next slot.
    pub(super) fn take_in(&mut self, position: LogPosition, record: &LogRecord) {
        self.position = Some(position);
        self.epoch = self.epoch.max(record.epoch);
        match &record.kind {
            RecordKind::Sealed { epoch } => self.epoch = self.epoch.max(*epoch),
            RecordKind::Restored { attempt, savepoint, .. } => {
                self.attempt = Some(*attempt);
                self.terminal = None;
                self.started_from.clone_from(savepoint);
            }
            RecordKind::CheckpointCompleted { checkpoint, retained } => {
                self.last_checkpoint = self.last_checkpoint.max(*checkpoint);
                self.retained.clone_from(retained);
            }
            RecordKind::SavepointMade(savepoint) => {
                self.last_checkpoint = self.last_checkpoint.max(savepoint.checkpoint);
                self.savepoint = Some(savepoint.clone());
            }
            RecordKind::FellBack { to, .. } => self.retained.retain(|kept| Some(kept.checkpoint) <= *to),
            RecordKind::Terminal(state) => self.terminal = Some(state.clone()),
        }
    }
}
