//! Splits on their way from enumerators to readers, in order with the triggers; and what waits for enumerators.

use std::time::Duration;

use millstream_runtime::checkpoint::coordinator::{Command, EnumeratorSnapshot};
use millstream_runtime::ids::{AttemptId, CheckpointId, RegionId, SubtaskId, SubtaskIndex};
use millstream_runtime::job::Failure;
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::source::SplitEnumerator;
use millstream_runtime::time::{MIN_TIMESTAMP, Timestamp};
use ractor::ActorRef;

use super::actor::JobMasterState;
use super::enumerators::{Assignment, Discovery, Enumerators};
use super::message::JobMasterMessage;
use crate::protocol::{Order, SplitAssignment, ToTaskManager};
use crate::world::caught;

type Myself = ActorRef<JobMasterMessage>;

impl JobMasterState {
    /// Takes the enumerators of a deployment of the whole job in, by vertex, and sends them to look.
    pub(super) fn make_enumerators(&mut self, myself: &Myself, made: Vec<(usize, Box<dyn SplitEnumerator>)>) {
        let Some(newest) = self.job.attempt() else { return };
        self.enumerators = Enumerators::made_for(newest);
        for (vertex, enumerator) in made {
            let source = &self.blueprint.graph.vertices[vertex];
            let uid = source.enumerator.as_ref().map(|(uid, _)| uid.clone()).expect("a vertex with an enumerator");
            self.enumerators.add(vertex, uid, source.parallelism, enumerator);
            self.discover(myself, newest, vertex);
        }
    }

    /// Sends an enumerator to look for splits.
    pub(super) fn discover(&mut self, myself: &Myself, made_for: AttemptId, vertex: usize) {
        if !self.enumerators.are_of(made_for) {
            return;
        }
        let Some(enumerator) = self.enumerators.take(vertex) else { return };
        let myself = myself.clone();
        self.blueprint.world.blocking.run(Box::new(move || {
            let mut enumerator: Box<dyn SplitEnumerator> = enumerator;
            let splits = caught(|| enumerator.discover()).and_then(|splits| splits);
            let discovery = Discovery { vertex, enumerator, splits };
            drop(myself.cast(JobMasterMessage::Discovered(made_for, Box::new(discovery))));
        }));
    }

    pub(super) async fn discovered(&mut self, myself: &Myself, made_for: AttemptId, discovery: Discovery) {
        if !self.enumerators.are_of(made_for) {
            return;
        }
        let vertex = discovery.vertex;
        match self.enumerators.returned(discovery) {
            Ok(assignment) => self.assign(assignment),
            Err(PortError { kind, message }) => {
                self.fail_job(myself, Failure::of_job(kind, message)).await;
                return;
            }
        }
        if let Some(interval_ms) = self.enumerators.interval_ms(vertex) {
            let again = move || JobMasterMessage::Discover(made_for, vertex);
            myself.send_after(Duration::from_millis(interval_ms), again);
        }
        let mut commands = Vec::new();
        self.snapshot_enumerators(&mut commands);
        self.carry_out(myself, commands).await;
    }

    fn assign(&mut self, assignment: Option<Assignment>) {
        let Some(Assignment { vertex, splits, initial, last }) = assignment else { return };
        let floor = if initial { self.source_floor(vertex) } else { self.reached(vertex) };
        for (index, splits) in (0..).map(SubtaskIndex).zip(splits) {
            let splits = SplitAssignment { splits, initial, last, floor };
            self.enumerators.gave(vertex, index, &splits);
            self.send_splits(vertex, index, splits);
        }
    }

    /// How far a source had come when the job was restored.
    fn source_floor(&self, vertex: usize) -> Timestamp {
        self.source_floors.iter().find(|(of, _)| *of == vertex).map_or(MIN_TIMESTAMP, |(_, floor)| *floor)
    }

    /// How far any reader of a source has come, as it was told last.
    fn reached(&self, vertex: usize) -> Timestamp {
        let members = self.members.values().filter(|member| member.vertex == vertex);
        let watermarks = members.filter_map(|member| member.reading.map(|reading| reading.output_watermark));
        watermarks.max().unwrap_or(MIN_TIMESTAMP)
    }

    /// To a reader that runs or is on its way; another gets it when it is deployed.
    fn send_splits(&self, vertex: usize, index: SubtaskIndex, splits: SplitAssignment) {
        let id = SubtaskId { vertex: self.blueprint.graph.vertices[vertex].id, index };
        let Some(member) = self.members.get(&id).filter(|member| self.job.is_wanted(member.attempt)) else { return };
        let order = Order::Assign { subtask: id, splits };
        self.nodes.send(&member.node, ToTaskManager::Order(member.attempt, order));
    }

    /// Gives the readers of a region that was restored alone what they had been given since.
    pub(super) fn assign_again(&self, region: RegionId, restored: CheckpointId) {
        for id in self.regions.subtasks(region) {
            let Some(member) = self.members.get(id) else { continue };
            for splits in self.enumerators.again(member.vertex, id.index, restored) {
                self.send_splits(member.vertex, id.index, splits);
            }
        }
    }

    pub(super) fn snapshot_enumerators(&mut self, more: &mut Vec<Command>) {
        let Some(checkpoint) = self.snapshot_wanted else { return };
        let Some(snapshots) = self.enumerators.snapshot(checkpoint) else { return };
        self.snapshot_wanted = None;
        let graph = &self.blueprint.graph;
        let snapshots: Vec<EnumeratorSnapshot> =
            snapshots.into_iter().map(|(vertex, uid, state)| (graph.vertices[vertex].id, uid, state)).collect();
        self.coordinator.enumerators_snapshotted(checkpoint, snapshots, self.now_ms(), more);
    }
}
