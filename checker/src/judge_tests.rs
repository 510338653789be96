//! Hand-computed small cases for each rule and its edges.

use super::*;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

fn at(id: u64, time: i64, cents: u64, city: &str) -> Transaction {
    Transaction { id, user: 1, time, amount: cents, city: city.into(), latitude: 0.0, longitude: 0.0 }
}

fn on_equator(id: u64, time: i64, longitude: f64) -> Transaction {
    Transaction { longitude, ..at(id, time, 5000, "x") }
}

/// (rule, time, judged) of the alerts of one rule.
fn alerts_of(rule: &str, transactions: &[Transaction], rules: &Rules) -> Vec<(i64, Option<u64>)> {
    let alerts = judge(transactions.to_vec(), rules);
    alerts.iter().filter(|a| a.rule == rule).map(|a| (a.time, a.judged)).collect()
}

fn many(times: impl Iterator<Item = i64>) -> Vec<(i64, Option<u64>)> {
    let transactions: Vec<_> = times.enumerate().map(|(i, time)| at(i as u64, time, 5000, "x")).collect();
    alerts_of("many-transactions", &transactions, &Rules::defaults())
}

fn rules(lines: &[String]) -> Rules {
    let rules = Rules::read("rules.jsonl", lines.join("\n").as_bytes());
    assert!(rules.dead.is_empty());
    rules
}

fn set(from: i64, edit: &[(&str, &str)]) -> String {
    let mut line = format!(
        r#"{{"from":"{}","max_transactions":10,"small_amount":"10.00","small_count":3,"small_cities":3,"max_speed_kmh":900,"blocked_users":[]}}"#,
        time::format(from)
    );
    for (from, to) in edit {
        assert!(line.contains(from));
        line = line.replace(from, to);
    }
    line
}

#[test]
fn ten_in_a_window_are_allowed_and_eleven_are_not() {
    assert_eq!(many((0..10).map(|i| i * 1000)), []);
    assert_eq!(many((0..11).map(|i| i * 1000)), [(5 * MINUTE, None)]);
    // One alert a window, however many.
    assert_eq!(many((0..25).map(|i| i * 1000)), [(5 * MINUTE, None)]);
}

#[test]
fn windows_are_aligned_to_the_epoch_and_half_open() {
    // Six in [0, 5 min) and six in [5, 10 min) are twelve within five minutes, but no window holds eleven.
    assert_eq!(many((0..12).map(|i| 5 * MINUTE - 6 + i)), []);
    assert_eq!(many((0..11).map(|i| 5 * MINUTE - 11 + i)), [(5 * MINUTE, None)]);
    assert_eq!(many((0..11).map(|i| 5 * MINUTE + i)), [(10 * MINUTE, None)]);
}

#[test]
fn windows_before_the_epoch_are_aligned_downwards() {
    // [-5 min, 0): a window that ends at the epoch; rounding towards zero would mix it with [0, 5 min).
    assert_eq!(many((0..11).map(|i| -11 + i)), [(0, None)]);
    assert_eq!(many((0..12).map(|i| -6 + i)), []);
    assert_eq!(many((0..11).map(|i| -5 * MINUTE + i)), [(0, None)]);
    assert_eq!(many((0..11).map(|i| -5 * MINUTE - 11 + i)), [(-5 * MINUTE, None)]);
}

#[test]
fn a_window_is_judged_by_the_rules_at_its_end() {
    let transactions: Vec<_> = (0..4).map(|i| at(i, i as i64, 5000, "x")).collect();
    let strict = ("\"max_transactions\":10", "\"max_transactions\":3");
    let at_end = rules(&[set(5 * MINUTE, &[strict])]);
    assert_eq!(alerts_of("many-transactions", &transactions, &at_end), [(5 * MINUTE, None)]);
    let after_end = rules(&[set(5 * MINUTE + 1, &[strict])]);
    assert_eq!(alerts_of("many-transactions", &transactions, &after_end), []);
}

