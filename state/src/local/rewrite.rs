//! Putting changes into the blocks of one section: a block that has any is read, merged with them and written again, in
//! one piece while it fits, else in even ones. Used by `fold`, in its write transaction.

use std::ops::Range;

use heed::RwTxn;
use millstream_runtime::ports::PortError;
use millstream_runtime::state::entries::EncodedEntry;

use super::block::{BLOCK_BYTES, BlockError, CRC_BYTES, Section, checksum, kept, take_entry};
use super::store::Bytemap;
use crate::segment::Merge;

/// Merged entries are written when there are so many bytes of them, so that a large section is never held whole.
const MERGED_BYTES: usize = 16 * BLOCK_BYTES;
/// How far new blocks are filled, so that what grows a little still fits.
const FILLED_BYTES: usize = BLOCK_BYTES - BLOCK_BYTES / 16;
/// A block that shrinks below is joined with the next.
const SMALL_BYTES: usize = BLOCK_BYTES / 4;

/// Why changes were not put in.
pub(super) enum RewriteError {
    Block(BlockError),
    Changes(PortError),
}

impl From<BlockError> for RewriteError {
    fn from(error: BlockError) -> Self {
        Self::Block(error)
    }
}

impl From<heed::Error> for RewriteError {
    fn from(error: heed::Error) -> Self {
        Self::Block(BlockError::Lmdb(error))
    }
}

impl From<PortError> for RewriteError {
    fn from(error: PortError) -> Self {
        Self::Changes(error)
    }
}

/// Buffers that are used again for every section.
#[derive(Default)]
pub(super) struct Rewriter {
    /// The entries of the block being rewritten, as LMDB has them.
    old: Vec<u8>,
    /// Entries not written yet.
    merged: Vec<u8>,
    /// Where the last key in `merged` lies.
    last_key: Range<usize>,
    /// Where the block to write next starts; `None`: at its first key.
    start: Option<Vec<u8>>,
    /// Whether LMDB has a block there already.
    exists: bool,
    key: Vec<u8>,
    value: Vec<u8>,
}

/// The section that is rewritten.
struct Target<'a, 'e> {
    section: Section,
    database: Bytemap,
    transaction: &'a mut RwTxn<'e>,
}

impl Rewriter {
    /// Puts changes into a section.
    pub fn rewrite(
        &mut self,
        (database, section): (Bytemap, Section),
        transaction: &mut RwTxn,
        changes: &mut Merge,
    ) -> Result<(), RewriteError> {
        let mut target = Target { section, database, transaction };
        let mut more = changes.advance()?;
        while more {
            let mut end = self.begin(&target, changes.key())?;
            loop {
                more = self.merge(&mut target, changes, more, end.as_deref())?;
                let is_small = !self.merged.is_empty() && self.merged.len() < SMALL_BYTES;
                let Some(next) = end.filter(|_| is_small) else { break };
                end = self.join(&mut target, &next)?;
            }
            self.write(&mut target)?;
            self.remove_emptied(&mut target)?;
        }
        Ok(())
    }

    /// Takes up the block that has a key, or would have; answers where the next starts.
    fn begin(&mut self, target: &Target, key: &[u8]) -> Result<Option<Vec<u8>>, RewriteError> {
        let Target { section, database, transaction } = target;
        let block = section.block_of(*database, transaction, key)?;
        let start = block.map_or(&[][..], |block| block.start);
        let next = section.block_behind(*database, transaction, start)?;
        self.old.clear();
        self.old.extend_from_slice(block.map_or(&[][..], |block| block.entries));
        self.exists = block.is_some();
        self.start = Some(start.to_vec());
        Ok(next.map(|next| next.start.to_vec()))
    }

    /// Takes up the block that starts so as well, as part of the one before; answers where the next starts.
    fn join(&mut self, target: &mut Target, start: &[u8]) -> Result<Option<Vec<u8>>, RewriteError> {
        let Target { section, database, transaction } = target;
        self.old.clear();
        if let Some(block) = section.block_of(*database, transaction, start)? {
            self.old.extend_from_slice(block.entries);
        }
        let next = section.block_behind(*database, transaction, start)?.map(|next| next.start.to_vec());
        section.set_key(&mut self.key, start);
        database.delete(transaction, &self.key)?;
        Ok(next)
    }

