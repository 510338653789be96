//! One file as its reader sees it: chunks in, records out, and the position after the last record.

use std::path::PathBuf;

use millstream_runtime::ports::PortError;
use millstream_runtime::ports::source::{ReaderContext, Split};
use millstream_runtime::time::Timestamp;

use super::content::{FileContent, Opening, is_compressed, refuse_shrunk};
use super::feed::{Chunk, Feed, Request};
use super::format::{Line, LineFormat};
use super::lines::{LineBuffer, RawLine};
use super::position::Position;

/// What a split does at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// There may be more in the file.
    Reading,
    /// The end was met, and the file may grow.
    Tailing,
    /// The end was met, for good.
    Finished,
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Rows,
    NotReady,
    Idle,
    Finished,
}

/// How chunks are to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChunkPlan {
    pub chunk_bytes: usize,
    pub keep_open: bool,
}

pub(super) struct OpenSplit<F: LineFormat> {
    name: String,
    pub path: PathBuf,
    pub phase: Phase,
    /// After the last line given to the format.
    position: Position<F::SplitState>,
    floor: Timestamp,
    lines: LineBuffer,
    feed: Feed,
    content: Option<FileContent>,
    spare: Vec<u8>,
    /// Next byte to be read, in uncompressed bytes.
    pub read_offset: u64,
    at_end: bool,
    /// Whether the file is read on when it grows.
    tails: bool,
}

impl<F: LineFormat> OpenSplit<F> {
    pub fn new(
        split: Split,
        folder: &std::path::Path,
        floor: Timestamp,
        max_line_bytes: usize,
        tails: bool,
        context: &ReaderContext,
    ) -> Result<Self, PortError> {
        let mut position = Position::<F::SplitState>::decode(&split.id, &split.position)?;
        let floor = *position.floor.get_or_insert(floor);
        Ok(Self {
            path: folder.join(&split.id),
            phase: Phase::Reading,
            read_offset: position.offset,
            position,
            floor,
            lines: LineBuffer::new(max_line_bytes),
            feed: Feed::new(context),
            content: None,
            spare: Vec::new(),
            at_end: false,
            tails: tails && !is_compressed(&split.id),
            name: split.id,
        })
    }

    pub fn snapshot(&self) -> Result<Split, PortError> {
        Ok(Split { id: self.name.clone(), position: self.position.encode(&self.name)? })
    }

    /// Bytes of a plain file that have not been given to the format.
    pub fn pending_bytes(&self) -> u64 {
        if is_compressed(&self.name) { 0 } else { self.position.length_seen.saturating_sub(self.position.offset) }
    }

    /// Starts to read the next chunk unless one is on its way or the end was met.
    pub fn read_ahead(&mut self, plan: ChunkPlan) {
        if self.at_end || !self.feed.is_empty() {
            return;
        }
        self.feed.request(Request {
            content: self.content.take(),
            opening: Opening {
                path: self.path.clone(),
                offset: self.read_offset,
                length_seen: self.position.length_seen,
                head: self.position.head,
            },
            buffer: std::mem::take(&mut self.spare),
            chunk_bytes: plan.chunk_bytes,
            keep_open: plan.keep_open,
        });
    }

    /// Appends rows until there are about `max_rows`, the file ends, or nothing more has been read yet.
    pub fn advance(
        &mut self,
        format: &F,
        plan: ChunkPlan,
        max_rows: usize,
        rows: &mut Vec<F::Record>,
    ) -> Result<Step, PortError> {
        let mut lines_left = max_rows.max(1);
        let rows_wanted = rows.len().saturating_add(lines_left);
        let full = lines_left;
        loop {
            self.deliver(format, &mut lines_left, rows_wanted, rows)?;
            if lines_left == 0 || rows.len() >= rows_wanted {
                return Ok(Step::Rows);
            }
            if self.at_end {
                return self.end(format, lines_left < full, rows);
            }
            match self.feed.take() {
                Some(chunk) => {
                    self.accept(chunk?);
                    self.read_ahead(plan);
                }
                None => {
                    self.read_ahead(plan);
                    return Ok(if lines_left < full { Step::Rows } else { Step::NotReady });
                }
            }
        }
    }

    fn accept(&mut self, chunk: Chunk) {
        self.read_offset += chunk.filled as u64;
        self.at_end = chunk.at_end;
        self.content = chunk.content;
        self.position.head = Some(chunk.head);
        self.position.length_seen = self.position.length_seen.max(chunk.length);
        self.spare = self.lines.refill(chunk.bytes, chunk.filled);
    }

    /// Gives the lines of the chunk to the format.
    fn deliver(
        &mut self,
        format: &F,
        lines_left: &mut usize,
        rows_wanted: usize,
        rows: &mut Vec<F::Record>,
    ) -> Result<(), PortError> {
        while *lines_left > 0 && rows.len() < rows_wanted {
            let Some(raw) = self.lines.next_line() else { break };
            give(format, &self.name, self.floor, &mut self.position, raw, rows);
            self.position.offset += raw.length + 1;
            *lines_left -= 1;
        }
        format.failure(&self.position.state).map_or(Ok(()), Err)
    }

    /// At the end of the file: its last line, then what becomes of the split.
    fn end(&mut self, format: &F, progressed: bool, rows: &mut Vec<F::Record>) -> Result<Step, PortError> {
        if self.tails {
            if progressed {
                return Ok(Step::Rows);
            }
            // Opened again when it has grown, so that a file put in its place is noticed.
            self.content = None;
            self.spare = Vec::new();
            self.lines.release();
            self.phase = Phase::Tailing;
            return Ok(Step::Idle);
        }
        if let Some(raw) = self.lines.last_line() {
            give(format, &self.name, self.floor, &mut self.position, raw, rows);
            self.position.offset += raw.length;
            return format.failure(&self.position.state).map_or(Ok(Step::Rows), Err);
        }
        if progressed {
            return Ok(Step::Rows);
        }
        self.content = None;
        self.spare = Vec::new();
        self.lines.release();
        self.phase = Phase::Finished;
        Ok(Step::Finished)
    }

    /// Takes note of the present size of a file that is being tailed.
    pub fn seen(&mut self, length: u64) -> Result<(), PortError> {
        refuse_shrunk(&self.path, length, self.position.length_seen)?;
        if length > self.read_offset && self.phase == Phase::Tailing {
            self.position.length_seen = length;
            self.at_end = false;
            self.phase = Phase::Reading;
        }
        Ok(())
    }
}

/// Numbers a line and gives it to the format unless it is blank.
#[inline]
fn give<F: LineFormat>(
    format: &F,
    file: &str,
    floor: Timestamp,
    position: &mut Position<F::SplitState>,
    raw: RawLine<'_>,
    rows: &mut Vec<F::Record>,
) {
    position.lines += 1;
    if raw.blank {
        return;
    }
    let line = Line { file, number: position.lines, offset: position.offset, bytes: raw.bytes, floor };
    if raw.length > raw.bytes.len() as u64 {
        format.oversized(&mut position.state, line, raw.length, rows);
    } else {
        format.decode(&mut position.state, line, rows);
    }
}
