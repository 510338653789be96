//! Envelopes of the control stream: `length u32 | kind u8 | content`, little endian, the length counting kind and
//! content. Control messages are opaque here.

use bytes::Bytes;

use super::{Malformed, take};

const HEARTBEAT: u8 = 1;
const CONTROL: u8 = 2;
const CREDIT: u8 = 3;
const DECISION: u8 = 4;

/// Bytes before the kind.
const LENGTH_BYTES: usize = 4;
/// Bytes of one channel's total.
const CREDIT_BYTES: usize = 16;

/// What one envelope holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Envelope {
    /// The sender is alive.
    Heartbeat,
    /// A message for whoever uses the link.
    Control(Bytes),
    /// (stream number, batches processed of it, ever).
    Credit(Vec<(u64, u64)>),
    /// This connection is link number so and so of the pair, or, with 0, it is none. Only as the first envelope of the
    /// node with the lower id; see `pairing`.
    Decision(u64),
}

impl Envelope {
    /// Appends the wire form.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend([0; LENGTH_BYTES]);
        match self {
            Self::Heartbeat => out.push(HEARTBEAT),
            Self::Control(message) => {
                out.push(CONTROL);
                out.extend_from_slice(message);
            }
            Self::Credit(totals) => {
                out.push(CREDIT);
                for (stream, total) in totals {
                    out.extend_from_slice(&stream.to_le_bytes());
                    out.extend_from_slice(&total.to_le_bytes());
                }
            }
            Self::Decision(number) => {
                out.push(DECISION);
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
        let length = u32::try_from(out.len() - start - LENGTH_BYTES).expect("control messages are limited to u32");
        out[start..start + LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
    }

    /// Reads kind and content.
    pub(crate) fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let kind = *bytes.first().ok_or_else(|| Malformed::new("an empty control envelope"))?;
        let mut content = &bytes[1..];
        match kind {
            HEARTBEAT if content.is_empty() => Ok(Self::Heartbeat),
            CONTROL => Ok(Self::Control(bytes.slice(1..))),
            CREDIT if content.len().is_multiple_of(CREDIT_BYTES) => {
                let mut totals = Vec::with_capacity(content.len() / CREDIT_BYTES);
                while !content.is_empty() {
                    totals.push((u64::from_le_bytes(take(&mut content)?), u64::from_le_bytes(take(&mut content)?)));
                }
                Ok(Self::Credit(totals))
            }
            DECISION if content.len() == 8 => Ok(Self::Decision(u64::from_le_bytes(take(&mut content)?))),
            kind => Err(Malformed::new(format!("a control envelope of kind {kind} with {} bytes", content.len()))),
        }
    }
}

/// Cuts a control stream into envelopes.
#[derive(Debug)]
pub(crate) struct EnvelopeReader {
    buffer: Vec<u8>,
    max_bytes: usize,
}

impl EnvelopeReader {
    /// Envelopes of more content than this are refused.
    pub(crate) fn new(max_content_bytes: u32) -> Self {
        Self { buffer: Vec::new(), max_bytes: max_content_bytes as usize + 1 }
    }

    /// Takes what was read.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole envelope.
    pub(crate) fn next(&mut self) -> Result<Option<Envelope>, Malformed> {
        let Some(length) = self.buffer.first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*length) as usize;
        if length > self.max_bytes {
            let limit = self.max_bytes;
            return Err(Malformed::new(format!("a control envelope of {length} bytes, the limit is {limit}")));
        }
        let end = LENGTH_BYTES + length;
        if self.buffer.len() < end {
            return Ok(None);
        }
        let content = Bytes::copy_from_slice(&self.buffer[LENGTH_BYTES..end]);
        self.buffer.drain(..end);
        Envelope::decode(content).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Envelope> {
        vec![
            Envelope::Heartbeat,
            Envelope::Control(Bytes::from_static(b"deploy")),
            Envelope::Control(Bytes::new()),
            Envelope::Credit(vec![(3, 10), (7, u64::MAX)]),
            Envelope::Decision(9),
        ]
    }

    #[test]
    fn envelopes_survive_the_wire_however_it_is_cut() {
        let mut bytes = Vec::new();
        all().iter().for_each(|envelope| envelope.encode(&mut bytes));
        for size in 1..=bytes.len() {
            let mut reader = EnvelopeReader::new(64);
            let mut read = Vec::new();
            for chunk in bytes.chunks(size) {
                reader.feed(chunk);
                while let Some(envelope) = reader.next().expect("well formed") {
                    read.push(envelope);
                }
            }
            assert_eq!(read, all(), "in pieces of {size}");
        }
    }

    #[test]
    fn envelopes_over_the_limit_and_garbage_are_refused_before_they_are_kept() {
        let mut reader = EnvelopeReader::new(64);
        reader.feed(&66u32.to_le_bytes());
        assert!(reader.next().expect_err("over the limit").0.contains("the limit is 65"));
        for garbage in [&[0u8, 0, 0, 0][..], &[1, 0, 0, 0, 99], &[2, 0, 0, 0, 1, 1], &[3, 0, 0, 0, 3, 1, 1]] {
            let mut reader = EnvelopeReader::new(64);
            reader.feed(garbage);
            assert!(reader.next().is_err(), "{garbage:?}");
        }
    }
}
