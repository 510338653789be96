//! The fast path: a transaction of the usual shape, in one pass over its bytes. It accepts only what the strict path
//! accepts, with equal values, and gives up on all else (unknown keys, escapes, exponents, any error):
//! the property tests hold the two together.

use compact_str::CompactString;

use super::parse_amount;
use crate::{
    time_format::{TIME_LENGTH, parse_time},
    transaction::Transaction,
};

/// Powers of ten that an f64 holds exactly.
const EXACT_POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

const ALL_KEYS: u8 = 0xff;

/// Reads the line, or gives up.
#[inline]
pub(super) fn scan_transaction(line: &[u8]) -> Option<Transaction> {
    let mut scanner = Scanner { line, at: 0 };
    let mut transaction = Transaction {
        transaction_id: 0,
        user_id: 0,
        time: 0,
        amount_cents: 0,
        merchant: CompactString::const_new(""),
        city: CompactString::const_new(""),
        latitude: 0.0,
        longitude: 0.0,
    };
    let mut seen = 0_u8;
    scanner.expect(b'{')?;
    loop {
        scanner.expect(b'"')?;
        let key = scanner.key()?;
        scanner.expect(b':')?;
        scanner.skip_space();
        let bit = match key {
            b"transaction_id" => {
                transaction.transaction_id = scanner.integer()?;
                1
            }
            b"user_id" => {
                transaction.user_id = scanner.integer()?;
                2
            }
            b"time" => {
                transaction.time = scanner.time()?;
                4
            }
            b"amount" => {
                transaction.amount_cents = parse_amount(scanner.string()?)?;
                8
            }
            b"merchant" => {
                transaction.merchant = scanner.text()?;
                16
            }
            b"city" => {
                transaction.city = scanner.text()?;
                32
            }
            b"latitude" => {
                transaction.latitude = scanner.degrees(90.0)?;
                64
            }
            b"longitude" => {
                transaction.longitude = scanner.degrees(180.0)?;
                128
            }
            _ => return None,
        };
        // Of equal keys the last counts, here as in the strict path.
        seen |= bit;
        scanner.skip_space();
        match scanner.next()? {
            b',' => {}
            b'}' => break,
            _ => return None,
        }
    }
    scanner.skip_space();
    (seen == ALL_KEYS && scanner.at == line.len()).then_some(transaction)
}

struct Scanner<'a> {
    line: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    #[inline]
    fn peek(&self) -> Option<u8> {
        self.line.get(self.at).copied()
    }

    #[inline]
    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    #[inline]
    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    #[inline]
    fn expect(&mut self, byte: u8) -> Option<()> {
        self.skip_space();
        (self.next()? == byte).then_some(())
    }

    /// The rest of a key whose opening quote is read. Its bytes need no check: an unknown key gives up anyway.
    #[inline]
    fn key(&mut self) -> Option<&'a [u8]> {
        let rest = &self.line[self.at..];
        let length = rest.iter().take(16).position(|&byte| byte == b'"')?;
        self.at += length + 1;
        Some(&rest[..length])
    }

    /// A string without escapes, as bytes that may still be invalid UTF-8.
    #[inline]
    fn string(&mut self) -> Option<&'a [u8]> {
        if self.next()? != b'"' {
            return None;
        }
        let rest = &self.line[self.at..];
        let length = plain_length(rest);
        if *rest.get(length)? != b'"' {
            return None;
        }
        self.at += length + 1;
        Some(&rest[..length])
    }

    #[inline]
    fn text(&mut self) -> Option<CompactString> {
        CompactString::from_utf8(self.string()?).ok()
    }

    #[inline]
    fn time(&mut self) -> Option<i64> {
        let rest = self.line.get(self.at..self.at + TIME_LENGTH + 2)?;
        if rest[0] != b'"' || rest[TIME_LENGTH + 1] != b'"' {
            return None;
        }
        self.at += TIME_LENGTH + 2;
        parse_time(&rest[1..=TIME_LENGTH])
    }

    /// Digits up to a byte that is none, as a number and their count; gives up beyond 19 digits.
    #[inline]
    fn digits(&mut self, mut number: u64, limit: usize) -> Option<(u64, usize)> {
        let start = self.at;
        while let Some(byte) = self.peek() {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                break;
            }
            if self.at - start == limit {
                return None;
            }
            number = number * 10 + u64::from(digit);
            self.at += 1;
        }
        Some((number, self.at - start))
    }

    #[inline]
    fn integer(&mut self) -> Option<u64> {
        let first = self.peek()?;
        let (number, count) = self.digits(0, 19)?;
        // What follows is looked at by the caller: only a comma or the closing brace go on.
        (count == 1 || (count > 1 && first != b'0')).then_some(number)
    }

    /// A number without exponent, rounded to the nearest f64: exactly representable digits divided by an exactly
    /// representable power of ten (Clinger, "How to Read Floating Point Numbers Accurately"), or the standard library.
    #[inline]
    fn degrees(&mut self, limit: f64) -> Option<f64> {
        let start = self.at;
        let negative = self.peek()? == b'-';
        self.at += usize::from(negative);
        let mut digits = self.integer()?;
        let mut decimals = 0;
        if self.peek()? == b'.' {
            self.at += 1;
            // The integer part of a coordinate has at most three digits: 3 + 16 digits fit a u64.
            if digits > 999 {
                return None;
            }
            (digits, decimals) = self.digits(digits, 16)?;
            if decimals == 0 {
                return None;
            }
        }
        if matches!(self.peek()?, b'e' | b'E') {
            return None;
        }
        let degrees = if digits <= 1 << 53 {
            #[expect(clippy::cast_precision_loss, reason = "integers up to 2^53 are exact")]
            let exact = digits as f64 / EXACT_POWERS[decimals];
            if negative { -exact } else { exact }
        } else {
            std::str::from_utf8(&self.line[start..self.at]).ok()?.parse().ok()?
        };
        (-limit..=limit).contains(&degrees).then_some(degrees)
    }
}

/// Bytes before the first quote, backslash or control byte.
#[inline]
fn plain_length(bytes: &[u8]) -> usize {
    bytes.iter().position(|&byte| byte == b'"' || byte == b'\\' || byte < 0x20).unwrap_or(bytes.len())
}
