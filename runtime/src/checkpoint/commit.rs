//! Decides when the transactions of one sink subtask are committed. Fed by the sink's actor, which runs the commits on
//! the blocking executor, one batch at a time.
//!
//! What is prepared for a checkpoint is committed when that checkpoint or a later one is complete, and is listed in
//! every manifest until its commit is acknowledged: after a crash it is committed again rather than lost.

#[cfg(test)]
mod commit_tests;
#[cfg(test)]
mod exploration_tests;

use std::collections::BTreeMap;

use crate::element::Purpose;
use crate::ids::CheckpointId;
use crate::ports::ErrorKind;

/// How often and how fast a failed commit is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Repetitions of one batch before the subtask fails (`sink.committer.retries`).
    pub max_retries: u32,
    /// Milliseconds before the first repetition; doubled each time, up to 100 times as long.
    pub retry_pause_ms: i64,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_retries: 10, retry_pause_ms: 100 }
    }
}

/// Number of a batch of transactions that are committed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BatchId(pub u64);

/// What the sink's actor must do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<C> {
    /// Commit these, oldest first, and report under the number. None other is under way.
    Commit {
        /// Number of the batch.
        batch: BatchId,
        /// The transactions.
        transactions: Vec<C>,
    },
    /// Call [`Commit::retry_due`] at this time.
    RetryAt {
        /// Number of the batch.
        batch: BatchId,
        /// When.
        at_ms: i64,
    },
    /// The subtask fails with this error.
    Fail {
        /// What can be done.
        kind: ErrorKind,
        /// For users.
        reason: String,
    },
}

/// Transactions came for a checkpoint that they can no longer be listed in: committing them could lose them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("transactions prepared for checkpoint {prepared} came after those for checkpoint {last}")]
pub struct OutOfOrder {
    /// Theirs.
    pub prepared: CheckpointId,
    /// The newest known.
    pub last: CheckpointId,
}

/// The batch being committed; its transactions stay listed until it is acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
struct InFlight {
    batch: BatchId,
    /// Everything up to here is in it.
    up_to: CheckpointId,
    retries: u32,
    /// Waits for `retry_due`.
    pausing: bool,
}

/// The commit machine of one sink subtask.
///
/// Invariants: at most one batch is in flight; what is in it is older than everything else that is listed.
#[derive(Clone, Debug)]
pub struct Commit<C> {
    options: Options,
    /// By the checkpoint they were prepared for; those restored stand under checkpoint 0.
    transactions: BTreeMap<CheckpointId, Vec<C>>,
    /// Newest checkpoint prepared for, also without transactions.
    prepared: CheckpointId,
    /// Newest complete checkpoint that commits.
    completed: CheckpointId,
    in_flight: Option<InFlight>,
    next_batch: BatchId,
    failed: bool,
}

/// Where restored transactions stand: before every checkpoint of this attempt.
const RESTORED: CheckpointId = CheckpointId(0);

