//! Opens stores by where they are. Also finds out, before a job relies on a store, whether everything the engine does with
//! one is possible there. Handed to whoever opens checkpoints and savepoints.

use std::sync::Arc;

use millstream_runtime::ports::PortError;
use millstream_runtime::ports::store::{BlobStore, Created};

use super::troubled::TroubledBlobs;
use super::{LocalBlobs, Location, S3Options, Switch, s3};

/// Where trial blobs are made.
const TRIALS: &str = "trials";

/// Opens stores at any location.
#[derive(Clone, Debug, Default)]
pub struct Stores {
    s3: S3Options,
    /// For tests: what is wrong with everything that is opened.
    trouble: Option<Switch>,
}

impl Stores {
    /// Stores in buckets are reached as `s3` says.
    #[must_use]
    pub fn new(s3: S3Options) -> Self {
        Self { s3, trouble: None }
    }

    /// The same, with whatever trouble the switch says. For tests and simulations.
    #[must_use]
    pub fn troubled(self, switch: &Switch) -> Self {
        Self { trouble: Some(switch.clone()), ..self }
    }

    /// Opens the store at a location. A folder is made if need be; a bucket is asked nothing yet.
    ///
    /// # Errors
    /// When the folder cannot be made or read, or the settings of S3 contradict each other.
    pub fn open(&self, location: &Location) -> Result<Arc<dyn BlobStore>, PortError> {
        let blobs: Arc<dyn BlobStore> = match location {
            Location::Folder(folder) => Arc::new(LocalBlobs::open(folder)?),
            Location::S3 { bucket, prefix } => Arc::new(s3::open(&self.s3, bucket, prefix)?),
        };
        Ok(match &self.trouble {
            Some(switch) => Arc::new(TroubledBlobs { blobs, switch: switch.clone() }),
            None => blobs,
        })
    }

    /// Opens the store at a location to read what is in it: a folder is not made.
    ///
    /// # Errors
    /// As [`open`](Self::open), and when a folder is not there.
    pub fn open_present(&self, location: &Location) -> Result<Arc<dyn BlobStore>, PortError> {
        if let Location::Folder(folder) = location
            && !folder.is_dir()
        {
            return Err(PortError::fix_input(format!("there is no folder {location}")));
        }
        self.open(location)
    }

    /// Opens the store at a location after a trial of everything that is done with a store: with a bucket, that the
    /// credentials allow it, and that the server really refuses to create a blob twice. A folder needs no trial.
    ///
    /// # Errors
    /// `FixInput` with what to do; a job that started regardless would lose checkpoints, or its exclusive hold on its log.
    pub fn open_tried(&self, location: &Location, trial: &str) -> Result<Arc<dyn BlobStore>, PortError> {
        let blobs = self.open(location)?;
        if matches!(location, Location::S3 { .. }) {
            try_out(&*blobs, location, trial)
                .map_err(|error| PortError::fix_input(format!("{location} cannot be used. {}", error.message)))?;
        }
        Ok(blobs)
    }
}

/// Creates, reads, lists and deletes a blob named by `trial`, which no other process may use.
fn try_out(blobs: &dyn BlobStore, location: &Location, trial: &str) -> Result<(), PortError> {
    let name = format!("{TRIALS}/{trial}");
    let content = trial.as_bytes();
    let differs =
        |what: &str| PortError::fix_input(format!("{what}: the store at {location} does not do what S3 does"));
    let created = blobs.put_if_absent(&name, content);
    if blobs.get(&name)?.as_deref() != Some(content) {
        return Err(created.err().unwrap_or_else(|| differs("a blob that was made cannot be read")));
    }
    if blobs.put_if_absent(&name, b"twice")? != Created::AlreadyExists || blobs.get(&name)?.as_deref() != Some(content)
    {
        return Err(differs(
            "a blob could be created twice (conditional writes with If-None-Match are ignored), so that two leaders could both write",
        ));
    }
    if !blobs.list(TRIALS)?.contains(&name) {
        return Err(differs("a blob that was made is not listed"));
    }
    blobs.delete(&name)?;
    if blobs.get(&name)?.is_some() {
        return Err(differs("a blob that was deleted is still there"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::{Fault, MemoryBlobs, Operation};

    fn somewhere() -> Location {
        Location::parse("s3://bucket/prefix").expect("a location")
    }

    #[test]
    fn a_trial_leaves_nothing_behind() {
        let blobs = MemoryBlobs::new();
        try_out(&blobs, &somewhere(), "one").expect("can be used");
        assert_eq!(blobs.list(TRIALS).expect("lists"), Vec::<String>::new());
    }

    #[test]
    fn a_store_that_ignores_conditions_loses_writes_or_denies_a_call_is_refused() {
        let cases = [
            (Operation::PutIfAbsent, 1, Fault::Refused, "injected"),
            (Operation::PutIfAbsent, 1, Fault::Dropped, "cannot be read"),
            (Operation::PutIfAbsent, 2, Fault::Dropped, "created twice"),
            (Operation::List, 1, Fault::Refused, "injected"),
            (Operation::Delete, 1, Fault::Dropped, "still there"),
            (Operation::Delete, 1, Fault::Refused, "injected"),
        ];
        for (operation, n, fault, expected) in cases {
            let blobs = MemoryBlobs::new();
            blobs.fail_after(operation, n, fault);
            let error = try_out(&blobs, &somewhere(), "one").expect_err("refused");
            assert!(error.message.contains(expected), "{operation:?} {fault:?}: {error}");
        }
    }
}
