//! What the lines of the input and of the rules file become. Lateness is decided here, per file, so that it depends on
//! the input only.

use millstream_connectors::file::source::{Line, LineFormat};
use millstream_fraud::dead_letter::{DeadLetter, Reason};
use millstream_fraud::parse::parse_transaction;
use millstream_fraud::rules::RuleSet;
use millstream_fraud::time_format::format_time;
use millstream_fraud::transaction::Transaction;
use millstream_runtime::time::{MIN_TIMESTAMP, Span, Timestamp, seconds};
use serde::{Deserialize, Serialize};

/// How far the event times of a file may go back.
pub(super) const OUT_OF_ORDER: Span = seconds(5);

/// A line of the input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Ingested {
    /// Well-formed and in time.
    Transaction(Transaction),
    /// Anything else. Boxed: letters are rare, and rows are as large as the largest variant.
    DeadLetter(Box<DeadLetter>),
}

impl Ingested {
    /// Event time; a dead letter has none.
    pub fn time(&self) -> Timestamp {
        match self {
            Self::Transaction(transaction) => transaction.time,
            Self::DeadLetter(_) => MIN_TIMESTAMP,
        }
    }
}

/// Lines of the input folder.
#[derive(Clone, Copy, Debug)]
pub(super) struct TransactionLines;

/// How far a file has come in event time.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct FileTime {
    /// The greatest time of its well-formed lines so far, late ones included.
    greatest: Option<Timestamp>,
}

impl FileTime {
    /// A transaction at or before this is late.
    fn late_until(&self, floor: Timestamp) -> Timestamp {
        let own = self.greatest.map_or(MIN_TIMESTAMP, |greatest| greatest - OUT_OF_ORDER.0 - 1);
        own.max(floor)
    }
}

impl LineFormat for TransactionLines {
    type Record = Ingested;
    type SplitState = FileTime;

    #[inline]
    fn decode(&self, state: &mut FileTime, line: Line<'_>, out: &mut Vec<Ingested>) {
        match parse_transaction(line.bytes) {
            Ok(transaction) => {
                let late_until = state.late_until(line.floor);
                if state.greatest.is_none_or(|greatest| transaction.time > greatest) {
                    state.greatest = Some(transaction.time);
                }
                if transaction.time > late_until {
                    out.push(Ingested::Transaction(transaction));
                } else {
                    out.push(Ingested::DeadLetter(late(line, transaction.time, late_until)));
                }
            }
            Err(malformed) => {
                let letter = letter(Reason::Malformed, malformed.detail, line);
                out.push(Ingested::DeadLetter(letter));
            }
        }
    }
}

#[cold]
fn late(line: Line<'_>, time: Timestamp, late_until: Timestamp) -> Box<DeadLetter> {
    let text = |time| String::from_utf8_lossy(&format_time(time)).into_owned();
    let detail = format!("time {} is not after {}, up to which event time had come", text(time), text(late_until));
    letter(Reason::Late, detail, line)
}

#[cold]
fn letter(reason: Reason, detail: String, line: Line<'_>) -> Box<DeadLetter> {
    Box::new(DeadLetter::new(reason, detail, line.file, line.number, line.offset, line.bytes))
}

/// A line of the rules file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum RuleLine {
    /// A whole rule set.
    Set(RuleSet),
    /// Anything else.
    DeadLetter(Box<DeadLetter>),
}

/// Lines of the rules file.
#[derive(Clone, Copy, Debug)]
pub(super) struct RuleLines;

impl LineFormat for RuleLines {
    type Record = RuleLine;
    type SplitState = ();

    fn decode(&self, _state: &mut (), line: Line<'_>, out: &mut Vec<RuleLine>) {
        out.push(match RuleSet::parse(line.bytes) {
            Ok(set) => RuleLine::Set(set),
            Err(malformed) => RuleLine::DeadLetter(letter(Reason::Rules, malformed.detail, line)),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(floor: Timestamp, times: &[&str]) -> Vec<Ingested> {
        let (mut state, mut out) = (FileTime::default(), Vec::new());
        for (index, time) in times.iter().enumerate() {
            let text = format!(
                "{{\"transaction_id\":{index},\"user_id\":1,\"time\":\"2026-01-01T00:00:{time}Z\",\"amount\":\"1.00\",\
                 \"merchant\":\"m\",\"city\":\"Oslo\",\"latitude\":59.9,\"longitude\":10.7}}"
            );
            let number = index as u64 + 1;
            let line = Line { file: "a.jsonl", number, offset: 10 * index as u64, bytes: text.as_bytes(), floor };
            TransactionLines.decode(&mut state, line, &mut out);
        }
        out
    }

    fn late(records: &[Ingested]) -> Vec<bool> {
        records
            .iter()
            .map(|record| matches!(record, Ingested::DeadLetter(letter) if letter.reason == Reason::Late))
            .collect()
    }

    #[test]
    fn a_line_is_late_by_the_earlier_lines_of_its_file() {
        let records =
            decode(MIN_TIMESTAMP, &["10.000", "05.000", "04.999", "12.000", "06.999", "07.000", "bad", "06.999"]);
        assert_eq!(late(&records), [false, false, true, false, true, false, false, true]);
        let Ingested::DeadLetter(letter) = &records[2] else { panic!("late") };
        assert_eq!((letter.line, letter.offset, letter.file.as_str()), (3, 20, "a.jsonl"));
        assert!(letter.detail.contains("00:00:04.999Z"), "{}", letter.detail);
        assert!(matches!(&records[6], Ingested::DeadLetter(letter) if letter.reason == Reason::Malformed));
        assert_eq!(records[6].time(), MIN_TIMESTAMP);
    }

    #[test]
    fn a_file_found_later_is_late_by_what_the_job_had_reached() {
        let reached = millstream_fraud::generate::SAMPLE_START + 8_000;
        assert_eq!(late(&decode(reached, &["08.000", "08.001", "20.000", "14.999"])), [true, false, false, true]);
    }
}
