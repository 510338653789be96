//! Runs a keyed function: rows, watermarks and timers, resumable behind cursors.

use super::backend::KeyedBackend;
use super::function::{KeyedBroadcastFunction, KeyedContext, Prefetch};
use crate::batch::Rows;
use crate::chain::context::RestoredOperator;
use crate::chain::head::TwoInputs;
use crate::chain::held::HeldRows;
use crate::chain::output::Outputs;
use crate::chain::process::{restore_states, snapshot_states};
use crate::chain::{ChainContext, ChainResult, Collector, Completion, Flow, Folded, OperatorSlot, Stage};
use crate::element::{Barrier, Purpose};
use crate::ids::{CheckpointId, OperatorUid};
use crate::key::Key;
use crate::key_group::KeyGroup;
use crate::ports::PortError;
use crate::ports::state::Wanted;
use crate::state::keyed::Times;
use crate::state::table::KeyContext;
use crate::time::{MIN_TIMESTAMP, Timestamp};

/// Keys whose entries are looked up ahead of the work on them.
const LOOK_AHEAD: usize = 128;

/// What waits behind the cursor, in the order in which it goes on.
struct Held<I> {
    rows: Option<HeldRows<I>>,
    /// The entries of the held rows are in memory, as far as there are any.
    rows_fetched: bool,
    /// So are those of the event-time timers that fire next, and of the processing-time timers.
    event_fetched: bool,
    processing_fetched: bool,
    /// A watermark whose timers have not all fired: it is passed on after the last.
    watermark: Option<Timestamp>,
    /// Processing time up to which timers have to fire.
    processing_time: Option<Timestamp>,
    idle: Option<bool>,
    end_of_input: bool,
}

/// A keyed function in a chain. `S` takes the key from a record.
pub struct Keyed<F: KeyedBroadcastFunction, S> {
    uid: OperatorUid,
    function: F,
    selector: S,
    backend: KeyedBackend<F::Key>,
    outputs: Outputs<F::Out>,
    held: Held<F::In>,
    /// The keys of the next rows; kept for its memory only.
    keys: Vec<KeyContext<F::Key>>,
    watermark: Timestamp,
    /// The watermark last passed on: every timer up to it has fired.
    passed: Timestamp,
    now_ms: Timestamp,
    opened: bool,
}

impl<F: KeyedBroadcastFunction, S> Drop for Keyed<F, S> {
    fn drop(&mut self) {
        if self.opened {
            self.function.close();
        }
    }
}

