//! Frames of a data channel: `length u32 | kind u8 | 3 bytes 0 | number u64 | content`, little endian, the length being
//! that of the content. Frames of a stream are numbered from 0 without gaps. The first is the header.

use millstream_runtime::element::Barrier;
use millstream_runtime::ports::transport::ChannelId;

use super::{Malformed, take};

/// Bytes before the content.
const PREFIX_BYTES: usize = 16;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum FrameKind {
    /// Which channel it is: the first frame of a stream, and only that.
    Header = 1,
    /// An encoded batch.
    Batch = 2,
    /// A watermark.
    Watermark = 3,
    /// A barrier.
    Barrier = 4,
    /// The channel is idle.
    Idle = 5,
    /// The channel is active again.
    Active = 6,
    /// No more rows.
    EndOfInput = 7,
}

impl FrameKind {
    fn of(byte: u8) -> Result<Self, Malformed> {
        let kinds =
            [Self::Header, Self::Batch, Self::Watermark, Self::Barrier, Self::Idle, Self::Active, Self::EndOfInput];
        let known = kinds.into_iter().find(|kind| *kind as u8 == byte);
        known.ok_or_else(|| Malformed::new(format!("a frame of unknown kind {byte}")))
    }
}

/// Numbers the frames of one stream.
#[derive(Debug, Default)]
pub(crate) struct FrameWriter {
    number: u64,
}

impl FrameWriter {
    /// Appends a frame whose content `write` appends. Content over the limit is taken back and answered with its size.
    pub(crate) fn frame<E>(
        &mut self,
        kind: FrameKind,
        max_bytes: u32,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<Result<(), usize>, E> {
        let start = out.len();
        out.extend([0; PREFIX_BYTES]);
        write(out)?;
        let bytes = out.len() - start - PREFIX_BYTES;
        let Some(length) = u32::try_from(bytes).ok().filter(|length| *length <= max_bytes) else {
            out.truncate(start);
            return Ok(Err(bytes));
        };
        out[start..start + 4].copy_from_slice(&length.to_le_bytes());
        out[start + 4] = kind as u8;
        out[start + 8..start + 16].copy_from_slice(&self.number.to_le_bytes());
        self.number += 1;
        Ok(Ok(()))
    }

    /// Appends a small frame.
    pub(crate) fn small(&mut self, kind: FrameKind, content: &[u8], out: &mut Vec<u8>) {
        let written: Result<Result<(), usize>, std::convert::Infallible> = self.frame(kind, u32::MAX, out, |out| {
            out.extend_from_slice(content);
            Ok(())
        });
        match written {
            Ok(fits) => fits.expect("a few bytes are below the limit"),
        }
    }
}

/// A whole frame; its content lies in the reader or in what was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// What it is.
    pub(crate) kind: FrameKind,
    /// Its content.
    pub(crate) content: &'a [u8],
}

/// Cuts a stream into frames and checks their numbers.
#[derive(Debug)]
pub(crate) struct FrameReader {
    max_bytes: u32,
    next_number: u64,
    prefix: [u8; PREFIX_BYTES],
    prefix_have: usize,
    /// Content that came in more than one piece.
    content: Vec<u8>,
    /// The frame in `content` was handed out.
    done: bool,
}

impl FrameReader {
    /// Frames of more content than this are refused.
    pub(crate) fn new(max_bytes: u32) -> Self {
        Self { max_bytes, next_number: 0, prefix: [0; PREFIX_BYTES], prefix_have: 0, content: Vec::new(), done: false }
    }

    /// Whether the stream stands between two frames: elsewhere it must not end.
    pub(crate) fn at_boundary(&self) -> bool {
        self.prefix_have == 0 || self.done
    }

    /// Bytes that complete what is being read: the prefix, or the content.
    pub(crate) fn wanted(&self) -> Result<usize, Malformed> {
        if self.done || self.prefix_have < PREFIX_BYTES {
            return Ok(if self.done { PREFIX_BYTES } else { PREFIX_BYTES - self.prefix_have });
        }
        let (_, length) = self.check_prefix()?;
        Ok(length - self.content.len())
    }

    /// The next whole frame, taking off `input` what belongs to it. `None` when more has to be read.
    pub(crate) fn next<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8]) -> Result<Option<Frame<'a>>, Malformed> {
        if self.done {
            self.done = false;
            self.prefix_have = 0;
            self.content.clear();
        }
        if self.prefix_have < PREFIX_BYTES {
            let wanted = (PREFIX_BYTES - self.prefix_have).min(input.len());
            self.prefix[self.prefix_have..self.prefix_have + wanted].copy_from_slice(&input[..wanted]);
            self.prefix_have += wanted;
            *input = &input[wanted..];
            if self.prefix_have < PREFIX_BYTES {
                return Ok(None);
            }
        }
        let (kind, length) = self.check_prefix()?;
        if self.content.is_empty() && input.len() >= length {
            // Whole in what was read: no copy.
            let (content, rest) = input.split_at(length);
            *input = rest;
            self.finish();
            return Ok(Some(Frame { kind, content }));
        }
        if self.content.is_empty() {
            self.content.reserve(length);
        }
        let wanted = (length - self.content.len()).min(input.len());
        self.content.extend_from_slice(&input[..wanted]);
        *input = &input[wanted..];
        if self.content.len() < length {
            return Ok(None);
        }
        self.finish();
        Ok(Some(Frame { kind, content: &self.content }))
    }

    fn finish(&mut self) {
        self.next_number += 1;
        self.done = true;
    }

    fn check_prefix(&self) -> Result<(FrameKind, usize), Malformed> {
        let mut rest = &self.prefix[..];
        let length = u32::from_le_bytes(take(&mut rest)?);
        let [kind, zeros @ ..] = take::<4>(&mut rest)?;
        let number = u64::from_le_bytes(take(&mut rest)?);
        if zeros != [0; 3] {
            return Err(Malformed::new("what came is no frame"));
        }
        let kind = FrameKind::of(kind)?;
        if number != self.next_number {
            let expected = self.next_number;
            return Err(Malformed::new(format!(
                "frame {number} came where {expected} was due: frames are lost or doubled"
            )));
        }
        if (number == 0) != (kind == FrameKind::Header) {
            return Err(Malformed::new(format!("frame {number} is a {kind:?}")));
        }
        if length > self.max_bytes {
            return Err(Malformed::new(format!("a frame of {length} bytes, the limit is {}", self.max_bytes)));
        }
        Ok((kind, length as usize))
    }
}

