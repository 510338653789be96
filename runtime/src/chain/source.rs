//! The source operator: polls a reader, keeps a watermark per split, and writes positions into the cut.

use serde::{Deserialize, Serialize};

use super::timestamps::{TimestampAssigner, Watermarks};
use super::{ChainContext, ChainResult, Downstream, Flow, Stage};
use crate::batch::Rows;
use crate::element::Barrier;
use crate::ids::OperatorUid;
use crate::ports::PortError;
use crate::ports::source::{Polled, SourceReader, Split, SplitIndex, SplitProgress};
use crate::state::cut::{OperatorState, Redistribution};
use crate::state::operator::{decode_item, encode_item};
use crate::time::{MAX_TIMESTAMP, MIN_TIMESTAMP, Timestamp};

const SPLITS: &str = "splits";

/// What one poll of a source came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourcePoll {
    /// Poll again.
    More,
    /// An output is not ready: resume first.
    Paused(Flow),
    /// Nothing now; the waker will be called.
    Waiting,
    /// The input has ended; everything has been passed on.
    EndOfInput,
}

/// What a source tells about itself, since the start of the attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceFigures {
    /// Rows read.
    pub records: u64,
    /// Event time of the last row, if rows have one.
    pub event_time: Option<Timestamp>,
    /// The watermark last passed on.
    pub watermark: Timestamp,
    /// Splits read to their end.
    pub splits_finished: u64,
    /// Bytes known to wait, where the reader knows.
    pub pending_bytes: Option<u64>,
}

/// A source as the actor sees it.
pub trait SourceStage: Send {
    /// Takes over splits found by the enumerator. `initial`: the first assignment of the attempt (after this the
    /// watermark may advance); `last`: there will be no more. Rows of these splits at or below `floor`, or at or below
    /// what this reader has promised, are late.
    ///
    /// # Errors
    /// When a position cannot be understood.
    fn assign(&mut self, splits: Vec<Split>, initial: bool, last: bool, floor: Timestamp) -> Result<(), PortError>;

    /// Reads and pushes one batch.
    ///
    /// # Errors
    /// When the input cannot be read or user code fails.
    fn poll(&mut self, cx: &mut ChainContext) -> Result<SourcePoll, PortError>;

    /// Stops reading for good and ends the stream with the watermark at the end of time (`stop --drain`).
    ///
    /// # Errors
    /// When user code fails.
    fn drain(&mut self, cx: &mut ChainContext) -> ChainResult;

    /// The operator as a stage.
    fn stage(&mut self) -> &mut dyn Stage;

    /// Rows read (`numRecordsIn` of a source).
    fn records_read(&self) -> u64;

    /// What the metrics of a source show.
    fn figures(&self) -> SourceFigures;

    /// The watermark last passed on and the split that holds it back, for "why does my window not fire".
    fn progress(&self) -> (Timestamp, Option<String>);
}

/// Event time of one split.
#[derive(Clone, Debug, PartialEq)]
struct SplitTime {
    id: String,
    greatest: Timestamp,
    watermark: Timestamp,
    idle: bool,
    finished: bool,
}

/// A split in the snapshot: where it is and how far its event time had come.
#[derive(Serialize, Deserialize)]
struct StoredSplit {
    split: Split,
    greatest: Timestamp,
    watermark: Timestamp,
}

/// Reads a source in a chain.
pub struct SourceOperator<T> {
    uid: OperatorUid,
    reader: Box<dyn SourceReader<T>>,
    assigner: Option<Box<dyn TimestampAssigner<T>>>,
    watermarks: Watermarks,
    downstream: Downstream<T>,
    splits: Vec<SplitTime>,
    assigned: bool,
    emitted: Timestamp,
    idle: bool,
    pending: Pending,
    ended: bool,
    records: u64,
    event_time: Option<Timestamp>,
    splits_finished: u64,
}

/// What has to be passed on as soon as the consumers are ready.
#[derive(Default)]
struct Pending {
    watermark: Option<Timestamp>,
    idle: Option<bool>,
    end_of_input: bool,
}

/// The watermarks of the splits, for the reader's choice.
struct Progress<'a>(&'a [SplitTime]);

impl SplitProgress for Progress<'_> {
    fn watermark(&self, split: SplitIndex) -> Timestamp {
        self.0.get(split.0).map_or(MIN_TIMESTAMP, |split| split.watermark)
    }
}

