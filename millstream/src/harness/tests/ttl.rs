//! States with a time to live: what is seen, what a read refreshes, what is cleaned up, over restarts as well.

use super::*;
use crate::harness::{Collected, Harness, Snapshot, TestInput};
use crate::prelude::*;

/// What a record does to the states of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum Act {
    Write(u32),
    Read,
    Clear,
}

pub(super) type Record = (u8, Act);

/// What a key sees: value, list, map, sum, mean.
pub(super) type Seen = (u8, Option<u32>, Vec<u32>, Vec<(u32, u32)>, Option<u32>, Option<u32>);

#[derive(Clone)]
pub(super) struct Fading {
    value: TtlValueState<u8, u32>,
    list: TtlListState<u8, u32>,
    map: TtlMapState<u8, u32, u32>,
    sum: TtlReducingState<u8, u32>,
    mean: TtlAggregatingState<u8, Mean>,
}

impl Fading {
    pub fn new(ttl: StateTtl) -> Self {
        Self {
            value: ValueState::new("value").with_ttl(ttl),
            list: ListState::new("list").with_ttl(ttl),
            map: MapState::new("map").with_ttl(ttl),
            sum: ReducingState::<u8, u32>::new("sum", |sum, n| *sum += n).with_ttl(ttl),
            mean: AggregatingState::new("mean", Mean).with_ttl(ttl),
        }
    }
}

impl KeyedProcessFunction for Fading {
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
        match act {
            Act::Write(n) => {
                self.value.set(cx, n);
                self.list.add(cx, n);
                self.map.put(cx, n, n);
                self.sum.add(cx, n);
                self.mean.add(cx, n);
            }
            Act::Read => {
                let list = self.list.get(cx).copied().collect();
                let map = self.map.entries(cx).map(|(map_key, value)| (*map_key, *value)).collect();
                let seen = (key, self.value.get(cx).copied(), list, map, self.sum.get(cx).copied(), self.mean.get(cx));
                cx.emit(seen);
            }
            Act::Clear => {
                self.value.clear(cx);
                self.list.clear(cx);
                self.map.clear(cx);
                self.sum.clear(cx);
                self.mean.clear(cx);
            }
        }
        Ok(())
    }
}

/// A harness with its ends.
struct Job {
    harness: Harness,
    input: TestInput<Record>,
    output: Collected<Seen>,
}

impl Job {
    fn new(parallelism: u32, ttl: StateTtl, snapshot: Option<&Snapshot>) -> Self {
        let env = environment(parallelism);
        let (input, records) = TestInput::<Record>::new(&env, "records");
        let output = Collected::from(&records.key_by(|record| record.0).process(Fading::new(ttl)).uid("fading"));
        let harness = match snapshot {
            None => Harness::new(&env),
            Some(snapshot) => Harness::restore(&env, HarnessOptions::default(), snapshot),
        };
        Self { harness: harness.unwrap(), input, output }
    }

    fn at(&mut self, now_ms: Timestamp, key: u8, act: Act) -> &mut Self {
        self.harness.advance_processing_time(now_ms).unwrap();
        self.input.push((key, act));
        self.harness.run().unwrap();
        self
    }

    fn write_all(&mut self, now_ms: Timestamp, keys: std::ops::Range<u8>) {
        for key in keys {
            self.at(now_ms, key, Act::Write(1));
        }
    }

    fn read(&mut self, now_ms: Timestamp, key: u8) -> Seen {
        self.at(now_ms, key, Act::Read);
        self.output.take().pop().unwrap()
    }

    fn entries(&mut self) -> usize {
        self.harness.checkpoint().unwrap().keyed_entries("fading")
    }
}

fn nothing(key: u8) -> Seen {
    (key, None, vec![], vec![], None, None)
}

fn ttl() -> StateTtl {
    StateTtl::new(milliseconds(100)).with_cleanup_per_record(0)
}

