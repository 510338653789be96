//! Appending to a job's log: a slot is created with put-if-absent, so of two leaders only one gets it, and the other
//! learns that it is deposed. Owned by the job master.

use std::sync::Arc;

use millstream_runtime::ids::{Epoch, JobId};
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::store::{BlobStore, Created};
use serde::{Deserialize, Serialize};

use super::record::{Digest, LogPosition, LogRecord, LogState, RecordKind, WriterNonce};
use crate::failpoint::{Failpoints, LOG_APPENDED};
use crate::frame::{self, FrameKind};
use crate::names;

const HINT: FrameKind = FrameKind { magic: *b"MSLOGHNT", version: 1, what: "hint at the newest slot of the job's log" };

/// A hint is written every so many slots.
const HINT_INTERVAL: u64 = 32;
/// How often one call creates a slot that turns out not to be there (a conflict that passed).
const CREATE_ATTEMPTS: u32 = 4;

/// What an append came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendOutcome {
    /// The record is durable, at this place.
    Written(LogPosition),
    /// Another writer has the slot: this one must stop acting for the job.
    Deposed {
        /// Term of the other.
        by: Epoch,
    },
    /// Not known: neither complete nor abort what the record says; append the same again.
    Undecided {
        /// Why, for users.
        reason: String,
    },
}

/// The log of one job in the hands of one writer.
pub struct JobLog {
    blobs: Arc<dyn BlobStore>,
    job: JobId,
    epoch: Epoch,
    nonce: WriterNonce,
    failpoints: Failpoints,
    state: LogState,
    /// A record whose put may or may not have happened, or may still happen.
    undecided: Option<(LogRecord, Vec<u8>)>,
    deposed: Option<Epoch>,
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
        Ok(Self { blobs, job, epoch, nonce, failpoints, state, undecided: None, deposed: None })
    }

    /// What the log says, as far as this writer has read and written it.
    #[must_use]
    pub fn state(&self) -> &LogState {
        &self.state
    }

    /// The term of this writer.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Occupies the next slot, so that no leader of an older term can write any more. Records that older leaders
    /// write meanwhile are taken in first, so this always ends.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn seal(&mut self) -> Result<AppendOutcome, PortError> {
        loop {
            let occupied = self.state.position.is_some() && self.state.epoch >= self.epoch;
            if occupied && self.undecided.is_none() && !self.is_sealed_by_self()? {
                self.deposed = Some(self.state.epoch);
                return Ok(AppendOutcome::Deposed { by: self.state.epoch });
            }
            match self.append(RecordKind::Sealed { epoch: self.epoch })? {
                AppendOutcome::Deposed { by } if by < self.epoch => {
                    // An older leader was quicker with its last record: it counts.
                    self.deposed = None;
                    self.undecided = None;
                    self.catch_up()?;
                }
                outcome => return Ok(outcome),
            }
        }
    }

    fn is_sealed_by_self(&self) -> Result<bool, PortError> {
        let Some(position) = self.state.position else { return Ok(false) };
        let path = names::log_slot(self.job, position.slot);
        let record = self.blobs.get(&path)?.map(|bytes| LogRecord::decode(&path, &bytes)).transpose()?;
        Ok(record.is_some_and(|record| record.writer == self.nonce && record.epoch == self.epoch))
    }

    /// Writes a record into the next slot. After `Undecided` the same record must be appended again before any other.
    ///
    /// # Errors
    /// When another record is appended while one is undecided.
    pub fn append(&mut self, kind: RecordKind) -> Result<AppendOutcome, PortError> {
        if let Some(by) = self.deposed {
            return Ok(AppendOutcome::Deposed { by });
        }
        if self.state.epoch > self.epoch {
            // Sealed by a newer leader before this one has written anything.
            self.deposed = Some(self.state.epoch);
            return Ok(AppendOutcome::Deposed { by: self.state.epoch });
        }
        let (record, bytes) = match self.undecided.take() {
            Some(pending) if pending.0.kind == kind => pending,
            Some(pending) => {
                self.undecided = Some(pending);
                let message =
                    "it is not known whether the last record of the job's log was written: append it again first";
                return Err(PortError::retry(message));
            }
            None => {
                let previous = self.state.position.map(|position| position.digest).unwrap_or_default();
                let record = LogRecord { epoch: self.epoch, writer: self.nonce, previous, kind };
                let bytes = record.encode();
                (record, bytes)
            }
        };
        let outcome = self.create_slot(&bytes);
        match &outcome {
            AppendOutcome::Written(position) => {
                self.state.apply(*position, &record);
                self.failpoints.hit(LOG_APPENDED);
                self.write_hint(*position);
            }
            AppendOutcome::Deposed { by } => self.deposed = Some(*by),
            AppendOutcome::Undecided { .. } => self.undecided = Some((record, bytes)),
        }
        Ok(outcome)
    }

    fn next_slot(&self) -> u64 {
        self.state.position.map_or(0, |position| position.slot + 1)
    }

    /// On any outcome but success the slot says what happened.
    fn create_slot(&self, bytes: &[u8]) -> AppendOutcome {
        let slot = self.next_slot();
        let path = names::log_slot(self.job, slot);
        let written = AppendOutcome::Written(LogPosition { slot, digest: Digest::of(bytes) });
        let mut last_error = format!("{path}: the store says that the slot exists, and that it does not");
        for _ in 0..CREATE_ATTEMPTS {
            match self.blobs.put_if_absent(&path, bytes) {
                Ok(Created::Yes) => return written,
                Ok(Created::AlreadyExists) => {}
                Err(error) => last_error = error.message,
            }
            let found = match self.blobs.get(&path) {
                Ok(Some(found)) => found,
                Ok(None) => continue,
                Err(error) => return AppendOutcome::Undecided { reason: error.message },
            };
            if found == bytes {
                return written;
            }
            return match LogRecord::decode(&path, &found) {
                Ok(other) => AppendOutcome::Deposed { by: other.epoch },
                Err(error) => AppendOutcome::Undecided { reason: error.message },
            };
        }
        AppendOutcome::Undecided { reason: last_error }
    }

    /// Only a hint: whether it is written, or is old, changes nothing but the time of a recovery.
    fn write_hint(&self, position: LogPosition) {
        if position.slot % HINT_INTERVAL == HINT_INTERVAL - 1 {
            let content = rmp_serde::to_vec_named(&Hint { job: self.job, state: self.state.clone() });
            let content = content.expect("plain data serialises");
            let _ = self.blobs.put(&names::log_hint(self.job), &[&frame::seal(HINT, &content)]);
        }
    }

    /// Reads slots that others have written since.
    ///
    /// # Errors
    /// When the store cannot answer or a slot is damaged.
    pub fn catch_up(&mut self) -> Result<&LogState, PortError> {
        read_slots(self.blobs.as_ref(), self.job, &mut self.state)?;
        Ok(&self.state)
    }
}

