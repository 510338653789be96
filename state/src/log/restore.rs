//! Finding the newest checkpoint that can really be restored, and saying what was wrong with newer ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_runtime::checkpoint::manifest::{Manifest, SegmentRef};
use millstream_runtime::ports::store::BlobStore;
use millstream_runtime::ports::{ErrorKind, PortError};

use super::manifest::read_manifest;
use super::record::{LogState, RetainedCheckpoint};
use crate::segment::{SegmentReader, verify};

/// What a job can be restored from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restorable {
    /// The newest whole checkpoint with its manifest; `None` when none is retained or none is whole.
    pub checkpoint: Option<(RetainedCheckpoint, Manifest)>,
    /// What was wrong with newer ones, newest first. If there is any, the job may go on only after a `FellBack`
    /// record, and the user must be told.
    pub problems: Vec<String>,
}

/// How closely segments are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Every byte, against the digest in the manifest: after the process was away.
    Whole,
    /// Size, footer and index: for a restart in place, where this process has written or read them before. Blocks
    /// have checksums of their own and are checked when they are read.
    Index,
}

/// Checks retained checkpoints, newest first, until one is whole: its manifest and every segment it names are there
/// and are what they were when written, as far as `look` tells.
///
/// # Errors
/// When the store cannot answer: that is no reason to fall back.
pub fn newest_usable(blobs: &Arc<dyn BlobStore>, state: &LogState, look: Look) -> Result<Restorable, PortError> {
    let mut problems = Vec::new();
    // Checkpoints share segments: each is checked once.
    let mut checked: BTreeMap<String, Result<(), String>> = BTreeMap::new();
    for retained in state.retained.iter().rev() {
        match usable(blobs, retained, look, &mut checked)? {
            Ok(manifest) => return Ok(Restorable { checkpoint: Some((retained.clone(), manifest)), problems }),
            Err(problem) => problems.push(format!("checkpoint {} cannot be used: {problem}", retained.checkpoint)),
        }
    }
    Ok(Restorable { checkpoint: None, problems })
}

/// Every segment a manifest names, in order.
pub fn segments(manifest: &Manifest) -> impl Iterator<Item = &SegmentRef> {
    manifest.vertices.iter().flat_map(|vertex| &vertex.subtasks).flat_map(|subtask| &subtask.segments)
}

fn usable(
    blobs: &Arc<dyn BlobStore>,
    retained: &RetainedCheckpoint,
    look: Look,
    checked: &mut BTreeMap<String, Result<(), String>>,
) -> Result<Result<Manifest, String>, PortError> {
    let manifest = match damage(read_manifest(blobs.as_ref(), &retained.manifest))? {
        Ok(manifest) => manifest,
        Err(problem) => return Ok(Err(problem)),
    };
    for segment in segments(&manifest) {
        let result = match checked.get(&segment.path) {
            Some(known) => known.clone(),
            None => {
                let result = damage(match look {
                    Look::Whole => verify(blobs, segment),
                    Look::Index => SegmentReader::open(blobs, segment).map(|_| ()),
                })?;
                checked.insert(segment.path.clone(), result.clone());
                result
            }
        };
        if let Err(problem) = result {
            return Ok(Err(problem));
        }
    }
    Ok(Ok(manifest))
}

/// Tells damage (the inner error) from a store that cannot answer now (the outer one).
fn damage<T>(result: Result<T, PortError>) -> Result<Result<T, String>, PortError> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) if error.kind == ErrorKind::Retry => Err(error),
        Err(error) => Ok(Err(error.message)),
    }
}
