//! Reads the lines of the files in a folder, or of one file, once or as they grow.
//!
//! [`FileSource`] is the connector; a [`LineFormat`] says what a line means ([`JsonLines`] is one). Inside: an
//! enumerator finds files (`enumerator`), one reader per subtask picks the file furthest behind (`reader`), a split
//! cuts chunks into lines (`open_split`, `lines`), chunks are read off the handlers (`feed`, `content`).

mod content;
mod enumerator;
mod feed;
mod format;
mod growth;
mod json;
mod lines;
mod open_split;
mod position;
mod reader;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod watch_tests;

use std::marker::PhantomData;
use std::path::PathBuf;

use millstream_runtime::batch::Data;
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::source::{ReaderContext, Source, SourceReader, SplitEnumerator};

pub use format::{Line, LineFormat};
pub use json::{BadLines, JsonLines, JsonLinesState};

use enumerator::{FileEnumerator, Place};
use position::Position;
use reader::FileReader;

/// Bytes read at once unless set otherwise.
pub const DEFAULT_CHUNK_BYTES: usize = 512 * 1024;
/// Longest line given whole unless set otherwise.
pub const DEFAULT_MAX_LINE_BYTES: usize = 16 * 1024 * 1024;
/// Extensions read unless set otherwise.
pub const DEFAULT_EXTENSIONS: [&str; 2] = [".jsonl", ".jsonl.gz"];

#[derive(Clone, Debug)]
struct FileOptions {
    chunk_bytes: usize,
    max_line_bytes: usize,
    watch_interval_ms: Option<u64>,
}

/// Reads files as lines; `T` is the record, `F` says how a line becomes one.
///
/// - A file is a split. Files lie directly in the folder; names that start with a dot are not looked at; a name that
///   ends in `.gz` is decompressed (several members one after another are fine).
/// - Lines end with `\n` and are given without it, otherwise byte for byte: a `\r` before it is part of the line.
///   Blank lines are counted but not given.
/// - Bounded (the default): the files there are when the job starts. A last line without a newline counts.
/// - [`watch`](Self::watch): new files are found and plain files are read on as they grow; a last line counts once
///   its newline comes. A compressed file must be complete when it appears (write it elsewhere, then rename it into
///   the folder) and is read once, its last line included.
/// - A file that shrank, vanished before it was read to its end, or whose beginning changed fails the job and is named.
pub struct FileSource<T, F = JsonLines<T>> {
    path: PathBuf,
    extensions: Vec<String>,
    format: F,
    options: FileOptions,
    record: PhantomData<fn() -> T>,
}

impl<T: Data> FileSource<T> {
    /// One JSON value a line, in the files of a folder or in one file. A line that is not a `T` fails the job; see
    /// [`bad_lines`](Self::bad_lines).
    #[must_use]
    pub fn json_lines(path: impl Into<PathBuf>) -> Self {
        Self::new(path, JsonLines::default())
    }

    /// What happens to lines that are not a `T`.
    #[must_use]
    pub fn bad_lines(mut self, policy: BadLines) -> Self {
        self.format = JsonLines::new(policy);
        self
    }
}

impl<T: Data, F: LineFormat<Record = T>> FileSource<T, F> {
    /// Lines of a format of one's own, in the files of a folder or in one file.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, format: F) -> Self {
        Self {
            path: path.into(),
            extensions: DEFAULT_EXTENSIONS.map(String::from).to_vec(),
            format,
            options: FileOptions {
                chunk_bytes: DEFAULT_CHUNK_BYTES,
                max_line_bytes: DEFAULT_MAX_LINE_BYTES,
                watch_interval_ms: None,
            },
            record: PhantomData,
        }
    }

    /// Never ends: looks for new files and for growth this often, in milliseconds.
    #[must_use]
    pub fn watch(mut self, interval_ms: u64) -> Self {
        self.options.watch_interval_ms = Some(interval_ms.max(1));
        self
    }

    /// Which files of the folder are read: those whose name ends so, dot included.
    #[must_use]
    pub fn extensions(mut self, extensions: &[&str]) -> Self {
        self.extensions = extensions.iter().map(ToString::to_string).collect();
        self
    }

    /// Bytes read at once from a file, at least 1; two such chunks are held per open file.
    #[must_use]
    pub fn chunk_bytes(mut self, bytes: usize) -> Self {
        self.options.chunk_bytes = bytes.max(1);
        self
    }

    /// Longest line in bytes that is given whole, at least 1; of a longer one [`LineFormat::oversized`] gets the
    /// beginning.
    #[must_use]
    pub fn max_line_bytes(mut self, bytes: usize) -> Self {
        self.options.max_line_bytes = bytes.max(1);
        self
    }

    /// The format, for what it counts.
    pub fn format(&self) -> &F {
        &self.format
    }

    fn place(&self) -> Place {
        Place {
            path: self.path.clone(),
            extensions: self.extensions.clone(),
            watch_interval_ms: self.options.watch_interval_ms,
        }
    }
}

fn initial_position<F: LineFormat>(split: &str, length_seen: u64) -> Result<Vec<u8>, PortError> {
    Position::<F::SplitState>::initial(length_seen).encode(split)
}

impl<T: Data, F: LineFormat<Record = T>> Source for FileSource<T, F> {
    type Record = T;

    fn is_bounded(&self) -> bool {
        self.options.watch_interval_ms.is_none()
    }

    fn enumerator(&self, restored: Option<&[u8]>) -> Result<Box<dyn SplitEnumerator>, PortError> {
        Ok(Box::new(FileEnumerator::new(self.place(), initial_position::<F>, restored)?))
    }

    fn reader(&self, context: ReaderContext) -> Result<Box<dyn SourceReader<T>>, PortError> {
        Ok(Box::new(FileReader::new(self.format.clone(), self.place().folder(), self.options.clone(), context)))
    }
}
