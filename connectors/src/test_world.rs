//! The world that readers see in tests: blocking work runs when told, time stands still until moved.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use millstream_runtime::ids::SubtaskIndex;
use millstream_runtime::ports::source::{
    Polled, ReaderContext, Source, SourceReader, Split, SplitIndex, SplitProgress,
};
use millstream_runtime::ports::{Blocking, BlockingWork, Clock, PortError, Waker};
use millstream_runtime::time::{MIN_TIMESTAMP, Timestamp};

use crate::error::lock;

/// Blocking work in a queue, a clock moved by hand, and the wake-ups asked for.
#[derive(Default)]
pub(crate) struct World {
    queue: Mutex<VecDeque<BlockingWork>>,
    pub now_ms: AtomicI64,
    pub woken: AtomicU64,
    pub timers: Mutex<Vec<i64>>,
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

impl World {
    pub fn context(self: &Arc<Self>, subtask: u32, parallelism: u32) -> ReaderContext {
        let (woken, timers) = (Arc::clone(self), Arc::clone(self));
        ReaderContext {
            subtask: SubtaskIndex(subtask),
            parallelism,
            blocking: Arc::clone(self) as Arc<dyn Blocking>,
            waker: Waker::new(move || {
                woken.woken.fetch_add(1, Ordering::SeqCst);
            }),
            wake_after: Arc::new(move |ms| {
                let due = timers.now_ms() + i64::try_from(ms).expect("tests wait briefly");
                lock(&timers.timers).push(due);
            }),
            clock: Arc::clone(self) as Arc<dyn Clock>,
        }
    }

    /// Runs what waits for the blocking executor; false when there was nothing.
    pub fn run_blocking(&self) -> bool {
        let mut any = false;
        loop {
            let Some(work) = lock(&self.queue).pop_front() else { return any };
            work();
            any = true;
        }
    }

    /// Moves the clock to the next timer; false when there is none.
    pub fn next_timer(&self) -> bool {
        let mut timers = lock(&self.timers);
        timers.sort_unstable();
        if timers.is_empty() {
            return false;
        }
        let due = timers.remove(0);
        self.now_ms.fetch_max(due, Ordering::SeqCst);
        true
    }
}

/// Progress that keeps all splits level, or as set.
#[derive(Default)]
pub(crate) struct Watermarks(pub Vec<Timestamp>);

impl SplitProgress for Watermarks {
    fn watermark(&self, split: SplitIndex) -> Timestamp {
        self.0.get(split.0).copied().unwrap_or(MIN_TIMESTAMP)
    }
}

/// A reader with what drives it.
pub(crate) struct Driven<T> {
    pub world: Arc<World>,
    pub reader: Box<dyn SourceReader<T>>,
    pub progress: Watermarks,
}

impl<T> Driven<T> {
    pub fn new<S: Source<Record = T>>(source: &S, splits: Vec<Split>) -> Result<Self, PortError> {
        let world = Arc::new(World::default());
        let mut reader = source.reader(world.context(0, 1))?;
        reader.add_splits(splits, MIN_TIMESTAMP)?;
        Ok(Self { world, reader, progress: Watermarks::default() })
    }

    /// Polls until something other than `Waiting` for blocking work comes; `Waiting` when nothing is left to run.
    pub fn poll(&mut self, max_rows: usize, rows: &mut Vec<T>) -> Result<Polled, PortError> {
        loop {
            match self.reader.poll(&self.progress, max_rows, rows)? {
                Polled::Waiting if self.world.run_blocking() => {}
                other => return Ok(other),
            }
        }
    }

    /// Reads until there is nothing more for the moment.
    pub fn drain(&mut self, max_rows: usize) -> Result<Vec<T>, PortError> {
        let mut rows = Vec::new();
        loop {
            match self.poll(max_rows, &mut rows)? {
                Polled::Rows(_) | Polled::Finished(_) | Polled::Idle(_) => {}
                Polled::Waiting | Polled::EndOfInput => return Ok(rows),
            }
        }
    }

    pub fn splits(&mut self) -> Vec<Split> {
        self.reader.snapshot().expect("positions serialise").into_iter().map(|(_, split)| split).collect()
    }
}

/// All splits of a source at its start.
pub(crate) fn discover<S: Source>(source: &S) -> Result<Vec<Split>, PortError> {
    source.enumerator(None)?.discover()
}
