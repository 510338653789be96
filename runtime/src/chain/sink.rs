//! The sink operator: writes rows into the open transaction, prepares it at every cut, and has prepared ones committed
//! on the blocking executor when their checkpoint is complete.

use std::any::Any;
use std::sync::{Arc, OnceLock};

use super::context::{PrepareCut, Prepared};
use super::held::HeldRows;
use super::{ChainContext, ChainResult, Collector, Completion, Flow, OperatorSlot, Stage};
use crate::batch::{Data, Rows};
use crate::checkpoint::commit::{BatchId, Command, Commit, Options};
use crate::element::{Barrier, Purpose};
use crate::ids::{CheckpointId, OperatorUid};
use crate::ports::PortError;
use crate::ports::sink::{Committer, OlderAttempts, SinkContext, SinkWriter, TwoPhaseCommitSink};
use crate::state::cut::{OperatorState, Redistribution};
use crate::state::operator::{decode_item, encode_item, share_of};
use crate::time::Timestamp;

/// Name of the operator state that lists a sink's pending transactions.
pub const TRANSACTIONS: &str = "transactions";

/// Transactions of a cut that is durable now, on their way back to their sink.
pub struct PreparedTransactions {
    /// The checkpoint they were prepared for.
    pub checkpoint: CheckpointId,
    /// Encoded committables.
    pub committables: Vec<Vec<u8>>,
}

/// Results of the work that a sink starts.
enum Answer<C> {
    Written(Result<(), PortError>),
    Cleaned(Box<dyn Committer<C>>, Result<(), PortError>),
    Committed(BatchId, Box<dyn Committer<C>>, Result<(), PortError>),
}

/// The transactions of a cut, encoded, once they are prepared.
type Preparing = OnceLock<Vec<Vec<u8>>>;

/// A sink in a chain.
pub struct SinkOperator<T, C> {
    uid: OperatorUid,
    slot: OperatorSlot,
    writer: Box<dyn SinkWriter<T, C>>,
    /// Away while it works.
    committer: Option<Box<dyn Committer<C>>>,
    machine: Commit<Vec<u8>>,
    commands: Vec<Command<Vec<u8>>>,
    retry: Option<(BatchId, Timestamp)>,
    writing: bool,
    /// The committer has removed what older attempts left.
    cleaned: bool,
    /// Rows that the restored cut overtook.
    held: Option<HeldRows<T>>,
    /// The transactions that were pending at the restored cut, of all subtasks, for the clean-up.
    pending: Vec<Vec<u8>>,
    /// Those of them that are for this subtask to commit, until the clean-up is done.
    restored: Vec<Vec<u8>>,
    /// Cuts whose transactions are being prepared. A later cut lists them too: theirs may never complete.
    preparing: Vec<(CheckpointId, Arc<Preparing>)>,
}

