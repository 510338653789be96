//! One LMDB environment per job on a node: a database per operator, and what each key group stands at. Leased to one
//! attempt; folding is in `fold`, reading in `view`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard};

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvOpenOptions, MdbError, RoTxn, RwTxn, WithoutTls};
use millstream_runtime::checkpoint::manifest::SegmentRef;
use millstream_runtime::ids::{AttemptId, CheckpointId, CutNumber, JobId, OlderAttempts, OperatorUid};
use millstream_runtime::key_group::KeyGroup;
use millstream_runtime::ports::PortError;
use millstream_runtime::state::cut::StateDeclaration;
use serde::{Deserialize, Serialize};

use super::node::NodeFolder;
use crate::log::LogPosition;

pub(super) type Bytemap = Database<'static, Bytes, Bytes>;

/// 2: entries lie in blocks.
const FORMAT: u16 = 2;
const FORMAT_KEY: &[u8] = b"format";
/// Followed by the operator's database name; the value is its uid.
const OPERATOR: u8 = b'o';
/// Followed by the operator's database name, version and name of a state; the value is its number.
const STATE: u8 = b's';
/// Followed by the operator's database name and a key group; the value is a [`GroupRecord`].
const GROUP: u8 = b'g';

/// Followed by the operator's database name and a key group, of which something was found damaged: it is to be loaded anew.
const DAMAGED: u8 = b'd';

/// How the environment is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalOptions {
    /// Address space mapped at first, in bytes; it doubles when it is full.
    pub initial_map_bytes: usize,
    /// The map never grows beyond, in bytes: a limit for disk usage per job and node.
    pub max_map_bytes: usize,
    /// Operators with keyed state in one job.
    pub max_operators: u32,
    /// Reads at the same time.
    pub max_readers: u32,
}

impl Default for LocalOptions {
    fn default() -> Self {
        Self { initial_map_bytes: 64 << 20, max_map_bytes: 1 << 40, max_operators: 254, max_readers: 512 }
    }
}

/// What a key group stands at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The job.
    pub job: JobId,
    /// The record of the job's log that completed the checkpoint.
    pub log: LogPosition,
    /// The checkpoint.
    pub checkpoint: CheckpointId,
}

/// What is recorded for an operator's key group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRecord {
    /// What it stands at.
    pub position: Position,
    /// Attempt and last cut of the newest segment folded in.
    pub segment: Option<(AttemptId, CutNumber)>,
    /// Name and version of the states in it.
    pub schema: Vec<(String, u32)>,
}

/// Which segments of a restored chain a key group still lacks, as an index into the chain: everything from there on.
/// `None` when that cannot be told (it was compacted across that place), so that the group must be loaded anew. The
/// caller has checked that the record's position is an ancestor of the restored checkpoint.
#[must_use]
pub fn segments_to_fold(record: &GroupRecord, group: KeyGroup, chain: &[SegmentRef]) -> Option<usize> {
    let last = record.segment?;
    let is_last =
        |segment: &SegmentRef| segment.key_groups.contains(&group.0) && (segment.attempt, segment.cuts.1) == last;
    let at = chain.iter().position(is_last)?;
    // A compaction has perhaps split it by key groups: what is beside it, of the same cuts, has nothing of this group.
    let pieces =
        chain[at..].iter().take_while(|piece| (piece.attempt, piece.cuts) == (chain[at].attempt, chain[at].cuts));
    Some(at + pieces.count())
}

/// The right of one attempt to change the local state of a job. Cheap to clone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    pub(super) attempt: AttemptId,
}

/// An operator's database and the numbers of its states.
pub(super) struct OperatorStore {
    pub database: Bytemap,
    pub name: String,
    /// (state name, version) -> number in LMDB keys.
    pub states: BTreeMap<(String, u32), u16>,
}

/// The leases of one job: one for each of its regions.
#[derive(Debug, Default)]
pub(super) struct Leases {
    pub held: BTreeSet<AttemptId>,
    /// Those of the newest term that are stale: never given again.
    stale: BTreeSet<AttemptId>,
}

impl Leases {
    /// Regions come in any order, so that a newer one may be here that this does not know of.
    fn give(&mut self, older: &OlderAttempts) -> bool {
        let attempt = older.before;
        let is_old = self.held.iter().chain(&self.stale).any(|other| other.epoch > attempt.epoch);
        if is_old || self.stale.contains(&attempt) {
            return false;
        }
        let stale = self.held.extract_if(.., |holder| older.contains(*holder));
        self.stale.extend(stale);
        self.stale.retain(|stale| stale.epoch == attempt.epoch);
        self.held.insert(attempt);
        true
    }
}

