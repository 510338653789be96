//! The layout of a segment file: its index and its footer. Written by `writer`, read by `reader`.

use std::ops::Range;

use millstream_runtime::ids::{AttemptId, AttemptNumber, CutNumber, Epoch, JobId, OperatorUid, SubtaskIndex, VertexId};
use millstream_runtime::key_group::KeyGroup;
use millstream_runtime::ports::state::StateNumber;
use millstream_runtime::state::cut::{OperatorState, Redistribution, StateDeclaration};
use millstream_runtime::time::Timestamp;

use crate::frame::{Fields, put_bytes, put_varint};

pub(super) const MAGIC: [u8; 8] = *b"MSSEGMNT";
/// Version of the layout.
pub const VERSION: u16 = 1;
/// Entries are grouped into blocks of about this size; the unit of reading and of checksums.
pub const BLOCK_BYTES: usize = 16 << 10;

/// Set in the byte that says how an operator state is dealt out when a version follows.
const VERSIONED: u8 = 0x80;

pub(super) const HEADER_BYTES: usize = 16;
pub(super) const FOOTER_BYTES: usize = 44;
pub(super) const CRC_BYTES: usize = 4;

/// Who wrote a segment, and what it covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// The job.
    pub job: JobId,
    /// The vertex.
    pub vertex: VertexId,
    /// The subtask.
    pub subtask: SubtaskIndex,
    /// The deployment that wrote it.
    pub attempt: AttemptId,
    /// First and last cut.
    pub cuts: (CutNumber, CutNumber),
    /// Key groups of the subtask that wrote it.
    pub key_groups: Range<u16>,
    /// The subtask's watermark at the last cut.
    pub watermark: Timestamp,
}

/// Everything a reader keeps in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Index {
    pub info: SegmentInfo,
    /// Sorted by uid.
    pub operators: Vec<OperatorIndex>,
    /// In file order, contiguous from the header.
    pub blocks: Vec<Block>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OperatorIndex {
    pub uid: OperatorUid,
    pub declarations: Vec<StateDeclaration>,
    /// Sorted by state and group.
    pub sections: Vec<Section>,
    pub states: Option<Region>,
}

/// Entries of one state in one key group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Section {
    pub state: StateNumber,
    pub group: KeyGroup,
    pub entries: u64,
    pub blocks: Range<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub offset: u64,
    /// Without its CRC.
    pub length: u32,
    pub first_key: Vec<u8>,
}

impl Block {
    pub fn end(&self) -> u64 {
        self.offset + u64::from(self.length) + CRC_BYTES as u64
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Region {
    pub offset: u64,
    pub length: u64,
    pub crc: u32,
}

impl OperatorIndex {
    pub fn declaration(&self, name: &str) -> Option<&StateDeclaration> {
        self.declarations.iter().find(|declaration| declaration.name == name)
    }

    pub fn section(&self, state: StateNumber, group: KeyGroup) -> Option<&Section> {
        let found = self.sections.binary_search_by_key(&(state, group), |section| (section.state, section.group));
        found.ok().map(|index| &self.sections[index])
    }
}

impl Index {
    pub fn operator(&self, uid: &OperatorUid) -> Option<&OperatorIndex> {
        self.operators.binary_search_by(|operator| operator.uid.cmp(uid)).ok().map(|index| &self.operators[index])
    }

    /// Where the blocks end.
    pub fn data_end(&self) -> u64 {
        self.blocks.last().map_or(HEADER_BYTES as u64, Block::end)
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256 + self.blocks.len() * 32);
        encode_info(&self.info, &mut out);
        put_varint(&mut out, self.operators.len() as u64);
        for operator in &self.operators {
            encode_operator(operator, &mut out);
        }
        put_varint(&mut out, self.blocks.len() as u64);
        for block in &self.blocks {
            put_varint(&mut out, u64::from(block.length));
            put_bytes(&mut out, &block.first_key);
        }
        out
    }

    /// `None` when the bytes are not an index.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let info = decode_info(&mut fields)?;
        let count = fields.count()?;
        let mut next_block = 0;
        let operators =
            (0..count).map(|_| decode_operator(&mut fields, &mut next_block)).collect::<Option<Vec<_>>>()?;
        let count = fields.count()?;
        let mut offset = HEADER_BYTES as u64;
        let mut blocks = Vec::with_capacity(count);
        for _ in 0..count {
            let block = Block { offset, length: fields.number()?, first_key: fields.bytes()?.to_vec() };
            offset = block.end();
            blocks.push(block);
        }
        (fields.0.is_empty() && next_block == blocks.len()).then_some(Self { info, operators, blocks })
    }
}

fn encode_info(info: &SegmentInfo, out: &mut Vec<u8>) {
    out.extend_from_slice(&info.job.0);
    out.extend_from_slice(&info.vertex.0);
    put_varint(out, u64::from(info.subtask.0));
    put_varint(out, info.attempt.epoch.0);
    put_varint(out, u64::from(info.attempt.attempt.0));
    put_varint(out, info.cuts.0.0);
    put_varint(out, info.cuts.1.0);
    put_varint(out, u64::from(info.key_groups.start));
    put_varint(out, u64::from(info.key_groups.end));
    out.extend_from_slice(&info.watermark.to_be_bytes());
}

fn decode_info(fields: &mut Fields) -> Option<SegmentInfo> {
    Some(SegmentInfo {
        job: JobId(fields.array()?),
        vertex: VertexId(fields.array()?),
        subtask: SubtaskIndex(fields.number()?),
        attempt: AttemptId { epoch: Epoch(fields.varint()?), attempt: AttemptNumber(fields.number()?) },
        cuts: (CutNumber(fields.varint()?), CutNumber(fields.varint()?)),
        key_groups: fields.number()?..fields.number()?,
        watermark: i64::from_be_bytes(fields.array()?),
    })
}

