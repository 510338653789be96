//! The few pieces of JSON and amounts that alerts, dead letters, the summary and the block list write by hand.

use millstream_runtime::time::Timestamp;

use crate::time_format::format_time;

/// Appends a quoted and escaped string.
pub(crate) fn push_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("writing a string to memory cannot fail");
}

/// Appends a number in decimal.
pub(crate) fn push_number(out: &mut Vec<u8>, mut number: u128) {
    let mut digits = [0_u8; 39];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(number % 10).expect("a remainder of ten is one digit");
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends an amount with two digits, unquoted.
pub(crate) fn push_amount(out: &mut Vec<u8>, cents: u128) {
    push_number(out, cents / 100);
    let rest = u8::try_from(cents % 100).expect("a remainder of a hundred fits a byte");
    out.extend_from_slice(&[b'.', b'0' + rest / 10, b'0' + rest % 10]);
}

/// Appends a time, unquoted.
pub(crate) fn push_time(out: &mut Vec<u8>, time: Timestamp) {
    out.extend_from_slice(&format_time(time));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_two_digits() {
        for (cents, text) in [(0, "0.00"), (5, "0.05"), (990, "9.90"), (99_999_999_999_999, "999999999999.99")] {
            let mut out = Vec::new();
            push_amount(&mut out, cents);
            assert_eq!(String::from_utf8(out).expect("ASCII"), text);
        }
    }

    #[test]
    fn the_greatest_number_has_39_digits() {
        let mut out = Vec::new();
        push_number(&mut out, u128::MAX);
        assert_eq!(String::from_utf8(out).expect("ASCII"), u128::MAX.to_string());
    }
}
