//! The loop of a subtask: takes messages, makes one step at a time, and never waits for anything downstream.

use std::sync::Arc;

use millstream_runtime::chain::context::TaskInfo;
use millstream_runtime::chain::head::ChainHead;
use millstream_runtime::chain::{ChainContext, Completion, Flow};
use millstream_runtime::credit::Permit;
use millstream_runtime::element::{Element, Purpose};
use millstream_runtime::exchange::Parcel;
use millstream_runtime::graph::build::ChainPlan;
use millstream_runtime::ids::{ChannelIndex, CheckpointId, CutNumber, SubtaskId};
use millstream_runtime::ports::PortError;
use millstream_runtime::state::pressure::{Pressure, Relief};
use millstream_runtime::subtask::Subtask;
use millstream_runtime::subtask::overtaking::WantedTimeout;
use millstream_runtime::time::Timestamp;
use millstream_state::segment::SegmentContext;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::alignment::AlignmentTimes;
use super::driver::{Driver, Step};
use super::message::{Announced, Deployment, SubtaskMessage};
use super::snapshot::{Encoding, Snapshots};
use crate::in_flight::ChannelPlace;
use crate::local::Folder;
use crate::metrics::{Phase, SourceMetrics, SubtaskMetrics};
use crate::protocol::{Answers, FromTaskManager, SplitAssignment, SubtaskReport};
use crate::world::{Stopwatch, World, caught};

/// Behind each commit of a sink: others of the same checkpoint may not have begun.
pub const BETWEEN_COMMITS: &str = "between-commits";

/// Sources hand over partly filled batches at least this often while they are busy, in nanoseconds.
const BUSY_FLUSH_NS: u64 = 10_000_000;

/// A subtask actor.
pub struct SubtaskActor;

/// What a subtask actor is made with.
pub struct SubtaskArguments {
    /// Which one.
    pub id: SubtaskId,
    /// Its place; wakers in it are replaced by the actor's own.
    pub task: TaskInfo,
    /// Makes its chain.
    pub plan: Arc<ChainPlan>,
    /// Its input channels.
    pub channels: Vec<ChannelPlace>,
    /// Barriers in its mailbox.
    pub announced: Announced,
    /// Whom it reports to.
    pub master: Answers,
    /// Its counters.
    pub metrics: Arc<SubtaskMetrics>,
    /// Those of its source, if it reads one.
    pub source_metrics: Option<Arc<SourceMetrics>>,
    /// The world.
    pub world: World,
    /// The clock of its counters.
    pub stopwatch: Stopwatch,
}

/// The state of a subtask actor.
pub struct SubtaskStateful {
    pub(super) arguments: SubtaskArguments,
    pub(super) context: ChainContext,
    /// Elements that came before the deployment.
    early: Option<Subtask<Parcel>>,
    pub(super) driver: Option<Driver>,
    pub(super) snapshots: Option<Snapshots>,
    pub(super) folder: Option<Folder>,
    pub(super) pressure: Pressure,
    pub(super) encoding: Option<Encoding>,
    /// Of the steps since the last barrier in which something of its cut was encoded.
    pub(super) longest_step_ns: u64,
    /// The last cut was for the end or a stop: nothing would name what a compaction writes now.
    pub(super) closing: bool,
    /// When the next [`SubtaskMessage::Timer`] comes.
    timer_at_ms: Option<Timestamp>,
    flush_sent: bool,
    wake_sent: bool,
    opened_told: bool,
    last_flush_ns: u64,
    /// The job or the stop is complete: end when everything is committed.
    finishing: bool,
    finished: bool,
    /// The newest barrier that has come out of the mailbox.
    taken_in: CheckpointId,
    pub(super) cuts: CutNumber,
    pub(super) alignment: AlignmentTimes,
}

