//! Stateless operators: map, filter, flat map, and the fan-out to several consumers.

use super::held::HeldRows;
use super::{ChainContext, ChainResult, Collector, Downstream, Flow, Stage};
use crate::batch::{Data, Rows};
use crate::element::Barrier;
use crate::ids::OperatorUid;
use crate::ports::PortError;
use crate::state::cut::OperatorState;

/// Applies a function to every record.
pub struct Map<F, O> {
    function: F,
    downstream: Downstream<O>,
}

impl<F, O> Map<F, O> {
    /// Maps into `downstream`.
    pub fn new(function: F, downstream: Downstream<O>) -> Self {
        Self { function, downstream }
    }
}

impl<F: Send, O> Stage for Map<F, O> {
    fn consumers(&mut self, visit: &mut dyn FnMut(&mut dyn Stage) -> ChainResult) -> ChainResult {
        visit(&mut *self.downstream)
    }
}

impl<I, O, F: FnMut(I) -> O + Send> Collector<I> for Map<F, O> {
    fn push(&mut self, rows: Rows<I>, cx: &mut ChainContext) -> ChainResult {
        let values = rows.values.into_iter().map(&mut self.function).collect();
        self.downstream.push(Rows { values, timestamps: rows.timestamps }, cx)
    }
}

/// Keeps the records for which a function answers true.
pub struct Filter<F, T> {
    predicate: F,
    downstream: Downstream<T>,
}

impl<F, T> Filter<F, T> {
    /// Filters into `downstream`.
    pub fn new(predicate: F, downstream: Downstream<T>) -> Self {
        Self { predicate, downstream }
    }
}

impl<F: Send, T> Stage for Filter<F, T> {
    fn consumers(&mut self, visit: &mut dyn FnMut(&mut dyn Stage) -> ChainResult) -> ChainResult {
        visit(&mut *self.downstream)
    }
}

impl<T, F: FnMut(&T) -> bool + Send> Collector<T> for Filter<F, T> {
    fn push(&mut self, mut rows: Rows<T>, cx: &mut ChainContext) -> ChainResult {
        if rows.timestamps.is_empty() {
            rows.values.retain(&mut self.predicate);
        } else {
            let keep: Vec<bool> = rows.values.iter().map(&mut self.predicate).collect();
            let mut decisions = keep.iter();
            rows.values.retain(|_| *decisions.next().expect("one decision per row"));
            let mut decisions = keep.iter();
            rows.timestamps.retain(|_| *decisions.next().expect("one decision per row"));
        }
        if rows.is_empty() { Ok(Flow::Ready) } else { self.downstream.push(rows, cx) }
    }
}

/// Gives any number of records for each one; stops behind a cursor when an output lacks credit.
pub struct FlatMap<F, I, O> {
    uid: OperatorUid,
    function: F,
    downstream: Downstream<O>,
    /// The rest of a batch that has to wait.
    held: Option<HeldRows<I>>,
    output: Rows<O>,
}

impl<F, I: Data, O> FlatMap<F, I, O> {
    /// Maps into `downstream`.
    ///
    /// # Errors
    /// When restored rows are of another type.
    pub fn new(
        uid: OperatorUid,
        function: F,
        downstream: Downstream<O>,
        restored: &[OperatorState],
    ) -> Result<Self, PortError> {
        Ok(Self { uid, function, downstream, held: HeldRows::restore(restored)?, output: Rows::default() })
    }
}

impl<I, O, F> FlatMap<F, I, O>
where
    F: FnMut(I, &mut Vec<O>) + Send,
{
    fn run(&mut self, mut held: HeldRows<I>, cx: &mut ChainContext) -> ChainResult {
        while let Some(value) = held.values.next() {
            (self.function)(value, &mut self.output.values);
            if let Some(timestamp) = held.timestamps.next() {
                self.output.timestamps.resize(self.output.values.len(), timestamp);
            }
            if self.output.len() >= cx.task.batch_rows {
                let flow = self.downstream.push(std::mem::take(&mut self.output), cx)?;
                if !flow.is_ready() {
                    self.held = Some(held);
                    return Ok(flow);
                }
            }
        }
        if self.output.is_empty() {
            return Ok(Flow::Ready);
        }
        self.downstream.push(std::mem::take(&mut self.output), cx)
    }
}

impl<I, O, F> Stage for FlatMap<F, I, O>
where
    I: Data,
    O: Send,
    F: FnMut(I, &mut Vec<O>) + Send,
{
    fn consumers(&mut self, visit: &mut dyn FnMut(&mut dyn Stage) -> ChainResult) -> ChainResult {
        visit(&mut *self.downstream)
    }

    fn resume(&mut self, cx: &mut ChainContext) -> ChainResult {
        let flow = self.downstream.resume(cx)?;
        if !flow.is_ready() {
            return Ok(flow);
        }
        match self.held.take() {
            Some(held) => self.run(held, cx),
            None => Ok(Flow::Ready),
        }
    }

    fn barrier(&mut self, barrier: &Barrier, cx: &mut ChainContext) -> ChainResult {
        if let Some(held) = &self.held {
            held.store(&self.uid, cx)?;
        }
        self.downstream.barrier(barrier, cx)
    }
}

impl<I, O, F> Collector<I> for FlatMap<F, I, O>
where
    I: Data,
    O: Send,
    F: FnMut(I, &mut Vec<O>) + Send,
{
    fn push(&mut self, rows: Rows<I>, cx: &mut ChainContext) -> ChainResult {
        self.run(HeldRows::new(rows), cx)
    }
}

/// Gives every record to several consumers.
pub struct FanOut<T> {
    consumers: Vec<Downstream<T>>,
}

impl<T> FanOut<T> {
    /// Sends copies to each of `consumers`; with none it discards.
    #[must_use]
    pub fn new(consumers: Vec<Downstream<T>>) -> Self {
        Self { consumers }
    }
}

impl<T: Clone + Send> Stage for FanOut<T> {
    fn consumers(&mut self, visit: &mut dyn FnMut(&mut dyn Stage) -> ChainResult) -> ChainResult {
        let mut flow = Flow::Ready;
        for consumer in &mut self.consumers {
            flow = flow.and(visit(&mut **consumer)?);
        }
        Ok(flow)
    }
}

impl<T: Clone + Send> Collector<T> for FanOut<T> {
    fn push(&mut self, rows: Rows<T>, cx: &mut ChainContext) -> ChainResult {
        let Some((last, others)) = self.consumers.split_last_mut() else { return Ok(Flow::Ready) };
        let mut flow = Flow::Ready;
        for consumer in others {
            flow = flow.and(consumer.push(rows.clone(), cx)?);
        }
        Ok(flow.and(last.push(rows, cx)?))
    }
}
