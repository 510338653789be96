//! Making a savepoint: every chain is merged into the fewest segments, so that it depends on nothing outside.

use std::sync::Arc;

use millstream_runtime::checkpoint::manifest::{Manifest, SegmentRef, SubtaskState, VertexState};
use millstream_runtime::ids::SubtaskIndex;
use millstream_runtime::key_group::key_group_range;
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::store::BlobStore;

use super::METADATA;
use crate::blob::{Location, Stores};
use crate::log::manifest::encode_manifest;
use crate::segment::{Chain, Compaction, EncodedSegment, SegmentContext, SegmentReader, compact};

/// Segments of a savepoint are split by key groups above this size.
const SEGMENT_BYTES: u64 = 256 << 20;

/// Writes a savepoint into a folder or a place in a bucket. The manifest comes last: without it there is no savepoint.
///
/// # Errors
/// When a segment is damaged, the target cannot be written, or it holds a savepoint already.
pub fn write_savepoint(
    stores: &Stores,
    target: &Location,
    manifest: &Manifest,
    source: &Arc<dyn BlobStore>,
) -> Result<Manifest, PortError> {
    write_savepoint_to(&*stores.open(target)?, manifest, source)
}

/// Writes a savepoint into the root of an open store. Answers the manifest as written, with paths relative to that root.
///
/// # Errors
/// As [`write_savepoint`].
pub fn write_savepoint_to(
    target: &dyn BlobStore,
    manifest: &Manifest,
    source: &Arc<dyn BlobStore>,
) -> Result<Manifest, PortError> {
    if target.get(METADATA)?.is_some() {
        return Err(PortError::fix_input("the target holds a savepoint already: choose another folder"));
    }
    let mut written = manifest.clone();
    for vertex in &mut written.vertices {
        for index in 0..vertex.subtasks.len() {
            let state = write_subtask(target, manifest, vertex, SubtaskIndex(index as u32), source)?;
            vertex.subtasks[index].segments = state;
        }
    }
    target.put(METADATA, &[&encode_manifest(&written)])?;
    Ok(written)
}

fn write_subtask(
    target: &dyn BlobStore,
    manifest: &Manifest,
    vertex: &VertexState,
    subtask: SubtaskIndex,
    source: &Arc<dyn BlobStore>,
) -> Result<Vec<SegmentRef>, PortError> {
    let SubtaskState { segments, .. } = &vertex.subtasks[subtask.0 as usize];
    if segments.is_empty() {
        return Ok(Vec::new());
    }
    let chain = segments.iter().map(|segment| SegmentReader::open(source, segment).map(Arc::new));
    let chain = chain.collect::<Result<Vec<_>, _>>()?;
    let context = SegmentContext {
        job: manifest.job,
        vertex: vertex.vertex,
        subtask,
        attempt: manifest.attempt,
        key_groups: key_group_range(vertex.max_parallelism, vertex.parallelism, subtask),
    };
    let compaction = Compaction { context, base_included: true, target_bytes: SEGMENT_BYTES };
    let mut number = 0;
    let mut written = Vec::new();
    compact(Chain(&chain), &compaction, &mut |segment| {
        let EncodedSegment { mut reference, bytes } = segment;
        let part = if number == 0 { String::new() } else { format!("-{number}") };
        reference.path = format!("segments/{}/{subtask}{part}.seg", vertex.vertex);
        target.put(&reference.path, &[&bytes])?;
        number += 1;
        written.push(reference);
        Ok(())
    })?;
    Ok(written)
}