impl Actor for SubtaskActor {
    type Msg = SubtaskMessage;
    type State = SubtaskStateful;
    type Arguments = SubtaskArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<SubtaskMessage>,
        mut arguments: SubtaskArguments,
    ) -> Result<SubtaskStateful, ActorProcessingErr> {
        let waker = myself.clone();
        arguments.task.waker = millstream_runtime::ports::Waker::new(move || drop(waker.cast(SubtaskMessage::Wake)));
        arguments.task.wake_after = Arc::new(move |after_ms| {
            myself.send_after(std::time::Duration::from_millis(after_ms), || SubtaskMessage::Wake);
        });
        let context = ChainContext::new(arguments.task.clone());
        let may_be_overtaken = arguments.channels.iter().map(|channel| channel.may_be_overtaken);
        let early = Some(Subtask::overtakable(may_be_overtaken.collect()));
        Ok(SubtaskStateful {
            arguments,
            context,
            early,
            driver: None,
            snapshots: None,
            folder: None,
            pressure: Pressure::default(),
            encoding: None,
            longest_step_ns: 0,
            closing: false,
            timer_at_ms: None,
            flush_sent: false,
            wake_sent: false,
            opened_told: false,
            last_flush_ns: 0,
            finishing: false,
            finished: false,
            taken_in: CheckpointId::default(),
            cuts: CutNumber(0),
            alignment: AlignmentTimes::default(),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<SubtaskMessage>,
        message: SubtaskMessage,
        state: &mut SubtaskStateful,
    ) -> Result<(), ActorProcessingErr> {
        let encoding_since = state.encoding.is_some().then(|| state.arguments.stopwatch.elapsed_ns());
        if let Err(error) = state.take(&myself, message) {
            state.fail(&myself, error);
        }
        if let Some(since_ns) = encoding_since {
            let step_ns = state.arguments.stopwatch.elapsed_ns() - since_ns;
            state.longest_step_ns = state.longest_step_ns.max(step_ns);
        }
        // Control, timers and the other subtasks get their turn between two batches.
        tokio::task::yield_now().await;
        Ok(())
    }
}

impl SubtaskStateful {
    fn take(&mut self, myself: &ActorRef<SubtaskMessage>, message: SubtaskMessage) -> Result<(), PortError> {
        match message {
            SubtaskMessage::Deploy(deployment) => self.deploy(*deployment)?,
            SubtaskMessage::Element(channel, element) => return self.element(myself, channel, element),
            SubtaskMessage::Assign(SplitAssignment { splits, initial, last, floor }) => {
                if let Some(ChainHead::Source(source)) = self.driver.as_mut().map(Driver::chain) {
                    source.assign(splits, initial, last, floor)?;
                }
            }
            SubtaskMessage::Trigger { barrier, drain } => {
                if let Some(driver) = &mut self.driver {
                    driver.trigger(barrier, drain);
                }
                self.start_timeout(myself);
            }
            SubtaskMessage::AlignmentTimeout(checkpoint) => {
                if let Some(driver) = &mut self.driver {
                    driver.time_out(checkpoint);
                }
            }
            SubtaskMessage::Complete { checkpoint, purpose, position } => {
                self.complete(checkpoint, purpose)?;
                self.fold(myself, checkpoint, purpose, position);
            }
            SubtaskMessage::Folded(folded) => {
                self.folded(&folded)?;
                self.start_compaction(myself);
            }
            SubtaskMessage::Abort(checkpoint) => {
                self.pressure.ended(checkpoint);
                if let Some(driver) = &mut self.driver {
                    driver.abort(checkpoint);
                }
            }
            SubtaskMessage::Wake => {
                self.wake_sent = false;
                // Perhaps it is credit that has come back: what the last flush had to leave goes now.
                if self.driver.as_mut().is_some_and(Driver::take_unflushed) {
                    self.flush()?;
                }
            }
            SubtaskMessage::Flush => {
                self.flush_sent = false;
                self.flush()?;
            }
            SubtaskMessage::Completed(completion) => self.completed(completion)?,
            SubtaskMessage::Written(written) => self.written(myself, *written)?,
            SubtaskMessage::Compacted(compacted) => self.compacted(*compacted),
            SubtaskMessage::WorkFailed(error) => return Err(error),
            SubtaskMessage::Timer => {
                self.timer_at_ms = None;
                let now_ms = self.context.task.clock.now_ms();
                if let Some(driver) = &mut self.driver {
                    driver.processing_time(now_ms);
                }
            }
        }
        self.go_on(myself)
    }

    fn element(
        &mut self,
        myself: &ActorRef<SubtaskMessage>,
        channel: ChannelIndex,
        element: Element<Parcel>,
    ) -> Result<(), PortError> {
        let needs_flush = matches!(element, Element::Batch(_) | Element::Watermark(_));
        let barrier = if let Element::Barrier(barrier) = &element { Some(barrier.checkpoint) } else { None };
        match (&mut self.driver, &mut self.early) {
            (Some(driver), _) => driver.receive(channel, element)?,
            (None, Some(early)) => early.receive(channel, element),
            (None, None) => {}
        }
        if needs_flush {
            self.send_flush(myself);
        }
        if let Some(checkpoint) = barrier {
            self.taken_in = self.taken_in.max(checkpoint);
            self.start_timeout(myself);
        }
        if self.is_recording() {
            self.wake(myself);
            return Ok(());
        }
        self.go_on(myself)
    }

    fn deploy(&mut self, deployment: Deployment) -> Result<(), PortError> {
        let Deployment { outputs, restored, watermark_floor, segments, in_flight, local } = deployment;
        let Some(mut machine) = self.early.take() else { return Ok(()) };
        let parcel = |batch| Parcel { batch, permit: Permit::without_credit() };
        machine.replay(in_flight.into_iter().map(|(channel, batch)| (channel, parcel(batch))));
        self.cuts = segments.iter().map(|segment| segment.cuts.1).max().unwrap_or_default();
        self.context.task.watermark_floor = watermark_floor;
        let restored = |uid: &_| {
            restored.iter().find(|(known, _)| known == uid).map(|(_, restored)| restored.clone()).unwrap_or_default()
        };
        let chain = self.arguments.plan.build(outputs, &restored, &self.context)?;
        let inputs = self.arguments.channels.iter().map(|channel| channel.input).collect();
        let mut driver = Driver::new(machine, chain, inputs);
        driver.open(&mut self.context)?;
        self.driver = Some(driver);
        let task = &self.arguments.task;
        let context = SegmentContext {
            job: task.job,
            vertex: self.arguments.id.vertex,
            subtask: task.subtask,
            attempt: task.attempt,
            key_groups: task.key_groups.clone(),
        };
        let world = &self.arguments.world;
        self.folder = local.map(|local| Folder::new(local, context.clone(), Arc::clone(&world.blobs)));
        self.snapshots = Some(Snapshots::new(context, Arc::clone(&world.blobs), world.failpoints.clone(), segments));
        Ok(())
    }

    /// Makes a step and sees to what follows from it.
    fn go_on(&mut self, myself: &ActorRef<SubtaskMessage>) -> Result<(), PortError> {
        self.encode_some(myself)?;
        // A barrier that may overtake is in the mailbox, behind rows that are to wait here and not to be worked on. It
        // goes on itself when it has come out.
        if self.arguments.announced.is_ahead_of(self.taken_in) {
            self.start_work(myself);
            return Ok(());
        }
        let Some(driver) = &mut self.driver else { return Ok(()) };
        driver.hold_rows(self.pressure.holds());
        let was_paused = driver.is_paused();
        let step = driver.step(&mut self.context)?;
        let resumed = was_paused && !driver.is_paused();
        if driver.is_open() && !self.opened_told {
            self.opened_told = true;
            self.report(SubtaskReport::Running);
        }
        self.start_work(myself);
        self.look_at_memory();
        if resumed {
            // What the rest of a batch or the last timers gave: nothing else may come for a long time.
            self.send_flush(myself);
        }
        self.measure(&step);
        match step {
            Step::Worked => {
                self.flush_when_due(myself)?;
                self.wake(myself);
            }
            Step::Snapshot(barrier) => {
                self.snapshot(myself, barrier)?;
                self.wake(myself);
            }
            Step::Abandoned(checkpoint) => {
                self.report(SubtaskReport::Declined {
                    checkpoint,
                    reason: "a newer barrier came before all of its barriers".to_owned(),
                });
                self.wake(myself);
            }
            Step::EndOfData => {
                self.report(SubtaskReport::EndOfData);
                self.wake(myself);
            }
            Step::Idle => {
                if self.driver.as_ref().is_some_and(Driver::is_source) {
                    self.flush()?;
                }
                self.wake_to_encode(myself);
            }
            Step::Paused(Flow::Yielded) => self.wake(myself),
            Step::Paused(Flow::Blocked | Flow::Waiting | Flow::Ready) => self.wake_to_encode(myself),
        }
        self.start_work(myself);
        Ok(())
    }

    /// Asks for a checkpoint when keyed state has no room without one.
    fn look_at_memory(&mut self) {
        if self.pressure.look(self.context.counters.memory_short) == Relief::Ask {
            self.report(SubtaskReport::ShortOfMemory);
        }
    }

    fn measure(&mut self, step: &Step) {
        let metrics = &self.arguments.metrics;
        let phase = match step {
            Step::Worked | Step::Snapshot(_) | Step::Abandoned(_) | Step::EndOfData => Phase::Busy,
            Step::Paused(Flow::Blocked) => Phase::BackPressured,
            Step::Paused(Flow::Waiting | Flow::Yielded | Flow::Ready) => Phase::Busy,
            Step::Idle => Phase::Idle,
        };
        let now_ns = self.arguments.stopwatch.elapsed_ns();
        metrics.enter(phase, now_ns);
        if let Some(driver) = &mut self.driver {
            let (records, bytes) = (std::mem::take(&mut driver.input.records), std::mem::take(&mut driver.input.bytes));
            metrics.add_in(records, bytes);
            self.alignment.stepped(driver.machine().aligning(), bytes, now_ns);
            metrics.set_input_watermark(driver.input.watermark);
            metrics.set_queued_batches(driver.machine().queued_batches() as u64);
        }
        if let Some(source_metrics) = &self.arguments.source_metrics
            && let Some(ChainHead::Source(source)) = self.driver.as_mut().map(Driver::chain)
        {
            source_metrics.update(&source.figures(), self.context.task.clock.now_ms());
        }
        let counters = &mut self.context.counters;
        metrics.set_state_bytes(counters.state_bytes);
        metrics.add_fired_timers(std::mem::take(&mut counters.fired_timers));
        metrics.add_out(std::mem::take(&mut counters.records_out), std::mem::take(&mut counters.bytes_out));
        metrics.add_late_dropped(std::mem::take(&mut counters.late_records_dropped));
        if let Some(watermark) = counters.output_watermark.take() {
            metrics.set_output_watermark(watermark);
        }
    }

    /// Starts what the chain has asked for.
    fn start_work(&mut self, myself: &ActorRef<SubtaskMessage>) {
        for work in self.context.started.drain(..) {
            let (myself, slot, run) = (myself.clone(), work.slot, work.run);
            let failpoints = work.commits.then(|| self.arguments.world.failpoints.clone());
            self.arguments.world.blocking.run(Box::new(move || {
                let result = caught(run);
                if let Some(failpoints) = failpoints {
                    failpoints.hit(BETWEEN_COMMITS);
                }
                drop(myself.cast(match result {
                    Ok(result) => SubtaskMessage::Completed(Completion { slot, result }),
                    Err(error) => SubtaskMessage::WorkFailed(error),
                }));
            }));
        }
        // One timer is enough until the earliest of them has fired.
        if let Some(at_ms) = self.context.take_wake_at()
            && self.timer_at_ms.is_none_or(|planned_ms| at_ms < planned_ms)
        {
            self.timer_at_ms = Some(at_ms);
            let after = u64::try_from(at_ms.saturating_sub(self.context.task.clock.now_ms())).unwrap_or(0);
            myself.send_after(std::time::Duration::from_millis(after), || SubtaskMessage::Timer);
        }
    }

    fn completed(&mut self, completion: Completion) -> Result<(), PortError> {
        let Some(driver) = &mut self.driver else { return Ok(()) };
        let _flow = driver.chain().stage().completed(&mut Some(completion), &mut self.context)?;
        self.finish_when_committed();
        Ok(())
    }

    fn complete(&mut self, checkpoint: CheckpointId, purpose: Purpose) -> Result<(), PortError> {
        let Some(driver) = &mut self.driver else { return Ok(()) };
        let _flow = driver.chain().stage().checkpoint_complete(checkpoint, purpose, &mut self.context)?;
        self.finishing |= matches!(purpose, Purpose::Final | Purpose::StopWithSavepoint);
        self.finish_when_committed();
        Ok(())
    }

    fn finish_when_committed(&mut self) {
        let Some(driver) = &mut self.driver else { return };
        if !self.finishing || self.finished {
            return;
        }
        let mut uncommitted = 0;
        driver.chain().stage().uncommitted(&mut uncommitted);
        if uncommitted == 0 {
            self.finished = true;
            self.report(SubtaskReport::Finished);
        }
    }

    fn flush(&mut self) -> Result<(), PortError> {
        self.last_flush_ns = self.arguments.stopwatch.elapsed_ns();
        match &mut self.driver {
            Some(driver) => driver.flush(&mut self.context),
            None => Ok(()),
        }
    }

    fn flush_when_due(&mut self, myself: &ActorRef<SubtaskMessage>) -> Result<(), PortError> {
        if !self.driver.as_ref().is_some_and(Driver::is_source) {
            self.send_flush(myself);
        } else if self.arguments.stopwatch.elapsed_ns() - self.last_flush_ns > BUSY_FLUSH_NS {
            self.flush()?;
        }
        Ok(())
    }

    fn send_flush(&mut self, myself: &ActorRef<SubtaskMessage>) {
        if !self.flush_sent {
            self.flush_sent = true;
            drop(myself.cast(SubtaskMessage::Flush));
        }
    }

    fn wake(&mut self, myself: &ActorRef<SubtaskMessage>) {
        // Every message makes a step, a flush that is under way as well.
        if !self.wake_sent && !self.flush_sent {
            self.wake_sent = true;
            drop(myself.cast(SubtaskMessage::Wake));
        }
    }

    /// Whether rows still belong to a cut that is taken: all that have come are recorded before one is worked on.
    fn is_recording(&mut self) -> bool {
        self.driver.as_mut().is_some_and(|driver| driver.machine().recording().is_some())
    }

    fn wake_to_encode(&mut self, myself: &ActorRef<SubtaskMessage>) {
        if self.encoding.as_ref().is_some_and(|encoding| !encoding.encoded) {
            self.wake(myself);
        }
    }

    /// Has itself told when barriers have waited as long as they may.
    fn start_timeout(&mut self, myself: &ActorRef<SubtaskMessage>) {
        let Some(WantedTimeout { checkpoint, after_ms }) = self.driver.as_mut().and_then(Driver::take_wanted_timeout)
        else {
            return;
        };
        let after = std::time::Duration::from_millis(after_ms);
        myself.send_after(after, move || SubtaskMessage::AlignmentTimeout(checkpoint));
    }

    pub(super) fn report(&self, report: SubtaskReport) {
        let (id, attempt) = (self.arguments.id, self.arguments.task.attempt);
        self.arguments.master.tell(FromTaskManager::Subtask { id, attempt, report });
    }

    fn fail(&mut self, myself: &ActorRef<SubtaskMessage>, error: PortError) {
        self.report(SubtaskReport::Failed(error.into()));
        // Nothing of a failed chain may act again.
        self.driver = None;
        self.snapshots = None;
        self.encoding = None;
        myself.stop(None);
    }
}
