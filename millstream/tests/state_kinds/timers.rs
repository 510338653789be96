//! Timers of both times, and windows with late records, through failures and at other parallelisms.

use super::*;

/// Registers event-time timers, some twice, deletes some, and tells which have fired.
#[derive(Clone)]
struct EventTimers {
    fired: ValueState<u64, i64>,
    trap: Trap,
}

impl KeyedProcessFunction for EventTimers {
    type Key = u64;
    type In = (u64, i64);
    type Out = (u64, i64, i64);

    fn states(&mut self, visit: StateVisitor<'_, u64>) {
        visit(&mut self.fired);
    }

    fn process(&mut self, (_, n): (u64, i64), cx: &mut KeyedContext<'_, u64, Self::Out>) -> Result<(), PortError> {
        self.trap.step();
        cx.register_event_time_timer(n + 500);
        cx.register_event_time_timer(n + 500);
        cx.register_event_time_timer(n + 700_000);
        cx.delete_event_time_timer(n + 700_000);
        Ok(())
    }

    fn on_timer(&mut self, time: Timestamp, cx: &mut KeyedContext<'_, u64, Self::Out>) -> Result<(), PortError> {
        let before = self.fired.get(cx).copied().unwrap_or(-1);
        assert!(before < time, "timers of a key fire in the order of their times: {time} after {before}");
        self.fired.set(cx, time);
        let key = *cx.key();
        cx.emit((key, time, before));
        Ok(())
    }
}

#[test]
fn event_timers_fire_once_in_order_through_failures_and_other_parallelisms() {
    let dir = tempfile::tempdir().expect("a folder");
    let (tap, target, trap) = (Tap::new(2), Target::<(u64, i64, i64)>::new(), Trap::default());
    let build = |parallelism| {
        let env = environment(parallelism);
        env.from_source("numbers", tapped(&tap, |split, n| (split * 100 + n % 10, n as i64)))
            .assign_watermarks(Watermarks::monotonous(), |(_, time)| *time)
            .uid("numbers")
            .key_by(|(key, _)| *key)
            .process(EventTimers { fired: ValueState::new("fired"), trap: trap.clone() })
            .uid("timers")
            .sink_to("out", MemorySink(Arc::clone(&target)))
            .uid("out");
        env
    };
    in_turns(dir.path(), &[2, 3, 1, 4], build, async |round, launched| {
        let records = (round as u64 + 1) * 1_000;
        fail_over(launched, &trap, &tap, records - 300).await;
        tap.release_all(records);
        // Timers up to the watermark have fired: n + 500 <= records - 2.
        until(async || target.len() as u64 >= 2 * (records - 501)).await;
        assert_eq!(target.len() as u64, 2 * (records - 501), "only what the watermark has passed");
        if round == 3 {
            tap.close_all();
        }
    });
    let mut rows = target.rows();
    rows.sort_unstable();
    let mut wanted = Vec::new();
    for (split, n) in (0..2).flat_map(|split| (0..4_000i64).map(move |n| (split, n))) {
        let before = if n >= 10 { n + 490 } else { -1 };
        wanted.push((split * 100 + (n % 10).cast_unsigned(), n + 500, before));
    }
    wanted.sort_unstable();
    assert!(rows == wanted, "first difference: {:?}", rows.iter().zip(&wanted).find(|(row, wanted)| row != wanted));
}

/// Fires again and again at one watermark until it is told that it is enough.
#[derive(Clone)]
struct Endless {
    fired: ValueState<u64, i64>,
    enough: Arc<AtomicBool>,
    trap: Trap,
}

impl KeyedProcessFunction for Endless {
    type Key = u64;
    type In = (u64, i64);
    type Out = (u64, i64);

    fn states(&mut self, visit: StateVisitor<'_, u64>) {
        visit(&mut self.fired);
    }

    fn process(&mut self, (_, time): (u64, i64), cx: &mut KeyedContext<'_, u64, Self::Out>) -> Result<(), PortError> {
        if time < 1_000 {
            cx.register_event_time_timer(1_000);
        }
        Ok(())
    }

