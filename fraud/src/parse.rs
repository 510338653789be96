//! A line becomes a transaction, or malformed with a reason. The usual shape is read by a hand-written scanner; every
//! line it does not know goes to the strict path below, which alone decides what is malformed. Used by the source.

mod scanner;

use compact_str::CompactString;
use serde_json::{Map, Value};

use crate::{time_format::parse_time, transaction::Transaction};

/// Why a line is not what it must be, for a human; the detail of its dead letter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Malformed {
    /// What is wrong, and where.
    pub detail: String,
}

impl Malformed {
    pub(crate) fn new(detail: impl Into<String>) -> Self {
        Self { detail: detail.into() }
    }
}

/// Whether a line (without its newline) holds nothing but spaces, tabs and carriage returns: such lines are skipped and
/// not counted. The file source leaves out the same lines.
#[must_use]
pub fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'))
}

/// Reads a transaction from a line (without its newline).
///
/// The whole line must be one JSON object, unknown keys included, as `serde_json` reads it: of equal keys the last
/// counts, arrays and objects nest at most 127 deep, numbers fit an f64, escapes are Unicode characters.
///
/// # Errors
/// When the line is malformed; the error says why.
#[inline]
pub fn parse_transaction(line: &[u8]) -> Result<Transaction, Malformed> {
    match scanner::scan_transaction(line) {
        Some(transaction) => Ok(transaction),
        None => parse_strictly(line),
    }
}

/// Reads a transaction without the scanner. Slow, and the definition of what is well-formed.
///
/// # Errors
/// When the line is malformed; the error says why.
#[cold]
pub fn parse_strictly(line: &[u8]) -> Result<Transaction, Malformed> {
    let object = parse_object(line)?;
    Ok(Transaction {
        transaction_id: integer(&object, "transaction_id")?,
        user_id: integer(&object, "user_id")?,
        time: time(&object, "time")?,
        amount_cents: amount(&object, "amount")?,
        merchant: CompactString::from(text(&object, "merchant")?),
        city: CompactString::from(text(&object, "city")?),
        latitude: degrees(&object, "latitude", 90.0)?,
        longitude: degrees(&object, "longitude", 180.0)?,
    })
}

/// Reads a line as one JSON object. Also the first step for a line of rules.
pub(crate) fn parse_object(line: &[u8]) -> Result<Map<String, Value>, Malformed> {
    if let Err(error) = std::str::from_utf8(line) {
        return Err(Malformed::new(format!("invalid UTF-8 at byte {}", error.valid_up_to())));
    }
    match serde_json::from_slice(line) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(Malformed::new(format!("not a JSON object but {}", shown(&other)))),
        Err(error) => {
            let message = error.to_string();
            // A line has only one line; its column is told as a byte below.
            let message = message.rfind(" at line ").map_or(message.as_str(), |end| &message[..end]);
            Err(Malformed::new(format!("invalid JSON near byte {}: {message}", error.column().saturating_sub(1))))
        }
    }
}

/// The value of a key that must be there.
pub(crate) fn required<'a>(object: &'a Map<String, Value>, key: &str) -> Result<&'a Value, Malformed> {
    object.get(key).ok_or_else(|| Malformed::new(format!("{key} is missing")))
}

/// An integer within u64: digits only, no sign, fraction or exponent.
pub(crate) fn integer(object: &Map<String, Value>, key: &str) -> Result<u64, Malformed> {
    let value = required(object, key)?;
    value.as_u64().ok_or_else(|| wrong(key, "an integer from 0 to 18446744073709551615", value))
}

/// A time in the one written form.
pub(crate) fn time(object: &Map<String, Value>, key: &str) -> Result<i64, Malformed> {
    let value = required(object, key)?;
    value
        .as_str()
        .and_then(|text| parse_time(text.as_bytes()))
        .ok_or_else(|| wrong(key, "a date and time as \"YYYY-MM-DDTHH:MM:SS.mmmZ\"", value))
}

/// An amount in cents.
pub(crate) fn amount(object: &Map<String, Value>, key: &str) -> Result<u64, Malformed> {
    let value = required(object, key)?;
    value
        .as_str()
        .and_then(|text| parse_amount(text.as_bytes()))
        .ok_or_else(|| wrong(key, "a string of 1 to 12 digits and at most 2 decimals", value))
}

fn text<'a>(object: &'a Map<String, Value>, key: &str) -> Result<&'a str, Malformed> {
    let value = required(object, key)?;
    value.as_str().ok_or_else(|| wrong(key, "a string", value))
}

fn degrees(object: &Map<String, Value>, key: &str, limit: f64) -> Result<f64, Malformed> {
    let value = required(object, key)?;
    value
        .as_f64()
        .filter(|degrees| (-limit..=limit).contains(degrees))
        .ok_or_else(|| wrong(key, &format!("a number from -{limit} to {limit}"), value))
}

pub(crate) fn wrong(key: &str, expected: &str, found: &Value) -> Malformed {
    Malformed::new(format!("{key} must be {expected}, not {}", shown(found)))
}

/// A value as a message shows it: whole if short, else its beginning.
fn shown(value: &Value) -> String {
    const LONGEST: usize = 60;
    let text = match value {
        Value::Object(_) => return "an object".to_owned(),
        Value::Array(_) => return "an array".to_owned(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    };
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Reads an amount, `[0-9]{1,12}(\.[0-9]{1,2})?`, as cents.
#[must_use]
#[inline]
pub fn parse_amount(text: &[u8]) -> Option<u64> {
    let mut cents = 0_u64;
    let mut at = 0;
    while let Some(digit) = digit_at(text, at) {
        // Twelve digits are below 2^40; longer texts are refused before this can overflow.
        if at == 12 {
            return None;
        }
        cents = cents * 10 + digit;
        at += 1;
    }
    let decimals = match text.get(at) {
        None => &[],
        Some(b'.') if text.len() > at + 1 => &text[at + 1..],
        Some(_) => return None,
    };
    if at == 0 || decimals.len() > 2 {
        return None;
    }
    let tens = if decimals.is_empty() { 0 } else { digit_at(decimals, 0)? };
    let ones = if decimals.len() < 2 { 0 } else { digit_at(decimals, 1)? };
    Some(cents * 100 + tens * 10 + ones)
}

#[inline]
fn digit_at(text: &[u8], at: usize) -> Option<u64> {
    let value = text.get(at)?.wrapping_sub(b'0');
    (value <= 9).then_some(u64::from(value))
}