#[test]
fn three_small_purchases_from_three_cities() {
    let three = [at(1, 0, 999, "a"), at(2, 1, 999, "b"), at(3, 2, 999, "c")];
    assert_eq!(alerts_of("small-purchases", &three, &Rules::defaults()), [(2, Some(3))]);
    let two_cities = [at(1, 0, 999, "a"), at(2, 1, 999, "b"), at(3, 2, 999, "a")];
    assert_eq!(alerts_of("small-purchases", &two_cities, &Rules::defaults()), []);
    let one_not_small = [at(1, 0, 999, "a"), at(2, 1, 1000, "b"), at(3, 2, 999, "c")];
    assert_eq!(alerts_of("small-purchases", &one_not_small, &Rules::defaults()), []);
    // The one that is not small does not hinder three others, nor is it judged.
    let four = [at(1, 0, 1, "a"), at(2, 1, 1, "b"), at(3, 2, 1000, "c"), at(4, 3, 1, "c")];
    assert_eq!(alerts_of("small-purchases", &four, &Rules::defaults()), [(3, Some(4))]);
}

#[test]
fn exactly_ten_minutes_ago_is_outside_the_interval() {
    let outside = [at(1, 0, 1, "a"), at(2, 1, 1, "b"), at(3, 10 * MINUTE, 1, "c")];
    assert_eq!(alerts_of("small-purchases", &outside, &Rules::defaults()), []);
    let inside = [at(1, 0, 1, "a"), at(2, 1, 1, "b"), at(3, 10 * MINUTE - 1, 1, "c")];
    assert_eq!(alerts_of("small-purchases", &inside, &Rules::defaults()), [(10 * MINUTE - 1, Some(3))]);
}

#[test]
fn an_alert_silences_the_rule_for_less_than_ten_minutes() {
    let mut transactions = vec![at(1, 0, 1, "a"), at(2, 0, 1, "b"), at(3, 0, 1, "c")];
    // Silent up to one millisecond before ten minutes; at ten minutes the first alert has left the interval.
    for (id, time) in [(4, 10 * MINUTE - 2), (5, 10 * MINUTE - 1), (6, 10 * MINUTE)] {
        transactions.push(at(id, time, 1, ["d", "e", "f"][id as usize - 4]));
    }
    let found = alerts_of("small-purchases", &transactions, &Rules::defaults());
    assert_eq!(found, [(0, Some(3)), (10 * MINUTE, Some(6))]);
}

#[test]
fn equal_times_are_ordered_by_transaction_id() {
    // Read in another order: id 9 is judged last, so it is the third.
    let transactions = [at(9, 0, 1, "a"), at(2, 0, 1, "b"), at(3, 0, 1, "c")];
    assert_eq!(alerts_of("small-purchases", &transactions, &Rules::defaults()), [(0, Some(9))]);
    // Numbers, not texts: 10 is after 9.
    let transactions = [at(10, 0, 1, "a"), at(9, 0, 1, "b"), at(3, 0, 1, "c")];
    assert_eq!(alerts_of("small-purchases", &transactions, &Rules::defaults()), [(0, Some(10))]);
}

#[test]
fn the_set_of_p_judges_its_whole_interval() {
    // Under the new set 15.00 is small; the purchases before its `from` count under it too.
    let transactions = [at(1, 0, 1500, "a"), at(2, 1, 1500, "b"), at(3, 2, 1500, "c")];
    let raised = rules(&[set(2, &[("\"10.00\"", "\"20.00\"")])]);
    assert_eq!(alerts_of("small-purchases", &transactions, &raised), [(2, Some(3))]);
    let later = rules(&[set(3, &[("\"10.00\"", "\"20.00\"")])]);
    assert_eq!(alerts_of("small-purchases", &transactions, &later), []);
}

#[test]
fn fewer_cities_may_be_asked_for() {
    let transactions = [at(1, 0, 1, "a"), at(2, 1, 1, "a")];
    let two = rules(&[set(-1, &[("_count\":3", "_count\":2"), ("_cities\":3", "_cities\":1")])]);
    assert_eq!(alerts_of("small-purchases", &transactions, &two), [(1, Some(2))]);
}

#[test]
fn a_degree_of_the_equator_is_111_km() {
    let (a, b) = (on_equator(1, 0, 0.0), on_equator(2, 0, 1.0));
    assert!((distance_km(&a, &b) - EARTH_KM * std::f64::consts::PI / 180.0).abs() < 1e-9);
    let antipode = Transaction { latitude: 0.0, ..on_equator(3, 0, 180.0) };
    assert!((distance_km(&a, &antipode) - EARTH_KM * std::f64::consts::PI).abs() < 1e-6);
}