impl<T: Send + 'static> SourceOperator<T> {
    /// The operator, with the splits that were dealt to it.
    ///
    /// # Errors
    /// When a position cannot be understood.
    pub fn new(
        uid: OperatorUid,
        reader: Box<dyn SourceReader<T>>,
        assigner: Option<Box<dyn TimestampAssigner<T>>>,
        watermarks: Watermarks,
        downstream: Downstream<T>,
        restored: &[OperatorState],
    ) -> Result<Self, PortError> {
        let mut source = Self {
            uid,
            reader,
            assigner,
            watermarks,
            downstream,
            splits: Vec::new(),
            assigned: false,
            emitted: MIN_TIMESTAMP,
            idle: false,
            pending: Pending::default(),
            ended: false,
            records: 0,
            event_time: None,
            splits_finished: 0,
        };
        for item in restored.iter().filter(|state| state.name == SPLITS).flat_map(|state| &state.items) {
            let stored: StoredSplit = decode_item(SPLITS, item)?;
            source.add(vec![stored.split], MIN_TIMESTAMP)?;
            let split = source.splits.last_mut().expect("just added");
            (split.greatest, split.watermark) = (stored.greatest, stored.watermark);
        }
        Ok(source)
    }

    fn add(&mut self, splits: Vec<Split>, floor: Timestamp) -> Result<(), PortError> {
        self.splits.extend(splits.iter().map(|split| SplitTime {
            id: split.id.clone(),
            greatest: MIN_TIMESTAMP,
            watermark: floor,
            idle: false,
            finished: false,
        }));
        self.reader.add_splits(splits, floor)
    }

    /// The minimum over the splits that count; `None` when all are idle.
    fn minimum(&self) -> Option<Timestamp> {
        self.splits.iter().filter(|split| !split.idle && !split.finished).map(|split| split.watermark).min()
    }

    /// Passes on watermark and idleness after a change of a split.
    fn advance(&mut self, cx: &mut ChainContext) -> ChainResult {
        let caught_up = self.watermarks == Watermarks::AfterCatchUp && self.minimum().is_none() && self.assigned;
        let minimum = if caught_up { Some(MAX_TIMESTAMP) } else { self.minimum() };
        match minimum {
            Some(watermark) => {
                if self.idle {
                    self.idle = false;
                    self.pending.idle = Some(false);
                }
                if watermark > self.emitted && self.assigned {
                    self.emitted = watermark;
                    self.pending.watermark = Some(watermark);
                }
            }
            None => {
                if !self.idle && self.assigned {
                    self.idle = true;
                    self.pending.idle = Some(true);
                }
            }
        }
        self.pass_on(cx)
    }

    fn pass_on(&mut self, cx: &mut ChainContext) -> ChainResult {
        if let Some(idle @ false) = self.pending.idle {
            self.pending.idle = None;
            let flow = self.downstream.idle(idle, cx)?;
            if !flow.is_ready() {
                return Ok(flow);
            }
        }
        if let Some(watermark) = self.pending.watermark.take() {
            let flow = self.downstream.watermark(watermark, cx)?;
            if !flow.is_ready() {
                return Ok(flow);
            }
        }
        if let Some(idle) = self.pending.idle.take() {
            let flow = self.downstream.idle(idle, cx)?;
            if !flow.is_ready() {
                return Ok(flow);
            }
        }
        if std::mem::take(&mut self.pending.end_of_input) {
            self.ended = true;
            return self.downstream.end_of_input(cx);
        }
        Ok(Flow::Ready)
    }

    fn end(&mut self, cx: &mut ChainContext) -> ChainResult {
        if self.ended || self.pending.end_of_input {
            return Ok(Flow::Ready);
        }
        self.pending = Pending { watermark: None, idle: self.idle.then_some(false), end_of_input: true };
        self.idle = false;
        if self.emitted < MAX_TIMESTAMP {
            self.emitted = MAX_TIMESTAMP;
            self.pending.watermark = Some(MAX_TIMESTAMP);
        }
        self.pass_on(cx)
    }

    fn push_rows(&mut self, index: SplitIndex, values: Vec<T>, cx: &mut ChainContext) -> ChainResult {
        let mut rows = Rows::untimed(values);
        self.records += rows.len() as u64;
        let split = &mut self.splits[index.0];
        if split.idle && !rows.is_empty() {
            split.idle = false;
            // What the others promised meanwhile holds for this split too.
            split.watermark = split.watermark.max(self.emitted);
        }
        if let Some(assigner) = &mut self.assigner {
            let greatest = assigner.assign(&rows.values, &mut rows.timestamps);
            self.event_time = rows.timestamps.last().copied().or(self.event_time);
            if greatest > split.greatest {
                split.greatest = greatest;
                split.watermark = split.watermark.max(self.watermarks.after(greatest));
            }
        }
        if rows.is_empty() { Ok(Flow::Ready) } else { self.downstream.push(rows, cx) }
    }

    fn store_splits(&mut self, cx: &mut ChainContext) -> Result<(), PortError> {
        let mut items = Vec::new();
        for (index, split) in self.reader.snapshot()? {
            let time = &self.splits[index.0];
            let (greatest, watermark) = (time.greatest, time.watermark);
            items.push(encode_item(SPLITS, &StoredSplit { split, greatest, watermark })?);
        }
        let state = OperatorState { name: SPLITS.to_owned(), version: 1, redistribution: Redistribution::Split, items };
        cx.cut.operator(&self.uid).operator_states.push(state);
        Ok(())
    }
}