impl<F, S> Keyed<F, S>
where
    F: KeyedBroadcastFunction,
    S: Fn(&F::In) -> F::Key + Send,
{
    /// The operator, with what was restored for it.
    ///
    /// # Errors
    /// When a restored state is of another type.
    pub fn new(
        uid: OperatorUid,
        slot: OperatorSlot,
        mut function: F,
        selector: S,
        outputs: Outputs<F::Out>,
        restored: &RestoredOperator,
        cx: &ChainContext,
    ) -> Result<Self, PortError> {
        restore_states(&restored.operator_states, |visit| function.broadcast_states(visit))?;
        let backend =
            KeyedBackend::new(uid.clone(), slot, restored.keyed.clone(), cx, &mut |visit| function.states(visit));
        let held = Held {
            rows: HeldRows::restore(&restored.operator_states)?,
            rows_fetched: false,
            event_fetched: false,
            processing_fetched: false,
            watermark: None,
            processing_time: None,
            idle: None,
            end_of_input: false,
        };
        let (keys, watermark, now_ms) = (Vec::with_capacity(LOOK_AHEAD), MIN_TIMESTAMP, MIN_TIMESTAMP);
        let (passed, opened) = (watermark, false);
        Ok(Self { uid, function, selector, backend, outputs, held, keys, watermark, passed, now_ms, opened })
    }

    /// Goes on with everything held, in order; stops at the first thing that has to wait.
    fn run(&mut self, cx: &mut ChainContext) -> ChainResult {
        if self.backend.is_waiting() {
            return Ok(Flow::Waiting);
        }
        if self.backend.take_evicted() {
            let Held { rows_fetched, event_fetched, processing_fetched, .. } = &mut self.held;
            (*rows_fetched, *event_fetched, *processing_fetched) = (false, false, false);
        }
        let mut flow = self.run_rows(cx)?;
        if flow.is_ready() && self.held.processing_time.is_some() {
            flow = self.run_processing_timers(cx)?;
        }
        if flow.is_ready() && self.held.watermark.is_some() {
            flow = self.run_watermark(cx)?;
        }
        if flow.is_ready()
            && let Some(idle) = self.held.idle.take()
        {
            flow = self.outputs.consumers(&mut |consumer| consumer.idle(idle, cx))?;
        }
        if flow.is_ready() && std::mem::take(&mut self.held.end_of_input) {
            flow = self.outputs.consumers(&mut |consumer| consumer.end_of_input(cx))?;
        }
        if let Some(time) = self.backend.processing_timers.earliest() {
            cx.wake_at(time);
        }
        Ok(flow)
    }

    fn run_rows(&mut self, cx: &mut ChainContext) -> ChainResult {
        let Some(mut rows) = self.held.rows.take() else { return Ok(Flow::Ready) };
        if self.backend.is_partial() && !self.held.rows_fetched {
            self.held.rows_fetched = true;
            let flow = self.fetch_rows(&rows, cx);
            if !flow.is_ready() {
                self.held.rows = Some(rows);
                return Ok(flow);
            }
        }
        self.now_ms = cx.task.clock.now_ms();
        self.pass_time(rows.values.len());
        let mut keys = std::mem::take(&mut self.keys);
        let mut outcome = Ok(Flow::Ready);
        while matches!(outcome, Ok(Flow::Ready)) && !rows.values.as_slice().is_empty() {
            let next = rows.values.as_slice().iter().take(LOOK_AHEAD);
            keys.clear();
            keys.extend(
                next.zip(0..)
                    .map(|(value, place)| KeyContext::ahead((self.selector)(value), cx.task.max_parallelism, place)),
            );
            self.function.states(&mut |state| state.backing().entries().look_ahead(&keys));
            outcome = self.process(&keys, &mut rows, cx);
        }
        self.keys = keys;
        match outcome? {
            Flow::Ready => self.outputs.drain(cx),
            flow => {
                self.held.rows = Some(rows);
                Ok(flow)
            }
        }
    }

    /// Tells states how late it is, and how many records come.
    fn pass_time(&mut self, records: usize) {
        let times = Times { processing: self.now_ms, watermark: self.watermark, timestamp: None };
        self.function.states(&mut |state| state.backing().entries().pass_time(&times, records));
    }

    /// Processes one row for each key, unless an output stops it before.
    fn process(
        &mut self,
        keys: &[KeyContext<F::Key>],
        rows: &mut HeldRows<F::In>,
        cx: &mut ChainContext,
    ) -> ChainResult {
        let batch_rows = cx.task.batch_rows;
        let has_floor = !cx.task.watermark_floor.is_empty();
        for at in keys {
            let Some(value) = rows.values.next() else { break };
            let floor = if has_floor { cx.watermark_floor(at.group) } else { MIN_TIMESTAMP };
            let mut context = KeyedContext {
                at,
                outputs: &mut self.outputs,
                event_timers: &mut self.backend.event_timers,
                processing_timers: &mut self.backend.processing_timers,
                timestamp: rows.timestamps.next(),
                watermark: self.watermark.max(floor),
                now_ms: self.now_ms,
                late_records_dropped: &mut cx.counters.late_records_dropped,
            };
            self.function.process(value, &mut context)?;
            if self.outputs.is_full(batch_rows) {
                let flow = self.outputs.drain(cx)?;
                if !flow.is_ready() {
                    return Ok(flow);
                }
            }
        }
        Ok(Flow::Ready)
    }

    fn fetch_rows(&mut self, rows: &HeldRows<F::In>, cx: &mut ChainContext) -> Flow {
        let mut wanted = Wanted::default();
        let timestamps = rows.timestamps.as_slice();
        for (index, value) in rows.values.as_slice().iter().enumerate() {
            let at = KeyContext::new((self.selector)(value), cx.task.max_parallelism);
            self.function.prefetch(&at, Prefetch::Record(timestamps.get(index).copied()), &mut wanted);
        }
        self.backend.fetch(wanted, cx)
    }

    /// Fires the event-time timers up to the held watermark, one batch of them; then lets others have their turn.
    fn run_watermark(&mut self, cx: &mut ChainContext) -> ChainResult {
        let Some(watermark) = self.held.watermark else { return Ok(Flow::Ready) };
        self.now_ms = cx.task.clock.now_ms();
        if self.backend.is_partial() && !std::mem::replace(&mut self.held.event_fetched, true) {
            let due: Vec<_> = self.backend.event_timers.due(watermark, cx.task.batch_rows).collect();
            let flow = self.fetch_timers(&due, cx);
            if !flow.is_ready() {
                return Ok(flow);
            }
        }
        self.held.event_fetched = false;
        for _ in 0..cx.task.batch_rows {
            let Some((time, at)) = self.backend.event_timers.pop_due(watermark) else { break };
            // Each timer sees the time it stands for, as if watermarks came one by one.
            self.watermark = self.watermark.max(time);
            self.fire(time, &at, cx)?;
        }
        let flow = self.outputs.drain(cx)?;
        if !flow.is_ready() {
            return Ok(flow);
        }
        if self.backend.event_timers.earliest().is_some_and(|time| time <= watermark) {
            return Ok(Flow::Yielded);
        }
        self.held.watermark = None;
        self.watermark = watermark;
        self.passed = watermark;
        self.outputs.consumers(&mut |consumer| consumer.watermark(watermark, cx))
    }

    /// The same for processing time.
    fn run_processing_timers(&mut self, cx: &mut ChainContext) -> ChainResult {
        let Some(now_ms) = self.held.processing_time else { return Ok(Flow::Ready) };
        self.now_ms = now_ms;
        if self.backend.is_partial() && !std::mem::replace(&mut self.held.processing_fetched, true) {
            let due: Vec<_> = self.backend.processing_timers.due(now_ms, cx.task.batch_rows).collect();
            let flow = self.fetch_timers(&due, cx);
            if !flow.is_ready() {
                return Ok(flow);
            }
        }
        self.held.processing_fetched = false;
        for _ in 0..cx.task.batch_rows {
            let Some((time, at)) = self.backend.processing_timers.pop_due(now_ms) else { break };
            self.fire(time, &at, cx)?;
        }
        let flow = self.outputs.drain(cx)?;
        if !flow.is_ready() {
            return Ok(flow);
        }
        if self.backend.processing_timers.earliest().is_some_and(|time| time <= now_ms) {
            return Ok(Flow::Yielded);
        }
        self.held.processing_time = None;
        Ok(Flow::Ready)
    }

    fn fetch_timers(&mut self, due: &[(Timestamp, KeyContext<F::Key>)], cx: &mut ChainContext) -> Flow {
        let mut wanted = Wanted::default();
        for (time, at) in due {
            self.function.prefetch(at, Prefetch::Timer(*time), &mut wanted);
        }
        self.backend.fetch(wanted, cx)
    }

    fn fire(&mut self, time: Timestamp, at: &KeyContext<F::Key>, cx: &mut ChainContext) -> Result<(), PortError> {
        let mut context = KeyedContext {
            at,
            outputs: &mut self.outputs,
            event_timers: &mut self.backend.event_timers,
            processing_timers: &mut self.backend.processing_timers,
            timestamp: Some(time),
            watermark: self.watermark,
            now_ms: self.now_ms,
            late_records_dropped: &mut cx.counters.late_records_dropped,
        };
        cx.counters.fired_timers += 1;
        self.function.on_timer(time, &mut context)
    }
}

