//! Programs whose states have changed their types go on from what older ones stored: every kind of state, at another
//! parallelism, through failures before and after the first checkpoint, from version to version and past one of them.

use super::eras::{Era, First, Second, States, Third};
use super::*;
use millstream_actors::launch::StartFrom;
use millstream_state::blob::{Location, Stores};
use millstream_state::failpoint::{Failpoints, SEGMENT_WRITTEN};
use millstream_state::savepoint::{StateSummary, inspect};

/// Does something to every kind of keyed state and tells what it has become.
#[derive(Clone)]
struct Changing<E: Era> {
    states: States<E>,
    trap: Trap,
}

impl<E: Era> KeyedProcessFunction for Changing<E> {
    type Key = u64;
    type In = (u64, u64);
    type Out = Seen;

    fn states(&mut self, visit: StateVisitor<'_, u64>) {
        visit(&mut self.states.value);
        visit(&mut self.states.list);
        visit(&mut self.states.map);
        visit(&mut self.states.greatest);
        visit(&mut self.states.mean);
    }

    fn process(&mut self, (key, n): (u64, u64), cx: &mut KeyedContext<'_, u64, Seen>) -> Result<(), PortError> {
        self.trap.step();
        let States { value, list, map, greatest, mean } = &mut self.states;
        match n % 7 {
            0 => value.set(cx, E::num(n)),
            1 => drop(value.clear(cx)),
            2 if list.get(cx).len() > 5 => drop(list.clear(cx)),
            2 | 3 => list.add(cx, E::num(n)),
            4 => {
                let slot = map.get_or_insert_with(cx, E::map_key(n % 5), || E::num(0));
                *slot = E::num(E::n(slot) + n);
            }
            5 => drop(map.remove(cx, &E::map_key(n % 5))),
            _ => {
                greatest.add(cx, E::num(n % 1_000));
                mean.add(cx, n % 1_000);
            }
        }
        let list: Vec<u64> = list.get(cx).iter().map(E::n).collect();
        let map: BTreeMap<u64, u64> = map.entries(cx).map(|(key, value)| (E::of_map_key(key), E::n(value))).collect();
        let (value, greatest) = (value.get(cx).map(E::n), greatest.get(cx).map(E::n));
        cx.emit((key, n, format!("{value:?} {list:?} {map:?} {greatest:?} {:?}", mean.get(cx))));
        Ok(())
    }
}

/// What the records up to some number of each split must have shown.
fn expected(splits: u64, records: u64) -> Vec<Seen> {
    let mut rows = Vec::new();
    let mut models = BTreeMap::<u64, OldModel>::new();
    for (split, n) in (0..splits).flat_map(|split| (0..records).map(move |n| (split, n))) {
        let key = split * 100 + n % 20;
        rows.push((key, n, models.entry(key).or_default().apply(n)));
    }
    rows.sort();
    rows
}

#[derive(Default)]
struct OldModel {
    value: Option<u64>,
    list: Vec<u64>,
    map: BTreeMap<u64, u64>,
    added: Vec<u64>,
}

impl OldModel {
    fn apply(&mut self, n: u64) -> String {
        match n % 7 {
            0 => self.value = Some(n),
            1 => self.value = None,
            2 if self.list.len() > 5 => self.list.clear(),
            2 | 3 => self.list.push(n),
            4 => *self.map.entry(n % 5).or_default() += n,
            5 => drop(self.map.remove(&(n % 5))),
            _ => self.added.push(n % 1_000),
        }
        let mean = (!self.added.is_empty()).then(|| self.added.iter().sum::<u64>() / self.added.len() as u64);
        let Self { value, list, map, added } = self;
        format!("{value:?} {list:?} {map:?} {:?} {mean:?}", added.iter().max())
    }
}

/// What all programs of a test share.
#[derive(Clone)]
struct Job {
    tap: Tap,
    target: Arc<Target<Seen>>,
    trap: Trap,
}

impl Job {
    fn new() -> Self {
        Self { tap: Tap::new(3), target: Target::new(), trap: Trap::default() }
    }

