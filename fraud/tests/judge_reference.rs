//! The incremental judge against a slow reference that is obviously right: sorted lists, everything recomputed for
//! every transaction. Arrival order, watermarks, rule books and restores in between are random.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use millstream_fraud::{
    alert::{Alert, Rule},
    judge::{UserState, distance_km},
    rules::{RuleBook, RuleSet},
    transaction::Transaction,
};
use proptest::prelude::*;

const MINUTE: i64 = 60_000;

/// The contract, word by word.
fn reference(transactions: &[Transaction], book: &[RuleSet]) -> Vec<Alert> {
    let mut ordered = transactions.to_vec();
    ordered.sort_by_key(|transaction| (transaction.time, transaction.transaction_id));
    let rules_at = |time: i64| {
        let greatest = book.iter().filter(|set| set.from <= time).map(|set| set.from).max();
        book.iter().rfind(|set| Some(set.from) == greatest).cloned().unwrap_or_default()
    };
    let mut alerts = many_transactions(&ordered, &rules_at);
    let mut small_alerts: Vec<i64> = Vec::new();
    for (at, p) in ordered.iter().enumerate() {
        let rules = rules_at(p.time);
        let mut give = |rule, about: &[&Transaction]| {
            let mut ids: Vec<_> = about.iter().map(|transaction| transaction.transaction_id).collect();
            ids.sort_unstable();
            alerts.push(Alert {
                rule,
                user_id: p.user_id,
                time: p.time,
                transaction_id: Some(p.transaction_id),
                count: about.len() as u64,
                amount_cents: about.iter().map(|transaction| u128::from(transaction.amount_cents)).sum(),
                transactions: ids,
            });
        };
        if rules.blocked_users.contains(&p.user_id) {
            give(Rule::BlockedUser, &[p]);
        }
        if at > 0 {
            let previous = &ordered[at - 1];
            let elapsed = p.time - previous.time;
            let distance = distance_km(previous.latitude, previous.longitude, p.latitude, p.longitude);
            let speed = if elapsed == 0 { f64::INFINITY } else { distance / (elapsed as f64 / 3_600_000.0) };
            if elapsed < 24 * 60 * MINUTE && distance > 1.0 && speed > rules.max_speed_kmh {
                give(Rule::ImpossibleTravel, &[previous, p]);
            }
        }
        let in_interval = |time: i64| time > p.time - 10 * MINUTE && time <= p.time;
        let small: Vec<_> = ordered[..=at]
            .iter()
            .filter(|earlier| in_interval(earlier.time) && earlier.amount_cents < rules.small_amount_cents)
            .collect();
        let cities: BTreeSet<_> = small.iter().map(|transaction| &transaction.city).collect();
        if p.amount_cents < rules.small_amount_cents
            && small.len() as u64 >= rules.small_count
            && cities.len() as u64 >= rules.small_cities
            && !small_alerts.iter().any(|time| in_interval(*time))
        {
            give(Rule::SmallPurchases, &small);
            small_alerts.push(p.time);
        }
    }
    alerts
}

fn many_transactions(ordered: &[Transaction], rules_at: &dyn Fn(i64) -> RuleSet) -> Vec<Alert> {
    let ends: BTreeSet<_> = ordered.iter().map(|p| (p.time.div_euclid(5 * MINUTE) + 1) * 5 * MINUTE).collect();
    let mut alerts = Vec::new();
    for end in ends {
        let inside: Vec<_> = ordered.iter().filter(|p| p.time < end && p.time >= end - 5 * MINUTE).collect();
        if inside.len() as u64 > rules_at(end).max_transactions {
            alerts.push(Alert {
                rule: Rule::ManyTransactions,
                user_id: inside[0].user_id,
                time: end,
                transaction_id: None,
                count: inside.len() as u64,
                amount_cents: inside.iter().map(|p| u128::from(p.amount_cents)).sum(),
                transactions: Vec::new(),
            });
        }
    }
    alerts
}

const PLACES: [(&str, f64, f64); 6] = [
    ("Lisbon", 38.7223, -9.1393),
    ("Lisbon", 38.7225, -9.1390),
    ("Almada", 38.6790, -9.1569),
    ("Porto", 41.1579, -8.6291),
    ("Tokyo", 35.6762, 139.6503),
    ("Amadora", 38.7538, -9.2308),
];

