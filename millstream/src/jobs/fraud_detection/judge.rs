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
use serde::{Deserialize, Serialize};

/// Times from which users can be forgotten are rounded up to whole hours: one timer a day and user instead of a new one
/// with every transaction.
const FORGET_STEP_MS: i64 = 3_600_000;

/// A user with the timer that forgets him.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct User {
    state: UserState,
    /// When the registered timer for forgetting fires.
    forget_at: Option<Timestamp>,
}

/// Keyed by user. A user has one event-time timer for what is to be judged next, which follows from his state, and one
/// for being forgotten.
#[derive(Clone)]
pub(super) struct Judge {
    book: BroadcastState<RuleBook>,
    users: ValueState<u64, User>,
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

/// When there is next something to judge.
#[inline]
fn next_timer(user: &UserState, book: &RuleBook, rules_change: bool) -> Option<Timestamp> {
    // A window that gives no alert needs no timer, unless a rule set to come may change that.
    if rules_change { user.next_wakeup() } else { user.next_wakeup_by(book) }
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
        let user =
            self.users.get_or_insert_with(cx, || User { state: UserState::new(transaction.user_id), forget_at: None });
        let before = next_timer(&user.state, book, rules_change);
        user.state.accept(&transaction);
        let after = next_timer(&user.state, book, rules_change);
        if before != after {
            if let Some(time) = before.filter(|time| user.forget_at != Some(*time)) {
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
        user.state.judge_until(time, book, &mut self.alerts);
        if let Some(next) = next_timer(&user.state, book, self.rules_change) {
            cx.register_event_time_timer(next);
        }
        if user.forget_at.is_none_or(|at| at <= time) {
            user.forget_at = None;
            match user.state.expires_at() {
                Some(expires) if expires <= time => drop(self.users.clear(cx)),
                Some(expires) => {
                    let at = round_up(expires);
                    user.forget_at = Some(at);
                    cx.register_event_time_timer(at);
                }
                // Something is held back: its timer comes here again.
                None => {}
            }
        }
        for alert in self.alerts.drain(..) {
            let time = alert.time;
            cx.emit_at(alert, time);
        }
        Ok(())
    }
}

fn round_up(time: Timestamp) -> Timestamp {
    time.saturating_add(FORGET_STEP_MS - 1).div_euclid(FORGET_STEP_MS) * FORGET_STEP_MS
}
