//! Decides when checkpoints start, when they are complete and what becomes of them. One per job, fed by the job
//! manager's actor, which carries out its commands in order. No clock: every event brings the time.
//!
//! A checkpoint goes through: enumerators snapshotted, triggers sent, all subtasks acknowledged, record written. Only
//! then is anybody told that it is complete; while its record may exist, it is neither complete nor aborted.
//!
//! Regions of the job are deployed each on its own, and may be others from one graph to the next. A checkpoint is triggered
//! only while all run; it remembers their deployments, and ends with the first of them.

mod command;
#[cfg(test)]
mod coordinator_tests;
#[cfg(test)]
mod exploration_tests;
mod options;
mod outcome;
mod pending;
mod requests;
mod running;
mod statistics;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub use command::{
    AbortReason, AckReply, Command, EnumeratorSnapshot, Record, Reply, Request, RequestError, RequestId, Retained,
    StartError,
};
pub use options::Options;
use pending::{Pending, Phase};
pub use running::RegionDeployment;
use running::Running;
pub use statistics::{
    AckMetrics, CheckpointStatistics, CheckpointStatus, Counts, Distribution, RestoredStatistics, Statistics,
    SubtaskStatistics, Summary, VertexStatistics,
};

use crate::checkpoint::manifest::{Ack, SubtaskState};
use crate::element::Barrier;
use crate::ids::{AttemptId, CheckpointId, RegionId, SubtaskId};

/// First pause before an undecided record is looked at again; doubled each time.
const UNDECIDED_PAUSE_MS: i64 = 100;
/// Longest such pause.
const UNDECIDED_PAUSE_MAX_MS: i64 = 5_000;
/// Pause before a failed final checkpoint is tried again in a job without an interval.
const FINAL_RETRY_PAUSE_MS: i64 = 1_000;
/// Completed checkpoints remembered, to tell a repeated acknowledgement from one of an aborted checkpoint.
const RECENT: usize = 16;

/// The coordinator of one job's checkpoints.
///
/// Invariants, asserted: at most [`Options::max_pending`] checkpoints are pending; at most one record is being
/// written; a stop or final checkpoint is pending alone.
#[derive(Clone, Debug)]
pub struct Coordinator {
    options: Options,
    next_id: CheckpointId,
    /// The regions of the job.
    regions: BTreeSet<RegionId>,
    running: Option<Running>,
    /// The newest deployment of each region.
    last_attempts: BTreeMap<RegionId, AttemptId>,
    pending: BTreeMap<CheckpointId, Pending>,
    queue: VecDeque<Request>,
    /// Oldest first.
    retained: Vec<Retained>,
    /// What `retained` becomes when the record being written exists.
    retained_next: Vec<Retained>,
    recently_completed: VecDeque<CheckpointId>,
    failures_in_a_row: u32,
    next_periodic_ms: i64,
    /// When a checkpoint (no savepoint) last ended, either way.
    last_end_ms: Option<i64>,
    final_retry_ms: Option<i64>,
    wake_ms: Option<i64>,
    deposed: bool,
    last_paths: BTreeSet<String>,
    statistics: Statistics,
}

impl Coordinator {
    /// A coordinator of a job of these regions, over a log that retains these checkpoints, oldest first.
    #[must_use]
    pub fn new(options: Options, retained: Vec<Retained>, regions: BTreeSet<RegionId>) -> Self {
        Self {
            regions,
            next_id: CheckpointId(retained.iter().map(|kept| kept.checkpoint.0 + 1).max().unwrap_or(1)),
            running: None,
            last_attempts: BTreeMap::new(),
            pending: BTreeMap::new(),
            queue: VecDeque::new(),
            retained,
            retained_next: Vec::new(),
            recently_completed: VecDeque::new(),
            failures_in_a_row: 0,
            next_periodic_ms: 0,
            last_end_ms: None,
            final_retry_ms: None,
            wake_ms: None,
            deposed: false,
            last_paths: BTreeSet::new(),
            statistics: Statistics::new(options.history_size),
            options,
        }
    }

    /// The options.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The statistics.
    #[must_use]
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// The checkpoints that can be restored, oldest first.
    #[must_use]
    pub fn retained(&self) -> &[Retained] {
        &self.retained
    }

    /// Whether a record is being written or undecided: nothing may be restored until it is settled.
    #[must_use]
    pub fn is_recording(&self) -> bool {
        self.recording().is_some()
    }