impl<T: Data, C: serde::Serialize + serde::de::DeserializeOwned + Send + 'static> SinkOperator<T, C> {
    /// The operator, with all pending transactions of all subtasks at the restored cut.
    ///
    /// # Errors
    /// When the target cannot be reached.
    pub fn new<S: TwoPhaseCommitSink<T, Committable = C> + ?Sized>(
        uid: OperatorUid,
        slot: OperatorSlot,
        sink: &S,
        restored: &[OperatorState],
        cx: &ChainContext,
    ) -> Result<Self, PortError> {
        let task = &cx.task;
        let context =
            SinkContext { job: task.job, attempt: task.attempt, subtask: task.subtask, parallelism: task.parallelism };
        let held = HeldRows::restore(restored)?;
        let items = |name: &str| {
            restored.iter().filter(|state| state.name == name).flat_map(|state| state.items.clone()).collect()
        };
        Ok(Self {
            uid,
            slot,
            writer: sink.writer(context)?,
            committer: Some(sink.committer(context)?),
            machine: Commit::new(Options::default()),
            commands: Vec::new(),
            retry: None,
            writing: false,
            cleaned: false,
            held,
            pending: if task.is_first { items(TRANSACTIONS) } else { Vec::new() },
            restored: items(&share_of(TRANSACTIONS)),
            preparing: Vec::new(),
        })
    }

    fn carry_out(&mut self, cx: &mut ChainContext) -> Result<(), PortError> {
        for command in std::mem::take(&mut self.commands) {
            match command {
                Command::Commit { batch, transactions } => {
                    let transactions: Vec<C> = decode_all(&transactions)?;
                    let mut committer =
                        self.committer.take().expect("one batch is committed at a time, after the clean-up");
                    cx.start_commit(self.slot, move || {
                        let outcome = committer.commit(transactions);
                        Answer::Committed(batch, committer, outcome)
                    });
                }
                Command::RetryAt { batch, at_ms } => {
                    self.retry = Some((batch, at_ms));
                    cx.wake_at(at_ms);
                }
                Command::Fail { kind, reason } => return Err(PortError { kind, message: reason }),
            }
        }
        Ok(())
    }

    fn take_answer(&mut self, answer: Answer<C>, cx: &mut ChainContext) -> Result<(), PortError> {
        match answer {
            Answer::Written(outcome) => {
                self.writing = false;
                outcome
            }
            Answer::Cleaned(committer, outcome) => {
                self.committer = Some(committer);
                outcome?;
                let mine = std::mem::take(&mut self.restored);
                self.machine.restored(mine, &mut self.commands);
                self.carry_out(cx)
            }
            Answer::Committed(batch, committer, outcome) => {
                self.committer = Some(committer);
                match outcome {
                    Ok(()) => {
                        self.machine.committed(batch, &mut self.commands);
                    }
                    Err(error) => {
                        let now_ms = cx.task.clock.now_ms();
                        self.machine.commit_failed(batch, error.kind, &error.message, now_ms, &mut self.commands);
                    }
                }
                self.carry_out(cx)
            }
        }
    }
}

fn decode_all<C: serde::de::DeserializeOwned>(transactions: &[Vec<u8>]) -> Result<Vec<C>, PortError> {
    transactions.iter().map(|bytes| decode_item(TRANSACTIONS, bytes)).collect()
}

