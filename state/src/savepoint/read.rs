//! Opening a savepoint or a retained checkpoint by the path a user gives, and taking its state over into a job.

use std::sync::Arc;

use millstream_runtime::checkpoint::manifest::{Manifest, SegmentRef};
use millstream_runtime::ids::{AttemptId, JobId};
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::store::BlobStore;

use super::METADATA;
use crate::blob::{Location, Stores};
use crate::log::manifest::decode_manifest;
use crate::names;
use crate::segment::verify;

/// How the names of manifests in a checkpoint store end.
const MANIFEST: &str = ".manifest";

/// An open savepoint or checkpoint.
#[derive(Clone)]
pub struct Savepoint {
    /// Where the paths of its segments start.
    pub blobs: Arc<dyn BlobStore>,
    /// What it holds.
    pub manifest: Manifest,
    /// Its manifest file.
    pub path: Location,
}

/// Opens a savepoint by its folder or its `_metadata` file, or a retained checkpoint by its manifest file.
///
/// # Errors
/// `FixInput` when there is none at the path; `GiveUp` when its manifest is damaged.
pub fn read_savepoint(stores: &Stores, path: &Location) -> Result<Savepoint, PortError> {
    let nothing = |error: &dyn std::fmt::Display| {
        PortError::fix_input(format!(
            "{path} cannot be read: {error}; give the folder of a savepoint, its {METADATA} file, or the manifest of a checkpoint"
        ))
    };
    let (folder, file) = place(path).map_err(|error| nothing(&error))?;
    let bytes = stores.open_present(&folder).map_err(|error| nothing(&error.message))?.get(&file)?;
    let bytes = bytes.ok_or_else(|| nothing(&format!("there is no {file} in {folder}")))?;
    let file = folder.join(&file);
    let manifest = decode_manifest(&file.to_string(), &bytes)?;
    let root = root_of(&file, &manifest).ok_or_else(|| {
        PortError::fix_input(format!("{file}: a checkpoint can only be read where it was written, inside its store"))
    })?;
    Ok(Savepoint { blobs: stores.open_present(&root)?, manifest, path: file })
}

/// The folder and the name of the manifest that the user means. In a bucket there are no folders, so a name says which.
fn place(path: &Location) -> Result<(Location, String), &'static str> {
    let is_folder = match path {
        Location::Folder(path) => path.is_dir(),
        Location::S3 { prefix, .. } => !prefix.ends_with(MANIFEST) && !prefix.ends_with(METADATA),
    };
    if is_folder {
        return Ok((path.clone(), METADATA.to_string()));
    }
    path.split().ok_or("it names no file")
}

/// The folder that paths in the manifest are relative to.
fn root_of(file: &Location, manifest: &Manifest) -> Option<Location> {
    let (folder, name) = file.split()?;
    if name == METADATA {
        return Some(folder);
    }
    // {root}/jobs/{job}/manifests/{name}
    let folder = folder.resolved()?;
    let (of_job, _) = folder.split()?;
    let (jobs, _) = of_job.split()?;
    let (root, _) = jobs.split()?;
    (root.join(&names::manifest_folder(manifest.job)) == folder).then_some(root)
}

impl Savepoint {
    /// Checks every segment against its digest.
    ///
    /// # Errors
    /// When one is missing or damaged.
    pub fn verify(&self) -> Result<(), PortError> {
        crate::log::restore::segments(&self.manifest).try_for_each(|segment| verify(&self.blobs, segment))
    }

    /// Copies the state into the store of a job, under names of this attempt, and answers a manifest that refers to
    /// the copies. The savepoint stays as it is and may be deleted afterwards (Flink's claim mode `NO_CLAIM`).
    ///
    /// # Errors
    /// When a segment is missing or damaged, or the store cannot be written.
    pub fn import(&self, target: &dyn BlobStore, job: JobId, attempt: AttemptId) -> Result<Manifest, PortError> {
        let mut manifest = self.manifest.clone();
        for vertex in &mut manifest.vertices {
            for (subtask, state) in vertex.subtasks.iter_mut().enumerate() {
                for (index, segment) in state.segments.iter_mut().enumerate() {
                    let bytes = self.read_segment(segment)?;
                    let AttemptId { epoch, attempt } = attempt;
                    let folder = names::segment_folder(job);
                    let name = format!("{epoch}-{attempt}-{subtask}-restored-{index}.seg");
                    segment.path = format!("{folder}/{}/{name}", vertex.vertex);
                    target.put(&segment.path, &[&bytes])?;
                }
            }
        }
        Ok(manifest)
    }

    fn read_segment(&self, segment: &SegmentRef) -> Result<Vec<u8>, PortError> {
        let path = &segment.path;
        let shown = &self.path;
        let bytes = self.blobs.get(path)?;
        let bytes = bytes.ok_or_else(|| PortError::give_up(format!("{shown}: its segment {path} is missing")))?;
        if *blake3::hash(&bytes).as_bytes() == segment.digest {
            Ok(bytes)
        } else {
            Err(PortError::give_up(format!("{shown}: its segment {path} is damaged: the digest does not match")))
        }
    }
}
