//! The end of a chain whose rows go to other subtasks: scatter into one buffer per channel, send full batches with
//! credit, conflate watermarks.
//!
//! - [`partitioner`]: which channel a row takes

pub mod partitioner;

use std::sync::Arc;

use crate::batch::{Batch, BatchLimit, Data, Rows, Weight};
use crate::chain::{ChainContext, ChainResult, Collector, Flow, Stage};
use crate::credit::{CreditPool, Permit};
use crate::element::{Barrier, Element};
use crate::time::{MIN_TIMESTAMP, Timestamp};
use partitioner::Scatter;

/// A batch on its way, with the credit it holds until it has been processed.
pub struct Parcel {
    /// The rows.
    pub batch: Box<dyn Batch>,
    /// Returned when the receiver has processed the rows.
    pub permit: Permit,
}

/// Puts an element into the receiver's mailbox.
pub type SendElement = Box<dyn Fn(Element<Parcel>) + Send>;

/// The sending end of one channel.
pub struct Outlet {
    /// Credit of the channel.
    pub credit: Arc<CreditPool>,
    /// Puts an element into the receiver's mailbox.
    pub send: SendElement,
}

/// One channel with its unsent rows.
struct Channel<T> {
    outlet: Outlet,
    buffer: Rows<T>,
    /// Of the buffered rows.
    weight: Weight,
    /// Waits for the rows before it.
    watermark: Timestamp,
    sent_watermark: Timestamp,
}

/// Sends rows to the subtasks of the next vertex.
pub struct Exchange<T, S> {
    channels: Vec<Channel<T>>,
    scatter: S,
    limit: BatchLimit,
    /// The rows of a full batch, if they are no larger than their type.
    full_rows: usize,
}

impl<T: Data, S: Scatter<T>> Exchange<T, S> {
    /// An exchange over the given channels.
    #[must_use]
    pub fn new(outlets: Vec<Outlet>, scatter: S, limit: BatchLimit) -> Self {
        let full_rows = limit.full_rows::<T>();
        let channel = |outlet| Channel {
            outlet,
            buffer: Rows { values: Vec::with_capacity(full_rows), timestamps: Vec::new() },
            weight: Weight::default(),
            watermark: MIN_TIMESTAMP,
            sent_watermark: MIN_TIMESTAMP,
        };
        Self { channels: outlets.into_iter().map(channel).collect(), scatter, limit, full_rows }
    }

    /// Ready when every channel has credit; otherwise the pools that lack it will wake this subtask.
    fn flow(&self) -> Flow {
        let mut flow = Flow::Ready;
        for channel in &self.channels {
            if !channel.outlet.credit.has_credit() && channel.outlet.credit.park() {
                flow = Flow::Blocked;
            }
        }
        flow
    }

    /// Sends everything buffered, overdrawing by at most this one batch: something that must not wait follows.
    fn drain(&mut self, cx: &mut ChainContext) {
        for channel in &mut self.channels {
            channel.send_buffer(self.full_rows, cx);
            channel.send_watermark();
        }
    }
}

/// Whether rows can go as they are: at least half a batch, and not more than a full one.
fn is_about_full<T: Data>(rows: &Rows<T>, full_rows: usize, limit: &BatchLimit) -> bool {
    let bytes = if std::mem::needs_drop::<T>() { rows.size_bytes() } else { 0 };
    (rows.len() * 2 >= full_rows || bytes * 2 >= limit.bytes) && rows.len() <= full_rows && bytes <= limit.bytes
}

impl<T: Data> Channel<T> {
    fn send_buffer(&mut self, full_rows: usize, cx: &mut ChainContext) {
        if self.buffer.is_empty() {
            return;
        }
        let empty = Rows { values: Vec::with_capacity(full_rows), timestamps: Vec::new() };
        let rows = std::mem::replace(&mut self.buffer, empty);
        self.weight = Weight::default();
        let bytes = rows.size_bytes();
        cx.counters.records_out += rows.len() as u64;
        cx.counters.bytes_out += bytes as u64;
        let permit = self.outlet.credit.take(bytes);
        (self.outlet.send)(Element::Batch(Parcel { batch: Box::new(rows), permit }));
    }

