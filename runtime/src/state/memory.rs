//! What the keyed state of a process may hold in memory: one budget for all keyed operators of all jobs, so that nobody has
//! to divide it by hand. Whoever holds more than an equal share gives up what is too much.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The budget. Each keyed operator of a subtask holds a [`Share`] of it.
#[derive(Debug)]
pub struct StateMemory {
    limit_bytes: Option<usize>,
    held_bytes: AtomicUsize,
    holders: AtomicUsize,
}

impl StateMemory {
    /// A budget; `None` is no limit.
    #[must_use]
    pub fn new(limit_bytes: Option<usize>) -> Arc<Self> {
        Arc::new(Self { limit_bytes, held_bytes: AtomicUsize::new(0), holders: AtomicUsize::new(0) })
    }

    /// What they may hold together, in bytes; `None` is no limit.
    #[must_use]
    pub fn limit_bytes(&self) -> Option<usize> {
        self.limit_bytes
    }

    /// What all operators together hold, in bytes.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held_bytes.load(Ordering::Relaxed)
    }
}

/// What one operator holds; given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    memory: Arc<StateMemory>,
    held_bytes: usize,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.memory.held_bytes.fetch_sub(self.held_bytes, Ordering::Relaxed);
        self.memory.holders.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Share {
    /// Another operator, which holds nothing yet.
    #[must_use]
    pub fn of(memory: &Arc<StateMemory>) -> Self {
        memory.holders.fetch_add(1, Ordering::Relaxed);
        Self { memory: Arc::clone(memory), held_bytes: 0 }
    }

    /// Whether there is a limit at all.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.memory.limit_bytes.is_some()
    }

    /// What the operator holds now, in bytes.
    pub fn hold(&mut self, bytes: usize) {
        // Wraps where it became less; the sum is right.
        self.memory.held_bytes.fetch_add(bytes.wrapping_sub(self.held_bytes), Ordering::Relaxed);
        self.held_bytes = bytes;
    }

    /// What the operator holds, as it said last.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// How many bytes the operator is to give up: nothing while all together are within the limit.
    #[must_use]
    pub fn excess(&self) -> usize {
        let Some(limit) = self.memory.limit_bytes else { return 0 };
        let over = self.memory.held_bytes().saturating_sub(limit);
        if over == 0 {
            return 0;
        }
        let equal = limit / self.memory.holders.load(Ordering::Relaxed).max(1);
        // A little more than needed, so that not every batch brings the next eviction.
        let mine = self.held_bytes.saturating_sub(equal - equal / 16);
        mine.min(over + equal / 16)
    }

    /// How many bytes all together may still take.
    #[must_use]
    pub fn headroom(&self) -> usize {
        self.memory.limit_bytes.map_or(usize::MAX, |limit| limit.saturating_sub(self.memory.held_bytes()))
    }

    /// The headroom of this operator alone, if all others take as much.
    #[must_use]
    pub fn fair_headroom(&self) -> usize {
        self.headroom() / self.memory.holders.load(Ordering::Relaxed).max(1)
    }

    /// Whether more than so many sixteenths of the limit are held.
    #[must_use]
    pub fn is_above(&self, sixteenths: usize) -> bool {
        self.memory.limit_bytes.is_some_and(|limit| self.memory.held_bytes() > limit / 16 * sixteenths)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_more_than_an_equal_share_gives_up_what_is_too_much() {
        let memory = StateMemory::new(Some(1_600));
        let (mut small, mut large) = (Share::of(&memory), Share::of(&memory));
        small.hold(400);
        large.hold(1_200);
        assert_eq!((small.excess(), large.excess()), (0, 0), "within the limit");
        large.hold(1_400);
        assert_eq!(small.excess(), 0, "holds less than its share");
        assert_eq!(large.excess(), 250, "what is over, and a sixteenth of a share");
        small.hold(1_000);
        assert_eq!(small.excess(), 250, "not more than what is above a share");
        drop(large);
        assert_eq!((memory.held_bytes(), small.excess(), small.headroom()), (1_000, 0, 600));
        drop(small);
        assert_eq!(memory.held_bytes(), 0);
    }

    #[test]
    fn without_a_limit_nothing_is_ever_too_much() {
        let memory = StateMemory::new(None);
        let mut share = Share::of(&memory);
        share.hold(usize::MAX / 2);
        assert_eq!((share.excess(), share.headroom(), share.is_above(0)), (0, usize::MAX, false));
    }
}