impl<F, S> Stage for Keyed<F, S>
where
    F: KeyedBroadcastFunction,
    F::Key: Key,
    S: Fn(&F::In) -> F::Key + Send,
{
    fn consumers(&mut self, visit: &mut dyn FnMut(&mut dyn Stage) -> ChainResult) -> ChainResult {
        self.outputs.consumers(visit)
    }

    fn open(&mut self, cx: &mut ChainContext) -> ChainResult {
        self.now_ms = cx.task.clock.now_ms();
        self.pass_time(0);
        self.opened = true;
        self.function.open(&cx.task)?;
        self.backend.open(cx);
        // The cut may have been taken while timers of its watermark were still to fire: they fire before anything else,
        // and the watermark is passed on behind them, which the cut was too early for.
        let floor = cx.task.watermark_floor.iter().copied().min();
        self.held.watermark = floor.filter(|floor| *floor > MIN_TIMESTAMP);
        let flow = self.outputs.consumers(&mut |consumer| consumer.open(cx))?;
        Ok(if self.backend.is_waiting() { Flow::Waiting } else { flow })
    }

    fn watermark(&mut self, watermark: Timestamp, cx: &mut ChainContext) -> ChainResult {
        // After a restore the inputs may be behind what this operator had seen already.
        if watermark >= self.passed {
            self.held.watermark = self.held.watermark.max(Some(watermark));
        }
        self.run(cx)
    }

    fn idle(&mut self, idle: bool, cx: &mut ChainContext) -> ChainResult {
        self.held.idle = Some(idle);
        self.run(cx)
    }

    fn end_of_input(&mut self, cx: &mut ChainContext) -> ChainResult {
        self.held.end_of_input = true;
        self.run(cx)
    }

    fn resume(&mut self, cx: &mut ChainContext) -> ChainResult {
        let flow = self.outputs.consumers(&mut |consumer| consumer.resume(cx))?;
        if flow.is_ready() { self.run(cx) } else { Ok(flow) }
    }

    fn barrier(&mut self, barrier: &Barrier, cx: &mut ChainContext) -> ChainResult {
        let Self { uid, function, selector, backend, held, .. } = self;
        snapshot_states(uid, cx, |visit| function.broadcast_states(visit))?;
        if let Some(rows) = &held.rows {
            let groups = cx.task.max_parallelism;
            rows.store_by_group(uid, cx, |row| KeyGroup::of(selector(row).key_hash(), groups))?;
        }
        backend.freeze(&mut |visit| function.states(visit), cx);
        self.outputs.consumers(&mut |consumer| consumer.barrier(barrier, cx))
    }

    fn holds_off(&mut self, flag: &mut bool) {
        *flag |= self.backend.is_waiting();
        let visited = self.outputs.consumers(&mut |consumer| {
            consumer.holds_off(flag);
            Ok(Flow::Ready)
        });
        debug_assert!(visited.is_ok());
    }

    fn encode_frozen(&mut self, cx: &mut ChainContext) -> ChainResult {
        let Self { function, backend, .. } = self;
        let flow = backend.encode_some(&mut |visit| function.states(visit), cx)?;
        if !flow.is_ready() {
            return Ok(flow);
        }
        self.outputs.consumers(&mut |consumer| consumer.encode_frozen(cx))
    }

    fn checkpoint_complete(
        &mut self,
        checkpoint: CheckpointId,
        purpose: Purpose,
        cx: &mut ChainContext,
    ) -> ChainResult {
        self.function.checkpoint_complete(checkpoint)?;
        self.outputs.consumers(&mut |consumer| consumer.checkpoint_complete(checkpoint, purpose, cx))
    }

    fn folded(&mut self, folded: &Folded<'_>, cx: &mut ChainContext) -> ChainResult {
        let Self { uid, function, backend, .. } = self;
        let reader = (folded.reader)(uid);
        backend.folded(folded.cut, reader, &mut |visit| function.states(visit), cx);
        self.outputs.consumers(&mut |consumer| consumer.folded(folded, cx))
    }

    fn restoring(&mut self, flag: &mut bool) {
        *flag |= self.backend.is_restoring();
        let visited = self.outputs.consumers(&mut |consumer| {
            consumer.restoring(flag);
            Ok(Flow::Ready)
        });
        debug_assert!(visited.is_ok());
    }

    fn completed(&mut self, completion: &mut Option<Completion>, cx: &mut ChainContext) -> ChainResult {
        let Self { function, backend, .. } = self;
        backend.completed(completion, &mut |visit| function.states(visit), cx)?;
        if completion.is_none() {
            return Ok(Flow::Ready);
        }
        self.outputs.consumers(&mut |consumer| consumer.completed(completion, cx))
    }

    fn processing_time(&mut self, now_ms: Timestamp, cx: &mut ChainContext) -> ChainResult {
        if self.backend.processing_timers.earliest().is_some_and(|time| time <= now_ms) {
            self.held.processing_time = Some(now_ms);
        }
        let consumers = self.outputs.consumers(&mut |consumer| consumer.processing_time(now_ms, cx))?;
        Ok(if consumers.is_ready() { self.run(cx)? } else { consumers })
    }
}

impl<F, S> Collector<F::In> for Keyed<F, S>
where
    F: KeyedBroadcastFunction,
    S: Fn(&F::In) -> F::Key + Send,
{
    fn push(&mut self, rows: Rows<F::In>, cx: &mut ChainContext) -> ChainResult {
        let Self { function, backend, .. } = self;
        backend.relieve(&mut |visit| function.states(visit), cx);
        self.held.rows = Some(HeldRows::new(rows));
        self.held.rows_fetched = false;
        self.run(cx)
    }
}

impl<F, S> TwoInputs<F::In, F::Broadcast> for Keyed<F, S>
where
    F: KeyedBroadcastFunction,
    S: Fn(&F::In) -> F::Key + Send,
{
    fn push_second(&mut self, rows: Rows<F::Broadcast>, _cx: &mut ChainContext) -> ChainResult {
        for value in rows.values {
            self.function.process_broadcast(value)?;
        }
        Ok(Flow::Ready)
    }
}
