//! The checkpoint store in a folder of this machine: every blob and every folder entry is synced before a call returns.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_runtime::ports::PortError;
use millstream_runtime::ports::store::{BlobStore, Created};
use object_store::local::LocalFileSystem;

use super::ObjectBlobs;

/// Blobs as files below a root folder.
#[derive(Clone, Debug)]
pub struct LocalBlobs {
    root: PathBuf,
    objects: ObjectBlobs,
}

impl LocalBlobs {
    /// Opens the folder, and makes it if need be.
    ///
    /// # Errors
    /// When the folder cannot be made or read.
    pub fn open(root: impl AsRef<Path>) -> Result<Self, PortError> {
        let root = root.as_ref();
        let refused = |error: &dyn std::fmt::Display| {
            PortError::fix_input(format!("the checkpoint folder {} cannot be used: {error}", root.display()))
        };
        create_folder_durably(root).map_err(|error| refused(&error))?;
        let root = fs::canonicalize(root).map_err(|error| refused(&error))?;
        let files = LocalFileSystem::new_with_prefix(&root).map_err(|error| refused(&error))?.with_fsync(true);
        let place = root.display().to_string();
        Ok(Self { root, objects: ObjectBlobs::new(Arc::new(files), place) })
    }

    /// The folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Removes what writers killed in the middle of a put have left below `prefix` (`NAME#1`, never listed as a blob).
    /// Call it when no writer of this prefix can be alive that still matters; its put would fail, not tear.
    ///
    /// # Errors
    /// When the folder cannot be read or a file cannot be removed.
    pub fn remove_unfinished_uploads(&self, prefix: &str) -> Result<usize, PortError> {
        let folder = self.root.join(prefix);
        remove_staged(&folder).map_err(|error| {
            PortError::retry(format!("{}: removing unfinished uploads failed: {error}", folder.display()))
        })
    }
}

fn remove_staged(folder: &Path) -> io::Result<usize> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut removed = 0;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            removed += remove_staged(&entry.path())?;
        } else if is_staged(&entry.file_name().to_string_lossy()) {
            fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Puts a file in its place, whole and synced, with its name in the folder.
fn put_durably(target: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let folder = target.parent().unwrap_or(Path::new("."));
    create_folder_durably(folder)?;
    let (staged, mut file) = stage(target)?;
    let written = parts.iter().try_for_each(|part| file.write_all(part)).and_then(|()| file.sync_all());
    if let Err(error) = written.and_then(|()| fs::rename(&staged, target)) {
        // Best effort: what stays behind is not a blob.
        let _ = fs::remove_file(&staged);
        return Err(error);
    }
    File::open(folder)?.sync_all()
}

/// A new file beside `target`. Numbers are taken by other writers, or were by some that were killed.
fn stage(target: &Path) -> io::Result<(PathBuf, File)> {
    let mut number = 1;
    loop {
        let mut staged = target.as_os_str().to_owned();
        staged.push(format!("#{number}"));
        match File::create_new(&staged) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            opened => return opened.map(|file| (staged.into(), file)),
        }
    }
}

/// A file is staged as its name, `#` and a number, here and by `object_store`.
fn is_staged(name: &str) -> bool {
    name.rsplit_once('#').is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// Makes a folder with its parents and syncs every folder entry made.
pub(crate) fn create_folder_durably(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        create_folder_durably(parent)?;
    }
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists || !folder.is_dir() => return Err(error),
        _ => {}
    }
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

impl BlobStore for LocalBlobs {
    /// Written here and not through `object_store`, which would want a copy of its own of all that is written.
    fn put(&self, path: &str, parts: &[&[u8]]) -> Result<(), PortError> {
        let target = self.root.join(self.objects.path(path)?.as_ref());
        if is_staged(path) {
            return Err(PortError::fix_input(format!(
                "{}: '{path}' cannot be a blob name: files being written are called so",
                self.root.display()
            )));
        }
        put_durably(&target, parts)
            .map_err(|error| PortError::retry(format!("{}: writing {path} failed: {error}", self.root.display())))
    }
    fn put_if_absent(&self, path: &str, bytes: &[u8]) -> Result<Created, PortError> {
        self.objects.put_if_absent(path, bytes)
    }
    fn get(&self, path: &str) -> Result<Option<Vec<u8>>, PortError> {
        self.objects.get(path)
    }
    fn get_range(&self, path: &str, offset: u64, length: u64) -> Result<Vec<u8>, PortError> {
        self.objects.get_range(path, offset, length)
    }
    fn delete(&self, path: &str) -> Result<(), PortError> {
        self.objects.delete(path)
    }
    fn list(&self, prefix: &str) -> Result<Vec<String>, PortError> {
        self.objects.list(prefix)
    }
    fn delete_all(&self, prefix: &str) -> Result<(), PortError> {
        // The folders go as well.
        let folder = self.root.join(prefix);
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(PortError::fix_input(format!("{} cannot be deleted: {error}", folder.display())))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A simulation runs blocking work inline on its only thread.
    #[test]
    fn calls_work_on_the_thread_of_a_tokio_runtime() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let blobs = LocalBlobs::open(folder.path()).expect("open");
            blobs.put("a/b", &[b"1"]).expect("put");
            assert_eq!(blobs.put_if_absent("a/b", b"2").expect("create"), Created::AlreadyExists);
            assert_eq!(blobs.get("a/b").expect("get"), Some(b"1".to_vec()));
            assert_eq!(blobs.list("a").expect("list"), ["a/b"]);
        });
    }

    #[test]
    fn a_put_replaces_the_whole_and_leaves_nothing_beside() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let blobs = LocalBlobs::open(folder.path()).expect("open");
        blobs.put("new/folder/one", &[b"long", b"", b" content"]).expect("put");
        fs::write(folder.path().join("new/folder/one#1"), b"of a killed writer").expect("write");
        blobs.put("new/folder/one", &[b"short"]).expect("put");
        assert_eq!(blobs.get("new/folder/one").expect("get"), Some(b"short".to_vec()));
        assert_eq!(fs::read_dir(folder.path().join("new/folder")).expect("read").count(), 2);
        assert!(
            blobs.put("new/folder/one#2", &[b"x"]).expect_err("a name of files being written").message.contains("#2")
        );
        // What is in the way is an error that names the place, and nothing stays behind.
        fs::create_dir_all(folder.path().join("taken/by/a")).expect("makes folders");
        assert!(blobs.put("taken/by", &[b"x"]).expect_err("a folder lies there").message.contains("taken/by"));
        assert_eq!(fs::read_dir(folder.path().join("taken")).expect("read").count(), 1);
    }

    #[test]
    fn what_a_killed_writer_left_is_removed_and_blobs_stay() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let blobs = LocalBlobs::open(folder.path()).expect("open");
        blobs.put("jobs/x/one", &[b"1"]).expect("put");
        fs::write(folder.path().join("jobs/x/two#1"), b"half").expect("write");
        assert_eq!(blobs.remove_unfinished_uploads("jobs").expect("remove"), 1);
        assert_eq!(blobs.remove_unfinished_uploads("missing").expect("nothing there"), 0);
        assert!(!folder.path().join("jobs/x/two#1").exists());
        assert_eq!(blobs.list("jobs").expect("list"), ["jobs/x/one"]);
    }
}
