//! What each subtask of a deployment gets of a manifest: segments cut to its key groups, and its share of operator state.
//! Only data: the node that runs the subtask opens the segments. Runs on the blocking executor.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use millstream_runtime::checkpoint::manifest::{Manifest, SegmentRef, VertexState};
use millstream_runtime::graph::{JobGraph, JobVertex};
use millstream_runtime::ids::{OperatorUid, SubtaskId, SubtaskIndex, VertexId};
use millstream_runtime::key::KEY_FORMAT_VERSION;
use millstream_runtime::key_group::key_group_range;
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::store::BlobStore;
use millstream_runtime::state::cut::{OperatorState, StateDeclaration};
use millstream_runtime::state::operator::deal;
use millstream_runtime::time::MIN_TIMESTAMP;
use millstream_state::segment::SegmentReader;

use super::enumerators::Made;
use crate::in_flight::{InFlightRef, channels_uid, has_rows_in_flight};
use crate::protocol::TaskRestore;
use crate::protocol::deploy::OperatorRestore;

/// Everything a deployment is restored from.
pub struct RestorePlan {
    /// By subtask.
    pub subtasks: BTreeMap<SubtaskId, TaskRestore>,
    /// Enumerators, as far as they are to be made.
    pub enumerators: Vec<Made>,
    /// The checkpoint that was restored, for statistics.
    pub restored: Option<Restored>,
    /// What to tell the user: damaged checkpoints passed over, state left behind.
    pub messages: Vec<String>,
}

/// What was restored.
#[derive(Clone, Debug)]
pub struct Restored {
    /// The manifest.
    pub manifest: Arc<Manifest>,
    /// Where it lies.
    pub path: String,
    /// The store its segments are in.
    pub is_savepoint: bool,
}

/// What came of looking for something to restore.
pub enum Planned {
    /// This.
    Plan(RestorePlan),
    /// The newest checkpoint is damaged, says why. Regions that go on have gone past the one before: all must go back.
    GoesBack(Vec<String>),
}

/// What is to be restored, while others may go on.
pub struct Wanted {
    /// The subtasks.
    pub subtasks: BTreeSet<SubtaskId>,
    /// Vertices whose enumerators are to be made; those of other vertices go on.
    pub enumerators: BTreeSet<VertexId>,
}

/// Plans a restore.
///
/// # Errors
/// When the state does not fit the graph, or a segment cannot be read.
pub fn plan(
    graph: &JobGraph,
    restored: Option<Restored>,
    wanted: &Wanted,
    blobs: &Arc<dyn BlobStore>,
    allow_non_restored_state: bool,
) -> Result<RestorePlan, PortError> {
    let mut plan = RestorePlan {
        subtasks: BTreeMap::new(),
        enumerators: Vec::new(),
        restored: restored.clone(),
        messages: Vec::new(),
    };
    let manifest = restored.as_ref().map(|restored| &*restored.manifest);
    if let Some(manifest) = manifest {
        check(graph, manifest, blobs, allow_non_restored_state, &mut plan.messages)?;
    }
    for vertex in &graph.vertices {
        let ids = (0..vertex.parallelism).map(|subtask| SubtaskId { vertex: vertex.id, index: SubtaskIndex(subtask) });
        let ids: Vec<SubtaskId> = ids.filter(|id| wanted.subtasks.contains(id)).collect();
        if ids.is_empty() {
            continue;
        }
        let old = manifest.map(|manifest| old_vertices(vertex, manifest)).unwrap_or_default();
        let old = old.into_iter().map(|vertex| OldVertex::open(vertex, blobs)).collect::<Result<Vec<_>, _>>()?;
        if let Some((uid, factory)) = vertex.enumerator.as_ref().filter(|_| wanted.enumerators.contains(&vertex.id)) {
            let mut stored = manifest.iter().flat_map(|manifest| &manifest.vertices);
            let stored = stored.find_map(|old| old.enumerator.as_ref().filter(|e| e.0 == *uid));
            let come = old.iter().flat_map(|old| &old.readers).filter_map(|readers| readers.last());
            plan.enumerators.push(Made {
                vertex: vertex.id,
                uid: uid.clone(),
                parallelism: vertex.parallelism,
                source_floor: come.map(|newest| newest.watermark()).max().unwrap_or(MIN_TIMESTAMP),
                enumerator: factory.enumerator(stored.map(|(_, state)| state.as_slice()))?,
            });
        }
        for id in ids {
            plan.subtasks.insert(id, restore_subtask(vertex, id.index.0, &old)?);
        }
    }
    Ok(plan)
}