/// Transactions of one user, dense or sparse, on both sides of the epoch; times repeat.
fn transactions() -> impl Strategy<Value = Vec<Transaction>> {
    let reach = prop_oneof![Just(2 * MINUTE), Just(30 * MINUTE), Just(200 * MINUTE), Just(5 * 24 * 60 * MINUTE)];
    let places = prop_oneof![Just(1_usize), Just(3), Just(6)];
    let count = prop_oneof![5 => 0_usize..120, 1 => 200_usize..400];
    (reach, places, count).prop_flat_map(|(reach, places, count)| {
        let one = (-reach / 2..reach, 0..places, prop_oneof![0_u64..1_200, 900_u64..1_100], any::<bool>());
        (prop::collection::vec(one, count), Just((0..count as u64).collect::<Vec<_>>()).prop_shuffle()).prop_map(
            |(drawn, ids)| {
                drawn
                    .into_iter()
                    .zip(ids)
                    .map(|((time, place, amount_cents, round), transaction_id)| Transaction {
                        transaction_id,
                        user_id: 7,
                        time: if round { time / MINUTE * MINUTE } else { time },
                        amount_cents,
                        merchant: "m".into(),
                        city: PLACES[place].0.into(),
                        latitude: PLACES[place].1,
                        longitude: PLACES[place].2,
                    })
                    .collect()
            },
        )
    })
}

fn rule_sets() -> impl Strategy<Value = Vec<RuleSet>> {
    // High counts reach the way in which busy users are counted.
    let small_count = prop_oneof![2 => 0_u64..6, 1 => 20_u64..120];
    let numbers = (0_u64..14, 0_u64..1_300, small_count, 0_u64..4);
    let speed = prop_oneof![Just(0.0), Just(900.0), Just(5.0), Just(f64::MAX)];
    let one =
        (-60_i64..200, numbers, speed, any::<bool>()).prop_map(|(from, numbers, max_speed_kmh, blocked)| RuleSet {
            from: from * MINUTE,
            max_transactions: numbers.0,
            small_amount_cents: numbers.1,
            small_count: numbers.2,
            small_cities: numbers.3,
            max_speed_kmh,
            blocked_users: if blocked { vec![3, 7] } else { vec![8] },
        });
    prop::collection::vec(one, 0..5)
}

/// Feeds the transactions in an order that a watermark allows, advancing it by random steps; `step` also decides how
/// the state is driven and when it is stored and restored.
fn judged(transactions: &[Transaction], sets: &[RuleSet], steps: &[(i64, u8)]) -> Vec<Alert> {
    let mut book = RuleBook::default();
    sets.iter().for_each(|set| book.add(set.clone()));
    let mut state = UserState::new(7);
    let mut alerts = Vec::new();
    let mut left = transactions.to_vec();
    let mut watermark = transactions.iter().map(|p| p.time).min().unwrap_or(0) - 1;
    for (step, how) in steps {
        let next = watermark + step;
        // What the next watermark passes must be accepted before it; of the rest, some come early.
        let mut number = 0;
        left.retain(|transaction| {
            number += 1;
            let comes = transaction.time <= next || number % 3 == u64::from(how % 3);
            if comes {
                state.accept(transaction);
            }
            !comes
        });
        if how & 4 == 0 {
            // As the engine does: one timer a key, set anew each time it fires.
            let wakeup =
                |state: &UserState| if how & 8 == 0 { state.next_wakeup() } else { state.next_wakeup_by(&book) };
            while let Some(timer) = wakeup(&state).filter(|timer| *timer <= next) {
                state.judge_until(if how & 16 == 0 { timer } else { next }, &book, &mut alerts);
            }
        } else {
            state.judge_until(next, &book, &mut alerts);
        }
        if how & 32 == 0 {
            state = rmp_serde::from_slice(&rmp_serde::to_vec(&state).unwrap()).unwrap();
        }
        if state.expires_at().is_some_and(|time| time <= next) {
            state = UserState::new(7);
        }
        watermark = next;
    }
    left.iter().for_each(|transaction| state.accept(transaction));
    state.judge_until(i64::MAX, &book, &mut alerts);
    alerts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn every_alert_is_given_once_whatever_the_order_and_the_watermarks(
        transactions in transactions().prop_shuffle(),
        sets in rule_sets(),
        steps in prop::collection::vec((prop_oneof![1_i64..1_000, 1_000..20 * MINUTE, MINUTE..900 * MINUTE], any::<u8>()), 0..40),
    ) {
        let mut expected = reference(&transactions, &sets);
        let mut given = judged(&transactions, &sets, &steps);
        expected.sort();
        given.sort();
        prop_assert_eq!(given, expected);
    }
}
