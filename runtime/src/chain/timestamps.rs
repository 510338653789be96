//! Event time: who gives a record its timestamp, and how far behind the greatest one the watermark is.

use super::{ChainContext, ChainResult, Collector, Downstream, Stage};
use crate::batch::Rows;
use crate::time::{MAX_TIMESTAMP, MIN_TIMESTAMP, Span, Timestamp};

/// How a watermark follows from the timestamps seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watermarks {
    /// None: event time stands still until the input ends.
    None,
    /// Records are out of order by at most this: watermark = greatest timestamp - bound - 1 ms.
    BoundedOutOfOrderness(Span),
    /// A control input, such as rules: holds event time back until all of it has been read, then never again.
    AfterCatchUp,
}

impl Watermarks {
    /// Timestamps never go back within a split.
    #[must_use]
    pub fn monotonous() -> Self {
        Self::BoundedOutOfOrderness(Span(0))
    }

    /// Timestamps go back by at most `bound`.
    #[must_use]
    pub fn bounded_out_of_orderness(bound: Span) -> Self {
        Self::BoundedOutOfOrderness(bound)
    }

    /// The watermark after a greatest timestamp.
    #[must_use]
    pub fn after(self, greatest: Timestamp) -> Timestamp {
        match self {
            Self::None | Self::AfterCatchUp => MIN_TIMESTAMP,
            Self::BoundedOutOfOrderness(bound) => greatest.saturating_sub(bound.0).saturating_sub(1),
        }
    }
}

/// Writes the timestamps of a batch and answers the greatest: one virtual call per batch.
pub trait TimestampAssigner<T>: Send {
    /// Appends one timestamp per value; answers the greatest, `MIN_TIMESTAMP` when all are untimed.
    fn assign(&mut self, values: &[T], timestamps: &mut Vec<Timestamp>) -> Timestamp;
}

impl<T, F: FnMut(&T) -> Timestamp + Send> TimestampAssigner<T> for F {
    fn assign(&mut self, values: &[T], timestamps: &mut Vec<Timestamp>) -> Timestamp {
        let mut greatest = MIN_TIMESTAMP;
        timestamps.extend(values.iter().map(|value| {
            let timestamp = self(value);
            greatest = greatest.max(timestamp);
            timestamp
        }));
        greatest
    }
}

/// Assigns timestamps and watermarks in the middle of a stream. The watermark of the input is ignored, but for its end.
pub struct AssignTimestamps<T> {
    assigner: Box<dyn TimestampAssigner<T>>,
    watermarks: Watermarks,
    greatest: Timestamp,
    emitted: Timestamp,
    pending: Option<Timestamp>,
    downstream: Downstream<T>,
}

impl<T> AssignTimestamps<T> {
    /// Assigns into `downstream`.
    #[must_use]
    pub fn new(assigner: Box<dyn TimestampAssigner<T>>, watermarks: Watermarks, downstream: Downstream<T>) -> Self {
        Self { assigner, watermarks, greatest: MIN_TIMESTAMP, emitted: MIN_TIMESTAMP, pending: None, downstream }
    }

    fn advance(&mut self, cx: &mut ChainContext) -> ChainResult {
        let Some(watermark) = self.pending.take().filter(|watermark| *watermark > self.emitted) else {
            return Ok(super::Flow::Ready);
        };
        self.emitted = watermark;
        self.downstream.watermark(watermark, cx)
    }
}

impl<T: Send> Stage for AssignTimestamps<T> {
    fn consumers(&mut self, visit: &mut dyn FnMut(&mut dyn Stage) -> ChainResult) -> ChainResult {
        visit(&mut *self.downstream)
    }

    fn watermark(&mut self, watermark: Timestamp, cx: &mut ChainContext) -> ChainResult {
        if watermark < MAX_TIMESTAMP {
            return Ok(super::Flow::Ready);
        }
        self.pending = Some(watermark);
        self.advance(cx)
    }

    fn resume(&mut self, cx: &mut ChainContext) -> ChainResult {
        let flow = self.downstream.resume(cx)?;
        if flow.is_ready() { self.advance(cx) } else { Ok(flow) }
    }
}

impl<T: Send> Collector<T> for AssignTimestamps<T> {
    fn push(&mut self, mut rows: Rows<T>, cx: &mut ChainContext) -> ChainResult {
        rows.timestamps.clear();
        self.greatest = self.greatest.max(self.assigner.assign(&rows.values, &mut rows.timestamps));
        if self.greatest > MIN_TIMESTAMP {
            self.pending = Some(self.watermarks.after(self.greatest));
        }
        let flow = self.downstream.push(rows, cx)?;
        if flow.is_ready() { self.advance(cx) } else { Ok(flow) }
    }
}
