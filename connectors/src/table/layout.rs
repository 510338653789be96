//! What lies where in the environment: entries, staged rows and ids of committed transactions in one LMDB database,
//! told apart by the first byte of the key.

use heed::types::Bytes;
use heed::{Database, RoTxn};
use millstream_runtime::ids::{AttemptId, AttemptNumber, Epoch, JobId, SubtaskIndex};
use millstream_runtime::ports::PortError;
use serde::{Deserialize, Serialize};

/// Version of all this.
pub(super) const FORMAT_VERSION: u16 = 1;
/// Where the version stands.
pub(super) const VERSION_KEY: &[u8] = b"v";
/// LMDB's limit less the byte of the section.
pub const MAX_KEY_BYTES: usize = 510;

/// The one database of an environment.
pub(super) type Entries = Database<'static, Bytes, Bytes>;

/// The kinds of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    /// Key and value of the table.
    Entries,
    /// Transaction id and part, with rows.
    Staged,
    /// Transaction id, with nothing.
    Committed,
}

impl Section {
    pub const fn prefix(self) -> u8 {
        match self {
            Self::Entries => b't',
            Self::Staged => b's',
            Self::Committed => b'c',
        }
    }
}

/// A prepared transaction: rows staged in the environment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableTransaction {
    /// The job.
    pub job: JobId,
    /// The deployment that staged it.
    pub attempt: AttemptId,
    /// The subtask that staged it.
    pub subtask: SubtaskIndex,
    /// Counts the transactions of that subtask.
    pub sequence: u64,
    /// Number of staged pieces.
    pub parts: u32,
}

/// Bytes of an encoded id.
const ID_BYTES: usize = 16 + 8 + 4 + 4 + 8;

impl TableTransaction {
    /// The id's key in a section; a longer key with the same beginning is a part.
    pub(super) fn key(&self, section: Section) -> Vec<u8> {
        let mut key = Vec::with_capacity(1 + ID_BYTES + 4);
        key.push(section.prefix());
        key.extend_from_slice(&self.job.0);
        key.extend_from_slice(&self.attempt.epoch.0.to_be_bytes());
        key.extend_from_slice(&self.attempt.attempt.0.to_be_bytes());
        key.extend_from_slice(&self.subtask.0.to_be_bytes());
        key.extend_from_slice(&self.sequence.to_be_bytes());
        key
    }

    /// The key of a staged part.
    pub(super) fn part_key(&self, part: u32) -> Vec<u8> {
        let mut key = self.key(Section::Staged);
        key.extend_from_slice(&part.to_be_bytes());
        key
    }

    /// The transaction that a staged part belongs to; its number of parts is not known here and left 0.
    pub(super) fn of_part_key(key: &[u8]) -> Option<Self> {
        let id = key.get(1..)?;
        if id.len() != ID_BYTES + 4 {
            return None;
        }
        let (job, rest) = id.split_first_chunk()?;
        let (epoch, rest) = rest.split_first_chunk()?;
        let (attempt, rest) = rest.split_first_chunk()?;
        let (subtask, rest) = rest.split_first_chunk()?;
        let (sequence, _) = rest.split_first_chunk()?;
        let attempt = AttemptNumber(u32::from_be_bytes(*attempt));
        Some(Self {
            job: JobId(*job),
            attempt: AttemptId { epoch: Epoch(u64::from_be_bytes(*epoch)), attempt },
            subtask: SubtaskIndex(u32::from_be_bytes(*subtask)),
            sequence: u64::from_be_bytes(*sequence),
            parts: 0,
        })
    }
}

/// All keys that begin so.
pub(super) fn keys_of(database: &Entries, transaction: &RoTxn<'_>, prefix: &[u8]) -> heed::Result<Vec<Vec<u8>>> {
    database.prefix_iter(transaction, prefix)?.map(|entry| entry.map(|(key, _)| key.to_vec())).collect()
}

/// Appends a row to a staged part: both lengths, key, value.
pub(super) fn push_row(part: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    for bytes in [key, value] {
        part.extend_from_slice(&u32::try_from(bytes.len()).expect("checked by the writer").to_le_bytes());
    }
    part.extend_from_slice(key);
    part.extend_from_slice(value);
}

/// A staged part as it is stored: its CRC first.
pub(super) fn seal_part(rows: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(rows.len() + 4);
    sealed.extend_from_slice(&crc32fast::hash(rows).to_le_bytes());
    sealed.extend_from_slice(rows);
    sealed
}

/// Key and value.
pub(super) type Row<'a> = (&'a [u8], &'a [u8]);

/// The rows of a stored part, in order.
pub(super) fn rows_of(sealed: &[u8]) -> Result<Vec<Row<'_>>, PortError> {
    let torn = || {
        PortError::give_up("staged rows of a table are damaged; restore the folder from a copy, or start the job anew")
    };
    let (crc, mut rest) = sealed.split_first_chunk().ok_or_else(torn)?;
    if u32::from_le_bytes(*crc) != crc32fast::hash(rest) {
        return Err(torn());
    }
    let mut rows = Vec::new();
    while !rest.is_empty() {
        let (key_length, after) = rest.split_first_chunk().ok_or_else(torn)?;
        let (value_length, after) = after.split_first_chunk().ok_or_else(torn)?;
        let (key, after) = after.split_at_checked(u32::from_le_bytes(*key_length) as usize).ok_or_else(torn)?;
        let (value, after) = after.split_at_checked(u32::from_le_bytes(*value_length) as usize).ok_or_else(torn)?;
        rows.push((key, value));
        rest = after;
    }
    Ok(rows)
}
