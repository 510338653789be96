//! The log of the cluster in the hands of the dispatcher: one record after the other, off its loop. Whatever promises
//! something waits here for its record.

use std::collections::VecDeque;
use std::sync::Arc;

use millstream_runtime::ports::{Blocking, PortError};
use millstream_state::log::{AppendOutcome, ClusterLog, ClusterRecord};

/// A record, and what happens once it is durable.
pub struct Entry<T> {
    /// The record.
    pub record: ClusterRecord,
    /// What waits for it.
    pub then: T,
}

/// A record of which the store has said something.
pub struct Written<T> {
    log: Box<ClusterLog>,
    entry: Entry<T>,
    outcome: Result<AppendOutcome, PortError>,
}

/// What follows.
pub enum Next<T> {
    /// It is durable.
    Durable(T),
    /// It is not known whether it is: the same is to be written again, after a while.
    Again(String),
    /// A newer leader is there: nothing of this one counts any more.
    Deposed(Vec<T>),
}

/// Records that wait, in order.
pub struct Journal<T> {
    blocking: Arc<dyn Blocking>,
    /// Away while a record is being written.
    log: Option<Box<ClusterLog>>,
    queue: VecDeque<Entry<T>>,
}

impl<T: Send + 'static> Journal<T> {
    /// The journal of a leader.
    pub fn new(log: ClusterLog, blocking: Arc<dyn Blocking>) -> Self {
        Self { blocking, log: Some(Box::new(log)), queue: VecDeque::new() }
    }

    /// Records that are not durable yet.
    pub fn waiting(&self) -> usize {
        self.queue.len() + usize::from(self.log.is_none())
    }

    /// Puts a record behind all others.
    pub fn push(&mut self, record: ClusterRecord, then: T) {
        self.queue.push_back(Entry { record, then });
    }

    /// Writes the next record, if none is being written.
    pub fn go_on(&mut self, told: impl FnOnce(Written<T>) + Send + 'static) {
        if self.queue.is_empty() {
            return;
        }
        let Some(mut log) = self.log.take() else { return };
        let entry = self.queue.pop_front().expect("just seen");
        self.blocking.run(Box::new(move || {
            let outcome = log.append(entry.record.clone());
            told(Written { log, entry, outcome });
        }));
    }

    /// A record was written, or not.
    pub fn written(&mut self, written: Written<T>) -> Next<T> {
        let Written { log, entry, outcome } = written;
        self.log = Some(log);
        match outcome {
            Ok(AppendOutcome::Written(_)) => Next::Durable(entry.then),
            Ok(AppendOutcome::Deposed { .. }) => {
                let waiting = std::mem::take(&mut self.queue).into_iter().map(|entry| entry.then);
                Next::Deposed(std::iter::once(entry.then).chain(waiting).collect())
            }
            Ok(AppendOutcome::Undecided { reason }) => self.again(entry, reason),
            Err(error) => self.again(entry, error.message),
        }
    }

    fn again(&mut self, entry: Entry<T>, reason: String) -> Next<T> {
        self.queue.push_front(entry);
        Next::Again(reason)
    }
}
