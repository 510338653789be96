//! A job whose state may take next to no memory says what the same job without a limit says: all kinds of keyed state, with and
//! without a time to live, timers and windows, through checkpoints, savepoints and restores at other parallelisms.

use super::*;
use crate::harness::{Collected, Harness, Snapshot, TestInput};
use crate::prelude::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
enum Act {
    Write(u8),
    /// Takes something away.
    Remove(u8),
    Clear,
    Look,
    /// A timer that looks, so much later.
    Timer(u8),
}

type Record = (u16, Act);

/// What a look at a key sees: the values, then those with a time to live.
type Seen = (u16, Vec<String>);

#[derive(Clone)]
struct Everything {
    value: ValueState<u16, u32>,
    text: ValueState<u16, String>,
    list: ListState<u16, u32>,
    map: MapState<u16, u8, u32>,
    sum: ReducingState<u16, u32>,
    mean: AggregatingState<u16, Mean>,
    fading_value: TtlValueState<u16, u32>,
    fading_list: TtlListState<u16, u32>,
    fading_map: TtlMapState<u16, u8, u32>,
}

impl Everything {
    fn new() -> Self {
        let ttl = StateTtl::new(milliseconds(40)).with_update(UpdateType::OnReadAndWrite);
        Self {
            value: ValueState::new("value"),
            text: ValueState::new("text"),
            list: ListState::new("list"),
            map: MapState::new("map"),
            sum: ReducingState::new("sum", |sum, n| *sum += n),
            mean: AggregatingState::new("mean", Mean),
            fading_value: ValueState::new("fading value").with_ttl(ttl),
            fading_list: ListState::new("fading list").with_ttl(ttl),
            fading_map: MapState::new("fading map").with_ttl(ttl),
        }
    }

    fn look(&mut self, cx: &mut KeyedContext<'_, u16, Seen>) {
        let seen = vec![
            format!("{:?} {:?}", self.value.get(cx), self.text.get(cx)),
            format!("{:?} {:?}", self.list.get(cx), self.map.entries(cx).collect::<Vec<_>>()),
            format!("{:?} {:?}", self.sum.get(cx), self.mean.get(cx)),
            format!("{:?} {:?}", self.fading_value.get(cx).copied(), self.fading_list.get(cx).collect::<Vec<_>>()),
            format!("{:?}", self.fading_map.entries(cx).collect::<Vec<_>>()),
        ];
        cx.emit((*cx.key(), seen));
    }
}

impl KeyedProcessFunction for Everything {
    type Key = u16;
    type In = Record;
    type Out = Seen;

    fn states(&mut self, visit: StateVisitor<'_, u16>) {
        visit(&mut self.value);
        visit(&mut self.text);
        visit(&mut self.list);
        visit(&mut self.map);
        visit(&mut self.sum);
        visit(&mut self.mean);
        visit(&mut self.fading_value);
        visit(&mut self.fading_list);
        visit(&mut self.fading_map);
    }

    fn process(&mut self, (_, act): Record, cx: &mut KeyedContext<'_, u16, Seen>) -> Result<(), PortError> {
        match act {
            Act::Write(n) => {
                let number = u32::from(n);
                *self.value.get_or_insert_with(cx, || 0) += number;
                self.text.set(cx, format!("a longer text about {n}"));
                self.list.add(cx, number);
                self.map.put(cx, n % 4, number);
                self.sum.add(cx, number);
                self.mean.add(cx, number);
                self.fading_value.set(cx, number);
                self.fading_list.add(cx, number);
                self.fading_map.put(cx, n % 4, number);
            }
            Act::Remove(n) => {
                self.value.clear(cx);
                self.map.remove(cx, &(n % 4));
                self.fading_map.remove(cx, &(n % 4));
                let kept = self.list.clear(cx);
                self.list.update(cx, kept.into_iter().filter(|item| *item != u32::from(n)).collect());
            }
            Act::Clear => {
                self.value.clear(cx);
                self.text.clear(cx);
                self.list.clear(cx);
                self.map.clear(cx);
                self.sum.clear(cx);
                self.mean.clear(cx);
                self.fading_value.clear(cx);
                self.fading_list.clear(cx);
                self.fading_map.clear(cx);
            }
            Act::Look => self.look(cx),
            Act::Timer(later) => {
                cx.register_event_time_timer(cx.timestamp().unwrap_or_default() + i64::from(later));
                cx.register_processing_time_timer(cx.processing_time() + i64::from(later));
            }
        }
        Ok(())
    }

    fn on_timer(&mut self, _time: Timestamp, cx: &mut KeyedContext<'_, u16, Seen>) -> Result<(), PortError> {
        self.look(cx);
        Ok(())
    }
}

#[derive(Clone)]
struct Sum;

impl Aggregate for Sum {
    type In = Record;
    type Accumulator = u64;
    type Out = (i64, u64);

    fn create(&self) -> u64 {
        0
    }

    fn add(&self, sum: &mut u64, (key, act): Record) {
        *sum += u64::from(key) + if let Act::Write(n) = act { u64::from(n) } else { 1_000 };
    }

    fn result(&self, sum: u64, window: Window) -> (i64, u64) {
        (window.start, sum)
    }
}

/// A harness with its ends.
struct Job {
    harness: Harness,
    input: TestInput<Record>,
    seen: Collected<Seen>,
    windows: Collected<(i64, u64)>,
}