    /// A retained checkpoint turned out to be damaged: it counts as the oldest from now on, so that it is neither
    /// named as the newest nor kept in the place of a sound one.
    pub fn damaged(&mut self, checkpoint: CheckpointId) {
        if let Some(place) = self.retained.iter().position(|kept| kept.checkpoint == checkpoint) {
            self.retained[..=place].rotate_right(1);
        }
    }

    /// Tells what the job was restored from, for the statistics.
    pub fn restored(&mut self, restored: RestoredStatistics) {
        self.statistics.restored(restored);
    }

    /// Whether the end of the job is under way: the record of a stop or of the final checkpoint may exist or does, sources
    /// have ended their input for a stop, or the job was told to fail. What its regions were told cannot be taken back from
    /// some of them only.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        let closed = self.running.as_ref().is_some_and(|running| running.closed);
        let is_final = |pending: &Pending| pending.is_exclusive() && !pending.is_abortable();
        closed || self.pending.values().any(|pending| is_final(pending) || pending.has_ended_input())
    }

    /// The job has these regions from now on; the deployments of others end. What is pending was triggered for those before
    /// and is aborted, except a record that may exist already.
    pub fn has_regions(&mut self, regions: BTreeSet<RegionId>, now_ms: i64, out: &mut Vec<Command>) {
        if self.deposed || self.regions == regions {
            return;
        }
        self.last_attempts.retain(|region, _| regions.contains(region));
        self.regions = regions;
        self.abort_all(AbortReason::Redeployed, now_ms, out);
        self.refuse_waiting(out);
        self.settle(out);
        self.advance(now_ms, out);
    }

    /// All subtasks of a region's deployment run. Checkpoint numbers start at the floor or above.
    ///
    /// # Errors
    /// When the deployment before it has not ended or a record is undecided: what the subtasks were restored from would
    /// not be what the log says.
    pub fn start_region(
        &mut self,
        region: RegionDeployment,
        floor: CheckpointId,
        now_ms: i64,
        out: &mut Vec<Command>,
    ) -> Result<(), StartError> {
        if self.deposed {
            return Err(StartError::Deposed);
        }
        if let Some(older) = self.running.as_ref().and_then(|running| running.attempt(region.region)) {
            return Err(StartError::Running(older));
        }
        if let Some(recording) = self.recording() {
            return Err(StartError::Undecided(recording));
        }
        if self.last_attempts.get(&region.region).is_some_and(|last| region.attempt <= *last) {
            return Err(StartError::NotNewer(region.attempt));
        }
        assert!(self.pending.is_empty(), "checkpoints pending without a deployment: {:?}", self.pending);
        self.last_attempts.insert(region.region, region.attempt);
        self.next_id = self.next_id.max(floor);
        assert!(self.regions.contains(&region.region), "{region:?} is none of {:?}", self.regions);
        self.running.get_or_insert_default().start(region);
        if self.is_whole() {
            self.next_periodic_ms = now_ms.saturating_add(self.options.interval_ms.unwrap_or(0));
            self.final_retry_ms = None;
        }
        self.advance(now_ms, out);
        Ok(())
    }

    /// The deployment of a region is over: what is pending is aborted, except a record that may exist already.
    pub fn region_ended(&mut self, attempt: AttemptId, now_ms: i64, out: &mut Vec<Command>) -> Reply {
        let Some(running) = self.running.as_mut().filter(|_| !self.deposed) else { return Reply::Stale };
        if !running.end(attempt) {
            return Reply::Stale;
        }
        if running.is_empty() {
            self.running = None;
        }
        self.abort_all(AbortReason::AttemptEnded(attempt), now_ms, out);
        self.refuse_waiting(out);
        self.settle(out);
        self.advance(now_ms, out);
        Reply::Accepted
    }

    /// Time has passed; call it at [`Command::WakeAt`], more often does no harm.
    pub fn tick(&mut self, now_ms: i64, out: &mut Vec<Command>) {
        if self.deposed {
            return;
        }
        if self.wake_ms.is_some_and(|wake| wake <= now_ms) {
            self.wake_ms = None;
        }
        let expired: Vec<_> = self
            .pending
            .values()
            .filter(|pending| {
                pending.is_abortable() && pending.triggered_ms.saturating_add(self.options.timeout_ms) <= now_ms
            })
            .map(|pending| pending.checkpoint)
            .collect();
        for checkpoint in expired {
            self.abort(checkpoint, AbortReason::Expired, now_ms, out);
        }
        for pending in self.pending.values_mut() {
            if let Phase::Undecided { undecided, retry_ms } = pending.phase
                && retry_ms <= now_ms
            {
                pending.phase = Phase::Writing { undecided };
                out.push(Command::RetryRecord { checkpoint: pending.checkpoint });
            }
        }
        self.advance(now_ms, out);
    }

    /// The enumerators are snapshotted, and no assignment made since is ahead of the triggers.
    pub fn enumerators_snapshotted(
        &mut self,
        checkpoint: CheckpointId,
        enumerators: Vec<EnumeratorSnapshot>,
        now_ms: i64,
        out: &mut Vec<Command>,
    ) -> Reply {
        let waiting = self.pending.get_mut(&checkpoint).filter(|pending| pending.phase == Phase::Enumerators);
        let (Some(pending), Some(running), false) = (waiting, &self.running, self.deposed) else { return Reply::Stale };
        pending.enumerators = enumerators;
        pending.phase = if running.subtasks().len() == 0 { Phase::Acked } else { Phase::Acks };
        out.push(Command::SendTriggers {
            barrier: Barrier {
                checkpoint,
                attempt: pending.attempt(),
                purpose: pending.purpose,
                mode: self.options.mode,
                overtaking: self.options.overtaking(pending.purpose),
                triggered_ms: pending.triggered_ms,
            },
            drain: pending.drain,
            attempts: pending.attempts.clone(),
        });
        self.advance(now_ms, out);
        Reply::Accepted
    }

    /// An enumerator cannot snapshot.
    pub fn enumerator_failed(
        &mut self,
        checkpoint: CheckpointId,
        reason: String,
        now_ms: i64,
        out: &mut Vec<Command>,
    ) -> Reply {
        let waits = self.pending.get(&checkpoint).is_some_and(|pending| pending.phase == Phase::Enumerators);
        if self.deposed || !waits {
            return Reply::Stale;
        }
        self.abort(checkpoint, AbortReason::EnumeratorFailed(reason), now_ms, out);
        self.advance(now_ms, out);
        Reply::Accepted
    }

    /// A subtask's state is durable.
    pub fn ack(&mut self, ack: Ack, metrics: AckMetrics, now_ms: i64, out: &mut Vec<Command>) -> AckReply {
        let subtask = SubtaskId { vertex: ack.vertex, index: ack.subtask };
        let running = match &self.running {
            Some(running) if running.runs(ack.attempt) && !self.deposed => running,
            _ => return AckReply::Stale,
        };
        if running.attempt_of(subtask) != Some(ack.attempt) || ack.checkpoint >= self.next_id {
            return AckReply::Unknown;
        }
        let Some(pending) = self.pending.get_mut(&ack.checkpoint) else {
            return if self.recently_completed.contains(&ack.checkpoint) {
                AckReply::Duplicate
            } else {
                AckReply::Discarded
            };
        };
        match pending.phase {
            // No trigger is out: nobody can have snapshotted for it.
            Phase::Enumerators => return AckReply::Unknown,
            Phase::Acked | Phase::Writing { .. } | Phase::Undecided { .. } => return AckReply::Duplicate,
            Phase::Acks if pending.acked.contains_key(&subtask) => return AckReply::Duplicate,
            Phase::Acks => {}
        }
        let sizes = sizes(&ack.state, &self.last_paths);
        pending.paths.extend(ack.state.segments.iter().map(|segment| segment.path.clone()));
        pending.acked.insert(subtask, ack.state);
        if pending.acked.len() == running.subtasks().len() {
            pending.phase = Phase::Acked;
        }
        self.statistics.acked(ack.checkpoint, subtask, sizes, metrics, now_ms);
        self.advance(now_ms, out);
        AckReply::Success
    }

    /// A subtask cannot snapshot.
    pub fn declined(
        &mut self,
        checkpoint: CheckpointId,
        attempt: AttemptId,
        subtask: SubtaskId,
        reason: String,
        now_ms: i64,
        out: &mut Vec<Command>,
    ) -> Reply {
        let current = self.running.as_ref().is_some_and(|running| running.attempt_of(subtask) == Some(attempt));
        let abortable = self.pending.get(&checkpoint).is_some_and(Pending::is_abortable);
        if self.deposed || !current || !abortable {
            return Reply::Stale;
        }
        self.abort(checkpoint, AbortReason::Declined { subtask, reason }, now_ms, out);
        self.advance(now_ms, out);
        Reply::Accepted
    }

    /// A subtask is behind the end of all its inputs. When all are, the final checkpoint is made.
    pub fn end_of_data(
        &mut self,
        attempt: AttemptId,
        subtask: SubtaskId,
        now_ms: i64,
        out: &mut Vec<Command>,
    ) -> Reply {
        match &mut self.running {
            Some(running) if running.attempt_of(subtask) == Some(attempt) && !self.deposed => {
                running.ended.insert(subtask);
            }
            _ => return Reply::Stale,
        }
        self.advance(now_ms, out);
        Reply::Accepted
    }

    /// Manifest and slot exist.
    pub fn record_written(&mut self, checkpoint: CheckpointId, now_ms: i64, out: &mut Vec<Command>) -> Reply {
        if self.deposed || self.recording() != Some(checkpoint) {
            return Reply::Stale;
        }
        self.complete(checkpoint, now_ms, out);
        self.settle(out);
        self.advance(now_ms, out);
        Reply::Accepted
    }

    /// Whether the slot exists could not be learnt. It is asked again after a pause; further checkpoints wait.
    pub fn record_undecided(&mut self, checkpoint: CheckpointId, now_ms: i64, out: &mut Vec<Command>) -> Reply {
        let Some(pending) = self.pending.get_mut(&checkpoint).filter(|_| !self.deposed) else { return Reply::Stale };
        let Phase::Writing { undecided } = pending.phase else { return Reply::Stale };
        let pause = (UNDECIDED_PAUSE_MS << undecided.min(16)).min(UNDECIDED_PAUSE_MAX_MS);
        pending.phase = Phase::Undecided { undecided: undecided + 1, retry_ms: now_ms + pause };
        self.advance(now_ms, out);
        Reply::Accepted
    }

    /// The record certainly does not exist and will not: the manifest could not be written, so no slot was tried.
    pub fn record_failed(
        &mut self,
        checkpoint: CheckpointId,
        reason: String,
        now_ms: i64,
        out: &mut Vec<Command>,
    ) -> Reply {
        if self.deposed || self.recording() != Some(checkpoint) {
            return Reply::Stale;
        }
        self.abort(checkpoint, AbortReason::RecordFailed(reason), now_ms, out);
        self.settle(out);
        self.advance(now_ms, out);
        Reply::Accepted
    }

    /// Another leader occupies the slot. Nothing is ever decided here again.
    pub fn deposed(&mut self, out: &mut Vec<Command>) {
        if std::mem::replace(&mut self.deposed, true) {
            return;
        }
        let pending = self.pending.values().filter_map(|pending| pending.request);
        for request in pending.chain(self.queue.drain(..).map(|request| request.id)) {
            out.push(Command::Answer { request, result: Err(RequestError::Deposed) });
        }
        self.pending.clear();
        self.running = None;
        out.push(Command::StepDown);
    }

    /// Whether the regions of the job run, all and no other.
    fn is_whole(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.are(&self.regions))
    }

    /// The checkpoint whose record is being written or undecided.
    fn recording(&self) -> Option<CheckpointId> {
        self.pending.values().find(|pending| !pending.is_abortable()).map(|pending| pending.checkpoint)
    }

    /// Everything that follows from the present state: records, new checkpoints, the next wake-up.
    fn advance(&mut self, now_ms: i64, out: &mut Vec<Command>) {
        self.write_next_record(out);
        self.start_due(now_ms, out);
        assert!(self.pending.len() <= self.options.max_pending(), "too many pending checkpoints: {:?}", self.pending);
        assert!(
            self.pending.len() <= 1 || !self.pending.values().any(Pending::is_exclusive),
            "a stop or final checkpoint is pending beside others: {:?}",
            self.pending
        );
        self.wish_wake(now_ms, out);
    }
}

/// Bytes new since the last completed checkpoint, and bytes of all state.
fn sizes(state: &SubtaskState, known: &BTreeSet<String>) -> (u64, u64) {
    let bytes = |new_only: bool| {
        let counted = state.segments.iter().filter(|segment| !new_only || !known.contains(&segment.path));
        counted.map(|segment| segment.size_bytes).sum()
    };
    (bytes(true), bytes(false))
}
