//! Map, filter, flat map, union, side outputs, timestamps, sinks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::harness::{Collected, Harness, TestInput};
use crate::prelude::*;

#[test]
fn records_are_mapped_filtered_and_flattened_in_order() {
    let env = environment(1);
    let (input, numbers) = TestInput::<u64>::new(&env, "numbers");
    let seen = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&seen);
    let stream = numbers
        .map(|n| n * 10)
        .filter(|n| n % 20 == 0)
        .flat_map(|n, out| out.extend([n, n + 1]))
        .inspect(move |_| {
            counter.fetch_add(1, Ordering::SeqCst);
        })
        .map(|n| n.to_string());
    let output = Collected::from(&stream);
    let mut harness = Harness::new(&env).unwrap();
    for n in 0..5 {
        input.push_at(n, 100 + i64::try_from(n).unwrap());
    }
    harness.run().unwrap();
    let expected: Vec<_> = [(0, 100), (1, 100), (20, 102), (21, 102), (40, 104), (41, 104)]
        .map(|(n, time): (u64, i64)| (n.to_string(), Some(time)))
        .into();
    assert_eq!(output.take_timed(), expected);
    assert_eq!(seen.load(Ordering::SeqCst), 6);
}

#[test]
fn a_stream_used_twice_gives_everything_to_both() {
    let env = environment(2);
    let (input, numbers) = TestInput::<u64>::new(&env, "numbers");
    let (double, triple) = (Collected::from(&numbers.map(|n| n * 2)), Collected::from(&numbers.map(|n| n * 3)));
    let mut harness = Harness::new(&env).unwrap();
    (0..10).for_each(|n| input.push(n));
    harness.run().unwrap();
    assert_eq!(sorted(double.take()), (0..10).map(|n| n * 2).collect::<Vec<_>>());
    assert_eq!(sorted(triple.take()), (0..10).map(|n| n * 3).collect::<Vec<_>>());
}

#[test]
fn a_union_has_the_records_of_all_and_the_smallest_watermark() {
    let env = environment(1);
    let (left, left_stream) = TestInput::<u64>::new(&env, "left");
    let (right, right_stream) = TestInput::<u64>::new(&env, "right");
    let output = Collected::from(&left_stream.union(&right_stream).union(&left_stream).map(|n| n + 1));
    let mut harness = Harness::new(&env).unwrap();
    left.push(1);
    right.push(2);
    left.watermark(10);
    harness.run().unwrap();
    assert_eq!(sorted(output.take()), [2, 2, 3]);
    assert_eq!(output.watermark(), MIN_TIMESTAMP);
    right.watermark(7);
    harness.run().unwrap();
    assert_eq!(output.watermark(), 7);
    right.idle(true);
    harness.run().unwrap();
    assert_eq!(output.watermark(), 10);
}

const ODD: OutputTag<String> = OutputTag::new("odd");

/// Odd numbers go aside; the sum of all is emitted at the end.
#[derive(Clone)]
struct Split {
    sum: OperatorListState<u64>,
}

impl ProcessFunction for Split {
    type In = u64;
    type Out = u64;

    fn operator_states(&mut self, visit: &mut dyn FnMut(&mut dyn OperatorStateSlot)) {
        visit(&mut self.sum);
    }

    fn process(&mut self, value: u64, cx: &mut ProcessContext<'_, u64>) -> Result<(), PortError> {
        self.sum.items = vec![self.sum.items.iter().sum::<u64>() + value];
        if value % 2 == 1 {
            cx.side(&ODD, value.to_string());
        } else {
            cx.emit(value);
        }
        Ok(())
    }

    fn end_of_input(&mut self, cx: &mut ProcessContext<'_, u64>) -> Result<(), PortError> {
        cx.emit(1_000 + self.sum.items.iter().sum::<u64>());
        Ok(())
    }
}

fn split_pipeline(env: &Environment) -> (TestInput<u64>, Collected<u64>, Collected<String>) {
    let (input, numbers) = TestInput::<u64>::new(env, "numbers");
    let even = numbers.process(Split { sum: OperatorListState::split("sum") }).uid("split").set_parallelism(1);
    (input, Collected::from(&even), Collected::from(&even.side_output(&ODD)))
}

#[test]
fn side_outputs_and_operator_state_survive_a_restore() {
    let env = environment(1);
    let (input, even, odd) = split_pipeline(&env);
    let mut harness = Harness::new(&env).unwrap();
    (1..=4).for_each(|n| input.push(n));
    harness.run().unwrap();
    let snapshot = harness.checkpoint().unwrap();
    assert_eq!((even.take(), odd.take()), (vec![2, 4], vec!["1".to_string(), "3".to_string()]));
    assert_eq!(snapshot.operators(), ["split"]);

    let env = environment(3);
    let (input, even, odd) = split_pipeline(&env);
    let mut harness = Harness::restore(&env, HarnessOptions::default(), &snapshot).unwrap();
    input.push(5);
    input.end();
    harness.finish().unwrap();
    assert_eq!((even.take(), odd.take()), (vec![1_015], vec!["5".to_string()]));
}

#[test]
fn timestamps_assigned_behind_a_source_are_kept_per_split() {
    let env = environment(1);
    let stream = env
        .from_source("times", from_collection_with_splits(vec![1i64, 2, 3, 100, 101, 102], 2))
        .assign_watermarks(Watermarks::monotonous(), |time| *time);
    let output = Collected::from(&stream);
    assert_eq!(env.recorder().clone().take_graph().nodes.len(), 2, "the source itself assigns them");
    drop(output);

    let env = environment(1);
    let (input, times) = TestInput::<i64>::new(&env, "times");
    let output =
        Collected::from(&times.assign_watermarks(Watermarks::bounded_out_of_orderness(milliseconds(5)), |time| *time));
    let mut harness = Harness::new(&env).unwrap();
    input.push(20);
    input.push(10);
    input.watermark(1_000);
    harness.run().unwrap();
    assert_eq!(output.take_timed(), [(20, Some(20)), (10, Some(10))]);
    assert_eq!(output.watermark(), 14, "the input's own watermark no longer counts");
}

#[test]
fn a_file_sink_shows_rows_only_when_their_checkpoint_is_complete() {
    let folder = tempfile::tempdir().unwrap();
    let env = environment(2);
    let (input, numbers) = TestInput::<u64>::new(&env, "numbers");
    numbers.rebalance().sink_to("numbers-out", FileSink::json_lines(folder.path())).uid("files");
    let mut harness = Harness::new(&env).unwrap();
    let visible = || {
        let files = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let shown = files.filter(|path| !path.file_name().unwrap().to_string_lossy().starts_with('.'));
        let mut lines: Vec<u64> = shown
            .flat_map(|path| {
                std::fs::read_to_string(path).unwrap().lines().map(|n| n.parse().unwrap()).collect::<Vec<_>>()
            })
            .collect();
        lines.sort_unstable();
        lines
    };
    (0..10).for_each(|n| input.push(n));
    harness.run().unwrap();
    harness.savepoint().unwrap();
    assert_eq!(visible(), Vec::<u64>::new(), "a savepoint never commits");
    harness.checkpoint().unwrap();
    assert_eq!(visible(), (0..10).collect::<Vec<_>>());
    input.push(10);
    input.end();
    harness.finish().unwrap();
    assert_eq!(visible(), (0..=10).collect::<Vec<_>>());
}
