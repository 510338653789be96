//! The entry of a chain: where a batch from a channel gets its type back.

use std::marker::PhantomData;

use super::source::SourceStage;
use super::{ChainContext, ChainResult, Collector, Stage};
use crate::batch::{Batch, Data, Rows};

/// A stage with two inputs of different types.
pub trait TwoInputs<A, B>: Collector<A> {
    /// Takes a batch of the second input.
    ///
    /// # Errors
    /// When user code fails.
    fn push_second(&mut self, rows: Rows<B>, cx: &mut ChainContext) -> ChainResult;
}

/// Takes batches from channels.
pub trait InputHead: Send {
    /// Takes a batch that came in through an input (0 or 1).
    ///
    /// # Errors
    /// When user code fails.
    fn push_batch(&mut self, input: u8, batch: Box<dyn Batch>, cx: &mut ChainContext) -> ChainResult;

    /// The first stage.
    fn stage(&mut self) -> &mut dyn Stage;
}

/// The head of a chain with one input type (any number of channels).
pub struct OneInputHead<T> {
    first: Box<dyn Collector<T>>,
}

impl<T> OneInputHead<T> {
    /// Pushes into `first`.
    #[must_use]
    pub fn new(first: Box<dyn Collector<T>>) -> Self {
        Self { first }
    }
}

impl<T: Data> InputHead for OneInputHead<T> {
    fn push_batch(&mut self, _input: u8, batch: Box<dyn Batch>, cx: &mut ChainContext) -> ChainResult {
        self.first.push(batch.into_rows::<T>(), cx)
    }

    fn stage(&mut self) -> &mut dyn Stage {
        &mut *self.first
    }
}

/// The head of a chain that begins with a two-input operator.
pub struct TwoInputHead<A, B, O> {
    operator: O,
    inputs: PhantomData<fn(A, B)>,
}

impl<A, B, O> TwoInputHead<A, B, O> {
    /// Pushes into `operator`.
    #[must_use]
    pub fn new(operator: O) -> Self {
        Self { operator, inputs: PhantomData }
    }
}

impl<A: Data, B: Data, O: TwoInputs<A, B>> InputHead for TwoInputHead<A, B, O> {
    fn push_batch(&mut self, input: u8, batch: Box<dyn Batch>, cx: &mut ChainContext) -> ChainResult {
        match input {
            0 => self.operator.push(batch.into_rows::<A>(), cx),
            _ => self.operator.push_second(batch.into_rows::<B>(), cx),
        }
    }

    fn stage(&mut self) -> &mut dyn Stage {
        &mut self.operator
    }
}

/// A built chain.
pub enum ChainHead {
    /// Fed by channels.
    Input(Box<dyn InputHead>),
    /// Reads a source.
    Source(Box<dyn SourceStage>),
}

impl ChainHead {
    /// The first stage.
    pub fn stage(&mut self) -> &mut dyn Stage {
        match self {
            Self::Input(head) => head.stage(),
            Self::Source(source) => source.stage(),
        }
    }
}
