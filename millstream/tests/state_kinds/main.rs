//! Kinds of state and timers in whole jobs, through failures and at changing parallelism: keyed, operator and broadcast
//! state, timers of both times, windows with late records.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use millstream::prelude::*;
use millstream_actors::launch::{LaunchOptions, Launched};
use millstream_runtime::element::Purpose;
use millstream_runtime::job::JobStatus;

#[path = "../support/engine.rs"]
mod engine;
use engine::*;

mod damage;
mod eras;
mod migration;
mod timers;

/// Runs a job at one parallelism after the other, over the same folder: each but the last is stopped with a savepoint.
fn in_turns(
    dir: &Path,
    parallelisms: &[u32],
    build: impl Fn(u32) -> Environment,
    step: impl AsyncFn(usize, &Launched),
) {
    let last = parallelisms.len() - 1;
    for (round, parallelism) in parallelisms.iter().enumerate() {
        run(async {
            // In every other round nothing is to stay in memory.
            let options = LaunchOptions { state_memory: (round % 2 == 0).then_some(0), ..options(dir) };
            let launched = start(&build(*parallelism), options).await;
            assert_eq!(launched.restored_from.is_some(), round > 0);
            step(round, &launched).await;
            if round < last {
                launched.handle.trigger(Purpose::StopWithSavepoint, false, None).await.expect("stopped");
            }
            let outcome = outcome(&launched).await;
            assert_eq!(outcome.status, JobStatus::Finished, "{outcome:?}");
        });
    }
}

/// Restarts the job by a panic at the first of so many new records, and waits until it has made a checkpoint again.
async fn fail_over(launched: &Launched, trap: &Trap, tap: &Tap, records: u64) {
    let before = report(&launched.handle).await.restarts;
    trap.spring();
    tap.release_all(records);
    until(async || report(&launched.handle).await.restarts > before).await;
    until_status(&launched.handle, JobStatus::Running).await;
    let completed = report(&launched.handle).await.checkpoints.counts().completed;
    until_completed(&launched.handle, completed + 1).await;
}

/// How many numbers were added, and their sum; tells the mean.
#[derive(Clone)]
struct Mean;

impl AggregateFunction for Mean {
    type In = u64;
    type Accumulator = (u64, u64);
    type Out = u64;

    fn create(&self) -> (u64, u64) {
        (0, 0)
    }

    fn add(&self, (count, sum): &mut (u64, u64), value: u64) {
        (*count, *sum) = (*count + 1, *sum + value);
    }

    fn result(&self, (count, sum): &(u64, u64)) -> u64 {
        sum / count
    }
}

/// Does something to every kind of keyed state and tells what it has become.
#[derive(Clone)]
struct AllKinds {
    value: ValueState<u64, String>,
    list: ListState<u64, u64>,
    map: MapState<u64, String, u64>,
    greatest: ReducingState<u64, u64>,
    mean: AggregatingState<u64, Mean>,
    trap: Trap,
}

impl AllKinds {
    fn new(trap: &Trap) -> Self {
        Self {
            value: ValueState::new("value"),
            list: ListState::new("list"),
            map: MapState::new("map"),
            greatest: ReducingState::new("greatest", |greatest, n| *greatest = n.max(*greatest)),
            mean: AggregatingState::new("mean", Mean),
            trap: trap.clone(),
        }
    }
}

/// Key, number, what to see of the state of the key.
type Seen = (u64, u64, String);

/// The states of one key in plain collections.
#[derive(Default)]
struct Model {
    value: Option<String>,
    list: Vec<u64>,
    map: BTreeMap<String, u64>,
    /// What reducing and aggregating state were given.
    added: Vec<u64>,
}

impl Model {
    fn apply(&mut self, n: u64) -> String {
        match Random(n).below(12) {
            0 => self.value = Some(n.to_string()),
            1 => self.value.get_or_insert_default().push('x'),
            2 => self.value = None,
            3..=5 => self.list.push(n),
            6 if self.list.len() > 3 => self.list = Vec::new(),
            6 => self.list = self.list.iter().rev().copied().collect(),
            7 | 8 => *self.map.entry((n % 5).to_string()).or_default() += n,
            9 if n.is_multiple_of(4) => self.map.clear(),
            9 if n.is_multiple_of(3) => self.map.retain(|_, value| *value % 2 == 0),
            9 => drop(self.map.remove(&(n % 5).to_string())),
            10 if n.is_multiple_of(3) => self.added.clear(),
            _ => self.added.push(n % 1_000),
        }
        let mean = (!self.added.is_empty()).then(|| self.added.iter().sum::<u64>() / self.added.len() as u64);
        let Self { value, list, map, added } = self;
        format!("{value:?} {list:?} {map:?} {:?} {mean:?}", added.iter().max())
    }
}

