//! Files that no retained checkpoint needs any more go away beside everything else, so that a store that is slow to
//! delete holds up neither a checkpoint nor a restart. One cleaning at a time, on the blocking executor, after the
//! record that made the files unreachable.

use std::collections::BTreeSet;
use std::sync::Arc;

use millstream_runtime::checkpoint::manifest::Manifest;
use millstream_runtime::ids::{JobId, OlderAttempts};
use millstream_runtime::ports::store::BlobStore;
use millstream_runtime::ports::{ErrorKind, PortError};
use millstream_state::log::{ManifestRef, RetainedCheckpoint, Retention, read_manifest, remove_strays, segments};
use ractor::ActorRef;

use super::actor::JobMasterState;
use super::message::JobMasterMessage;

/// What a durable record has made unreachable.
pub enum Cleaning {
    /// A checkpoint was completed: files of those that are no longer retained.
    After {
        /// The manifest of the checkpoint.
        reference: ManifestRef,
        /// What it says.
        manifest: Arc<Manifest>,
        /// What the record retains.
        retained: Vec<RetainedCheckpoint>,
    },
    /// The job was restored, or has ended: whatever attempts that are over left behind.
    Strays {
        /// Those that are over.
        older: OlderAttempts,
        /// What the log retains.
        retained: Vec<RetainedCheckpoint>,
        /// Files of what the job was restored from.
        restored: BTreeSet<String>,
    },
}

/// Knows the files of a job and deletes them.
pub struct Cleaner {
    job: JobId,
    retention: Retention,
    blobs: Arc<dyn BlobStore>,
}

impl Cleaner {
    /// For the files of this job in its store.
    #[must_use]
    pub fn new(job: JobId, blobs: Arc<dyn BlobStore>) -> Self {
        Self { job, retention: Retention::new(job), blobs }
    }

    /// Does all of this, which came in this order. What cannot be deleted now is tried again with what comes later.
    pub fn clean(&mut self, cleanings: Vec<Cleaning>) {
        let (mut newest, mut strays) = (None, None);
        for cleaning in cleanings {
            match cleaning {
                Cleaning::After { reference, manifest, retained } => {
                    self.retention.add(&reference, &manifest);
                    newest = Some(retained);
                }
                // What was over before still is.
                Cleaning::Strays { older, retained, restored } => strays = Some((older, retained, restored)),
            }
        }
        if let Some((older, retained, restored)) = strays
            && let Err(error) = self.remove_strays(&older, &retained, restored)
        {
            tracing::warn!("files of older attempts could not be removed, they only take space: {error}");
        }
        let Some(retained) = newest else { return };
        if let (_, Some(error)) = self.retention.collect(&*self.blobs, &retained, &BTreeSet::new()) {
            tracing::warn!("files of old checkpoints could not be deleted, they are tried again later: {error}");
        }
    }

    fn remove_strays(
        &mut self,
        older: &OlderAttempts,
        retained: &[RetainedCheckpoint],
        restored: BTreeSet<String>,
    ) -> Result<(), PortError> {
        let mut keep = restored;
        for retained in retained {
            keep.insert(retained.manifest.path.clone());
            match read_manifest(&*self.blobs, &retained.manifest) {
                Ok(manifest) => {
                    keep.extend(segments(&manifest).map(|segment| segment.path.clone()));
                    self.retention.add(&retained.manifest, &manifest);
                }
                // A store that does not answer now: nothing may go that this checkpoint may need.
                Err(error) if error.kind == ErrorKind::Retry => return Err(error),
                Err(damaged) => tracing::warn!("checkpoint {} can never be used: {damaged}", retained.checkpoint),
            }
        }
        keep.extend(self.retention.reachable());
        remove_strays(&*self.blobs, self.job, older, &keep).map(drop)
    }
}

/// The cleaner of a job master, at home or at work, and what it is to do next.
pub(super) struct Cleanings {
    home: Option<Box<Cleaner>>,
    waiting: Vec<Cleaning>,
}

impl Cleanings {
    pub(super) fn new(cleaner: Box<Cleaner>) -> Self {
        Self { home: Some(cleaner), waiting: Vec::new() }
    }

    /// Whether nothing is being deleted and nothing waits for it.
    pub(super) fn are_done(&self) -> bool {
        self.home.is_some() && self.waiting.is_empty()
    }
}

impl JobMasterState {
    /// Does this as soon as the cleaner is at home.
    pub(super) fn clean(&mut self, myself: &ActorRef<JobMasterMessage>, cleaning: Cleaning) {
        self.cleanings.waiting.push(cleaning);
        self.clean_when_free(myself);
    }

    pub(super) fn cleaner_back(&mut self, myself: &ActorRef<JobMasterMessage>, cleaner: Box<Cleaner>) {
        self.cleanings.home = Some(cleaner);
        self.clean_when_free(myself);
        self.reached_terminal_when_released();
    }

    fn clean_when_free(&mut self, myself: &ActorRef<JobMasterMessage>) {
        if self.cleanings.waiting.is_empty() {
            return;
        }
        let Some(mut cleaner) = self.cleanings.home.take() else { return };
        let cleanings = std::mem::take(&mut self.cleanings.waiting);
        let myself = myself.clone();
        self.blueprint.world.blocking.run(Box::new(move || {
            cleaner.clean(cleanings);
            drop(myself.cast(JobMasterMessage::CleanerBack(cleaner)));
        }));
    }
}

#[cfg(test)]
#[path = "cleaning_tests.rs"]
mod tests;
