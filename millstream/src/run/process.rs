//! What the operating system says of this process: Linux tells it in `/proc`; elsewhere little is known.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_actors::metrics::process::{Probe, ProcessUsage};
use millstream_runtime::state::memory::StateMemory;

use super::memory;

/// Reads `/proc`.
pub(crate) struct ThisProcess {
    root: PathBuf,
    state: Arc<StateMemory>,
    /// What it may take, as it was at the start: what its keyed state may take is worked out from that, too.
    memory_limit: u64,
}

impl ThisProcess {
    /// This process, whose keyed state has this budget.
    pub fn new(state: Arc<StateMemory>) -> Arc<Self> {
        Arc::new(Self::below(Path::new("/"), state))
    }

    fn below(root: &Path, state: Arc<StateMemory>) -> Self {
        Self { root: root.to_path_buf(), state, memory_limit: memory::of_process(root).unwrap_or(0) }
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.root.join(path)).unwrap_or_default()
    }
}

impl Probe for ThisProcess {
    fn usage(&self) -> ProcessUsage {
        let (status, machine) = (self.read("proc/self/status"), self.read("proc/meminfo"));
        let bytes = |text: &str, name: &str| memory::size(text, name).unwrap_or(0);
        let threads = status.lines().find_map(|line| line.strip_prefix("Threads:")?.trim().parse().ok());
        let wide = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        ProcessUsage {
            cpu_time_ns: cpu_time_ns(),
            memory: bytes(&status, "RssAnon:"),
            mapped: bytes(&status, "RssFile:"),
            memory_limit: self.memory_limit,
            threads: threads.unwrap_or(0),
            open_files: entries(&self.root.join("proc/self/fd")),
            max_files: max_files(),
            state_memory: wide(self.state.held_bytes()),
            state_memory_limit: self.state.limit_bytes().map_or(0, wide),
            cores: u32::try_from(cores).unwrap_or(u32::MAX),
            machine_memory: bytes(&machine, "MemTotal:"),
            machine_memory_free: bytes(&machine, "MemAvailable:"),
        }
    }
}

fn entries(folder: &Path) -> u64 {
    std::fs::read_dir(folder).map_or(0, |entries| entries.count() as u64)
}

#[cfg(target_os = "linux")]
fn cpu_time_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let [seconds, nanoseconds] = [time.tv_sec, time.tv_nsec].map(|part| u64::try_from(part).unwrap_or(0));
    seconds * 1_000_000_000 + nanoseconds
}

#[cfg(not(target_os = "linux"))]
fn cpu_time_ns() -> u64 {
    0
}

#[cfg(target_os = "linux")]
fn max_files() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[cfg(not(target_os = "linux"))]
fn max_files() -> u64 {
    0
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_what_it_takes_and_what_there_is() {
        let state = StateMemory::new(Some(1_000));
        let usage = ThisProcess::new(state).usage();
        assert!(usage.cpu_time_ns > 0 && usage.threads > 0 && usage.cores > 0, "{usage:?}");
        assert!(usage.memory > 100_000 && usage.memory < usage.memory_limit, "{usage:?}");
        assert!(usage.mapped > 100_000, "its own program at least: {usage:?}");
        assert!(usage.memory_limit <= usage.machine_memory, "{usage:?}");
        assert!(usage.machine_memory_free > 0 && usage.machine_memory_free < usage.machine_memory, "{usage:?}");
        assert!(usage.open_files > 2 && usage.open_files <= usage.max_files, "{usage:?}");
        assert_eq!((usage.state_memory, usage.state_memory_limit), (0, 1_000));
    }

    #[test]
    fn where_nothing_is_told_figures_are_zero() {
        let usage = ThisProcess::below(Path::new("/nowhere"), StateMemory::new(None)).usage();
        assert_eq!((usage.memory, usage.mapped, usage.memory_limit, usage.threads, usage.open_files), (0, 0, 0, 0, 0));
        assert_eq!((usage.state_memory_limit, usage.machine_memory), (0, 0));
    }
}
