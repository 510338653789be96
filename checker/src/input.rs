//! The input folder as the contract reads it: lines, their validity and their lateness. A line ends up as an accepted
//! transaction, a dead letter, or (blank) nowhere. Used by `main`; `lines` also serves the rules file.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::time;

/// A line is late from this far behind the greatest earlier time of its file, in milliseconds.
const LATE_MS: i64 = 5_000 + 1;

/// What the rules see of an accepted line.
#[derive(Clone, Debug, PartialEq)]
pub struct Transaction {
    /// Unique.
    pub id: u64,
    /// Whose card.
    pub user: u64,
    /// Milliseconds since the epoch.
    pub time: i64,
    /// Cents.
    pub amount: u64,
    /// Where.
    pub city: Box<str>,
    /// Degrees.
    pub latitude: f64,
    /// Degrees.
    pub longitude: f64,
}

/// A rejected line; what stands in its `detail` is not part of the contract.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeadLetter {
    /// Name without folder.
    pub file: String,
    /// From 1.
    pub line: u64,
    /// First byte of the line in the uncompressed file.
    pub offset: u64,
    /// `malformed`, `late` or `rules`.
    pub reason: &'static str,
    /// Without the newline.
    pub raw: Vec<u8>,
}

/// All that was read from the input folder.
#[derive(Debug, Default)]
pub struct Input {
    /// In order of reading.
    pub accepted: Vec<Transaction>,
    /// In order of reading.
    pub dead: Vec<DeadLetter>,
    /// How many files.
    pub files: usize,
}

/// One line that is not blank.
pub struct Line<'a> {
    /// From 1, blank lines counted.
    pub number: u64,
    /// First byte.
    pub offset: u64,
    /// Without the newline.
    pub raw: &'a [u8],
}

/// The lines of a file that are not blank; the last one counts without a newline too.
pub fn lines(bytes: &[u8]) -> impl Iterator<Item = Line<'_>> {
    let mut offset = 0;
    bytes.split(|byte| *byte == b'\n').enumerate().filter_map(move |(index, raw)| {
        let line = Line { number: index as u64 + 1, offset, raw };
        offset += raw.len() as u64 + 1;
        let blank = raw.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'));
        if blank { None } else { Some(line) }
    })
}

/// Reads every `*.jsonl` and `*.jsonl.gz` directly in the folder, in order of name.
pub fn read_folder(folder: &Path) -> Result<Input, String> {
    let mut input = Input::default();
    for path in files(folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        read_file(&name, &contents(&path)?, &mut input);
        input.files += 1;
    }
    Ok(input)
}

/// Judges the lines of one file.
pub fn read_file(name: &str, bytes: &[u8], input: &mut Input) {
    let mut greatest: Option<i64> = None;
    for line in lines(bytes) {
        let reason = match parse(line.raw) {
            None => "malformed",
            Some(transaction) => {
                let late = greatest.is_some_and(|greatest| transaction.time <= greatest - LATE_MS);
                greatest = Some(greatest.map_or(transaction.time, |greatest| greatest.max(transaction.time)));
                if !late {
                    input.accepted.push(transaction);
                    continue;
                }
                "late"
            }
        };
        let (file, raw) = (name.to_string(), line.raw.to_vec());
        input.dead.push(DeadLetter { file, line: line.number, offset: line.offset, reason, raw });
    }
}

/// A well-formed line, or nothing.
pub fn parse(raw: &[u8]) -> Option<Transaction> {
    // The whole line, also strings under unknown keys, which a JSON parser may skip unread.
    let text = std::str::from_utf8(raw).ok()?;
    let value: Value = serde_json::from_str(text).ok()?;
    let object = value.as_object()?;
    object.get("merchant")?.as_str()?;
    let within = |key: &str, limit: f64| object.get(key)?.as_f64().filter(|degrees| degrees.abs() <= limit);
    Some(Transaction {
        id: object.get("transaction_id")?.as_u64()?,
        user: object.get("user_id")?.as_u64()?,
        time: time::parse(object.get("time")?.as_str()?)?,
        amount: cents(object.get("amount")?.as_str()?)?,
        city: object.get("city")?.as_str()?.into(),
        latitude: within("latitude", 90.0)?,
        longitude: within("longitude", 180.0)?,
    })
}

