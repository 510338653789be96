//! A sink into memory whose target outlives every attempt of a job and can be made to fail. Shared by the tests of whole
//! jobs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream::prelude::*;
use millstream_runtime::ids::{AttemptId, AttemptNumber, CutNumber, Epoch};
use millstream_runtime::ports::sink::{Committer, OlderAttempts, PrepareWork, SinkContext, SinkWork, SinkWriter};

use super::lock;

/// A transaction in the target of a [`MemorySink`]: job, epoch, attempt, subtask, cut.
pub type TransactionId = (u64, u64, u32, u32, u64);

/// A target with transactions that outlives jobs, and everything that was done to it.
pub struct Target<T> {
    prepared: Mutex<BTreeMap<TransactionId, Vec<T>>>,
    committed: Mutex<BTreeMap<TransactionId, Vec<T>>>,
    /// In the order of their first commit.
    order: Mutex<Vec<TransactionId>>,
    pub faults: Mutex<Faults>,
    pub counts: Mutex<Calls>,
    /// While it is set, writes do not return.
    pub stalled: AtomicBool,
    pub written: AtomicU64,
}

/// Calls so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    pub begun: u64,
    pub prepared: u64,
    pub commits: u64,
    pub recommits: u64,
    pub aborted: u64,
    pub commit_failures: u64,
}

/// What goes wrong next; each one is used up.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// The n-th preparation from now fails before it has done anything.
    pub prepare_fails: Option<u64>,
    /// The n-th preparation from now succeeds in the target and then fails.
    pub prepare_fails_late: Option<u64>,
    /// So many commits from now are refused for a time.
    pub commits_refused: u64,
    /// The n-th commit from now happens in the target and then fails.
    pub commit_fails_late: Option<u64>,
    /// The n-th commit from now panics after it has happened.
    pub commit_panics_late: Option<u64>,
    /// The next commit fails for good.
    pub commit_gives_up: bool,
}

fn due(count: &mut Option<u64>) -> bool {
    match count {
        Some(0 | 1) => {
            *count = None;
            true
        }
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    }
}

impl<T: Data> Target<T> {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            prepared: Mutex::default(),
            committed: Mutex::default(),
            order: Mutex::default(),
            faults: Mutex::default(),
            counts: Mutex::default(),
            stalled: AtomicBool::new(false),
            written: AtomicU64::new(0),
        })
    }

    /// Everything that is visible, in the order in which it became so.
    pub fn rows(&self) -> Vec<T> {
        self.transactions().concat()
    }

    /// The same by transaction.
    pub fn transactions(&self) -> Vec<Vec<T>> {
        let committed = lock(&self.committed);
        lock(&self.order).iter().map(|id| committed[id].clone()).collect()
    }

    pub fn len(&self) -> usize {
        lock(&self.committed).values().map(Vec::len).sum()
    }

    /// Transactions that were neither committed nor aborted.
    pub fn pending(&self) -> usize {
        lock(&self.prepared).len()
    }

    pub fn calls(&self) -> Calls {
        *lock(&self.counts)
    }
}

/// Everything that is visible, in order.
pub fn sorted<T: Data + Ord>(target: &Target<T>) -> Vec<T> {
    let mut rows = target.rows();
    rows.sort_unstable();
    rows
}

/// Writes to a [`Target`].
pub struct MemorySink<T>(pub Arc<Target<T>>);

struct MemoryWriter<T> {
    target: Arc<Target<T>>,
    context: millstream_runtime::ports::sink::SinkContext,
    rows: Arc<Mutex<WriterRows<T>>>,
}

struct WriterRows<T> {
    /// Of the open transaction.
    open: Vec<T>,
    /// Of a write that has not returned; they join the transaction that is open when it does.
    stalled: Vec<T>,
}

struct MemoryCommitter<T> {
    target: Arc<Target<T>>,
    job: u64,
}

fn job_number(context: &SinkContext) -> u64 {
    let (first, _) = context.job.0.split_first_chunk().expect("ids have 16 bytes");
    u64::from_be_bytes(*first)
}

impl<T: Data + Sync> TwoPhaseCommitSink<T> for MemorySink<T> {
    type Committable = TransactionId;

    fn writer(&self, context: SinkContext) -> Result<Box<dyn SinkWriter<T, TransactionId>>, PortError> {
        let rows = Arc::new(Mutex::new(WriterRows { open: Vec::new(), stalled: Vec::new() }));
        Ok(Box::new(MemoryWriter { target: Arc::clone(&self.0), context, rows }))
    }

    fn committer(&self, context: SinkContext) -> Result<Box<dyn Committer<TransactionId>>, PortError> {
        Ok(Box::new(MemoryCommitter { target: Arc::clone(&self.0), job: job_number(&context) }))
    }
}

