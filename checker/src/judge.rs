//! The four rules over sorted lists: the accepted transactions by user, time and id; each user judged alone. Slow in
//! the simplest way that is fast enough; used by `main` to make the alerts that the output must hold.

use crate::input::Transaction;
use crate::rules::Rules;
use crate::time;

/// The rules in the order of the contract.
pub const RULES: [&str; 4] = ["many-transactions", "small-purchases", "impossible-travel", "blocked-user"];

const WINDOW_MS: i64 = 5 * 60 * 1000;
const INTERVAL_MS: i64 = 10 * 60 * 1000;
const JOURNEY_MS: i64 = 24 * 60 * 60 * 1000;
const JOURNEY_KM: f64 = 1.0;
const EARTH_KM: f64 = 6371.0088;

/// An alert that the contract demands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// One of [`RULES`].
    pub rule: &'static str,
    /// Whose.
    pub user: u64,
    /// Milliseconds since the epoch.
    pub time: i64,
    /// The transaction judged; none for a window.
    pub judged: Option<u64>,
    /// How many transactions.
    pub count: u64,
    /// Their sum in cents.
    pub amount: u128,
    /// Ascending.
    pub transactions: Vec<u64>,
}

impl Alert {
    /// `rule:user:time`, and `:transaction` where one was judged.
    pub fn id(&self) -> String {
        let id = format!("{}:{}:{}", self.rule, self.user, time::format(self.time));
        self.judged.map_or(id.clone(), |transaction| format!("{id}:{transaction}"))
    }

    /// The line in the output, byte for byte, without the newline.
    pub fn line(&self) -> String {
        let ids: Vec<String> = self.transactions.iter().map(u64::to_string).collect();
        format!(
            r#"{{"alert_id":"{}","rule":"{}","user_id":{},"time":"{}","count":{},"amount":"{}.{:02}","transactions":[{}]}}"#,
            self.id(),
            self.rule,
            self.user,
            time::format(self.time),
            self.count,
            self.amount / 100,
            self.amount % 100,
            ids.join(",")
        )
    }
}

/// Every alert of all users.
pub fn judge(mut transactions: Vec<Transaction>, rules: &Rules) -> Vec<Alert> {
    transactions.sort_by_key(|t| (t.user, t.time, t.id));
    let mut alerts = Vec::new();
    for user in transactions.chunk_by(|a, b| a.user == b.user) {
        many_transactions(user, rules, &mut alerts);
        small_purchases(user, rules, &mut alerts);
        impossible_travel(user, rules, &mut alerts);
        blocked_user(user, rules, &mut alerts);
    }
    alerts
}

fn many_transactions(user: &[Transaction], rules: &Rules, alerts: &mut Vec<Alert>) {
    // Floor, not towards zero: windows before 1970 are aligned in the same way.
    for window in user.chunk_by(|a, b| a.time.div_euclid(WINDOW_MS) == b.time.div_euclid(WINDOW_MS)) {
        let end = (window[0].time.div_euclid(WINDOW_MS) + 1) * WINDOW_MS;
        if window.len() as u64 > rules.at(end).max_transactions {
            let mut alert = alert(RULES[0], end, None, window.iter());
            alert.transactions.clear();
            alerts.push(alert);
        }
    }
}

fn small_purchases(user: &[Transaction], rules: &Rules, alerts: &mut Vec<Alert>) {
    let mut given: Option<i64> = None;
    for (index, p) in user.iter().enumerate() {
        let set = rules.at(p.time);
        let after = p.time - INTERVAL_MS;
        if p.amount >= set.small_amount || given.is_some_and(|time| time > after) {
            continue;
        }
        let first = user[..index].partition_point(|t| t.time <= after);
        let small: Vec<_> = user[first..=index].iter().filter(|t| t.amount < set.small_amount).collect();
        let mut cities: Vec<&str> = small.iter().map(|t| &*t.city).collect();
        cities.sort_unstable();
        cities.dedup();
        if small.len() as u64 >= set.small_count && cities.len() as u64 >= set.small_cities {
            alerts.push(alert(RULES[1], p.time, Some(p.id), small.into_iter()));
            given = Some(p.time);
        }
    }
}

fn impossible_travel(user: &[Transaction], rules: &Rules, alerts: &mut Vec<Alert>) {
    for pair in user.windows(2) {
        let (previous, p) = (&pair[0], &pair[1]);
        let elapsed = p.time - previous.time;
        let distance = distance_km(previous, p);
        if elapsed >= JOURNEY_MS || distance <= JOURNEY_KM {
            continue;
        }
        let speed = if elapsed == 0 { f64::INFINITY } else { distance / (elapsed as f64 / 3_600_000.0) };
        if speed > rules.at(p.time).max_speed_kmh {
            alerts.push(alert(RULES[2], p.time, Some(p.id), pair.iter()));
        }
    }
}

fn blocked_user(user: &[Transaction], rules: &Rules, alerts: &mut Vec<Alert>) {
    for p in user {
        if rules.at(p.time).blocked_users.binary_search(&p.user).is_ok() {
            alerts.push(alert(RULES[3], p.time, Some(p.id), std::iter::once(p)));
        }
    }
}

fn alert<'a>(
    rule: &'static str,
    time: i64,
    judged: Option<u64>,
    over: impl Iterator<Item = &'a Transaction> + Clone,
) -> Alert {
    let mut transactions: Vec<u64> = over.clone().map(|t| t.id).collect();
    transactions.sort_unstable();
    let user = over.clone().next().expect("an alert is over one transaction at least").user;
    let amount = over.map(|t| u128::from(t.amount)).sum();
    Alert { rule, user, time, judged, count: transactions.len() as u64, amount, transactions }
}

/// Haversine.
fn distance_km(from: &Transaction, to: &Transaction) -> f64 {
    let (from_latitude, to_latitude) = (from.latitude.to_radians(), to.latitude.to_radians());
    let half_latitude = (to_latitude - from_latitude) / 2.0;
    let half_longitude = (to.longitude - from.longitude).to_radians() / 2.0;
    let a = half_latitude.sin().powi(2) + from_latitude.cos() * to_latitude.cos() * half_longitude.sin().powi(2);
    2.0 * EARTH_KM * a.sqrt().min(1.0).asin()
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
