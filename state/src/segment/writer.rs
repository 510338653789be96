//! Writing segments: a cut is sorted and encoded in one pass; the same builder takes the merged entries of a chain.

use std::ops::Range;

use millstream_runtime::checkpoint::manifest::SegmentRef;
use millstream_runtime::ids::{AttemptId, CutNumber, JobId, OperatorUid, SubtaskIndex, VertexId};
use millstream_runtime::key_group::KeyGroup;
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::state::StateNumber;
use millstream_runtime::ports::store::BlobStore;
use millstream_runtime::state::cut::{Cut, Entries, OperatorCut, OperatorState, StateDeclaration};
use millstream_runtime::state::entries::EncodedEntry;
use millstream_runtime::time::Timestamp;

use super::format::{
    BLOCK_BYTES, Block, Footer, Index, OperatorIndex, Region, Section, SegmentInfo, encode_operator_states, header,
};
use crate::failpoint::{Failpoints, SEGMENT_WRITTEN};
use crate::names;

/// Memory of this size at most is kept for the next segment.
const SPARE_BYTES: usize = 32 << 20;

/// Whose cuts are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentContext {
    /// The job.
    pub job: JobId,
    /// The vertex.
    pub vertex: VertexId,
    /// The subtask.
    pub subtask: SubtaskIndex,
    /// The deployment.
    pub attempt: AttemptId,
    /// The key groups of the subtask.
    pub key_groups: Range<u16>,
}

impl SegmentContext {
    pub(super) fn info(&self, cuts: (CutNumber, CutNumber), watermark: Timestamp) -> SegmentInfo {
        SegmentInfo {
            job: self.job,
            vertex: self.vertex,
            subtask: self.subtask,
            attempt: self.attempt,
            cuts,
            key_groups: self.key_groups.clone(),
            watermark,
        }
    }
}

/// A segment in memory, ready to be stored.
#[derive(Clone, Debug)]
pub struct EncodedSegment {
    /// How manifests refer to it.
    pub reference: SegmentRef,
    /// The whole file.
    pub bytes: Vec<u8>,
}

impl EncodedSegment {
    /// Makes it durable under its name.
    ///
    /// # Errors
    /// When the store refuses; writing again is harmless.
    pub fn store(&self, blobs: &dyn BlobStore, failpoints: &Failpoints) -> Result<(), PortError> {
        blobs.put(&self.reference.path, &[&self.bytes])?;
        failpoints.hit(SEGMENT_WRITTEN);
        Ok(())
    }
}

/// Sorts and encodes a cut.
#[must_use]
pub fn write_segment(cut: &Cut, context: &SegmentContext) -> EncodedSegment {
    SegmentWriter::default().write(cut, context)
}

/// Sorts and encodes one cut after the other in the same memory: new memory has to be cleared by the system, page by page,
/// which costs more than what is written there.
#[derive(Default)]
pub struct SegmentWriter {
    /// Of a segment that is written.
    spare: Vec<u8>,
    sorter: Sorter,
}

impl SegmentWriter {
    /// Sorts and encodes a cut.
    #[must_use]
    pub fn write(&mut self, cut: &Cut, context: &SegmentContext) -> EncodedSegment {
        let info = context.info((cut.number, cut.number), cut.watermark);
        let path = names::segment(context.job, context.vertex, context.attempt, context.subtask, cut.number);
        let sections = cut.operators.iter().flat_map(|operator| &operator.keyed);
        let size = sections.fold(0, |size, section| size + section.entries.as_bytes().len() + 64);
        let mut builder = SegmentBuilder::within(std::mem::take(&mut self.spare), info, size);
        let mut operators: Vec<&OperatorCut> = cut.operators.iter().collect();
        operators.sort_by(|a, b| a.uid.cmp(&b.uid));
        for operator in operators {
            builder.begin_operator(operator.uid.clone(), operator.declarations.clone());
            let mut sections: Vec<_> = operator.keyed.iter().collect();
            sections.sort_by_key(|section| (section.state, section.group));
            for section in sections {
                builder.begin_section(section.state, section.group);
                let distinct = self.sorter.push_sorted(&mut builder, &section.entries);
                assert!(distinct, "a key twice in one section of one cut");
            }
            builder.end_operator(&operator.operator_states);
        }
        builder.finish(|_| path)
    }