impl<T: Data + Sync> SinkWriter<T, TransactionId> for MemoryWriter<T> {
    fn write(&mut self, rows: Rows<T>) -> Result<Option<SinkWork>, PortError> {
        let mut held = lock(&self.rows);
        if held.open.is_empty() {
            lock(&self.target.counts).begun += 1;
        }
        self.target.written.fetch_add(rows.values.len() as u64, Ordering::SeqCst);
        if !self.target.stalled.load(Ordering::SeqCst) {
            held.open.extend(rows.values);
            return Ok(None);
        }
        held.stalled = rows.values;
        let (target, rows) = (Arc::clone(&self.target), Arc::clone(&self.rows));
        Ok(Some(Box::new(move || {
            while target.stalled.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
            let mut rows = lock(&rows);
            let stalled = std::mem::take(&mut rows.stalled);
            rows.open.extend(stalled);
            Ok(())
        })))
    }

    fn may_be_overtaken(&self) -> bool {
        true
    }

    fn prepare_ahead(&mut self, cut: CutNumber) -> Result<(Rows<T>, PrepareWork<TransactionId>), PortError> {
        let (open, unwritten) = {
            let mut rows = lock(&self.rows);
            (std::mem::take(&mut rows.open), rows.stalled.clone())
        };
        Ok((Rows::untimed(unwritten), self.prepare_rows(open, cut)))
    }

    fn prepare(&mut self, cut: CutNumber) -> Result<PrepareWork<TransactionId>, PortError> {
        let open = std::mem::take(&mut lock(&self.rows).open);
        Ok(self.prepare_rows(open, cut))
    }
}

impl<T: Data> MemoryWriter<T> {
    fn prepare_rows(&self, rows: Vec<T>, cut: CutNumber) -> PrepareWork<TransactionId> {
        let target = Arc::clone(&self.target);
        let SinkContext { attempt, subtask, .. } = self.context;
        let id = (job_number(&self.context), attempt.epoch.0, attempt.attempt.0, subtask.0, cut.0);
        Box::new(move || {
            if rows.is_empty() {
                return Ok(Vec::new());
            }
            if due(&mut lock(&target.faults).prepare_fails) {
                return Err(PortError::retry("the target refuses to prepare"));
            }
            lock(&target.counts).prepared += 1;
            assert!(lock(&target.prepared).insert(id, rows).is_none(), "{id:?} is prepared twice");
            if due(&mut lock(&target.faults).prepare_fails_late) {
                return Err(PortError::retry("the answer to a preparation was lost"));
            }
            Ok(vec![id])
        })
    }
}

impl<T: Data + Sync> Committer<TransactionId> for MemoryCommitter<T> {
    fn abort_unlisted(&mut self, pending: &[TransactionId], older: &OlderAttempts) -> Result<(), PortError> {
        let mut prepared = lock(&self.target.prepared);
        let before = prepared.len();
        prepared.retain(|id, _| {
            id.0 != self.job
                || !older.contains(AttemptId { epoch: Epoch(id.1), attempt: AttemptNumber(id.2) })
                || pending.contains(id)
        });
        let aborted = before - prepared.len();
        // Whoever commits locks them the other way round.
        drop(prepared);
        lock(&self.target.counts).aborted += aborted as u64;
        Ok(())
    }

    fn commit(&mut self, transactions: Vec<TransactionId>) -> Result<(), PortError> {
        for id in transactions {
            {
                let mut faults = lock(&self.target.faults);
                if std::mem::take(&mut faults.commit_gives_up) {
                    return Err(PortError::give_up("the target has lost the transaction"));
                }
                if faults.commits_refused > 0 {
                    faults.commits_refused -= 1;
                    lock(&self.target.counts).commit_failures += 1;
                    return Err(PortError::retry("the target is away"));
                }
            }
            self.commit_one(id)?;
            if due(&mut lock(&self.target.faults).commit_fails_late) {
                lock(&self.target.counts).commit_failures += 1;
                return Err(PortError::retry("the answer to a commit was lost"));
            }
            if due(&mut lock(&self.target.faults).commit_panics_late) {
                panic!("a committer panicked");
            }
        }
        Ok(())
    }
}

impl<T: Data> MemoryCommitter<T> {
    fn commit_one(&self, id: TransactionId) -> Result<(), PortError> {
        let mut committed = lock(&self.target.committed);
        let mut counts = lock(&self.target.counts);
        match lock(&self.target.prepared).remove(&id) {
            Some(rows) => {
                counts.commits += 1;
                assert!(committed.insert(id, rows).is_none(), "{id:?} is committed twice");
                lock(&self.target.order).push(id);
                Ok(())
            }
            None if committed.contains_key(&id) => {
                counts.recommits += 1;
                Ok(())
            }
            None => Err(PortError::give_up(format!("{id:?} is neither prepared nor committed"))),
        }
    }
}
