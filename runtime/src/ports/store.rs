//! The checkpoint store: a flat name space of blobs in which the truth about a job lives. Implemented in `state`
//! over `object_store`. All calls block and run on the blocking executor.

use super::PortError;

/// What a conditional create came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// The blob did not exist and is durable now.
    Yes,
    /// A blob of that name was there already; it is unchanged.
    AlreadyExists,
}

/// A store of immutable blobs, named by relative paths with `/`.
pub trait BlobStore: Send + Sync {
    /// Writes a blob durably: it is there whole after a power loss, or the call failed.
    ///
    /// # Errors
    /// Not written, or not known to be.
    fn put(&self, path: &str, parts: &[&[u8]]) -> Result<(), PortError>;

    /// Writes a blob durably unless one of that name exists. The only primitive of agreement in the system.
    ///
    /// # Errors
    /// Undecided: the caller must read the blob to learn what happened.
    fn put_if_absent(&self, path: &str, bytes: &[u8]) -> Result<Created, PortError>;

    /// The whole blob, `None` when there is none.
    ///
    /// # Errors
    /// When the store cannot answer; never for a missing blob.
    fn get(&self, path: &str) -> Result<Option<Vec<u8>>, PortError>;

    /// `length` bytes from `offset`.
    ///
    /// # Errors
    /// When the blob is missing or shorter.
    fn get_range(&self, path: &str, offset: u64, length: u64) -> Result<Vec<u8>, PortError>;

    /// Removes a blob; a missing one is fine.
    ///
    /// # Errors
    /// When the store refuses.
    fn delete(&self, path: &str) -> Result<(), PortError>;

    /// Removes blobs in as few requests as the store allows; missing ones are fine. Answers one result a path, in order;
    /// a store that stops answering ends it early, with its error last, and what follows was not tried.
    fn delete_each(&self, paths: &[String]) -> Vec<Result<(), PortError>> {
        one_by_one(paths, |path| self.delete(path))
    }

    /// Names of all blobs below a prefix, sorted. Never on a hot path.
    ///
    /// # Errors
    /// When the store cannot answer.
    fn list(&self, prefix: &str) -> Result<Vec<String>, PortError>;

    /// Removes every blob below a prefix. Never on a hot path.
    ///
    /// # Errors
    /// When the store refuses; calling again goes on.
    fn delete_all(&self, prefix: &str) -> Result<(), PortError> {
        self.delete_each(&self.list(prefix)?).into_iter().collect()
    }
}

/// [`BlobStore::delete_each`] for a store that deletes one blob a request.
pub fn one_by_one(
    paths: &[String],
    mut delete: impl FnMut(&str) -> Result<(), PortError>,
) -> Vec<Result<(), PortError>> {
    let mut refused = false;
    let until_refused = paths.iter().map_while(|path| {
        let result = (!refused).then(|| delete(path))?;
        refused = result.is_err();
        Some(result)
    });
    until_refused.collect()
}
