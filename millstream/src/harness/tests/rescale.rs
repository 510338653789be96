//! A restore in the middle, at another parallelism, changes nothing: timers, windows, reduced values, lateness.

use super::windows::SumPerWindow;
use super::{timers, *};
use crate::harness::{Collected, Harness, Snapshot, TestInput};
use crate::prelude::*;

type Record = (u8, i64, u64);

struct Pipeline {
    input: TestInput<Record>,
    fired: Collected<timers::Fired>,
    late: Collected<Record>,
    windows: Collected<(u8, i64, u64, u64)>,
    totals: Collected<(u8, u64)>,
}

#[derive(Debug, Default, PartialEq)]
struct Results {
    fired: Vec<timers::Fired>,
    late: Vec<Record>,
    windows: Vec<(u8, i64, u64, u64)>,
    totals: Vec<(u8, u64)>,
}

impl Pipeline {
    fn new(env: &Environment) -> Self {
        let (input, records) = TestInput::<Record>::new(env, "records");
        let keyed = records.key_by(|record| record.0);
        let fired = keyed.process(timers::HoldBack::new()).uid("hold-back");
        let windows = keyed.window(Tumbling::event_time(milliseconds(10))).aggregate(SumPerWindow).uid("windows");
        let totals = keyed.fold_to_end::<u64, _>(|sum, record| *sum += record.2).uid("totals");
        Self {
            input,
            fired: Collected::from(&fired),
            late: Collected::from(&fired.side_output(&timers::LATE)),
            windows: Collected::from(&windows),
            totals: Collected::from(&totals),
        }
    }

    fn feed(&self, harness: &mut Harness, events: &[(Event, Timestamp)]) {
        for (event, watermark) in events {
            match *event {
                Event::Record { key, time, value } => self.input.push_at((key, time, value), time),
                Event::Watermark(_) => {
                    harness.run().unwrap();
                    self.input.watermark(*watermark);
                    harness.run().unwrap();
                }
            }
        }
        harness.run().unwrap();
    }

    fn collect(&self, results: &mut Results) {
        results.fired.extend(self.fired.take());
        results.late.extend(self.late.take());
        results.windows.extend(self.windows.take());
        results.totals.extend(self.totals.take());
    }
}

impl Results {
    fn normal(self) -> Self {
        Self {
            fired: timers::normal(self.fired),
            late: sorted(self.late),
            windows: sorted(self.windows),
            totals: sorted(self.totals),
        }
    }
}

/// Runs through the events in pieces, each in a new deployment restored from a snapshot at the end of the last.
fn run(pieces: &[(&[(Event, Timestamp)], u32)], seed: u64) -> Results {
    let mut results = Results::default();
    let mut snapshot: Option<Snapshot> = None;
    for (index, (events, parallelism)) in pieces.iter().enumerate() {
        let env = environment(*parallelism);
        let pipeline = Pipeline::new(&env);
        let mut harness = match &snapshot {
            None => Harness::with_options(&env, tight(seed)).unwrap(),
            Some(snapshot) => Harness::restore(&env, tight(seed + 1), snapshot).unwrap(),
        };
        pipeline.feed(&mut harness, events);
        if index + 1 == pieces.len() {
            pipeline.input.end();
            harness.finish().unwrap();
        } else {
            // An earlier checkpoint first: the second one only holds what has changed since.
            harness.checkpoint().unwrap();
            snapshot = Some(harness.checkpoint().unwrap());
        }
        pipeline.collect(&mut results);
    }
    results.normal()
}

proptest! {
    #[test]
    fn a_restore_at_another_parallelism_changes_nothing(
        events in events(),
        cuts in (0usize..60, 0usize..60),
        parallelism in (1u32..5, 1u32..5, 1u32..5),
        seed in 0u64..9,
    ) {
        let events = with_watermarks(&events);
        let (first, second) = (cuts.0.min(cuts.1).min(events.len()), cuts.0.max(cuts.1).min(events.len()));
        let (p, q, r) = parallelism;
        let pieces = [(&events[..first], p), (&events[first..second], q), (&events[second..], r)];
        prop_assert_eq!(run(&pieces, seed), run(&[(&events, 1)], 0));
    }
}

#[test]
fn what_was_late_before_a_restore_is_late_after_it() {
    let env = environment(2);
    let (input, _output, _late) = timers::pipeline(&env);
    let mut harness = Harness::new(&env).unwrap();
    input.watermark(100);
    harness.run().unwrap();
    let snapshot = harness.checkpoint().unwrap();
    let env = environment(3);
    let (input, output, late) = timers::pipeline(&env);
    let mut harness = Harness::restore(&env, HarnessOptions::default(), &snapshot).unwrap();
    // No watermark has come yet in this deployment.
    (0..6).for_each(|key| input.push_at((key, 100, 1), 100));
    harness.run().unwrap();
    assert_eq!((late.take().len(), output.take()), (6, Vec::new()));
}
