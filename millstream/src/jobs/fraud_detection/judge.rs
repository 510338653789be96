//! Holds each user's transactions back until event time has passed them, and judges them by the rules in force.

use millstream_fraud::alert::Alert;
use millstream_fraud::judge::UserState;
use millstream_fraud::rules::{RuleBook, RuleSet};
use millstream_fraud::transaction::Transaction;
use millstream_runtime::chain::keyed::function::StateVisitor;
use millstream_runtime::chain::keyed::{KeyedBroadcastFunction, KeyedContext};
use millstream_runtime::ports::PortError;
use millstream_runtime::state::keyed::ValueState;
use millstream_runtime::state::operator::{BroadcastState, OperatorStateSlot};
use millstream_runtime::time::Timestamp;

/// One event-time timer a user: the next transaction or window to judge, otherwise the time from which the user can be
/// forgotten. It follows from the user's state alone.
#[derive(Clone)]
pub(super) struct Judge {
    book: BroadcastState<RuleBook>,
    users: ValueState<u64, UserState>,
    /// Rules may change while the job runs.
    rules_change: bool,
    alerts: Vec<Alert>,
}

impl Judge {
    pub fn new(rules_change: bool) -> Self {
        Self {
            book: BroadcastState::new("rules", RuleBook::default()),
            users: ValueState::new("users"),
            rules_change,
            alerts: Vec::new(),
        }
    }
}

/// When there is next something to do for a user.
fn next_timer(user: &UserState, book: &RuleBook, rules_change: bool) -> Option<Timestamp> {
    // A window that gives no alert needs no timer, unless a rule set to come may change that.
    let judge = if rules_change { user.next_wakeup() } else { user.next_wakeup_by(book) };
    judge.or_else(|| user.expires_at())
}

impl KeyedBroadcastFunction for Judge {
    type Key = u64;
    type In = Transaction;
    type Broadcast = RuleSet;
    type Out = Alert;

    fn states(&mut self, visit: StateVisitor<'_, u64>) {
        visit(&mut self.users);
    }

    fn broadcast_states(&mut self, visit: &mut dyn FnMut(&mut dyn OperatorStateSlot)) {
        visit(&mut self.book);
    }

    fn process(&mut self, transaction: Transaction, cx: &mut KeyedContext<'_, u64, Alert>) -> Result<(), PortError> {
        let (book, rules_change) = (&self.book.value, self.rules_change);
        let mut new = false;
        let user = self.users.get_or_insert_with(cx, || {
            new = true;
            UserState::new(transaction.user_id)
        });
        let before = if new { None } else { next_timer(user, book, rules_change) };
        user.accept(&transaction);
        let after = next_timer(user, book, rules_change);
        if before != after {
            if let Some(time) = before {
                cx.delete_event_time_timer(time);
            }
            if let Some(time) = after {
                cx.register_event_time_timer(time);
            }
        }
        Ok(())
    }

    fn process_broadcast(&mut self, set: RuleSet) -> Result<(), PortError> {
        self.book.value.add(set);
        Ok(())
    }

    fn on_timer(&mut self, time: Timestamp, cx: &mut KeyedContext<'_, u64, Alert>) -> Result<(), PortError> {
        let book = &self.book.value;
        let Some(user) = self.users.get_mut(cx) else { return Ok(()) };
        user.judge_until(time, book, &mut self.alerts);
        let next = next_timer(user, book, self.rules_change);
        let forget = user.expires_at().is_some_and(|expires| expires <= time);
        for alert in self.alerts.drain(..) {
            let time = alert.time;
            cx.emit_at(alert, time);
        }
        match next {
            _ if forget => {
                self.users.clear(cx);
            }
            Some(next) => cx.register_event_time_timer(next),
            None => {}
        }
        Ok(())
    }
}