impl Job {
    fn new(parallelism: u32, options: HarnessOptions, snapshot: Option<&Snapshot>) -> Self {
        let env = environment(parallelism);
        let (input, records) = TestInput::<Record>::new(&env, "records");
        let keyed = records.key_by(|record| record.0);
        let seen = Collected::from(&keyed.clone().process(Everything::new()).uid("everything"));
        let windows = keyed.window(Tumbling::event_time(milliseconds(10))).aggregate(Sum).uid("windows");
        let windows = Collected::from(&windows);
        let harness = match snapshot {
            None => Harness::with_options(&env, options),
            Some(snapshot) => Harness::restore(&env, options, snapshot),
        };
        Self { harness: harness.unwrap(), input, seen, windows }
    }

    /// By key, since nothing else is in order.
    fn take(&self) -> (Vec<Seen>, Vec<(i64, u64)>) {
        let mut seen = self.seen.take();
        seen.sort_by_key(|(key, _)| *key);
        let mut windows = self.windows.take();
        windows.sort_unstable();
        (seen, windows)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Record(u16, Act),
    Watermark(u8),
    Time(u8),
    Checkpoint,
    Savepoint,
    /// Goes back to the last snapshot, with this parallelism.
    Restore(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let act = prop_oneof![
        4 => (0..20u8).prop_map(Act::Write),
        2 => (0..20u8).prop_map(Act::Remove),
        1 => Just(Act::Clear),
        2 => Just(Act::Look),
        1 => (0..30u8).prop_map(Act::Timer),
    ];
    prop_oneof![
        20 => (0..12u16, act).prop_map(|(key, act)| Step::Record(key, act)),
        2 => (0..10u8).prop_map(Step::Watermark),
        2 => (0..10u8).prop_map(Step::Time),
        4 => Just(Step::Checkpoint),
        1 => Just(Step::Savepoint),
        1 => (1..4u32).prop_map(Step::Restore),
    ]
}

/// What came out between two looks.
type Out = (Vec<Seen>, Vec<(i64, u64)>);

/// All that comes out, step by step.
fn run(steps: &[Step], options: HarnessOptions) -> Vec<Out> {
    let mut job = Job::new(2, options, None);
    let (mut watermark, mut now, mut snapshot, mut out) = (0, 0, None, Vec::new());
    for (index, step) in steps.iter().enumerate() {
        if matches!(step, Step::Checkpoint | Step::Savepoint) {
            // A barrier goes out behind what was read: all of it, so that a restore loses no input.
            job.harness.run().unwrap();
        }
        match *step {
            Step::Record(key, act) => job.input.push_at((key, act), watermark + (index % 15) as i64),
            Step::Watermark(later) => {
                watermark += i64::from(later);
                job.input.watermark(watermark);
            }
            Step::Time(later) => {
                now += i64::from(later);
                job.harness.advance_processing_time(now).unwrap();
            }
            Step::Checkpoint => snapshot = Some((job.harness.checkpoint().unwrap(), watermark, now)),
            Step::Savepoint => snapshot = Some((job.harness.savepoint().unwrap(), watermark, now)),
            Step::Restore(parallelism) => {
                let Some((snapshot, at, _)) = &snapshot else { continue };
                job = Job::new(parallelism, options, Some(snapshot));
                watermark = *at;
            }
        }
        if index % 4 == 0 {
            job.harness.run().unwrap();
            out.push(job.take());
        }
    }
    job.harness.checkpoint().unwrap();
    (0..12).for_each(|key| job.input.push_at((key, Act::Look), watermark));
    job.input.watermark(watermark + 100);
    job.harness.advance_processing_time(now + 10).unwrap();
    job.harness.run().unwrap();
    out.push(job.take());
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_job_short_of_memory_says_what_one_without_a_limit_says(
        steps in prop::collection::vec(step(), 1..120),
        limit in prop_oneof![Just(0), 0..20_000usize],
        seed in 1..1_000u64,
    ) {
        let options = HarnessOptions { max_parallelism: 8, batch_rows: 4, seed, ..HarnessOptions::default() };
        let expected = run(&steps, options);
        let short = run(&steps, HarnessOptions { state_memory: Some(limit), ..options });
        for (index, (short, expected)) in short.iter().zip(&expected).enumerate() {
            prop_assert_eq!(short, expected, "after {} steps", index * 4);
        }
    }
}

/// What is written once and not needed any more leaves memory with the next checkpoint.
#[test]
fn memory_stays_within_the_limit_while_the_state_grows_far_beyond() {
    let limit = 64 << 10;
    let options = HarnessOptions { state_memory: Some(limit), batch_rows: 64, seed: 1, ..HarnessOptions::default() };
    let mut job = Job::new(2, options, None);
    let mut most = 0;
    for round in 0..40u16 {
        (0..100).for_each(|key| job.input.push_at((round * 100 + key, Act::Write(1)), i64::from(round) * 10));
        job.input.watermark(i64::from(round) * 10);
        job.harness.checkpoint().unwrap();
        if round > 4 {
            most = most.max(job.harness.state_bytes());
        }
    }
    // Between two checkpoints nothing new can leave.
    let of_a_round = 100 * 4 * 1_024;
    assert!(most < (limit + of_a_round) as u64, "{most}");
    (0..4_000).for_each(|key| job.input.push_at((key, Act::Look), 400));
    job.harness.run().unwrap();
    assert_eq!(job.seen.take().len(), 4_000);
}
