//! The only doors to the world. Adapters are chosen in one place in production and one in simulations.
//!
//! - [`source`]: enumerators find splits, readers read them
//! - [`sink`]: writers write, committers make it visible exactly once
//! - [`state`]: the local materialisation of keyed state, per batch, never per record
//! - [`transport`]: channels to and from subtasks on other nodes
//! - [`Blocking`] and [`Clock`]: the one executor for blocking work, and the time of day

pub mod sink;
pub mod source;
pub mod state;
pub mod store;
pub mod transport;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// Work that may block: file and database calls, compression, sorting of large cuts.
pub type BlockingWork = Box<dyn FnOnce() + Send>;

/// The one executor for blocking work. Production has a pool of threads; simulation runs it inline after a seeded delay.
pub trait Blocking: Send + Sync {
    /// Runs the work soon. Completion is told by whatever the work itself sends.
    fn run(&self, work: BlockingWork);
}

/// The time of day, for processing time, statistics and file times; never for ordering events.
pub trait Clock: Send + Sync {
    /// Milliseconds since the Unix epoch.
    fn now_ms(&self) -> Timestamp;
}

/// Tells an actor that something it waits for may have happened. Cheap to clone, safe to call at any time, also late.
#[derive(Clone)]
pub struct Waker(Arc<dyn Fn() + Send + Sync>);

impl Waker {
    /// A waker that calls `wake`.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(wake))
    }

    /// Wakes the actor.
    pub fn wake(&self) {
        (self.0)();
    }
}

/// What a port answers when it fails, and what can be done about it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct PortError {
    /// What can be done.
    pub kind: ErrorKind,
    /// What happened, where, and what to do: shown to users as it stands.
    pub message: String,
}

/// What can be done about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorKind {
    /// The same call may succeed later: the job restarts by its strategy.
    Retry,
    /// The input, state or configuration must be changed first: the job fails at once.
    FixInput,
    /// Nothing helps: data needed for exactly-once is gone.
    GiveUp,
}

impl PortError {
    /// An error that may pass.
    pub fn retry(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Retry, message: message.into() }
    }

    /// An error in what the user gave.
    pub fn fix_input(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::FixInput, message: message.into() }
    }

    /// An error that nothing helps against.
    pub fn give_up(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::GiveUp, message: message.into() }
    }
}
