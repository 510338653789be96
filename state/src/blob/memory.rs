//! A checkpoint store in memory whose calls fail on demand: before doing anything, after doing it (an undecided
//! outcome), or never to be heard of again. For tests and simulations.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use millstream_runtime::ports::PortError;
use millstream_runtime::ports::store::{BlobStore, Created};

/// A call of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// [`BlobStore::put`]
    Put,
    /// [`BlobStore::put_if_absent`]
    PutIfAbsent,
    /// [`BlobStore::get`] and [`BlobStore::get_range`]
    Get,
    /// [`BlobStore::delete`]
    Delete,
    /// [`BlobStore::list`]
    List,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done and an error is returned.
    Refused,
    /// It is done, and an error is returned all the same.
    DoneButError,
    /// Nothing is done, and success is returned: a store that loses writes.
    Dropped,
    /// Nothing is done, and "already exists" is returned (a conflict that an object store answered with 409).
    FalselyExists,
}

#[derive(Default)]
struct Inner {
    blobs: BTreeMap<String, Vec<u8>>,
    calls: BTreeMap<Operation, u64>,
    faults: BTreeMap<(Operation, u64), Fault>,
}

/// Blobs in memory. Clones share them.
#[derive(Clone, Default)]
pub struct MemoryBlobs(Arc<Mutex<Inner>>);

impl MemoryBlobs {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the `n`-th call from now (from 1) of an operation fail.
    pub fn fail_after(&self, operation: Operation, n: u64, fault: Fault) {
        let mut inner = self.lock();
        let call = inner.calls.get(&operation).copied().unwrap_or(0) + n;
        inner.faults.insert((operation, call), fault);
    }

    /// How often an operation was called.
    #[must_use]
    pub fn calls(&self, operation: Operation) -> u64 {
        self.lock().calls.get(&operation).copied().unwrap_or(0)
    }

    /// Changes a blob in place, as damage on a disk would.
    pub fn damage(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
        if let Some(blob) = self.lock().blobs.get_mut(path) {
            change(blob);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no call panics while it holds the lock")
    }

    /// Counts the call and answers what goes wrong with it.
    fn begin(&self, operation: Operation) -> (MutexGuard<'_, Inner>, Option<Fault>) {
        let mut inner = self.lock();
        let call = inner.calls.entry(operation).or_insert(0);
        *call += 1;
        let call = *call;
        let fault = inner.faults.remove(&(operation, call));
        (inner, fault)
    }
}

fn injected(operation: Operation, path: &str) -> PortError {
    PortError::retry(format!("{path}: injected fault of {operation:?}"))
}

impl BlobStore for MemoryBlobs {
    fn put(&self, path: &str, parts: &[&[u8]]) -> Result<(), PortError> {
        let (mut inner, fault) = self.begin(Operation::Put);
        if matches!(fault, None | Some(Fault::DoneButError)) {
            inner.blobs.insert(path.to_string(), parts.concat());
        }
        match fault {
            None | Some(Fault::Dropped) => Ok(()),
            Some(Fault::Refused | Fault::DoneButError | Fault::FalselyExists) => Err(injected(Operation::Put, path)),
        }
    }

    fn put_if_absent(&self, path: &str, bytes: &[u8]) -> Result<Created, PortError> {
        let (mut inner, fault) = self.begin(Operation::PutIfAbsent);
        let exists = inner.blobs.contains_key(path);
        if !exists && matches!(fault, None | Some(Fault::DoneButError)) {
            inner.blobs.insert(path.to_string(), bytes.to_vec());
        }
        match fault {
            Some(Fault::Refused | Fault::DoneButError) => Err(injected(Operation::PutIfAbsent, path)),
            Some(Fault::FalselyExists) => Ok(Created::AlreadyExists),
            Some(Fault::Dropped) => Ok(Created::Yes),
            None if exists => Ok(Created::AlreadyExists),
            None => Ok(Created::Yes),
        }
    }

    fn get(&self, path: &str) -> Result<Option<Vec<u8>>, PortError> {
        let (inner, fault) = self.begin(Operation::Get);
        match fault {
            None => Ok(inner.blobs.get(path).cloned()),
            Some(_) => Err(injected(Operation::Get, path)),
        }
    }

    fn get_range(&self, path: &str, offset: u64, length: u64) -> Result<Vec<u8>, PortError> {
        let (inner, fault) = self.begin(Operation::Get);
        if fault.is_some() {
            return Err(injected(Operation::Get, path));
        }
        let blob = inner.blobs.get(path).ok_or_else(|| PortError::give_up(format!("{path} does not exist")))?;
        let range = usize::try_from(offset).ok().zip(usize::try_from(length).ok());
        let bytes = range.and_then(|(start, length)| blob.get(start..start.checked_add(length)?));
        bytes.map(<[u8]>::to_vec).ok_or_else(|| PortError::give_up(format!("{path} is shorter than asked for")))
    }

    fn delete(&self, path: &str) -> Result<(), PortError> {
        let (mut inner, fault) = self.begin(Operation::Delete);
        if matches!(fault, None | Some(Fault::DoneButError)) {
            inner.blobs.remove(path);
        }
        match fault {
            None | Some(Fault::Dropped) => Ok(()),
            Some(_) => Err(injected(Operation::Delete, path)),
        }
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, PortError> {
        let (inner, fault) = self.begin(Operation::List);
        if fault.is_some() {
            return Err(injected(Operation::List, prefix));
        }
        let folder = format!("{}/", prefix.trim_end_matches('/'));
        Ok(inner.blobs.keys().filter(|name| name.starts_with(&folder)).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_strike_the_call_they_were_made_for() {
        let blobs = MemoryBlobs::new();
        blobs.fail_after(Operation::Put, 2, Fault::Refused);
        blobs.fail_after(Operation::Put, 3, Fault::DoneButError);
        blobs.fail_after(Operation::PutIfAbsent, 1, Fault::FalselyExists);
        assert!(blobs.put("f/a", &[b"1"]).is_ok());
        assert!(blobs.put("f/b", &[b"2"]).is_err());
        assert!(blobs.put("f/c", &[b"3"]).is_err());
        assert_eq!(blobs.put_if_absent("f/d", b"4").expect("answers"), Created::AlreadyExists);
        assert_eq!(blobs.list("f").expect("list"), ["f/a", "f/c"]);
        assert_eq!(blobs.put_if_absent("f/d", b"4").expect("answers"), Created::Yes);
        assert_eq!(blobs.calls(Operation::Put), 3);
    }
}