    /// Takes the memory of a segment that nobody needs any more, unless it is much.
    pub fn reuse(&mut self, segment: EncodedSegment) {
        if segment.bytes.capacity() <= SPARE_BYTES {
            self.spare = segment.bytes;
            self.spare.clear();
        }
    }
}

/// Sorts the sections of a cut; its memory is used again for each.
#[derive(Default)]
pub(super) struct Sorter {
    order: Vec<Place>,
}

/// Where an entry lies in the arena of its section, and what mostly decides where it belongs: eight bytes of its key
/// behind what all keys share, so that most comparisons never touch the keys.
#[derive(Clone, Copy)]
struct Place {
    prefix: u64,
    start: u32,
    end: u32,
}

impl Place {
    fn encoded<'a>(&self, entries: &'a Entries) -> &'a [u8] {
        &entries.as_bytes()[self.start as usize..self.end as usize]
    }

    fn key<'a>(&self, entries: &'a Entries) -> &'a [u8] {
        EncodedEntry::take(&mut self.encoded(entries)).expect("it was read here before").key
    }
}

impl Sorter {
    /// Pushes the entries in the order of their keys; false when two have the same. They are copied as they are encoded.
    #[must_use]
    pub fn push_sorted(&mut self, builder: &mut SegmentBuilder, entries: &Entries) -> bool {
        self.sort(entries);
        let mut before: Option<Place> = None;
        for place in &self.order {
            let key = place.key(entries);
            let is_behind = before.is_none_or(|before| before.prefix < place.prefix || before.key(entries) < key);
            if !is_behind {
                return false;
            }
            builder.push_encoded(key, place.encoded(entries));
            before = Some(*place);
        }
        true
    }

    fn sort(&mut self, entries: &Entries) {
        self.order.clear();
        let Some((first, _)) = entries.iter().next() else { return };
        let mut shared = first;
        for (key, _) in entries.iter() {
            if !key.starts_with(shared) {
                shared = &shared[..shared.iter().zip(key).take_while(|(a, b)| a == b).count()];
            }
        }
        let size = entries.as_bytes().len();
        let mut rest = entries.as_bytes();
        while !rest.is_empty() {
            let start = size - rest.len();
            let entry = EncodedEntry::take(&mut rest).expect("only whole entries are appended");
            let behind = &entry.key[shared.len()..];
            let prefix = behind.first_chunk::<8>().copied().unwrap_or_else(|| {
                let mut padded = [0; 8];
                padded[..behind.len()].copy_from_slice(behind);
                padded
            });
            let place = |at: usize| u32::try_from(at).expect("an arena stays below 4 GiB");
            let prefix = u64::from_be_bytes(prefix);
            self.order.push(Place { prefix, start: place(start), end: place(size - rest.len()) });
        }
        self.order.sort_unstable_by_key(|place| place.prefix);
        // Short keys are padded and long ones cut: those are told apart by the whole key.
        for same in self.order.chunk_by_mut(|a, b| a.prefix == b.prefix).filter(|same| same.len() > 1) {
            same.sort_unstable_by(|a, b| a.key(entries).cmp(b.key(entries)));
        }
    }
}

/// Encodes sorted entries. Operators by uid, sections by state and group, entries by key: asserted.
pub(super) struct SegmentBuilder {
    info: SegmentInfo,
    operators: Vec<OperatorIndex>,
    /// The operator being written.
    operator: Option<OperatorIndex>,
    /// Encoded operator states with the operator they belong to; written behind the blocks.
    states: Vec<(usize, Vec<u8>)>,
    blocks: Vec<Block>,
    out: Vec<u8>,
    block_start: usize,
    last_key: Range<usize>,
}

impl SegmentBuilder {
    pub fn new(info: SegmentInfo, expected_bytes: usize) -> Self {
        Self::within(Vec::new(), info, expected_bytes)
    }

    /// Encodes into memory that is there already.
    fn within(mut out: Vec<u8>, info: SegmentInfo, expected_bytes: usize) -> Self {
        out.clear();
        out.reserve(expected_bytes + expected_bytes / 16 + 4096);
        out.extend_from_slice(&header());
        let block_start = out.len();
        Self {
            info,
            operators: Vec::new(),
            operator: None,
            states: Vec::new(),
            blocks: Vec::new(),
            out,
            block_start,
            last_key: 0..0,
        }
    }