    fn on_timer(&mut self, time: Timestamp, cx: &mut KeyedContext<'_, u64, Self::Out>) -> Result<(), PortError> {
        self.trap.step();
        let times = self.fired.get(cx).copied().unwrap_or(0) + 1;
        self.fired.set(cx, times);
        let key = *cx.key();
        cx.emit((key, times));
        if !self.enough.load(Ordering::SeqCst) {
            cx.register_event_time_timer(time + 1);
        }
        Ok(())
    }
}

#[test]
fn checkpoints_failures_and_stops_go_through_a_watermark_whose_timers_never_end() {
    const KEYS: u64 = 300;
    let dir = tempfile::tempdir().expect("a folder");
    let (tap, target, trap) = (Tap::new(1), Target::<(u64, i64)>::new(), Trap::default());
    let enough = Arc::new(AtomicBool::new(false));
    let build = |parallelism| {
        let env = environment(parallelism);
        let function = Endless { fired: ValueState::new("fired"), enough: Arc::clone(&enough), trap: trap.clone() };
        // The last record carries event time behind everything that will ever be registered.
        env.from_source("numbers", tapped(&tap, |_, n| (n, if n < KEYS { 1 } else { 1 << 40 })))
            .assign_watermarks(Watermarks::monotonous(), |(_, time)| *time)
            .uid("numbers")
            .key_by(|(key, _)| *key)
            .process(function)
            .uid("timers")
            .sink_to("out", MemorySink(Arc::clone(&target)))
            .uid("out");
        env
    };
    in_turns(dir.path(), &[2, 3, 1], build, async |round, launched| {
        tap.release_all(KEYS + 1);
        let shown = target.len();
        // Rows are shown by checkpoints only, and the watermark is never through.
        until(async || target.len() > shown + KEYS as usize).await;
        if round == 1 {
            let restarts = report(&launched.handle).await.restarts;
            trap.spring();
            until(async || report(&launched.handle).await.restarts > restarts).await;
            until_status(&launched.handle, JobStatus::Running).await;
            let completed = report(&launched.handle).await.checkpoints.counts().completed;
            until_completed(&launched.handle, completed + 1).await;
            let shown = target.len();
            until(async || target.len() > shown + KEYS as usize).await;
        }
        if round == 2 {
            enough.store(true, Ordering::SeqCst);
            tap.close_all();
        }
    });
    let mut rows = target.rows();
    rows.sort_unstable();
    for key in 0..KEYS {
        let times: Vec<_> = rows.iter().filter(|(of, _)| *of == key).map(|(_, times)| *times).collect();
        assert!(times.iter().copied().eq(1..=times.len() as i64), "key {key} has fired {times:?}");
        assert!(!times.is_empty());
    }
}

/// Tells each record again some milliseconds of processing time later; deletes every third timer.
#[derive(Clone)]
struct Later {
    pending: ListState<u64, (i64, u64)>,
    delay_ms: i64,
    trap: Trap,
}

impl KeyedProcessFunction for Later {
    type Key = u64;
    type In = u64;
    type Out = (u64, i64);

    fn states(&mut self, visit: StateVisitor<'_, u64>) {
        visit(&mut self.pending);
    }

    fn process(&mut self, n: u64, cx: &mut KeyedContext<'_, u64, Self::Out>) -> Result<(), PortError> {
        self.trap.step();
        let due = cx.processing_time() + self.delay_ms;
        cx.register_processing_time_timer(due);
        if n.is_multiple_of(3) {
            cx.delete_processing_time_timer(due);
        } else {
            self.pending.add(cx, (due, n));
        }
        Ok(())
    }

