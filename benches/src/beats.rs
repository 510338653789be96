//! How subtasks of a cluster's processes say that records flow: over UDP, each under a number of its own that no earlier
//! attempt had. Used by the jobs that [`cluster`](crate::cluster) runs.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What has not happened by then will not.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// A subtask says that it works once in so many records.
const SAYS_EVERY: u64 = 100;
/// Bits of a number behind the id of the process.
const COUNTED_BITS: u32 = 20;

/// One subtask that works.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    /// Its number.
    pub number: u64,
    /// What it has counted so far.
    pub count: u64,
}

impl Heard {
    /// The process that it runs in.
    #[must_use]
    pub fn process(&self) -> u32 {
        u32::try_from(self.number >> COUNTED_BITS).unwrap_or(u32::MAX)
    }
}

/// The end that speaks: one a subtask; a clone is another subtask.
pub(crate) struct Speaker {
    port: u16,
    socket: Option<(UdpSocket, u64)>,
    records: u64,
}

impl Clone for Speaker {
    fn clone(&self) -> Self {
        Self::new(self.port)
    }
}

impl Speaker {
    pub(crate) fn new(port: u16) -> Self {
        Self { port, socket: None, records: 0 }
    }

    /// A record was processed; `count` is what the subtask has counted.
    pub(crate) fn record(&mut self, count: u64) {
        if self.socket.is_none() {
            static STARTED: AtomicU64 = AtomicU64::new(0);
            let number = u64::from(std::process::id()) << COUNTED_BITS | STARTED.fetch_add(1, Ordering::Relaxed);
            self.socket = UdpSocket::bind("127.0.0.1:0").ok().map(|socket| (socket, number));
        }
        if self.records.is_multiple_of(SAYS_EVERY)
            && let Some((socket, number)) = &self.socket
        {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&number.to_le_bytes());
            bytes[8..].copy_from_slice(&count.to_le_bytes());
            // One that is lost is followed by another.
            let _ = socket.send_to(&bytes, ("127.0.0.1", self.port));
        }
        self.records += 1;
    }
}

/// The end that listens.
pub struct Beats(UdpSocket);

impl Beats {
    pub(crate) fn new() -> Result<Self, String> {
        UdpSocket::bind("127.0.0.1:0").map(Self).map_err(|error| error.to_string())
    }

    pub(crate) fn port(&self) -> Result<u16, String> {
        Ok(self.0.local_addr().map_err(|error| error.to_string())?.port())
    }

    /// Listens until something has been found in what is heard; when that was.
    ///
    /// # Errors
    /// When it is not in time.
    pub fn until<T>(&self, what: &str, mut found: impl FnMut(Heard) -> Option<T>) -> Result<(T, Instant), String> {
        let deadline = Instant::now() + PATIENCE;
        while let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            if let Ok(heard) = self.next(left)
                && let Some(found) = found(heard)
            {
                return Ok((found, Instant::now()));
            }
        }
        Err(format!("not within {PATIENCE:?}: {what}"))
    }

    /// Listens for so long, and remembers the numbers of those who work.
    pub fn listen(&self, time: Duration, known: &mut Vec<u64>) {
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            if let Ok(heard) = self.next(left)
                && !known.contains(&heard.number)
            {
                known.push(heard.number);
            }
        }
    }

    fn next(&self, patience: Duration) -> Result<Heard, String> {
        let mut bytes = [0; 16];
        self.0.set_read_timeout(Some(patience)).map_err(|error| error.to_string())?;
        self.0.recv(&mut bytes).map_err(|error| error.to_string())?;
        let part = |at: usize| u64::from_le_bytes(std::array::from_fn(|index| bytes[at + index]));
        Ok(Heard { number: part(0), count: part(8) })
    }
}
