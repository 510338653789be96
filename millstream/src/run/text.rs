//! Numbers, sizes and times as people read them. Used by progress and summary.

use millstream_fraud::time_format::time_text;
use millstream_runtime::time::{MAX_TIMESTAMP, MIN_TIMESTAMP, Timestamp};

/// With commas between thousands.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes with the unit that fits.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1_024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

/// Cents with two digits behind the point.
pub(crate) fn amount(cents: u64) -> String {
    format!("{}.{:02}", grouped(cents / 100), cents % 100)
}

/// A watermark.
pub(crate) fn watermark(watermark: Timestamp) -> String {
    match watermark {
        MIN_TIMESTAMP => "-".to_string(),
        MAX_TIMESTAMP => "end".to_string(),
        _ => time_text(watermark),
    }
}

/// An argument of a command line, quoted if a shell would take it apart.
pub(crate) fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@+".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        return argument.to_string();
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped_and_cents_kept() {
        assert_eq!(
            ["0", "999", "1,000", "1,234,567"],
            [0, 999, 1_000, 1_234_567].map(grouped).each_ref().map(String::as_str)
        );
        assert_eq!((amount(5), amount(123_456_789)), ("0.05".to_string(), "1,234,567.89".to_string()));
        assert_eq!((size(1_023), size(1_536)), ("1023 B".to_string(), "1.5 KiB".to_string()));
    }

    #[test]
    fn arguments_survive_a_shell() {
        assert_eq!((quoted("out/x"), quoted("it's me")), ("out/x".to_string(), r"'it'\''s me'".to_string()));
        assert_eq!(quoted(""), "''");
    }
}
