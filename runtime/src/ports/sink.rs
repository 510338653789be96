//! Sinks after FLIP-143: a writer beside the data, a committer that makes whole cuts visible exactly once.
//! Implemented in `connectors` and by users through [`TwoPhaseCommitSink`].

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::PortError;
use crate::batch::{Data, Rows};
pub use crate::ids::OlderAttempts;
use crate::ids::{AttemptId, CutNumber, JobId, SubtaskIndex};
use crate::time::Timestamp;

/// Where a writer or committer runs; transaction names derive from it.
#[derive(Clone, Copy, Debug)]
pub struct SinkContext {
    /// The job.
    pub job: JobId,
    /// The deployment.
    pub attempt: AttemptId,
    /// Which subtask.
    pub subtask: SubtaskIndex,
    /// How many there are.
    pub parallelism: u32,
}

/// Work a writer asks the runtime to run on the blocking executor. Rows wait behind it.
pub type SinkWork = Box<dyn FnOnce() -> Result<(), PortError> + Send>;

/// Makes everything written in a cut durable, and names the transactions that will make it visible.
pub type PrepareWork<C> = Box<dyn FnOnce() -> Result<Vec<C>, PortError> + Send>;

/// A connector that writes, exactly once, by two-phase commit.
///
/// The runtime calls `writer.prepare` at every barrier, stores the committables in the checkpoint, and calls
/// `committer.commit` when the checkpoint is complete: at least once, until it answers.
pub trait TwoPhaseCommitSink<T: Data>: Send + Sync + 'static {
    /// A prepared transaction: small, enough to commit it from another process.
    type Committable: Serialize + DeserializeOwned + Send + 'static;

    /// A writer for one subtask. Must not touch transactions of older attempts: the committer does.
    ///
    /// # Errors
    /// When the target cannot be written.
    fn writer(&self, context: SinkContext) -> Result<Box<dyn SinkWriter<T, Self::Committable>>, PortError>;

    /// A committer for one subtask.
    ///
    /// # Errors
    /// When the target cannot be reached.
    fn committer(&self, context: SinkContext) -> Result<Box<dyn Committer<Self::Committable>>, PortError>;

    /// How long the target keeps a prepared transaction, in milliseconds; `None` for ever. Checked at submission
    /// against the checkpoint interval plus the allowed outage.
    fn transaction_timeout_ms(&self) -> Option<u64> {
        None
    }

    /// What earlier runs have left where it writes, for sinks whose output a run may replace.
    fn output(&self) -> Option<Arc<dyn SinkOutput>> {
        None
    }
}

/// The place a sink writes to, between two runs. Every method may block; never called while a job writes there.
pub trait SinkOutput: Send + Sync {
    /// The place, for messages.
    fn place(&self) -> String;

    /// Whether rows are visible there.
    ///
    /// # Errors
    /// When the place cannot be read.
    fn has_committed(&self) -> Result<bool, PortError>;

    /// Removes what any run has written there: what is visible, and what was never committed.
    ///
    /// # Errors
    /// When something cannot be removed.
    fn clear(&self) -> Result<(), PortError>;
}

/// Writes rows into the open transaction. Called in the handler of an actor: never blocks.
pub trait SinkWriter<T, C>: Send {
    /// Takes rows. Work that may block is returned; no further rows come before it is done.
    ///
    /// # Errors
    /// When the rows cannot be written; the job fails over.
    fn write(&mut self, rows: Rows<T>) -> Result<Option<SinkWork>, PortError>;

    /// Ends the open transaction at a cut and opens the next. The returned work makes the old one durable. Several
    /// may be in flight.
    ///
    /// # Errors
    /// When the transaction cannot be ended.
    fn prepare(&mut self, cut: CutNumber) -> Result<PrepareWork<C>, PortError>;

    /// Whether a checkpoint need not wait for work of [`write`](Self::write) that takes long: then
    /// [`prepare_ahead`](Self::prepare_ahead) is called in the middle of it.
    fn may_be_overtaken(&self) -> bool {
        false
    }

    /// As [`prepare`](Self::prepare), while work of `write` is under way: the transaction ends without the rows that this
    /// work has still to write. They belong to the next one, and are answered: they are in the checkpoint as rows in
    /// flight and come back to `write` if it is restored. The work may end at any moment, even in the middle of this call.
    ///
    /// # Errors
    /// When the transaction cannot be ended.
    fn prepare_ahead(&mut self, cut: CutNumber) -> Result<(Rows<T>, PrepareWork<C>), PortError> {
        Ok((Rows::default(), self.prepare(cut)?))
    }

    /// Called with the input watermark; for partitions that commit by event time.
    fn watermark(&mut self, _watermark: Timestamp) {}
}

/// Makes prepared transactions visible. Every method may block; called on the blocking executor, one at a time.
pub trait Committer<C>: Send {
    /// Called once per attempt before anything else, on the first of its subtasks only, with every pending transaction
    /// of all subtasks: aborts what older attempts of this job have left outside that list. Several regions of a job may
    /// do so at once, so that what is to be removed may just have gone.
    ///
    /// # Errors
    /// When the target cannot be cleaned.
    fn abort_unlisted(&mut self, pending: &[C], older: &OlderAttempts) -> Result<(), PortError>;

    /// Commits transactions, oldest first. Must be idempotent: committing again what is committed succeeds.
    ///
    /// # Errors
    /// `Retry` to be called again; a transaction neither found nor provably committed is `GiveUp`.
    fn commit(&mut self, transactions: Vec<C>) -> Result<(), PortError>;
}

impl<T: Data, S: TwoPhaseCommitSink<T> + ?Sized> TwoPhaseCommitSink<T> for Arc<S> {
    type Committable = S::Committable;
    fn writer(&self, context: SinkContext) -> Result<Box<dyn SinkWriter<T, Self::Committable>>, PortError> {
        (**self).writer(context)
    }
    fn committer(&self, context: SinkContext) -> Result<Box<dyn Committer<Self::Committable>>, PortError> {
        (**self).committer(context)
    }
    fn transaction_timeout_ms(&self) -> Option<u64> {
        (**self).transaction_timeout_ms()
    }
    fn output(&self) -> Option<Arc<dyn SinkOutput>> {
        (**self).output()
    }
}