#[test]
fn what_expired_is_not_returned_and_each_item_and_entry_expires_alone() {
    let mut job = Job::new(2, ttl(), None);
    job.at(0, 1, Act::Write(10)).at(60, 1, Act::Write(20));
    assert_eq!(job.read(99, 1), (1, Some(20), vec![10, 20], vec![(10, 10), (20, 20)], Some(30), Some(15)));
    assert_eq!(job.read(100, 1), (1, Some(20), vec![20], vec![(20, 20)], Some(30), Some(15)));
    assert_eq!(job.read(160, 1), nothing(1));
    // What is added afterwards begins anew.
    job.at(170, 1, Act::Write(5));
    assert_eq!(job.read(170, 1), (1, Some(5), vec![5], vec![(5, 5)], Some(5), Some(5)));
    job.at(171, 1, Act::Clear);
    assert_eq!(job.read(171, 1), nothing(1));
}

#[test]
fn a_read_refreshes_only_when_it_counts_as_use_and_is_part_of_the_next_checkpoint() {
    for (update, lives) in [(UpdateType::OnCreateAndWrite, false), (UpdateType::OnReadAndWrite, true)] {
        let mut job = Job::new(1, ttl().with_update(update), None);
        job.at(0, 1, Act::Write(1));
        job.entries();
        job.read(80, 1);
        let snapshot = job.harness.checkpoint().unwrap();
        let mut job = Job::new(3, ttl().with_update(update), Some(&snapshot));
        let whole = (1, Some(1), vec![1], vec![(1, 1)], Some(1), Some(1));
        assert_eq!(job.read(150, 1), if lives { whole } else { nothing(1) }, "{update:?}");
    }
}

#[test]
fn what_expired_may_be_seen_until_it_is_cleaned_up() {
    let ttl = ttl().with_visibility(StateVisibility::ReturnExpiredIfNotCleanedUp);
    let mut job = Job::new(1, ttl, None);
    job.at(0, 1, Act::Write(1));
    job.entries();
    let whole = (1, Some(1), vec![1], vec![(1, 1)], Some(1), Some(1));
    assert_eq!(job.read(500, 1), whole);
    let snapshot = job.harness.checkpoint().unwrap();
    assert_eq!(job.read(600, 1), whole, "nothing of its key group was in the checkpoint");
    // A restore cleans up, and the next checkpoint says so.
    let mut job = Job::new(1, ttl, Some(&snapshot));
    assert_eq!(job.read(600, 1), nothing(1));
    assert_eq!(job.entries(), 0);
}

#[test]
fn expired_state_is_removed_without_being_read() {
    // By every batch, a few places at a time.
    let mut job = Job::new(1, ttl().with_cleanup_per_record(5), None);
    job.write_all(0, 0..100);
    assert_eq!(job.entries(), 500);
    for _ in 0..200 {
        job.at(150, 200, Act::Write(1));
    }
    job.entries();
    assert_eq!(job.entries(), 5, "only the key that is written is left");
    // By a checkpoint, in the key groups that it encodes.
    let mut job = Job::new(2, ttl(), None);
    job.write_all(0, 0..100);
    job.entries();
    job.write_all(90, 0..100);
    job.write_all(200, 100..200);
    job.entries();
    let left = job.entries();
    assert!(left < 1_000, "{left}");
}

#[test]
fn event_time_grows_with_the_watermark_and_records_count_at_their_own_time() {
    let ttl = ttl().with_time(TtlTime::EventTime);
    let mut job = Job::new(1, ttl, None);
    let mut at = |time: Timestamp, watermark: Timestamp, act: Act| {
        job.input.push_at((1, act), time);
        job.harness.run().unwrap();
        let seen = job.output.take().pop();
        job.input.watermark(watermark);
        // Processing time does not count.
        job.harness.advance_processing_time(watermark * 100).unwrap();
        seen
    };
    at(50, 60, Act::Write(1));
    at(40, 149, Act::Write(2));
    let seen = at(149, 159, Act::Read).unwrap();
    assert_eq!((seen.1, seen.2), (Some(2), vec![1, 2]), "used at 50, and at the watermark 60");
    let seen = at(150, 160, Act::Read).unwrap();
    assert_eq!((seen.1, seen.2), (Some(2), vec![2]));
    assert_eq!(at(150, 161, Act::Read), Some(nothing(1)));
}
