//! Subtasks that were told to go and do not, because user code of theirs never returns. Nothing can stop a thread that
//! runs it but the end of the process, and as long as it runs its part of the job cannot start anywhere again: so it is
//! warned of, and in the end the process is given up, as Flink's task managers do.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use millstream_runtime::ids::{AttemptId, JobId};

use super::actor::{Myself, TaskManagerState};
use super::hosted::{Attempt, Stage};
use super::message::TaskManagerMessage;

/// Ends the process, saying why.
pub type EndProcess = Arc<dyn Fn(&str) + Send + Sync>;

/// How long subtasks that were told to go may take.
#[derive(Clone)]
pub struct Cancellation {
    /// Between two warnings.
    pub interval: Duration,
    /// Until the process is given up; `None`: never.
    pub timeout: Option<Duration>,
    /// Gives it up.
    pub end_process: EndProcess,
}

impl Cancellation {
    /// Warns as Flink does, and gives nothing up.
    #[must_use]
    pub fn patient() -> Self {
        Self { interval: Duration::from_secs(30), timeout: None, end_process: Arc::new(|_| {}) }
    }

    /// How long until there is something to do, having waited so long.
    fn next(&self, waited: Duration) -> Duration {
        let left = self.timeout.map_or(self.interval, |timeout| timeout.saturating_sub(waited));
        left.min(self.interval).max(Duration::from_millis(1))
    }
}

impl fmt::Debug for Cancellation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { interval, timeout, end_process: _ } = self;
        f.debug_struct("Cancellation").field("interval", interval).field("timeout", timeout).finish_non_exhaustive()
    }
}

impl TaskManagerState {
    /// Looks after the subtasks that were told to go and are still there.
    pub(super) fn watch_stopping(&mut self, myself: &Myself, job: JobId) {
        let Some(hosted) = self.jobs.get_mut(&job) else { return };
        for attempt in hosted.attempts.values_mut().filter(|attempt| is_stopping(attempt) && !attempt.watched) {
            attempt.watched = true;
            look_later(myself, job, attempt.id, Duration::ZERO, &self.cancellation);
        }
    }

    pub(super) fn still_there(&self, myself: &Myself, job: JobId, id: AttemptId, waited: Duration) {
        let attempt = self.jobs.get(&job).and_then(|hosted| hosted.attempts.get(&id));
        let Some(attempt) = attempt.filter(|attempt| is_stopping(attempt)) else { return };
        let subtasks: Vec<String> = attempt.tasks.keys().map(ToString::to_string).collect();
        let subtasks = subtasks.join(", ");
        if self.cancellation.timeout.is_some_and(|timeout| waited >= timeout) {
            let why = format!(
                "subtasks of job {job} were told to go {waited:?} ago and have not: {subtasks}. Their code does not return, so this process ends (task.cancellation.timeout); the job goes on from its newest checkpoint elsewhere, or when the process is started again"
            );
            tracing::error!("{why}");
            (self.cancellation.end_process)(&why);
            return;
        }
        tracing::warn!(%job, "subtasks were told to go {waited:?} ago and have not, their code does not return: {subtasks}");
        look_later(myself, job, id, waited, &self.cancellation);
    }
}

fn is_stopping(attempt: &Attempt) -> bool {
    attempt.stage == Stage::Stopping && !attempt.tasks.is_empty()
}

fn look_later(myself: &Myself, job: JobId, attempt: AttemptId, waited: Duration, cancellation: &Cancellation) {
    let after = cancellation.next(waited);
    let waited = waited + after;
    myself.send_after(after, move || TaskManagerMessage::StillThere { job, attempt, waited });
}
