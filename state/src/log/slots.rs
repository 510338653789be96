//! A log of slots: each is created with put-if-absent, so of two writers only one gets it, and the other learns that it is
//! deposed. What the slots hold is up to whose log it is: a job's ([`super::job_log`]) or the cluster's
//! ([`super::cluster_log`]).

use std::sync::Arc;

use millstream_runtime::ids::Epoch;
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::store::{BlobStore, Created};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::record::{Digest, LogPosition, LogRecord, WriterNonce};
use crate::failpoint::{Failpoints, LOG_APPENDED};
use crate::frame::{self, FrameKind};
use crate::names;

/// A hint is written every so many slots.
const HINT_INTERVAL: u64 = 32;
/// How often one call creates a slot that turns out not to be there (a conflict that passed).
const CREATE_ATTEMPTS: u32 = 4;

/// What an append came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendOutcome {
    /// The record is durable, at this place.
    Written(LogPosition),
    /// Another writer has the slot: this one must stop acting on this log.
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

/// What all slots of a log up to a place say together.
pub trait Replayed: Clone + Default + Serialize + DeserializeOwned {
    /// What one slot records.
    type Kind: Clone + PartialEq + Serialize + DeserializeOwned;
    /// The form of a slot.
    const RECORD: FrameKind;
    /// The form of the hint.
    const HINT: FrameKind;

    /// The newest slot; `None` while the log is empty.
    fn position(&self) -> Option<LogPosition>;
    /// The greatest epoch in it.
    fn epoch(&self) -> Epoch;
    /// Takes in the next slot.
    fn apply(&mut self, position: LogPosition, record: &LogRecord<Self::Kind>);
}

/// A log in the hands of one writer. What its slots are called is decided by its folder.
pub struct SlotLog<S: Replayed> {
    blobs: Arc<dyn BlobStore>,
    folder: String,
    epoch: Epoch,
    nonce: WriterNonce,
    failpoints: Failpoints,
    state: S,
    /// A record whose put may or may not have happened, or may still happen.
    undecided: Option<(LogRecord<S::Kind>, Vec<u8>)>,
    deposed: Option<Epoch>,
}

impl<S: Replayed> SlotLog<S> {
    /// Goes on from what a log says, for a writer of this term. Writes nothing: seal it before acting on it.
    pub(super) fn go_on(
        (blobs, folder): (Arc<dyn BlobStore>, String),
        state: S,
        epoch: Epoch,
        nonce: WriterNonce,
        failpoints: Failpoints,
    ) -> Self {
        Self { blobs, folder, epoch, nonce, failpoints, state, undecided: None, deposed: None }
    }

    /// The same writer, with another way to the store.
    #[cfg(test)]
    pub(super) fn through(mut self, blobs: &Arc<dyn BlobStore>) -> Self {
        self.blobs = Arc::clone(blobs);
        self
    }

    /// What the log says, as far as this writer has read and written it.
    #[must_use]
    pub fn state(&self) -> &S {
        &self.state
    }

