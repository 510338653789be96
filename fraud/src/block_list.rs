//! The block list: for every user with an alert, the earliest one. What the table sink keeps and `millstream table` prints.

use std::cmp::Ordering;

use millstream_runtime::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    alert::{Alert, Rule},
    json_text::{push_number, push_string, push_time},
};

/// A user's earliest alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockListEntry {
    /// The rule that gave it.
    pub rule: Rule,
    /// Its time.
    pub since: Timestamp,
    /// Its id.
    pub alert_id: String,
}

impl BlockListEntry {
    /// The entry that an alert asks for.
    #[must_use]
    pub fn of(alert: &Alert) -> Self {
        Self { rule: alert.rule, since: alert.time, alert_id: alert.alert_id() }
    }

    /// Whether this entry replaces `other`: the earlier alert wins, of one time the smaller id (as bytes). Taking the
    /// winner of any two entries in any order gives the same entry.
    #[must_use]
    pub fn wins_over(&self, other: &Self) -> bool {
        (self.since, &self.alert_id).cmp(&(other.since, &other.alert_id)) == Ordering::Less
    }

    /// Appends the entry of `user_id` as one JSON object, without a newline.
    pub fn write_json(&self, user_id: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"user_id\":");
        push_number(out, u128::from(user_id));
        out.extend_from_slice(b",\"rule\":\"");
        out.extend_from_slice(self.rule.name().as_bytes());
        out.extend_from_slice(b"\",\"since\":\"");
        push_time(out, self.since);
        out.extend_from_slice(b"\",\"alert_id\":");
        push_string(out, &self.alert_id);
        out.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(rule: Rule, since: Timestamp, transaction_id: u64) -> BlockListEntry {
        let alert = Alert {
            rule,
            user_id: 4,
            time: since,
            transaction_id: Some(transaction_id),
            count: 1,
            amount_cents: 1,
            transactions: vec![transaction_id],
        };
        BlockListEntry::of(&alert)
    }

    #[test]
    fn the_earlier_alert_wins_then_the_smaller_id() {
        let first = entry(Rule::SmallPurchases, 1, 1);
        let second = entry(Rule::BlockedUser, 2, 20);
        let third = entry(Rule::BlockedUser, 2, 3);
        assert!(first.wins_over(&second) && !second.wins_over(&first));
        assert!(second.wins_over(&third), "ids compare as text");
        assert!(!third.wins_over(&third.clone()));
    }

    #[test]
    fn an_entry_is_written_with_its_keys_in_order() {
        let mut out = Vec::new();
        entry(Rule::BlockedUser, 0, 9).write_json(4, &mut out);
        assert_eq!(
            String::from_utf8(out).expect("ASCII"),
            "{\"user_id\":4,\"rule\":\"blocked-user\",\"since\":\"1970-01-01T00:00:00.000Z\",\
             \"alert_id\":\"blocked-user:4:1970-01-01T00:00:00.000Z:9\"}"
        );
    }
}
