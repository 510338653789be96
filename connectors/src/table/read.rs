//! A table for reading only, also while a job in another process writes. Used by `millstream table`.

use std::path::{Path, PathBuf};

use heed::{CommitOrAbort, Env, EnvFlags, EnvOpenOptions, MdbError};
use millstream_runtime::ports::PortError;

use super::Visit;
use super::environment::{exists, foreign, iterate, lmdb_error};
use super::layout::{Entries, FORMAT_VERSION, VERSION_KEY};

/// Times to open again while the writer keeps growing the table.
const MAX_OPENINGS: u32 = 100;

/// A table opened for reading. Blocks throughout.
pub struct Table {
    folder: PathBuf,
    env: Env,
    database: Entries,
}

impl Table {
    /// Opens the table in a folder.
    ///
    /// # Errors
    /// When there is none, it is damaged, or this process has it open already.
    pub fn open_read(folder: &Path) -> Result<Self, PortError> {
        if !exists(folder) {
            return Err(PortError::fix_input(format!("there is no table in {}; name its folder", folder.display())));
        }
        for _ in 0..MAX_OPENINGS {
            match open(folder) {
                // The writer grew it between opening and reading.
                Err(heed::Error::Mdb(MdbError::MapResized)) => {}
                Err(error) => return Err(lmdb_error(folder, &error)),
                Ok(None) => return Err(foreign(folder)),
                Ok(Some((env, database))) => return Ok(Self { folder: folder.to_path_buf(), env, database }),
            }
        }
        Err(too_fast(folder))
    }

    /// Visits the committed entries, as of one moment, in the order of their keys.
    ///
    /// # Errors
    /// When the table cannot be read, or `visit` fails.
    pub fn iterate(&mut self, visit: Visit<'_>) -> Result<(), PortError> {
        for _ in 0..MAX_OPENINGS {
            let resized = match self.env.read_txn() {
                Ok(transaction) => return iterate(&transaction, &self.database, &self.folder, visit),
                // The writer grew it since: take its size.
                // SAFETY: transactions are opened only here and end before this returns, and `self` is exclusive.
                Err(heed::Error::Mdb(MdbError::MapResized)) => unsafe { self.env.resize(0) },
                Err(error) => Err(error),
            };
            resized.map_err(|error| lmdb_error(&self.folder, &error))?;
        }
        Err(too_fast(&self.folder))
    }
}

fn too_fast(folder: &Path) -> PortError {
    PortError::retry(format!("the table in {} grows too fast to be read; try again", folder.display()))
}

fn open(folder: &Path) -> heed::Result<Option<(Env, Entries)>> {
    let mut options = EnvOpenOptions::new();
    // SAFETY: reading only; the files are changed only through LMDB, locking is left on, and heed refuses a second
    // opening in this process. The flag is not one of those that give up safety.
    let env = unsafe { options.flags(EnvFlags::READ_ONLY).open(folder) }?;
    let transaction = env.read_txn()?;
    let database: Option<Entries> = env
        .open_databases_and_commit(transaction, |opener, transaction| {
            opener.open_database(transaction, None).map(CommitOrAbort::<_, ()>::Commit)
        })?
        .unwrap_commit();
    let Some(database) = database else { return Ok(None) };
    let transaction = env.read_txn()?;
    let known = database.get(&transaction, VERSION_KEY)? == Some(&FORMAT_VERSION.to_le_bytes()[..]);
    drop(transaction);
    Ok(known.then_some((env, database)))
}