    pub fn begin_operator(&mut self, uid: OperatorUid, declarations: Vec<StateDeclaration>) {
        assert!(self.operator.is_none(), "the operator before is not ended");
        if let Some(last) = self.operators.last() {
            assert!(last.uid < uid, "operator '{uid}' twice in one cut, or out of order behind '{}'", last.uid);
        }
        self.operator = Some(OperatorIndex { uid, declarations, sections: Vec::new(), states: None });
    }

    pub fn begin_section(&mut self, state: StateNumber, group: KeyGroup) {
        self.end_block();
        let block = self.blocks.len();
        let operator = self.operator.as_mut().expect("a section belongs to an operator");
        if let Some(last) = operator.sections.last_mut() {
            assert!((last.state, last.group) < (state, group), "sections of {state:?} {group:?} twice or out of order");
            last.blocks.end = block;
        }
        operator.sections.push(Section { state, group, entries: 0, blocks: block..block });
    }

    #[inline]
    pub fn push(&mut self, key: &[u8], value: Option<&[u8]>) {
        let is_first = self.begin_entry(key);
        assert!(is_first || &self.out[self.last_key.clone()] < key, "a key twice in one section of one cut");
        EncodedEntry { key, value }.put(&mut self.out);
        let key_end = self.out.len() - value.map_or(0, <[u8]>::len);
        self.last_key = key_end - key.len()..key_end;
    }

    /// Adds an encoded entry whose key the caller knows to be behind the one before.
    #[inline]
    fn push_encoded(&mut self, key: &[u8], encoded: &[u8]) {
        self.begin_entry(key);
        self.out.extend_from_slice(encoded);
    }

    /// Begins a block when the one before is full; answers whether this is the first entry of its section.
    #[inline]
    fn begin_entry(&mut self, key: &[u8]) -> bool {
        if self.out.len() - self.block_start >= BLOCK_BYTES {
            self.end_block();
        }
        if self.out.len() == self.block_start {
            self.blocks.push(Block { offset: self.block_start as u64, length: 0, first_key: key.to_vec() });
        }
        let operator = self.operator.as_mut().expect("an entry belongs to an operator");
        let section = operator.sections.last_mut().expect("an entry belongs to a section");
        section.entries += 1;
        section.entries == 1
    }

    fn end_block(&mut self) {
        if self.out.len() > self.block_start {
            let content = &self.out[self.block_start..];
            let block = self.blocks.last_mut().expect("pushed with its first entry");
            block.length = u32::try_from(content.len()).expect("an entry stays below 4 GiB");
            let crc = crc32fast::hash(content);
            self.out.extend_from_slice(&crc.to_be_bytes());
            self.block_start = self.out.len();
        }
    }

    pub fn end_operator(&mut self, states: &[OperatorState]) {
        self.end_block();
        let mut operator = self.operator.take().expect("begun before it is ended");
        if let Some(last) = operator.sections.last_mut() {
            last.blocks.end = self.blocks.len();
        }
        if !states.is_empty() {
            self.states.push((self.operators.len(), encode_operator_states(states)));
        }
        self.operators.push(operator);
    }

    /// Adds what follows the blocks. `path` gets the digest of the whole.
    pub fn finish(mut self, path: impl FnOnce(&[u8; 32]) -> String) -> EncodedSegment {
        assert!(self.operator.is_none(), "the last operator is not ended");
        for (operator, bytes) in std::mem::take(&mut self.states) {
            let offset = self.out.len() as u64;
            let region = Region { offset, length: bytes.len() as u64, crc: crc32fast::hash(&bytes) };
            self.out.extend_from_slice(&bytes);
            self.operators[operator].states = Some(region);
        }
        let index = Index { info: self.info, operators: self.operators, blocks: self.blocks };
        let encoded = index.encode();
        let offset = self.out.len() as u64;
        let region = Region { offset, length: encoded.len() as u64, crc: crc32fast::hash(&encoded) };
        self.out.extend_from_slice(&encoded);
        let size_bytes = (self.out.len() + super::format::FOOTER_BYTES) as u64;
        self.out.extend_from_slice(&Footer { index: region, size_bytes }.encode());
        let digest = *blake3::hash(&self.out).as_bytes();
        let info = index.info;
        let reference = SegmentRef {
            path: path(&digest),
            size_bytes,
            digest,
            cuts: info.cuts,
            attempt: info.attempt,
            key_groups: info.key_groups,
        };
        EncodedSegment { reference, bytes: self.out }
    }
}