fn encode_operator(operator: &OperatorIndex, out: &mut Vec<u8>) {
    put_bytes(out, operator.uid.0.as_bytes());
    put_varint(out, operator.declarations.len() as u64);
    for declaration in &operator.declarations {
        put_varint(out, u64::from(declaration.number.0));
        put_bytes(out, declaration.name.as_bytes());
        put_varint(out, u64::from(declaration.version));
    }
    put_varint(out, operator.sections.len() as u64);
    for section in &operator.sections {
        put_varint(out, u64::from(section.state.0));
        put_varint(out, u64::from(section.group.0));
        put_varint(out, section.entries);
        put_varint(out, section.blocks.len() as u64);
    }
    out.push(u8::from(operator.states.is_some()));
    if let Some(region) = operator.states {
        put_varint(out, region.offset);
        put_varint(out, region.length);
        out.extend_from_slice(&region.crc.to_be_bytes());
    }
}

fn decode_operator(fields: &mut Fields, next_block: &mut usize) -> Option<OperatorIndex> {
    let uid = OperatorUid(fields.text()?);
    let mut declarations = Vec::new();
    for _ in 0..fields.count()? {
        let number = StateNumber(fields.number()?);
        declarations.push(StateDeclaration { number, name: fields.text()?, version: fields.number()? });
    }
    let mut sections = Vec::new();
    for _ in 0..fields.count()? {
        let state = StateNumber(fields.number()?);
        let group = KeyGroup(fields.number()?);
        let entries = fields.varint()?;
        // Blocks are numbered through in the order of the sections.
        let first = *next_block;
        *next_block = first.checked_add(fields.number()?)?;
        sections.push(Section { state, group, entries, blocks: first..*next_block });
    }
    let states = match fields.take(1)? {
        [0] => None,
        [1] => Some(Region {
            offset: fields.varint()?,
            length: fields.varint()?,
            crc: u32::from_be_bytes(fields.array()?),
        }),
        _ => return None,
    };
    Some(OperatorIndex { uid, declarations, sections, states })
}

/// The last bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    pub index: Region,
    /// Of the whole file.
    pub size_bytes: u64,
}

impl Footer {
    pub fn encode(&self) -> [u8; FOOTER_BYTES] {
        let mut out = [0; FOOTER_BYTES];
        out[..8].copy_from_slice(&MAGIC);
        out[8..10].copy_from_slice(&VERSION.to_be_bytes());
        out[12..20].copy_from_slice(&self.index.offset.to_be_bytes());
        out[20..28].copy_from_slice(&self.index.length.to_be_bytes());
        out[28..32].copy_from_slice(&self.index.crc.to_be_bytes());
        out[32..40].copy_from_slice(&self.size_bytes.to_be_bytes());
        let crc = crc32fast::hash(&out[..40]);
        out[40..].copy_from_slice(&crc.to_be_bytes());
        out
    }

    /// What is wrong in words, when something is.
    pub fn decode(bytes: &[u8; FOOTER_BYTES]) -> Result<Self, String> {
        let word = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let half = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        if bytes[..8] != MAGIC {
            return Err("this is not a segment, or it is cut short".to_string());
        }
        if crc32fast::hash(&bytes[..40]) != half(40) {
            return Err("the checksum of its footer does not match".to_string());
        }
        let version = u16::from_be_bytes([bytes[8], bytes[9]]);
        if version != VERSION {
            return Err(format!("it has format version {version}, this program reads version {VERSION}"));
        }
        let index = Region { offset: word(12), length: word(20), crc: half(28) };
        Ok(Self { index, size_bytes: word(32) })
    }
}

pub(super) fn header() -> [u8; HEADER_BYTES] {
    let mut out = [0; HEADER_BYTES];
    out[..8].copy_from_slice(&MAGIC);
    out[8..10].copy_from_slice(&VERSION.to_be_bytes());
    let crc = crc32fast::hash(&out[..12]);
    out[12..].copy_from_slice(&crc.to_be_bytes());
    out
}

pub(super) fn encode_operator_states(states: &[OperatorState]) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, states.len() as u64);
    for state in states {
        put_bytes(&mut out, state.name.as_bytes());
        let redistribution = match state.redistribution {
            Redistribution::Split => 0,
            Redistribution::Union => 1,
            Redistribution::Broadcast => 2,
            Redistribution::KeyGroup => 3,
        };
        // The first version is not written: it was all there was before.
        if state.version == 1 {
            out.push(redistribution);
        } else {
            out.push(redistribution | VERSIONED);
            put_varint(&mut out, u64::from(state.version));
        }
        put_varint(&mut out, state.items.len() as u64);
        for item in &state.items {
            put_bytes(&mut out, item);
        }
    }
    out
}

pub(super) fn decode_operator_states(bytes: &[u8]) -> Option<Vec<OperatorState>> {
    let mut fields = Fields(bytes);
    let mut states = Vec::new();
    for _ in 0..fields.count()? {
        let name = fields.text()?;
        let [how] = fields.array()?;
        let redistribution = match how & !VERSIONED {
            0 => Redistribution::Split,
            1 => Redistribution::Union,
            2 => Redistribution::Broadcast,
            3 => Redistribution::KeyGroup,
            _ => return None,
        };
        let version = if how & VERSIONED == 0 { 1 } else { fields.number()? };
        let count = fields.count()?;
        let items = (0..count).map(|_| fields.bytes().map(<[u8]>::to_vec)).collect::<Option<Vec<_>>>()?;
        states.push(OperatorState { name, version, redistribution, items });
    }
    fields.0.is_empty().then_some(states)
}
