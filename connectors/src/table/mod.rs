//! A table in LMDB, written exactly once: one entry a key, merged by the job's own rule.
//!
//! A cut's rows are staged in the environment itself (`writer`); the commit merges them into the table, notes the
//! transaction's id and removes the staging in one write transaction (`committer`), so that committing again is
//! recognised. [`Table`] reads, also while a job in another process writes. What lies where: `layout`; one
//! environment per process and its growth: `environment`.

mod committer;
mod environment;
mod layout;
mod read;
#[cfg(test)]
mod tests;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use heed::RwTxn;
use millstream_runtime::batch::Data;
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::sink::{Committer, SinkContext, SinkOutput, SinkWriter, TwoPhaseCommitSink};

pub use layout::{MAX_KEY_BYTES, TableTransaction};
pub use read::Table;

use crate::error::lock;
use committer::TableCommitter;
use environment::{Environment, Failure};
use layout::{Entries, FORMAT_VERSION, Section, VERSION_KEY};
use writer::TableWriter;

/// What a row does to the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upsert {
    /// The entry's key, 1 to [`MAX_KEY_BYTES`] bytes. The table is in the order of these bytes.
    pub key: Vec<u8>,
    /// What is merged into the entry. `millstream table` expects a JSON object.
    pub value: Vec<u8>,
}

/// What becomes of an entry: from the value it has (or none) and that of a row. `None` leaves it as it is.
pub type Merge = fn(Option<&[u8]>, &[u8]) -> Option<Vec<u8>>;

/// Is given key and value of an entry; an error ends the visit.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<(), PortError>;

/// Writes rows into a table, exactly once. All subtasks share the environment through this value (clones included);
/// it stays open until the last one is dropped.
pub struct TableSink<T> {
    upsert: fn(&T) -> Upsert,
    merge: Merge,
    shared: Arc<Shared>,
}

/// LMDB must not be opened twice in a process.
struct Shared {
    folder: PathBuf,
    environment: Mutex<Option<Arc<Environment>>>,
}

impl Shared {
    /// The environment, opened by the first who asks. Blocks.
    fn environment(&self) -> Result<Arc<Environment>, PortError> {
        let mut slot = lock(&self.environment);
        if let Some(environment) = &*slot {
            return Ok(Arc::clone(environment));
        }
        let environment = Arc::new(Environment::open(&self.folder)?);
        *slot = Some(Arc::clone(&environment));
        Ok(environment)
    }
}

impl<T> Clone for TableSink<T> {
    fn clone(&self) -> Self {
        Self { upsert: self.upsert, merge: self.merge, shared: Arc::clone(&self.shared) }
    }
}

impl<T: Data> TableSink<T> {
    /// A table in a folder, made when the first rows are written. The result is the same in any order of the rows only
    /// if `merge` does not depend on their order: rows of different subtasks come in any.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>, upsert: fn(&T) -> Upsert, merge: Merge) -> Self {
        let shared = Shared { folder: folder.into(), environment: Mutex::new(None) };
        Self { upsert, merge, shared: Arc::new(shared) }
    }

    /// Visits the committed entries in the order of their keys. For programs that have the sink open; others use
    /// [`Table::open_read`]. Blocks.
    ///
    /// # Errors
    /// When the table cannot be read, or `visit` fails.
    pub fn iterate(&self, visit: Visit<'_>) -> Result<(), PortError> {
        self.shared.environment()?.iterate(visit)
    }
}

impl<T: Data> TwoPhaseCommitSink<T> for TableSink<T> {
    type Committable = TableTransaction;

    fn writer(&self, context: SinkContext) -> Result<Box<dyn SinkWriter<T, TableTransaction>>, PortError> {
        Ok(Box::new(TableWriter::new(self.upsert, Arc::clone(&self.shared), context)))
    }

    fn committer(&self, context: SinkContext) -> Result<Box<dyn Committer<TableTransaction>>, PortError> {
        Ok(Box::new(TableCommitter::new(self.merge, Arc::clone(&self.shared), context)))
    }

    fn output(&self) -> Option<Arc<dyn SinkOutput>> {
        Some(Arc::new(TableOutput(self.shared.folder.clone())))
    }
}

/// The table of a sink between two runs.
struct TableOutput(PathBuf);

impl SinkOutput for TableOutput {
    fn place(&self) -> String {
        self.0.display().to_string()
    }

    fn has_committed(&self) -> Result<bool, PortError> {
        if !environment::exists(&self.0) {
            return Ok(false);
        }
        let environment = Environment::open(&self.0)?;
        environment.write(|database, transaction| {
            Ok(!layout::keys_of(database, transaction, &[Section::Entries.prefix()])?.is_empty())
        })
    }

    fn clear(&self) -> Result<(), PortError> {
        clear_output(&self.0)
    }
}

/// Removes what any job has staged in a table but not committed. Blocks; for starting anew, never while a job writes
/// to it.
///
/// # Errors
/// When the table cannot be opened or written; a folder without a table is fine.
pub fn clean_uncommitted(folder: &Path) -> Result<(), PortError> {
    change(folder, |database, transaction| {
        for key in layout::keys_of(database, transaction, &[Section::Staged.prefix()])? {
            database.delete(transaction, &key)?;
        }
        Ok(())
    })
}

/// Empties a table of a former run. Blocks; never while a job writes to it.
///
/// # Errors
/// When the table cannot be opened or written; a folder without a table is fine.
pub fn clear_output(folder: &Path) -> Result<(), PortError> {
    change(folder, |database, transaction| {
        database.clear(transaction)?;
        Ok(database.put(transaction, VERSION_KEY, &FORMAT_VERSION.to_le_bytes())?)
    })
}

fn change(folder: &Path, change: fn(&Entries, &mut RwTxn<'_>) -> Result<(), Failure>) -> Result<(), PortError> {
    if environment::exists(folder) { Environment::open(folder)?.write(change) } else { Ok(()) }
}