    /// The term of this writer.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Occupies the next slot, so that no leader of an older term can write any more. Records that older leaders write
    /// meanwhile are taken in first, so this always ends.
    pub(super) fn seal_with(&mut self, kind: &S::Kind) -> Result<AppendOutcome, PortError> {
        loop {
            let occupied = self.state.position().is_some() && self.state.epoch() >= self.epoch;
            if occupied && self.undecided.is_none() && !self.is_sealed_by_self()? {
                self.deposed = Some(self.state.epoch());
                return Ok(AppendOutcome::Deposed { by: self.state.epoch() });
            }
            match self.append(kind.clone())? {
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
        let Some(position) = self.state.position() else { return Ok(false) };
        let path = names::slot(&self.folder, position.slot);
        let bytes = self.blobs.get(&path)?;
        let record = bytes.map(|bytes| LogRecord::<S::Kind>::decode(S::RECORD, &path, &bytes)).transpose()?;
        Ok(record.is_some_and(|record| record.writer == self.nonce && record.epoch == self.epoch))
    }

    /// Writes a record into the next slot. After `Undecided` the same record must be appended again before any other.
    ///
    /// # Errors
    /// When another record is appended while one is undecided.
    pub fn append(&mut self, kind: S::Kind) -> Result<AppendOutcome, PortError> {
        if let Some(by) = self.deposed {
            return Ok(AppendOutcome::Deposed { by });
        }
        if self.state.epoch() > self.epoch {
            // Sealed by a newer leader before this one has written anything.
            self.deposed = Some(self.state.epoch());
            return Ok(AppendOutcome::Deposed { by: self.state.epoch() });
        }
        let (record, bytes) = match self.undecided.take() {
            Some(pending) if pending.0.kind == kind => pending,
            Some(pending) => {
                self.undecided = Some(pending);
                let message =
                    format!("it is not known whether the last {} was written: append it again first", S::RECORD.what);
                return Err(PortError::retry(message));
            }
            None => {
                let previous = self.state.position().map(|position| position.digest).unwrap_or_default();
                let record = LogRecord { epoch: self.epoch, writer: self.nonce, previous, kind };
                let bytes = record.encode(S::RECORD);
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

    /// Finds out what became of a record that is undecided, by appending it again; nothing if none is. For whoever is about
    /// to record something else.
    ///
    /// # Errors
    /// None at present.
    pub fn settle(&mut self) -> Result<Option<AppendOutcome>, PortError> {
        match self.undecided.as_ref().map(|(record, _)| record.kind.clone()) {
            Some(kind) => self.append(kind).map(Some),
            None => Ok(None),
        }
    }

    /// On any outcome but success the slot says what happened.
    fn create_slot(&self, bytes: &[u8]) -> AppendOutcome {
        let slot = next_slot(&self.state);
        let path = names::slot(&self.folder, slot);
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
            return match LogRecord::<S::Kind>::decode(S::RECORD, &path, &found) {
                Ok(other) => AppendOutcome::Deposed { by: other.epoch },
                Err(error) => AppendOutcome::Undecided { reason: error.message },
            };
        }
        AppendOutcome::Undecided { reason: last_error }
    }

    /// Only a hint: whether it is written, or is old, changes nothing but the time of a recovery.
    fn write_hint(&self, position: LogPosition) {
        if position.slot % HINT_INTERVAL == HINT_INTERVAL - 1 {
            let content = rmp_serde::to_vec_named(&Hint { folder: self.folder.clone(), state: self.state.clone() });
            let content = content.expect("plain data serialises");
            let _ = self.blobs.put(&names::hint(&self.folder), &[&frame::seal(S::HINT, &content)]);
        }
    }

    /// Reads slots that others have written since.
    ///
    /// # Errors
    /// When the store cannot answer or a slot is damaged.
    pub fn catch_up(&mut self) -> Result<&S, PortError> {
        read_slots(self.blobs.as_ref(), &self.folder, &mut self.state)?;
        Ok(&self.state)
    }
}

/// What the log said at some slot, to start reading from.
#[derive(Serialize, Deserialize)]
struct Hint<S> {
    folder: String,
    state: S,
}

fn next_slot<S: Replayed>(state: &S) -> u64 {
    state.position().map_or(0, |position| position.slot + 1)
}

/// Reads a log without the intention to write; from its first slot, or from where the hint says.
pub(super) fn replay<S: Replayed>(blobs: &dyn BlobStore, folder: &str, from_hint: bool) -> Result<S, PortError> {
    let mut state = if from_hint { hinted_state(blobs, folder).unwrap_or_default() } else { S::default() };
    read_slots(blobs, folder, &mut state)?;
    Ok(state)
}

/// The state in the hint, if its slot is there and is the one it was made at.
fn hinted_state<S: Replayed>(blobs: &dyn BlobStore, folder: &str) -> Option<S> {
    let path = names::hint(folder);
    let bytes = blobs.get(&path).ok()??;
    let hint: Hint<S> = rmp_serde::from_slice(frame::open(S::HINT, &path, &bytes).ok()?).ok()?;
    let position = hint.state.position()?;
    let slot = blobs.get(&names::slot(folder, position.slot)).ok()??;
    (hint.folder == folder && Digest::of(&slot) == position.digest).then_some(hint.state)
}

fn read_slots<S: Replayed>(blobs: &dyn BlobStore, folder: &str, state: &mut S) -> Result<(), PortError> {
    loop {
        let slot = next_slot(state);
        let path = names::slot(folder, slot);
        let Some(bytes) = blobs.get(&path)? else { return Ok(()) };
        let record = LogRecord::<S::Kind>::decode(S::RECORD, &path, &bytes)?;
        let previous = state.position().map(|position| position.digest).unwrap_or_default();
        if record.previous != previous {
            let message = format!("{path}: this slot does not continue the one before it: the log is damaged");
            return Err(PortError::give_up(message));
        }
        state.apply(LogPosition { slot, digest: Digest::of(&bytes) }, &record);
    }
}
