//! Writing and reading manifests of checkpoints; a savepoint's `_metadata` is one too.

use millstream_runtime::checkpoint::manifest::Manifest;
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::store::BlobStore;

use super::record::{Digest, ManifestRef};
use crate::failpoint::{Failpoints, MANIFEST_CREATED};
use crate::frame::{self, FrameKind};
use crate::names;

const MANIFEST: FrameKind = FrameKind { magic: *b"MSMANIFS", version: 1, what: "manifest" };

/// The file form of a manifest.
#[must_use]
pub fn encode_manifest(manifest: &Manifest) -> Vec<u8> {
    frame::seal(MANIFEST, &rmp_serde::to_vec_named(manifest).expect("plain data serialises"))
}

/// Reads the file form; `path` is for messages.
///
/// # Errors
/// When the bytes are damaged, no manifest, or of another version.
pub fn decode_manifest(path: &str, bytes: &[u8]) -> Result<Manifest, PortError> {
    let content = frame::open(MANIFEST, path, bytes)?;
    rmp_serde::from_slice(content)
        .map_err(|error| PortError::give_up(format!("{path}: the manifest cannot be read: {error}")))
}

/// Writes a manifest durably under its own name. It counts once a log record points to it.
///
/// # Errors
/// When the store refuses; writing again is harmless.
pub fn write_manifest(
    blobs: &dyn BlobStore,
    manifest: &Manifest,
    failpoints: &Failpoints,
) -> Result<ManifestRef, PortError> {
    let path = names::manifest(manifest.job, manifest.attempt, manifest.checkpoint);
    let bytes = encode_manifest(manifest);
    blobs.put(&path, &[&bytes])?;
    failpoints.hit(MANIFEST_CREATED);
    Ok(ManifestRef { path, digest: Digest::of(&bytes) })
}

/// Reads a manifest and checks that it is the one referred to.
///
/// # Errors
/// `GiveUp` when it is missing, damaged or another one; `Retry` when the store cannot answer.
pub fn read_manifest(blobs: &dyn BlobStore, reference: &ManifestRef) -> Result<Manifest, PortError> {
    let path = &reference.path;
    let bytes = blobs.get(path)?.ok_or_else(|| PortError::give_up(format!("{path}: the manifest is missing")))?;
    if Digest::of(&bytes) != reference.digest {
        let message = format!("{path}: the manifest is damaged: its digest is not the one in the job's log");
        return Err(PortError::give_up(message));
    }
    decode_manifest(path, &bytes)
}
