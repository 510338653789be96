//! The bytes of one file, uncompressed, from an offset. Every function blocks: called on the blocking executor only.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use millstream_runtime::ports::PortError;

use super::position::Head;
use crate::error::io_error;

/// Bytes at the beginning of a file that identify it.
const HEAD_BYTES: usize = 4096;
/// Buffer between a compressed file and its decoder.
const COMPRESSED_BUFFER_BYTES: usize = 256 * 1024;

/// What is known of a file before it is opened.
#[derive(Clone, Debug)]
pub(super) struct Opening {
    pub path: PathBuf,
    /// Where to start, in uncompressed bytes.
    pub offset: u64,
    pub length_seen: u64,
    pub head: Option<Head>,
}

/// An open file.
pub(super) struct FileContent {
    body: Body,
    path: PathBuf,
    /// Next byte, in uncompressed bytes.
    offset: u64,
    /// The beginning of the file.
    pub head: Head,
    /// Size on disk when last looked at.
    pub length: u64,
}

enum Body {
    Plain(File),
    Gzip(Box<MultiGzDecoder<BufReader<File>>>),
}

/// Whether a file of this name is read through the gzip decoder.
pub(super) fn is_compressed(name: &str) -> bool {
    name.ends_with(".gz")
}

/// Size of a file on disk.
pub(super) fn length_of(path: &Path) -> Result<u64, PortError> {
    std::fs::metadata(path).map(|data| data.len()).map_err(|error| io_error("look at", path, &error))
}

impl FileContent {
    /// Opens a file, makes sure it is the one seen before, and goes to the offset.
    pub fn open(opening: &Opening) -> Result<Self, PortError> {
        let path = &opening.path;
        let mut file = File::open(path).map_err(|error| io_error("open", path, &error))?;
        let length = file.metadata().map_err(|error| io_error("look at", path, &error))?.len();
        let compressed = is_compressed(&path.to_string_lossy());
        refuse_shrunk(path, length, opening.length_seen)?;
        if compressed && opening.head.is_some() && length != opening.length_seen {
            return Err(PortError::fix_input(format!(
                "{} was {} bytes long and is {length} now: a compressed file must not change once it is in the \
                 folder; put the old one back and add the new lines as another file",
                path.display(),
                opening.length_seen
            )));
        }
        let head = read_head(&mut file, path, opening.head)?;
        let mut content = Self { body: Body::Plain(file), path: path.clone(), offset: opening.offset, head, length };
        content.go_to(opening.offset, compressed)?;
        Ok(content)
    }

    fn go_to(&mut self, offset: u64, compressed: bool) -> Result<(), PortError> {
        let Body::Plain(file) = &mut self.body else { return Ok(()) };
        let failed = |error: io::Error| io_error("read", &self.path, &error);
        if !compressed {
            file.seek(SeekFrom::Start(offset)).map_err(failed)?;
            return Ok(());
        }
        file.rewind().map_err(failed)?;
        let file = file.try_clone().map_err(failed)?;
        let mut decoder = MultiGzDecoder::new(BufReader::with_capacity(COMPRESSED_BUFFER_BYTES, file));
        // A compressed file has no offsets to go to: what was read before is decompressed again and thrown away.
        let skipped =
            io::copy(&mut (&mut decoder).take(offset), &mut io::sink()).map_err(|error| damaged(&self.path, &error))?;
        if skipped < offset {
            return Err(refuse_end(&self.path, skipped, offset));
        }
        self.body = Body::Gzip(Box::new(decoder));
        Ok(())
    }

    /// Fills the buffer; fewer bytes mean the end of the file.
    pub fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, PortError> {
        let mut filled = 0;
        while filled < buffer.len() {
            let read = match &mut self.body {
                Body::Plain(file) => file.read(&mut buffer[filled..]),
                Body::Gzip(decoder) => decoder.read(&mut buffer[filled..]),
            };
            match read {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(match self.body {
                        Body::Plain(_) => io_error("read", &self.path, &error),
                        Body::Gzip(_) => damaged(&self.path, &error),
                    });
                }
            }
        }
        self.offset += filled as u64;
        if let Body::Plain(file) = &self.body {
            let length = file.metadata().map_err(|error| io_error("look at", &self.path, &error))?.len();
            refuse_shrunk(&self.path, length, self.length.max(self.offset))?;
            self.length = length;
        }
        Ok(filled)
    }

    /// Whether this can be closed and opened again at the same place without cost.
    pub fn is_seekable(&self) -> bool {
        matches!(self.body, Body::Plain(_))
    }
}

fn read_head(file: &mut File, path: &Path, expected: Option<Head>) -> Result<Head, PortError> {
    let wanted = expected.map_or(HEAD_BYTES, |head| head.length as usize);
    let mut bytes = Vec::with_capacity(wanted);
    file.by_ref().take(wanted as u64).read_to_end(&mut bytes).map_err(|error| io_error("read", path, &error))?;
    let length = u32::try_from(bytes.len()).expect("a head has at most 4 KiB");
    let head = Head { length, crc: crc32fast::hash(&bytes) };
    match expected {
        Some(expected) if expected != head => Err(PortError::fix_input(format!(
            "{} is not the file that was read before: its beginning has changed; put the old one back, or start anew",
            path.display()
        ))),
        Some(_) | None => Ok(head),
    }
}

/// A file smaller than what was seen of it has lost lines that may have been read.
pub(super) fn refuse_shrunk(path: &Path, length: u64, length_seen: u64) -> Result<(), PortError> {
    if length < length_seen { Err(refuse_end(path, length, length_seen)) } else { Ok(()) }
}

fn refuse_end(path: &Path, length: u64, length_seen: u64) -> PortError {
    PortError::fix_input(format!(
        "{} has shrunk from {length_seen} to {length} bytes: lines that were read are gone; put the file back, or \
         start anew",
        path.display()
    ))
}

fn damaged(path: &Path, error: &io::Error) -> PortError {
    PortError::fix_input(format!(
        "{} is not a whole gzip file ({error}); replace it, and move compressed files into the folder only when they \
         are complete",
        path.display()
    ))
}
