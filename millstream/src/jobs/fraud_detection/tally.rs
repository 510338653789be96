//! Counts as operator state: kept per subtask, emitted when the input ends, added up to the summary.

use millstream_fraud::alert::Alert;
use millstream_fraud::summary::Tally;
use millstream_runtime::chain::process::{ProcessContext, ProcessFunction};
use millstream_runtime::ports::PortError;
use millstream_runtime::state::operator::{OperatorListState, OperatorStateSlot};

/// The tally of one subtask. After a restore at a lower parallelism several come together; they are added up.
#[derive(Clone)]
pub(super) struct Counting {
    tallies: OperatorListState<Tally>,
}

impl Counting {
    pub fn new() -> Self {
        Self { tallies: OperatorListState::split("tally") }
    }

    pub fn state(&mut self) -> &mut dyn OperatorStateSlot {
        &mut self.tallies
    }

    #[inline]
    pub fn tally(&mut self) -> &mut Tally {
        if self.tallies.items.len() != 1 {
            self.add_up();
        }
        &mut self.tallies.items[0]
    }

    #[cold]
    fn add_up(&mut self) {
        let mut sum = Tally::default();
        self.tallies.items.iter().for_each(|tally| sum.merge(tally));
        self.tallies.items = vec![sum];
    }

    /// Takes what was counted. Nothing is left, so that an end of input repeated after a restore counts nothing twice.
    pub fn take(&mut self) -> Tally {
        let sum = *self.tally();
        self.tallies.items.clear();
        sum
    }
}

/// Counts alerts and emits the count at the end.
#[derive(Clone)]
pub(super) struct CountAlerts {
    counting: Counting,
}

impl CountAlerts {
    pub fn new() -> Self {
        Self { counting: Counting::new() }
    }
}

impl ProcessFunction for CountAlerts {
    type In = Alert;
    type Out = Tally;

    fn operator_states(&mut self, visit: &mut dyn FnMut(&mut dyn OperatorStateSlot)) {
        visit(self.counting.state());
    }

    fn process(&mut self, alert: Alert, _cx: &mut ProcessContext<'_, Tally>) -> Result<(), PortError> {
        self.counting.tally().count_alert(&alert);
        Ok(())
    }

    fn end_of_input(&mut self, cx: &mut ProcessContext<'_, Tally>) -> Result<(), PortError> {
        cx.emit(self.counting.take());
        Ok(())
    }
}

/// Adds up all tallies and emits the sum at the end.
#[derive(Clone)]
pub(super) struct Summarise {
    counting: Counting,
}

impl Summarise {
    pub fn new() -> Self {
        Self { counting: Counting::new() }
    }
}

impl ProcessFunction for Summarise {
    type In = Tally;
    type Out = Tally;

    fn operator_states(&mut self, visit: &mut dyn FnMut(&mut dyn OperatorStateSlot)) {
        visit(self.counting.state());
    }

    fn process(&mut self, tally: Tally, _cx: &mut ProcessContext<'_, Tally>) -> Result<(), PortError> {
        self.counting.tally().merge(&tally);
        Ok(())
    }

    fn end_of_input(&mut self, cx: &mut ProcessContext<'_, Tally>) -> Result<(), PortError> {
        // Kept: after a restore behind the end, the same summary takes the place of the one that is there.
        let sum = *self.counting.tally();
        cx.emit(sum);
        Ok(())
    }
}
