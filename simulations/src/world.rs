//! Simulated adapters of the ports that every host uses: the clock, and the executor for blocking work.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use millstream_runtime::ports::{Blocking, BlockingWork, Clock};
use millstream_runtime::time::Timestamp;

use crate::plan::Random;

/// When every run begins, milliseconds since the Unix epoch.
pub const EPOCH_MS: Timestamp = 1_790_000_000_000;

/// Simulated milliseconds since the start of a run, set by whoever drives it. Clones are the same time.
#[derive(Clone, Debug, Default)]
pub struct SimulatedTime(Arc<AtomicU64>);

impl SimulatedTime {
    /// It is so late now.
    pub fn set(&self, now_ms: u64) {
        self.0.store(now_ms, Ordering::Relaxed);
    }

    /// How late it is.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The simulated time of day.
#[derive(Clone, Debug)]
pub struct SimulatedClock(pub SimulatedTime);

impl Clock for SimulatedClock {
    fn now_ms(&self) -> Timestamp {
        EPOCH_MS + Timestamp::try_from(self.0.now_ms()).expect("runs are short")
    }
}

/// The executor for blocking work of all hosts. Work waits a seeded time, and is then run by whoever drives the simulation,
/// between two steps: what it tells, its host hears in the next step, or never if it crashes before. Work that waits when
/// its host crashes never runs.
#[derive(Clone)]
pub struct Executor {
    time: SimulatedTime,
    queue: Arc<Mutex<Queue>>,
}

struct Queue {
    random: Random,
    max_delay_ms: u64,
    /// By the time it is due, then in the order in which it came.
    waiting: BTreeMap<(u64, u64), (usize, BlockingWork)>,
    taken: u64,
    stalled: BTreeSet<usize>,
    doomed: BTreeSet<usize>,
}

impl Executor {
    /// Work is done within `max_delay_ms`, at least 1.
    #[must_use]
    pub fn new(time: SimulatedTime, seed: u64, max_delay_ms: u64) -> Self {
        let queue = Queue {
            random: Random::new(seed),
            max_delay_ms,
            waiting: BTreeMap::new(),
            taken: 0,
            stalled: BTreeSet::new(),
            doomed: BTreeSet::new(),
        };
        Self { time, queue: Arc::new(Mutex::new(queue)) }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The executor of one host.
    #[must_use]
    pub fn of(&self, host: usize) -> HostBlocking {
        HostBlocking { executor: self.clone(), host }
    }

    /// Work that is due, and whose it is.
    #[must_use]
    pub fn next_due(&self) -> Option<(usize, BlockingWork)> {
        let mut queue = self.lock();
        let now_ms = self.time.now_ms();
        let due = queue.waiting.range(..(now_ms + 1, 0));
        let key = due.into_iter().find(|(_, (host, _))| !queue.stalled.contains(host)).map(|(key, _)| *key)?;
        queue.waiting.remove(&key)
    }

    /// From now on no work of the host is done, or it is again.
    pub fn stall(&self, host: usize, stalls: bool) {
        let mut queue = self.lock();
        if stalls {
            queue.stalled.insert(host)
        } else {
            queue.stalled.remove(&host)
        };
    }

    /// Ends the piece of work that the host does just now where it is; the host must be killed behind it.
    pub fn doom(&self, host: usize) {
        self.lock().doomed.insert(host);
        // Without the hook of panics: nothing is wrong.
        std::panic::resume_unwind(Box::new("killed at a failpoint"));
    }

    /// Whether the host must be killed.
    #[must_use]
    pub fn is_doomed(&self, host: usize) -> bool {
        self.lock().doomed.contains(&host)
    }

    /// The host has crashed.
    pub fn forget(&self, host: usize) {
        // Dropped without the lock: whoever waits for the work may be told, and start some.
        let forgotten: Vec<_> = {
            let mut queue = self.lock();
            queue.doomed.remove(&host);
            queue.waiting.extract_if(.., |_, (of, _)| *of == host).collect()
        };
        drop(forgotten);
    }
}

/// The executor of one host.
pub struct HostBlocking {
    executor: Executor,
    host: usize,
}

impl Blocking for HostBlocking {
    fn run(&self, work: BlockingWork) {
        let mut queue = self.executor.lock();
        let max_delay_ms = queue.max_delay_ms;
        let due_ms = self.executor.time.now_ms() + queue.random.between(0, max_delay_ms);
        queue.taken += 1;
        let key = (due_ms, queue.taken);
        queue.waiting.insert(key, (self.host, work));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_done_when_it_is_due_unless_its_host_stalls_or_crashes() {
        let (time, done) = (SimulatedTime::default(), Arc::new(Mutex::new(Vec::new())));
        let executor = Executor::new(time.clone(), 1, 1);
        let start = |host: usize, number: u32| {
            let done = Arc::clone(&done);
            executor.of(host).run(Box::new(move || done.lock().expect("no panic").push(number)));
        };
        let run = || std::iter::from_fn(|| executor.next_due()).for_each(|(_, work)| work());
        start(0, 1);
        start(1, 2);
        executor.stall(0, true);
        run();
        assert_eq!(*done.lock().expect("no panic"), [2]);
        start(0, 3);
        executor.stall(0, false);
        run();
        assert_eq!(*done.lock().expect("no panic"), [2, 1, 3]);
        start(0, 4);
        executor.forget(0);
        run();
        assert_eq!(*done.lock().expect("no panic"), [2, 1, 3]);
    }
}
