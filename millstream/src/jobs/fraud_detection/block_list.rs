//! The block list as a table: a user's entry is that of the user's earliest alert, whichever order alerts come in.

use millstream_connectors::table::Upsert;
use millstream_fraud::alert::Alert;
use millstream_fraud::block_list::BlockListEntry;
use serde::Deserialize;

/// What an alert does to the table. Keys are in the order of user ids, values are the lines that `millstream table`
/// prints.
pub(super) fn upsert(alert: &Alert) -> Upsert {
    let mut value = Vec::new();
    BlockListEntry::of(alert).write_json(alert.user_id, &mut value);
    Upsert { key: alert.user_id.to_be_bytes().to_vec(), value }
}

/// What decides between two entries. Written times compare as the times themselves: all have the same length.
#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
struct Precedence {
    since: String,
    alert_id: String,
}

fn precedence(entry: &[u8]) -> Option<Precedence> {
    serde_json::from_slice(entry).ok()
}

/// Keeps the earlier alert, of one time that with the smaller id.
pub(super) fn merge(present: Option<&[u8]>, new: &[u8]) -> Option<Vec<u8>> {
    match present.and_then(precedence) {
        Some(present) if precedence(new).is_none_or(|new| present <= new) => None,
        _ => Some(new.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_fraud::alert::Rule;

    fn entry(time: i64, transaction_id: u64) -> Vec<u8> {
        let alert = Alert {
            rule: Rule::BlockedUser,
            user_id: 258,
            time,
            transaction_id: Some(transaction_id),
            count: 1,
            amount_cents: 1,
            transactions: vec![transaction_id],
        };
        let upsert = upsert(&alert);
        assert_eq!(upsert.key, [0, 0, 0, 0, 0, 0, 1, 2]);
        upsert.value
    }

    #[test]
    fn the_earliest_alert_stays_in_any_order() {
        let (first, second, third) = (entry(1, 9), entry(2, 20), entry(2, 3));
        assert_eq!(merge(None, &second), Some(second.clone()));
        assert_eq!(merge(Some(&second), &first), Some(first.clone()));
        assert_eq!(merge(Some(&first), &second), None);
        assert_eq!(merge(Some(&third), &second), Some(second.clone()), "ids compare as text");
        assert_eq!(merge(Some(&second), &second), None);
    }
}
