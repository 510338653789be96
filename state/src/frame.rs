//! How bytes are framed on disk: small documents (manifests, log records, hints) with magic, version, length and CRC,
//! and the plain integers and byte strings that segment indexes are made of. A damaged file is an error that names it.

use millstream_runtime::ports::PortError;
pub(crate) use millstream_runtime::varint::put_varint;
use millstream_runtime::varint::take_varint;

/// What kind of document a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameKind {
    /// First eight bytes of the file.
    pub magic: [u8; 8],
    /// Version written; readers accept exactly the versions they know.
    pub version: u16,
    /// For messages: "checkpoint manifest".
    pub what: &'static str,
}

const HEADER: usize = 8 + 2 + 8;
const CRC: usize = 4;

/// Wraps a document: magic, version, length, content, CRC-32 of all before.
#[must_use]
pub fn seal(kind: FrameKind, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + content.len() + CRC);
    out.extend_from_slice(&kind.magic);
    out.extend_from_slice(&kind.version.to_be_bytes());
    out.extend_from_slice(&(content.len() as u64).to_be_bytes());
    out.extend_from_slice(content);
    let crc = crc32fast::hash(&out);
    out.extend_from_slice(&crc.to_be_bytes());
    out
}

/// The content of a document read from `path`.
///
/// # Errors
/// `GiveUp` when it is torn, damaged, of another kind or of a version this program does not know.
pub fn open<'a>(kind: FrameKind, path: &str, bytes: &'a [u8]) -> Result<&'a [u8], PortError> {
    let what = kind.what;
    let damaged = |how: &str| Err(PortError::give_up(format!("{path}: the {what} is damaged: {how}")));
    let Some((magic, rest)) = bytes.split_first_chunk::<8>() else {
        return damaged(&format!("only {} bytes", bytes.len()));
    };
    if *magic != kind.magic {
        return Err(PortError::give_up(format!("{path}: this is not a {what}")));
    }
    let Some((body, crc)) = bytes.split_last_chunk::<CRC>() else { return damaged("it is cut short") };
    if body.len() < HEADER || crc32fast::hash(body) != u32::from_be_bytes(*crc) {
        return damaged("its checksum does not match");
    }
    let version = u16::from_be_bytes([rest[0], rest[1]]);
    if version != kind.version {
        let own = kind.version;
        let message = format!("{path}: the {what} has format version {version}, this program reads version {own}");
        return Err(PortError::fix_input(message));
    }
    let length = u64::from_be_bytes(rest[2..10].try_into().expect("eight bytes"));
    let content = &body[HEADER..];
    if length != content.len() as u64 {
        return damaged("its length does not match");
    }
    Ok(content)
}

/// Appends a byte string with its length.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads what the `put_` functions wrote; `None` where the bytes are not that.
pub(crate) struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    #[inline]
    pub fn varint(&mut self) -> Option<u64> {
        take_varint(&mut self.0)
    }

    pub fn number<T: TryFrom<u64>>(&mut self) -> Option<T> {
        T::try_from(self.varint()?).ok()
    }

    #[inline]
    pub fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(length)?;
        self.0 = tail;
        Some(head)
    }

    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(length)
    }

    pub fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }

    /// A count of things that take at least one byte each, so that damage never asks for absurd memory.
    pub fn count(&mut self) -> Option<usize> {
        self.number().filter(|count| *count <= self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: FrameKind = FrameKind { magic: *b"MSTEST\0\0", version: 3, what: "test document" };

    #[test]
    fn every_flipped_bit_and_every_truncation_is_noticed() {
        let bytes = seal(KIND, b"content");
        assert_eq!(open(KIND, "f", &bytes).expect("intact"), b"content");
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(open(KIND, "f", &damaged).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            let error = open(KIND, "f", &bytes[..length]).expect_err("truncated");
            assert!(error.message.starts_with("f: "), "{error}");
        }
    }

    #[test]
    fn another_version_is_named() {
        let bytes = seal(FrameKind { version: 4, ..KIND }, b"");
        assert!(open(KIND, "f", &bytes).expect_err("newer").message.contains("format version 4"));
    }
}
