//! How an entry lies in LMDB. Key: state, key group, encoded key, so that LMDB's order is the order of segments. Value:
//! CRC-32 of both, then the value. LMDB limits keys to 511 bytes: a longer one is cut and ended with its digest, and
//! the whole key stands in front of the value.

use std::collections::VecDeque;

use heed::RoRange;
use heed::types::Bytes;
use millstream_runtime::key_group::KeyGroup;

/// Longest key in LMDB.
const MAX_KEY_BYTES: usize = 511;
const PREFIX_BYTES: usize = 4;
const DIGEST_BYTES: usize = 32;
/// Keys up to here lie in LMDB as they are: always shorter than a cut one.
const DIRECT_BYTES: usize = MAX_KEY_BYTES - PREFIX_BYTES - 1;
/// What is kept of a longer key.
const KEPT_BYTES: usize = MAX_KEY_BYTES - PREFIX_BYTES - DIGEST_BYTES;
const CRC_BYTES: usize = 4;

/// The first bytes of all keys of a state in a key group.
pub(super) fn prefix(state: u16, group: KeyGroup) -> [u8; PREFIX_BYTES] {
    let ([a, b], [c, d]) = (state.to_be_bytes(), group.0.to_be_bytes());
    [a, b, c, d]
}

/// What LMDB orders by of a key, or of the beginning of one.
pub(super) fn kept(key: &[u8]) -> &[u8] {
    &key[..key.len().min(KEPT_BYTES)]
}

/// Buffers that are used again for every entry.
#[derive(Default)]
pub(super) struct Encoder {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
}

impl Encoder {
    pub fn set_key(&mut self, state: u16, group: KeyGroup, key: &[u8]) {
        self.key.clear();
        self.key.extend_from_slice(&prefix(state, group));
        if key.len() <= DIRECT_BYTES {
            self.key.extend_from_slice(key);
        } else {
            self.key.extend_from_slice(&key[..KEPT_BYTES]);
            self.key.extend_from_slice(blake3::hash(key).as_bytes());
        }
    }

    /// After `set_key` of the same key.
    pub fn set_value(&mut self, key: &[u8], value: &[u8]) {
        self.value.clear();
        self.value.extend_from_slice(&[0; CRC_BYTES]);
        if key.len() > DIRECT_BYTES {
            let length = u32::try_from(key.len()).expect("keys stay below 4 GiB");
            self.value.extend_from_slice(&length.to_be_bytes());
            self.value.extend_from_slice(key);
        }
        self.value.extend_from_slice(value);
        let crc = checksum(&self.key, &self.value[CRC_BYTES..]);
        self.value[..CRC_BYTES].copy_from_slice(&crc.to_be_bytes());
    }
}

fn checksum(key: &[u8], value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(value);
    hasher.finalize()
}

/// Key and value of an entry, in LMDB's own memory.
pub(super) type Stored<'t> = (&'t [u8], &'t [u8]);

/// Key and value of what lies in LMDB; `None` when it is damaged.
pub(super) fn decode<'t>(stored_key: &'t [u8], stored: &'t [u8]) -> Option<Stored<'t>> {
    let (crc, rest) = stored.split_first_chunk::<CRC_BYTES>()?;
    if checksum(stored_key, rest) != u32::from_be_bytes(*crc) {
        return None;
    }
    if stored_key.len() < MAX_KEY_BYTES {
        return Some((stored_key.get(PREFIX_BYTES..)?, rest));
    }
    let (length, rest) = rest.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_be_bytes(*length) as usize)
}

/// Walks the entries of one state in one key group in the order of their whole keys.
pub(super) struct EntryScan<'t> {
    entries: RoRange<'t, Bytes, Bytes>,
    /// Read, but not part of the run before.
    peeked: Option<Stored<'t>>,
    /// Entries that share the part of their keys that LMDB orders by, sorted by the whole key.
    run: VecDeque<Stored<'t>>,
}

/// Why a scan stopped.
pub(super) enum ScanError {
    Lmdb(heed::Error),
    Damaged,
}

impl<'t> EntryScan<'t> {
    pub fn new(entries: RoRange<'t, Bytes, Bytes>) -> Self {
        Self { entries, peeked: None, run: VecDeque::new() }
    }

    pub fn next(&mut self) -> Result<Option<Stored<'t>>, ScanError> {
        if let Some(entry) = self.run.pop_front() {
            return Ok(Some(entry));
        }
        let Some(first) = self.read()? else { return Ok(None) };
        if first.0.len() < KEPT_BYTES {
            return Ok(Some(first));
        }
        let mut run = vec![first];
        while let Some(entry) = self.read()? {
            if entry.0.len() < KEPT_BYTES || entry.0[..KEPT_BYTES] != first.0[..KEPT_BYTES] {
                self.peeked = Some(entry);
                break;
            }
            run.push(entry);
        }
        run.sort_unstable();
        self.run = run.into();
        Ok(self.run.pop_front())
    }

    fn read(&mut self) -> Result<Option<Stored<'t>>, ScanError> {
        if let Some(entry) = self.peeked.take() {
            return Ok(Some(entry));
        }
        match self.entries.next() {
            None => Ok(None),
            Some(Err(error)) => Err(ScanError::Lmdb(error)),
            Some(Ok((key, value))) => decode(key, value).map(Some).ok_or(ScanError::Damaged),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_every_length_come_back_and_damage_is_noticed() {
        for length in [0, 1, KEPT_BYTES, DIRECT_BYTES, DIRECT_BYTES + 1, 5_000] {
            let key = vec![7u8; length];
            let mut encoder = Encoder::default();
            encoder.set_key(1, KeyGroup(2), &key);
            encoder.set_value(&key, b"value");
            assert!(encoder.key.len() <= MAX_KEY_BYTES);
            assert_eq!(decode(&encoder.key, &encoder.value), Some((&key[..], &b"value"[..])));
            let last = encoder.value.len() - 1;
            encoder.value[last] ^= 1;
            assert_eq!(decode(&encoder.key, &encoder.value), None);
        }
    }
}
