//! How entries lie in LMDB: sorted, in blocks of about a page. A section is one state in one key group; its blocks divide
//! the keys among them, each from its start to the start of the next, so LMDB's order is the order of segments.
//!
//! LMDB's key: section, start of the block. Its value: CRC-32 of both, then the entries as segments have them. LMDB limits
//! keys to 511 bytes: starts are cut there, and entries whose keys do not differ before lie in one block, however large.

use std::ops::Bound;

use heed::types::Bytes;
use heed::{RoRange, RoTxn};
use millstream_runtime::key_group::KeyGroup;
use millstream_runtime::state::entries::EncodedEntry;

use super::store::Bytemap;

/// Longest key in LMDB.
const MAX_KEY_BYTES: usize = 511;
const SECTION_BYTES: usize = 4;
pub(super) const CRC_BYTES: usize = 4;
/// Entries of a block: with its CRC and LMDB's header it fills a page.
pub(super) const BLOCK_BYTES: usize = 4096 - 16 - CRC_BYTES;

/// One state in one key group: what all LMDB keys of its blocks begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Section([u8; SECTION_BYTES]);

/// Why a block could not be read.
pub(super) enum BlockError {
    Lmdb(heed::Error),
    Damaged,
}

impl From<heed::Error> for BlockError {
    fn from(error: heed::Error) -> Self {
        Self::Lmdb(error)
    }
}

/// Key and value of an entry, in LMDB's own memory.
type Stored<'t> = (&'t [u8], &'t [u8]);

/// A block in LMDB's own memory.
#[derive(Clone, Copy)]
pub(super) struct Block<'t> {
    /// Entries before this are in no block or in one before.
    pub start: &'t [u8],
    /// Encoded one behind the other.
    pub entries: &'t [u8],
}

/// What counts of a key when it is decided which block has it.
pub(super) fn kept(key: &[u8]) -> &[u8] {
    &key[..key.len().min(MAX_KEY_BYTES - SECTION_BYTES)]
}

impl Section {
    pub fn new(state: u16, group: KeyGroup) -> Self {
        let ([a, b], [c, d]) = (state.to_be_bytes(), group.0.to_be_bytes());
        Self([a, b, c, d])
    }

    /// What LMDB keys of this section begin with.
    pub fn prefix(self) -> [u8; SECTION_BYTES] {
        self.0
    }

    /// The LMDB key of a block that starts at a key.
    pub fn set_key(&self, out: &mut Vec<u8>, key: &[u8]) {
        out.clear();
        out.extend_from_slice(&self.0);
        out.extend_from_slice(kept(key));
    }

    fn key(&self, key: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(SECTION_BYTES + key.len());
        self.set_key(&mut out, key);
        out
    }

    /// The block that has a key if any has it.
    pub fn block_of<'t>(
        &self,
        database: Bytemap,
        transaction: &'t RoTxn,
        key: &[u8],
    ) -> Result<Option<Block<'t>>, BlockError> {
        let found = database.get_lower_than_or_equal_to(transaction, &self.key(key))?;
        found.map_or(Ok(None), |(key, stored)| self.open(key, stored))
    }

    /// The first block behind one that starts so.
    pub fn block_behind<'t>(
        &self,
        database: Bytemap,
        transaction: &'t RoTxn,
        start: &[u8],
    ) -> Result<Option<Block<'t>>, BlockError> {
        let found = database.get_greater_than(transaction, &self.key(start))?;
        found.map_or(Ok(None), |(key, stored)| self.open(key, stored))
    }

    /// Walks the entries in key order, beginning with the block that would have `from`.
    pub fn scan<'t>(
        &self,
        database: Bytemap,
        transaction: &'t RoTxn,
        from: &[u8],
    ) -> Result<EntryScan<'t>, BlockError> {
        let first = self.block_of(database, transaction, from)?.map_or(&[][..], |block| block.start);
        let first = self.key(first);
        let blocks = database.range(transaction, &(Bound::Included(first.as_slice()), Bound::Unbounded))?;
        Ok(EntryScan { section: *self, blocks, entries: &[] })
    }

    /// Checks what lies in LMDB; `None` when it belongs to another section.
    fn open<'t>(&self, key: &'t [u8], stored: &'t [u8]) -> Result<Option<Block<'t>>, BlockError> {
        let Some(start) = key.strip_prefix(&self.0) else { return Ok(None) };
        let (crc, entries) = stored.split_first_chunk::<CRC_BYTES>().ok_or(BlockError::Damaged)?;
        if checksum(key, entries) != *crc {
            return Err(BlockError::Damaged);
        }
        Ok(Some(Block { start, entries }))
    }
}

/// What stands before the entries of a block.
pub(super) fn checksum(key: &[u8], entries: &[u8]) -> [u8; CRC_BYTES] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(entries);
    hasher.finalize().to_be_bytes()
}

/// Takes the next entry off the front of a block: key and value; `None` at its end.
pub(super) fn take_entry<'t>(entries: &mut &'t [u8]) -> Result<Option<Stored<'t>>, BlockError> {
    if entries.is_empty() {
        return Ok(None);
    }
    match EncodedEntry::take(entries) {
        Some(EncodedEntry { key, value: Some(value) }) => Ok(Some((key, value))),
        // Folds leave no tombstones.
        Some(EncodedEntry { value: None, .. }) | None => Err(BlockError::Damaged),
    }
}

impl<'t> Block<'t> {
    /// The value of a key.
    pub fn find(&self, wanted: &[u8]) -> Result<Option<&'t [u8]>, BlockError> {
        let mut rest = self.entries;
        while let Some((key, value)) = take_entry(&mut rest)? {
            if key >= wanted {
                return Ok((key == wanted).then_some(value));
            }
        }
        Ok(None)
    }
}

/// Walks the entries of one section in the order of their keys.
pub(super) struct EntryScan<'t> {
    section: Section,
    blocks: RoRange<'t, Bytes, Bytes>,
    /// The rest of the block it is in.
    entries: &'t [u8],
}

impl<'t> EntryScan<'t> {
    pub fn next(&mut self) -> Result<Option<Stored<'t>>, BlockError> {
        while self.entries.is_empty() {
            let Some((key, stored)) = self.blocks.next().transpose()? else { return Ok(None) };
            let Some(block) = self.section.open(key, stored)? else { return Ok(None) };
            self.entries = block.entries;
        }
        take_entry(&mut self.entries)
    }
}
