//! Splits on their way from enumerators to readers, in order with the triggers; and what waits for enumerators.

use std::time::Duration;

use millstream_runtime::checkpoint::coordinator::Command;
use millstream_runtime::ids::{AttemptId, CheckpointId, RegionId, SubtaskId, SubtaskIndex, VertexId};
use millstream_runtime::job::Failure;
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::source::SplitEnumerator;
use millstream_runtime::time::{MIN_TIMESTAMP, Timestamp};
use ractor::ActorRef;

use super::actor::JobMasterState;
use super::enumerators::{Assignment, Discovery, Made};
use super::message::JobMasterMessage;
use crate::protocol::{Order, SplitAssignment, ToTaskManager};
use crate::world::caught;

type Myself = ActorRef<JobMasterMessage>;

impl JobMasterState {
    /// Takes enumerators in that were made for a deployment, and sends them to look.
    pub(super) fn take_enumerators(&mut self, myself: &Myself, made: Vec<Made>) {
        let Some(newest) = self.job.attempt() else { return };
        for made in made {
            let vertex = made.vertex;
            self.enumerators.add(made, newest);
            self.discover(myself, newest, vertex);
        }
    }

    /// Sends an enumerator to look for splits.
    pub(super) fn discover(&mut self, myself: &Myself, made_for: AttemptId, vertex: VertexId) {
        if !self.enumerators.is_of(vertex, made_for) {
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
        let vertex = discovery.vertex;
        if !self.enumerators.is_of(vertex, made_for) {
            return;
        }
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
        let floor = if initial { self.enumerators.source_floor(vertex) } else { self.reached(vertex) };
        for (index, splits) in (0..).map(SubtaskIndex).zip(splits) {
            let splits = SplitAssignment { splits, initial, last, floor };
            self.enumerators.gave(vertex, index, &splits);
            self.send_splits(vertex, index, splits);
        }
    }

    /// How far any reader of a source has come, as it was told last.
    fn reached(&self, vertex: VertexId) -> Timestamp {
        let members = self.members.iter().filter(|(id, _)| id.vertex == vertex);
        let watermarks = members.filter_map(|(_, member)| member.reading.map(|reading| reading.output_watermark));
        watermarks.max().unwrap_or(MIN_TIMESTAMP)
    }

    /// To a reader that runs or is on its way; another gets it when it is deployed.
    fn send_splits(&self, vertex: VertexId, index: SubtaskIndex, splits: SplitAssignment) {
        let id = SubtaskId { vertex, index };
        let Some(member) = self.members.get(&id).filter(|member| self.job.is_wanted(member.attempt)) else { return };
        let order = Order::Assign { subtask: id, splits };
        self.nodes.send(&member.node, ToTaskManager::Order(member.attempt, order));
    }

    /// Gives the readers of a region what they had been given since the checkpoint that it was restored from, by enumerators
    /// that go on.
    pub(super) fn assign_again(&self, region: RegionId, restored: CheckpointId) {
        for SubtaskId { vertex, index } in self.regions.subtasks(region) {
            for splits in self.enumerators.again(*vertex, *index, restored) {
                self.send_splits(*vertex, *index, splits);
            }
        }
    }

    pub(super) fn snapshot_enumerators(&mut self, more: &mut Vec<Command>) {
        let Some(checkpoint) = self.snapshot_wanted else { return };
        let Some(snapshots) = self.enumerators.snapshot(checkpoint) else { return };
        self.snapshot_wanted = None;
        self.coordinator.enumerators_snapshotted(checkpoint, snapshots, self.now_ms(), more);
    }
}
