//! How messages between a job master and task managers travel: into a mailbox of this process, or over a link.

use std::fmt;
use std::sync::Arc;

use millstream_runtime::ids::JobId;

use super::{FromTaskManager, ToTaskManager};

/// The way to one task manager. Sending never waits; what cannot be delivered is lost, and the loss of the node is told
/// to the job master by whoever watches over nodes.
pub trait TaskManagerGateway: Send + Sync {
    /// Sends a message about a job. What the task manager tells about the job goes to `answers`, until another message
    /// brings others.
    fn send(&self, job: JobId, message: ToTaskManager, answers: &Answers);
}

/// The way back: takes what a task manager tells about one job. Cheap to clone, never waits.
#[derive(Clone)]
pub struct Answers(Arc<dyn Fn(FromTaskManager) + Send + Sync>);

impl Answers {
    /// Hands what is told to `take`.
    pub fn new(take: impl Fn(FromTaskManager) + Send + Sync + 'static) -> Self {
        Self(Arc::new(take))
    }

    /// Tells the job master.
    pub fn tell(&self, message: FromTaskManager) {
        (self.0)(message);
    }
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answers")
    }
}
