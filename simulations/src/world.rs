//! Simulated adapters of the ports that every host uses: the clock, and the executor for blocking work.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millstream_runtime::ports::{Blocking, BlockingWork, Clock};
use millstream_runtime::time::Timestamp;

use crate::plan::Random;

/// When every run begins, milliseconds since the Unix epoch.
pub const EPOCH_MS: Timestamp = 1_790_000_000_000;

/// The simulated time of day.
#[derive(Clone, Copy, Debug, Default)]
pub struct SimulatedClock;

impl Clock for SimulatedClock {
    fn now_ms(&self) -> Timestamp {
        let elapsed = turmoil::sim_elapsed().unwrap_or_default();
        EPOCH_MS + Timestamp::try_from(elapsed.as_millis()).expect("runs are short")
    }
}

/// Runs blocking work on the host's own thread after a seeded time, so that other things happen before it does. Work that
/// waits when its host crashes never runs.
#[derive(Clone)]
pub struct SimulatedBlocking {
    random: Arc<Mutex<Random>>,
    max_delay_ms: u64,
}

impl SimulatedBlocking {
    /// Work is done within `max_delay_ms`, which is at least 1.
    #[must_use]
    pub fn new(seed: u64, max_delay_ms: u64) -> Self {
        Self { random: Arc::new(Mutex::new(Random::new(seed))), max_delay_ms }
    }
}

impl Blocking for SimulatedBlocking {
    fn run(&self, work: BlockingWork) {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        let delay_ms = random.between(0, self.max_delay_ms);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(delay_ms)).await;
            work();
        });
    }
}