    /// Counts the row just buffered, and answers whether it makes the batch a full one.
    #[inline(always)]
    fn is_full(&mut self, full_rows: usize, limit: &BatchLimit) -> bool {
        let rows = self.buffer.values.len();
        if let Some(row) = self.buffer.values.last() {
            self.weight.add(row, rows);
        }
        rows >= full_rows || self.weight.reaches::<T>(limit)
    }

    /// Once a batch: kept out of the loop over the rows.
    #[inline(never)]
    fn send_full(&mut self, full_rows: usize, cx: &mut ChainContext) {
        self.send_buffer(full_rows, cx);
        self.send_watermark();
    }

    fn send_watermark(&mut self) {
        if self.watermark > self.sent_watermark {
            self.sent_watermark = self.watermark;
            (self.outlet.send)(Element::Watermark(self.watermark));
        }
    }
}

impl<T: Data, S: Scatter<T>> Stage for Exchange<T, S> {
    fn consumers(&mut self, _visit: &mut dyn FnMut(&mut dyn Stage) -> ChainResult) -> ChainResult {
        Ok(Flow::Ready)
    }

    fn watermark(&mut self, watermark: Timestamp, cx: &mut ChainContext) -> ChainResult {
        cx.counters.output_watermark = Some(watermark);
        for channel in &mut self.channels {
            channel.watermark = watermark;
            if channel.buffer.is_empty() && watermark == crate::time::MAX_TIMESTAMP {
                channel.send_watermark();
            }
        }
        Ok(Flow::Ready)
    }

    fn idle(&mut self, idle: bool, cx: &mut ChainContext) -> ChainResult {
        self.drain(cx);
        for channel in &self.channels {
            (channel.outlet.send)(if idle { Element::Idle } else { Element::Active });
        }
        Ok(self.flow())
    }

    fn end_of_input(&mut self, cx: &mut ChainContext) -> ChainResult {
        self.drain(cx);
        for channel in &self.channels {
            (channel.outlet.send)(Element::EndOfInput);
        }
        Ok(Flow::Ready)
    }

    fn resume(&mut self, _cx: &mut ChainContext) -> ChainResult {
        Ok(self.flow())
    }

    fn flush(&mut self, cx: &mut ChainContext) -> ChainResult {
        let mut flow = Flow::Ready;
        for channel in &mut self.channels {
            let credit = &channel.outlet.credit;
            if channel.buffer.is_empty() || credit.has_credit() || !credit.park() {
                channel.send_buffer(self.full_rows, cx);
                channel.send_watermark();
            } else {
                flow = Flow::Blocked;
            }
        }
        Ok(flow)
    }

    fn barrier(&mut self, barrier: &Barrier, cx: &mut ChainContext) -> ChainResult {
        self.drain(cx);
        for channel in &self.channels {
            (channel.outlet.send)(Element::Barrier(*barrier));
        }
        Ok(self.flow())
    }
}

impl<T: Data, S: Scatter<T>> Collector<T> for Exchange<T, S> {
    fn push(&mut self, rows: Rows<T>, cx: &mut ChainContext) -> ChainResult {
        let Self { channels, scatter, limit, full_rows } = self;
        let (limit, full_rows) = (&*limit, *full_rows);
        if let Some(target) = scatter.whole_batch(rows.len()) {
            let channel = &mut channels[target];
            if channel.buffer.is_empty() && is_about_full(&rows, full_rows, limit) {
                channel.buffer = rows;
                channel.send_buffer(full_rows, cx);
                channel.send_watermark();
                return Ok(self.flow());
            }
        }
        if rows.timestamps.is_empty() && channels.iter().all(|channel| channel.buffer.timestamps.is_empty()) {
            scatter.scatter(rows.values, |target, value, _| {
                let channel = &mut channels[target];
                channel.buffer.values.push(value);
                if channel.is_full(full_rows, limit) {
                    channel.send_full(full_rows, cx);
                }
            });
            return Ok(self.flow());
        }
        let timestamps = rows.timestamps;
        scatter.scatter(rows.values, |target, value, index| {
            let channel = &mut channels[target];
            channel.buffer.push(value, timestamps.get(index).copied());
            if channel.is_full(full_rows, limit) {
                channel.send_full(full_rows, cx);
            }
        });
        Ok(self.flow())
    }
}

#[cfg(test)]
mod tests;