/// Exact cents of `[0-9]{1,12}(\.[0-9]{1,2})?`.
pub fn cents(text: &str) -> Option<u64> {
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) if (1..=2).contains(&fraction.len()) => (whole, fraction),
        Some(_) => return None,
        None => (text, ""),
    };
    if !(1..=12).contains(&whole.len()) || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    format!("{whole}{fraction:0<2}").parse().ok()
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let unreadable = |error| format!("the input folder {} cannot be read: {error}", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let wanted = name.ends_with(".jsonl") || name.ends_with(".jsonl.gz");
        if wanted && !name.starts_with('.') && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The uncompressed bytes of a file.
fn contents(path: &Path) -> Result<Vec<u8>, String> {
    let failed = |error| format!("{} cannot be read: {error}", path.display());
    if path.extension().is_none_or(|extension| extension != "gz") {
        return fs::read(path).map_err(failed);
    }
    // A child process instead of a library, so that nothing of the engine's decompression is shared.
    let mut child = Command::new("gzip")
        .arg("-dc")
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("gzip cannot be started: {error}; install it"))?;
    let mut bytes = Vec::new();
    child.stdout.take().expect("the child's output is piped").read_to_end(&mut bytes).map_err(failed)?;
    let status = child.wait().map_err(failed)?;
    if status.success() { Ok(bytes) } else { Err(format!("gzip -dc {} failed: {status}", path.display())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: u64, time: &str) -> String {
        format!(
            r#"{{"transaction_id":{id},"user_id":42,"time":"{time}","amount":"9.99","merchant":"m17","city":"Lisbon","latitude":38.7223,"longitude":-9.1393}}"#
        )
    }

    fn read(text: &[u8]) -> Input {
        let mut input = Input::default();
        read_file("a.jsonl", text, &mut input);
        input
    }

    const GOOD: &str = r#"{"transaction_id":1,"user_id":42,"time":"2026-01-01T00:00:00.000Z","amount":"9.99","merchant":"m17","city":"Lisbon","latitude":38.7223,"longitude":-9.1393}"#;

    #[test]
    fn the_example_of_the_contract_is_well_formed() {
        let transaction = parse(GOOD.as_bytes()).expect("well formed");
        assert_eq!((transaction.id, transaction.user, transaction.amount), (1, 42, 999));
        assert_eq!((transaction.latitude, transaction.longitude), (38.7223, -9.1393));
    }

    #[test]
    fn unknown_keys_whole_degrees_and_surrounding_blanks_are_well_formed() {
        assert!(parse(GOOD.replace("\"user_id\"", "\"x\":[{}],\"user_id\"").as_bytes()).is_some());
        assert!(parse(GOOD.replace("38.7223", "-90").as_bytes()).is_some());
        assert!(parse(GOOD.replace("-9.1393", "180.0").as_bytes()).is_some());
        assert!(parse(GOOD.replace(":42", ":18446744073709551615").as_bytes()).is_some());
        assert!(parse(format!(" {GOOD}\r").as_bytes()).is_some());
    }

    #[test]
    fn everything_else_is_malformed() {
        let edits = [
            (":42", ":-1"),
            (":42", ":18446744073709551616"),
            (":42", ":42.0"),
            (":42", ":\"42\""),
            ("\"user_id\":42,", ""),
            ("\"merchant\":\"m17\",", ""),
            ("\"m17\"", "17"),
            ("\"9.99\"", "9.99"),
            ("\"9.99\"", "\"9.999\""),
            ("\"9.99\"", "\"-9.99\""),
            ("\"Lisbon\"", "null"),
            ("38.7223", "90.0001"),
            ("-9.1393", "-180.1"),
            ("38.7223", "\"38.7223\""),
            ("38.7223", "NaN"),
            ("00:00.000Z", "00:00Z"),
            ("}", ""),
            ("}", "} {}"),
        ];
        for (from, to) in edits {
            let bad = GOOD.replace(from, to);
            assert_ne!(bad, GOOD);
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(parse(br#"[1,42,"2026-01-01T00:00:00.000Z","9.99","m17","Lisbon",38.7,-9.1]"#), None);
        assert_eq!(parse(b"7"), None);
    }

    #[test]
    fn invalid_utf8_is_malformed_also_under_an_unknown_key() {
        let mut bad = GOOD.replace("{\"tr", "{\"x\":\"?\",\"tr").into_bytes();
        assert!(parse(&bad).is_some());
        let at = bad.iter().position(|byte| *byte == b'?').expect("the mark");
        bad[at] = 0xff;
        assert_eq!(parse(&bad), None);
    }

    #[test]
    fn amounts_are_exact_cents() {
        assert_eq!(cents("0"), Some(0));
        assert_eq!(cents("7.5"), Some(750));
        assert_eq!(cents("10.00"), Some(1000));
        assert_eq!(cents("999999999999.99"), Some(99_999_999_999_999));
        for bad in ["", ".5", "5.", "1.234", "1000000000000", "1,00", "+1", "1e2", " 1", "1.2.3", "١"] {
            assert_eq!(cents(bad), None, "{bad}");
        }
    }

    #[test]
    fn late_from_five_seconds_and_a_millisecond_behind_the_files_greatest() {
        let text = [
            line(1, "2026-01-01T00:00:10.000Z"),
            line(2, "2026-01-01T00:00:05.000Z"), // exactly 5 s behind: accepted
            line(3, "2026-01-01T00:00:04.999Z"), // 5 s and 1 ms: late
            line(4, "2026-01-01T00:00:09.000Z"),
        ]
        .join("\n");
        let input = read(text.as_bytes());
        assert_eq!(input.accepted.iter().map(|t| t.id).collect::<Vec<_>>(), [1, 2, 4]);
        assert_eq!(input.dead.len(), 1);
        assert_eq!((input.dead[0].line, input.dead[0].reason), (3, "late"));
    }

    #[test]
    fn a_malformed_line_does_not_move_the_files_greatest_time() {
        let bad = line(1, "2026-01-01T01:00:00.000Z").replace(":42", ":\"42\"");
        let input = read(format!("{bad}\n{}\n", line(2, "2026-01-01T00:00:00.000Z")).as_bytes());
        assert_eq!(input.accepted.len(), 1);
        assert_eq!(input.dead[0].reason, "malformed");
    }

    #[test]
    fn lateness_is_per_file() {
        let mut input = Input::default();
        read_file("a.jsonl", line(1, "2026-01-01T01:00:00.000Z").as_bytes(), &mut input);
        read_file("b.jsonl", line(2, "2026-01-01T00:00:00.000Z").as_bytes(), &mut input);
        assert_eq!(input.accepted.len(), 2);
    }

    #[test]
    fn blank_lines_count_in_numbers_and_offsets_only() {
        let input = read(b"\n  \r\nbad\n\nworse");
        let dead: Vec<_> = input.dead.iter().map(|d| (d.line, d.offset, d.raw.as_slice())).collect();
        assert_eq!(dead, [(3, 5, b"bad".as_slice()), (5, 10, b"worse".as_slice())]);
    }

    #[test]
    fn a_last_line_without_newline_counts() {
        let two = format!("{}\n{}", line(1, "2026-01-01T00:00:00.000Z"), line(2, "2026-01-01T00:00:00.000Z"));
        assert_eq!(read(two.as_bytes()).accepted.len(), 2);
        assert_eq!(read(format!("{two}\n").as_bytes()).accepted.len(), 2);
        assert_eq!(read(b"").accepted.len(), 0);
    }
}