/// What the log said at some slot, to start reading from.
#[derive(Serialize, Deserialize)]
struct Hint {
    job: JobId,
    state: LogState,
}

/// Reads the log of a job without the intention to write.
///
/// # Errors
/// When the store cannot answer, or a slot is damaged or does not continue the one before.
pub fn recover(blobs: &dyn BlobStore, job: JobId) -> Result<LogState, PortError> {
    let mut state = hinted_state(blobs, job).unwrap_or_default();
    read_slots(blobs, job, &mut state)?;
    Ok(state)
}

/// Reads the whole log from its first slot, hint or not.
///
/// # Errors
/// As [`recover`].
pub fn recover_from_first_slot(blobs: &dyn BlobStore, job: JobId) -> Result<LogState, PortError> {
    let mut state = LogState::default();
    read_slots(blobs, job, &mut state)?;
    Ok(state)
}

/// Whether a place, remembered outside of the log, is one that this log went through.
///
/// # Errors
/// When the store cannot answer.
pub fn is_ancestor(blobs: &dyn BlobStore, job: JobId, position: &LogPosition) -> Result<bool, PortError> {
    let slot = blobs.get(&names::log_slot(job, position.slot))?;
    Ok(slot.is_some_and(|bytes| Digest::of(&bytes) == position.digest))
}

/// The state in the hint, if its slot is there and is the one it was made at.
fn hinted_state(blobs: &dyn BlobStore, job: JobId) -> Option<LogState> {
    let path = names::log_hint(job);
    let bytes = blobs.get(&path).ok()??;
    let hint: Hint = rmp_serde::from_slice(frame::open(HINT, &path, &bytes).ok()?).ok()?;
    let position = hint.state.position?;
    let slot = blobs.get(&names::log_slot(job, position.slot)).ok()??;
    (hint.job == job && Digest::of(&slot) == position.digest).then_some(hint.state)
}

fn read_slots(blobs: &dyn BlobStore, job: JobId, state: &mut LogState) -> Result<(), PortError> {
    loop {
        let slot = state.position.map_or(0, |position| position.slot + 1);
        let path = names::log_slot(job, slot);
        let Some(bytes) = blobs.get(&path)? else { return Ok(()) };
        let record = LogRecord::decode(&path, &bytes)?;
        let previous = state.position.map(|position| position.digest).unwrap_or_default();
        if record.previous != previous {
            let message = format!("{path}: this slot does not continue the one before it: the job's log is damaged");
            return Err(PortError::give_up(message));
        }
        state.apply(LogPosition { slot, digest: Digest::of(&bytes) }, &record);
    }
}
