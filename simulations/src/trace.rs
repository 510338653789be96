//! What a run did: lines for people, and a hash over them, over every packet and over every blob for machines. Two runs of
//! one plan must have the same.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xxhash_rust::xxh3::Xxh3;

use crate::world::SimulatedTime;

/// The trace of one run. Cheap to clone: all hosts write to the same.
#[derive(Clone, Default)]
pub struct Trace {
    time: SimulatedTime,
    written: Arc<Mutex<Written>>,
}

#[derive(Default)]
struct Written {
    lines: Vec<String>,
    hash: Xxh3,
    packets: u64,
}

impl Trace {
    /// The time of its lines.
    #[must_use]
    pub fn time(&self) -> &SimulatedTime {
        &self.time
    }

    fn lock(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something happened.
    pub fn event(&self, host: &str, what: &str) {
        let line = format!("{:>6} {host} {what}", self.time.now_ms());
        let mut written = self.lock();
        written.hash.update(line.as_bytes());
        written.lines.push(line);
    }

    /// A packet was sent. Its content is left out: the ephemeral keys of TLS are not seeded.
    pub fn packet(&self, host: &str, to: &str, bytes: usize) {
        let line = format!("{} {host} {to} {bytes}", self.time.now_ms());
        let mut written = self.lock();
        written.hash.update(line.as_bytes());
        written.packets += 1;
    }

    /// A blob was written.
    pub fn blob(&self, host: &str, path: &str, bytes: usize) {
        let line = format!("{} {host} {path} {bytes}", self.time.now_ms());
        self.lock().hash.update(line.as_bytes());
    }

    /// Hash over everything so far.
    #[must_use]
    pub fn hash(&self) -> u128 {
        self.lock().hash.digest128()
    }

    /// Packets so far.
    #[must_use]
    pub fn packets(&self) -> u64 {
        self.lock().packets
    }

    /// The events so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lock().lines.clone()
    }
}