impl<C: Clone> Commit<C> {
    /// A machine without transactions.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            options,
            transactions: BTreeMap::new(),
            prepared: RESTORED,
            completed: RESTORED,
            in_flight: None,
            next_batch: BatchId(0),
            failed: false,
        }
    }

    /// Transactions of the checkpoint the job was restored from: it is complete, so they are committed at once. To be
    /// called before anything else, at most once.
    pub fn restored(&mut self, transactions: Vec<C>, out: &mut Vec<Command<C>>) {
        assert!(self.prepared == RESTORED && self.transactions.is_empty(), "restored after the attempt has begun");
        if !transactions.is_empty() {
            self.transactions.insert(RESTORED, transactions);
        }
        self.commit_next(out);
    }

    /// A cut's transactions are durable, possibly none. Must come in the order of the checkpoints and before the
    /// subtask acknowledges that checkpoint.
    ///
    /// # Errors
    /// When it comes late: the transactions would be missing from a manifest that they belong to.
    pub fn prepared(&mut self, checkpoint: CheckpointId, transactions: Vec<C>) -> Result<(), OutOfOrder> {
        let last = self.prepared.max(self.completed);
        if checkpoint <= last {
            return Err(OutOfOrder { prepared: checkpoint, last });
        }
        self.prepared = checkpoint;
        if !transactions.is_empty() {
            self.transactions.insert(checkpoint, transactions);
        }
        Ok(())
    }

    /// A checkpoint is complete, and with it all before. A plain savepoint commits nothing: whoever restores an older
    /// checkpoint would repeat what the commit has shown.
    pub fn complete(&mut self, checkpoint: CheckpointId, purpose: Purpose, out: &mut Vec<Command<C>>) {
        match purpose {
            Purpose::Savepoint => return,
            Purpose::Checkpoint | Purpose::StopWithSavepoint | Purpose::Final => {}
        }
        self.completed = self.completed.max(checkpoint);
        self.commit_next(out);
    }

    /// A batch is committed. Answers false, and does nothing, if it is not the one in flight.
    pub fn committed(&mut self, batch: BatchId, out: &mut Vec<Command<C>>) -> bool {
        let Some(done) = self.in_flight.take_if(|in_flight| in_flight.batch == batch && !in_flight.pausing) else {
            return false;
        };
        let later = CheckpointId(done.up_to.0 + 1);
        self.transactions = self.transactions.split_off(&later);
        self.commit_next(out);
        true
    }

    /// A batch could not be committed. It is repeated whole, after a pause, or the subtask fails: nothing is skipped.
    pub fn commit_failed(
        &mut self,
        batch: BatchId,
        kind: ErrorKind,
        reason: &str,
        now_ms: i64,
        out: &mut Vec<Command<C>>,
    ) -> bool {
        let Some(in_flight) =
            self.in_flight.as_mut().filter(|in_flight| in_flight.batch == batch && !in_flight.pausing)
        else {
            return false;
        };
        match kind {
            ErrorKind::Retry if in_flight.retries < self.options.max_retries => {
                let pause = self.options.retry_pause_ms.saturating_mul(1 << in_flight.retries.min(20));
                let at_ms = now_ms + pause.min(self.options.retry_pause_ms.saturating_mul(100));
                in_flight.retries += 1;
                in_flight.pausing = true;
                out.push(Command::RetryAt { batch, at_ms });
            }
            ErrorKind::Retry => {
                self.failed = true;
                let reason = format!("committing failed {} times, last: {reason}", in_flight.retries + 1);
                out.push(Command::Fail { kind, reason });
            }
            ErrorKind::FixInput | ErrorKind::GiveUp => {
                self.failed = true;
                out.push(Command::Fail { kind, reason: reason.to_owned() });
            }
        }
        true
    }

    /// The pause before a repetition is over.
    pub fn retry_due(&mut self, batch: BatchId, out: &mut Vec<Command<C>>) -> bool {
        let Some(in_flight) = self.in_flight.as_mut().filter(|in_flight| in_flight.batch == batch && in_flight.pausing)
        else {
            return false;
        };
        in_flight.pausing = false;
        let up_to = in_flight.up_to;
        out.push(Command::Commit { batch, transactions: self.pending_up_to(up_to).cloned().collect() });
        true
    }

    /// All transactions not yet acknowledged as committed, oldest first, those in flight included.
    pub fn pending(&self) -> impl Iterator<Item = &C> {
        self.transactions.values().flatten()
    }

    /// What the snapshot for a checkpoint must list: everything prepared for it or before and not yet acknowledged as
    /// committed, oldest first.
    pub fn pending_up_to(&self, checkpoint: CheckpointId) -> impl Iterator<Item = &C> {
        self.transactions.range(..=checkpoint).flat_map(|(_, transactions)| transactions)
    }

    /// Whether every transaction is committed: a finished sink may go.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.transactions.is_empty()
    }

    /// Starts the next batch, unless one is in flight or the subtask has failed.
    fn commit_next(&mut self, out: &mut Vec<Command<C>>) {
        if self.in_flight.is_some() || self.failed {
            return;
        }
        let transactions: Vec<C> = self.pending_up_to(self.completed).cloned().collect();
        if transactions.is_empty() {
            return;
        }
        let batch = self.next_batch;
        self.next_batch = BatchId(batch.0 + 1);
        self.in_flight = Some(InFlight { batch, up_to: self.completed, retries: 0, pausing: false });
        out.push(Command::Commit { batch, transactions });
    }
}
