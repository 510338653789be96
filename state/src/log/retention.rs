//! Which files of a job nobody can reach any more. Nothing is deleted but what a record of this leader, already put,
//! made unreachable; an aborted checkpoint deletes nothing, its segments are part of the next one.

use std::collections::{BTreeMap, BTreeSet};

use millstream_runtime::checkpoint::manifest::Manifest;
use millstream_runtime::ids::{CheckpointId, JobId, OlderAttempts};
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::store::BlobStore;

use super::record::{ManifestRef, RetainedCheckpoint};
use super::restore::segments;
use crate::names;

/// The files of a job that this leader knows of, and which of them are reachable. Only files below the job's own
/// folders are ever deleted: a manifest may also name segments that belong to someone else.
#[derive(Clone, Debug)]
pub struct Retention {
    job: JobId,
    /// Files of every checkpoint added and not dropped, its manifest included.
    checkpoints: BTreeMap<CheckpointId, BTreeSet<String>>,
    /// Files that were reachable or pending once and are not deleted yet.
    known: BTreeSet<String>,
    /// Those of them that the store did not delete when it was asked.
    refused: BTreeSet<String>,
}

impl Retention {
    /// Knows nothing yet; [`add`](Self::add) the retained checkpoints after a recovery.
    #[must_use]
    pub fn new(job: JobId) -> Self {
        Self { job, checkpoints: BTreeMap::new(), known: BTreeSet::new(), refused: BTreeSet::new() }
    }

    /// Takes note of the files of a checkpoint.
    pub fn add(&mut self, reference: &ManifestRef, manifest: &Manifest) {
        let files: BTreeSet<String> = segments(manifest)
            .map(|segment| segment.path.clone())
            .chain([reference.path.clone()])
            .filter(|path| self.owns(path))
            .collect();
        self.known.extend(files.iter().cloned());
        self.checkpoints.insert(manifest.checkpoint, files);
    }

    /// Takes note of segments that acks have named but no completed checkpoint.
    pub fn add_pending(&mut self, paths: impl IntoIterator<Item = String>) {
        let job = names::job_folder(self.job);
        self.known.extend(paths.into_iter().filter(|path| path.starts_with(&job)));
    }

    fn owns(&self, path: &str) -> bool {
        path.strip_prefix(&names::job_folder(self.job)).is_some_and(|rest| rest.starts_with('/'))
    }

    /// Deletes what is unreachable once the record that keeps exactly `retained` is durable. `pending` are segments
    /// that a later checkpoint may still name. A store that is away ends it, since it would let each file wait; what is
    /// left is tried again with the next record, and last what was refused before. Answers the number deleted and the first
    /// error.
    pub fn collect(
        &mut self,
        blobs: &dyn BlobStore,
        retained: &[RetainedCheckpoint],
        pending: &BTreeSet<String>,
    ) -> (usize, Option<PortError>) {
        let kept: BTreeSet<CheckpointId> = retained.iter().map(|retained| retained.checkpoint).collect();
        self.checkpoints.retain(|checkpoint, _| kept.contains(checkpoint));
        self.add_pending(pending.iter().cloned());
        let paths = self.unreachable(pending);
        let results = blobs.delete_each(&paths);
        let (mut deleted, mut first_error) = (0, None);
        for (path, result) in paths.into_iter().zip(results) {
            match result {
                Ok(()) => {
                    self.refused.remove(&path);
                    self.known.remove(&path);
                    deleted += 1;
                }
                Err(error) => {
                    self.refused.insert(path);
                    first_error.get_or_insert(error);
                }
            }
        }
        (deleted, first_error)
    }

    fn unreachable(&self, pending: &BTreeSet<String>) -> Vec<String> {
        let reachable: BTreeSet<&String> = self.checkpoints.values().flatten().chain(pending).collect();
        let unreachable = self.known.iter().filter(|path| !reachable.contains(path)).cloned();
        let (mut paths, refused): (Vec<_>, Vec<_>) = unreachable.partition(|path| !self.refused.contains(path));
        paths.extend(refused);
        paths
    }

    /// Every file a retained checkpoint needs.
    #[must_use]
    pub fn reachable(&self) -> BTreeSet<String> {
        self.checkpoints.values().flatten().cloned().collect()
    }
}

/// Deletes segments and manifests that attempts which are over left behind and nothing `keep` names needs. Call it once
/// after the restore record of the attempt that begins is durable; no other can make them reachable then. Answers what was
/// deleted.
///
/// # Errors
/// When the store cannot list or delete; calling again goes on.
pub fn remove_strays(
    blobs: &dyn BlobStore,
    job: JobId,
    older: &OlderAttempts,
    keep: &BTreeSet<String>,
) -> Result<Vec<String>, PortError> {
    let mut strays = Vec::new();
    for folder in [names::segment_folder(job), names::manifest_folder(job)] {
        let is_over = |path: &String| names::attempt_of(path).is_some_and(|attempt| older.contains(attempt));
        strays.extend(blobs.list(&folder)?.into_iter().filter(|path| is_over(path) && !keep.contains(path)));
    }
    blobs.delete_each(&strays).into_iter().collect::<Result<(), _>>()?;
    Ok(strays)
}
