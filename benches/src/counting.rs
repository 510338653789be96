//! Counts records per key, and tells the count at some of them; can be made to fail. For measuring keyed state.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use millstream_runtime::chain::keyed::function::StateVisitor;
use millstream_runtime::chain::keyed::{KeyedContext, KeyedProcessFunction};
use millstream_runtime::ports::PortError;
use millstream_runtime::state::keyed::ValueState;
use serde::{Deserialize, Serialize};

use crate::process::monotonic_ns;
use crate::records::{Record, below, scrambled};

/// The keys of the records, in two splits that share none, so that the records of a key come in order. First every key
/// once, then drawn keys from a part of them that moves on.
#[derive(Clone, Copy, Debug)]
pub struct Keys {
    /// Keys in all.
    pub keys: u64,
    /// Records in all.
    pub count: u64,
    /// Keys drawn from at a time.
    pub hot: u64,
    /// Records until the next keys are drawn from.
    pub hot_records: u64,
    /// Draws by Zipf's law (the n-th key n times as rarely as the first) instead of evenly.
    pub skewed: bool,
}

impl Keys {
    /// The record with this number.
    #[inline]
    #[must_use]
    pub fn record(self, id: u64) -> Record {
        let half = self.count / 2;
        let (split, local) = if id < half { (0, id) } else { (1, id - half) };
        let (keys, hot) = (self.keys / 2, self.hot / 2);
        let key = if local < keys {
            local
        } else {
            let drawn = local - keys;
            // The part moves on by its own size.
            let first = drawn / (self.hot_records / 2) * hot;
            (first + self.draw(scrambled(drawn), hot)) % keys
        };
        Record { id, key: key * 2 + split, value: local, emitted_ns: 0 }
    }

    #[inline]
    fn draw(self, random: u64, hot: u64) -> u64 {
        if !self.skewed {
            return below(random, hot);
        }
        // The logarithm of the rank is even.
        let even = (random >> 11) as f64 / (1u64 << 53) as f64;
        ((hot as f64).powf(even) as u64).min(hot) - 1
    }

    /// Whether the count at a record is told: one of 1,024, after every key has come once.
    #[inline]
    #[must_use]
    pub fn is_probe(self, record: &Record) -> bool {
        record.value >= self.keys / 2 && scrambled(record.value ^ 0x5eed).is_multiple_of(1_024)
    }

    /// Whether all counts are what one thread counts without the engine.
    #[must_use]
    pub fn check(self, counts: &mut [Count]) -> bool {
        counts.sort_unstable_by_key(|count| count.id);
        let mut counts = counts.iter().peekable();
        let mut by_key = vec![0u32; self.keys as usize];
        for record in (0..self.count).map(|id| self.record(id)) {
            let counted = &mut by_key[record.key as usize];
            *counted += 1;
            while let Some(count) = counts.next_if(|count| count.id == record.id) {
                if (count.key, count.count) != (record.key, u64::from(*counted)) {
                    return false;
                }
            }
        }
        counts.next().is_none()
    }
}

/// The count of a key at one record.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Count {
    /// The record.
    pub id: u64,
    /// Its key.
    pub key: u64,
    /// Records of the key up to this one.
    pub count: u64,
}

/// Fails a subtask once, when told.
#[derive(Default)]
pub struct Failure {
    wanted: AtomicBool,
    at_ns: AtomicU64,
}

impl Failure {
    /// The next record fails its subtask.
    pub fn want(&self) {
        self.wanted.store(true, Ordering::Relaxed);
    }

    /// When it failed; 0 before.
    #[must_use]
    pub fn at_ns(&self) -> u64 {
        self.at_ns.load(Ordering::SeqCst)
    }

    #[cold]
    fn fail(&self) -> Result<(), PortError> {
        if self.wanted.swap(false, Ordering::SeqCst) {
            self.at_ns.store(monotonic_ns(), Ordering::SeqCst);
            return Err(PortError::retry("the benchmark asked for a failure"));
        }
        Ok(())
    }
}

/// The function.
#[derive(Clone)]
pub struct CountByKey {
    keys: Keys,
    failure: Arc<Failure>,
    counts: ValueState<u64, u64>,
}

impl CountByKey {
    /// Counts the records of `keys`.
    #[must_use]
    pub fn new(keys: Keys, failure: Arc<Failure>) -> Self {
        Self { keys, failure, counts: ValueState::new("counts") }
    }
}

impl KeyedProcessFunction for CountByKey {
    type Key = u64;
    type In = Record;
    type Out = Count;

    fn states(&mut self, visit: StateVisitor<'_, u64>) {
        visit(&mut self.counts);
    }

    #[inline]
    fn process(&mut self, record: Record, cx: &mut KeyedContext<'_, u64, Count>) -> Result<(), PortError> {
        if self.failure.wanted.load(Ordering::Relaxed) {
            self.failure.fail()?;
        }
        let count = self.counts.get_or_insert_with(cx, || 0);
        *count += 1;
        if self.keys.is_probe(&record) {
            let count = *count;
            cx.emit(Count { id: record.id, key: record.key, count });
        }
        Ok(())
    }
}
