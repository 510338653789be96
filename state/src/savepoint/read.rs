//! Opening a savepoint or a retained checkpoint by the path a user gives, and taking its state over into a job.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_runtime::checkpoint::manifest::{Manifest, SegmentRef};
use millstream_runtime::ids::{AttemptId, JobId};
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::store::BlobStore;

use super::METADATA;
use crate::blob::LocalBlobs;
use crate::log::manifest::decode_manifest;
use crate::names;
use crate::segment::verify;

/// An open savepoint or checkpoint.
#[derive(Clone)]
pub struct Savepoint {
    /// Where the paths of its segments start.
    pub blobs: Arc<dyn BlobStore>,
    /// What it holds.
    pub manifest: Manifest,
    /// Its manifest file.
    pub path: PathBuf,
}

/// Opens a savepoint by its folder or its `_metadata` file, or a retained checkpoint by its manifest file.
///
/// # Errors
/// `FixInput` when there is none at the path; `GiveUp` when its manifest is damaged.
pub fn read_savepoint(path: &Path) -> Result<Savepoint, PortError> {
    let file = if path.is_dir() { path.join(METADATA) } else { path.to_path_buf() };
    let shown = file.display().to_string();
    let bytes = fs::read(&file).map_err(|error| {
        PortError::fix_input(format!(
            "{shown} cannot be read: {error}; give the folder of a savepoint, its {METADATA} file, or the manifest of a checkpoint"
        ))
    })?;
    let manifest = decode_manifest(&shown, &bytes)?;
    let root = root_of(&file, &manifest).ok_or_else(|| {
        PortError::fix_input(format!("{shown}: a checkpoint can only be read where it was written, inside its store"))
    })?;
    Ok(Savepoint { blobs: Arc::new(LocalBlobs::open(root)?), manifest, path: file })
}

/// The folder that paths in the manifest are relative to.
fn root_of(file: &Path, manifest: &Manifest) -> Option<PathBuf> {
    let parent = |path: &Path| match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Some(PathBuf::from(".")),
        parent => parent.map(Path::to_path_buf),
    };
    if file.file_name()? == METADATA {
        return parent(file);
    }
    // {root}/jobs/{job}/manifests/{name}
    let file = fs::canonicalize(file).ok()?;
    let root = file.ancestors().nth(4)?;
    file.starts_with(root.join(names::manifest_folder(manifest.job))).then(|| root.to_path_buf())
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
        let shown = self.path.display();
        let bytes = self.blobs.get(path)?;
        let bytes = bytes.ok_or_else(|| PortError::give_up(format!("{shown}: its segment {path} is missing")))?;
        if *blake3::hash(&bytes).as_bytes() == segment.digest {
            Ok(bytes)
        } else {
            Err(PortError::give_up(format!("{shown}: its segment {path} is damaged: the digest does not match")))
        }
    }
}