    fn build<E: Era>(&self, parallelism: u32) -> Environment {
        let env = environment(parallelism);
        env.from_source("numbers", tapped(&self.tap, |split, n| (split * 100 + n % 20, n)))
            .uid("numbers")
            .key_by(|(key, _)| *key)
            .process(Changing { states: E::declare(), trap: self.trap.clone() })
            .uid("kinds")
            .sink_to("out", MemorySink(Arc::clone(&self.target)))
            .uid("out");
        env
    }

    fn assert_rows(&self, records: u64) {
        let mut rows = self.target.rows();
        rows.sort();
        let wanted = expected(3, records);
        assert_eq!(rows.len(), wanted.len());
        assert!(rows == wanted, "first difference: {:?}", rows.iter().zip(&wanted).find(|(row, wanted)| row != wanted));
    }

    /// Goes on to so many records of each split, with a failure before the first checkpoint and one after others; then stops
    /// with a savepoint or to the end.
    fn go_on<E: Era>(&self, options: LaunchOptions, parallelism: u32, records: u64, last: bool) -> Option<Location> {
        let mut savepoint = None;
        run(async {
            self.trap.spring();
            self.tap.release_all(records - 60);
            let launched = launch_when_free(&self.build::<E>(parallelism), &options).await;
            until(async || report(&launched.handle).await.restarts > 0).await;
            until_status(&launched.handle, JobStatus::Running).await;
            let completed = report(&launched.handle).await.checkpoints.counts().completed;
            until_completed(&launched.handle, completed + 2).await;
            fail_over(&launched, &self.trap, &self.tap, records - 10).await;
            self.tap.release_all(records);
            until(async || self.target.len() as u64 == 3 * records).await;
            if last {
                self.tap.close_all();
            } else {
                let made = launched.handle.trigger(Purpose::StopWithSavepoint, false, None).await.expect("stopped");
                savepoint = Some(place(made.location));
            }
            finish(&launched).await;
        });
        savepoint
    }
}

fn keyed_states(savepoint: &Location) -> Vec<StateSummary> {
    let summary = inspect(&Stores::default(), savepoint).expect("it is whole");
    let operators = summary.vertices.into_iter().flat_map(|vertex| vertex.operators);
    let kinds = operators.filter(|operator| operator.uid == "kinds").flat_map(|operator| operator.states);
    kinds.filter(|state| state.kind == "keyed" && !state.name.starts_with('_')).collect()
}

#[test]
fn every_kind_of_keyed_state_goes_from_version_to_version_and_past_one_through_failures_and_at_other_parallelisms() {
    for past_one in [false, true] {
        let dir = tempfile::tempdir().expect("a folder");
        let job = Job::new();
        let options = |memory: Option<usize>| LaunchOptions { state_memory: memory, ..options(dir.path()) };
        let made = job.go_on::<First>(options(None), 2, 300, false).expect("a place");
        let versions = |made: &Location| keyed_states(made).into_iter().map(|state| state.version).collect::<Vec<_>>();
        assert_eq!(versions(&made), [1; 5]);
        let mut records = 300;
        if !past_one {
            records += 300;
            // Nothing is to stay in memory: what is read comes from the migrated segments or the local state.
            let made = job.go_on::<Second>(options(Some(0)), 3, records, false).expect("a place");
            assert_eq!(versions(&made), [2; 5], "nothing of the old version is left");
        }
        let made = job.go_on::<Third>(options(Some(0)), 1, records + 300, false).expect("a place");
        assert_eq!(versions(&made), [3; 5]);
        job.go_on::<Third>(options(None), 4, records + 600, true);
        job.assert_rows(records + 600);
    }
}