impl<T: Data, C: serde::Serialize + serde::de::DeserializeOwned + Send + 'static> Stage for SinkOperator<T, C> {
    fn consumers(&mut self, _visit: &mut dyn FnMut(&mut dyn Stage) -> ChainResult) -> ChainResult {
        Ok(Flow::Ready)
    }

    fn open(&mut self, cx: &mut ChainContext) -> ChainResult {
        let mut committer = self.committer.take().expect("nothing has run yet");
        let (first, older) =
            (cx.task.is_first, OlderAttempts { before: cx.task.attempt, beside: Arc::clone(&cx.task.beside) });
        let pending: Vec<C> = decode_all(&std::mem::take(&mut self.pending))?;
        cx.start(self.slot, move || {
            let outcome = if first { committer.abort_unlisted(&pending, &older) } else { Ok(()) };
            Answer::Cleaned(committer, outcome)
        });
        // A checkpoint of this attempt must not complete before the committer is there.
        self.writing = true;
        Ok(Flow::Waiting)
    }

    fn watermark(&mut self, watermark: Timestamp, cx: &mut ChainContext) -> ChainResult {
        cx.counters.output_watermark = Some(watermark);
        self.writer.watermark(watermark);
        Ok(Flow::Ready)
    }

    fn resume(&mut self, cx: &mut ChainContext) -> ChainResult {
        if self.writing {
            return Ok(Flow::Waiting);
        }
        let Some(HeldRows { values, timestamps }) = self.held.take() else { return Ok(Flow::Ready) };
        self.push(Rows { values: values.collect(), timestamps: timestamps.collect() }, cx)
    }

    fn holds_off(&mut self, flag: &mut bool) {
        *flag |= self.writing && !(self.cleaned && self.writer.may_be_overtaken());
    }

    fn barrier(&mut self, barrier: &Barrier, cx: &mut ChainContext) -> ChainResult {
        let prepare = if self.writing {
            let (unwritten, prepare) = self.writer.prepare_ahead(cx.cut_number)?;
            HeldRows::new(unwritten).store(&self.uid, cx)?;
            prepare
        } else {
            self.writer.prepare(cx.cut_number)?
        };
        let mut items: Vec<Vec<u8>> = self.restored.clone();
        items.extend(self.machine.pending_up_to(barrier.checkpoint).cloned());
        let slot = self.slot;
        let earlier: Vec<_> = self.preparing.iter().map(|(_, cell)| Arc::clone(cell)).collect();
        let cell: Arc<Preparing> = Arc::default();
        self.preparing.push((barrier.checkpoint, Arc::clone(&cell)));
        let run = move || {
            // Cuts are prepared one after the other, so what was under way at the barrier is known by now.
            items.extend(earlier.iter().filter_map(|cell| cell.get()).flatten().cloned());
            let committables: Vec<Vec<u8>> = prepare()?
                .iter()
                .map(|transaction| encode_item(TRANSACTIONS, transaction))
                .collect::<Result<_, _>>()?;
            items.extend(committables.iter().cloned());
            cell.get_or_init(|| committables.clone());
            let state = OperatorState {
                name: TRANSACTIONS.to_owned(),
                version: 1,
                redistribution: Redistribution::Union,
                items,
            };
            Ok(Prepared { state, slot, committables })
        };
        cx.cut.operator(&self.uid);
        cx.cut.prepare.push(PrepareCut { uid: self.uid.clone(), run: Box::new(run) });
        Ok(Flow::Ready)
    }

    fn completed(&mut self, completion: &mut Option<Completion>, cx: &mut ChainContext) -> ChainResult {
        let Some(Completion { result, .. }) = completion.take_if(|offered| offered.slot == self.slot) else {
            return Ok(Flow::Ready);
        };
        let result: Box<dyn Any> = result;
        match result.downcast::<Answer<C>>() {
            Ok(answer) => {
                if matches!(*answer, Answer::Cleaned(..)) {
                    (self.writing, self.cleaned) = (false, true);
                }
                self.take_answer(*answer, cx)?;
            }
            Err(other) => {
                let prepared = other.downcast::<PreparedTransactions>().expect("nothing else is sent to a sink");
                self.preparing.retain(|(checkpoint, _)| *checkpoint != prepared.checkpoint);
                self.machine
                    .prepared(prepared.checkpoint, prepared.committables)
                    .map_err(|error| PortError::give_up(error.to_string()))?;
            }
        }
        Ok(if self.writing { Flow::Waiting } else { Flow::Ready })
    }

    fn processing_time(&mut self, now_ms: Timestamp, cx: &mut ChainContext) -> ChainResult {
        match self.retry {
            Some((batch, at_ms)) if at_ms <= now_ms => {
                self.retry = None;
                self.machine.retry_due(batch, &mut self.commands);
                self.carry_out(cx)?;
            }
            Some((_, at_ms)) => cx.wake_at(at_ms),
            None => {}
        }
        Ok(Flow::Ready)
    }

    fn checkpoint_complete(
        &mut self,
        checkpoint: CheckpointId,
        purpose: Purpose,
        cx: &mut ChainContext,
    ) -> ChainResult {
        self.machine.complete(checkpoint, purpose, &mut self.commands);
        self.carry_out(cx)?;
        Ok(Flow::Ready)
    }

    fn uncommitted(&mut self, count: &mut usize) {
        *count += self.restored.len() + self.preparing.len() + usize::from(!self.machine.is_drained());
    }
}

impl<T: Data, C: serde::Serialize + serde::de::DeserializeOwned + Send + 'static> Collector<T> for SinkOperator<T, C> {
    fn push(&mut self, rows: Rows<T>, cx: &mut ChainContext) -> ChainResult {
        cx.counters.records_out += rows.len() as u64;
        let Some(work) = self.writer.write(rows)? else { return Ok(Flow::Ready) };
        self.writing = true;
        cx.start(self.slot, move || Answer::<C>::Written(work()));
        Ok(Flow::Waiting)
    }
}