    /// Merges the old block with the changes up to its end; answers whether there are changes behind.
    fn merge(
        &mut self,
        target: &mut Target,
        changes: &mut Merge,
        mut more: bool,
        end: Option<&[u8]>,
    ) -> Result<bool, RewriteError> {
        let old = std::mem::take(&mut self.old);
        let mut rest = old.as_slice();
        let mut entry = take_entry(&mut rest)?;
        while more && end.is_none_or(|end| kept(changes.key()) < end) {
            while let Some((key, value)) = entry.filter(|(key, _)| *key < changes.key()) {
                self.push(target, key, value)?;
                entry = take_entry(&mut rest)?;
            }
            if entry.is_some_and(|(key, _)| key == changes.key()) {
                entry = take_entry(&mut rest)?;
            }
            if let Some(value) = changes.value() {
                self.push(target, changes.key(), value)?;
            }
            more = changes.advance()?;
        }
        while let Some((key, value)) = entry {
            self.push(target, key, value)?;
            entry = take_entry(&mut rest)?;
        }
        self.old = old;
        Ok(more)
    }

    #[inline]
    fn push(&mut self, target: &mut Target, key: &[u8], value: &[u8]) -> Result<(), RewriteError> {
        if self.merged.len() >= MERGED_BYTES && kept(key) != kept(&self.merged[self.last_key.clone()]) {
            self.write(target)?;
        }
        EncodedEntry { key, value: Some(value) }.put(&mut self.merged);
        let key_end = self.merged.len() - value.len();
        self.last_key = key_end - key.len()..key_end;
        Ok(())
    }

    /// Writes what is merged: in one block if it fits, else cut into even pieces.
    fn write(&mut self, target: &mut Target) -> Result<(), RewriteError> {
        let merged = std::mem::take(&mut self.merged);
        let fits = merged.len() <= BLOCK_BYTES;
        let pieces = if fits { 1 } else { merged.len().div_ceil(FILLED_BYTES) };
        let piece_bytes = merged.len().div_ceil(pieces);
        let mut begin = 0;
        while begin < merged.len() {
            let end = if fits { merged.len() } else { piece_end(&merged, begin, piece_bytes)? };
            self.put(target, &merged[begin..end])?;
            begin = end;
        }
        self.merged = merged;
        self.merged.clear();
        Ok(())
    }

    fn put(&mut self, target: &mut Target, entries: &[u8]) -> Result<(), RewriteError> {
        let first_key = take_entry(&mut { entries })?.map_or(&[][..], |(key, _)| key);
        target.section.set_key(&mut self.key, self.start.take().as_deref().unwrap_or(first_key));
        self.exists = false;
        self.value.clear();
        self.value.extend_from_slice(&[0; CRC_BYTES]);
        self.value.extend_from_slice(entries);
        self.value[..CRC_BYTES].copy_from_slice(&checksum(&self.key, entries));
        target.database.put(target.transaction, &self.key, &self.value)?;
        Ok(())
    }

    /// Deletes the block taken up when nothing was written in its place.
    fn remove_emptied(&mut self, target: &mut Target) -> Result<(), RewriteError> {
        if let Some(start) = self.start.take().filter(|_| self.exists) {
            target.section.set_key(&mut self.key, &start);
            target.database.delete(target.transaction, &self.key)?;
        }
        Ok(())
    }
}

/// Where the piece that begins there ends: about as large as wanted, with at least one entry.
fn piece_end(merged: &[u8], begin: usize, wanted_bytes: usize) -> Result<usize, BlockError> {
    let (mut rest, mut last_key) = (&merged[begin..], None);
    loop {
        let end = merged.len() - rest.len();
        let Some((key, _)) = take_entry(&mut rest)? else { return Ok(end) };
        let is_full = end - begin >= wanted_bytes || merged.len() - rest.len() - begin > BLOCK_BYTES;
        if is_full && last_key.is_some_and(|last_key| kept(last_key) != kept(key)) {
            return Ok(end);
        }
        last_key = Some(key);
    }
}
