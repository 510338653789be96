//! What stands on the wire, without I/O: every length is checked before a byte of it is kept.
//!
//! - [`hello`]: who is there, at the beginning of a control stream
//! - [`envelope`]: control messages, heartbeats and credit
//! - [`frame`]: elements of a data channel

pub(crate) mod envelope;
pub(crate) mod frame;
pub(crate) mod hello;

/// Version of everything in this folder; nodes of different versions refuse each other.
pub(crate) const PROTOCOL_VERSION: u16 = 1;

/// Bytes that are not what was expected. Says what is wrong, for the log of both ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub(crate) String);

impl Malformed {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// Little-endian number at the front, taken off.
fn take<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], Malformed> {
    let (front, rest) = input.split_first_chunk::<N>().ok_or_else(|| Malformed::new("a message is too short"))?;
    *input = rest;
    Ok(*front)
}
