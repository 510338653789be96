//! Credit of one channel, in batches and bytes: a permit travels with each batch and comes back when the batch has been
//! *processed*. This is the bound on ractor's unbounded mailboxes.
//!
//! Invariant: batches queued at or parked by the receiver <= credits + the overdraft of one batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use serde::{Deserialize, Serialize};

use crate::ports::Waker;

/// How much may be in flight on one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreditLimit {
    /// Batches, at least 1 (`taskmanager.network.memory.buffers-per-channel`).
    pub batches: u32,
    /// Bytes of batches, at least 1.
    pub bytes: u64,
}

impl Default for CreditLimit {
    fn default() -> Self {
        Self { batches: 8, bytes: 8 << 20 }
    }
}

/// The sender's side of a channel's credit.
pub struct CreditPool {
    batches: AtomicI64,
    bytes: AtomicI64,
    limit: CreditLimit,
    parked: AtomicBool,
    waker: Waker,
}

impl CreditPool {
    /// A full pool. `waker` wakes the sender when a parked pool has credit again.
    #[must_use]
    pub fn new(limit: CreditLimit, waker: Waker) -> Arc<Self> {
        assert!(limit.batches >= 1 && limit.bytes >= 1);
        Arc::new(Self {
            batches: AtomicI64::new(i64::from(limit.batches)),
            bytes: AtomicI64::new(limit.bytes.cast_signed()),
            limit,
            parked: AtomicBool::new(false),
            waker,
        })
    }

    /// Whether a batch may be sent without overdrawing.
    #[inline]
    #[must_use]
    pub fn has_credit(&self) -> bool {
        self.batches.load(Ordering::Acquire) > 0 && self.bytes.load(Ordering::Acquire) > 0
    }

    /// Takes credit for a batch, overdrawing when there is none: the caller stops at its next cursor.
    #[must_use]
    pub fn take(self: &Arc<Self>, bytes: usize) -> Permit {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX / 2);
        self.batches.fetch_sub(1, Ordering::AcqRel);
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        Permit { origin: Arc::<Self>::clone(self), bytes }
    }

    /// Asks to be woken when there is credit. False when it has come already: go on instead of waiting.
    #[must_use]
    pub fn park(&self) -> bool {
        self.parked.store(true, Ordering::SeqCst);
        // A permit returned between the caller's check and the store would wake nobody: look again.
        if self.has_credit() {
            self.parked.store(false, Ordering::SeqCst);
            return false;
        }
        true
    }

    /// Batches in flight, for `outPoolUsage`.
    #[must_use]
    pub fn in_flight(&self) -> i64 {
        i64::from(self.limit.batches) - self.batches.load(Ordering::Relaxed)
    }
}

impl ReturnCredit for CreditPool {
    fn processed(&self, bytes: i64) {
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        self.batches.fetch_add(1, Ordering::SeqCst);
        if self.parked.load(Ordering::SeqCst) && self.has_credit() && self.parked.swap(false, Ordering::SeqCst) {
            self.waker.wake();
        }
    }
}

/// Where the credit of a batch goes back to: the pool of the sender, or, for a batch that came from another node, the
/// link that tells its sender.
pub trait ReturnCredit: Send + Sync {
    /// A batch for which so many bytes were taken has been processed, or will never be.
    fn processed(&self, bytes: i64);
}

/// Credit taken for one batch; dropping it returns the credit.
pub struct Permit {
    origin: Arc<dyn ReturnCredit>,
    bytes: i64,
}

impl Permit {
    /// The permit of a batch for which no credit was taken: it was in flight when its cut was made.
    #[must_use]
    pub fn without_credit() -> Self {
        Self { origin: Arc::new(Uncounted), bytes: 0 }
    }

    /// The permit of a batch that came from another node.
    #[must_use]
    pub fn received(origin: Arc<dyn ReturnCredit>, bytes: i64) -> Self {
        Self { origin, bytes }
    }
}

/// Takes no credit back.
struct Uncounted;

impl ReturnCredit for Uncounted {
    fn processed(&self, _bytes: i64) {}
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.origin.processed(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn a_parked_sender_is_woken_once_when_credit_returns() {
        let woken = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&woken);
        let waker = Waker::new(move || {
            counter.fetch_add(1, Ordering::SeqCst);
        });
        let pool = CreditPool::new(CreditLimit { batches: 1, bytes: 100 }, waker);
        let first = pool.take(10);
        let overdrawn = pool.take(10);
        assert!(!pool.has_credit() && pool.park());
        drop(first);
        assert_eq!(woken.load(Ordering::SeqCst), 0, "still overdrawn");
        drop(overdrawn);
        assert_eq!(woken.load(Ordering::SeqCst), 1);
        assert!(!pool.park(), "credit is there: no waiting");
    }

    #[test]
    fn bytes_limit_as_well_as_batches() {
        let pool = CreditPool::new(CreditLimit { batches: 8, bytes: 100 }, Waker::new(|| {}));
        let large = pool.take(200);
        assert!(!pool.has_credit());
        drop(large);
        assert!(pool.has_credit());
    }
}
