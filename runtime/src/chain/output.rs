//! The outputs of a function: rows collected for the main consumer, and side outputs by tag.

use std::any::Any;
use std::marker::PhantomData;

use super::{ChainContext, ChainResult, Downstream, Flow, Stage};
use crate::batch::Rows;
use crate::time::Timestamp;

/// Names a side output and the type of its records.
pub struct OutputTag<X> {
    name: &'static str,
    record: PhantomData<fn() -> X>,
}

impl<X> Clone for OutputTag<X> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<X> Copy for OutputTag<X> {}

impl<X> OutputTag<X> {
    /// A tag; names are unique within an operator.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name, record: PhantomData }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }
}

/// One side output without its type.
pub trait SideBuffer: Send {
    /// The typed buffer.
    fn as_any(&mut self) -> &mut dyn Any;
    /// Rows collected.
    fn len(&self) -> usize;
    /// Whether nothing is collected.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Pushes what is collected.
    ///
    /// # Errors
    /// When a consumer fails.
    fn drain(&mut self, cx: &mut ChainContext) -> ChainResult;
    /// The consumers.
    fn stage(&mut self) -> &mut dyn Stage;
}

/// A side output with its type.
pub struct TypedSide<X> {
    rows: Rows<X>,
    downstream: Downstream<X>,
}

impl<X: Send + 'static> TypedSide<X> {
    /// Collects for `downstream`.
    #[must_use]
    pub fn new(downstream: Downstream<X>) -> Self {
        Self { rows: Rows::default(), downstream }
    }
}

impl<X: Send + 'static> SideBuffer for TypedSide<X> {
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
    fn len(&self) -> usize {
        self.rows.len()
    }
    fn drain(&mut self, cx: &mut ChainContext) -> ChainResult {
        if self.rows.is_empty() {
            return Ok(Flow::Ready);
        }
        self.downstream.push(std::mem::take(&mut self.rows), cx)
    }
    fn stage(&mut self) -> &mut dyn Stage {
        &mut *self.downstream
    }
}

/// Everything a function can emit to.
pub struct Outputs<O> {
    rows: Rows<O>,
    downstream: Downstream<O>,
    sides: Vec<(&'static str, Box<dyn SideBuffer>)>,
}

impl<O> Outputs<O> {
    /// The outputs of an operator.
    #[must_use]
    pub fn new(downstream: Downstream<O>, sides: Vec<(&'static str, Box<dyn SideBuffer>)>) -> Self {
        Self { rows: Rows::default(), downstream, sides }
    }

    /// Emits to the main output.
    #[inline]
    pub fn emit(&mut self, value: O, timestamp: Option<Timestamp>) {
        self.rows.push(value, timestamp);
    }

    /// Emits to a side output; without a consumer the record is dropped.
    pub fn emit_side<X: 'static>(&mut self, tag: &OutputTag<X>, value: X, timestamp: Option<Timestamp>) {
        let Some((_, side)) = self.sides.iter_mut().find(|(name, _)| *name == tag.name) else { return };
        if let Some(side) = side.as_any().downcast_mut::<TypedSide<X>>() {
            side.rows.push(value, timestamp);
        }
    }

    /// Whether a batch is full on any output.
    #[inline]
    #[must_use]
    pub fn is_full(&self, batch_rows: usize) -> bool {
        self.rows.len() >= batch_rows || self.sides.iter().any(|(_, side)| side.len() >= batch_rows)
    }

    /// Pushes everything collected.
    ///
    /// # Errors
    /// When a consumer fails.
    pub fn drain(&mut self, cx: &mut ChainContext) -> ChainResult {
        let mut flow = Flow::Ready;
        if !self.rows.is_empty() {
            flow = self.downstream.push(std::mem::take(&mut self.rows), cx)?;
        }
        for (_, side) in &mut self.sides {
            flow = flow.and(side.drain(cx)?);
        }
        Ok(flow)
    }

    /// Visits the main consumer and those of the side outputs.
    ///
    /// # Errors
    /// What `visit` answers.
    pub fn consumers(&mut self, visit: &mut dyn FnMut(&mut dyn Stage) -> ChainResult) -> ChainResult {
        let mut flow = visit(&mut *self.downstream)?;
        for (_, side) in &mut self.sides {
            flow = flow.and(visit(side.stage())?);
        }
        Ok(flow)
    }
}
