//! Takes what the sources read apart: what the job works on goes on, dead letters go aside, and all are counted.

use millstream_fraud::dead_letter::{DeadLetter, Reason};
use millstream_fraud::rules::RuleSet;
use millstream_fraud::summary::Tally;
use millstream_fraud::transaction::Transaction;
use millstream_runtime::chain::output::OutputTag;
use millstream_runtime::chain::process::{ProcessContext, ProcessFunction};
use millstream_runtime::ports::PortError;
use millstream_runtime::state::operator::OperatorStateSlot;

use super::lines::{Ingested, RuleLine};
use super::tally::Counting;

/// Lines that were not taken.
pub(super) const DEAD_LETTERS: OutputTag<DeadLetter> = OutputTag::new("dead-letters");

/// What was counted, once, at the end of the input.
pub(super) const TALLY: OutputTag<Tally> = OutputTag::new("tally");

/// Sorts the lines of the input.
#[derive(Clone)]
pub(super) struct SortTransactions {
    counting: Counting,
}

impl SortTransactions {
    pub fn new() -> Self {
        Self { counting: Counting::new() }
    }
}

impl ProcessFunction for SortTransactions {
    type In = Ingested;
    type Out = Transaction;

    fn operator_states(&mut self, visit: &mut dyn FnMut(&mut dyn OperatorStateSlot)) {
        visit(self.counting.state());
    }

    #[inline]
    fn process(&mut self, line: Ingested, cx: &mut ProcessContext<'_, Transaction>) -> Result<(), PortError> {
        match line {
            Ingested::Transaction(transaction) => {
                self.counting.tally().accepted += 1;
                cx.emit(transaction);
            }
            Ingested::DeadLetter(letter) => {
                count_letter(self.counting.tally(), letter.reason);
                cx.side(&DEAD_LETTERS, *letter);
            }
        }
        Ok(())
    }

    fn end_of_input(&mut self, cx: &mut ProcessContext<'_, Transaction>) -> Result<(), PortError> {
        cx.side(&TALLY, self.counting.take());
        Ok(())
    }
}

/// Sorts the lines of the rules file.
#[derive(Clone)]
pub(super) struct SortRules {
    counting: Counting,
}

impl SortRules {
    pub fn new() -> Self {
        Self { counting: Counting::new() }
    }
}

impl ProcessFunction for SortRules {
    type In = RuleLine;
    type Out = RuleSet;

    fn operator_states(&mut self, visit: &mut dyn FnMut(&mut dyn OperatorStateSlot)) {
        visit(self.counting.state());
    }

    fn process(&mut self, line: RuleLine, cx: &mut ProcessContext<'_, RuleSet>) -> Result<(), PortError> {
        match line {
            RuleLine::Set(set) => cx.emit(set),
            RuleLine::DeadLetter(letter) => {
                count_letter(self.counting.tally(), letter.reason);
                cx.side(&DEAD_LETTERS, *letter);
            }
        }
        Ok(())
    }

    fn end_of_input(&mut self, cx: &mut ProcessContext<'_, RuleSet>) -> Result<(), PortError> {
        cx.side(&TALLY, self.counting.take());
        Ok(())
    }
}

fn count_letter(tally: &mut Tally, reason: Reason) {
    match reason {
        Reason::Malformed => tally.malformed += 1,
        Reason::Late => tally.late += 1,
        Reason::Rules => tally.rules_rejected += 1,
    }
}
