//! The log of one job: the one place that says which of its checkpoints counts. Owned by the job master.

use std::sync::Arc;

use millstream_runtime::ids::{Epoch, JobId};
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::store::BlobStore;

use super::record::{Digest, LogPosition, LogRecord, LogState, RecordKind, WriterNonce};
use super::slots::{AppendOutcome, Replayed, SlotLog, replay};
use crate::failpoint::Failpoints;
use crate::frame::FrameKind;
use crate::names;

/// The log of one job in the hands of one writer.
pub type JobLog = SlotLog<LogState>;

impl Replayed for LogState {
    type Kind = RecordKind;
    const RECORD: FrameKind = FrameKind { magic: *b"MSJOBLOG", version: 1, what: "record of the job's log" };
    const HINT: FrameKind =
        FrameKind { magic: *b"MSLOGHNT", version: 2, what: "hint at the newest slot of the job's log" };

    fn position(&self) -> Option<LogPosition> {
        self.position
    }

    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn apply(&mut self, position: LogPosition, record: &LogRecord) {
        self.take_in(position, record);
    }
}

impl JobLog {
    /// Reads the log of a job, for a writer of this term. Writes nothing: [`seal`](Self::seal) before acting on it.
    ///
    /// # Errors
    /// When the store cannot answer, or a slot is damaged or does not continue the one before.
    pub fn open(
        blobs: Arc<dyn BlobStore>,
        job: JobId,
        epoch: Epoch,
        nonce: WriterNonce,
        failpoints: Failpoints,
    ) -> Result<Self, PortError> {
        let state = recover(blobs.as_ref(), job)?;
        Ok(Self::go_on((blobs, names::job_log(job)), state, epoch, nonce, failpoints))
    }

    /// Occupies the next slot, so that no leader of an older term can write any more. Records that older leaders
    /// write meanwhile are taken in first, so this always ends.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn seal(&mut self) -> Result<AppendOutcome, PortError> {
        self.seal_with(&RecordKind::Sealed { epoch: self.epoch() })
    }
}

/// Reads the log of a job without the intention to write.
///
/// # Errors
/// When the store cannot answer, or a slot is damaged or does not continue the one before.
pub fn recover(blobs: &dyn BlobStore, job: JobId) -> Result<LogState, PortError> {
    replay(blobs, &names::job_log(job), true)
}

/// Reads the whole log from its first slot, hint or not.
///
/// # Errors
/// As [`recover`].
pub fn recover_from_first_slot(blobs: &dyn BlobStore, job: JobId) -> Result<LogState, PortError> {
    replay(blobs, &names::job_log(job), false)
}

/// Whether a place, remembered outside of the log, is one that this log went through.
///
/// # Errors
/// When the store cannot answer.
pub fn is_ancestor(blobs: &dyn BlobStore, job: JobId, position: &LogPosition) -> Result<bool, PortError> {
    let slot = blobs.get(&names::log_slot(job, position.slot))?;
    Ok(slot.is_some_and(|bytes| Digest::of(&bytes) == position.digest))
}
