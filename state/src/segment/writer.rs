//! Writing segments: a cut is sorted and encoded in one pass; the same builder takes the merged entries of a chain.

use std::ops::Range;

use millstream_runtime::checkpoint::manifest::SegmentRef;
use millstream_runtime::ids::{AttemptId, CutNumber, JobId, OperatorUid, SubtaskIndex, VertexId};
use millstream_runtime::key_group::KeyGroup;
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::state::StateNumber;
use millstream_runtime::ports::store::BlobStore;
use millstream_runtime::state::cut::{Cut, Entries, OperatorCut, OperatorState, StateDeclaration};
use millstream_runtime::time::Timestamp;

use super::format::{
    BLOCK_BYTES, Block, Footer, Index, OperatorIndex, Region, Section, SegmentInfo, encode_operator_states, header,
};
use crate::failpoint::{Failpoints, SEGMENT_WRITTEN};
use crate::frame::put_varint;
use crate::names;

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
    let info = context.info((cut.number, cut.number), cut.watermark);
    let path = names::segment(context.job, context.vertex, context.attempt, context.subtask, cut.number);
    let entries = cut.operators.iter().flat_map(|operator| &operator.keyed).map(|section| &section.entries);
    let size = entries.fold(0, |size, entries| size + entries.size_bytes() + entries.len() * 4 + 64);
    let mut builder = SegmentBuilder::new(info, size);
    let mut operators: Vec<&OperatorCut> = cut.operators.iter().collect();
    operators.sort_by(|a, b| a.uid.cmp(&b.uid));
    for operator in operators {
        builder.begin_operator(operator.uid.clone(), operator.declarations.clone());
        let mut sections: Vec<_> = operator.keyed.iter().collect();
        sections.sort_by_key(|section| (section.state, section.group));
        for section in sections {
            builder.begin_section(section.state, section.group);
            push_sorted(&mut builder, &section.entries);
        }
        builder.end_operator(&operator.operator_states);
    }
    builder.finish(|_| path)
}

/// Sorts through eight bytes of each key behind what all keys share: most comparisons never touch the keys.
fn push_sorted(builder: &mut SegmentBuilder, entries: &Entries) {
    let all: Vec<(&[u8], Option<&[u8]>)> = entries.iter().collect();
    let Some((first, _)) = all.first() else { return };
    let shared = all
        .iter()
        .fold(first.len(), |shared, (key, _)| first[..shared].iter().zip(*key).take_while(|(a, b)| a == b).count());
    let mut order: Vec<(u64, u32)> = Vec::with_capacity(all.len());
    for (index, (key, _)) in all.iter().enumerate() {
        let rest = &key[shared..];
        let mut prefix = [0; 8];
        let length = rest.len().min(8);
        prefix[..length].copy_from_slice(&rest[..length]);
        order.push((u64::from_be_bytes(prefix), index as u32));
    }
    order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| all[a.1 as usize].0.cmp(all[b.1 as usize].0)));
    for (_, index) in order {
        let (key, value) = all[index as usize];
        builder.push(key, value);
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
        let mut out = Vec::with_capacity(expected_bytes + expected_bytes / 16 + 4096);
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
        if self.out.len() - self.block_start >= BLOCK_BYTES {
            self.end_block();
        }
        let operator = self.operator.as_mut().expect("an entry belongs to an operator");
        let section = operator.sections.last_mut().expect("an entry belongs to a section");
        if self.out.len() == self.block_start {
            self.blocks.push(Block { offset: self.block_start as u64, length: 0, first_key: key.to_vec() });
        }
        if section.entries > 0 {
            assert!(&self.out[self.last_key.clone()] < key, "a key twice in one section of one cut");
        }
        section.entries += 1;
        put_varint(&mut self.out, key.len() as u64);
        put_varint(&mut self.out, value.map_or(0, |value| value.len() as u64 + 1));
        self.last_key = self.out.len()..self.out.len() + key.len();
        self.out.extend_from_slice(key);
        self.out.extend_from_slice(value.unwrap_or_default());
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
