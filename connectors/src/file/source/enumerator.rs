//! Finds the files: one split each. Every call blocks; the job master makes them on the blocking executor.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use millstream_runtime::ports::PortError;
use millstream_runtime::ports::source::{Split, SplitEnumerator};
use serde::{Deserialize, Serialize};

use super::content::is_compressed;
use crate::error::io_error;

/// Version of the snapshot.
const FORMAT_VERSION: u16 = 1;

/// Where to look, and what for.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// A folder, or one file.
    pub path: PathBuf,
    /// Ends of file names that count, with the dot.
    pub extensions: Vec<String>,
    /// Milliseconds between two looks; `None` to look once.
    pub watch_interval_ms: Option<u64>,
}

impl Place {
    /// The folder that file names are relative to.
    pub fn folder(&self) -> PathBuf {
        if self.path.is_dir() {
            return self.path.clone();
        }
        self.path.parent().map_or_else(PathBuf::new, Path::to_path_buf)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Snapshot {
    version: u16,
    /// Whether a first look has been made.
    looked: bool,
    /// Files returned so far.
    known: BTreeSet<String>,
}

pub(super) struct FileEnumerator {
    place: Place,
    /// Encodes the position at the beginning of a file of a size.
    initial_position: fn(&str, u64) -> Result<Vec<u8>, PortError>,
    found: Snapshot,
}

impl FileEnumerator {
    pub fn new(
        place: Place,
        initial_position: fn(&str, u64) -> Result<Vec<u8>, PortError>,
        restored: Option<&[u8]>,
    ) -> Result<Self, PortError> {
        let found = match restored {
            None => Snapshot { version: FORMAT_VERSION, looked: false, known: BTreeSet::new() },
            Some(bytes) => rmp_serde::from_slice(bytes)
                .ok()
                .filter(|snapshot: &Snapshot| snapshot.version == FORMAT_VERSION)
                .ok_or_else(|| {
                    PortError::fix_input(format!(
                        "the list of files already read in {} cannot be understood: it was written by another kind \
                         of source or version; restore with that one, or start anew",
                        place.path.display()
                    ))
                })?,
        };
        Ok(Self { place, initial_position, found })
    }

    /// Names and sizes of the files there are, by name.
    fn look(&self) -> Result<Vec<(String, u64)>, PortError> {
        let path = &self.place.path;
        let data = std::fs::metadata(path).map_err(|error| io_error("read", path, &error))?;
        if !data.is_dir() {
            let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| unreadable_name(path))?;
            return Ok(vec![(name.to_string(), data.len())]);
        }
        let mut files = Vec::new();
        for entry in std::fs::read_dir(path).map_err(|error| io_error("list", path, &error))? {
            let entry = entry.map_err(|error| io_error("list", path, &error))?;
            if let Some(file) = self.candidate(&entry.path())? {
                files.push(file);
            }
        }
        files.sort();
        Ok(files)
    }

    fn candidate(&self, path: &Path) -> Result<Option<(String, u64)>, PortError> {
        let Some(lossy) = path.file_name().map(|name| name.to_string_lossy()) else { return Ok(None) };
        let counts = self.place.extensions.iter().any(|extension| lossy.ends_with(extension.as_str()));
        if lossy.starts_with('.') || !counts {
            return Ok(None);
        }
        let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| unreadable_name(path))?;
        match std::fs::metadata(path) {
            Ok(data) if data.is_file() => Ok(Some((name.to_string(), data.len()))),
            Ok(_) => Ok(None),
            // Gone between listing and looking: it was never promised to anybody.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("look at", path, &error)),
        }
    }
}

fn unreadable_name(path: &Path) -> PortError {
    PortError::fix_input(format!("the name of {} is not UTF-8; rename the file", path.display()))
}

impl SplitEnumerator for FileEnumerator {
    fn discover(&mut self) -> Result<Vec<Split>, PortError> {
        if self.found.looked && self.place.watch_interval_ms.is_none() {
            // A bounded input is what there was at the start of the job, also after a restart.
            return Ok(Vec::new());
        }
        let mut splits = Vec::new();
        for (name, length) in self.look()? {
            if self.found.known.contains(&name) {
                continue;
            }
            // Of a compressed file nothing has been seen before it is opened: it may still be on its way.
            let length_seen = if is_compressed(&name) { 0 } else { length };
            splits.push(Split { position: (self.initial_position)(&name, length_seen)?, id: name });
        }
        self.found.known.extend(splits.iter().map(|split| split.id.clone()));
        self.found.looked = true;
        Ok(splits)
    }

    fn discovery_interval_ms(&self) -> Option<u64> {
        self.place.watch_interval_ms
    }

    fn snapshot(&self) -> Vec<u8> {
        rmp_serde::to_vec(&self.found).expect("names and numbers always serialise")
    }
}
