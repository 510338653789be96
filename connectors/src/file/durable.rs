//! File changes that survive a power loss: what is renamed or created counts only once its folder is synced.
//! Every function blocks.

use std::fs::File;
use std::path::Path;

use millstream_runtime::ports::PortError;

use crate::error::io_error;

/// Makes created, renamed and removed names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), PortError> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(|error| io_error("sync", folder, &error))
}

/// Makes a folder and those above it, durably.
pub(crate) fn create_folder(folder: &Path) -> Result<(), PortError> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    let parent = match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    create_folder(parent)?;
    match std::fs::create_dir(folder) {
        Ok(()) => sync_folder(parent),
        // Another subtask was faster.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        Err(error) => Err(io_error("create", folder, &error)),
    }
}
