//! Carries out what the coordinator of checkpoints commands, in order.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::time::Duration;

use millstream_runtime::checkpoint::coordinator::{Command, Request, RequestError, RequestId};
use millstream_runtime::element::{Barrier, Purpose};
use millstream_runtime::ids::{AttemptId, CheckpointId};
use millstream_runtime::job::Failure;
use millstream_runtime::ports::ErrorKind;
use ractor::{ActorRef, RpcReplyPort};

use super::actor::{JobMasterState, Waiting};
use super::handle::Requested;
use super::message::JobMasterMessage;
use super::records::{RecordWork, manifest};
use crate::metrics::job::LastCheckpoint;
use crate::protocol::{Order, ToTaskManager};

type Myself = ActorRef<JobMasterMessage>;

impl JobMasterState {
    /// Carries out commands of the coordinator and whatever follows from them.
    pub(super) async fn carry_out(&mut self, myself: &Myself, commands: Vec<Command>) {
        let mut queue = VecDeque::from(commands);
        while let Some(command) = queue.pop_front() {
            let now_ms = self.now_ms();
            let mut more = Vec::new();
            match command {
                Command::SnapshotEnumerators { checkpoint } => {
                    self.snapshot_wanted = Some(checkpoint);
                    self.snapshot_enumerators(&mut more);
                }
                Command::SendTriggers { barrier, drain, attempts } => self.send_triggers(barrier, drain, &attempts),
                Command::WriteRecord(record) => {
                    let manifest =
                        manifest(self.blueprint.job, &self.blueprint.graph, &record, self.properties.clone());
                    let target = self.target(record.request, record.checkpoint);
                    self.record = Some(RecordWork::new(record, manifest, target));
                    self.write_record_when_free(myself);
                }
                Command::RetryRecord { .. } => self.write_record_when_free(myself),
                Command::NotifyComplete { checkpoint, purpose, attempts } => {
                    self.notify_complete(checkpoint, purpose, &attempts);
                }
                Command::Drop { .. } => {}
                Command::Abort { checkpoint, reason, attempts } => {
                    tracing::warn!(%checkpoint, "checkpoint aborted: {reason}");
                    self.tell(&attempts, |_| Order::Abort(checkpoint));
                }
                Command::FailJob { reason } => {
                    Box::pin(self.fail_job(myself, Failure::of_job(ErrorKind::Retry, reason))).await;
                }
                Command::Answer { request, result } => self.answer(request, result),
                Command::WakeAt(at_ms) => {
                    let after = u64::try_from(at_ms - now_ms).unwrap_or(0);
                    myself.send_after(Duration::from_millis(after), move || JobMasterMessage::Tick(at_ms));
                }
                Command::Settled { .. } => self.deploy_when_settled(myself),
                Command::StepDown => {
                    let mut commands = Vec::new();
                    self.job.leadership_lost(now_ms, &mut commands);
                    Box::pin(self.carry_out_job(myself, commands)).await;
                }
            }
            queue.extend(more);
        }
        let counts = self.coordinator.statistics().counts();
        self.metrics.metrics().set_checkpoints(counts.completed, counts.failed, counts.in_progress);
    }

    /// Gives an order to every node that runs subtasks of these attempts.
    fn tell(&self, attempts: &BTreeSet<AttemptId>, order: impl Fn(AttemptId) -> Order) {
        let members = self.members.values().filter(|member| !member.gone && attempts.contains(&member.attempt));
        for (attempt, node) in members.map(|member| (member.attempt, &member.node)).collect::<BTreeSet<_>>() {
            self.nodes.send(node, ToTaskManager::Order(attempt, order(attempt)));
        }
    }

    fn notify_complete(&mut self, checkpoint: CheckpointId, purpose: Purpose, attempts: &BTreeSet<AttemptId>) {
        if purpose == Purpose::StopWithSavepoint {
            self.job.stop_savepoint_done();
            self.stopped_with = self.locations.get(&checkpoint).cloned();
        }
        if purpose != Purpose::Savepoint {
            self.enumerators.completed(checkpoint);
        }
        let position = self.ledger.as_ref().and_then(|ledger| ledger.log.state().position);
        self.tell(attempts, |_| Order::Complete { checkpoint, purpose, position });
        if let Some(last) = self.coordinator.statistics().latest_completed() {
            self.metrics.metrics().set_last_checkpoint(LastCheckpoint {
                id: last.id.0,
                duration_ms: last.end_to_end_duration_ms,
                size_bytes: last.checkpointed_size_bytes,
                full_size_bytes: last.state_size_bytes,
                metadata_size_bytes: 0,
                completed_ms: self.now_ms(),
            });
        }
    }

    /// The barrier goes to each deployment under its own number: its acknowledgements carry that.
    fn send_triggers(&self, barrier: Barrier, drain: bool, attempts: &BTreeSet<AttemptId>) {
        self.tell(attempts, |attempt| Order::Trigger { barrier: Barrier { attempt, ..barrier }, drain });
    }

    pub(super) async fn trigger(
        &mut self,
        myself: &Myself,
        purpose: Purpose,
        drain: bool,
        target: Option<String>,
        reply: RpcReplyPort<Result<Requested, String>>,
    ) {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        self.requests.insert(id, Waiting { target, purpose, reply });
        let mut commands = Vec::new();
        self.coordinator.trigger_requested(Request { id, purpose, drain }, self.now_ms(), &mut commands);
        self.carry_out(myself, commands).await;
    }

    fn target(&self, request: Option<RequestId>, checkpoint: CheckpointId) -> Option<String> {
        let waiting = request.and_then(|request| self.requests.get(&request))?;
        if !matches!(waiting.purpose, Purpose::Savepoint | Purpose::StopWithSavepoint) {
            return None;
        }
        let folder = waiting.target.clone().or_else(|| self.savepoint_dir.clone())?;
        let job = self.blueprint.job.to_string();
        let name = format!("savepoint-{}-{}-{checkpoint}", &job[..6], self.job.attempt().unwrap_or_default());
        Some(Path::new(&folder).join(name).to_string_lossy().into_owned())
    }

    fn answer(&mut self, request: RequestId, result: Result<CheckpointId, RequestError>) {
        let Some(waiting) = self.requests.remove(&request) else { return };
        let answer = result
            .map(|checkpoint| Requested { checkpoint, location: self.locations.get(&checkpoint).cloned() })
            .map_err(|error| error.to_string());
        drop(waiting.reply.send(answer));
    }
}