/// The local materialisation of one job on one node.
pub struct LocalStore {
    pub(super) folder: PathBuf,
    pub(super) env: Env<WithoutTls>,
    pub(super) meta: Bytemap,
    options: LocalOptions,
    /// Held for reading while a read transaction is open, for writing while the map is resized.
    gate: RwLock<()>,
    /// Who may fold. Locked while a fold runs: there is one at a time.
    leases: Mutex<Leases>,
    operators: RwLock<BTreeMap<OperatorUid, Arc<OperatorStore>>>,
    _node: Arc<NodeFolder>,
}

impl LocalStore {
    /// Opens the job's environment in the node's folder, making it if need be.
    ///
    /// # Errors
    /// When it is damaged or of another format: [`discard`](Self::discard) it and open it again, nothing is lost.
    pub fn open(node: &Arc<NodeFolder>, job: JobId, options: LocalOptions) -> Result<Self, PortError> {
        let folder = folder(node, job);
        let unusable = |error: &dyn std::fmt::Display| {
            let folder = folder.display();
            PortError::give_up(format!(
                "the local state {folder} cannot be used: {error}; it can be deleted, checkpoints are elsewhere"
            ))
        };
        fs::create_dir_all(&folder).map_err(|error| unusable(&error))?;
        let mut open = EnvOpenOptions::new().read_txn_without_tls();
        open.map_size(round_to_pages(options.initial_map_bytes))
            .max_dbs(options.max_operators + 2)
            .max_readers(options.max_readers);
        // SAFETY: the folder is locked by this process (`NodeFolder`), so nobody else changes the file under the map.
        let env = unsafe { open.open(&folder) }.map_err(|error| unusable(&error))?;
        let (meta, operators) = load(&env).map_err(|error| unusable(&error))?;
        Ok(Self {
            folder,
            env,
            meta,
            options,
            gate: RwLock::new(()),
            leases: Mutex::default(),
            operators: RwLock::new(operators),
            _node: Arc::clone(node),
        })
    }

