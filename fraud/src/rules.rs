//! Rule sets: one line of the rules file each, and the book that says which set judges a time. Broadcast to every
//! subtask of the job.

use millstream_runtime::time::{MIN_TIMESTAMP, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    json_text::{push_amount, push_number, push_time},
    parse::{self, Malformed},
};

/// The numbers of all rules, in force from a time on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleSet {
    /// First time that it judges.
    pub from: Timestamp,
    /// A window with more transactions gives an alert.
    pub max_transactions: u64,
    /// A purchase below this amount (in cents) is small.
    pub small_amount_cents: u64,
    /// So many small purchases are needed at least.
    pub small_count: u64,
    /// From so many cities at least.
    pub small_cities: u64,
    /// A faster journey (in km/h) is impossible.
    pub max_speed_kmh: f64,
    /// Users whose every transaction gives an alert; ascending, each once.
    pub blocked_users: Vec<u64>,
}

impl Default for RuleSet {
    fn default() -> Self {
        Self {
            from: MIN_TIMESTAMP,
            max_transactions: 10,
            small_amount_cents: 1_000,
            small_count: 3,
            small_cities: 3,
            max_speed_kmh: 900.0,
            blocked_users: Vec::new(),
        }
    }
}

const KEYS: [&str; 7] =
    ["from", "max_transactions", "small_amount", "small_count", "small_cities", "max_speed_kmh", "blocked_users"];

impl RuleSet {
    /// Reads a line of the rules file (without its newline): one JSON object with exactly the seven keys, because a
    /// misspelt one would otherwise be a rule that silently never applies.
    ///
    /// # Errors
    /// When the line is not a whole rule set; the error says why.
    pub fn parse(line: &[u8]) -> Result<Self, Malformed> {
        let object = parse::parse_object(line)?;
        if let Some(unknown) = object.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(Malformed::new(format!("unknown key {unknown:?}; a rule set has {}", KEYS.join(", "))));
        }
        let speed = parse::required(&object, "max_speed_kmh")?;
        let blocked = parse::required(&object, "blocked_users")?;
        Ok(Self {
            from: parse::time(&object, "from")?,
            max_transactions: parse::integer(&object, "max_transactions")?,
            small_amount_cents: parse::amount(&object, "small_amount")?,
            small_count: parse::integer(&object, "small_count")?,
            small_cities: parse::integer(&object, "small_cities")?,
            max_speed_kmh: speed
                .as_f64()
                .filter(|speed| *speed >= 0.0)
                .ok_or_else(|| parse::wrong("max_speed_kmh", "a number that is not negative", speed))?,
            blocked_users: users(blocked)
                .ok_or_else(|| parse::wrong("blocked_users", "an array of user ids (integers from 0)", blocked))?,
        })
    }

    /// Whether a user is blocked.
    #[must_use]
    #[inline]
    pub fn is_blocked(&self, user_id: u64) -> bool {
        self.blocked_users.binary_search(&user_id).is_ok()
    }

    /// Appends the rule set as a line of the rules file, without the newline.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"from\":\"");
        push_time(out, self.from);
        out.extend_from_slice(b"\",\"max_transactions\":");
        push_number(out, u128::from(self.max_transactions));
        out.extend_from_slice(b",\"small_amount\":\"");
        push_amount(out, u128::from(self.small_amount_cents));
        out.extend_from_slice(b"\",\"small_count\":");
        push_number(out, u128::from(self.small_count));
        out.extend_from_slice(b",\"small_cities\":");
        push_number(out, u128::from(self.small_cities));
        out.extend_from_slice(b",\"max_speed_kmh\":");
        out.extend_from_slice(self.max_speed_kmh.to_string().as_bytes());
        out.extend_from_slice(b",\"blocked_users\":[");
        for (position, user) in self.blocked_users.iter().enumerate() {
            if position > 0 {
                out.push(b',');
            }
            push_number(out, u128::from(*user));
        }
        out.extend_from_slice(b"]}");
    }
}

fn users(value: &Value) -> Option<Vec<u64>> {
    let mut users = value.as_array()?.iter().map(Value::as_u64).collect::<Option<Vec<_>>>()?;
    users.sort_unstable();
    users.dedup();
    Some(users)
}

/// All rule sets, by the time from which they judge. Without any, or before the first, the defaults judge.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RuleBook {
    before: RuleSet,
    /// Ascending by `from`, each once.
    sets: Vec<RuleSet>,
}

impl RuleBook {
    /// Adds a set, in the order of the lines: of sets with equal `from` the last added stays.
    pub fn add(&mut self, set: RuleSet) {
        match self.sets.binary_search_by_key(&set.from, |present| present.from) {
            Ok(at) => self.sets[at] = set,
            Err(at) => self.sets.insert(at, set),
        }
    }

    /// The set in force at a time: the one with the greatest `from` that is not after it.
    #[must_use]
    #[inline]
    pub fn rules_at(&self, time: Timestamp) -> &RuleSet {
        match self.sets.partition_point(|set| set.from <= time) {
            0 => &self.before,
            after => &self.sets[after - 1],
        }
    }

    /// The sets that were added, by time.
    #[must_use]
    pub fn sets(&self) -> &[RuleSet] {
        &self.sets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "{\"from\":\"1970-01-01T00:00:01.000Z\",\"max_transactions\":10,\"small_amount\":\"10.00\",\
        \"small_count\":3,\"small_cities\":3,\"max_speed_kmh\":900,\"blocked_users\":[7,3,7]}";

    #[test]
    fn a_whole_rule_set_is_read_and_written() {
        let set = RuleSet::parse(LINE.as_bytes()).expect("well-formed");
        assert_eq!(set, RuleSet { from: 1_000, blocked_users: vec![3, 7], ..RuleSet::default() });
        assert!(set.is_blocked(7) && set.is_blocked(3) && !set.is_blocked(5));
        let mut out = Vec::new();
        set.write_json(&mut out);
        assert_eq!(String::from_utf8(out).expect("ASCII"), LINE.replace("[7,3,7]", "[3,7]"));
    }

    #[test]
    fn a_line_that_is_no_whole_rule_set_says_why() {
        for (old, new, word) in [
            ("\"from\"", "\"form\"", "form"),
            ("\"small_count\":3,", "", "small_count is missing"),
            ("\"10.00\"", "10.00", "small_amount"),
            (":900", ":-1", "max_speed_kmh"),
            (":900", ":\"900\"", "max_speed_kmh"),
            ("[7,3,7]", "[7,-3]", "blocked_users"),
            ("[7,3,7]", "[7.0]", "blocked_users"),
            ("[7,3,7]", "7", "blocked_users"),
            ("\"small_cities\":3", "\"small_cities\":3.0", "small_cities"),
            ("01.000Z", "01Z", "from"),
            ("]}", "]", "JSON"),
        ] {
            let error = RuleSet::parse(LINE.replace(old, new).as_bytes()).expect_err(new);
            assert!(error.detail.contains(word), "{new}: {error}");
        }
    }

    #[test]
    fn the_greatest_from_not_after_a_time_judges_it() {
        let set = |from, max_transactions| RuleSet { from, max_transactions, ..RuleSet::default() };
        let mut book = RuleBook::default();
        for (from, max) in [(100, 1), (50, 2), (100, 3), (200, 4)] {
            book.add(set(from, max));
        }
        for (time, max) in [(-5, 10), (49, 10), (50, 2), (99, 2), (100, 3), (199, 3), (200, 4), (i64::MAX, 4)] {
            assert_eq!(book.rules_at(time).max_transactions, max, "at {time}");
        }
    }
}
