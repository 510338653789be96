//! Reading segments: the index is kept in memory, blocks are read when asked for and checked before use.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use millstream_runtime::checkpoint::manifest::SegmentRef;
use millstream_runtime::ids::OperatorUid;
use millstream_runtime::key_group::KeyGroup;
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::store::BlobStore;
use millstream_runtime::state::cut::{OperatorState, StateDeclaration};
use millstream_runtime::state::entries::EncodedEntry;
use millstream_runtime::time::Timestamp;

use super::format::{
    CRC_BYTES, FOOTER_BYTES, Footer, HEADER_BYTES, Index, Section, SegmentInfo, decode_operator_states, header,
};

/// Read at once from the end when a segment is opened: footer and, mostly, index.
const TAIL_BYTES: u64 = 64 << 10;
/// Read at once while scanning.
const READ_AHEAD_BYTES: u64 = 256 << 10;
/// Read at once while checking a whole file.
const VERIFY_BYTES: u64 = 8 << 20;

/// What a segment says about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Its value.
    Value(Vec<u8>),
    /// It was deleted: older segments do not count.
    Tombstone,
    /// Nothing: ask an older segment.
    Nothing,
}

/// An open segment. Shared by all that read it.
pub struct SegmentReader {
    blobs: Arc<dyn BlobStore>,
    reference: SegmentRef,
    index: Index,
    /// The bytes scans have read ahead.
    window: Mutex<Window>,
}

#[derive(Default)]
struct Window {
    offset: u64,
    bytes: Vec<u8>,
}

impl Window {
    fn get(&self, range: Range<u64>) -> Option<&[u8]> {
        let start = usize::try_from(range.start.checked_sub(self.offset)?).ok()?;
        let end = usize::try_from(range.end - self.offset).ok()?;
        self.bytes.get(start..end)
    }
}

fn damaged(reference: &SegmentRef, how: &str) -> PortError {
    PortError::give_up(format!("{}: the segment is damaged: {how}", reference.path))
}

/// Checks a whole segment against the digest in its reference, and that it can be read.
///
/// # Errors
/// `GiveUp` when it is missing or damaged, `Retry` when the store cannot answer.
pub fn verify(blobs: &Arc<dyn BlobStore>, reference: &SegmentRef) -> Result<(), PortError> {
    let mut hasher = blake3::Hasher::new();
    let mut offset = 0;
    while offset < reference.size_bytes {
        let length = VERIFY_BYTES.min(reference.size_bytes - offset);
        hasher.update(&blobs.get_range(&reference.path, offset, length)?);
        offset += length;
    }
    if *hasher.finalize().as_bytes() != reference.digest {
        return Err(damaged(reference, "its digest is not the one in the manifest"));
    }
    SegmentReader::open(blobs, reference).map(|_| ())
}

impl SegmentReader {
    /// Opens a segment: reads its footer and index only.
    ///
    /// # Errors
    /// `GiveUp` when it is missing, cut short, damaged, of another format, or not what the reference says.
    pub fn open(blobs: &Arc<dyn BlobStore>, reference: &SegmentRef) -> Result<Self, PortError> {
        let size = reference.size_bytes;
        if size < (HEADER_BYTES + FOOTER_BYTES) as u64 {
            return Err(damaged(reference, "it is too short"));
        }
        let tail_length = size.min(TAIL_BYTES);
        let tail = blobs.get_range(&reference.path, size - tail_length, tail_length)?;
        if tail_length == size && tail[..HEADER_BYTES] != header() {
            return Err(damaged(reference, "its header is not that of a segment"));
        }
        let (body, footer) = tail.split_last_chunk::<FOOTER_BYTES>().expect("the tail holds the footer");
        let footer = Footer::decode(footer).map_err(|how| damaged(reference, &how))?;
        let index_end = footer.index.offset.checked_add(footer.index.length);
        if footer.size_bytes != size || index_end != Some(size - FOOTER_BYTES as u64) {
            return Err(damaged(reference, "its size is not the one it was written with"));
        }
        let bytes = match body.len().checked_sub(footer.index.length as usize) {
            Some(start) => body[start..].to_vec(),
            None => blobs.get_range(&reference.path, footer.index.offset, footer.index.length)?,
        };
        if crc32fast::hash(&bytes) != footer.index.crc {
            return Err(damaged(reference, "the checksum of its index does not match"));
        }
        let index = Index::decode(&bytes).ok_or_else(|| damaged(reference, "its index cannot be read"))?;
        if index.data_end() > footer.index.offset {
            return Err(damaged(reference, "its blocks reach into its index"));
        }
        if index.info.cuts != reference.cuts || index.info.attempt != reference.attempt {
            return Err(PortError::give_up(format!("{}: another segment lies under this name", reference.path)));
        }
        Ok(Self { blobs: Arc::clone(blobs), reference: reference.clone(), index, window: Mutex::default() })
    }

