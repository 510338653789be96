//! [`BlobStore`] over any [`ObjectStore`]. [`LocalBlobs`](super::LocalBlobs) is this over a folder, [`s3`](super::s3) is
//! this over the client of S3. Its futures do all their work when they are polled, so they are driven where they are called.

use std::sync::Arc;

use bytes::Bytes;
use futures::executor::block_on;
use futures::{StreamExt, TryStreamExt, stream};
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::store::{BlobStore, Created, one_by_one};
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use super::answer;

/// Blobs above this size go up in parts of it, so that a copy of the whole is never held.
pub const PART_BYTES: usize = 32 << 20;

/// Blobs that one request deletes: what S3 allows.
const DELETED_AT_ONCE: usize = 1_000;

/// A checkpoint store in an object store.
#[derive(Clone, Debug)]
pub struct ObjectBlobs {
    store: Arc<dyn ObjectStore>,
    /// The same store, deleting many blobs with one request.
    in_bulk: Option<Arc<dyn ObjectStore>>,
    /// For messages: where it is.
    place: String,
}

impl ObjectBlobs {
    /// Blobs in `store`, called `place` in messages.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, place: impl Into<String>) -> Self {
        Self { store, in_bulk: None, place: place.into() }
    }

    /// Deletes many blobs with one request through `store`, where that is known there.
    #[must_use]
    pub fn deleting_in_bulk(self, store: Arc<dyn ObjectStore>) -> Self {
        Self { in_bulk: Some(store), ..self }
    }

    pub(super) fn path(&self, path: &str) -> Result<Path, PortError> {
        Path::parse(path)
            .map_err(|error| PortError::fix_input(format!("{}: '{path}' cannot be a blob name: {error}", self.place)))
    }

    fn failed(&self, doing: &str, path: &str, error: &Error) -> PortError {
        let reason = answer::reason(error);
        let message = format!("{}: {doing} {path} failed: {reason}", self.place);
        match answer::advice(&reason) {
            Some(advice) => PortError::retry(format!("{message}; {advice}")),
            None => PortError::retry(message),
        }
    }

    /// Deletes some in one request. `None` when that cannot be done or failed as a whole, which says nothing about
    /// single blobs.
    fn delete_at_once(&self, paths: &[String]) -> Option<Vec<Result<(), PortError>>> {
        let store = self.in_bulk.as_ref()?;
        let locations = paths.iter().map(|path| self.path(path).ok()).collect::<Option<Vec<_>>>()?;
        let results = store.delete_stream(stream::iter(locations).map(Ok).boxed()).collect::<Vec<_>>();
        let results = block_on(results);
        let whole = results.len() == paths.len();
        whole.then(|| {
            results.into_iter().zip(paths).map(|(result, path)| self.deleted(path, result.map(drop))).collect()
        })
    }

    fn deleted(&self, path: &str, result: object_store::Result<()>) -> Result<(), PortError> {
        match result {
            Ok(()) => Ok(()),
            Err(error @ Error::NotFound { .. }) if !answer::is_missing_bucket(&error) => Ok(()),
            Err(error) => Err(self.failed("deleting", path, &error)),
        }
    }

    async fn put_in_parts(&self, location: &Path, parts: &[&[u8]]) -> object_store::Result<()> {
        let mut upload = self.store.put_multipart(location).await?;
        let mut result = Ok(());
        for part in even_parts(parts) {
            result = upload.put_part(part.into()).await;
            if result.is_err() {
                break;
            }
        }
        match result {
            Ok(()) => upload.complete().await.map(|_| ()),
            Err(error) => {
                // Best effort: what stays behind is not a blob.
                let _ = upload.abort().await;
                Err(error)
            }
        }
    }
}

