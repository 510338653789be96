//! A keyed function with state and event-time timers against a naive reference; processing-time timers.

use std::collections::BTreeMap;

use super::*;
use crate::harness::{Collected, Harness, TestInput};
use crate::prelude::*;

pub(super) type Record = (u8, i64, u64);
/// Key, time of the timer, values.
pub(super) type Fired = (u8, i64, Vec<u64>);

pub(super) const LATE: OutputTag<Record> = OutputTag::new("late");

/// Holds records back until their time has come; an odd sum fires once more, empty, 7 ms later.
#[derive(Clone)]
pub(super) struct HoldBack {
    held: MapState<u8, i64, Vec<u64>>,
}

impl HoldBack {
    pub(super) fn new() -> Self {
        Self { held: MapState::new("held") }
    }
}

impl KeyedProcessFunction for HoldBack {
    type Key = u8;
    type In = Record;
    type Out = Fired;

    fn states(&mut self, visit: StateVisitor<'_, u8>) {
        visit(&mut self.held);
    }

    fn process(&mut self, record: Record, cx: &mut KeyedContext<'_, u8, Fired>) -> Result<(), PortError> {
        let (_, time, value) = record;
        if time <= cx.watermark() {
            cx.side(&LATE, record);
            return Ok(());
        }
        self.held.get_or_insert_with(cx, time, Vec::new).push(value);
        cx.register_event_time_timer(time);
        Ok(())
    }

    fn on_timer(&mut self, time: Timestamp, cx: &mut KeyedContext<'_, u8, Fired>) -> Result<(), PortError> {
        let values = self.held.remove(cx, &time).unwrap_or_default();
        if values.iter().sum::<u64>() % 2 == 1 {
            cx.register_event_time_timer(time + 7);
        }
        let key = *cx.key();
        cx.emit((key, time, values));
        Ok(())
    }
}

/// All timers that fire, and the late records: records that came before the watermark did, timers of odd sums.
pub(super) fn reference(events: &[Event]) -> (Vec<Fired>, Vec<Record>) {
    let (mut held, mut late) = (BTreeMap::<(u8, i64), Vec<u64>>::new(), Vec::new());
    for (event, watermark) in with_watermarks(events) {
        if let Event::Record { key, time, value } = event {
            if time <= watermark {
                late.push((key, time, value));
            } else {
                held.entry((key, time)).or_default().push(value);
            }
        }
    }
    for (key, time) in
        held.iter().filter(|(_, values)| values.iter().sum::<u64>() % 2 == 1).map(|(k, _)| *k).collect::<Vec<_>>()
    {
        held.entry((key, time + 7)).or_default();
    }
    let fired = held.into_iter().map(|((key, time), values)| (key, time, sorted(values))).collect();
    (fired, sorted(late))
}

pub(super) fn pipeline(env: &Environment) -> (TestInput<Record>, Collected<Fired>, Collected<Record>) {
    let (input, records) = TestInput::<Record>::new(env, "records");
    let fired = records.key_by(|record| record.0).process(HoldBack::new()).uid("hold-back");
    (input, Collected::from(&fired), Collected::from(&fired.side_output(&LATE)))
}

pub(super) fn normal(fired: Vec<Fired>) -> Vec<Fired> {
    sorted(fired.into_iter().map(|(key, time, values)| (key, time, sorted(values))).collect())
}

fn run(events: &[Event], parallelism: u32, options: HarnessOptions) -> (Vec<Fired>, Vec<Record>) {
    let env = environment(parallelism);
    let (input, output, late) = pipeline(&env);
    let mut harness = Harness::with_options(&env, options).unwrap();
    for (event, watermark) in with_watermarks(events) {
        match event {
            Event::Record { key, time, value } => input.push_at((key, time, value), time),
            Event::Watermark(_) => {
                harness.run().unwrap();
                input.watermark(watermark);
                harness.run().unwrap();
            }
        }
    }
    input.end();
    harness.finish().unwrap();
    (normal(output.take()), sorted(late.take()))
}

proptest! {
    #[test]
    fn timers_and_late_records_are_those_of_the_reference(
        events in events(),
        parallelism in 1u32..4,
        seed in 0u64..9,
    ) {
        prop_assert_eq!(run(&events, parallelism, tight(seed)), reference(&events));
    }
}