    fn on_timer(&mut self, time: Timestamp, cx: &mut KeyedContext<'_, u64, Self::Out>) -> Result<(), PortError> {
        let (due, later): (Vec<_>, Vec<_>) = self.pending.get(cx).iter().partition(|(due, _)| *due == time);
        assert!(!due.is_empty(), "a deleted timer has fired");
        self.pending.update(cx, later);
        let lateness = cx.processing_time() - time;
        due.iter().for_each(|(_, n)| cx.emit((*n, lateness)));
        Ok(())
    }
}

#[test]
fn processing_timers_fire_once_in_effect_and_overdue_ones_at_once_after_a_restore() {
    let dir = tempfile::tempdir().expect("a folder");
    let (tap, target, trap) = (Tap::new(2), Target::<(u64, i64)>::new(), Trap::default());
    let build = |parallelism| {
        let env = environment(parallelism);
        env.from_source("numbers", tapped(&tap, |split, n| split * 10_000 + n))
            .uid("numbers")
            .key_by(|n| *n)
            .process(Later { pending: ListState::new("pending"), delay_ms: 60, trap: trap.clone() })
            .uid("later")
            .sink_to("out", MemorySink(Arc::clone(&target)))
            .uid("out");
        env
    };
    let wanted = |records: u64| -> BTreeSet<u64> {
        let all = (0..2).flat_map(|split| (0..records).map(move |n| split * 10_000 + n));
        all.filter(|n| n % 3 != 0).collect()
    };
    in_turns(dir.path(), &[2, 3, 1], build, async |round, launched| {
        let records = (round as u64 + 1) * 200;
        fail_over(launched, &trap, &tap, records - 100).await;
        tap.release_all(records);
        if round == 2 {
            // At the end of the input timers that are not due are dropped, as in Flink: wait for them.
            until(async || target.len() == wanted(600).len()).await;
            tap.close_all();
        } else {
            // The stop finds timers that are not due; they are overdue when the next round begins.
            until(async || records_in(launched, "Keyed").await >= 200).await;
            launched.handle.trigger(Purpose::Checkpoint, false, None).await.expect("durable");
        }
    });
    let rows = target.rows();
    let seen: BTreeSet<u64> = rows.iter().map(|(n, _)| *n).collect();
    assert_eq!(rows.len(), seen.len(), "a timer fired twice in effect");
    assert_eq!(seen, wanted(600));
    assert!(rows.iter().all(|(_, lateness)| *lateness >= 0), "a timer fired before its time");
}

#[test]
fn an_overdue_processing_timer_fires_as_soon_as_the_job_is_back() {
    let dir = tempfile::tempdir().expect("a folder");
    let (tap, target) = (Tap::new(1), Target::<(u64, i64)>::new());
    let build = |parallelism| {
        let env = environment(parallelism);
        env.from_source("numbers", tapped(&tap, |_, n| n + 1))
            .uid("numbers")
            .key_by(|n| *n)
            .process(Later { pending: ListState::new("pending"), delay_ms: 400, trap: Trap::default() })
            .uid("later")
            .sink_to("out", MemorySink(Arc::clone(&target)))
            .uid("out");
        env
    };
    in_turns(dir.path(), &[1, 2], build, async |round, launched| {
        if round == 0 {
            tap.release_all(1);
            until(async || records_in(launched, "Keyed").await == 1).await;
        } else {
            until(async || target.len() == 1).await;
            tap.close_all();
        }
    });
    assert_eq!(target.rows()[0].0, 1);
}

/// Counts records per window.
#[derive(Clone)]
struct CountWindow;

impl Aggregate for CountWindow {
    type In = (u64, i64);
    type Accumulator = (u64, u64);
    type Out = (u64, i64, u64);

    fn create(&self) -> (u64, u64) {
        (0, 0)
    }

    fn add(&self, (key, count): &mut (u64, u64), (of, _): (u64, i64)) {
        *key = of;
        *count += 1;
    }

    fn result(&self, (key, count): (u64, u64), window: Window) -> (u64, i64, u64) {
        (key, window.end, count)
    }
}

static LATE: OutputTag<(u64, i64)> = OutputTag::new("late");

