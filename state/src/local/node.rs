//! The folder of a node: locked by the one process that owns it, with an id that stays and an incarnation that never
//! repeats. The cluster tells processes of one node apart by it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use millstream_runtime::ports::PortError;

use crate::blob::local::create_folder_durably;
use crate::frame::{self, FrameKind};

const NODE_ID: FrameKind = FrameKind { magic: *b"MSNODEID", version: 1, what: "node id" };
const INCARNATION: FrameKind = FrameKind { magic: *b"MSINCARN", version: 1, what: "incarnation counter" };

/// An owned node folder. Dropping it lets another process own it.
#[derive(Debug)]
pub struct NodeFolder {
    path: PathBuf,
    id: [u8; 16],
    incarnation: u64,
    /// Holds the lock.
    _lock: File,
}

impl NodeFolder {
    /// Opens and locks the folder, making it if need be, and counts the incarnation up. A new folder gets `fresh_id`.
    ///
    /// # Errors
    /// `FixInput` when another process owns it or it cannot be used.
    pub fn open(path: impl AsRef<Path>, fresh_id: [u8; 16]) -> Result<Self, PortError> {
        let path = path.as_ref().to_path_buf();
        let unusable = |error: io::Error| {
            PortError::fix_input(format!("the node folder {} cannot be used: {error}", path.display()))
        };
        create_folder_durably(&path).map_err(unusable)?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path.join("LOCK"));
        let lock = lock.map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let message = format!(
                    "the node folder {} belongs to another running process: stop that one, or give this one a folder of its own",
                    path.display()
                );
                return Err(PortError::fix_input(message));
            }
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        let id = match read(&path.join("id"), NODE_ID)? {
            Some(bytes) => bytes,
            None => {
                replace(&path, "id", &frame::seal(NODE_ID, &fresh_id)).map_err(unusable)?;
                fresh_id
            }
        };
        let last = read(&path.join("incarnation"), INCARNATION)?.map_or(0, u64::from_be_bytes);
        let incarnation = last + 1;
        replace(&path, "incarnation", &frame::seal(INCARNATION, &incarnation.to_be_bytes())).map_err(unusable)?;
        Ok(Self { path, id, incarnation, _lock: lock })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The id the folder got when it was made.
    #[must_use]
    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    /// Greater than that of every owner before.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }
}

fn read<const N: usize>(path: &Path, kind: FrameKind) -> Result<Option<[u8; N]>, PortError> {
    let name = path.display().to_string();
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(PortError::fix_input(format!("{name} cannot be read: {error}"))),
    };
    let content = frame::open(kind, &name, &bytes)?;
    let content = content.try_into().map_err(|_| PortError::give_up(format!("{name}: its length is wrong")))?;
    Ok(Some(content))
}

/// Replaces a file so that after a power loss the old or the new one is there, whole.
fn replace(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let staged = folder.join(format!(".{name}.new"));
    let mut file = File::create(&staged)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&staged, folder.join(name))?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_owner_a_lasting_id_and_a_new_incarnation_each_time() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("node");
        let first = NodeFolder::open(&path, [1; 16]).expect("opens");
        assert_eq!((first.id(), first.incarnation()), ([1; 16], 1));
        let error = NodeFolder::open(&path, [2; 16]).expect_err("owned");
        assert!(error.message.contains("another running process"), "{error}");
        drop(first);
        let second = NodeFolder::open(&path, [2; 16]).expect("opens");
        assert_eq!((second.id(), second.incarnation()), ([1; 16], 2));
        drop(second);
        fs::write(path.join("incarnation"), b"torn").expect("write");
        let error = NodeFolder::open(&path, [2; 16]).expect_err("torn");
        assert!(error.message.contains("incarnation"), "{error}");
    }
}
