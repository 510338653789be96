//! The LMDB environment of a table: opened once per process, its map doubled when full. Every function blocks.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use heed::{CommitOrAbort, Env, EnvOpenOptions, MdbError, RoTxn, RwTxn};
use millstream_runtime::ports::PortError;

use super::Visit;
use super::layout::{Entries, FORMAT_VERSION, Section, VERSION_KEY};
use crate::error::lock;
use crate::file::durable::create_folder;

/// The map at first; address space, not memory or disk. Grows by doubling.
const INITIAL_MAP_BYTES: usize = 64 * 1024 * 1024;

/// Why a change of the environment was not made.
pub(super) enum Failure {
    Lmdb(heed::Error),
    Refused(PortError),
}

impl From<heed::Error> for Failure {
    fn from(error: heed::Error) -> Self {
        Self::Lmdb(error)
    }
}

impl From<PortError> for Failure {
    fn from(error: PortError) -> Self {
        Self::Refused(error)
    }
}

pub(super) struct Environment {
    folder: PathBuf,
    /// In a mutex because the map may be resized only while no transaction is open in this process.
    env: Mutex<Env>,
    database: Entries,
}

/// Whether there is an environment in a folder.
pub(super) fn exists(folder: &Path) -> bool {
    folder.join("data.mdb").is_file()
}

/// What LMDB says, as an error that names the folder.
pub(super) fn lmdb_error(folder: &Path, error: &heed::Error) -> PortError {
    let folder = folder.display();
    match error {
        heed::Error::EnvAlreadyOpened => PortError::retry(format!(
            "the table in {folder} is open already in this process: use one sink value for all that write to it"
        )),
        heed::Error::Mdb(
            MdbError::Corrupted | MdbError::PageNotFound | MdbError::Invalid | MdbError::VersionMismatch,
        ) => PortError::give_up(format!(
            "the table in {folder} is damaged or not a table ({error}); restore it from a copy, or start anew \
                 with another folder"
        )),
        _ => PortError::retry(format!("the table in {folder} cannot be used: {error}")),
    }
}

impl Environment {
    /// Opens the environment of a folder, making both if need be.
    pub fn open(folder: &Path) -> Result<Self, PortError> {
        create_folder(folder)?;
        let failed = |error: heed::Error| lmdb_error(folder, &error);
        // SAFETY: the files are changed only through LMDB, locking is left on, and heed refuses a second opening in
        // this process.
        let env = unsafe { EnvOpenOptions::new().map_size(INITIAL_MAP_BYTES).open(folder) }.map_err(failed)?;
        // What processes that were killed while reading have left would keep old pages alive.
        env.clear_stale_readers().map_err(failed)?;
        let database = open_database(&env).map_err(failed)?;
        let environment = Self { folder: folder.to_path_buf(), env: Mutex::new(env), database };
        environment.write(|database, transaction| {
            let version = database.get(transaction, VERSION_KEY)?.map(<[u8]>::to_vec);
            match version.as_deref() {
                Some(version) if version == FORMAT_VERSION.to_le_bytes() => Ok(()),
                None if database.is_empty(transaction)? => {
                    Ok(database.put(transaction, VERSION_KEY, &FORMAT_VERSION.to_le_bytes())?)
                }
                Some(_) | None => Err(foreign(folder).into()),
            }
        })?;
        Ok(environment)
    }

    /// Makes a change durably, whole or not at all. May call `change` again after growing the map.
    pub fn write<R>(&self, change: impl Fn(&Entries, &mut RwTxn<'_>) -> Result<R, Failure>) -> Result<R, PortError> {
        let env = lock(&self.env);
        loop {
            let made = env.write_txn().map_err(Failure::Lmdb).and_then(|mut transaction| {
                let made = change(&self.database, &mut transaction)?;
                transaction.commit()?;
                Ok(made)
            });
            match made {
                Ok(made) => return Ok(made),
                Err(Failure::Lmdb(heed::Error::Mdb(MdbError::MapFull))) => {
                    self.resize(&env, env.info().map_size * 2)?
                }
                // Another process (a cleaning command) has grown it: take its size.
                Err(Failure::Lmdb(heed::Error::Mdb(MdbError::MapResized))) => self.resize(&env, 0)?,
                Err(Failure::Lmdb(error)) => return Err(lmdb_error(&self.folder, &error)),
                Err(Failure::Refused(error)) => return Err(error),
            }
        }
    }

    fn resize(&self, env: &Env, map_bytes: usize) -> Result<(), PortError> {
        // SAFETY: transactions are opened only under the mutex that the caller holds, and it has none open now.
        unsafe { env.resize(map_bytes) }.map_err(|error| lmdb_error(&self.folder, &error))
    }

    /// Visits the entries in key order.
    pub fn iterate(&self, visit: Visit<'_>) -> Result<(), PortError> {
        let env = lock(&self.env);
        let transaction = env.read_txn().map_err(|error| lmdb_error(&self.folder, &error))?;
        iterate(&transaction, &self.database, &self.folder, visit)
    }
}

fn open_database(env: &Env) -> heed::Result<Entries> {
    let transaction = env.write_txn()?;
    let opened = env.create_databases_and_commit(transaction, |opener, transaction| {
        opener.create_database(transaction, None).map(CommitOrAbort::<_, ()>::Commit)
    })?;
    Ok(opened.unwrap_commit())
}

pub(super) fn foreign(folder: &Path) -> PortError {
    PortError::fix_input(format!(
        "{} holds no table of version {FORMAT_VERSION}: it was written by another program or version; use another \
         folder",
        folder.display()
    ))
}

/// Visits the entries of a database in key order.
pub(super) fn iterate(
    transaction: &RoTxn<'_>,
    database: &Entries,
    folder: &Path,
    visit: Visit<'_>,
) -> Result<(), PortError> {
    let failed = |error: heed::Error| lmdb_error(folder, &error);
    let entries = database.prefix_iter(transaction, &[Section::Entries.prefix()]).map_err(failed)?;
    for entry in entries {
        let (key, value) = entry.map_err(failed)?;
        visit(&key[1..], value)?;
    }
    Ok(())
}
