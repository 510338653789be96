//! A store that is slow, fails or is full for a while, when a switch says so: for tests of whole jobs and for simulations.
//! [`MemoryBlobs`](super::MemoryBlobs) has faults of single calls; this one has those of a time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millstream_runtime::ports::PortError;
use millstream_runtime::ports::store::{BlobStore, Created};

/// What is wrong with a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing.
    #[default]
    None,
    /// Every call takes so much longer.
    Slow(Duration),
    /// No call succeeds.
    Failing,
    /// Nothing can be written; reading and deleting work.
    Full,
}

/// Says what is wrong with all stores that were opened with it. Clones are the same switch.
#[derive(Clone, Debug, Default)]
pub struct Switch(Arc<Mutex<Trouble>>);

impl Switch {
    /// From now on this is wrong.
    pub fn set(&self, trouble: Trouble) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    fn get(&self) -> Trouble {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A store in trouble.
pub(super) struct TroubledBlobs {
    pub(super) blobs: Arc<dyn BlobStore>,
    pub(super) switch: Switch,
}

impl TroubledBlobs {
    fn begin(&self, is_write: bool, path: &str) -> Result<(), PortError> {
        match self.switch.get() {
            Trouble::None => Ok(()),
            Trouble::Slow(by) => {
                #[expect(clippy::disallowed_methods, reason = "a call that blocks, on the executor for such calls")]
                std::thread::sleep(by);
                Ok(())
            }
            Trouble::Failing => Err(PortError::retry(format!("{path}: the store does not answer"))),
            Trouble::Full if is_write => Err(PortError::retry(format!("{path}: no space is left in the store"))),
            Trouble::Full => Ok(()),
        }
    }
}

impl BlobStore for TroubledBlobs {
    fn put(&self, path: &str, parts: &[&[u8]]) -> Result<(), PortError> {
        self.begin(true, path)?;
        self.blobs.put(path, parts)
    }
    fn put_if_absent(&self, path: &str, bytes: &[u8]) -> Result<Created, PortError> {
        self.begin(true, path)?;
        self.blobs.put_if_absent(path, bytes)
    }
    fn get(&self, path: &str) -> Result<Option<Vec<u8>>, PortError> {
        self.begin(false, path)?;
        self.blobs.get(path)
    }
    fn get_range(&self, path: &str, offset: u64, length: u64) -> Result<Vec<u8>, PortError> {
        self.begin(false, path)?;
        self.blobs.get_range(path, offset, length)
    }
    fn delete(&self, path: &str) -> Result<(), PortError> {
        self.begin(false, path)?;
        self.blobs.delete(path)
    }
    fn delete_each(&self, paths: &[String]) -> Vec<Result<(), PortError>> {
        let Some(first) = paths.first() else { return Vec::new() };
        match self.begin(false, first) {
            Ok(()) => self.blobs.delete_each(paths),
            Err(error) => vec![Err(error)],
        }
    }
    fn list(&self, prefix: &str) -> Result<Vec<String>, PortError> {
        self.begin(false, prefix)?;
        self.blobs.list(prefix)
    }
    fn delete_all(&self, prefix: &str) -> Result<(), PortError> {
        self.begin(false, prefix)?;
        self.blobs.delete_all(prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::MemoryBlobs;

    #[test]
    fn trouble_begins_and_ends_when_the_switch_says_so() {
        let switch = Switch::default();
        let blobs = TroubledBlobs { blobs: Arc::new(MemoryBlobs::new()), switch: switch.clone() };
        blobs.put("a/b", &[b"1"]).expect("healthy");
        switch.set(Trouble::Full);
        assert!(blobs.put("a/c", &[b"2"]).expect_err("full").message.contains("no space"));
        assert!(blobs.put_if_absent("a/c", b"2").is_err());
        assert_eq!(blobs.get("a/b").expect("reads"), Some(b"1".to_vec()));
        switch.set(Trouble::Failing);
        assert!(blobs.get("a/b").expect_err("fails").message.contains("does not answer"));
        assert!(blobs.list("a").is_err() && blobs.delete("a/b").is_err() && blobs.delete_all("a").is_err());
        switch.set(Trouble::Slow(Duration::from_millis(1)));
        assert_eq!(blobs.list("a").expect("lists"), ["a/b"]);
        switch.set(Trouble::None);
        assert_eq!(blobs.put_if_absent("a/c", b"2").expect("healthy again"), Created::Yes);
    }
}
