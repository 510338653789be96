//! From the data of a deployment to what subtasks are made of: the graph is recorded, segments are opened, and it is
//! decided whether the node's own state can be used. Runs on the blocking executor.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_runtime::chain::context::RestoredOperator;
use millstream_runtime::checkpoint::manifest::SegmentRef;
use millstream_runtime::graph::{JobGraph, JobVertex};
use millstream_runtime::ids::{AttemptId, JobId, NodeProcess, OlderAttempts, OperatorUid, SubtaskId};
use millstream_runtime::key_group::key_group_range;
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::store::BlobStore;
use millstream_runtime::time::Timestamp;
use millstream_state::failpoint::Failpoints;

use super::migration::migrate_state;
use crate::in_flight::{self, Replayed};
use crate::local::{LocalState, LocalStates, OpenedChain, reader};
use crate::protocol::deploy::{OperatorRestore, Programs, TaskRestore};
use crate::protocol::{ChannelOptions, Deploy, TaskDeployment};

/// A deployment with its state opened.
pub struct Opened {
    /// The graph.
    pub graph: Arc<JobGraph>,
    /// Where all subtasks run.
    pub places: BTreeMap<SubtaskId, NodeProcess>,
    /// How they exchange rows.
    pub channels: ChannelOptions,
    /// The attempts of the job's other regions.
    pub beside: Arc<BTreeSet<AttemptId>>,
    /// How often the region was deployed before.
    pub deployments_before: u32,
    /// The node's materialisation of keyed state, if it keeps one.
    pub local: Option<Arc<LocalState>>,
    /// What each subtask starts from.
    pub tasks: BTreeMap<SubtaskId, OpenedTask>,
}

/// What one subtask starts from.
pub struct OpenedTask {
    /// Index of its vertex.
    pub vertex: usize,
    /// What is restored into each operator.
    pub restored: Vec<(OperatorUid, RestoredOperator)>,
    /// Watermark at the restored cut per key group.
    pub watermark_floor: Vec<Timestamp>,
    /// The chain of segments to go on with.
    pub segments: Vec<SegmentRef>,
    /// Rows that the restored cut overtook, to go on with before anything else.
    pub in_flight: Vec<Replayed>,
}

/// What of its node opening state needs.
pub struct StateAccess<'a> {
    /// The checkpoint store.
    pub blobs: &'a Arc<dyn BlobStore>,
    /// The node's materialisations of keyed state.
    pub locals: &'a LocalStates,
    /// Stops of tests.
    pub failpoints: &'a Failpoints,
    /// The time of day.
    pub now_ms: Timestamp,
}

/// Opens what a deployment needs.
///
/// # Errors
/// When the program is another one than the leader's, or state cannot be read.
pub fn open(
    job: JobId,
    deploy: &mut Deploy,
    programs: &dyn Programs,
    access: &StateAccess<'_>,
) -> Result<Opened, PortError> {
    let StateAccess { blobs, locals, .. } = *access;
    let graph = programs.graph(&deploy.record)?;
    if graph.fingerprint() != deploy.fingerprint {
        return Err(PortError::fix_input(format!(
            "the program '{}' of this node records another graph than the leader's: all nodes must run the same build",
            deploy.record.name
        )));
    }
    let older = OlderAttempts { before: deploy.attempt, beside: Arc::new(std::mem::take(&mut deploy.beside)) };
    let local = deploy.fold_lag.map(|lag| locals.of(job, lag)).transpose()?;
    if let Some(local) = &local {
        // A fold of the attempt before may be running: what it changes must not change under the readers.
        local.lease(&older)?;
    }
    let mut tasks = BTreeMap::new();
    for TaskDeployment { id, mut restore } in std::mem::take(&mut deploy.tasks) {
        let vertex = graph.vertices.iter().position(|vertex| vertex.id == id.vertex);
        let Some(vertex) = vertex.filter(|vertex| id.index.0 < graph.vertices[*vertex].parallelism) else {
            return Err(PortError::give_up(format!(
                "the graph has no subtask {id}, which the leader wants to run here"
            )));
        };
        migrate_state(&graph.vertices[vertex], (job, deploy.attempt, id), &mut restore, access)?;
        let restored = operators(&graph.vertices[vertex], id, &restore, deploy, blobs, local.as_deref())?;
        let TaskRestore { watermark_floor, segments, in_flight, .. } = restore;
        let in_flight = in_flight::restore(&graph, vertex, id, &in_flight, blobs)?;
        tasks.insert(id, OpenedTask { vertex, restored, watermark_floor, segments, in_flight });
    }
    let places = std::mem::take(&mut deploy.places);
    let Deploy { channels, deployments_before, .. } = *deploy;
    Ok(Opened { graph, places, channels, beside: older.beside, deployments_before, local, tasks })
}

fn operators(
    vertex: &JobVertex,
    id: SubtaskId,
    restore: &TaskRestore,
    deploy: &Deploy,
    blobs: &Arc<dyn BlobStore>,
    local: Option<&LocalState>,
) -> Result<Vec<(OperatorUid, RestoredOperator)>, PortError> {
    let groups = key_group_range(vertex.max_parallelism, vertex.parallelism, id.index);
    let chain = OpenedChain::new(blobs, &restore.segments);
    let operator = |OperatorRestore { uid, states, declared }: &OperatorRestore| {
        let keyed = reader(local, uid, declared, &chain, &groups, deploy.restored)?;
        Ok((uid.clone(), RestoredOperator { keyed, operator_states: states.clone() }))
    };
    restore.operators.iter().map(operator).collect()
}
