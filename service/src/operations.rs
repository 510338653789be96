//! Checkpoints, savepoints and stops that run in the background. Each has a trigger id; the same id starts only once, and
//! its outcome stays readable for a while. Used by the routes of triggers.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use millstream_actors::view::operation::{FailureCause, OperationResult, OperationStatus, TriggerId};
use millstream_runtime::ids::JobId;

use crate::api::ApiError;

/// Outcomes that are remembered; the oldest are forgotten first.
const MAX_COMPLETED: usize = 1_024;

/// Operations that run at the same time; more are refused.
const MAX_RUNNING: usize = 256;

/// What an operation belongs to: ids are looked up within a job and a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `/checkpoints`.
    Checkpoint,
    /// `/savepoints` and `/stop`, which share the path of their outcome.
    Savepoint,
}

type OperationKey = (JobId, Kind, TriggerId);

#[derive(Debug, Default)]
struct Table {
    status: BTreeMap<OperationKey, Entry>,
    /// Completed ones, oldest first.
    completed: VecDeque<OperationKey>,
}

#[derive(Debug)]
struct Entry {
    status: OperationStatus,
    /// Somebody has read the outcome.
    read: bool,
}

/// All operations of a server.
///
/// Invariant: `completed` holds exactly the keys whose status is an outcome, at most [`MAX_COMPLETED`].
#[derive(Debug, Default)]
pub struct Operations {
    table: Mutex<Table>,
    changed: Notify,
}

impl Operations {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the work in the background, unless this trigger has started it before.
    pub(crate) fn start<F>(
        self: &Arc<Self>,
        job: JobId,
        kind: Kind,
        trigger: TriggerId,
        work: F,
    ) -> Result<(), ApiError>
    where
        F: Future<Output = Result<OperationResult, ApiError>> + Send + 'static,
    {
        let key = (job, kind, trigger);
        {
            let mut table = self.lock();
            if table.status.contains_key(&key) {
                return Ok(());
            }
            if table.status.len() - table.completed.len() >= MAX_RUNNING {
                return Err(ApiError::Unavailable(format!(
                    "{MAX_RUNNING} operations are in progress; try again later"
                )));
            }
            table.status.insert(key, Entry { status: OperationStatus::InProgress, read: false });
        }
        let operations = self.clone();
        // A task of its own: the outcome must be found although the client that asked has gone.
        tokio::spawn(async move {
            let status = match tokio::spawn(work).await {
                Ok(Ok(result)) => OperationStatus::Completed(result),
                Ok(Err(error)) => OperationStatus::Failed(failure(&error)),
                Err(error) => OperationStatus::Failed(failure(&ApiError::Internal(error.to_string()))),
            };
            operations.complete(key, status);
        });
        Ok(())
    }

    fn complete(&self, key: OperationKey, status: OperationStatus) {
        {
            let mut table = self.lock();
            table.status.insert(key, Entry { status, read: false });
            table.completed.push_back(key);
            let oldest = if table.completed.len() > MAX_COMPLETED { table.completed.pop_front() } else { None };
            if let Some(oldest) = oldest {
                table.status.remove(&oldest);
            }
        }
        self.changed.notify_waiters();
    }

    /// How far an operation is; nothing if it was never started or is forgotten.
    pub(crate) fn status(&self, job: JobId, kind: Kind, trigger: TriggerId) -> Option<OperationStatus> {
        let status = {
            let mut table = self.lock();
            let entry = table.status.get_mut(&(job, kind, trigger))?;
            entry.read |= matches!(entry.status, OperationStatus::Completed(_) | OperationStatus::Failed(_));
            entry.status.clone()
        };
        self.changed.notify_waiters();
        Some(status)
    }

    /// Waits until every outcome has been read, at most for so long: a server that ends with its job would otherwise hide
    /// from the client where the savepoint lies.
    pub(crate) async fn drained(&self, grace: Duration) {
        let all_read = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if self.lock().status.values().all(|entry| entry.read) {
                    return;
                }
                changed.await;
            }
        };
        // Whether the grace was enough changes nothing about what follows.
        let _ = tokio::time::timeout(grace, all_read).await;
    }
}

fn failure(error: &ApiError) -> FailureCause {
    let class = match error {
        ApiError::NotFound(_) => "NotFound",
        ApiError::BadRequest(_) => "BadRequest",
        ApiError::Conflict(_) => "Conflict",
        ApiError::Unavailable(_) => "Unavailable",
        ApiError::Internal(_) => "Internal",
    };
    FailureCause { class: class.to_string(), stack_trace: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: JobId = JobId([1; 16]);

    fn trigger(n: usize) -> TriggerId {
        TriggerId(JobId::from_name(&n.to_string()).0)
    }

    async fn until_completed(operations: &Operations, id: TriggerId) -> OperationStatus {
        loop {
            match operations.status(JOB, Kind::Checkpoint, id) {
                Some(OperationStatus::InProgress) => tokio::task::yield_now().await,
                Some(status) => return status,
                None => panic!("{id} was started"),
            }
        }
    }

    #[tokio::test]
    async fn a_panic_of_the_work_is_a_failure_of_the_operation() {
        let operations = Arc::new(Operations::default());
        operations.start(JOB, Kind::Checkpoint, trigger(1), async { panic!("broken") }).expect("few are running");
        let status = until_completed(&operations, trigger(1)).await;
        assert!(matches!(status, OperationStatus::Failed(cause) if cause.class == "Internal"));
    }

    #[tokio::test]
    async fn the_oldest_outcomes_are_forgotten_and_too_many_running_ones_are_refused() {
        let operations = Arc::new(Operations::default());
        let done = || async { Ok(OperationResult::Done {}) };
        for n in 0..=MAX_COMPLETED {
            operations.start(JOB, Kind::Checkpoint, trigger(n), done()).expect("few are running");
            until_completed(&operations, trigger(n)).await;
        }
        assert_eq!(operations.status(JOB, Kind::Checkpoint, trigger(0)), None);
        assert!(operations.status(JOB, Kind::Checkpoint, trigger(1)).is_some());
        for n in 0..MAX_RUNNING {
            let never = std::future::pending();
            operations.start(JOB, Kind::Savepoint, trigger(n), never).expect("below the bound");
        }
        let refused = operations.start(JOB, Kind::Savepoint, trigger(MAX_RUNNING), done());
        assert!(matches!(refused, Err(ApiError::Unavailable(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn draining_waits_for_the_outcome_to_be_read_but_not_for_ever() {
        let operations = Arc::new(Operations::default());
        operations.start(JOB, Kind::Savepoint, trigger(1), std::future::pending()).expect("few are running");
        operations.drained(Duration::from_secs(1)).await;
        let operations = Arc::new(Operations::default());
        operations.start(JOB, Kind::Checkpoint, trigger(1), async { Ok(OperationResult::Done {}) }).expect("few");
        let reader = operations.clone();
        let read = tokio::spawn(async move { until_completed(&reader, trigger(1)).await });
        operations.drained(Duration::MAX).await;
        assert!(matches!(read.await.expect("no panic"), OperationStatus::Completed(_)));
    }
}