/// The content of a header.
pub(crate) fn encode_channel(channel: &ChannelId) -> Vec<u8> {
    rmp_serde::to_vec(channel).expect("ids serialise")
}

/// Reads the content of a header.
pub(crate) fn decode_channel(content: &[u8]) -> Result<ChannelId, Malformed> {
    rmp_serde::from_slice(content).map_err(|error| Malformed::new(format!("a channel header cannot be read: {error}")))
}

/// The content of a barrier frame.
pub(crate) fn encode_barrier(barrier: &Barrier) -> Vec<u8> {
    rmp_serde::to_vec(barrier).expect("barriers serialise")
}

/// Reads the content of a barrier frame.
pub(crate) fn decode_barrier(content: &[u8]) -> Result<Barrier, Malformed> {
    rmp_serde::from_slice(content).map_err(|error| Malformed::new(format!("a barrier cannot be read: {error}")))
}

/// Reads the content of a watermark frame.
pub(crate) fn decode_watermark(content: &[u8]) -> Result<i64, Malformed> {
    let bytes = content.try_into().map_err(|_| Malformed::new("a watermark is not eight bytes"))?;
    Ok(i64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> (Vec<u8>, Vec<(FrameKind, Vec<u8>)>) {
        let frames = vec![
            (FrameKind::Header, b"which".to_vec()),
            (FrameKind::Batch, vec![9; 70]),
            (FrameKind::Watermark, 7i64.to_le_bytes().to_vec()),
            (FrameKind::Idle, vec![]),
            (FrameKind::Batch, vec![1; 33]),
            (FrameKind::EndOfInput, vec![]),
        ];
        let mut writer = FrameWriter::default();
        let mut bytes = Vec::new();
        frames.iter().for_each(|(kind, content)| writer.small(*kind, content, &mut bytes));
        (bytes, frames)
    }

    fn read(bytes: &[u8], size: usize) -> Result<Vec<(FrameKind, Vec<u8>)>, Malformed> {
        let mut reader = FrameReader::new(100);
        let mut frames = Vec::new();
        for mut piece in bytes.chunks(size) {
            while let Some(frame) = reader.next(&mut piece)? {
                frames.push((frame.kind, frame.content.to_vec()));
            }
        }
        assert!(reader.at_boundary());
        Ok(frames)
    }

    #[test]
    fn frames_survive_the_wire_however_it_is_cut() {
        let (bytes, frames) = stream();
        for size in 1..=bytes.len() {
            assert_eq!(read(&bytes, size).as_ref(), Ok(&frames), "in pieces of {size}");
        }
    }

    #[test]
    fn a_frame_that_is_missing_doubled_or_flipped_is_noticed() {
        let (bytes, frames) = stream();
        let mut at = vec![0];
        for (_, content) in &frames {
            at.push(at[at.len() - 1] + PREFIX_BYTES + content.len());
        }
        for gone in 0..frames.len() - 1 {
            let cut = [&bytes[..at[gone]], &bytes[at[gone + 1]..]].concat();
            assert!(read(&cut, 64).is_err(), "without frame {gone}");
        }
        for doubled in 0..frames.len() {
            let cut = [&bytes[..at[doubled + 1]], &bytes[at[doubled]..]].concat();
            assert!(read(&cut, 64).is_err(), "frame {doubled} twice");
        }
        for bit in 0..PREFIX_BYTES * 8 {
            let mut flipped = bytes.clone();
            flipped[at[2] + bit / 8] ^= 1 << (bit % 8);
            // A kind may become another one, a length a smaller one: then the next frame is out of place.
            let result = std::panic::catch_unwind(|| read(&flipped, 64));
            assert!(!matches!(result, Ok(Ok(read)) if read == frames), "bit {bit} of a prefix");
        }
    }

    #[test]
    fn content_over_the_limit_is_refused_at_both_ends() {
        let mut writer = FrameWriter::default();
        let mut bytes = Vec::new();
        let long = |out: &mut Vec<u8>| -> Result<(), std::convert::Infallible> {
            out.extend([1; 101]);
            Ok(())
        };
        assert_eq!(writer.frame(FrameKind::Header, 100, &mut bytes, long), Ok(Err(101)));
        assert!(bytes.is_empty(), "taken back");
        assert_eq!(writer.frame(FrameKind::Header, 101, &mut bytes, long), Ok(Ok(())));
        let mut reader = FrameReader::new(100);
        // The prefix alone is enough.
        assert!(reader.next(&mut &bytes[..PREFIX_BYTES]).expect_err("too long").0.contains("the limit is 100"));
        assert!(FrameReader::new(100).next(&mut &b"GET / HTTP/1.1\r\nHost"[..]).is_err(), "garbage");
    }
}
