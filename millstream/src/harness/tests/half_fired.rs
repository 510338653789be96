//! A checkpoint while the timers of a watermark fire: what has fired is in front of the cut, what has not is in it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use millstream_runtime::batch::{Data, Rows};
use millstream_runtime::ids::{AttemptId, CutNumber, SubtaskIndex};
use millstream_runtime::ports::sink::{
    Committer, OlderAttempts, PrepareWork, SinkContext, SinkWork, SinkWriter, TwoPhaseCommitSink,
};

use super::timers::{Fired, HoldBack, LATE, normal, reference};
use super::*;
use crate::harness::{Collected, Harness, Snapshot, TestInput};
use crate::prelude::*;

type Record = (u8, i64, u64);

/// Rows by the transaction that they were in.
type Transactions<T> = BTreeMap<(AttemptId, SubtaskIndex, CutNumber), Vec<T>>;

/// Shows rows when the checkpoint is complete that they are in front of.
#[derive(Clone, Default)]
struct Shown<T>(Arc<Mutex<Transactions<T>>>);

impl<T: Data> Shown<T> {
    fn rows(&self) -> Vec<T> {
        self.0.lock().unwrap().values().flatten().cloned().collect()
    }
}

struct Unshown<T> {
    context: SinkContext,
    rows: Vec<T>,
}

type Committable<T> = (AttemptId, SubtaskIndex, CutNumber, Vec<T>);

impl<T: Data> TwoPhaseCommitSink<T> for Shown<T> {
    type Committable = Committable<T>;

    fn writer(&self, context: SinkContext) -> Result<Box<dyn SinkWriter<T, Committable<T>>>, PortError> {
        Ok(Box::new(Unshown { context, rows: Vec::new() }))
    }

    fn committer(&self, _context: SinkContext) -> Result<Box<dyn Committer<Committable<T>>>, PortError> {
        Ok(Box::new(Self(Arc::clone(&self.0))))
    }
}

impl<T: Data> SinkWriter<T, Committable<T>> for Unshown<T> {
    fn write(&mut self, rows: Rows<T>) -> Result<Option<SinkWork>, PortError> {
        self.rows.extend(rows.values);
        Ok(None)
    }

    fn prepare(&mut self, cut: CutNumber) -> Result<PrepareWork<Committable<T>>, PortError> {
        let transaction = (self.context.attempt, self.context.subtask, cut, std::mem::take(&mut self.rows));
        Ok(Box::new(move || Ok(vec![transaction])))
    }
}

impl<T: Data> Committer<Committable<T>> for Shown<T> {
    fn abort_unlisted(&mut self, _pending: &[Committable<T>], _older: &OlderAttempts) -> Result<(), PortError> {
        Ok(())
    }

    fn commit(&mut self, transactions: Vec<Committable<T>>) -> Result<(), PortError> {
        let by_id = transactions.into_iter().map(|(attempt, subtask, cut, rows)| ((attempt, subtask, cut), rows));
        self.0.lock().unwrap().extend(by_id);
        Ok(())
    }
}

struct Pipeline {
    input: TestInput<Record>,
    passed: Collected<Fired>,
    late: Collected<Record>,
}

fn pipeline(env: &Environment, shown: &Shown<Fired>) -> Pipeline {
    let (input, records) = TestInput::<Record>::new(env, "records");
    let fired = records.key_by(|record| record.0).process(HoldBack::new()).uid("hold-back");
    fired.sink_to("shown", shown.clone()).uid("shown");
    Pipeline { input, passed: Collected::from(&fired), late: Collected::from(&fired.side_output(&LATE)) }
}

fn restore(env: &Environment, snapshot: &Snapshot, shown: &Shown<Fired>, seed: u64) -> (Harness, Pipeline) {
    let pipeline = pipeline(env, shown);
    (Harness::restore(env, tight(seed), snapshot).unwrap(), pipeline)
}

/// Timers of many keys and times that one watermark makes due.
fn crowd(keys: u8) -> Vec<Event> {
    let record = |key, n: u64| Event::Record { key, time: 10 + (n * 7 + u64::from(key)) as i64 % 30, value: n };
    (0..keys).flat_map(|key| (0..5).map(move |n| record(key, n))).collect()
}

fn feed(input: &TestInput<Record>, events: &[Event]) {
    for event in events {
        if let Event::Record { key, time, value } = *event {
            input.push_at((key, time, value), time);
        }
    }
}

const DUE: Timestamp = 100;

#[test]
fn a_barrier_gets_through_between_two_batches_of_timers() {
    let env = environment(1);
    let shown = Shown::default();
    let events = crowd(60);
    let before = pipeline(&env, &shown);
    let mut harness = Harness::with_options(&env, tight(0)).unwrap();
    feed(&before.input, &events);
    harness.run().unwrap();
    before.input.watermark(DUE);
    harness.run_rounds(1).unwrap();
    let snapshot = harness.checkpoint().unwrap();
    let (all, _) = reference(&events);
    let fired = shown.rows().len();
    assert!(fired > 0 && fired < all.len() / 4, "{fired} of {} timers in front of the barrier", all.len());
    assert_eq!(before.passed.watermark(), MIN_TIMESTAMP, "the watermark comes behind its last timer");
    harness.run().unwrap();
    assert_eq!(before.passed.watermark(), DUE, "and goes on after the barrier");
    assert_eq!(normal(before.passed.take()), all);

    // Without any input: what was due at the cut fires, and the watermark that the cut was in front of is sent.
    let env = environment(2);
    let (mut harness, after) = restore(&env, &snapshot, &shown, 1);
    harness.run().unwrap();
    assert_eq!(after.passed.watermark(), DUE);
    assert_eq!(after.passed.take().len(), all.len() - fired);
    // What was late stays late, in the half-fired moment as well.
    after.input.push_at((1, DUE, 1), DUE);
    harness.run().unwrap();
    assert_eq!(after.late.take(), [(1, DUE, 1)]);
    harness.checkpoint().unwrap();
    assert_eq!(normal(shown.rows()), all, "each timer once");
}

proptest! {
    #[test]
    fn timers_fire_once_over_restores_in_the_middle_of_a_watermark(
        keys in 1u8..20,
        rounds in prop::collection::vec((0usize..25, 1u32..4), 1..4),
        second_watermark in any::<bool>(),
        seed in 0u64..9,
    ) {
        let events = crowd(keys);
        let shown = Shown::default();
        let mut snapshot: Option<Snapshot> = None;
        for (rounds, parallelism) in &rounds {
            let env = environment(*parallelism);
            let (mut harness, pipeline) = match &snapshot {
                Some(snapshot) => restore(&env, snapshot, &shown, seed),
                None => {
                    let pipeline = pipeline(&env, &shown);
                    let mut harness = Harness::with_options(&env, tight(seed)).unwrap();
                    feed(&pipeline.input, &events);
                    harness.run().unwrap();
                    pipeline.input.watermark(25);
                    (harness, pipeline)
                }
            };
            harness.run_rounds(*rounds).unwrap();
            if second_watermark {
                pipeline.input.watermark(DUE);
                harness.run_rounds(1).unwrap();
            }
            snapshot = Some(harness.checkpoint().unwrap());
        }
        let env = environment(2);
        let (mut harness, pipeline) = restore(&env, &snapshot.unwrap(), &shown, seed);
        pipeline.input.end();
        harness.finish().unwrap();
        prop_assert_eq!(normal(shown.rows()), reference(&events).0);
        prop_assert!(pipeline.late.take().is_empty());
    }
}
