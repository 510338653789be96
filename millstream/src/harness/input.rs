//! An input that a test feeds by hand: records, watermarks, idleness, the end.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use millstream_runtime::batch::{Data, Rows};
use millstream_runtime::chain::head::ChainHead;
use millstream_runtime::chain::source::{SourceFigures, SourcePoll, SourceStage};
use millstream_runtime::chain::{ChainContext, ChainResult, Downstream, Flow, Stage};
use millstream_runtime::graph::stream::{NodeKind, NodeOutputs, OperatorFactory, OperatorPlace};
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::source::Split;
use millstream_runtime::time::{MAX_TIMESTAMP, MIN_TIMESTAMP, Timestamp};

use super::world::lock;
use crate::stream::{DataStream, Environment, NewNode};

enum Event<T> {
    Record(T, Option<Timestamp>),
    Watermark(Timestamp),
    Idle(bool),
    End,
}

type Events<T> = Arc<Mutex<VecDeque<Event<T>>>>;

/// The test's side of an input. It has one subtask and no position: after a restore, feed what comes next.
pub struct TestInput<T> {
    events: Events<T>,
}

impl<T: Data> TestInput<T> {
    /// Adds an input to a job.
    pub fn new(env: &Environment, name: impl Into<String>) -> (Self, DataStream<T>) {
        let events: Events<T> = Arc::default();
        let id = env.recorder().add(NewNode {
            name: name.into(),
            kind: NodeKind::Source,
            stateful: false,
            inputs: Vec::new(),
            factory: Arc::new(TestSourceFactory { events: Arc::clone(&events) }),
            enumerator: None,
            transaction_timeout_ms: None,
            output_type: std::any::type_name::<T>(),
        });
        (Self { events }, DataStream::of(env.recorder().clone(), id).set_parallelism(1))
    }

    fn send(&self, event: Event<T>) {
        lock(&self.events).push_back(event);
    }

    /// A record without a timestamp.
    pub fn push(&self, value: T) {
        self.send(Event::Record(value, None));
    }

    /// A record with its event time.
    pub fn push_at(&self, value: T, timestamp: Timestamp) {
        self.send(Event::Record(value, Some(timestamp)));
    }

    /// The watermark advances.
    pub fn watermark(&self, watermark: Timestamp) {
        self.send(Event::Watermark(watermark));
    }

    /// The input is left out of the watermark, or takes part again.
    pub fn idle(&self, idle: bool) {
        self.send(Event::Idle(idle));
    }

    /// The input ends, with the watermark at the end of time.
    pub fn end(&self) {
        self.send(Event::Watermark(MAX_TIMESTAMP));
        self.send(Event::End);
    }
}

struct TestSourceFactory<T> {
    events: Events<T>,
}

impl<T: Data> OperatorFactory for TestSourceFactory<T> {
    fn stage(
        &self,
        _outputs: NodeOutputs,
        place: OperatorPlace,
        _cx: &ChainContext,
    ) -> Result<Box<dyn Any>, PortError> {
        Err(PortError::give_up(format!("the test input '{}' can only begin a chain", place.uid)))
    }

    fn head(&self, outputs: NodeOutputs, _place: OperatorPlace, _cx: &ChainContext) -> Result<ChainHead, PortError> {
        Ok(ChainHead::Source(Box::new(TestSource {
            events: Arc::clone(&self.events),
            downstream: outputs.downstream::<T>(),
            watermark: MIN_TIMESTAMP,
            records: 0,
            ended: false,
        })))
    }
}

struct TestSource<T> {
    events: Events<T>,
    downstream: Downstream<T>,
    watermark: Timestamp,
    records: u64,
    ended: bool,
}

impl<T: Data> TestSource<T> {
    /// The next event; of records, as many as follow each other and fit into a batch.
    fn next(&mut self, batch_rows: usize) -> Option<(Rows<T>, Option<Event<T>>)> {
        let mut events = lock(&self.events);
        let mut rows = Rows::default();
        while rows.len() < batch_rows {
            match events.pop_front() {
                Some(Event::Record(value, timestamp)) => rows.push(value, timestamp),
                Some(other) if rows.is_empty() => return Some((rows, Some(other))),
                Some(other) => {
                    events.push_front(other);
                    break;
                }
                None => break,
            }
        }
        (!rows.is_empty()).then_some((rows, None))
    }
}

impl<T: Data> SourceStage for TestSource<T> {
    fn assign(&mut self, _splits: Vec<Split>, _initial: bool, _last: bool, _floor: Timestamp) -> Result<(), PortError> {
        Ok(())
    }

    fn poll(&mut self, cx: &mut ChainContext) -> Result<SourcePoll, PortError> {
        if self.ended {
            return Ok(SourcePoll::EndOfInput);
        }
        let Some((rows, event)) = self.next(cx.task.batch_rows) else { return Ok(SourcePoll::Waiting) };
        self.records += rows.len() as u64;
        let flow = match event {
            None | Some(Event::Record(..)) => self.downstream.push(rows, cx)?,
            Some(Event::Watermark(watermark)) if watermark <= self.watermark => Flow::Ready,
            Some(Event::Watermark(watermark)) => {
                self.watermark = watermark;
                self.downstream.watermark(watermark, cx)?
            }
            Some(Event::Idle(idle)) => self.downstream.idle(idle, cx)?,
            Some(Event::End) => self.drain(cx)?,
        };
        Ok(if flow.is_ready() { SourcePoll::More } else { SourcePoll::Paused(flow) })
    }

    fn drain(&mut self, cx: &mut ChainContext) -> ChainResult {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(Flow::Ready);
        }
        self.downstream.end_of_input(cx)
    }

    fn stage(&mut self) -> &mut dyn Stage {
        self
    }

    fn records_read(&self) -> u64 {
        self.records
    }

    fn figures(&self) -> SourceFigures {
        SourceFigures {
            records: self.records,
            event_time: None,
            watermark: self.watermark,
            splits_finished: 0,
            pending_bytes: None,
        }
    }

    fn progress(&self) -> (Timestamp, Option<String>) {
        (self.watermark, None)
    }
}

impl<T: Data> Stage for TestSource<T> {
    fn consumers(&mut self, visit: &mut dyn FnMut(&mut dyn Stage) -> ChainResult) -> ChainResult {
        visit(&mut *self.downstream)
    }
}
