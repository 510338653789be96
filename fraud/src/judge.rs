//! What is remembered of a user, and the four rules over it. Driven by a keyed process function with one event-time
//! timer a key: [`UserState::accept`] on a transaction, [`UserState::judge_until`] when the watermark passes.

mod purchases;

use std::{cmp::Reverse, collections::BinaryHeap};

use compact_str::CompactString;
use millstream_runtime::time::Timestamp;
use serde::{Deserialize, Serialize};

use self::purchases::{Purchase, RecentPurchases};
use crate::{
    alert::{Alert, Rule},
    rules::{RuleBook, RuleSet},
    transaction::Transaction,
};

/// Length of a window of the rule `many-transactions`, aligned to the epoch.
pub const WINDOW_MS: i64 = 5 * 60_000;

/// How far back `small-purchases` looks.
pub const SMALL_INTERVAL_MS: i64 = 10 * 60_000;

/// A journey from a transaction as old as this is never impossible.
pub const JOURNEY_MS: i64 = 24 * 3_600_000;

/// A journey must be longer than this to be impossible.
const SHORTEST_JOURNEY_KM: f64 = 1.0;

/// Mean radius of the earth.
const EARTH_RADIUS_KM: f64 = 6371.0088;

/// What is remembered of one user: transactions held back until the watermark passes them, and of the judged ones only
/// what a rule can still need.
///
/// Invariants: transactions are judged in the order of (time, id); `window` holds the judged transactions of the
/// window of the last one and has not fired; `recent` holds the judged ones of the last ten minutes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct UserState {
    user_id: u64,
    held: BinaryHeap<Reverse<Held>>,
    window: Option<Window>,
    recent: RecentPurchases,
    last_small_alert: Option<Timestamp>,
    previous: Option<Stop>,
}

/// A transaction held back, without what no rule looks at.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Held {
    time: Timestamp,
    transaction_id: u64,
    amount_cents: u64,
    city: CompactString,
    latitude: f64,
    longitude: f64,
}

impl Held {
    fn position(&self) -> (Timestamp, u64) {
        (self.time, self.transaction_id)
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.position() == other.position()
    }
}

impl Eq for Held {}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Held {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.position().cmp(&other.position())
    }
}

/// The window that is being filled.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Window {
    end: Timestamp,
    count: u64,
    amount_cents: u128,
}

/// Where and when a journey starts.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Stop {
    time: Timestamp,
    transaction_id: u64,
    amount_cents: u64,
    latitude: f64,
    longitude: f64,
}

impl UserState {
    /// A user of whom nothing is known yet.
    #[must_use]
    pub fn new(user_id: u64) -> Self {
        Self { user_id, ..Self::default() }
    }

    /// Holds a transaction back until the watermark passes it. It must be newer than the watermark, which the source
    /// ensures: what is not is late and never comes here.
    #[inline]
    pub fn accept(&mut self, transaction: &Transaction) {
        self.user_id = transaction.user_id;
        // Most users hold back one at a time: growing by the usual four would double a user's memory.
        if self.held.capacity() == 0 {
            self.held.reserve_exact(1);
        }
        self.held.push(Reverse(Held {
            time: transaction.time,
            transaction_id: transaction.transaction_id,
            amount_cents: transaction.amount_cents,
            city: transaction.city.clone(),
            latitude: transaction.latitude,
            longitude: transaction.longitude,
        }));
    }

    /// Judges everything that the watermark has passed, in the order of event time, and forgets what no later
    /// transaction (newer than the watermark) can need. Alerts are appended in that order too.
    pub fn judge_until(&mut self, watermark: Timestamp, book: &RuleBook, out: &mut Vec<Alert>) {
        while self.held.peek().is_some_and(|Reverse(held)| held.time <= watermark) {
            if let Some(Reverse(held)) = self.held.pop() {
                self.judge(held, book, out);
            }
        }
        // The last millisecond of a window is its end - 1: once that has passed, nothing can be added to it.
        if self.window.is_some_and(|window| window.end - 1 <= watermark) {
            self.fire_window(book, out);
        }
        self.forget(watermark.saturating_add(1));
    }

    /// The earliest event time at which there is something to do: the time of the earliest transaction held back, or
    /// the last millisecond of the window being filled. To be registered as the key's only event-time timer.
    #[must_use]
    #[inline]
    pub fn next_wakeup(&self) -> Option<Timestamp> {
        let held = self.held.peek().map(|Reverse(held)| held.time);
        let window = self.window.map(|window| window.end - 1);
        earlier(held, window)
    }

    /// As [`UserState::next_wakeup`], but not for a window that gives no alert by the book as it is: about half the
    /// timers. The alerts are the same if the book never changes again (no `--watch`, same rules after a restore);
    /// else a rule set added later could judge a window whose end the watermark has already passed.
    #[must_use]
    #[inline]
    pub fn next_wakeup_by(&self, book: &RuleBook) -> Option<Timestamp> {
        let held = self.held.peek().map(|Reverse(held)| held.time);
        let window = self.window.filter(|window| window.count > book.rules_at(window.end).max_transactions);
        earlier(held, window.map(|window| window.end - 1))
    }

