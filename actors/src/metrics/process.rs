//! What a process takes of its machine, and what there is to take. Sampled with the rates; told to the leader by every
//! task manager, so that one request shows all nodes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::instrument::{Instrument, Measured, Now, Read, values};

/// Where the figures come from: the operating system, or a test.
pub trait Probe: Send + Sync {
    /// As of now. What is not known is 0.
    fn usage(&self) -> ProcessUsage;
}

/// What the operating system says. Sizes in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessUsage {
    /// Processor time since the process began, of all its threads, in nanoseconds.
    pub cpu_time_ns: u64,
    /// Memory of its own that it holds.
    pub memory: u64,
    /// Memory of files that it has mapped and touched.
    pub mapped: u64,
    /// Memory that it may take: of its control group, or of the machine.
    pub memory_limit: u64,
    /// Its threads.
    pub threads: u64,
    /// Its open files.
    pub open_files: u64,
    /// So many it may open.
    pub max_files: u64,
    /// What keyed state holds in memory.
    pub state_memory: u64,
    /// What keyed state may hold in memory; 0 is no limit.
    pub state_memory_limit: u64,
    /// Processors that it may use.
    pub cores: u32,
    /// Memory of the machine.
    pub machine_memory: u64,
    /// Memory of the machine that nobody uses.
    pub machine_memory_free: u64,
}

/// All values of a process at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessReading {
    /// As of the last sample.
    pub usage: ProcessUsage,
    /// Part of its processors that it used in the last sampling interval, 0 to 1.
    pub cpu_load: f64,
    /// When it was sampled, by its monotonic clock.
    at_ns: u64,
}

impl ProcessReading {
    /// By Flink's names, as REST shows them.
    #[must_use]
    pub fn values(&self) -> BTreeMap<String, String> {
        values::<ProcessMetrics>(self)
    }
}

/// The gauges of a process.
pub struct ProcessMetrics {
    probe: Arc<dyn Probe>,
    last: Mutex<ProcessReading>,
}

impl std::fmt::Debug for ProcessMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProcessMetrics").finish_non_exhaustive()
    }
}

impl ProcessMetrics {
    /// Measured by this probe, and at once: whoever asks before the first sample gets figures.
    #[must_use]
    pub fn new(probe: Arc<dyn Probe>, now: Now) -> Self {
        let first = ProcessReading { usage: probe.usage(), cpu_load: 0.0, at_ns: now.monotonic_ns };
        Self { probe, last: Mutex::new(first) }
    }
}

fn signed(value: u64) -> Option<i64> {
    Some(i64::try_from(value).unwrap_or(i64::MAX))
}

impl Measured for ProcessMetrics {
    type Reading = ProcessReading;

    // Flink's names are about a JVM, and the same for both kinds of process. Here its heap is all memory that is the process' own.
    #[rustfmt::skip]
    const INSTRUMENTS: &'static [Instrument<ProcessReading>] = &[
        Instrument::new("Status.JVM.CPU.Load", "1", "Part of the processors that the process uses, 0 to 1.", Read::Rate(|r| r.cpu_load)),
        Instrument::new("Status.JVM.CPU.Time", "ns", "Processor time since the process began.", Read::Gauge(|r| signed(r.usage.cpu_time_ns))),
        Instrument::new("Status.JVM.Memory.Heap.Used", "By", "Memory of its own that the process holds.", Read::Gauge(|r| signed(r.usage.memory))),
        Instrument::new("Status.JVM.Memory.Heap.Committed", "By", "The same: nothing is set aside.", Read::Gauge(|r| signed(r.usage.memory))),
        Instrument::new("Status.JVM.Memory.Heap.Max", "By", "Memory that the process may take.", Read::Gauge(|r| signed(r.usage.memory_limit))),
        Instrument::new("Status.JVM.Memory.Mapped.MemoryUsed", "By", "Memory of mapped files that were touched, such as local state.", Read::Gauge(|r| signed(r.usage.mapped))),
        Instrument::new("Status.JVM.Threads.Count", "{thread}", "Threads.", Read::Gauge(|r| signed(r.usage.threads))),
        Instrument::new("Status.FileDescriptor.Open", "{file}", "Open files.", Read::Gauge(|r| signed(r.usage.open_files))),
        Instrument::new("Status.FileDescriptor.Max", "{file}", "Files that may be open.", Read::Gauge(|r| signed(r.usage.max_files))),
        Instrument::new("Status.Flink.Memory.Managed.Used", "By", "What keyed state holds in memory.", Read::Gauge(|r| signed(r.usage.state_memory))),
        Instrument::new("Status.Flink.Memory.Managed.Total", "By", "What keyed state may hold in memory; 0 is no limit.", Read::Gauge(|r| signed(r.usage.state_memory_limit))),
    ];

    fn sample(&self, now: Now) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed_ns = now.monotonic_ns.saturating_sub(last.at_ns);
        // Asked for each kind of manager that the process is.
        if elapsed_ns == 0 {
            return;
        }
        let usage = self.probe.usage();
        let worked_ns = usage.cpu_time_ns.saturating_sub(last.usage.cpu_time_ns);
        let cpu_load = worked_ns as f64 / elapsed_ns as f64 / f64::from(usage.cores.max(1));
        *last = ProcessReading { usage, cpu_load: cpu_load.min(1.0), at_ns: now.monotonic_ns };
    }

    fn reading(&self, _now: Now) -> ProcessReading {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use super::*;

    /// A process of four processors whose time a test moves.
    #[derive(Default)]
    struct Scripted(AtomicU64);

    impl Probe for Scripted {
        fn usage(&self) -> ProcessUsage {
            ProcessUsage { cpu_time_ns: self.0.load(Relaxed), memory: 7, cores: 4, ..ProcessUsage::default() }
        }
    }

    fn at(monotonic_ns: u64) -> Now {
        Now { wall_ms: 0, monotonic_ns }
    }

    #[test]
    fn the_load_is_the_part_of_all_processors_used_since_the_last_sample() {
        let probe = Arc::new(Scripted::default());
        let metrics = ProcessMetrics::new(Arc::<Scripted>::clone(&probe), at(1_000));
        let value = |name: &str| metrics.reading(at(0)).values().remove(name).expect("known");
        assert_eq!(value("Status.JVM.Memory.Heap.Used"), "7", "before the first sample");
        assert_eq!(value("Status.JVM.CPU.Load"), "0.0");
        probe.0.store(2_000, Relaxed);
        metrics.sample(at(2_000));
        assert_eq!(value("Status.JVM.CPU.Load"), "0.5", "two of four");
        metrics.sample(at(2_000));
        assert_eq!(value("Status.JVM.CPU.Load"), "0.5", "no time has passed");
        metrics.sample(at(3_000));
        assert_eq!(value("Status.JVM.CPU.Load"), "0.0", "idle");
        assert_eq!(value("Status.JVM.CPU.Time"), "2000");
    }
}
