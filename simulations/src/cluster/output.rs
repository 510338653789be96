//! Where the job's output goes: a target with transactions that outlives every host. Watches every commit: what becomes
//! visible is listed in a completed checkpoint, nothing listed is thrown away, and no row becomes visible twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use millstream_runtime::batch::Rows;
use millstream_runtime::ids::{AttemptId, CutNumber};
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::sink::{
    Committer, OlderAttempts, PrepareWork, SinkContext, SinkWork, SinkWriter, TwoPhaseCommitSink,
};
use serde::{Deserialize, Serialize};

use super::findings::Findings;
use super::plan::Mutant;
use crate::trace::Trace;

/// A row: a key, how many of its records were counted, and the sum of their values.
pub type Row = (u64, u64, u64);

/// Which of the job's sinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SinkNumber(pub u8);

/// What a subtask of a sink has written between two cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TransactionId {
    sink: SinkNumber,
    attempt: AttemptId,
    subtask: u32,
    cut: u64,
}

impl std::fmt::Display for TransactionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "transaction {}/{}/{}", self.attempt, self.subtask, self.cut)
    }
}

/// The target. Clones are the same.
#[derive(Clone)]
pub struct Output {
    target: Arc<Mutex<Target>>,
    trace: Trace,
    findings: Findings,
}

#[derive(Default)]
struct Target {
    prepared: BTreeMap<TransactionId, Vec<Row>>,
    committed: BTreeSet<TransactionId>,
    /// Those that a completed checkpoint lists.
    listed: BTreeSet<TransactionId>,
    /// The sum of every key at every count.
    visible: BTreeMap<(u64, u64), u64>,
}

impl Output {
    /// Nothing is there yet.
    #[must_use]
    pub fn new(trace: Trace, findings: Findings) -> Self {
        Self { target: Arc::default(), trace, findings }
    }

    fn lock(&self) -> MutexGuard<'_, Target> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A completed checkpoint lists these transactions: from now on they may become visible, and must.
    pub fn listed(&self, transactions: impl IntoIterator<Item = TransactionId>) {
        self.lock().listed.extend(transactions);
    }

    /// The rows that are visible.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        self.lock().visible.iter().map(|((key, count), sum)| (*key, *count, *sum)).collect()
    }

    fn prepare(&self, id: TransactionId, rows: Vec<Row>) {
        self.trace.event("output", &format!("{id} is prepared with {} rows", rows.len()));
        if self.lock().prepared.insert(id, rows).is_some() {
            self.findings.violation(format!("{id} is prepared twice"));
        }
    }

    /// Removes what attempts of a sink that are over have prepared, except for what is pending.
    fn abort_unlisted(&self, sink: SinkNumber, older: &OlderAttempts, pending: &[TransactionId]) {
        let mut target = self.lock();
        let unlisted = |id: &TransactionId| id.sink == sink && older.contains(id.attempt) && !pending.contains(id);
        let aborted: Vec<_> = target.prepared.extract_if(.., |id, _| unlisted(id)).map(|(id, _)| id).collect();
        let lost: Vec<_> = aborted.iter().filter(|id| target.listed.contains(id)).collect();
        self.trace.event(
            "output",
            &format!("attempt {} begins: {} pending, {} aborted", older.before, pending.len(), aborted.len()),
        );
        if let Some(id) = lost.first() {
            self.findings.violation(format!(
                "{id} is aborted by attempt {}, though a completed checkpoint lists it",
                older.before
            ));
        }
    }

    fn commit(&self, by: AttemptId, id: TransactionId) -> Result<(), PortError> {
        let mut target = self.lock();
        if target.committed.contains(&id) {
            self.trace.event("output", &format!("{id} is committed again by attempt {by}"));
            return Ok(());
        }
        if !target.listed.contains(&id) {
            self.findings.violation(format!("{id} is committed by attempt {by}, and no completed checkpoint lists it"));
        }
        let Some(rows) = target.prepared.remove(&id) else {
            self.findings.violation(format!("{id} is neither prepared nor committed, and attempt {by} wants it"));
            return Err(PortError::give_up(format!("{id} is lost")));
        };
        self.trace.event("output", &format!("{id} is committed by attempt {by}, {} rows", rows.len()));
        target.committed.insert(id);
        for (key, count, sum) in rows {
            if target.visible.insert((key, count), sum).is_some() {
                self.findings.violation(format!("{id} makes count {count} of key {key} visible a second time"));
            }
        }
        Ok(())
    }
}

/// The sink that writes to it.
pub struct OutputSink {
    /// The target.
    pub output: Output,
    /// Which one it is.
    pub sink: SinkNumber,
    /// Whether every write is blocking work.
    pub slow: bool,
    /// A bug in it.
    pub mutant: Option<Mutant>,
}

struct Writer {
    output: Output,
    sink: SinkNumber,
    context: SinkContext,
    open: Vec<Row>,
    slow: bool,
    commits_early: bool,
}

struct OutputCommitter {
    output: Output,
    sink: SinkNumber,
    attempt: AttemptId,
    skips: bool,
    /// A bug: takes regions beside it for ended ones.
    alone: bool,
}

impl TwoPhaseCommitSink<Row> for OutputSink {
    type Committable = TransactionId;

    fn writer(&self, context: SinkContext) -> Result<Box<dyn SinkWriter<Row, TransactionId>>, PortError> {
        let commits_early = self.mutant == Some(Mutant::CommitsEarly);
        let (output, sink, slow) = (self.output.clone(), self.sink, self.slow);
        Ok(Box::new(Writer { output, sink, context, open: Vec::new(), slow, commits_early }))
    }

    fn committer(&self, context: SinkContext) -> Result<Box<dyn Committer<TransactionId>>, PortError> {
        let skips = self.mutant == Some(Mutant::SkipsACommit);
        let alone = self.mutant == Some(Mutant::AbortsOthers);
        let (output, sink) = (self.output.clone(), self.sink);
        Ok(Box::new(OutputCommitter { output, sink, attempt: context.attempt, skips, alone }))
    }
}

impl SinkWriter<Row, TransactionId> for Writer {
    fn write(&mut self, rows: Rows<Row>) -> Result<Option<SinkWork>, PortError> {
        self.open.extend(rows.values);
        Ok(self.slow.then(|| Box::new(|| Ok(())) as SinkWork))
    }

    fn prepare(&mut self, cut: CutNumber) -> Result<PrepareWork<TransactionId>, PortError> {
        let (rows, output, commits_early) = (std::mem::take(&mut self.open), self.output.clone(), self.commits_early);
        let SinkContext { attempt, subtask, .. } = self.context;
        let id = TransactionId { sink: self.sink, attempt, subtask: subtask.0, cut: cut.0 };
        Ok(Box::new(move || {
            if rows.is_empty() {
                return Ok(Vec::new());
            }
            output.prepare(id, rows);
            if commits_early {
                output.commit(attempt, id)?;
            }
            Ok(vec![id])
        }))
    }
}

impl Committer<TransactionId> for OutputCommitter {
    fn abort_unlisted(&mut self, pending: &[TransactionId], older: &OlderAttempts) -> Result<(), PortError> {
        let alone = OlderAttempts::before(older.before);
        self.output.abort_unlisted(self.sink, if self.alone { &alone } else { older }, pending);
        Ok(())
    }

    fn commit(&mut self, transactions: Vec<TransactionId>) -> Result<(), PortError> {
        let skipped = usize::from(std::mem::take(&mut self.skips));
        transactions.into_iter().skip(skipped).try_for_each(|id| self.output.commit(self.attempt, id))
    }
}