    /// The event time from which the whole state can be dropped if nothing else comes; `None` while something is held
    /// back, and for an empty state the smallest time.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        if !self.held.is_empty() {
            return None;
        }
        let window = self.window.map(|window| window.end);
        let journey = self.previous.map(|stop| stop.time.saturating_add(JOURNEY_MS));
        let alert = self.last_small_alert.map(|time| time.saturating_add(SMALL_INTERVAL_MS));
        let recent = self.recent.newest().map(|time| time.saturating_add(SMALL_INTERVAL_MS));
        Some([window, journey, alert, recent].into_iter().flatten().max().unwrap_or(Timestamp::MIN))
    }

    /// Whether nothing is remembered, so that the state may be dropped.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.expires_at() == Some(Timestamp::MIN)
    }

    fn judge(&mut self, held: Held, book: &RuleBook, out: &mut Vec<Alert>) {
        let end = window_end(held.time);
        if self.window.is_some_and(|window| window.end != end) {
            self.fire_window(book, out);
        }
        let window = self.window.get_or_insert(Window { end, count: 0, amount_cents: 0 });
        window.count += 1;
        window.amount_cents += u128::from(held.amount_cents);

        let rules = book.rules_at(held.time);
        if rules.is_blocked(self.user_id) {
            let amount = u128::from(held.amount_cents);
            out.push(self.alert(Rule::BlockedUser, &held, amount, vec![held.transaction_id]));
        }
        if let Some(previous) = self.previous
            && is_impossible(&previous, &held, rules)
        {
            let amount = u128::from(previous.amount_cents) + u128::from(held.amount_cents);
            let transactions = vec![previous.transaction_id, held.transaction_id];
            out.push(self.alert(Rule::ImpossibleTravel, &held, amount, transactions));
        }
        self.previous = Some(Stop {
            time: held.time,
            transaction_id: held.transaction_id,
            amount_cents: held.amount_cents,
            latitude: held.latitude,
            longitude: held.longitude,
        });
        self.judge_small_purchases(held, rules, out);
    }

    fn judge_small_purchases(&mut self, mut held: Held, rules: &RuleSet, out: &mut Vec<Alert>) {
        let after = held.time.saturating_sub(SMALL_INTERVAL_MS);
        self.recent.forget_until(after);
        self.recent.push(Purchase {
            time: held.time,
            transaction_id: held.transaction_id,
            amount_cents: held.amount_cents,
            city: std::mem::take(&mut held.city),
        });
        if held.amount_cents >= rules.small_amount_cents || self.last_small_alert.is_some_and(|time| time > after) {
            return;
        }
        if self.recent.are_suspicious(rules) {
            let (amount, transactions) = self.recent.small(rules.small_amount_cents);
            self.last_small_alert = Some(held.time);
            out.push(self.alert(Rule::SmallPurchases, &held, amount, transactions));
        }
    }

    fn alert(&self, rule: Rule, judged: &Held, amount_cents: u128, mut transactions: Vec<u64>) -> Alert {
        transactions.sort_unstable();
        Alert {
            rule,
            user_id: self.user_id,
            time: judged.time,
            transaction_id: Some(judged.transaction_id),
            count: transactions.len() as u64,
            amount_cents,
            transactions,
        }
    }

    fn fire_window(&mut self, book: &RuleBook, out: &mut Vec<Alert>) {
        let Some(window) = self.window.take() else { return };
        if window.count > book.rules_at(window.end).max_transactions {
            out.push(Alert {
                rule: Rule::ManyTransactions,
                user_id: self.user_id,
                time: window.end,
                transaction_id: None,
                count: window.count,
                amount_cents: window.amount_cents,
                transactions: Vec::new(),
            });
        }
    }

    /// Forgets what no transaction at `next` or later can need.
    fn forget(&mut self, next: Timestamp) {
        let small_after = next.saturating_sub(SMALL_INTERVAL_MS);
        self.recent.forget_until(small_after);
        self.last_small_alert = self.last_small_alert.filter(|time| *time > small_after);
        self.previous = self.previous.filter(|stop| stop.time > next.saturating_sub(JOURNEY_MS));
        // Most users hold nothing back most of the time: the allocator hands the same warm memory to the next one.
        if self.held.is_empty() && self.held.capacity() > 0 {
            self.held = BinaryHeap::new();
        }
    }
}

#[inline]
fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// End (exclusive) of the window that a time lies in.
#[must_use]
#[inline]
pub fn window_end(time: Timestamp) -> Timestamp {
    time - time.rem_euclid(WINDOW_MS) + WINDOW_MS
}

fn is_impossible(from: &Stop, to: &Held, rules: &RuleSet) -> bool {
    let elapsed_ms = to.time - from.time;
    if elapsed_ms >= JOURNEY_MS {
        return false;
    }
    let distance = distance_km(from.latitude, from.longitude, to.latitude, to.longitude);
    if distance <= SHORTEST_JOURNEY_KM {
        return false;
    }
    #[expect(clippy::cast_precision_loss, reason = "less than a day in milliseconds is exact")]
    let hours = elapsed_ms as f64 / 3_600_000.0;
    // Zero hours give infinity, which is faster than any limit.
    distance / hours > rules.max_speed_kmh
}

/// Great-circle distance by the haversine formula, on a sphere of the earth's mean radius.
#[must_use]
pub fn distance_km(latitude: f64, longitude: f64, other_latitude: f64, other_longitude: f64) -> f64 {
    let half_north = (other_latitude - latitude).to_radians() / 2.0;
    let half_east = (other_longitude - longitude).to_radians() / 2.0;
    let cosines = latitude.to_radians().cos() * other_latitude.to_radians().cos();
    let square = half_north.sin().powi(2) + cosines * half_east.sin().powi(2);
    // Rounding may leave a hair more than one between antipodes.
    2.0 * EARTH_RADIUS_KM * square.min(1.0).sqrt().asin()
}

#[cfg(test)]
mod tests;
