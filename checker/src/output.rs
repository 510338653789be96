//! The output folder: which files are visible, whether they are whole lines, and their rows. Used by `main`, which
//! compares the rows with what the contract demands.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::compare::Row;
use crate::input::DeadLetter;
use crate::judge::Alert;
use crate::time;

/// Stands for any text in a dead letter's `detail`, which the contract leaves open.
const ANY: &str = "*";

/// Breaches of the rule "a visible `.jsonl` is committed and never changes; all else starts with a dot".
pub fn check_names(out: &Path) -> Result<(), String> {
    let visible = ["alerts", "dead-letters", "summary.json", "blocklist"];
    for name in names(out)? {
        if !name.starts_with('.') && !visible.contains(&name.as_str()) {
            return Err(format!("{name} is visible in {}, but is no part of the output", out.display()));
        }
    }
    Ok(())
}

/// The rows of every visible `*.jsonl` of `OUT/folder`; nothing else there may be visible.
pub fn read_rows(out: &Path, folder: &str, row: fn(&str, String) -> Row) -> Result<Vec<Row>, String> {
    let path = out.join(folder);
    let mut rows = Vec::new();
    if !path.exists() {
        return Ok(rows);
    }
    for name in names(&path)? {
        if name.starts_with('.') {
            continue;
        }
        let file = path.join(&name);
        if !name.ends_with(".jsonl") || !file.is_file() {
            return Err(format!("{folder}/{name} is visible, but is not a .jsonl file"));
        }
        let bytes = fs::read(&file).map_err(|error| format!("{folder}/{name} cannot be read: {error}"))?;
        let text = String::from_utf8(bytes).map_err(|_| format!("{folder}/{name} is not UTF-8"))?;
        if !text.is_empty() && !text.ends_with('\n') {
            return Err(format!("{folder}/{name} ends within a line"));
        }
        for (index, line) in text.lines().enumerate() {
            rows.push(row(line, format!("{folder}/{name}:{}", index + 1)));
        }
    }
    Ok(rows)
}

/// The row of an expected alert.
pub fn expected_alert(alert: &Alert) -> Row {
    let (id, time) = (alert.id(), time::format(alert.time));
    Row { order: format!("{time} {id}"), identity: id, line: alert.line(), place: String::new() }
}

/// The row of a line in `OUT/alerts`.
pub fn found_alert(line: &str, place: String) -> Row {
    let value: Value = serde_json::from_str(line).unwrap_or_default();
    let identity = value["alert_id"].as_str().unwrap_or("(not an alert)").to_string();
    let order = format!("{} {identity}", value["time"].as_str().unwrap_or_default());
    // An alert of a wrong time is to meet the expected one of its id: the id holds the time.
    let order = match identity.splitn(3, ':').nth(2).and_then(|rest| rest.get(..24)) {
        Some(time) => format!("{time} {identity}"),
        None => order,
    };
    Row { order, identity, line: line.to_string(), place }
}

/// The row of an expected dead letter.
pub fn expected_dead_letter(dead: &DeadLetter) -> Row {
    let file = Value::from(dead.file.as_str()).to_string();
    let line = format!(
        r#"{{"reason":"{}","detail":"{ANY}","file":{file},"line":{},"offset":{},"raw_base64":"{}"}}"#,
        dead.reason,
        dead.line,
        dead.offset,
        base64(&dead.raw)
    );
    dead_letter(&dead.file, dead.line, dead.reason, line, String::new())
}

/// The row of a line in `OUT/dead-letters`.
pub fn found_dead_letter(line: &str, place: String) -> Row {
    let value: Value = serde_json::from_str(line).unwrap_or_default();
    let any_detail = value["detail"].as_str().filter(|detail| !detail.is_empty()).and_then(|_| {
        let (before, rest) = line.split_once("\"detail\":\"")?;
        let (_, after) = rest.rsplit_once("\",\"file\":")?;
        Some(format!("{before}\"detail\":\"{ANY}\",\"file\":{after}"))
    });
    let (file, reason) = (value["file"].as_str().unwrap_or("?"), value["reason"].as_str().unwrap_or("?"));
    let line = any_detail.unwrap_or_else(|| line.to_string());
    dead_letter(file, value["line"].as_u64().unwrap_or(0), reason, line, place)
}

fn dead_letter(file: &str, number: u64, reason: &str, line: String, place: String) -> Row {
    // The rules file may have the name of an input file.
    let kind = if reason == "rules" { "rules " } else { "" };
    let identity = format!("{kind}{file} line {number}");
    Row { order: format!("{kind}{file} {number:020}"), identity, line, place }
}