fn check(
    graph: &JobGraph,
    manifest: &Manifest,
    blobs: &Arc<dyn BlobStore>,
    allow_non_restored_state: bool,
    messages: &mut Vec<String>,
) -> Result<(), PortError> {
    if manifest.key_format != KEY_FORMAT_VERSION {
        return Err(PortError::fix_input(format!(
            "the state was written with key format {}, this program has {KEY_FORMAT_VERSION}: restore it with the version that wrote it",
            manifest.key_format
        )));
    }
    let known: Vec<&OperatorUid> = graph.vertices.iter().flat_map(|vertex| &vertex.operators).collect();
    for old in &manifest.vertices {
        let mut orphans: Vec<_> =
            old.operators.iter().filter(|uid| !known.contains(uid)).map(|uid| uid.0.as_str()).collect();
        if !orphans.is_empty() {
            let stateful = stateful_operators(old, blobs)?;
            // Rows in flight to a vertex that is gone altogether are nobody's.
            let loses_rows = orphans.len() == old.operators.len() && stateful.contains(&channels_uid());
            orphans.retain(|uid| loses_rows || stateful.iter().any(|stateful| stateful.0 == *uid));
        }
        if !orphans.is_empty() {
            let orphans = orphans.join("', '");
            if !allow_non_restored_state {
                return Err(PortError::fix_input(format!(
                    "the state of operator '{orphans}' (vertex '{}') has no operator in the job: give the operator its old uid, or pass --allow-non-restored-state to leave the state behind",
                    old.name
                )));
            }
            messages.push(format!("state of operator '{orphans}' is left behind: the job has no such operator"));
        }
        let new = graph.vertices.iter().find(|new| new.operators.iter().any(|uid| old.operators.contains(uid)));
        if let Some(new) = new
            && new.max_parallelism != old.max_parallelism
        {
            return Err(PortError::fix_input(format!(
                "vertex '{}' has {} key groups, its state has {}: set pipeline.max-parallelism = {}",
                new.name, new.max_parallelism, old.max_parallelism, old.max_parallelism
            )));
        }
    }
    Ok(())
}

/// Operators of a vertex that have stored anything that would be missed.
fn stateful_operators(old: &VertexState, blobs: &Arc<dyn BlobStore>) -> Result<Vec<OperatorUid>, PortError> {
    let mut stateful = Vec::new();
    for newest in old.subtasks.iter().filter_map(|subtask| subtask.segments.last()) {
        let reader = SegmentReader::open(blobs, newest)?;
        for uid in reader.operators() {
            let states = reader.operator_states(uid)?;
            let missed = states.iter().any(|state| !state.items.is_empty() && !state.name.starts_with('_'));
            if missed || !reader.declarations(uid).is_empty() {
                stateful.push(uid.clone());
            }
        }
    }
    Ok(stateful)
}

fn old_vertices<'a>(vertex: &JobVertex, manifest: &'a Manifest) -> Vec<&'a VertexState> {
    manifest.vertices.iter().filter(|old| old.operators.iter().any(|uid| vertex.operators.contains(uid))).collect()
}

/// A vertex of the manifest with its segments opened.
struct OldVertex<'a> {
    state: &'a VertexState,
    /// By subtask.
    readers: Vec<Vec<Arc<SegmentReader>>>,
}

