//! What a process measures of itself, and where Prometheus reads it. The same for a node and for a run in this process.

use std::sync::Arc;
use std::time::Duration;

use millstream_actors::metrics::{Manager, Now, ProcessMetrics, Registered, Registry};
use millstream_actors::world::{Stopwatch, SystemClock};
use millstream_config::{Configuration, keys};
use millstream_runtime::ports::{Clock, PortError};
use millstream_runtime::state::memory::StateMemory;
use millstream_service::Scrape;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::run::process::ThisProcess;

/// What is measured, and by what clocks.
pub(crate) struct Measured {
    pub registry: Arc<Registry>,
    pub stopwatch: Stopwatch,
    pub state: Arc<StateMemory>,
}

/// Rates are computed, the process is measured and Prometheus answered for as long as this value lives.
pub(crate) struct Measuring {
    registry: Arc<Registry>,
    _processes: Vec<Registered<ProcessMetrics>>,
    sampler: JoinHandle<()>,
    scrape: Option<Scrape>,
}

impl Measuring {
    /// Starts measuring a process that is these managers.
    pub fn start(configuration: &Configuration, measured: Measured, managers: &[Manager]) -> Self {
        let Measured { registry, stopwatch, state } = measured;
        let processes = registry.process(managers, ThisProcess::new(state), now(stopwatch));
        let every = configuration.get(&keys::METRICS_UPDATE_INTERVAL);
        let sampler = tokio::spawn(sample(Arc::clone(&registry), stopwatch, every));
        Self { registry, _processes: processes, sampler, scrape: None }
    }

    /// Answers Prometheus, if that is wanted.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn answer_prometheus(&mut self, configuration: &Configuration) -> Result<(), PortError> {
        if let Some(ports) = configuration.get(&keys::PROMETHEUS_PORT) {
            let host = configuration.get(&keys::PROMETHEUS_HOST);
            let started = Scrape::start(&host, ports.first..=ports.last, Arc::clone(&self.registry)).await;
            self.scrape = Some(started.map_err(|error| PortError::fix_input(error.to_string()))?);
        }
        Ok(())
    }

    /// Where Prometheus reads, if it can.
    pub fn endpoint(&self) -> Option<String> {
        self.scrape.as_ref().map(|scrape| format!("http://{}/metrics", scrape.local_address()))
    }
}

impl Drop for Measuring {
    fn drop(&mut self) {
        self.sampler.abort();
    }
}

/// The time of a sample.
pub(crate) fn now(stopwatch: Stopwatch) -> Now {
    Now { wall_ms: SystemClock.now_ms(), monotonic_ns: stopwatch.elapsed_ns() }
}

/// Computes rates until aborted.
async fn sample(registry: Arc<Registry>, stopwatch: Stopwatch, every: Duration) {
    let mut ticks = interval(every.max(Duration::from_millis(10)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        registry.sample(now(stopwatch));
    }
}