    /// Deletes the local state of a job that is not open.
    ///
    /// # Errors
    /// When files cannot be removed.
    pub fn discard(node: &NodeFolder, job: JobId) -> Result<(), PortError> {
        let folder = folder(node, job);
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(PortError::retry(format!("the local state {} cannot be deleted: {error}", folder.display())))
            }
            _ => Ok(()),
        }
    }

    /// Leases the environment to an attempt: waits for a running fold, then makes the leases of all older attempts stale
    /// but for those of the job's other regions, which go on `beside` it. The same attempt gets the same lease again.
    ///
    /// # Errors
    /// When a newer attempt has made it stale.
    pub fn lease(&self, older: &OlderAttempts) -> Result<Lease, PortError> {
        let attempt = older.before;
        if self.lock_folding().give(older) {
            return Ok(Lease { attempt });
        }
        let folder = self.folder.display();
        Err(PortError::retry(format!("the local state {folder} is leased to a newer attempt than {attempt}")))
    }

    /// The lease of an attempt; `None` when it has become stale.
    #[must_use]
    pub fn leased(&self, attempt: AttemptId) -> Option<Lease> {
        self.lock_folding().held.contains(&attempt).then_some(Lease { attempt })
    }

    /// What a key group of an operator stands at; `None` when nothing was folded into it, or it was found damaged and has not
    /// been loaded anew.
    ///
    /// # Errors
    /// When LMDB fails.
    pub fn position(&self, uid: &OperatorUid, group: KeyGroup) -> Result<Option<GroupRecord>, PortError> {
        let Some(operator) = self.operator(uid) else { return Ok(None) };
        let _gate = self.gate();
        let transaction = self.env.read_txn().map_err(|error| self.failed("reading", &error))?;
        let get = |key: Vec<u8>| self.meta.get(&transaction, &key).map_err(|error| self.failed("reading", &error));
        if get(damaged_key(&operator.name, group))?.is_some() {
            return Ok(None);
        }
        // A record that is damaged says nothing.
        Ok(get(group_key(&operator.name, group))?.and_then(|bytes| self.decode_record(bytes).ok()))
    }

    /// Notes that a key group is to be loaded anew. Waits for a running fold; called without a transaction.
    pub(super) fn note_damage(&self, operator: &OperatorStore, group: KeyGroup) {
        let _folding = self.lock_folding();
        let note = || -> heed::Result<()> {
            let mut transaction = self.env.write_txn()?;
            self.meta.put(&mut transaction, &damaged_key(&operator.name, group), &[])?;
            transaction.commit()
        };
        // Without the note the next attempt comes upon it again.
        drop(note());
    }

    /// A key group has been loaded anew.
    pub(super) fn forget_damage(
        &self,
        transaction: &mut RwTxn,
        operator: &OperatorStore,
        group: KeyGroup,
    ) -> heed::Result<()> {
        self.meta.delete(transaction, &damaged_key(&operator.name, group)).map(drop)
    }

    /// Bytes of the data file.
    ///
    /// # Errors
    /// When the file cannot be looked at.
    pub fn size_bytes(&self) -> Result<u64, PortError> {
        self.env.real_disk_size().map_err(|error| self.failed("looking at", &error))
    }

    pub(super) fn decode_record(&self, bytes: &[u8]) -> Result<GroupRecord, PortError> {
        rmp_serde::from_slice(bytes).map_err(|error| self.damaged(&format!("a record of a key group: {error}")))
    }

    pub(super) fn lock_folding(&self) -> MutexGuard<'_, Leases> {
        // A fold that panicked has written nothing: LMDB drops its transaction.
        self.leases.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Keeps the map in place; hold it while a read transaction is open, and never take it twice.
    pub(super) fn gate(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Doubles the map. Called without an open transaction, by the one thread that writes.
    pub(super) fn grow(&self) -> Result<(), PortError> {
        let _gate = self.gate.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let size = self.env.info().map_size;
        let wanted = round_to_pages(size.saturating_mul(2).min(self.options.max_map_bytes));
        if wanted <= size {
            let folder = self.folder.display();
            let message = format!(
                "the local state {folder} has reached its limit of {size} bytes: raise `state.local.max-size`; no checkpoint is lost"
            );
            return Err(PortError::retry(message));
        }
        // SAFETY: readers hold the gate while they have a transaction, and the only writer is the caller, without one.
        unsafe { self.env.resize(wanted) }.map_err(|error| self.failed("growing", &error))
    }

    pub(super) fn operator(&self, uid: &OperatorUid) -> Option<Arc<OperatorStore>> {
        self.operators.read().unwrap_or_else(std::sync::PoisonError::into_inner).get(uid).cloned()
    }

    /// The database and state numbers of an operator; new ones are made durable first.
    pub(super) fn declare(
        &self,
        uid: &OperatorUid,
        declarations: &[StateDeclaration],
    ) -> Result<Arc<OperatorStore>, PortError> {
        let wanted = |declaration: &StateDeclaration| (declaration.name.clone(), declaration.version);
        let known = self
            .operator(uid)
            .filter(|known| declarations.iter().all(|declaration| known.states.contains_key(&wanted(declaration))));
        if let Some(known) = known {
            return Ok(known);
        }
        let declared = loop {
            match self.try_declare(uid, &mut declarations.iter().map(wanted)) {
                Ok(declared) => break Arc::new(declared),
                Err(heed::Error::Mdb(MdbError::MapFull)) => self.grow()?,
                Err(error) => return Err(self.failed("declaring states in", &error)),
            }
        };
        let mut operators = self.operators.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        operators.insert(uid.clone(), Arc::clone(&declared));
        Ok(declared)
    }

    fn try_declare(
        &self,
        uid: &OperatorUid,
        wanted: &mut dyn Iterator<Item = (String, u32)>,
    ) -> heed::Result<OperatorStore> {
        let name = database_name(uid);
        let mut states = self.operator(uid).map(|known| known.states.clone()).unwrap_or_default();
        let database = create_database(&self.env, &name)?;
        let mut transaction = self.env.write_txn()?;
        self.meta.put(&mut transaction, &operator_key(&name), uid.0.as_bytes())?;
        for (state, version) in wanted {
            let next = states.len() as u16;
            let number = *states.entry((state.clone(), version)).or_insert(next);
            self.meta.put(&mut transaction, &state_key(&name, &state, version), &number.to_be_bytes())?;
        }
        transaction.commit()?;
        Ok(OperatorStore { database, name, states })
    }

    /// Whether an operator has entries in key groups outside of a range.
    pub(super) fn has_groups_outside(
        &self,
        transaction: &RwTxn,
        operator: &OperatorStore,
        groups: &Range<u16>,
    ) -> heed::Result<bool> {
        for entry in self.meta.prefix_iter(transaction, &prefixed(GROUP, &operator.name))? {
            let (key, _) = entry?;
            let group = key.last_chunk::<2>().map(|group| u16::from_be_bytes(*group));
            if group.is_none_or(|group| !groups.contains(&group)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// LMDB's errors: a full disk passes, damage does not.
    pub(super) fn failed(&self, doing: &str, error: &heed::Error) -> PortError {
        let message = format!("{doing} the local state {} failed: {error}", self.folder.display());
        match error {
            heed::Error::Io(_)
            | heed::Error::Mdb(MdbError::MapFull | MdbError::ReadersFull | MdbError::TxnFull | MdbError::Other(_)) => {
                PortError::retry(format!("{message}; no checkpoint is lost"))
            }
            heed::Error::Mdb(MdbError::DbsFull) => PortError::fix_input(format!(
                "{message}: the job has more than {} operators with keyed state",
                self.options.max_operators
            )),
            _ => PortError::give_up(format!("{message}; it can be deleted, checkpoints are elsewhere")),
        }
    }

    pub(super) fn damaged_block(&self, group: KeyGroup) -> PortError {
        let folder = self.folder.display();
        PortError::retry(format!(
            "the local state {folder} is damaged: a block of key group {} is not as it was written; it will be loaded anew from the checkpoint",
            group.0
        ))
    }

    fn damaged(&self, what: &str) -> PortError {
        let folder = self.folder.display();
        PortError::give_up(format!(
            "the local state {folder} is damaged: {what}; it can be deleted, checkpoints are elsewhere"
        ))
    }
}

fn folder(node: &NodeFolder, job: JobId) -> PathBuf {
    node.path().join("state").join(job.to_string())
}

fn round_to_pages(bytes: usize) -> usize {
    // A multiple of every page size in use.
    bytes.max(1 << 16).next_multiple_of(1 << 16)
}

type Operators = BTreeMap<OperatorUid, Arc<OperatorStore>>;

/// Opens a database, making it if need be.
fn create_database(env: &Env<WithoutTls>, name: &str) -> heed::Result<Bytemap> {
    let created = env.create_databases_and_commit(env.write_txn()?, |opener, transaction| {
        let created = opener.create_database::<Bytes, Bytes>(transaction, Some(name));
        created.map(CommitOrAbort::<_, ()>::Commit)
    })?;
    Ok(created.unwrap_commit())
}

/// What the environment holds; a new one gets its format.
fn load(env: &Env<WithoutTls>) -> heed::Result<(Bytemap, Operators)> {
    let meta = create_database(env, "meta")?;
    let mut transaction = env.write_txn()?;
    match meta.get(&transaction, FORMAT_KEY)? {
        None => meta.put(&mut transaction, FORMAT_KEY, &FORMAT.to_be_bytes())?,
        Some(format) if format == FORMAT.to_be_bytes() => {}
        Some(_) => return Err(heed::Error::Mdb(MdbError::VersionMismatch)),
    }
    transaction.commit()?;
    let transaction = env.read_txn()?;
    let mut found = Vec::new();
    for entry in meta.prefix_iter(&transaction, &[OPERATOR])? {
        let (key, uid) = entry?;
        let name = String::from_utf8_lossy(&key[1..]).into_owned();
        let states = load_states(meta, &transaction, &name)?;
        found.push((name, OperatorUid(String::from_utf8_lossy(uid).into_owned()), states));
    }
    drop(transaction);
    let mut operators = Operators::new();
    for (name, uid, states) in found {
        let database = create_database(env, &name)?;
        operators.insert(uid, Arc::new(OperatorStore { database, name, states }));
    }
    Ok((meta, operators))
}

fn load_states(
    meta: Bytemap,
    transaction: &RoTxn<WithoutTls>,
    operator: &str,
) -> heed::Result<BTreeMap<(String, u32), u16>> {
    let mut states = BTreeMap::new();
    let prefix = prefixed(STATE, operator);
    for entry in meta.prefix_iter(transaction, &prefix)? {
        let (key, number) = entry?;
        let parts = key[prefix.len()..].split_first_chunk::<4>().zip(number.first_chunk::<2>());
        let Some(((version, state), number)) = parts else { return Err(heed::Error::Mdb(MdbError::Corrupted)) };
        let state = String::from_utf8_lossy(state).into_owned();
        states.insert((state, u32::from_be_bytes(*version)), u16::from_be_bytes(*number));
    }
    Ok(states)
}

/// Uids are free text: the database is named by its digest.
fn database_name(uid: &OperatorUid) -> String {
    blake3::hash(uid.0.as_bytes()).to_hex()[..32].to_string()
}

fn prefixed(kind: u8, operator: &str) -> Vec<u8> {
    let mut key = vec![kind];
    key.extend_from_slice(operator.as_bytes());
    key
}

fn operator_key(operator: &str) -> Vec<u8> {
    prefixed(OPERATOR, operator)
}

fn state_key(operator: &str, state: &str, version: u32) -> Vec<u8> {
    let mut key = prefixed(STATE, operator);
    key.extend_from_slice(&version.to_be_bytes());
    key.extend_from_slice(state.as_bytes());
    key
}

fn damaged_key(operator: &str, group: KeyGroup) -> Vec<u8> {
    let mut key = prefixed(DAMAGED, operator);
    key.extend_from_slice(&group.0.to_be_bytes());
    key
}

pub(super) fn group_key(operator: &str, group: KeyGroup) -> Vec<u8> {
    let mut key = prefixed(GROUP, operator);
    key.extend_from_slice(&group.0.to_be_bytes());
    key
}
