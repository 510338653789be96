//! Each rule at its edges, one at a time. The combination is held against a naive reference in `tests/`.

use super::*;

const LISBON: (&str, f64, f64) = ("Lisbon", 38.7223, -9.1393);
const PORTO: (&str, f64, f64) = ("Porto", 41.1579, -8.6291);
const MADRID: (&str, f64, f64) = ("Madrid", 40.4168, -3.7038);

fn purchase(id: u64, time: Timestamp, cents: u64, place: (&str, f64, f64)) -> Transaction {
    Transaction {
        transaction_id: id,
        user_id: 7,
        time,
        amount_cents: cents,
        merchant: "m".into(),
        city: place.0.into(),
        latitude: place.1,
        longitude: place.2,
    }
}

fn judged(transactions: &[Transaction], book: &RuleBook) -> Vec<Alert> {
    let mut state = UserState::new(7);
    transactions.iter().for_each(|transaction| state.accept(transaction));
    let mut alerts = Vec::new();
    state.judge_until(Timestamp::MAX, book, &mut alerts);
    assert!(state.is_empty(), "nothing is needed after the last watermark: {state:?}");
    alerts
}

fn book(set: RuleSet) -> RuleBook {
    let mut book = RuleBook::default();
    book.add(set);
    book
}

/// Rules without impossible travel, so that cities can be mixed.
fn walking_rules() -> RuleSet {
    RuleSet { max_speed_kmh: f64::MAX, ..RuleSet::default() }
}

#[test]
fn eleven_transactions_in_one_window_give_one_alert_at_its_end() {
    let within: Vec<_> = (0..11).map(|id| purchase(id, 300_000 + id as i64 * 29_999, 1_000, LISBON)).collect();
    let alerts = judged(&within, &RuleBook::default());
    assert_eq!(alerts.len(), 1);
    assert_eq!(
        (alerts[0].rule, alerts[0].time, alerts[0].count, alerts[0].amount_cents),
        (Rule::ManyTransactions, 600_000, 11, 11_000)
    );
    assert!(alerts[0].transactions.is_empty() && alerts[0].transaction_id.is_none());
    assert!(judged(&within[..10], &RuleBook::default()).is_empty(), "ten are not more than ten");
    let across: Vec<_> = (0..11).map(|id| purchase(id, 300_000 + id as i64 * 30_000, 1_000, LISBON)).collect();
    assert!(judged(&across, &RuleBook::default()).is_empty(), "the eleventh lies in the next window");
}

#[test]
fn a_window_is_judged_by_the_rules_at_its_end() {
    let mut book = RuleBook::default();
    book.add(RuleSet { from: 300_000, max_transactions: 1, ..RuleSet::default() });
    let two = [purchase(1, 0, 1_000, LISBON), purchase(2, 1, 1_000, LISBON)];
    assert_eq!(judged(&two, &book).len(), 1);
    let mut book = RuleBook::default();
    book.add(RuleSet { from: 300_001, max_transactions: 1, ..RuleSet::default() });
    assert!(judged(&two, &book).is_empty());
}

#[test]
fn windows_before_the_epoch_are_aligned_too() {
    assert_eq!(window_end(-1), 0);
    assert_eq!(window_end(-300_000), 0);
    assert_eq!(window_end(-300_001), -300_000);
    assert_eq!(window_end(0), 300_000);
}

#[test]
fn small_purchases_need_count_cities_and_the_half_open_interval() {
    let book = book(walking_rules());
    let at = |last| [purchase(1, 0, 999, LISBON), purchase(2, 1, 100, PORTO), purchase(9, last, 1, MADRID)];
    let alerts = judged(&at(599_999), &book);
    assert_eq!(alerts.len(), 1);
    assert_eq!((alerts[0].rule, alerts[0].time, alerts[0].count), (Rule::SmallPurchases, 599_999, 3));
    assert_eq!((alerts[0].amount_cents, &alerts[0].transactions), (1_100, &vec![1, 2, 9]));
    assert!(judged(&at(600_000), &book).is_empty(), "the first lies just outside");

    let mut two_cities = at(10);
    two_cities[2].city = "Porto".into();
    assert!(judged(&two_cities, &book).is_empty());
    let mut not_small = at(10);
    not_small[2].amount_cents = 1_000;
    assert!(judged(&not_small, &book).is_empty());
}