impl KeyedProcessFunction for AllKinds {
    type Key = u64;
    type In = (u64, u64);
    type Out = Seen;

    fn states(&mut self, visit: StateVisitor<'_, u64>) {
        visit(&mut self.value);
        visit(&mut self.list);
        visit(&mut self.map);
        visit(&mut self.greatest);
        visit(&mut self.mean);
    }

    fn process(&mut self, (key, n): (u64, u64), cx: &mut KeyedContext<'_, u64, Seen>) -> Result<(), PortError> {
        self.trap.step();
        match Random(n).below(12) {
            0 => self.value.set(cx, n.to_string()),
            1 => self.value.get_or_insert_with(cx, String::new).push('x'),
            2 => drop(self.value.clear(cx)),
            3..=5 => self.list.add(cx, n),
            6 if self.list.get(cx).len() > 3 => drop(self.list.clear(cx)),
            6 => {
                let reversed = self.list.get(cx).iter().rev().copied().collect();
                self.list.update(cx, reversed);
            }
            7 | 8 => *self.map.get_or_insert_with(cx, (n % 5).to_string(), || 0) += n,
            9 if n % 4 == 0 => self.map.clear(cx),
            9 if n % 3 == 0 => self.map.retain(cx, |_, value| value % 2 == 0),
            9 => drop(self.map.remove(cx, &(n % 5).to_string())),
            10 if n % 3 == 0 => {
                self.greatest.clear(cx);
                self.mean.clear(cx);
            }
            _ => {
                self.greatest.add(cx, n % 1_000);
                self.mean.add(cx, n % 1_000);
            }
        }
        let (value, list) = (self.value.get(cx), self.list.get(cx));
        let map: BTreeMap<_, _> = self.map.entries(cx).collect();
        assert!(map.keys().eq(&self.map.keys(cx).collect::<Vec<_>>()), "in the order of the map keys");
        let (greatest, mean) = (self.greatest.get(cx), self.mean.get(cx));
        cx.emit((key, n, format!("{value:?} {list:?} {map:?} {greatest:?} {mean:?}")));
        Ok(())
    }
}

#[test]
fn every_kind_of_keyed_state_is_what_plain_collections_would_be() {
    let dir = tempfile::tempdir().expect("a folder");
    let (tap, target, trap) = (Tap::new(3), Target::<Seen>::new(), Trap::default());
    let build = |parallelism| {
        let env = environment(parallelism);
        env.from_source("numbers", tapped(&tap, |split, n| (split * 100 + n % 20, n)))
            .uid("numbers")
            .key_by(|(key, _)| *key)
            .process(AllKinds::new(&trap))
            .uid("kinds")
            .sink_to("out", MemorySink(Arc::clone(&target)))
            .uid("out");
        env
    };
    in_turns(dir.path(), &[2, 3, 1, 4], build, async |round, launched| {
        for half in 1..3 {
            let records = (round as u64 * 2 + half) * 300;
            fail_over(launched, &trap, &tap, records - 100).await;
            tap.release_all(records);
            until(async || target.len() as u64 == 3 * records).await;
        }
        if round == 3 {
            tap.close_all();
        }
    });
    let mut models = BTreeMap::<u64, Model>::new();
    let mut wanted = Vec::new();
    for (split, n) in (0..3).flat_map(|split| (0..2_400).map(move |n| (split, n))) {
        let key = split * 100 + n % 20;
        wanted.push((key, n, models.entry(key).or_default().apply(n)));
    }
    wanted.sort();
    let mut rows = target.rows();
    rows.sort();
    assert_eq!(rows.len(), wanted.len());
    assert!(rows == wanted, "first difference: {:?}", rows.iter().zip(&wanted).find(|(row, wanted)| row != wanted));
}

/// Keeps the records it has seen, as items that are dealt out or given to all, and tells them at the end.
#[derive(Clone)]
struct Keep {
    items: OperatorListState<u64>,
}

impl ProcessFunction for Keep {
    type In = u64;
    type Out = u64;

    fn operator_states(&mut self, visit: &mut dyn FnMut(&mut dyn OperatorStateSlot)) {
        visit(&mut self.items);
    }

    fn process(&mut self, value: u64, _cx: &mut ProcessContext<'_, u64>) -> Result<(), PortError> {
        self.items.items.push(value);
        Ok(())
    }

    fn end_of_input(&mut self, cx: &mut ProcessContext<'_, u64>) -> Result<(), PortError> {
        self.items.items.iter().for_each(|item| cx.emit(*item));
        Ok(())
    }
}

