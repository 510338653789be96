//! The rules file: JSON lines, each a whole rule set, and which set judges a time. Used by `judge`.

use serde_json::Value;

use crate::input::{DeadLetter, cents, lines};
use crate::time;

/// One rule set.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleSet {
    /// In force from here on, milliseconds since the epoch.
    pub from: i64,
    /// More than these in a window are an alert.
    pub max_transactions: u64,
    /// Below it a purchase is small, cents.
    pub small_amount: u64,
    /// As many small purchases are an alert.
    pub small_count: u64,
    /// From as many cities.
    pub small_cities: u64,
    /// Faster is impossible, km/h.
    pub max_speed_kmh: f64,
    /// Ascending.
    pub blocked_users: Vec<u64>,
}

/// All accepted sets, and the rejected lines.
#[derive(Debug)]
pub struct Rules {
    before: RuleSet,
    sets: Vec<RuleSet>,
    /// Bad lines of the rules file.
    pub dead: Vec<DeadLetter>,
}

impl Rules {
    /// Without a rules file.
    pub fn defaults() -> Self {
        let before = RuleSet {
            from: i64::MIN,
            max_transactions: 10,
            small_amount: 1000,
            small_count: 3,
            small_cities: 3,
            max_speed_kmh: 900.0,
            blocked_users: Vec::new(),
        };
        Self { before, sets: Vec::new(), dead: Vec::new() }
    }

    /// Reads the bytes of the file called `name`.
    pub fn read(name: &str, bytes: &[u8]) -> Self {
        let mut rules = Self::defaults();
        for line in lines(bytes) {
            match parse(line.raw) {
                Some(set) => rules.sets.push(set),
                None => {
                    let (file, raw) = (name.to_string(), line.raw.to_vec());
                    rules.dead.push(DeadLetter { file, line: line.number, offset: line.offset, reason: "rules", raw });
                }
            }
        }
        // Stable: of equal ones the last line stays last.
        rules.sets.sort_by_key(|set| set.from);
        rules
    }

    /// The set with the greatest `from` not after the time; of equal ones the last line.
    pub fn at(&self, time: i64) -> &RuleSet {
        self.sets.iter().rev().find(|set| set.from <= time).unwrap_or(&self.before)
    }
}

const KEYS: [&str; 7] =
    ["from", "max_transactions", "small_amount", "small_count", "small_cities", "max_speed_kmh", "blocked_users"];

fn parse(raw: &[u8]) -> Option<RuleSet> {
    let value: Value = serde_json::from_str(std::str::from_utf8(raw).ok()?).ok()?;
    let object = value.as_object()?;
    // Unlike in the input, an unknown key is an error: a misspelt rule must not silently never apply.
    if object.keys().any(|key| !KEYS.contains(&key.as_str())) {
        return None;
    }
    let count = |key: &str| object.get(key)?.as_u64();
    let mut blocked_users = Vec::new();
    for user in object.get("blocked_users")?.as_array()? {
        blocked_users.push(user.as_u64()?);
    }
    blocked_users.sort_unstable();
    Some(RuleSet {
        from: time::parse(object.get("from")?.as_str()?)?,
        max_transactions: count("max_transactions")?,
        small_amount: cents(object.get("small_amount")?.as_str()?)?,
        small_count: count("small_count")?,
        small_cities: count("small_cities")?,
        max_speed_kmh: object.get("max_speed_kmh")?.as_f64().filter(|speed| *speed >= 0.0)?,
        blocked_users,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(from: &str, max: u64) -> String {
        format!(
            r#"{{"from":"{from}","max_transactions":{max},"small_amount":"10.00","small_count":3,"small_cities":3,"max_speed_kmh":900,"blocked_users":[9,7]}}"#
        )
    }

    const T0: &str = "2026-01-01T00:00:00.000Z";
    const T1: &str = "2026-01-02T00:00:00.000Z";

    #[test]
    fn defaults_judge_before_the_first_from() {
        let rules = Rules::read("rules.jsonl", set(T0, 5).as_bytes());
        let t0 = time::parse(T0).expect("a time");
        assert_eq!(rules.at(t0 - 1).max_transactions, 10);
        assert!(rules.at(t0 - 1).blocked_users.is_empty());
        assert_eq!(rules.at(t0).max_transactions, 5);
        assert_eq!(rules.at(t0).blocked_users, [7, 9]);
    }

    #[test]
    fn the_greatest_from_wins_whatever_the_order_of_lines() {
        let rules = Rules::read("r", format!("{}\n{}\n", set(T1, 6), set(T0, 5)).as_bytes());
        let (t0, t1) = (time::parse(T0).expect("a time"), time::parse(T1).expect("a time"));
        assert_eq!(rules.at(t1).max_transactions, 6);
        assert_eq!(rules.at(t1 - 1).max_transactions, 5);
        assert_eq!(rules.at(t0).max_transactions, 5);
    }

    #[test]
    fn of_equal_froms_the_last_line_wins() {
        let text = format!("{}\n{}\n{}\n", set(T0, 5), set(T1, 1), set(T0, 4));
        let rules = Rules::read("r", text.as_bytes());
        assert_eq!(rules.at(time::parse(T0).expect("a time")).max_transactions, 4);
    }

    #[test]
    fn a_bad_line_is_a_dead_letter_and_the_rules_in_force_stay() {
        let bad = set(T1, 1).replace(",\"small_cities\":3", "");
        let rules = Rules::read("rules.jsonl", format!("{}\n{bad}", set(T0, 5)).as_bytes());
        assert_eq!(rules.at(i64::MAX).max_transactions, 5);
        assert_eq!(rules.dead.len(), 1);
        let dead = &rules.dead[0];
        assert_eq!((dead.reason, dead.line, dead.file.as_str()), ("rules", 2, "rules.jsonl"));
        assert_eq!(dead.offset, set(T0, 5).len() as u64 + 1);
    }

    #[test]
    fn wrong_types_are_bad_lines() {
        for (from, to) in [
            ("\"10.00\"", "10"),
            ("[9,7]", "[\"7\"]"),
            ("[9,7]", "7"),
            (":900", ":\"900\""),
            (":900", ":-1"),
            ("_count\":3", "_count\":-3"),
            ("\"2026-01-01T00:00:00.000Z\"", "0"),
            ("{", "{\"unknown\":1,"),
        ] {
            assert_eq!(parse(set(T0, 5).replace(from, to).as_bytes()), None, "{to}");
        }
    }
}