    /// How manifests refer to it, with the key groups that count.
    #[must_use]
    pub fn reference(&self) -> &SegmentRef {
        &self.reference
    }

    /// Who wrote it.
    #[must_use]
    pub fn info(&self) -> &SegmentInfo {
        &self.index.info
    }

    /// The subtask's watermark at its last cut.
    #[must_use]
    pub fn watermark(&self) -> Timestamp {
        self.index.info.watermark
    }

    /// Operators in it, by uid.
    pub fn operators(&self) -> impl Iterator<Item = &OperatorUid> {
        self.index.operators.iter().map(|operator| &operator.uid)
    }

    /// The keyed states an operator declared; empty when it is not in the segment.
    #[must_use]
    pub fn declarations(&self, uid: &OperatorUid) -> &[StateDeclaration] {
        self.index.operator(uid).map_or(&[], |operator| &operator.declarations)
    }

    /// The operator states of an operator; empty when it has none here.
    ///
    /// # Errors
    /// When the segment is damaged or cannot be read.
    pub fn operator_states(&self, uid: &OperatorUid) -> Result<Vec<OperatorState>, PortError> {
        let Some(region) = self.index.operator(uid).and_then(|operator| operator.states) else { return Ok(Vec::new()) };
        let bytes = self.blobs.get_range(&self.reference.path, region.offset, region.length)?;
        if crc32fast::hash(&bytes) != region.crc {
            return Err(self.damaged("the checksum of its operator state does not match"));
        }
        decode_operator_states(&bytes).ok_or_else(|| self.damaged("its operator state cannot be read"))
    }

    /// What it says about a key. Nothing for a key group that does not count.
    ///
    /// # Errors
    /// When the segment is damaged or cannot be read.
    pub fn get(&self, uid: &OperatorUid, state: &str, group: KeyGroup, key: &[u8]) -> Result<Found, PortError> {
        let Some(mut cursor) = self.cursor(uid, state, group) else { return Ok(Found::Nothing) };
        if !cursor.seek(key)? || cursor.key() != key {
            return Ok(Found::Nothing);
        }
        Ok(cursor.value().map_or(Found::Tombstone, |value| Found::Value(value.to_vec())))
    }