impl<'a> OldVertex<'a> {
    fn open(state: &'a VertexState, blobs: &Arc<dyn BlobStore>) -> Result<Self, PortError> {
        // After a rescale several subtasks name the same file, each for its key groups.
        let open = |segment: &SegmentRef| SegmentReader::open(blobs, segment).map(Arc::new);
        let readers = state
            .subtasks
            .iter()
            .map(|subtask| subtask.segments.iter().map(open).collect())
            .collect::<Result<_, _>>()?;
        Ok(Self { state, readers })
    }

    /// Whether a segment of this vertex is part of the keyed state of a new one. Chains may be cut otherwise than they were:
    /// what a vertex without the keyed operator carried on would be old state of it when the two are one again.
    fn holds_keyed_state_of(&self, new: &JobVertex, segment: &SegmentReader) -> bool {
        let mut shared = new.operators.iter().filter(|uid| self.state.operators.contains(uid));
        shared.any(|uid| !segment.declarations(uid).is_empty())
    }
}

fn restore_subtask(vertex: &JobVertex, subtask: u32, old: &[OldVertex<'_>]) -> Result<TaskRestore, PortError> {
    let mut restore = TaskRestore::default();
    if old.is_empty() {
        return Ok(restore);
    }
    let groups = key_group_range(vertex.max_parallelism, vertex.parallelism, SubtaskIndex(subtask));
    restore.watermark_floor = vec![MIN_TIMESTAMP; groups.len()];
    let mut restored_by: Vec<&SegmentReader> = Vec::new();
    for old in old {
        for reader in old.readers.iter().flatten() {
            let kept = intersection(&reader.reference().key_groups, &groups);
            // Segments from before an earlier rescale may know a later time of some key groups.
            for group in kept.clone() {
                let floor = &mut restore.watermark_floor[usize::from(group - groups.start)];
                *floor = (*floor).max(reader.watermark());
            }
            if !kept.is_empty() && old.holds_keyed_state_of(vertex, reader) {
                restore.segments.push(SegmentRef { key_groups: kept, ..reader.reference().clone() });
                restored_by.push(reader);
            }
        }
    }
    restore.in_flight = in_flight(vertex, subtask, old);
    for uid in &vertex.operators {
        let mut stored: Vec<Vec<OperatorState>> = Vec::new();
        let mut declared: Vec<StateDeclaration> = Vec::new();
        for vertex in old.iter().filter(|old| old.state.operators.contains(uid)) {
            for newest in vertex.readers.iter().filter_map(|readers| readers.last()) {
                stored.push(newest.operator_states(uid)?);
            }
        }
        for declaration in restored_by.iter().flat_map(|reader| reader.declarations(uid)) {
            if !declared.contains(declaration) {
                declared.push(declaration.clone());
            }
        }
        // Whoever runs the subtask migrates; what cannot be migrated is told before anything is deployed.
        vertex.conversions(uid, &declared)?;
        let states = deal(&stored, subtask, vertex.parallelism, &groups);
        restore.operators.push(OperatorRestore { uid: uid.clone(), states, declared });
    }
    Ok(restore)
}

/// Rows in flight that the subtask may have to go on with: its own, or at another parallelism some of anybody's.
fn in_flight(vertex: &JobVertex, subtask: u32, old: &[OldVertex<'_>]) -> Vec<InFlightRef> {
    let mut found = Vec::new();
    for old in old {
        let parallelism = old.state.parallelism;
        for (recorded_by, readers) in (0..).zip(&old.readers) {
            let is_candidate = parallelism != vertex.parallelism || recorded_by == subtask;
            if let Some(newest) = readers.last().filter(|newest| is_candidate && has_rows_in_flight(newest)) {
                let segment = newest.reference().clone();
                found.push(InFlightRef { segment, subtask: recorded_by, parallelism });
            }
        }
    }
    found
}

fn intersection(a: &Range<u16>, b: &Range<u16>) -> Range<u16> {
    let start = a.start.max(b.start);
    start..a.end.min(b.end).max(start)
}