/// The block list that the alerts demand: for each user the earliest alert, by time, then id.
pub fn expected_blocklist(alerts: &[Alert]) -> Vec<Row> {
    let mut sorted: Vec<(u64, i64, String, &str)> = alerts.iter().map(|a| (a.user, a.time, a.id(), a.rule)).collect();
    sorted.sort();
    sorted.dedup_by_key(|(user, ..)| *user);
    let row = |(user, time, id, rule): (u64, i64, String, &str)| {
        let since = time::format(time);
        let line = format!(r#"{{"user_id":{user},"rule":"{rule}","since":"{since}","alert_id":"{id}"}}"#);
        blocked(user, line, String::new())
    };
    sorted.into_iter().map(row).collect()
}

/// The rows of a dump of the table, which must be ascending by user.
pub fn found_blocklist(dump: &str) -> Result<Vec<Row>, String> {
    let mut rows: Vec<Row> = Vec::new();
    for (index, line) in dump.lines().enumerate() {
        let value: Value = serde_json::from_str(line).unwrap_or_default();
        let place = format!("blocklist:{}", index + 1);
        let Some(user) = value["user_id"].as_u64() else {
            return Err(format!("{place} has no user_id: {line}"));
        };
        let row = blocked(user, line.to_string(), place);
        if rows.last().is_some_and(|last| last.order > row.order) {
            return Err(format!("{} is not in ascending order of users: {line}", row.place));
        }
        rows.push(row);
    }
    Ok(rows)
}

fn blocked(user: u64, line: String, place: String) -> Row {
    Row { order: format!("{user:020}"), identity: format!("user {user}"), line, place }
}

/// What `millstream table OUT/blocklist --json` prints.
pub fn dump_blocklist(millstream: &Path, out: &Path) -> Result<String, String> {
    let command = format!("{} table {} --json", millstream.display(), out.join("blocklist").display());
    let run = Command::new(millstream).arg("table").arg(out.join("blocklist")).arg("--json").output();
    let run = run.map_err(|error| format!("{command} cannot be started: {error}"))?;
    if !run.status.success() {
        return Err(format!("{command} failed, {}: {}", run.status, String::from_utf8_lossy(&run.stderr).trim()));
    }
    String::from_utf8(run.stdout).map_err(|_| format!("{command} printed bytes that are not UTF-8"))
}

fn names(folder: &Path) -> Result<Vec<String>, String> {
    let unreadable = |error| format!("{} cannot be read: {error}", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        names.push(entry.map_err(unreadable)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().chain(&[0, 0]).take(3).fold(0usize, |group, byte| group << 8 | usize::from(*byte));
        for index in 0..4 {
            let digit = char::from(DIGITS[group >> (18 - 6 * index) & 63]);
            text.push(if index <= chunk.len() { digit } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_the_rfc() {
        for (plain, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0x00]), "//4A");
    }

    #[test]
    fn the_detail_of_a_dead_letter_is_free_but_must_be_there() {
        let dead = DeadLetter { file: "a\"b.jsonl".into(), line: 3, offset: 17, reason: "late", raw: b"raw".to_vec() };
        let expected = expected_dead_letter(&dead);
        let found = |detail: &str| {
            let line = format!(
                r#"{{"reason":"late","detail":"{detail}","file":"a\"b.jsonl","line":3,"offset":17,"raw_base64":"cmF3"}}"#
            );
            found_dead_letter(&line, "x".into())
        };
        for detail in ["5 s late", r#"\"file\": \\ \",\"file\":\"x"#] {
            assert_eq!(found(detail).line, expected.line);
            assert_eq!(found(detail).identity, expected.identity);
        }
        assert_ne!(found("").line, expected.line);
    }

    #[test]
    fn the_block_list_holds_the_earliest_alert_by_time_then_id() {
        let alert = |rule, user, time, judged| {
            let transactions = Vec::new();
            Alert { rule, user, time, judged: Some(judged), count: 1, amount: 0, transactions }
        };
        let rows = expected_blocklist(&[
            alert("small-purchases", 10, 5, 1),
            alert("impossible-travel", 10, 5, 1),
            alert("many-transactions", 10, 6, 1),
            alert("blocked-user", 9, 7, 12),
            alert("blocked-user", 9, 7, 9),
        ]);
        let lines: Vec<&str> = rows.iter().map(|row| row.line.as_str()).collect();
        assert_eq!(
            lines,
            [
                // Ids are texts: 12 comes before 9.
                r#"{"user_id":9,"rule":"blocked-user","since":"1970-01-01T00:00:00.007Z","alert_id":"blocked-user:9:1970-01-01T00:00:00.007Z:12"}"#,
                r#"{"user_id":10,"rule":"impossible-travel","since":"1970-01-01T00:00:00.005Z","alert_id":"impossible-travel:10:1970-01-01T00:00:00.005Z:1"}"#,
            ]
        );
    }

    #[test]
    fn a_dump_out_of_order_is_refused() {
        assert!(found_blocklist("{\"user_id\":9}\n{\"user_id\":10}\n").is_ok());
        assert!(found_blocklist("{\"user_id\":10}\n{\"user_id\":9}\n").is_err());
        assert!(found_blocklist("nonsense\n").is_err());
    }
}
