//! Makes sealed parts visible, and removes what older attempts have left behind. Blocks throughout.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use millstream_runtime::ports::PortError;
use millstream_runtime::ports::sink::{Committer, OlderAttempts, SinkContext};

use super::PendingFile;
use super::names::{Hidden, job_digits};
use crate::error::io_error;
use crate::file::durable::sync_folder;

pub(super) struct FileCommitter {
    folder: PathBuf,
    job: String,
}

impl FileCommitter {
    pub fn new(folder: PathBuf, context: SinkContext) -> Self {
        Self { folder, job: job_digits(context.job) }
    }

    fn size_of(&self, name: &str) -> Result<Option<u64>, PortError> {
        let path = self.folder.join(name);
        match fs::symlink_metadata(&path) {
            Ok(data) => Ok(Some(data.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("look at", &path, &error)),
        }
    }

    fn publish(&self, file: &PendingFile) -> Result<(), PortError> {
        let (hidden, visible) = (self.folder.join(&file.hidden), self.folder.join(&file.visible));
        let there = self.size_of(&file.visible)?;
        match (self.size_of(&file.hidden)?, there) {
            (Some(_), Some(_)) if !file.replaces => Err(PortError::give_up(format!(
                "cannot commit {}: {} exists already and is another file; move it away",
                hidden.display(),
                visible.display()
            ))),
            (Some(size), _) if size != file.size_bytes => Err(PortError::give_up(format!(
                "cannot commit {}: it has {size} bytes instead of the {} that were written",
                hidden.display(),
                file.size_bytes
            ))),
            (Some(_), _) => fs::rename(&hidden, &visible).map_err(|error| io_error("rename", &hidden, &error)),
            // Committed before: the rename is the commit. A replaced file may have been replaced again since.
            (None, Some(size)) if file.replaces || size == file.size_bytes => Ok(()),
            (None, Some(size)) => Err(PortError::give_up(format!(
                "{} has {size} bytes instead of the {} that were committed: it was changed from outside",
                visible.display(),
                file.size_bytes
            ))),
            (None, None) => Err(PortError::give_up(format!(
                "neither {} nor {} exists: rows of a completed checkpoint are lost; restore the file, or start the \
                 job anew",
                hidden.display(),
                visible.display()
            ))),
        }
    }
}

impl Committer<PendingFile> for FileCommitter {
    fn abort_unlisted(&mut self, pending: &[PendingFile], older: &OlderAttempts) -> Result<(), PortError> {
        let listed: BTreeSet<&str> = pending.iter().map(|file| file.hidden.as_str()).collect();
        let removed = remove_files(&self.folder, |name| {
            Hidden::parse(name).is_some_and(|hidden| {
                hidden.job == self.job && older.contains(hidden.attempt) && !listed.contains(name)
            })
        })?;
        if removed > 0 {
            tracing::info!("removed {removed} uncommitted files of earlier attempts from {}", self.folder.display());
        }
        Ok(())
    }

    fn commit(&mut self, transactions: Vec<PendingFile>) -> Result<(), PortError> {
        if transactions.is_empty() {
            return Ok(());
        }
        transactions.iter().try_for_each(|file| self.publish(file))?;
        // Also for what was committed before: the process may have died between the rename and this.
        sync_folder(&self.folder)
    }
}

/// Whether a folder has a file whose name matches.
pub(super) fn any_file(folder: &Path, matches: impl Fn(&str) -> bool) -> Result<bool, PortError> {
    match fs::read_dir(folder) {
        Ok(mut entries) => {
            let found = entries.try_fold(false, |found, entry| {
                entry.map(|entry| found || entry.file_name().to_str().is_some_and(&matches))
            });
            found.map_err(|error| io_error("list", folder, &error))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io_error("list", folder, &error)),
    }
}

/// Removes the files in a folder whose names match; returns how many.
pub(super) fn remove_files(folder: &Path, matches: impl Fn(&str) -> bool) -> Result<usize, PortError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(io_error("list", folder, &error)),
    };
    let mut removed = 0;
    for entry in entries {
        let entry = entry.map_err(|error| io_error("list", folder, &error))?;
        if entry.file_name().to_str().is_some_and(&matches) {
            let path = entry.path();
            match fs::remove_file(&path) {
                Ok(()) => removed += 1,
                // Another region of the job cleans up as well.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(io_error("remove", &path, &error)),
            }
        }
    }
    if removed > 0 {
        sync_folder(folder)?;
    }
    Ok(removed)
}
