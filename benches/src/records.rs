//! The record of the benchmarks: four numbers, as in the measurements that the design stands on.

use serde::{Deserialize, Serialize};

/// 4 x u64.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Its number.
    pub id: u64,
    /// What it is summed by.
    pub key: u64,
    /// What is summed.
    pub value: u64,
    /// When it was made, on the monotonic clock; 0 where nobody asks.
    pub emitted_ns: u64,
}

/// A number that looks drawn at random and depends on `number` only.
#[inline]
#[must_use]
pub fn scrambled(number: u64) -> u64 {
    let mixed = (number ^ (number >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// A number below `below`, spread evenly.
#[inline]
#[must_use]
pub fn below(scrambled: u64, below: u64) -> u64 {
    ((u128::from(scrambled) * u128::from(below)) >> 64) as u64
}

impl Record {
    /// Record `id` over `keys` keys.
    #[inline]
    #[must_use]
    pub fn new(id: u64, keys: u64) -> Self {
        let drawn = scrambled(id);
        Self { id, key: below(drawn, keys), value: drawn & 0xffff, emitted_ns: 0 }
    }
}