/// Cuts the whole into pieces of [`PART_BYTES`]; only the last may be smaller (S3 refuses other small ones).
fn even_parts<'a>(parts: &'a [&'a [u8]]) -> impl Iterator<Item = Bytes> + 'a {
    let mut rest = parts.iter().copied().filter(|part| !part.is_empty()).peekable();
    let mut taken = 0;
    std::iter::from_fn(move || {
        let mut piece = Vec::new();
        while let Some(part) = rest.peek() {
            let end = part.len().min(taken + PART_BYTES - piece.len());
            piece.extend_from_slice(&part[taken..end]);
            if end == part.len() {
                rest.next();
                taken = 0;
            } else {
                taken = end;
                break;
            }
        }
        (!piece.is_empty()).then(|| piece.into())
    })
}

impl BlobStore for ObjectBlobs {
    fn put(&self, path: &str, parts: &[&[u8]]) -> Result<(), PortError> {
        let location = self.path(path)?;
        let size: usize = parts.iter().map(|part| part.len()).sum();
        let result = if size > PART_BYTES {
            block_on(self.put_in_parts(&location, parts))
        } else {
            // One piece, so that the transport need not copy it once more.
            let payload = PutPayload::from(parts.concat());
            block_on(self.store.put(&location, payload)).map(|_| ())
        };
        result.map_err(|error| self.failed("writing", path, &error))
    }

    fn put_if_absent(&self, path: &str, bytes: &[u8]) -> Result<Created, PortError> {
        let location = self.path(path)?;
        let options = PutOptions::from(PutMode::Create);
        match block_on(self.store.put_opts(&location, Bytes::copy_from_slice(bytes).into(), options)) {
            Ok(_) => Ok(Created::Yes),
            Err(Error::AlreadyExists { .. }) => Ok(Created::AlreadyExists),
            Err(error) => Err(self.failed("creating", path, &error)),
        }
    }

    fn get(&self, path: &str) -> Result<Option<Vec<u8>>, PortError> {
        let location = self.path(path)?;
        let read = async { self.store.get(&location).await?.bytes().await };
        match block_on(read) {
            Ok(bytes) => Ok(Some(bytes.into())),
            // Where the whole bucket is missing, "no such blob" would be taken for an empty log.
            Err(error @ Error::NotFound { .. }) if !answer::is_missing_bucket(&error) => Ok(None),
            Err(error) => Err(self.failed("reading", path, &error)),
        }
    }

    fn get_range(&self, path: &str, offset: u64, length: u64) -> Result<Vec<u8>, PortError> {
        let location = self.path(path)?;
        let short = || {
            PortError::give_up(format!(
                "{}: {path} is shorter than {} bytes",
                self.place,
                offset.saturating_add(length)
            ))
        };
        if length == 0 {
            return Ok(Vec::new());
        }
        let end = offset.checked_add(length).ok_or_else(short)?;
        match block_on(self.store.get_range(&location, offset..end)) {
            Ok(bytes) if bytes.len() as u64 == length => Ok(bytes.into()),
            Ok(_) => Err(short()),
            Err(error @ Error::NotFound { .. }) if !answer::is_missing_bucket(&error) => {
                Err(PortError::give_up(format!("{}: {path} does not exist", self.place)))
            }
            Err(error) => {
                // A range beyond the end is reported in a different way by every store.
                match block_on(self.store.head(&location)) {
                    Ok(meta) if meta.size < end => Err(short()),
                    _ => Err(self.failed("reading", path, &error)),
                }
            }
        }
    }

    fn delete(&self, path: &str) -> Result<(), PortError> {
        let location = self.path(path)?;
        self.deleted(path, block_on(self.store.delete(&location)))
    }

    fn delete_each(&self, paths: &[String]) -> Vec<Result<(), PortError>> {
        let mut results = Vec::with_capacity(paths.len());
        for some in paths.chunks(DELETED_AT_ONCE) {
            // Not every store that speaks S3 knows how to delete many: such a one deletes them one by one.
            let of_some = match some {
                [one] => vec![self.delete(one)],
                many => self.delete_at_once(many).unwrap_or_else(|| one_by_one(many, |path| self.delete(path))),
            };
            let goes_on = of_some.len() == some.len();
            results.extend(of_some);
            if !goes_on {
                break;
            }
        }
        results
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, PortError> {
        let location = self.path(prefix.trim_end_matches('/'))?;
        let names = self.store.list(Some(&location)).map_ok(|meta| meta.location.to_string()).try_collect::<Vec<_>>();
        let mut names = block_on(names).map_err(|error| self.failed("listing", prefix, &error))?;
        names.sort_unstable();
        Ok(names)
    }
}
