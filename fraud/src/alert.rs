//! An alert: what a rule says about a user at a time, and its exact JSON line. Made by [`crate::judge`].

use millstream_runtime::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::json_text::{push_amount, push_number, push_time};

/// The four rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Rule {
    /// Too many transactions in a window.
    ManyTransactions,
    /// Several small purchases in several cities.
    SmallPurchases,
    /// Two transactions too far apart for the time between them.
    ImpossibleTravel,
    /// A transaction of a blocked user.
    BlockedUser,
}

impl Rule {
    /// All rules in the order of the summary.
    pub const ALL: [Self; 4] =
        [Self::ManyTransactions, Self::SmallPurchases, Self::ImpossibleTravel, Self::BlockedUser];

    /// The name in every output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ManyTransactions => "many-transactions",
            Self::SmallPurchases => "small-purchases",
            Self::ImpossibleTravel => "impossible-travel",
            Self::BlockedUser => "blocked-user",
        }
    }

    /// Position in [`Rule::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::ManyTransactions => 0,
            Self::SmallPurchases => 1,
            Self::ImpossibleTravel => 2,
            Self::BlockedUser => 3,
        }
    }

    /// The rule of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.name() == name)
    }
}

/// One alert.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Alert {
    /// Which rule gave it.
    pub rule: Rule,
    /// Whom it is about.
    pub user_id: u64,
    /// The end of the window, or the time of the judged transaction.
    pub time: Timestamp,
    /// The judged transaction; none for a window.
    pub transaction_id: Option<u64>,
    /// How many transactions it is about.
    pub count: u64,
    /// The sum of their amounts in cents.
    pub amount_cents: u128,
    /// Their ids, ascending; empty for a window.
    pub transactions: Vec<u64>,
}

impl Alert {
    /// The unique id: rule, user, time and (except for windows) the judged transaction, separated by colons.
    #[must_use]
    pub fn alert_id(&self) -> String {
        let mut id = Vec::with_capacity(80);
        self.push_id(&mut id);
        String::from_utf8(id).expect("an id is ASCII")
    }

    fn push_id(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.rule.name().as_bytes());
        out.push(b':');
        push_number(out, u128::from(self.user_id));
        out.push(b':');
        push_time(out, self.time);
        if let Some(transaction_id) = self.transaction_id {
            out.push(b':');
            push_number(out, u128::from(transaction_id));
        }
    }

    /// Appends the alert as one JSON object, without a newline. No string in it needs an escape.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"alert_id\":\"");
        self.push_id(out);
        out.extend_from_slice(b"\",\"rule\":\"");
        out.extend_from_slice(self.rule.name().as_bytes());
        out.extend_from_slice(b"\",\"user_id\":");
        push_number(out, u128::from(self.user_id));
        out.extend_from_slice(b",\"time\":\"");
        push_time(out, self.time);
        out.extend_from_slice(b"\",\"count\":");
        push_number(out, u128::from(self.count));
        out.extend_from_slice(b",\"amount\":\"");
        push_amount(out, self.amount_cents);
        out.extend_from_slice(b"\",\"transactions\":[");
        for (position, id) in self.transactions.iter().enumerate() {
            if position > 0 {
                out.push(b',');
            }
            push_number(out, u128::from(*id));
        }
        out.extend_from_slice(b"]}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(alert: &Alert) -> String {
        let mut out = Vec::new();
        alert.write_json(&mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn a_journey_is_written_with_its_transaction_in_the_id() {
        let alert = Alert {
            rule: Rule::ImpossibleTravel,
            user_id: 42,
            time: 1_767_225_600_000,
            transaction_id: Some(7),
            count: 2,
            amount_cents: 1_005,
            transactions: vec![3, 7],
        };
        assert_eq!(
            line(&alert),
            "{\"alert_id\":\"impossible-travel:42:2026-01-01T00:00:00.000Z:7\",\"rule\":\"impossible-travel\",\
             \"user_id\":42,\"time\":\"2026-01-01T00:00:00.000Z\",\"count\":2,\"amount\":\"10.05\",\"transactions\":[3,7]}"
        );
        assert_eq!(alert.alert_id(), "impossible-travel:42:2026-01-01T00:00:00.000Z:7");
    }

    #[test]
    fn a_window_has_no_transactions() {
        let alert = Alert {
            rule: Rule::ManyTransactions,
            user_id: u64::MAX,
            time: 300_000,
            transaction_id: None,
            count: 11,
            amount_cents: 5,
            transactions: Vec::new(),
        };
        assert_eq!(
            line(&alert),
            "{\"alert_id\":\"many-transactions:18446744073709551615:1970-01-01T00:05:00.000Z\",\
             \"rule\":\"many-transactions\",\"user_id\":18446744073709551615,\"time\":\"1970-01-01T00:05:00.000Z\",\
             \"count\":11,\"amount\":\"0.05\",\"transactions\":[]}"
        );
    }

    #[test]
    fn names_are_read_back() {
        for (index, rule) in Rule::ALL.into_iter().enumerate() {
            assert_eq!(Rule::from_name(rule.name()), Some(rule));
            assert_eq!(rule.index(), index);
        }
    }
}
