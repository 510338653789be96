//! What a run has shown so far: what was wrong, and when the job ended. Told by the adapters while it runs, read by whoever
//! drives it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::trace::Trace;

/// Clones are the same findings.
#[derive(Clone)]
pub struct Findings {
    trace: Trace,
    found: Arc<Mutex<Found>>,
}

#[derive(Default)]
struct Found {
    violations: Vec<String>,
    ended_ms: Option<u64>,
}

impl Findings {
    /// Nothing so far.
    #[must_use]
    pub fn new(trace: Trace) -> Self {
        Self { trace, found: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something happened that must not.
    pub fn violation(&self, what: impl Into<String>) {
        let what = what.into();
        self.trace.event("VIOLATION", &what);
        self.lock().violations.push(what);
    }

    /// A leader shows the job as ended.
    pub fn ended(&self) {
        self.lock().ended_ms.get_or_insert(self.trace.time().now_ms());
    }

    /// When that was.
    #[must_use]
    pub fn ended_ms(&self) -> Option<u64> {
        self.lock().ended_ms
    }

    /// What must not have happened, in order.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }
}
