//! A time to live that is given to a stored state, taken from it or changed, for every kind of state.

use super::ttl::{Act, Fading, Record, Seen};
use super::*;
use crate::harness::{Collected, Harness, Snapshot, TestInput};
use crate::prelude::*;

/// The states of [`Fading`] without a time to live.
#[derive(Clone)]
struct Lasting {
    value: ValueState<u8, u32>,
    list: ListState<u8, u32>,
    map: MapState<u8, u32, u32>,
    sum: ReducingState<u8, u32>,
    mean: AggregatingState<u8, Mean>,
}

impl Lasting {
    fn new() -> Self {
        Self {
            value: ValueState::new("value"),
            list: ListState::new("list"),
            map: MapState::new("map"),
            sum: ReducingState::new("sum", |sum, n| *sum += n),
            mean: AggregatingState::new("mean", Mean),
        }
    }
}

impl KeyedProcessFunction for Lasting {
    type Key = u8;
    type In = Record;
    type Out = Seen;

    fn states(&mut self, visit: StateVisitor<'_, u8>) {
        visit(&mut self.value);
        visit(&mut self.list);
        visit(&mut self.map);
        visit(&mut self.sum);
        visit(&mut self.mean);
    }

    fn process(&mut self, (key, act): Record, cx: &mut KeyedContext<'_, u8, Seen>) -> Result<(), PortError> {
        if let Act::Write(n) = act {
            self.value.set(cx, n);
            self.list.add(cx, n);
            self.map.put(cx, n, n);
            self.sum.add(cx, n);
            self.mean.add(cx, n);
            return Ok(());
        }
        assert_eq!(act, Act::Read);
        let map = self.map.entries(cx).map(|(map_key, value)| (*map_key, *value)).collect();
        let (value, list) = (self.value.get(cx).copied(), self.list.get(cx).to_vec());
        cx.emit((key, value, list, map, self.sum.get(cx).copied(), self.mean.get(cx)));
        Ok(())
    }
}

struct Job {
    harness: Harness,
    input: TestInput<Record>,
    output: Collected<Seen>,
}

impl Job {
    fn new<F>(function: F, parallelism: u32, snapshot: Option<&Snapshot>) -> Self
    where
        F: KeyedProcessFunction<Key = u8, In = Record, Out = Seen>,
    {
        let env = environment(parallelism);
        let (input, records) = TestInput::<Record>::new(&env, "records");
        let output = Collected::from(&records.key_by(|record| record.0).process(function).uid("states"));
        let harness = match snapshot {
            None => Harness::new(&env),
            Some(snapshot) => Harness::restore(&env, HarnessOptions::default(), snapshot),
        };
        Self { harness: harness.unwrap(), input, output }
    }

    /// A record at a time, of day and of the event.
    fn at(&mut self, now: Timestamp, key: u8, act: Act) -> &mut Self {
        self.harness.advance_processing_time(now).unwrap();
        self.input.watermark(now);
        self.harness.run().unwrap();
        self.input.push_at((key, act), now);
        self.harness.run().unwrap();
        self
    }

    /// Records of each of these keys, at their times.
    fn at_all(&mut self, keys: std::ops::Range<u8>, records: &[(Timestamp, u32)]) {
        for (key, (now, n)) in keys.flat_map(|key| records.iter().map(move |record| (key, *record))) {
            self.at(now, key, Act::Write(n));
        }
    }

    fn read(&mut self, now: Timestamp, key: u8) -> Seen {
        self.at(now, key, Act::Read);
        self.output.take().pop().unwrap()
    }

    fn checkpoint(&mut self) -> Snapshot {
        self.harness.checkpoint().unwrap()
    }
}

/// What the key sees that was written these numbers.
fn all(key: u8, numbers: &[u32]) -> Seen {
    let Some(last) = numbers.last() else { return (key, None, Vec::new(), Vec::new(), None, None) };
    let sum: u32 = numbers.iter().sum();
    let map = numbers.iter().map(|n| (*n, *n)).collect();
    (key, Some(*last), numbers.to_vec(), map, Some(sum), Some(sum / numbers.len() as u32))
}

fn clocks() -> [StateTtl; 2] {
    let ttl = StateTtl::new(milliseconds(100));
    [ttl, ttl.with_time(TtlTime::EventTime)]
}

#[test]
fn entries_that_get_a_time_to_live_count_as_used_when_they_are_restored() {
    for (ttl, parallelism) in clocks().into_iter().zip([1, 3]) {
        let mut before = Job::new(Lasting::new(), 2, None);
        before.at_all(0..20, &[(10, 4), (20, 6)]);
        // So late that entries of their own time would have expired.
        before.at(1_001, 200, Act::Write(1));
        let snapshot = before.checkpoint();
        let mut job = Job::new(Fading::new(ttl), parallelism, Some(&snapshot));
        for key in 0..20 {
            assert_eq!(job.read(1_090, key), all(key, &[4, 6]), "{ttl:?} {key}");
        }
        // What is written now lives on, item by item and entry by entry.
        job.at(1_095, 3, Act::Write(5));
        let (_, value, list, map, ..) = job.read(1_150, 3);
        assert_eq!((value, list, map), (Some(5), vec![5], vec![(5, 5)]), "{ttl:?}");
        assert_eq!(job.read(1_151, 7), all(7, &[]), "{ttl:?}");
    }
}

#[test]
fn entries_whose_time_to_live_is_taken_away_live_for_ever() {
    for (ttl, parallelism) in clocks().into_iter().zip([1, 3]) {
        let mut before = Job::new(Fading::new(ttl), 2, None);
        before.at_all(0..20, &[(10, 4), (20, 6)]);
        let snapshot = before.checkpoint();
        let mut job = Job::new(Lasting::new(), parallelism, Some(&snapshot));
        for key in 0..20 {
            assert_eq!(job.read(1_000_000, key), all(key, &[4, 6]), "{ttl:?} {key}");
        }
        // And back again: they begin to grow old once more.
        let snapshot = job.checkpoint();
        let mut job = Job::new(Fading::new(ttl), parallelism, Some(&snapshot));
        assert_eq!(job.read(1_000_050, 5), all(5, &[4, 6]), "{ttl:?}");
        assert_eq!(job.read(1_000_200, 5), all(5, &[]), "{ttl:?}");
    }
}

#[test]
fn another_length_holds_for_what_is_stored_and_another_clock_begins_anew() {
    let [by_day, by_event] = clocks();
    let longer = StateTtl::new(milliseconds(1_000));
    let mut before = Job::new(Fading::new(by_day), 2, None);
    before.at(10, 3, Act::Write(4));
    let snapshot = before.checkpoint();
    assert_eq!(Job::new(Fading::new(longer), 1, Some(&snapshot)).read(900, 3), all(3, &[4]));
    assert_eq!(Job::new(Fading::new(longer), 1, Some(&snapshot)).read(1_100, 3), all(3, &[]), "it was used at 10");
    before.at(600, 4, Act::Write(7));
    let snapshot = before.checkpoint();
    let mut other_clock = Job::new(Fading::new(by_event), 1, Some(&snapshot));
    assert_eq!(other_clock.read(699, 4), all(4, &[7]));
    assert_eq!(other_clock.read(701, 4), all(4, &[]));
}