#[test]
fn a_savepoint_is_restored_into_another_job_in_a_newer_version_and_serves_the_old_one_as_well() {
    let dir = tempfile::tempdir().expect("a folder");
    let job = Job::new();
    let made = job.go_on::<First>(options(&dir.path().join("first")), 3, 200, false).expect("a place");
    let rows = job.target.rows();
    for (name, parallelism) in [("second", 2), ("first-again", 1)] {
        let again = Job { tap: Tap::new(3), target: Target::new(), ..job.clone() };
        let mut options = options(&dir.path().join(name));
        options.start_from = StartFrom::Savepoint(made.clone());
        // What the savepoint has seen comes from the first job.
        again.tap.release_all(200);
        run(async {
            let env =
                if name == "second" { again.build::<Second>(parallelism) } else { again.build::<First>(parallelism) };
            let launched = start(&env, options).await;
            again.tap.release_all(400);
            again.tap.close_all();
            finish(&launched).await;
        });
        let mut all = rows.clone();
        all.extend(again.target.rows());
        all.sort();
        assert!(all == expected(3, 400), "{name}");
    }
}

#[test]
fn a_crash_while_state_is_migrated_changes_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let job = Job::new();
    job.go_on::<First>(options(dir.path()), 2, 200, false);
    // It stops before the first of two subtasks has been told of, then before the second, then in the first cut.
    for hit in 1..4 {
        let reached = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&reached);
        let failpoints = Failpoints::call_at(SEGMENT_WRITTEN, hit, move || {
            seen.store(true, Ordering::SeqCst);
            panic!("the process ends here");
        });
        let options = LaunchOptions { failpoints, ..options(dir.path()) };
        crash(&job.build::<Second>(2), &options, async |_| {
            until(async || reached.load(Ordering::SeqCst)).await;
        });
    }
    job.go_on::<Second>(options(dir.path()), 2, 400, true);
    job.assert_rows(400);
}

/// Passes numbers on and keeps them, as items that are dealt out or given to all; tells them at the end.
#[derive(Clone)]
struct KeepNums<E: Era>(OperatorListState<E::Num>);

impl<E: Era> ProcessFunction for KeepNums<E>
where
    E::Num: std::fmt::Debug,
{
    type In = u64;
    type Out = u64;

    fn operator_states(&mut self, visit: &mut dyn FnMut(&mut dyn OperatorStateSlot)) {
        visit(&mut self.0);
    }

    fn process(&mut self, value: u64, _cx: &mut ProcessContext<'_, u64>) -> Result<(), PortError> {
        self.0.items.push(E::num(value));
        Ok(())
    }

    fn end_of_input(&mut self, cx: &mut ProcessContext<'_, u64>) -> Result<(), PortError> {
        self.0.items.iter().for_each(|item| cx.emit(E::n(item)));
        Ok(())
    }
}

fn keeping<E: Era>(parallelism: u32, union: bool, tap: &Tap, target: &Arc<Target<u64>>) -> Environment
where
    E::Num: std::fmt::Debug,
{
    let env = environment(parallelism);
    env.from_source("numbers", tapped(tap, |split, n| split * 100 + n))
        .uid("numbers")
        .rebalance()
        .process(KeepNums::<E>(E::items(union)))
        .uid("keep")
        .sink_to("out", MemorySink(Arc::clone(target)))
        .uid("out");
    env
}

#[test]
fn operator_lists_are_migrated_item_by_item_when_they_are_dealt_out() {
    for union in [false, true] {
        let dir = tempfile::tempdir().expect("a folder");
        let (tap, target) = (Tap::new(2), Target::<u64>::new());
        let build = |parallelism| match parallelism {
            2 => keeping::<First>(2, union, &tap, &target),
            3 => keeping::<Second>(3, union, &tap, &target),
            _ => keeping::<Third>(parallelism, union, &tap, &target),
        };
        in_turns(dir.path(), &[2, 3, 4], build, async |round, launched| {
            if round < 2 {
                let records = 10 * (round as u64 + 1);
                tap.release_all(records);
                until(async || records_in(launched, "Process").await == 20).await;
            } else {
                tap.close_all();
            }
        });
        let mut rows = target.rows();
        rows.sort_unstable();
        if union {
            // Whatever was restored is everywhere, and goes everywhere again.
            rows.dedup();
        }
        let wanted: Vec<u64> = (0..20).chain(100..120).collect();
        assert_eq!(rows, wanted, "union: {union}");
    }
}

