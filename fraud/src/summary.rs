//! Counts of a run, kept per subtask, merged, and written as `summary.json`.

use serde::{Deserialize, Serialize};

use crate::{
    alert::{Alert, Rule},
    json_text::push_number,
};

/// Mergeable counts of lines and alerts; `lines` counts no blank ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Well-formed transactions that were in time.
    pub accepted: u64,
    /// Well-formed transactions that were late.
    pub late: u64,
    /// Lines of the input that are no transaction.
    pub malformed: u64,
    /// Lines of the rules file that are no rule set.
    pub rules_rejected: u64,
    /// Alerts by rule, in the order of [`Rule::ALL`].
    pub alerts: [u64; 4],
}

impl Tally {
    /// Lines of the input, blank ones not counted.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.accepted + self.late + self.malformed
    }

    /// Counts an alert.
    pub fn count_alert(&mut self, alert: &Alert) {
        self.alerts[alert.rule.index()] += 1;
    }

    /// Alerts of one rule.
    #[must_use]
    pub fn alerts_of(&self, rule: Rule) -> u64 {
        self.alerts[rule.index()]
    }

    /// Adds the counts of another subtask.
    pub fn merge(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.late += other.late;
        self.malformed += other.malformed;
        self.rules_rejected += other.rules_rejected;
        for (mine, theirs) in self.alerts.iter_mut().zip(other.alerts) {
            *mine += theirs;
        }
    }

    /// Writes the content of `summary.json`: one line of JSON with a newline, all four rules always present.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let counts = [
            ("{\"lines\":", self.lines()),
            (",\"accepted\":", self.accepted),
            (",\"late\":", self.late),
            (",\"malformed\":", self.malformed),
            (",\"rules_rejected\":", self.rules_rejected),
        ];
        for (key, count) in counts {
            out.extend_from_slice(key.as_bytes());
            push_number(out, u128::from(count));
        }
        out.extend_from_slice(b",\"alerts\":{");
        for rule in Rule::ALL {
            if rule.index() > 0 {
                out.push(b',');
            }
            out.push(b'"');
            out.extend_from_slice(rule.name().as_bytes());
            out.extend_from_slice(b"\":");
            push_number(out, u128::from(self.alerts_of(rule)));
        }
        out.extend_from_slice(b"}}\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_counts_are_written_with_all_rules() {
        let mut tally = Tally { accepted: 5, late: 2, malformed: 1, rules_rejected: 1, alerts: [1, 0, 0, 4] };
        tally.merge(&Tally { accepted: 10, ..Tally::default() });
        let mut out = Vec::new();
        tally.write_json(&mut out);
        assert_eq!(
            String::from_utf8(out).expect("ASCII"),
            "{\"lines\":18,\"accepted\":15,\"late\":2,\"malformed\":1,\"rules_rejected\":1,\"alerts\":\
             {\"many-transactions\":1,\"small-purchases\":0,\"impossible-travel\":0,\"blocked-user\":4}}\n"
        );
    }
}
