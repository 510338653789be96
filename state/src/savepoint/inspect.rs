//! What a savepoint or a checkpoint holds, in numbers. Behind `millstream savepoint inspect` and its JSON form.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_runtime::checkpoint::manifest::{Manifest, SubtaskState, VertexState};
use millstream_runtime::element::Purpose;
use millstream_runtime::ids::OperatorUid;
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::store::BlobStore;
use millstream_runtime::state::cut::Redistribution;
use serde::Serialize;

use super::read::read_savepoint;
use crate::blob::{Location, Stores};
use crate::segment::{Chain, SegmentReader};

/// A savepoint in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SavepointSummary {
    /// The manifest file.
    pub path: String,
    /// Id of the job, 32 hex digits.
    pub job: String,
    /// Its name.
    pub job_name: String,
    /// Number.
    pub checkpoint: u64,
    /// `checkpoint` or `savepoint`, and how it was made.
    pub purpose: &'static str,
    /// When it was triggered, milliseconds since the epoch.
    pub triggered_ms: i64,
    /// Bytes of all its segments.
    pub size_bytes: u64,
    /// Its vertices.
    pub vertices: Vec<VertexSummary>,
}

/// One vertex.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VertexSummary {
    /// Id, 32 hex digits.
    pub id: String,
    /// For users.
    pub name: String,
    /// Parallelism at the time.
    pub parallelism: u32,
    /// Number of key groups, and the greatest parallelism it can be restored at.
    pub max_parallelism: u16,
    /// Subtasks that had seen the end of their input.
    pub finished_subtasks: usize,
    /// The smallest watermark of its subtasks; none without state.
    pub watermark: Option<i64>,
    /// Bytes of its segments.
    pub size_bytes: u64,
    /// Its operators.
    pub operators: Vec<OperatorSummary>,
}

/// One operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OperatorSummary {
    /// What ties it to the program.
    pub uid: String,
    /// Its states by name, keyed ones first.
    pub states: Vec<StateSummary>,
}

/// One state of an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StateSummary {
    /// Its name.
    pub name: String,
    /// `keyed`, or how it is dealt out: `split`, `union`, `broadcast`.
    pub kind: &'static str,
    /// Version of its type.
    pub version: u32,
    /// Keys with a value, or items of all subtasks.
    pub entries: u64,
    /// Bytes of keys and values, or of items.
    pub bytes: u64,
}

/// Opens and reads the whole of a savepoint or checkpoint.
///
/// # Errors
/// When there is none at the path or something in it is damaged.
pub fn inspect(stores: &Stores, path: &Location) -> Result<SavepointSummary, PortError> {
    let savepoint = read_savepoint(stores, path)?;
    let Manifest { job, job_name, checkpoint, purpose, triggered_ms, vertices, .. } = &savepoint.manifest;
    let vertices = vertices.iter().map(|vertex| summarise_vertex(&savepoint.blobs, vertex));
    let vertices = vertices.collect::<Result<Vec<_>, _>>()?;
    Ok(SavepointSummary {
        path: savepoint.path.to_string(),
        job: job.to_string(),
        job_name: job_name.clone(),
        checkpoint: checkpoint.0,
        purpose: match purpose {
            Purpose::Checkpoint => "checkpoint",
            Purpose::Savepoint => "savepoint",
            Purpose::StopWithSavepoint => "stop-with-savepoint",
            Purpose::Final => "final checkpoint",
        },
        triggered_ms: *triggered_ms,
        size_bytes: vertices.iter().map(|vertex| vertex.size_bytes).sum(),
        vertices,
    })
}

fn summarise_vertex(blobs: &Arc<dyn BlobStore>, vertex: &VertexState) -> Result<VertexSummary, PortError> {
    let mut states: BTreeMap<OperatorUid, BTreeMap<(bool, String), StateSummary>> = BTreeMap::new();
    for uid in &vertex.operators {
        states.entry(uid.clone()).or_default();
    }
    let mut watermark = None;
    for SubtaskState { segments, .. } in &vertex.subtasks {
        let chain = segments.iter().map(|segment| SegmentReader::open(blobs, segment).map(Arc::new));
        let chain = chain.collect::<Result<Vec<_>, _>>()?;
        let Some(last) = chain.last() else { continue };
        watermark = Some(watermark.map_or(last.watermark(), |least: i64| least.min(last.watermark())));
        count_keyed(&chain, &mut states)?;
        for uid in last.operators() {
            count_operator_states(last, uid, states.entry(uid.clone()).or_default())?;
        }
    }
    let operators =
        states.into_iter().map(|(uid, states)| OperatorSummary { uid: uid.0, states: states.into_values().collect() });
    let segments = vertex.subtasks.iter().flat_map(|subtask| &subtask.segments);
    Ok(VertexSummary {
        id: vertex.vertex.to_string(),
        name: vertex.name.clone(),
        parallelism: vertex.parallelism,
        max_parallelism: vertex.max_parallelism,
        finished_subtasks: vertex.subtasks.iter().filter(|subtask| subtask.finished).count(),
        watermark,
        size_bytes: segments.map(|segment| segment.size_bytes).sum(),
        operators: operators.collect(),
    })
}

type States = BTreeMap<OperatorUid, BTreeMap<(bool, String), StateSummary>>;

fn count_keyed(chain: &[Arc<SegmentReader>], states: &mut States) -> Result<(), PortError> {
    let chain = Chain(chain);
    for (uid, declarations) in chain.states()? {
        for declaration in declarations {
            let (name, version) = (declaration.name, declaration.version);
            let summary = states.entry(uid.clone()).or_default().entry((false, name.clone())).or_insert(StateSummary {
                name: name.clone(),
                kind: "keyed",
                version,
                entries: 0,
                bytes: 0,
            });
            for group in chain.groups(&uid, &name) {
                let mut entries = chain.entries(&uid, &name, group);
                while entries.advance()? {
                    if let Some(value) = entries.value() {
                        summary.entries += 1;
                        summary.bytes += (entries.key().len() + value.len()) as u64;
                    }
                }
            }
        }
    }
    Ok(())
}

fn count_operator_states(
    segment: &SegmentReader,
    uid: &OperatorUid,
    states: &mut BTreeMap<(bool, String), StateSummary>,
) -> Result<(), PortError> {
    for state in segment.operator_states(uid)? {
        let kind = match state.redistribution {
            Redistribution::Split => "split",
            Redistribution::Union => "union",
            Redistribution::Broadcast => "broadcast",
            Redistribution::KeyGroup => "by key group",
        };
        let summary = states.entry((true, state.name.clone())).or_insert(StateSummary {
            name: state.name,
            kind,
            version: state.version,
            entries: 0,
            bytes: 0,
        });
        summary.entries += state.items.len() as u64;
        summary.bytes += state.items.iter().map(|item| item.len() as u64).sum::<u64>();
    }
    Ok(())
}
