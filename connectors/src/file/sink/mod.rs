//! Writes rows as lines of files, exactly once: what is visible is committed and never changes.
//!
//! A writer appends to a hidden part file and seals it at each cut (`writer`, `part`); the committer renames sealed
//! parts to their visible names once the checkpoint is complete (`committer`). Names never repeat (`names`).

mod committer;
mod names;
mod part;
#[cfg(test)]
mod tests;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_runtime::batch::Data;
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::sink::{Committer, SinkContext, SinkOutput, SinkWriter, TwoPhaseCommitSink};
use serde::{Deserialize, Serialize};

pub use names::{COMMITTED_PREFIX, IN_PROGRESS_SUFFIX, UNCOMMITTED_PREFIX};

use committer::FileCommitter;
use writer::FileWriter;

/// Size at which a part file is closed and another begun within the same cut, unless set otherwise.
pub const DEFAULT_ROLL_BYTES: u64 = 128 * 1024 * 1024;

/// A sealed part file, named relative to the sink's folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingFile {
    /// Its hidden name.
    pub hidden: String,
    /// Its name once committed.
    pub visible: String,
    /// Its size.
    pub size_bytes: u64,
    /// Whether it takes the place of what has that name.
    pub replaces: bool,
}

/// How a row becomes a line.
enum Encoder<T> {
    Json(fn(&T, &mut Vec<u8>) -> serde_json::Result<()>),
    Line(fn(&T, &mut Vec<u8>)),
}

impl<T> Clone for Encoder<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Encoder<T> {}

#[derive(Clone, Debug)]
struct FileOptions {
    folder: PathBuf,
    extension: String,
    roll_bytes: u64,
    single_file: Option<String>,
}

/// Writes rows as lines of part files in a folder, exactly once.
///
/// - Visible files (`part-…`) are committed and never change. Everything else starts with a dot.
/// - Each subtask and cut makes one part file, several when it exceeds [`roll_bytes`](Self::roll_bytes), none when
///   it has no rows.
/// - A pending part whose file is gone, or whose visible name is taken by another file, fails the job.
pub struct FileSink<T> {
    options: Arc<FileOptions>,
    encoder: Encoder<T>,
}

impl<T> Clone for FileSink<T> {
    fn clone(&self) -> Self {
        Self { options: Arc::clone(&self.options), encoder: self.encoder }
    }
}

impl<T: Data> FileSink<T> {
    /// One JSON value a line, in files `part-….jsonl`.
    #[must_use]
    pub fn json_lines(folder: impl Into<PathBuf>) -> Self {
        Self::with(folder.into(), Encoder::Json(|row, out| serde_json::to_writer(out, row)))
    }

    /// Lines that the encoder appends without their newline. A row for which it appends nothing makes no line. The
    /// files end in `.jsonl` unless [`extension`](Self::extension) says otherwise.
    #[must_use]
    pub fn lines(folder: impl Into<PathBuf>, encoder: fn(&T, &mut Vec<u8>)) -> Self {
        Self::with(folder.into(), Encoder::Line(encoder))
    }

    fn with(folder: PathBuf, encoder: Encoder<T>) -> Self {
        let options =
            FileOptions { folder, extension: "jsonl".to_string(), roll_bytes: DEFAULT_ROLL_BYTES, single_file: None };
        Self { options: Arc::new(options), encoder }
    }

    /// Extension of the visible files, without the dot.
    #[must_use]
    pub fn extension(mut self, extension: &str) -> Self {
        Arc::make_mut(&mut self.options).extension = extension.to_string();
        self
    }

    /// Size in bytes at which a part file is closed and another begun within the same cut.
    #[must_use]
    pub fn roll_bytes(mut self, bytes: u64) -> Self {
        Arc::make_mut(&mut self.options).roll_bytes = bytes.max(1);
        self
    }

    /// Instead of part files, one file of this name in the folder: the rows of each committed cut that has any
    /// replace it atomically. For summaries; give the sink a parallelism of 1, or the subtasks replace each other's.
    #[must_use]
    pub fn single_file(mut self, name: &str) -> Self {
        Arc::make_mut(&mut self.options).single_file = Some(name.to_string());
        self
    }
}

impl<T: Data> TwoPhaseCommitSink<T> for FileSink<T> {
    type Committable = PendingFile;

    fn writer(&self, context: SinkContext) -> Result<Box<dyn SinkWriter<T, PendingFile>>, PortError> {
        Ok(Box::new(FileWriter::new(Arc::clone(&self.options), self.encoder, context)))
    }

    fn committer(&self, context: SinkContext) -> Result<Box<dyn Committer<PendingFile>>, PortError> {
        Ok(Box::new(FileCommitter::new(self.options.folder.clone(), context)))
    }

    fn output(&self) -> Option<Arc<dyn SinkOutput>> {
        Some(Arc::new(FileOutput(Arc::clone(&self.options))))
    }
}

/// The folder of a sink between two runs.
struct FileOutput(Arc<FileOptions>);

impl FileOutput {
    fn is_visible(&self, name: &str) -> bool {
        match &self.0.single_file {
            Some(single) => name == single,
            None => names::is_visible(name),
        }
    }
}

impl SinkOutput for FileOutput {
    fn place(&self) -> String {
        self.0.folder.display().to_string()
    }

    fn has_committed(&self) -> Result<bool, PortError> {
        committer::any_file(&self.0.folder, |name| self.is_visible(name))
    }

    fn clear(&self) -> Result<(), PortError> {
        let of_a_sink = |name: &str| self.is_visible(name) || names::Hidden::parse(name).is_some();
        committer::remove_files(&self.0.folder, of_a_sink).map(|_| ())
    }
}

/// Removes what was written to a folder by any job but not committed. Blocks; for starting anew, never while a job
/// writes there.
///
/// # Errors
/// When the folder cannot be read or a file not be removed; a folder that does not exist is fine.
pub fn clean_uncommitted(folder: &Path) -> Result<(), PortError> {
    committer::remove_files(folder, |name| names::Hidden::parse(name).is_some()).map(|_| ())
}

/// Removes the committed part files of former runs from a folder; other files stay. Blocks; never while a job
/// writes there.
///
/// # Errors
/// When the folder cannot be read or a file not be removed; a folder that does not exist is fine.
pub fn clear_output(folder: &Path) -> Result<(), PortError> {
    committer::remove_files(folder, names::is_visible).map(|_| ())
}
