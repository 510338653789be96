//! A dead letter: a line that is malformed, late or no rule set, with where it stood, and its exact JSON line.

use serde::{Deserialize, Serialize};

use crate::json_text::{push_number, push_string};

/// Why a line became a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Reason {
    /// The line is no transaction.
    Malformed,
    /// The transaction came after the time that its file had reached.
    Late,
    /// The line of the rules file is no rule set.
    Rules,
}

impl Reason {
    /// The word in the output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Late => "late",
            Self::Rules => "rules",
        }
    }
}

/// One line that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Why it was not taken.
    pub reason: Reason,
    /// What is wrong, for a human.
    pub detail: String,
    /// Name of the file, without its folder.
    pub file: String,
    /// Number of the line, from 1, blank ones counted.
    pub line: u64,
    /// First byte of the line in the uncompressed file.
    pub offset: u64,
    /// The line without its newline, in base64 (RFC 4648, with padding).
    pub raw_base64: String,
}

impl DeadLetter {
    /// A dead letter for the line `raw`.
    #[must_use]
    pub fn new(
        reason: Reason,
        detail: impl Into<String>,
        file: impl Into<String>,
        line: u64,
        offset: u64,
        raw: &[u8],
    ) -> Self {
        Self { reason, detail: detail.into(), file: file.into(), line, offset, raw_base64: base64(raw) }
    }

    /// Appends the dead letter as one JSON object, without a newline.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"reason\":\"");
        out.extend_from_slice(self.reason.name().as_bytes());
        out.extend_from_slice(b"\",\"detail\":");
        push_string(out, &self.detail);
        out.extend_from_slice(b",\"file\":");
        push_string(out, &self.file);
        out.extend_from_slice(b",\"line\":");
        push_number(out, u128::from(self.line));
        out.extend_from_slice(b",\"offset\":");
        push_number(out, u128::from(self.offset));
        out.extend_from_slice(b",\"raw_base64\":\"");
        out.extend_from_slice(self.raw_base64.as_bytes());
        out.extend_from_slice(b"\"}");
    }
}

/// The standard alphabet of RFC 4648, padded.
fn base64(raw: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(raw.len().div_ceil(3) * 4);
    for chunk in raw.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for (place, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let letter = ALPHABET[(bits >> shift & 63) as usize];
            text.push(if place <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_follows_the_vectors_of_rfc_4648() {
        let vectors =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")];
        for (raw, text) in vectors {
            assert_eq!(base64(raw.as_bytes()), text);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfb]), "//77");
    }

    #[test]
    fn quotes_and_control_characters_are_escaped() {
        let letter = DeadLetter::new(Reason::Rules, "from must be \"x\"", "a\n\u{1}é.jsonl", 3, 120, b"{");
        let mut out = Vec::new();
        letter.write_json(&mut out);
        assert_eq!(
            String::from_utf8(out).expect("UTF-8"),
            "{\"reason\":\"rules\",\"detail\":\"from must be \\\"x\\\"\",\"file\":\"a\\n\\u0001é.jsonl\",\"line\":3,\
             \"offset\":120,\"raw_base64\":\"ew==\"}"
        );
    }
}
