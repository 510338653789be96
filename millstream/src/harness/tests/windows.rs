//! Tumbling windows against a naive reference, late records included.

use std::collections::BTreeMap;

use super::*;
use crate::harness::{Collected, Harness, TestInput};
use crate::prelude::*;

type Record = (u8, i64, u64);
/// Key, end of the window, sum, count.
type Sum = (u8, i64, u64, u64);

const LATE: OutputTag<Record> = OutputTag::new("late");

#[derive(Clone)]
pub(super) struct SumPerWindow;

impl Aggregate for SumPerWindow {
    type In = Record;
    type Accumulator = (u8, u64, u64);
    type Out = Sum;

    fn create(&self) -> Self::Accumulator {
        (0, 0, 0)
    }

    fn add(&self, sum: &mut Self::Accumulator, (key, _, value): Record) {
        *sum = (key, sum.1 + value, sum.2 + 1);
    }

    fn result(&self, (key, sum, count): Self::Accumulator, window: Window) -> Sum {
        (key, window.end, sum, count)
    }
}

/// Windows of 10 shifted by 3, as one would with a sheet of paper.
fn reference(events: &[Event]) -> (Vec<Sum>, Vec<Record>) {
    let end = |time: i64| (time - 3).div_euclid(10) * 10 + 13;
    let (mut open, mut late) = (BTreeMap::<(u8, i64), (u64, u64)>::new(), Vec::new());
    for (event, watermark) in with_watermarks(events) {
        if let Event::Record { key, time, value } = event {
            if end(time) - 1 <= watermark {
                late.push((key, time, value));
            } else {
                let sum = open.entry((key, end(time))).or_default();
                *sum = (sum.0 + value, sum.1 + 1);
            }
        }
    }
    let sums = open.into_iter().map(|((key, end), (sum, count))| (key, end, sum, count)).collect();
    (sums, sorted(late))
}

fn run(events: &[Event], parallelism: u32, options: HarnessOptions) -> (Vec<Sum>, Vec<Record>) {
    let env = environment(parallelism);
    let (input, records) = TestInput::<Record>::new(&env, "records");
    let sums = records
        .key_by(|record| record.0)
        .window(Tumbling::event_time(milliseconds(10)).with_offset(milliseconds(3)))
        .side_output_late_data(&LATE)
        .aggregate(SumPerWindow);
    let (output, late) = (Collected::from(&sums), Collected::from(&sums.side_output(&LATE)));
    let mut harness = Harness::with_options(&env, options).unwrap();
    let mut results = Vec::new();
    for (event, watermark) in with_watermarks(events) {
        match event {
            Event::Record { key, time, value } => input.push_at((key, time, value), time),
            Event::Watermark(_) => {
                harness.run().unwrap();
                input.watermark(watermark);
                harness.run().unwrap();
                let fired = output.take_timed();
                assert!(fired.iter().all(|((_, end, ..), time)| *time == Some(end - 1) && end - 1 <= watermark));
                results.extend(fired.into_iter().map(|(sum, _)| sum));
            }
        }
    }
    input.end();
    harness.finish().unwrap();
    results.extend(output.take());
    (sorted(results), sorted(late.take()))
}

proptest! {
    #[test]
    fn windows_and_late_records_are_those_of_the_reference(
        events in events(),
        parallelism in 1u32..4,
        seed in 0u64..9,
    ) {
        prop_assert_eq!(run(&events, parallelism, tight(seed)), reference(&events));
    }
}

#[test]
fn late_records_without_a_side_output_are_counted() {
    let env = environment(1);
    let (input, records) = TestInput::<(u8, u64)>::new(&env, "records");
    let windows = records.key_by(|record| record.0).window(Tumbling::event_time(seconds(1)));
    let output = Collected::from(&windows.reduce(|sum, record| sum.1 += record.1));
    let mut harness = Harness::new(&env).unwrap();
    [(1, 5), (1, 6), (2, 7)].into_iter().for_each(|record| input.push_at(record, 400));
    input.watermark(999);
    harness.run().unwrap();
    input.push_at((1, 100), 999);
    harness.run().unwrap();
    assert_eq!(sorted(output.take()), [(1, 11), (2, 7)]);
    assert_eq!(harness.late_records_dropped(), 1);
}

#[test]
fn an_untimed_record_in_an_event_time_window_says_what_is_missing() {
    let env = environment(1);
    let (input, records) = TestInput::<(u8, u64)>::new(&env, "records");
    let windows = records.key_by(|record| record.0).window(Tumbling::event_time(seconds(1)));
    let _output = Collected::from(&windows.reduce(|sum, record| sum.1 += record.1));
    let mut harness = Harness::new(&env).unwrap();
    input.push((1, 1));
    assert!(harness.run().unwrap_err().to_string().contains("assign_watermarks"));
}

/// Adds up by key and window, keeping a time within the window.
fn summed(records: &DataStream<Record>, size: Span) -> DataStream<Record> {
    let windows = records.key_by(|record| record.0).window(Tumbling::event_time(size));
    windows.reduce(|sum, (_, _, value)| sum.2 += value)
}

#[test]
fn windows_of_reduced_windows_give_what_one_window_does() {
    let env = environment(2);
    let (input, records) = TestInput::<Record>::new(&env, "records");
    let small = summed(&records, milliseconds(10)).uid("small");
    let staged = Collected::from(&summed(&small, milliseconds(100)).uid("staged"));
    let direct = Collected::from(&summed(&records, milliseconds(100)).uid("direct"));
    let small = Collected::from(&small);
    let mut harness = Harness::with_options(&env, tight(3)).unwrap();
    for n in 0..400u64 {
        let time = i64::try_from(n).unwrap() * 7 % 1_000;
        input.push_at((u8::try_from(n % 3).unwrap(), time, n), time);
    }
    input.end();
    harness.finish().unwrap();
    for (record, timestamp) in small.take_timed() {
        assert_eq!(timestamp, Some(record.1.div_euclid(10) * 10 + 9), "a result has the last time of its window");
    }
    let normal = |rows: Vec<Record>| sorted(rows.into_iter().map(|(key, time, sum)| (key, time / 100, sum)).collect());
    let (staged, direct) = (normal(staged.take()), normal(direct.take()));
    assert_eq!(staged, direct);
    let mut sums = BTreeMap::<(u8, i64), u64>::new();
    (0..400u64).for_each(|n| *sums.entry(((n % 3) as u8, (n * 7 % 1_000 / 100) as i64)).or_default() += n);
    assert!(direct.into_iter().map(|(key, window, sum)| ((key, window), sum)).eq(sums));
}