#[test]
fn small_purchases_stay_silent_for_ten_minutes_after_an_alert() {
    let book = book(walking_rules());
    let places = [LISBON, PORTO, MADRID];
    let transactions: Vec<_> = (0..13).map(|id| purchase(id, id as i64 * 60_000, 1, places[id as usize % 3])).collect();
    let times: Vec<_> = judged(&transactions, &book)
        .into_iter()
        .filter(|alert| alert.rule == Rule::SmallPurchases)
        .map(|alert| alert.time)
        .collect();
    assert_eq!(times, [120_000, 720_000]);
}

#[test]
fn a_busy_user_is_counted_like_a_quiet_one() {
    let book = book(RuleSet { small_count: 100, small_cities: 2, ..walking_rules() });
    let mut transactions: Vec<_> = (0..99).map(|id| purchase(id, id as i64, 1, LISBON)).collect();
    transactions.push(purchase(99, 99, 1, LISBON));
    transactions.push(purchase(100, 100, 1, PORTO));
    let small: Vec<_> =
        judged(&transactions, &book).into_iter().filter(|alert| alert.rule == Rule::SmallPurchases).collect();
    assert_eq!(small.len(), 1);
    assert_eq!((small[0].time, small[0].count), (100, 101));
}

#[test]
fn a_journey_is_impossible_above_the_speed_within_a_day() {
    let distance = distance_km(LISBON.1, LISBON.2, MADRID.1, MADRID.2);
    assert!((distance - 502.4).abs() < 1.0, "Lisbon to Madrid is about 502 km, not {distance}");
    let fastest_ms = (distance / 900.0 * 3_600_000.0) as i64;
    let trip = |ms| [purchase(5, 0, 5_000, LISBON), purchase(3, ms, 6_000, MADRID)];
    let alerts = judged(&trip(fastest_ms), &RuleBook::default());
    assert_eq!(alerts.len(), 1);
    assert_eq!(
        (alerts[0].rule, alerts[0].time, alerts[0].count, alerts[0].amount_cents, &alerts[0].transactions),
        (Rule::ImpossibleTravel, fastest_ms, 2, 11_000, &vec![3, 5])
    );
    assert_eq!(alerts[0].transaction_id, Some(3));
    assert!(judged(&trip(fastest_ms + 1), &RuleBook::default()).is_empty());
    assert_eq!(judged(&trip(0), &RuleBook::default()).len(), 1, "no time at all is infinitely fast");
    let slow = book(RuleSet { max_speed_kmh: 1.0, ..RuleSet::default() });
    assert_eq!(judged(&trip(JOURNEY_MS - 1), &slow).len(), 1);
    assert!(judged(&trip(JOURNEY_MS), &slow).is_empty(), "a day old is too old");
    let near = [purchase(1, 0, 5_000, LISBON), purchase(2, 0, 5_000, ("Lisbon", 38.7312, -9.1393))];
    assert!(judged(&near, &RuleBook::default()).is_empty(), "within a kilometre");
}

#[test]
fn every_transaction_of_a_blocked_user_gives_an_alert() {
    let book = book(RuleSet { from: 5, blocked_users: vec![7], ..RuleSet::default() });
    let alerts = judged(&[purchase(1, 4, 5_000, LISBON), purchase(2, 5, 5_000, LISBON)], &book);
    assert_eq!(alerts.len(), 1);
    assert_eq!((alerts[0].rule, alerts[0].amount_cents, &alerts[0].transactions), (Rule::BlockedUser, 5_000, &vec![2]));
}

#[test]
fn a_wakeup_is_the_earliest_thing_to_do() {
    let mut state = UserState::new(7);
    assert_eq!(state.next_wakeup(), None);
    state.accept(&purchase(1, 1_000, 5_000, LISBON));
    state.accept(&purchase(2, 900, 5_000, LISBON));
    assert_eq!((state.next_wakeup(), state.expires_at()), (Some(900), None));
    let mut alerts = Vec::new();
    let rules = RuleBook::default();
    state.judge_until(900, &rules, &mut alerts);
    assert_eq!(state.next_wakeup(), Some(1_000));
    state.judge_until(1_000, &rules, &mut alerts);
    assert_eq!(state.next_wakeup(), Some(299_999));
    assert_eq!(state.next_wakeup_by(&rules), None, "one transaction is not more than ten");
    state.judge_until(299_999, &rules, &mut alerts);
    assert_eq!((state.next_wakeup(), state.expires_at()), (None, Some(1_000 + JOURNEY_MS)));
    state.judge_until(1_000 + JOURNEY_MS, &rules, &mut alerts);
    assert!(state.is_empty() && alerts.is_empty());
}