/// Adds the broadcast numbers, and tells their sum with every record.
#[derive(Clone)]
struct WithOldRules<E: Era>(BroadcastState<Vec<E::Num>>);

impl<E: Era> KeyedBroadcastFunction for WithOldRules<E> {
    type Key = u64;
    type In = (u64, u64);
    type Broadcast = u64;
    type Out = (u64, u64, u64);

    fn states(&mut self, _visit: StateVisitor<'_, u64>) {}

    fn broadcast_states(&mut self, visit: &mut dyn FnMut(&mut dyn OperatorStateSlot)) {
        visit(&mut self.0);
    }

    fn process(&mut self, (key, n): (u64, u64), cx: &mut KeyedContext<'_, u64, Self::Out>) -> Result<(), PortError> {
        cx.emit((key, n, self.0.value.iter().map(E::n).sum()));
        Ok(())
    }

    fn process_broadcast(&mut self, rule: u64) -> Result<(), PortError> {
        self.0.value.push(E::num(rule));
        Ok(())
    }

    fn on_timer(&mut self, _time: Timestamp, _cx: &mut KeyedContext<'_, u64, Self::Out>) -> Result<(), PortError> {
        Ok(())
    }
}

#[test]
fn broadcast_state_is_migrated_in_every_subtask() {
    let dir = tempfile::tempdir().expect("a folder");
    let (rules, tap, target) = (Tap::new(1), Tap::new(2), Target::<(u64, u64, u64)>::new());
    fn ruled<E: Era>(
        parallelism: u32,
        (rules, tap): (&Tap, &Tap),
        target: &Arc<Target<(u64, u64, u64)>>,
    ) -> Environment {
        let env = environment(parallelism);
        let rules = env.from_source("rules", tapped(rules, |_, n| n + 1)).uid("rules").broadcast();
        env.from_source("numbers", tapped(tap, |split, n| (split * 1_000 + n % 100, n)))
            .uid("numbers")
            .key_by(|(key, _)| *key)
            .connect(&rules)
            .process(WithOldRules::<E>(E::rules()))
            .uid("apply")
            .sink_to("out", MemorySink(Arc::clone(target)))
            .uid("out");
        env
    }
    let build = |parallelism| match parallelism {
        2 => ruled::<First>(2, (&rules, &tap), &target),
        3 => ruled::<Second>(3, (&rules, &tap), &target),
        _ => ruled::<Third>(parallelism, (&rules, &tap), &target),
    };
    in_turns(dir.path(), &[2, 3, 1], build, async |round, launched| {
        if round == 0 {
            rules.release_all(4);
            until(async || records_in(launched, "Broadcast").await == 4 * 2).await;
        }
        tap.release_all(100 * (round as u64 + 1));
        until(async || target.len() as u64 == 200 * (round as u64 + 1)).await;
        if round == 2 {
            tap.close_all();
            rules.close_all();
        }
    });
    assert!(target.rows().iter().all(|(_, _, sum)| *sum == 1 + 2 + 3 + 4));
    assert_eq!(target.len(), 600);
}

#[test]
fn what_cannot_be_migrated_fails_the_job_at_once_and_says_what_to_do() {
    let dir = tempfile::tempdir().expect("a folder");
    let job = Job::new();
    job.go_on::<Second>(options(dir.path()), 2, 100, false);
    run(async {
        let launched = start(&job.build::<First>(2), options(dir.path())).await;
        let outcome = outcome(&launched).await;
        assert_eq!(outcome.status, JobStatus::Failed);
        let failure = format!("{outcome:?}");
        assert!(failure.contains("operator 'kinds': state 'value' is stored in version 2"), "{failure}");
        assert!(failure.contains("restore it with a program of that version"), "{failure}");
        assert_eq!(report(&launched.handle).await.restarts, 0, "trying again would change nothing");
    });
    // It has changed nothing.
    job.go_on::<Second>(options(dir.path()), 1, 200, true);
    job.assert_rows(200);
}
