//! The job is to run as another graph of the same program: which regions go on, and what is kept for them. The machines
//! decide what follows for the others.

use std::collections::BTreeSet;
use std::sync::Arc;

use millstream_runtime::graph::{JobGraph, Regions};
use millstream_runtime::ids::{SubtaskId, VertexId};
use millstream_runtime::job::placement::Places;
use millstream_state::log::JobRecord;
use ractor::ActorRef;

use super::actor::JobMasterState;
use super::message::JobMasterMessage;

impl JobMasterState {
    /// Runs as this graph from now on. What is left of attempts before is known by their numbers, whatever the graph says.
    pub(super) async fn redeploy(
        &mut self,
        myself: &ActorRef<JobMasterMessage>,
        graph: Arc<JobGraph>,
        record: JobRecord,
    ) {
        let regions = self.regions_in(&graph);
        let before = std::mem::replace(&mut self.regions, regions);
        self.blueprint.graph = graph;
        self.blueprint.record = record;
        let stay = self.regions.ids().intersection(&before.ids()).copied().collect::<BTreeSet<_>>();
        tracing::info!(regions = self.regions.len(), go_on = stay.len(), "the job is deployed as another graph");
        // The enumerators of others are restored with their readers.
        let vertices = stay.iter().flat_map(|region| self.regions.subtasks(*region)).map(|id| id.vertex);
        self.enumerators.retain(&vertices.collect::<BTreeSet<VertexId>>());
        let (ids, now_ms) = (self.regions.ids(), self.now_ms());
        if ids != before.ids() {
            // What waits for enumerators is aborted.
            self.snapshot_wanted = None;
        }
        self.deploy_wanted.retain(|region, _| ids.contains(region));
        let mut commands = Vec::new();
        self.coordinator.has_regions(ids.clone(), now_ms, &mut commands);
        self.carry_out(myself, commands).await;
        let mut commands = Vec::new();
        self.job.redeploy(&ids, now_ms, &mut commands);
        self.carry_out_job(myself, commands).await;
    }

    /// The regions of the graph that is deployed next.
    fn regions_in(&self, graph: &JobGraph) -> Regions {
        // Once the end may be recorded, regions cannot be told apart any more: all go back to that record.
        let is_closing = self.coordinator.is_closing();
        let places = self.nodes.placed(graph).ok();
        let stays = |id| !is_closing && self.stays(id, places.as_ref());
        self.regions.after(&self.blueprint.graph, graph, self.blueprint.failover, stays)
    }

    /// Whether a subtask runs where it would be placed now, or does not run at all.
    fn stays(&self, id: SubtaskId, places: Option<&Places>) -> bool {
        let running = self.members.get(&id).filter(|member| self.job.is_wanted(member.attempt));
        let place = places.and_then(|places| places.get(&id));
        running.zip(place).is_none_or(|(member, place)| member.node == *place)
    }
}
