//! Measures accept and judge in CPU time, which other work on the machine does not disturb:
//! `cargo run --release -p millstream-fraud --example judge_speed`.
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::time::{Duration, Instant};

use millstream_fraud::{judge::UserState, rules::RuleBook, transaction::Transaction};

const USERS: u64 = 50_000;
const TRANSACTIONS: u64 = 1_000_000;

fn main() {
    let mut random = 1_u64;
    let mut below = |limit: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % limit
    };
    let transactions: Vec<_> = (0..TRANSACTIONS)
        .map(|id| Transaction {
            transaction_id: id,
            user_id: below(USERS),
            time: i64::try_from(id * 86 + below(3_000)).expect("a day"),
            amount_cents: below(20_000),
            merchant: "m17".into(),
            city: "Lisbon".into(),
            latitude: 38.7223,
            longitude: -9.1393,
        })
        .collect();
    println!("{} bytes a user, without what is held back or recent", size_of::<UserState>());
    measure("many users", &transactions);
    if std::env::args().nth(1).is_some() {
        return;
    }
    let busy: Vec<_> =
        transactions.iter().map(|transaction| Transaction { user_id: 0, ..transaction.clone() }).collect();
    measure("one user", &busy);
    let small: Vec<_> = busy.iter().map(|transaction| Transaction { amount_cents: 1, ..transaction.clone() }).collect();
    measure("one user, all small", &small);
}

/// A watermark per batch of 1,024; every user with a due wake-up is judged, as timers would.
fn measure(name: &str, transactions: &[Transaction]) {
    let book = RuleBook::default();
    let mut users: Vec<_> = (0..USERS).map(UserState::new).collect();
    let mut alerts = Vec::new();
    let (started, cpu) = (Instant::now(), cpu_time());
    let mut touched: Vec<usize> = Vec::new();
    let mut wakeups = 0_u64;
    for batch in transactions.chunks(1_024) {
        for transaction in batch {
            let user = usize::try_from(transaction.user_id).expect("few users");
            users[user].accept(transaction);
            touched.push(user);
        }
        let watermark = batch[0].time - 5_001;
        let mut still = Vec::new();
        for user in touched.drain(..) {
            let state = &mut users[user];
            match state.next_wakeup_by(&book) {
                Some(time) if time <= watermark => {
                    wakeups += 1;
                    state.judge_until(watermark, &book, &mut alerts);
                }
                Some(_) => still.push(user),
                None => {}
            }
        }
        still.sort_unstable();
        still.dedup();
        touched = still;
    }
    let spent = cpu_time().zip(cpu).map_or(started.elapsed(), |(now, then)| now - then);
    println!("{name}: {spent:?} for {} transactions, {wakeups} wake-ups, {} alerts", transactions.len(), alerts.len());
}

/// What the process has used so far, where the system (Linux) tells.
fn cpu_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}
