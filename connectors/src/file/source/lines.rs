//! Cuts chunks into lines without copying them, except the one line that spans two chunks.

use memchr::memchr;

/// A line as it stands in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RawLine<'a> {
    /// The line without its newline; only the first bytes if it is longer than the limit.
    pub bytes: &'a [u8],
    /// Its whole length without the newline.
    pub length: u64,
    /// Nothing but spaces, tabs and carriage returns.
    pub blank: bool,
}

/// The chunk being cut, and the beginning of a line whose end has not come yet.
pub(super) struct LineBuffer {
    chunk: Vec<u8>,
    at: usize,
    end: usize,
    max_line_bytes: usize,
    carry: Vec<u8>,
    carry_length: u64,
    carry_blank: bool,
    /// The carried line was handed out: forget it at the next call.
    carry_done: bool,
}

impl LineBuffer {
    pub fn new(max_line_bytes: usize) -> Self {
        Self {
            chunk: Vec::new(),
            at: 0,
            end: 0,
            max_line_bytes,
            carry: Vec::new(),
            carry_length: 0,
            carry_blank: true,
            carry_done: false,
        }
    }

    /// Goes on with the next chunk; the old one must be used up. Returns its buffer.
    pub fn refill(&mut self, chunk: Vec<u8>, filled: usize) -> Vec<u8> {
        assert!(self.at == self.end, "{} bytes of a chunk were not used", self.end - self.at);
        self.at = 0;
        self.end = filled;
        std::mem::replace(&mut self.chunk, chunk)
    }

    /// Gives up the buffers of a file that will not be read for a while. What is carried stays.
    pub fn release(&mut self) {
        assert!(self.at == self.end, "{} bytes of a chunk were not used", self.end - self.at);
        self.chunk = Vec::new();
        self.at = 0;
        self.end = 0;
    }

    /// The next line that ends with a newline; `None` when the chunk is used up.
    #[inline]
    pub fn next_line(&mut self) -> Option<RawLine<'_>> {
        self.forget_done();
        let from = self.at;
        match memchr(b'\n', &self.chunk[from..self.end]) {
            Some(length) => {
                self.at = from + length + 1;
                if self.carry_length > 0 {
                    self.carry_over(from, from + length);
                    return Some(self.carried());
                }
                let line = &self.chunk[from..from + length];
                let kept = &line[..length.min(self.max_line_bytes)];
                Some(RawLine { bytes: kept, length: length as u64, blank: is_blank(line) })
            }
            None => {
                self.carry_over(from, self.end);
                self.at = self.end;
                None
            }
        }
    }

    /// What stands behind the last newline, at the end of the file.
    pub fn last_line(&mut self) -> Option<RawLine<'_>> {
        self.forget_done();
        (self.carry_length > 0).then(|| self.carried())
    }

    fn carried(&mut self) -> RawLine<'_> {
        self.carry_done = true;
        RawLine { bytes: &self.carry, length: self.carry_length, blank: self.carry_blank }
    }

    fn carry_over(&mut self, from: usize, to: usize) {
        let piece = &self.chunk[from..to];
        let room = self.max_line_bytes - self.carry.len();
        self.carry.extend_from_slice(&piece[..piece.len().min(room)]);
        self.carry_length += piece.len() as u64;
        self.carry_blank &= is_blank(piece);
    }

    #[inline]
    fn forget_done(&mut self) {
        if self.carry_done {
            self.carry.clear();
            self.carry_length = 0;
            self.carry_blank = true;
            self.carry_done = false;
        }
    }
}

/// Spaces, tabs and carriage returns: the white space that formats of lines know. A line of form feeds, for example, is
/// not JSON, and its format has to say so.
#[inline]
fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'))
}
