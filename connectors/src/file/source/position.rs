//! How far a file has been read: the position in a split, as it stands in checkpoints.

use millstream_runtime::ports::PortError;
use millstream_runtime::time::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Version of the encoding.
const FORMAT_VERSION: u16 = 1;

/// The beginning of a file as it was first seen, so that another file under the same name is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// How many bytes.
    pub length: u32,
    /// CRC-32 of them.
    pub crc: u32,
}

/// Where reading goes on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Position<S> {
    version: u16,
    /// First byte of the next line, in the uncompressed file.
    pub offset: u64,
    /// Lines before it.
    pub lines: u64,
    /// What the format remembers.
    pub state: S,
    /// Set when the split was first given to a reader; kept from then on, so that late stays late.
    pub floor: Option<Timestamp>,
    /// Size of the file on disk when last seen; a smaller one has lost data.
    pub length_seen: u64,
    /// Set when the file was first opened.
    pub head: Option<Head>,
}

impl<S: Default + Serialize + DeserializeOwned> Position<S> {
    /// The beginning of a file of at least this size.
    pub fn initial(length_seen: u64) -> Self {
        Self { version: FORMAT_VERSION, offset: 0, lines: 0, state: S::default(), floor: None, length_seen, head: None }
    }

    pub fn encode(&self, split: &str) -> Result<Vec<u8>, PortError> {
        rmp_serde::to_vec(self)
            .map_err(|error| PortError::give_up(format!("the position in {split} cannot be written: {error}")))
    }

    pub fn decode(split: &str, bytes: &[u8]) -> Result<Self, PortError> {
        let refuse = |why: String| {
            PortError::fix_input(format!(
                "the position in {split} cannot be read ({why}): it was written by another program or line format; \
                 restore with that one, or start anew"
            ))
        };
        let position: Self = rmp_serde::from_slice(bytes).map_err(|error| refuse(error.to_string()))?;
        if position.version != FORMAT_VERSION {
            return Err(refuse(format!("version {} instead of {FORMAT_VERSION}", position.version)));
        }
        Ok(position)
    }
}