#[test]
fn windows_count_what_is_in_time_once_and_late_stays_late_after_a_restore() {
    let dir = tempfile::tempdir().expect("a folder");
    let (tap, trap) = (Tap::new(2), Trap::default());
    let (target, late) = (Target::<(u64, i64, u64)>::new(), Target::<(u64, i64)>::new());
    // Records 1,000 to 1,099 of a split are from the first second again: far behind the watermark.
    let time = |n: u64| if (1_000..1_100).contains(&n) { (n - 1_000) as i64 } else { n as i64 * 10 };
    let build = |parallelism| {
        let env = environment(parallelism);
        let steps = trap.clone();
        let windows = env
            .from_source("numbers", tapped(&tap, move |split, n| (split * 100 + n % 10, time(n))))
            .assign_watermarks(Watermarks::bounded_out_of_orderness(milliseconds(100)), |(_, time)| *time)
            .uid("numbers")
            .inspect(move |_| steps.step())
            .key_by(|(key, _)| *key)
            .window(Tumbling::event_time(seconds(1)).with_offset(milliseconds(300)))
            .side_output_late_data(&LATE)
            .aggregate(CountWindow)
            .uid("windows");
        windows.side_output(&LATE).sink_to("late", MemorySink(Arc::clone(&late))).uid("late");
        windows.sink_to("out", MemorySink(Arc::clone(&target))).uid("out");
        env
    };
    let windows = Tumbling::event_time(seconds(1)).with_offset(milliseconds(300));
    let mut counts = BTreeMap::<(u64, i64), u64>::new();
    for (split, n) in (0..2).flat_map(|split| (0..3_000).map(move |n| (split, n))) {
        if !(1_000..1_100).contains(&n) {
            *counts.entry((split * 100 + n % 10, windows.window(time(n)).end)).or_default() += 1;
        }
    }
    let fired_by = |watermark: i64| counts.keys().filter(|(_, end)| end - 1 <= watermark).count();
    in_turns(dir.path(), &[2, 3, 1], build, async |round, launched| {
        let records = 1_000 * (round as u64 + 1);
        tap.release_all(records - 800);
        if round == 1 {
            // The late records are the first that the restored job reads.
            until(async || late.len() == 200).await;
        }
        fail_over(launched, &trap, &tap, records - 400).await;
        tap.release_all(records);
        let watermark = (records as i64 - 1) * 10 - 101;
        until(async || target.len() == fired_by(watermark)).await;
        if round == 2 {
            tap.close_all();
        }
    });
    let mut rows = target.rows();
    rows.sort_unstable();
    let wanted: Vec<_> = counts.iter().map(|((key, end), count)| (*key, *end, *count)).collect();
    assert_eq!(rows, wanted);
    let mut rows = late.rows();
    rows.sort_unstable();
    let mut wanted: Vec<_> =
        (0..2).flat_map(|split| (1_000..1_100).map(move |n| (split * 100 + n % 10, time(n)))).collect();
    wanted.sort_unstable();
    assert_eq!(rows, wanted);
}

#[test]
fn late_records_without_a_side_output_are_counted_and_dropped() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let (tap, target) = (Tap::new(1), Target::<(u64, i64, u64)>::new());
        let env = environment(1);
        let time = |n: u64| if n >= 500 { 3 } else { n as i64 * 10 };
        env.from_source("numbers", tapped(&tap, move |_, n| (1, time(n))))
            .assign_watermarks(Watermarks::monotonous(), |(_, time)| *time)
            .uid("numbers")
            .key_by(|(key, _)| *key)
            .window(Tumbling::event_time(seconds(1)))
            .aggregate(CountWindow)
            .uid("windows")
            .sink_to("out", MemorySink(Arc::clone(&target)))
            .uid("out");
        let launched = start(&env, options(dir.path())).await;
        tap.release_all(500);
        until(async || target.len() == 4).await;
        tap.release_all(507);
        until(async || readings(&launched, "Window").await[0].late_records_dropped == 7).await;
        tap.close_all();
        finish(&launched).await;
        assert_eq!(target.rows(), (1..=5).map(|second| (1, second * 1_000, 100)).collect::<Vec<_>>());
    });
}

