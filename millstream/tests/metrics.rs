//! What a running job tells scrapers about itself, against what it was fed.

use std::sync::Arc;

use millstream::prelude::*;
use millstream_actors::metrics::Now;
use millstream_actors::world::SystemClock;
use millstream_runtime::ports::Clock;

#[path = "support/engine.rs"]
mod engine;
use engine::*;

/// Event time of the first record, in milliseconds since the epoch.
const FIRST: i64 = 1_700_000_000_000;
const RECORDS: i64 = 200;

/// Asks for a timer at the time of each record, and tells when it fires.
#[derive(Clone)]
struct Alarm;

impl KeyedProcessFunction for Alarm {
    type Key = i64;
    type In = i64;
    type Out = i64;

    fn states(&mut self, _visit: StateVisitor<'_, i64>) {}

    fn process(&mut self, time: i64, cx: &mut KeyedContext<'_, i64, i64>) -> Result<(), PortError> {
        cx.register_event_time_timer(time);
        Ok(())
    }

    fn on_timer(&mut self, time: Timestamp, cx: &mut KeyedContext<'_, i64, i64>) -> Result<(), PortError> {
        cx.emit(time);
        Ok(())
    }
}

/// The values of a metric over all that report it.
fn values(text: &str, name: &str) -> Vec<i64> {
    let of_metric = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{'));
    let value = |line: &str| line.rsplit(' ').next().expect("a value").parse().expect("a whole number");
    text.lines().filter(of_metric).map(value).collect()
}

#[test]
fn a_running_source_tells_what_it_was_fed_and_how_far_it_lags() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let input = dir.path().join("input");
        std::fs::create_dir_all(&input).expect("made");
        let lines: String = (0..RECORDS).map(|n| format!("{}\n", FIRST + n)).collect();
        std::fs::write(input.join("1.jsonl"), &lines).expect("written");
        let (env, target) = (environment(1), Target::<i64>::new());
        env.from_source("numbers", RateLimited::new(FileSource::<i64>::json_lines(&input).watch(10), 500))
            .assign_watermarks(Watermarks::monotonous(), |time| *time)
            .uid("numbers")
            .key_by(|time| *time % 10)
            .process(Alarm)
            .uid("alarm")
            .sink_to("out", MemorySink(Arc::clone(&target)))
            .uid("out");
        let from_ms = SystemClock.now_ms();
        let launched = start(&env, options(&dir.path().join("state"))).await;
        let scrape = || {
            let now = Now { wall_ms: SystemClock.now_ms(), monotonic_ns: launched.stopwatch.elapsed_ns() };
            launched.registry.sample(now);
            launched.registry.prometheus().expect("not shut down")
        };
        let source = |text: &str, name: &str| values(text, &format!("flink_taskmanager_job_task_operator_{name}"));
        // While the rate limit holds records back, the rest of the file waits.
        until(async || {
            let pending = source(&scrape(), "pendingBytes");
            pending.iter().any(|bytes| (1..lines.len() as i64).contains(bytes))
        })
        .await;
        // The watermark is a millisecond behind the last record: its timer waits.
        let fired = |text: &str| values(text, "flink_taskmanager_job_task_numFiredTimers").iter().sum::<i64>();
        until(async || fired(&scrape()) == RECORDS - 1).await;
        until(async || {
            let text = scrape();
            source(&text, "numRecordsIn") == [RECORDS] && source(&text, "pendingBytes") == [0]
        })
        .await;
        let scraped_ms = SystemClock.now_ms();
        let text = scrape();
        // A file that is watched may grow: it is not read to its end.
        assert_eq!(source(&text, "numSplitsProcessed"), [0]);
        let [watermark_lag_ms] = source(&text, "watermarkLag")[..] else { panic!("{text}") };
        let watermark = FIRST + RECORDS - 2;
        assert!((scraped_ms - watermark..=SystemClock.now_ms() - watermark).contains(&watermark_lag_ms), "{text}");
        let [emit_lag_ms] = source(&text, "currentEmitEventTimeLag")[..] else { panic!("{text}") };
        let last = FIRST + RECORDS - 1;
        assert!((from_ms - last..=scraped_ms - last).contains(&emit_lag_ms), "{text}");
        // Nothing comes any more.
        let idle = source(&text, "sourceIdleTime");
        until(async || source(&scrape(), "sourceIdleTime") > idle).await;
        // Shown with the next checkpoint.
        until(async || target.len() as i64 == RECORDS - 1).await;
        launched.handle.cancel().await.expect("it answers");
        assert_eq!(sorted(target.rows()), (FIRST..FIRST + RECORDS - 1).collect::<Vec<_>>());
    });
}

fn sorted(mut rows: Vec<i64>) -> Vec<i64> {
    rows.sort_unstable();
    rows
}