fn paused_or_more(flow: Flow) -> SourcePoll {
    if flow.is_ready() { SourcePoll::More } else { SourcePoll::Paused(flow) }
}

impl<T: Send + 'static> SourceStage for SourceOperator<T> {
    fn assign(&mut self, splits: Vec<Split>, initial: bool, last: bool, floor: Timestamp) -> Result<(), PortError> {
        if initial {
            self.assigned = true;
        }
        self.add(splits, floor.max(self.emitted))?;
        if last {
            self.reader.no_more_splits();
        }
        Ok(())
    }

    fn poll(&mut self, cx: &mut ChainContext) -> Result<SourcePoll, PortError> {
        if self.ended {
            return Ok(SourcePoll::EndOfInput);
        }
        if !self.assigned {
            return Ok(SourcePoll::Waiting);
        }
        let mut values = Vec::with_capacity(cx.task.batch_rows);
        let polled = self.reader.poll(&Progress(&self.splits), cx.task.batch_rows, &mut values)?;
        let flow = match polled {
            Polled::Rows(index) => {
                let flow = self.push_rows(index, values, cx)?;
                if flow.is_ready() { self.advance(cx)? } else { flow }
            }
            Polled::Finished(index) => {
                self.splits[index.0].finished = true;
                self.splits_finished += 1;
                self.advance(cx)?
            }
            Polled::Idle(index) => {
                self.splits[index.0].idle = true;
                self.advance(cx)?
            }
            Polled::Waiting => {
                let flow = if self.splits.is_empty() { self.advance(cx)? } else { Flow::Ready };
                return Ok(if flow.is_ready() { SourcePoll::Waiting } else { SourcePoll::Paused(flow) });
            }
            Polled::EndOfInput => {
                let flow = self.end(cx)?;
                return Ok(if flow.is_ready() { SourcePoll::EndOfInput } else { SourcePoll::Paused(flow) });
            }
        };
        Ok(paused_or_more(flow))
    }

    fn drain(&mut self, cx: &mut ChainContext) -> ChainResult {
        self.end(cx)
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
            event_time: self.event_time,
            watermark: self.emitted,
            splits_finished: self.splits_finished,
            pending_bytes: self.reader.pending_bytes(),
        }
    }

    fn progress(&self) -> (Timestamp, Option<String>) {
        let holder =
            self.splits.iter().filter(|split| !split.idle && !split.finished).min_by_key(|split| split.watermark);
        (self.emitted, holder.map(|split| split.id.clone()))
    }
}

impl<T: Send + 'static> Stage for SourceOperator<T> {
    fn consumers(&mut self, visit: &mut dyn FnMut(&mut dyn Stage) -> ChainResult) -> ChainResult {
        visit(&mut *self.downstream)
    }

    fn resume(&mut self, cx: &mut ChainContext) -> ChainResult {
        let flow = self.downstream.resume(cx)?;
        if !flow.is_ready() {
            return Ok(flow);
        }
        if self.pending.end_of_input { self.pass_on(cx) } else { self.advance(cx) }
    }

    fn barrier(&mut self, barrier: &Barrier, cx: &mut ChainContext) -> ChainResult {
        self.store_splits(cx)?;
        self.downstream.barrier(barrier, cx)
    }
}