#[test]
fn timers_of_a_key_fire_in_the_order_of_their_times() {
    let env = environment(1);
    let (input, output, _late) = pipeline(&env);
    let mut harness = Harness::with_options(&env, tight(0)).unwrap();
    for time in [50, 10, 40, 20, 30] {
        input.push_at((1, time, 2), time);
    }
    input.watermark(45);
    harness.run().unwrap();
    assert_eq!(output.take().iter().map(|(_, time, _)| *time).collect::<Vec<_>>(), [10, 20, 30, 40]);
}

/// Registers the timers that a record names, whatever the watermark is.
#[derive(Clone)]
struct Whenever;

impl KeyedProcessFunction for Whenever {
    type Key = u8;
    type In = (u8, Vec<i64>);
    type Out = i64;

    fn states(&mut self, _visit: StateVisitor<'_, u8>) {}

    fn process(&mut self, record: (u8, Vec<i64>), cx: &mut KeyedContext<'_, u8, i64>) -> Result<(), PortError> {
        record.1.into_iter().for_each(|time| cx.register_event_time_timer(time));
        Ok(())
    }

    fn on_timer(&mut self, time: Timestamp, cx: &mut KeyedContext<'_, u8, i64>) -> Result<(), PortError> {
        cx.emit(time);
        Ok(())
    }
}

#[test]
fn a_timer_in_the_past_fires_once_at_the_next_watermark() {
    let env = environment(1);
    let (input, records) = TestInput::<(u8, Vec<i64>)>::new(&env, "records");
    let output = Collected::from(&records.key_by(|record| record.0).process(Whenever).uid("whenever"));
    let mut harness = Harness::with_options(&env, tight(0)).unwrap();
    input.watermark(100);
    harness.run().unwrap();
    input.push((1, vec![30, 10, 30, 101]));
    harness.run().unwrap();
    assert_eq!(output.take(), Vec::<i64>::new(), "no watermark has come since");
    input.watermark(101);
    harness.run().unwrap();
    assert_eq!(output.take(), [10, 30, 101]);
    input.watermark(200);
    harness.run().unwrap();
    assert_eq!(output.take(), Vec::<i64>::new());
}

/// Emits a key when nothing has come for it in a while.
#[derive(Clone)]
struct Silence {
    last: ValueState<u8, i64>,
}

impl KeyedProcessFunction for Silence {
    type Key = u8;
    type In = u8;
    type Out = u8;

    fn states(&mut self, visit: StateVisitor<'_, u8>) {
        visit(&mut self.last);
    }

    fn process(&mut self, _key: u8, cx: &mut KeyedContext<'_, u8, u8>) -> Result<(), PortError> {
        let due = cx.processing_time() + 100;
        if let Some(old) = self.last.get(cx).copied() {
            cx.delete_processing_time_timer(old);
        }
        self.last.set(cx, due);
        cx.register_processing_time_timer(due);
        Ok(())
    }

    fn on_timer(&mut self, _time: Timestamp, cx: &mut KeyedContext<'_, u8, u8>) -> Result<(), PortError> {
        let key = *cx.key();
        cx.emit(key);
        Ok(())
    }
}

#[test]
fn processing_time_timers_fire_by_the_clock_also_after_a_restore() {
    let pipeline = |env: &Environment| {
        let (input, keys) = TestInput::<u8>::new(env, "keys");
        let silent = keys.key_by(|key| *key).process(Silence { last: ValueState::new("last") }).uid("silence");
        (input, Collected::from(&silent))
    };
    let env = environment(2);
    let (input, output) = pipeline(&env);
    let mut harness = Harness::new(&env).unwrap();
    input.push(1);
    input.push(2);
    harness.run().unwrap();
    harness.advance_processing_time(60).unwrap();
    input.push(2);
    harness.run().unwrap();
    harness.advance_processing_time(110).unwrap();
    assert_eq!(output.take(), [1]);
    let snapshot = harness.checkpoint().unwrap();

    let env = environment(3);
    let (_input, output) = pipeline(&env);
    let mut harness = Harness::restore(&env, HarnessOptions::default(), &snapshot).unwrap();
    harness.advance_processing_time(159).unwrap();
    assert_eq!(output.take(), Vec::<u8>::new());
    harness.advance_processing_time(160).unwrap();
    assert_eq!(output.take(), [2]);
}
