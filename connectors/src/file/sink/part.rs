//! One hidden part file while it is written. Every function blocks: called in work that the writer hands out.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use millstream_runtime::ports::PortError;

use crate::error::io_error;
use crate::file::durable::create_folder;

/// A hidden part file; created with its first bytes.
#[derive(Debug)]
pub(super) struct Part {
    path: PathBuf,
    file: Option<File>,
    size_bytes: u64,
}

impl Part {
    pub fn new(path: PathBuf) -> Self {
        Self { path, file: None, size_bytes: 0 }
    }

    /// Appends bytes; returns the size then.
    pub fn append(&mut self, bytes: &[u8]) -> Result<u64, PortError> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(create(&self.path)?),
        };
        file.write_all(bytes).map_err(|error| io_error("write", &self.path, &error))?;
        self.size_bytes += bytes.len() as u64;
        Ok(self.size_bytes)
    }

    /// Makes the content durable, not yet the name. Returns the size.
    pub fn seal(self) -> Result<u64, PortError> {
        if let Some(file) = self.file {
            file.sync_all().map_err(|error| io_error("sync", &self.path, &error))?;
        }
        Ok(self.size_bytes)
    }
}

fn create(path: &Path) -> Result<File, PortError> {
    if let Some(folder) = path.parent() {
        create_folder(folder)?;
    }
    // Names never repeat: one that exists belongs to somebody else.
    OpenOptions::new().write(true).create_new(true).open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => PortError::fix_input(format!(
            "{} exists already: another job of the same name writes to this folder, or the job was started anew \
             without removing uncommitted files (--fresh does)",
            path.display()
        )),
        _ => io_error("create", path, &error),
    })
}
