//! Measures look-ups in keyed state in CPU time of one thread: key by key, keys of 128 rows first (0), and with those
//! keys looked up ahead:
//! `cargo run --release -p millstream-runtime --example table_speed`.
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use millstream_runtime::state::table::{KeyContext, StateTable};

const ROWS: usize = 1_024;
const GROUPS: u16 = 128;
/// Look up key by key.
const ONE_BY_ONE: usize = 1;

fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn scrambled(number: u64) -> u64 {
    let mixed = (number ^ (number >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// CPU nanoseconds a record: the smallest of several rounds, since others use the caches as well.
fn measure(keys: u64, ahead: usize) -> f64 {
    let mut table: StateTable<(), u64, u64> = StateTable::new(0..GROUPS);
    for key in 0..keys {
        *table.get_or_insert_with(&KeyContext::new(key, GROUPS), &(), || 0) += 1;
    }
    let (mut best, mut number) = (f64::MAX, 0);
    for _ in 0..12 {
        let batches = 2_000;
        let begun = cpu_ns();
        for _ in 0..batches {
            let drawn = |n: u64| ((u128::from(scrambled(n)) * u128::from(keys)) >> 64) as u64;
            let rows: Vec<u64> = (number..number + ROWS as u64).map(drawn).collect();
            number += ROWS as u64;
            let mut contexts = Vec::with_capacity(ROWS);
            if ahead == ONE_BY_ONE {
                for key in rows {
                    *table.get_or_insert_with(&KeyContext::new(key, GROUPS), &(), || 0) += 1;
                }
                continue;
            }
            for rows in rows.chunks(if ahead == 0 { 128 } else { ahead }) {
                contexts.clear();
                contexts.extend(rows.iter().zip(0..).map(|(key, place)| KeyContext::ahead(*key, GROUPS, place)));
                if ahead > 0 {
                    table.look_ahead(&contexts, &());
                }
                for at in &contexts {
                    *table.get_or_insert_with(at, &(), || 0) += 1;
                }
            }
        }
        best = best.min((cpu_ns() - begun) as f64 / (f64::from(batches) * ROWS as f64));
    }
    best
}

fn main() {
    for keys in [1_000, 5_000, 50_000, 500_000, 5_000_000] {
        let [one, batched, ahead] = [ONE_BY_ONE, 0, 128].map(|ahead| measure(keys, ahead));
        println!(
            "{keys:>9} keys, CPU ns a record: {one:.1} key by key, {batched:.1} keys first, {ahead:.1} looked up ahead"
        );
    }
}
