//! Breaks a well-formed line in one of several ways, in turn.

use super::random::Random;

/// Number of kinds of malformed lines.
pub(super) const KINDS: u64 = 10;

/// Breaks the line that is in `line`; `turn` chooses the kind.
pub(super) fn break_line(line: &mut Vec<u8>, turn: u64, random: &mut Random) {
    match turn % KINDS {
        0 => {
            // Cut off, as by a writer that died.
            let half = line.len() / 2;
            line.truncate(half);
        }
        1 => replace(line, b"\"amount\":\"", b"\"amount\":\"-"),
        2 => replace(line, b"\"user_id\":", b"\"user_id\":-"),
        3 => replace(line, b"\"latitude\":", b"\"latitude\":9"),
        4 => replace(line, b"\"city\":", b"\"town\":"),
        5 => replace(line, b"T", b" "),
        6 => replace(line, b"\"merchant\":\"", b"\"merchant\":\"\xff\xfe"),
        7 => replace(line, b"\"time\":\"2026-01-", b"\"time\":\"2026-02-3"),
        8 => replace(line, b"{\"transaction_id\":", b"{\"transaction_id\":1."),
        _ => {
            line.clear();
            line.extend_from_slice(b"ERROR terminal ");
            line.extend_from_slice(random.below(10_000).to_string().as_bytes());
            line.extend_from_slice(b" did not answer");
        }
    }
}

fn replace(line: &mut Vec<u8>, old: &[u8], new: &[u8]) {
    if let Some(at) = line.windows(old.len()).position(|window| window == old) {
        line.splice(at..at + old.len(), new.iter().copied());
    }
}
