//! The world of a harness: a clock moved by hand, and blocking work in a queue that runs between two steps.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use millstream_runtime::ports::{Blocking, BlockingWork, Clock};
use millstream_runtime::time::Timestamp;

#[derive(Default)]
pub(super) struct World {
    queue: Mutex<VecDeque<BlockingWork>>,
    now_ms: AtomicI64,
}

impl World {
    pub fn set_time(&self, now_ms: Timestamp) {
        self.now_ms.fetch_max(now_ms, Ordering::SeqCst);
    }

    pub fn has_blocking(&self) -> bool {
        !lock(&self.queue).is_empty()
    }

    /// Runs what waits; false when there was nothing.
    pub fn run_blocking(&self) -> bool {
        let mut any = false;
        loop {
            let Some(work) = lock(&self.queue).pop_front() else { return any };
            work();
            any = true;
        }
    }
}

impl Blocking for World {
    fn run(&self, work: BlockingWork) {
        lock(&self.queue).push_back(work);
    }
}

impl Clock for World {
    fn now_ms(&self) -> Timestamp {
        self.now_ms.load(Ordering::SeqCst)
    }
}

/// A test that panicked elsewhere must not hide its message behind a second panic.
pub(super) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
