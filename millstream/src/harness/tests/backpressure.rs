//! A blocked output stops operators at a cursor; nothing is lost, doubled or reordered when it goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::harness::{Collected, Harness, TestInput};
use crate::prelude::*;

#[test]
fn a_blocked_flat_map_goes_on_where_it_stopped() {
    let env = environment(1);
    let (input, numbers) = TestInput::<u64>::new(&env, "numbers");
    let called = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&called);
    let many = numbers.flat_map(move |n, out| {
        counter.fetch_add(1, Ordering::SeqCst);
        out.extend((0..5).map(|i| n * 5 + i));
    });
    let output = Collected::from(&many.map(|n| n).start_new_chain().uid("slow"));
    let mut harness = Harness::with_options(&env, tight(0)).unwrap();
    harness.pause("slow");
    (0..100).for_each(|n| input.push(n));
    harness.run().unwrap();
    assert_eq!(output.take(), Vec::<u64>::new());
    let calls = called.load(Ordering::SeqCst);
    assert!((1..=4).contains(&calls), "one credit of two rows holds {calls} calls of five");
    harness.unpause("slow");
    harness.run().unwrap();
    assert_eq!(output.take(), (0..500).collect::<Vec<_>>());
    assert_eq!(called.load(Ordering::SeqCst), 100);
}

#[test]
fn a_watermark_half_fired_goes_on_and_comes_after_the_last_window() {
    let env = environment(1);
    let (input, numbers) = TestInput::<u64>::new(&env, "numbers");
    let windows = numbers.key_by(|n| n % 50).window(Tumbling::event_time(seconds(1))).reduce(|sum, n| *sum += n);
    let output = Collected::from(&windows.map(|n| n).start_new_chain().uid("slow"));
    let mut harness = Harness::with_options(&env, tight(0)).unwrap();
    (0..100).for_each(|n| input.push_at(n, 500));
    harness.run().unwrap();
    harness.pause("slow");
    input.watermark(2_000);
    input.push_at(7, 2_500);
    harness.run().unwrap();
    assert_eq!((output.take(), output.watermark()), (Vec::new(), MIN_TIMESTAMP));
    harness.unpause("slow");
    harness.run().unwrap();
    assert_eq!(sorted(output.take()), (0..50).map(|n| 2 * n + 50).collect::<Vec<_>>());
    assert_eq!(output.watermark(), 2_000);
    input.end();
    harness.finish().unwrap();
    assert_eq!(output.take(), [7]);
}

#[test]
fn a_barrier_behind_a_blocked_chain_takes_everything_before_it() {
    let pipeline = |env: &Environment| {
        let (input, numbers) = TestInput::<u64>::new(env, "numbers");
        let totals = numbers.flat_map(|n, out| out.extend([n; 9])).key_by(|n| *n).reduce(|sum, n| *sum += n);
        (input, Collected::from(&totals.uid("totals")))
    };
    let env = environment(2);
    let (input, output) = pipeline(&env);
    let mut harness = Harness::with_options(&env, tight(5)).unwrap();
    (0..20).for_each(|n| input.push(n));
    harness.run().unwrap();
    let snapshot = harness.checkpoint().unwrap();
    assert_eq!(output.take().len(), 180);
    assert_eq!(snapshot.keyed_entries("totals"), 20);
    let env = environment(1);
    let (input, output) = pipeline(&env);
    let mut harness = Harness::restore(&env, tight(2), &snapshot).unwrap();
    input.push(7);
    harness.run().unwrap();
    assert_eq!(output.take().last(), Some(&(7 * 18)));
}