#[test]
fn operator_lists_are_dealt_out_or_given_to_all_when_the_parallelism_changes() {
    for (union, copies) in [(false, 1), (true, 3)] {
        let dir = tempfile::tempdir().expect("a folder");
        let (tap, target) = (Tap::new(2), Target::<u64>::new());
        let build = |parallelism| {
            let env = environment(parallelism);
            let items = if union { OperatorListState::union("items") } else { OperatorListState::split("items") };
            env.from_source("numbers", tapped(&tap, |split, n| split * 100 + n))
                .uid("numbers")
                .rebalance()
                .process(Keep { items })
                .uid("keep")
                .sink_to("out", MemorySink(Arc::clone(&target)))
                .uid("out");
            env
        };
        in_turns(dir.path(), &[2, 3], build, async |round, launched| {
            if round == 0 {
                tap.release_all(20);
                until(async || records_in(launched, "Process").await == 40).await;
            } else {
                tap.close_all();
            }
        });
        let mut rows = target.rows();
        rows.sort_unstable();
        let mut wanted: Vec<u64> = (0..20).chain(100..120).flat_map(|n| vec![n; copies]).collect();
        wanted.sort_unstable();
        assert_eq!(rows, wanted, "union: {union}");
    }
}

/// Adds the broadcast numbers, and tells the sum with every record, and which subtask told.
#[derive(Clone)]
struct WithRules {
    rules: BroadcastState<BTreeMap<u64, u64>>,
    trap: Trap,
}

impl KeyedBroadcastFunction for WithRules {
    type Key = u64;
    type In = (u64, u64);
    type Broadcast = (u64, u64);
    type Out = (u64, u64, u64);

    fn states(&mut self, _visit: StateVisitor<'_, u64>) {}

    fn broadcast_states(&mut self, visit: &mut dyn FnMut(&mut dyn OperatorStateSlot)) {
        visit(&mut self.rules);
    }

    fn process(&mut self, (key, n): (u64, u64), cx: &mut KeyedContext<'_, u64, Self::Out>) -> Result<(), PortError> {
        self.trap.step();
        cx.emit((key, n, self.rules.value.values().sum()));
        Ok(())
    }

    fn process_broadcast(&mut self, (rule, value): (u64, u64)) -> Result<(), PortError> {
        self.rules.value.insert(rule, value);
        Ok(())
    }

    fn on_timer(&mut self, _time: Timestamp, _cx: &mut KeyedContext<'_, u64, Self::Out>) -> Result<(), PortError> {
        Ok(())
    }
}

#[test]
fn broadcast_state_is_the_same_in_every_subtask_after_failures_and_at_other_parallelisms() {
    let dir = tempfile::tempdir().expect("a folder");
    let (rules, tap) = (Tap::new(1), Tap::new(2));
    let (target, trap) = (Target::<(u64, u64, u64)>::new(), Trap::default());
    let build = |parallelism| {
        let env = environment(parallelism);
        let function = WithRules { rules: BroadcastState::new("rules", BTreeMap::new()), trap: trap.clone() };
        let rules = env.from_source("rules", tapped(&rules, |_, n| (n % 3, n + 1))).uid("rules").broadcast();
        env.from_source("numbers", tapped(&tap, |split, n| (split * 1_000 + n % 100, n)))
            .uid("numbers")
            .key_by(|(key, _)| *key)
            .connect(&rules)
            .process(function)
            .uid("apply")
            .sink_to("out", MemorySink(Arc::clone(&target)))
            .uid("out");
        env
    };
    // Five rules over three numbers: 4, 5 and 3 are in force.
    in_turns(dir.path(), &[2, 3, 1, 5], build, async |round, launched| {
        if round == 0 {
            rules.release_all(5);
            until(async || records_in(launched, "Broadcast").await == 5 * 2).await;
            let completed = report(&launched.handle).await.checkpoints.counts().completed;
            until_completed(&launched.handle, completed + 2).await;
        }
        let records = 200 * (round as u64 + 1);
        fail_over(launched, &trap, &tap, records - 100).await;
        tap.release_all(records);
        until(async || target.len() as u64 == 2 * records).await;
        if round == 3 {
            tap.close_all();
            rules.close_all();
        }
    });
    let mut rows = target.rows();
    rows.sort_unstable();
    let all = (0..2).flat_map(|split| (0..800).map(move |n| (split * 1_000 + n % 100, n, 12)));
    let mut wanted: Vec<_> = all.collect();
    wanted.sort_unstable();
    assert!(rows == wanted, "a subtask lacked rules: {:?}", rows.iter().find(|row| row.2 != 12));
}