    /// The entries of one state in one key group, tombstones included, in key order; `None` when there are none that
    /// count. The cursor stands before the first.
    #[must_use]
    pub fn scan(&self, uid: &OperatorUid, state: &str, group: KeyGroup) -> Option<EntryCursor<'_>> {
        self.cursor(uid, state, group).map(|mut cursor| {
            cursor.ahead = true;
            cursor
        })
    }

    /// A cursor for lookups of single keys of one state in one key group, best in key order; `None` when there are no
    /// entries that count.
    #[must_use]
    pub fn lookup(&self, uid: &OperatorUid, state: &str, group: KeyGroup) -> Option<EntryCursor<'_>> {
        self.cursor(uid, state, group)
    }

    fn cursor(&self, uid: &OperatorUid, state: &str, group: KeyGroup) -> Option<EntryCursor<'_>> {
        self.section(uid, state, group).map(|section| EntryCursor {
            reader: self,
            remaining: section.blocks.clone(),
            section: section.blocks.clone(),
            ahead: false,
            block: Vec::new(),
            loaded: None,
            next: 0,
            key: 0..0,
            value: None,
        })
    }

    fn section(&self, uid: &OperatorUid, state: &str, group: KeyGroup) -> Option<&Section> {
        if !self.reference.key_groups.contains(&group.0) {
            return None;
        }
        let operator = self.index.operator(uid)?;
        operator.section(operator.declaration(state)?.number, group)
    }

    /// Key groups that count and have entries, with the number of entries (tombstones included).
    pub fn groups(&self, uid: &OperatorUid, state: &str) -> impl Iterator<Item = (KeyGroup, u64)> {
        let operator = self.index.operator(uid);
        let number = operator.and_then(|operator| operator.declaration(state)).map(|declaration| declaration.number);
        let sections = operator.map_or(&[][..], |operator| &operator.sections);
        sections
            .iter()
            .filter(move |section| Some(section.state) == number)
            .filter(|section| self.reference.key_groups.contains(&section.group.0))
            .map(|section| (section.group, section.entries))
    }

    /// Encoded bytes of the entries that count, by key group.
    pub(super) fn group_bytes(&self) -> impl Iterator<Item = (KeyGroup, u64)> {
        let sections = self.index.operators.iter().flat_map(|operator| &operator.sections);
        sections.filter(|section| self.reference.key_groups.contains(&section.group.0)).map(|section| {
            (section.group, self.index.blocks[section.blocks.clone()].iter().map(|block| u64::from(block.length)).sum())
        })
    }

    fn damaged(&self, how: &str) -> PortError {
        damaged(&self.reference, how)
    }

    /// Reads a block into `out` and checks it.
    fn read_block(&self, number: usize, ahead: bool, out: &mut Vec<u8>) -> Result<(), PortError> {
        let block = &self.index.blocks[number];
        let range = block.offset..block.end();
        out.clear();
        if ahead {
            let mut window = self.window.lock().expect("nothing panics while it holds the lock");
            if window.get(range.clone()).is_none() {
                let end = (range.start + READ_AHEAD_BYTES).min(self.index.data_end()).max(range.end);
                window.bytes = self.blobs.get_range(&self.reference.path, range.start, end - range.start)?;
                window.offset = range.start;
            }
            out.extend_from_slice(window.get(range).expect("just read"));
        } else {
            *out = self.blobs.get_range(&self.reference.path, range.start, range.end - range.start)?;
        }
        let content = out.len() - CRC_BYTES;
        if crc32fast::hash(&out[..content]).to_be_bytes() != out[content..] {
            return Err(self.damaged(&format!("the checksum of block {number} does not match")));
        }
        out.truncate(content);
        Ok(())
    }
}

/// Walks the entries of one section in key order.
pub struct EntryCursor<'a> {
    reader: &'a SegmentReader,
    section: Range<usize>,
    /// Blocks not read yet.
    remaining: Range<usize>,
    ahead: bool,
    block: Vec<u8>,
    /// Which block `block` holds.
    loaded: Option<usize>,
    next: usize,
    key: Range<usize>,
    value: Option<Range<usize>>,
}

impl EntryCursor<'_> {
    /// Goes to the next entry; false at the end.
    ///
    /// # Errors
    /// When the segment is damaged or cannot be read.
    pub fn advance(&mut self) -> Result<bool, PortError> {
        while self.next >= self.block.len() {
            let Some(number) = self.remaining.next() else { return Ok(false) };
            self.load(number)?;
        }
        let mut rest = &self.block[self.next..];
        let Some(EncodedEntry { key, value }) = EncodedEntry::take(&mut rest) else {
            return Err(self.reader.damaged("a block cannot be read"));
        };
        let end = self.block.len() - rest.len();
        let key_end = end - value.map_or(0, <[u8]>::len);
        (self.key, self.value, self.next) = (key_end - key.len()..key_end, value.map(|_| key_end..end), end);
        Ok(true)
    }

    /// Goes to the first entry at or behind `key`; false when there is none. Cheap when keys are asked for in order.
    ///
    /// # Errors
    /// When the segment is damaged or cannot be read.
    pub fn seek(&mut self, key: &[u8]) -> Result<bool, PortError> {
        if self.section.is_empty() {
            // All entries were deleted and merged away; the next block belongs to another section.
            return Ok(false);
        }
        let blocks = &self.reader.index.blocks[self.section.clone()];
        let behind = blocks.partition_point(|block| block.first_key.as_slice() <= key);
        let number = self.section.start + behind.saturating_sub(1);
        if self.loaded != Some(number) {
            self.load(number)?;
        } else if self.key() >= key {
            self.next = 0;
        }
        self.remaining = number + 1..self.section.end;
        while self.advance()? {
            if self.key() >= key {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn load(&mut self, number: usize) -> Result<(), PortError> {
        self.loaded = None;
        self.next = 0;
        self.key = 0..0;
        self.reader.read_block(number, self.ahead, &mut self.block)?;
        self.loaded = Some(number);
        Ok(())
    }

    /// The key of the entry the cursor is at.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.block[self.key.clone()]
    }

    /// Its value; `None` for a tombstone.
    #[must_use]
    pub fn value(&self) -> Option<&[u8]> {
        self.value.clone().map(|value| &self.block[value])
    }
}
