//! Factories of operators: typed closures behind the graph's untyped traits. Each subtask gets its own copy of the
//! user's code.

use std::any::Any;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

use millstream_runtime::batch::Data;
use millstream_runtime::chain::head::{ChainHead, OneInputHead, TwoInputHead, TwoInputs};
use millstream_runtime::chain::{ChainContext, Downstream};
use millstream_runtime::graph::stream::{NodeOutputs, OperatorFactory, OperatorPlace};
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::sink::SinkOutput;
use millstream_runtime::state::schema::StateSchema;

/// User code from which each subtask takes a copy. In a mutex because functions need not be `Sync`: their state
/// tables are not.
pub(super) struct Prototype<F>(Mutex<F>);

impl<F: Clone> Prototype<F> {
    pub fn new(function: F) -> Self {
        Self(Mutex::new(function))
    }

    pub fn copy(&self) -> F {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Tells what keyed states an operator declares.
pub(super) type States = Box<dyn Fn() -> Vec<StateSchema> + Send + Sync>;

/// Makes an operator with one input type from a closure.
pub(crate) struct InputFactory<I, B> {
    build: B,
    output: Option<Arc<dyn SinkOutput>>,
    states: Option<States>,
    input: PhantomData<fn(I)>,
}

impl<I, B> InputFactory<I, B>
where
    I: Data,
    B: Fn(NodeOutputs, OperatorPlace, &ChainContext) -> Result<Downstream<I>, PortError> + Send + Sync + 'static,
{
    pub fn shared(build: B) -> Arc<dyn OperatorFactory> {
        Self::with_output(build, None)
    }

    /// The factory of a sink.
    pub fn with_output(build: B, output: Option<Arc<dyn SinkOutput>>) -> Arc<dyn OperatorFactory> {
        Arc::new(Self { build, output, states: None, input: PhantomData })
    }

    /// The factory of an operator with keyed states.
    pub(super) fn with_states(build: B, states: States) -> Arc<dyn OperatorFactory> {
        Arc::new(Self { build, output: None, states: Some(states), input: PhantomData })
    }
}

impl<I, B> OperatorFactory for InputFactory<I, B>
where
    I: Data,
    B: Fn(NodeOutputs, OperatorPlace, &ChainContext) -> Result<Downstream<I>, PortError> + Send + Sync,
{
    fn stage(&self, outputs: NodeOutputs, place: OperatorPlace, cx: &ChainContext) -> Result<Box<dyn Any>, PortError> {
        Ok(Box::new((self.build)(outputs, place, cx)?))
    }

    fn head(&self, outputs: NodeOutputs, place: OperatorPlace, cx: &ChainContext) -> Result<ChainHead, PortError> {
        Ok(ChainHead::Input(Box::new(OneInputHead::new((self.build)(outputs, place, cx)?))))
    }

    fn output(&self) -> Option<Arc<dyn SinkOutput>> {
        self.output.clone()
    }

    fn states(&self) -> Vec<StateSchema> {
        self.states.as_ref().map_or_else(Vec::new, |states| states())
    }
}

/// Makes an operator with two input types from a closure.
pub(super) struct TwoInputFactory<A, B, F> {
    build: F,
    states: States,
    inputs: PhantomData<fn(A, B)>,
}

impl<A, B, O, F> TwoInputFactory<A, B, F>
where
    A: Data,
    B: Data,
    O: TwoInputs<A, B> + 'static,
    F: Fn(NodeOutputs, OperatorPlace, &ChainContext) -> Result<O, PortError> + Send + Sync + 'static,
{
    pub fn with_states(build: F, states: States) -> Arc<dyn OperatorFactory> {
        Arc::new(Self { build, states, inputs: PhantomData })
    }
}

impl<A, B, O, F> OperatorFactory for TwoInputFactory<A, B, F>
where
    A: Data,
    B: Data,
    O: TwoInputs<A, B> + 'static,
    F: Fn(NodeOutputs, OperatorPlace, &ChainContext) -> Result<O, PortError> + Send + Sync,
{
    fn stage(
        &self,
        _outputs: NodeOutputs,
        place: OperatorPlace,
        _cx: &ChainContext,
    ) -> Result<Box<dyn Any>, PortError> {
        Err(always_a_head(&place))
    }

    fn head(&self, outputs: NodeOutputs, place: OperatorPlace, cx: &ChainContext) -> Result<ChainHead, PortError> {
        Ok(ChainHead::Input(Box::new(TwoInputHead::new((self.build)(outputs, place, cx)?))))
    }

    fn states(&self) -> Vec<StateSchema> {
        (self.states)()
    }
}

/// The planner chains neither sources nor operators with two inputs to anything.
pub(super) fn always_a_head(place: &OperatorPlace) -> PortError {
    PortError::give_up(format!(
        "operator '{}' was planned behind another one, but it can only begin a chain",
        place.uid
    ))
}
