//! What this process has used so far: CPU time, peak memory, and a clock that records can carry.

use std::fs::read_to_string;
use std::sync::OnceLock;
use std::time::Instant;

/// Nanoseconds since the first call in this process.
#[must_use]
pub fn monotonic_ns() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// CPU nanoseconds of all threads that live, those of the kernel for them included. 0 where the system does not tell.
#[must_use]
pub fn cpu_ns() -> u64 {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return 0 };
    let of_thread = |path: std::path::PathBuf| -> Option<u64> {
        read_to_string(path.join("schedstat")).ok()?.split(' ').next()?.parse().ok()
    };
    tasks.flatten().filter_map(|task| of_thread(task.path())).sum()
}

/// The greatest resident memory so far, in bytes. 0 where the system does not tell.
#[must_use]
pub fn peak_rss_bytes() -> u64 {
    let status = read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1_024
}
