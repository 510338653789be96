//! Reads the next chunk of a file on the blocking executor while the reader decodes the one before.

use std::sync::{Arc, Mutex};

use millstream_runtime::ports::source::ReaderContext;
use millstream_runtime::ports::{Blocking, PortError, Waker};

use super::content::{FileContent, Opening};
use super::position::Head;
use crate::error::lock;

/// Bytes that follow each other in a file.
pub(super) struct Chunk {
    /// The buffer; only the first `filled` bytes count.
    pub bytes: Vec<u8>,
    pub filled: usize,
    /// The end of the file was met behind these bytes.
    pub at_end: bool,
    pub head: Head,
    /// Size of the file on disk.
    pub length: u64,
    /// For the next request, unless it was closed.
    pub content: Option<FileContent>,
}

/// At most one read in flight, its result kept until it is taken.
pub(super) struct Feed {
    slot: Arc<Mutex<Slot>>,
    blocking: Arc<dyn Blocking>,
    waker: Waker,
}

enum Slot {
    Empty,
    Reading,
    Ready(Box<Result<Chunk, PortError>>),
}

/// What to read.
pub(super) struct Request {
    /// The open file, or none to open it.
    pub content: Option<FileContent>,
    pub opening: Opening,
    /// A buffer to use again.
    pub buffer: Vec<u8>,
    pub chunk_bytes: usize,
    /// Whether to leave the file open for the next request.
    pub keep_open: bool,
}

impl Feed {
    pub fn new(context: &ReaderContext) -> Self {
        Self {
            slot: Arc::new(Mutex::new(Slot::Empty)),
            blocking: Arc::clone(&context.blocking),
            waker: context.waker.clone(),
        }
    }

    pub fn is_empty(&self) -> bool {
        matches!(*lock(&self.slot), Slot::Empty)
    }

    /// Starts to read a chunk.
    ///
    /// # Panics
    /// When one is being read or waits to be taken.
    pub fn request(&self, request: Request) {
        let before = std::mem::replace(&mut *lock(&self.slot), Slot::Reading);
        assert!(matches!(before, Slot::Empty), "one chunk at a time");
        let slot = Arc::clone(&self.slot);
        let waker = self.waker.clone();
        self.blocking.run(Box::new(move || {
            let chunk = read(request);
            *lock(&slot) = Slot::Ready(Box::new(chunk));
            waker.wake();
        }));
    }

    /// The chunk, if it has been read.
    pub fn take(&self) -> Option<Result<Chunk, PortError>> {
        let mut slot = lock(&self.slot);
        match std::mem::replace(&mut *slot, Slot::Empty) {
            Slot::Ready(chunk) => Some(*chunk),
            other => {
                *slot = other;
                None
            }
        }
    }
}

fn read(request: Request) -> Result<Chunk, PortError> {
    let Request { content, opening, buffer: mut bytes, chunk_bytes, keep_open } = request;
    let mut content = match content {
        Some(content) => content,
        None => FileContent::open(&opening)?,
    };
    if bytes.len() != chunk_bytes {
        bytes.resize(chunk_bytes, 0);
    }
    let filled = content.fill(&mut bytes)?;
    let (head, length) = (content.head, content.length);
    let content = (keep_open || !content.is_seekable()).then_some(content);
    Ok(Chunk { at_end: filled < bytes.len(), bytes, filled, head, length, content })
}
