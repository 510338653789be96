//! The adapters to the world, chosen in one place: here for production, in the simulation for tests.
//! Handed to every actor; nothing else in this crate knows a clock, a thread or a file.

use std::sync::Arc;
use std::time::Duration;

use millstream_runtime::ports::store::BlobStore;
use millstream_runtime::ports::{Blocking, BlockingWork, Clock, PortError};
use millstream_runtime::state::memory::StateMemory;
use millstream_runtime::time::Timestamp;
use millstream_state::failpoint::Failpoints;

use crate::metrics::Registry;

/// What actors use of the world.
#[derive(Clone)]
pub struct World {
    /// The checkpoint store.
    pub blobs: Arc<dyn BlobStore>,
    /// The executor for blocking work.
    pub blocking: Arc<dyn Blocking>,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Where a test may kill the process.
    pub failpoints: Failpoints,
    /// Metrics of this node.
    pub registry: Arc<Registry>,
    /// What the keyed state of all subtasks on this node may take in memory.
    pub memory: Arc<StateMemory>,
    /// Seed of what is drawn at random (restart jitter, log nonces).
    pub seed: u64,
}

/// Runs code of users on a blocking thread: a panic fails what they were called for, not only the thread.
///
/// # Errors
/// The panic's message.
pub fn caught<R>(work: impl FnOnce() -> R) -> Result<R, PortError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        PortError::retry(format!("a panic in blocking work: {text}"))
    })
}

/// Runs blocking work and waits for what it returns.
///
/// # Errors
/// When it panics, or the executor is shutting down.
pub async fn blocking<R: Send + 'static>(
    executor: &dyn Blocking,
    work: impl FnOnce() -> R + Send + 'static,
) -> Result<R, PortError> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    executor.run(Box::new(move || drop(sender.send(caught(work)))));
    receiver.await.map_err(|_| PortError::retry("the process is shutting down"))?
}

/// Blocking work on tokio's pool of blocking threads.
pub struct BlockingPool {
    runtime: tokio::runtime::Handle,
}

impl BlockingPool {
    /// Work runs on the pool of this runtime.
    #[must_use]
    pub fn new(runtime: tokio::runtime::Handle) -> Self {
        Self { runtime }
    }
}

impl Blocking for BlockingPool {
    fn run(&self, work: BlockingWork) {
        drop(self.runtime.spawn_blocking(work));
    }
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "this is the injected clock")]
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        i64::try_from(since_epoch.unwrap_or(Duration::ZERO).as_millis()).unwrap_or(i64::MAX)
    }
}

/// The monotonic clock of the runtime, in nanoseconds since the first call of this process; simulated in simulation.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(tokio::time::Instant);

impl Stopwatch {
    /// Starts counting now.
    #[must_use]
    pub fn start() -> Self {
        Self(tokio::time::Instant::now())
    }

    /// Nanoseconds since the start.
    #[must_use]
    pub fn elapsed_ns(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}