#[test]
fn faster_than_900_kmh_is_impossible() {
    // One degree, 111.195 km, takes 444.78 s at 900 km/h.
    let travel = |elapsed| {
        let transactions = [on_equator(1, 0, 0.0), on_equator(2, elapsed, 1.0)];
        alerts_of("impossible-travel", &transactions, &Rules::defaults())
    };
    assert_eq!(travel(444_700), [(444_700, Some(2))]);
    assert_eq!(travel(444_900), []);
}

#[test]
fn a_journey_of_exactly_one_day_is_not_judged() {
    let slow = rules(&[set(-1, &[(":900", ":0.5")])]);
    let travel =
        |elapsed| alerts_of("impossible-travel", &[on_equator(1, 0, 0.0), on_equator(2, elapsed, 10.0)], &slow);
    assert_eq!(travel(24 * HOUR), []);
    assert_eq!(travel(24 * HOUR - 1), [(24 * HOUR - 1, Some(2))]);
}

#[test]
fn one_kilometre_is_not_travel() {
    let degrees = |km: f64| km / (EARTH_KM * std::f64::consts::PI / 180.0);
    let travel = |km| {
        let transactions = [on_equator(1, 0, 0.0), on_equator(2, 0, degrees(km))];
        alerts_of("impossible-travel", &transactions, &Rules::defaults())
    };
    assert_eq!(travel(0.999), []);
    // No time at all counts as infinite speed.
    assert_eq!(travel(1.001), [(0, Some(2))]);
}

#[test]
fn only_the_transaction_just_before_counts() {
    let far = [on_equator(1, 0, 0.0), on_equator(2, HOUR, 0.0), on_equator(3, 24 * HOUR, 90.0)];
    // 90 degrees in 23 h are 435 km/h.
    assert_eq!(alerts_of("impossible-travel", &far, &Rules::defaults()), []);
    let back = [on_equator(1, 0, 0.0), on_equator(2, 0, 90.0), on_equator(3, 0, 0.0)];
    assert_eq!(alerts_of("impossible-travel", &back, &Rules::defaults()), [(0, Some(2)), (0, Some(3))]);
}

#[test]
fn every_transaction_of_a_listed_user_while_listed() {
    let transactions = [at(1, 0, 5000, "x"), at(2, 10, 5000, "x"), at(3, 20, 5000, "x")];
    let listed = rules(&[set(10, &[("[]", "[5,1]")]), set(20, &[])]);
    assert_eq!(alerts_of("blocked-user", &transactions, &listed), [(10, Some(2))]);
}

#[test]
fn users_are_judged_apart() {
    let other = Transaction { user: 2, ..at(3, 2, 1, "c") };
    let transactions = [at(1, 0, 1, "a"), at(2, 1, 1, "b"), other];
    assert_eq!(judge(transactions.to_vec(), &Rules::defaults()), []);
}

#[test]
fn alert_lines_byte_for_byte() {
    let t = 1_767_225_600_000;
    let purchases = vec![at(30, t, 250, "a"), at(4, t + 1, 1, "b"), at(17, t + 2, 999, "c")];
    let lines: Vec<_> = judge(purchases, &Rules::defaults()).iter().map(Alert::line).collect();
    assert_eq!(
        lines,
        [
            r#"{"alert_id":"small-purchases:1:2026-01-01T00:00:00.002Z:17","rule":"small-purchases","user_id":1,"time":"2026-01-01T00:00:00.002Z","count":3,"amount":"12.50","transactions":[4,17,30]}"#
        ]
    );
    let window: Vec<_> = (0..11).map(|i| at(i, t + i as i64, 100_005, "a")).collect();
    let lines: Vec<_> = judge(window, &Rules::defaults()).iter().map(Alert::line).collect();
    assert_eq!(
        lines,
        [
            r#"{"alert_id":"many-transactions:1:2026-01-01T00:05:00.000Z","rule":"many-transactions","user_id":1,"time":"2026-01-01T00:05:00.000Z","count":11,"amount":"11000.55","transactions":[]}"#
        ]
    );
}