/// Registers a thousand timers for each record at time 0, and emits when the last of them fires.
#[derive(Clone)]
struct Thousand;

impl KeyedProcessFunction for Thousand {
    type Key = u64;
    type In = (u64, i64);
    type Out = u64;

    fn states(&mut self, _visit: StateVisitor<'_, u64>) {}

    fn process(&mut self, (_, time): (u64, i64), cx: &mut KeyedContext<'_, u64, u64>) -> Result<(), PortError> {
        if time == 0 {
            (1..=1_000).for_each(|time| cx.register_event_time_timer(time));
        }
        Ok(())
    }

    fn on_timer(&mut self, time: Timestamp, cx: &mut KeyedContext<'_, u64, u64>) -> Result<(), PortError> {
        if time == 1_000 {
            let key = *cx.key();
            cx.emit(key);
        }
        Ok(())
    }
}

#[test]
#[ignore = "a measurement: ten million timers at one watermark"]
fn checkpoints_go_through_ten_million_timers_of_one_watermark() {
    const KEYS: u64 = 10_000;
    new_runtime().block_on(async {
        let dir = tempfile::tempdir().expect("a folder");
        let (tap, target) = (Tap::new(1), Target::<u64>::new());
        let env = environment(1);
        env.from_source("numbers", tapped(&tap, |_, n| (n, if n < KEYS { 0 } else { 10_000 })))
            .assign_watermarks(Watermarks::monotonous(), |(_, time)| *time)
            .uid("numbers")
            .key_by(|(n, _)| *n)
            .process(Thousand)
            .uid("thousand")
            .sink_to("out", MemorySink(Arc::clone(&target)))
            .uid("out");
        let launched = start(&env, options(dir.path())).await;
        let completed = async || report(&launched.handle).await.checkpoints.counts().completed;
        tap.release_all(KEYS);
        while records_in(&launched, "Keyed").await < KEYS {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Two more hold all the timers.
        let all = completed().await + 2;
        while completed().await < all {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tap.release_all(KEYS + 1);
        let began = tokio::time::Instant::now();
        let (mut known, mut last, mut longest, mut during) = (all, began, Duration::ZERO, 0);
        while target.written.load(Ordering::SeqCst) < KEYS {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let now = completed().await;
            if now > known {
                longest = longest.max(last.elapsed());
                (during, known, last) = (during + now - known, now, tokio::time::Instant::now());
            }
        }
        println!("{during} checkpoints while firing took {:?}; longest without one {longest:?}", began.elapsed());
        assert!(during > 0, "the timers kept checkpoints from completing");
        tap.close_all();
        finish(&launched).await;
        assert_eq!(target.len() as u64, KEYS);
    });
}

#[test]
fn a_crowd_of_timers_far_ahead_costs_one_wake_up() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let (tap, target) = (Tap::new(1), Target::<(u64, i64)>::new());
        let env = environment(1);
        env.from_source("numbers", tapped(&tap, |_, n| n))
            .uid("numbers")
            .key_by(|n| *n)
            .process(Later { pending: ListState::new("pending"), delay_ms: 3_600_000, trap: Trap::default() })
            .uid("later")
            .sink_to("out", MemorySink(Arc::clone(&target)))
            .uid("out");
        let options = LaunchOptions { batch_rows: 10, ..options(dir.path()) };
        let launched = start(&env, options).await;
        let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        until_status(&launched.handle, JobStatus::Running).await;
        let before = tasks();
        tap.release_all(20_000);
        until(async || records_in(&launched, "Keyed").await == 20_000).await;
        let after = tasks();
        assert!(after < before + 50, "{before} tasks have become {after}");
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(target.written.load(Ordering::SeqCst), 0);
        launched.handle.cancel().await.expect("it answers");
    });
}
