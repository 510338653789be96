//! Keyed state of 10 M keys: how long a checkpoint stops a subtask, what it costs, how fast a restart answers, and what it
//! costs when a tenth of it fits into memory.
#![expect(clippy::disallowed_methods, reason = "benchmarks measure time")]

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use benches::cases::{self, Case, Measured, Setting};
use benches::counting::{Count, CountByKey, Failure, Keys};
use benches::job::{JobSetting, run};
use benches::process::monotonic_ns;
use benches::sinks::ShowTo;
use millstream::stream::Environment;
use millstream_actors::job_master::report::JobReport;
use millstream_actors::metrics::Registry;
use millstream_actors::metrics::instrument::Now;
use millstream_connectors::generator::DataGeneratorSource;
use millstream_runtime::checkpoint::coordinator::{CheckpointStatistics, CheckpointStatus};
use millstream_runtime::job::RestartOptions;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PARALLELISM: u32 = 2;
const INTERVAL_MS: i64 = 3_000;

fn main() -> ExitCode {
    cases::main(&[
        Case { name: "checkpoint-10m", run: checkpoint },
        Case { name: "restart-10m", run: restart },
        Case { name: "memory-all-uniform", run: |setting| drawn(setting, false, false) },
        Case { name: "memory-tenth-uniform", run: |setting| drawn(setting, false, true) },
        Case { name: "memory-all-skewed", run: |setting| drawn(setting, true, false) },
        Case { name: "memory-tenth-skewed", run: |setting| drawn(setting, true, true) },
    ])
}

fn keys(setting: &Setting, updates: u64) -> Keys {
    let keys = if setting.quick { 1_000_000 } else { 10_000_000 };
    let updates = if setting.quick { updates / 4 } else { updates };
    Keys { keys, count: keys + updates, hot: keys / 10, hot_records: 3 * keys, skewed: false }
}

/// A count that came out: in which attempt, and when.
struct Received {
    attempt: u32,
    at_ns: u64,
    count: Count,
}

type AllReceived = Arc<Mutex<Vec<Received>>>;

fn record_job(env: &Environment, keys: Keys, failure: &Arc<Failure>, received: &AllReceived) {
    let received = Arc::clone(received);
    let sink = ShowTo::new(move |context| {
        let (received, attempt) = (Arc::clone(&received), context.attempt.attempt.0);
        Box::new(move |rows: millstream_runtime::batch::Rows<Count>| {
            let at_ns = monotonic_ns();
            let mut received = received.lock().unwrap_or_else(PoisonError::into_inner);
            received.extend(rows.values.into_iter().map(|count| Received { attempt, at_ns, count }));
        })
    });
    env.from_source("numbers", DataGeneratorSource::new(move |id| keys.record(id), keys.count).splits(PARALLELISM))
        .uid("numbers")
        .key_by(|record| record.key)
        .process(CountByKey::new(keys, Arc::clone(failure)))
        .uid("counts")
        .sink_to("results", sink)
        .uid("results");
}

fn is_right(keys: Keys, received: &AllReceived) -> bool {
    let received = received.lock().unwrap_or_else(PoisonError::into_inner);
    let mut counts: Vec<Count> = received.iter().map(|received| received.count).collect();
    // Which records are told is drawn, so only about how many there must be is known.
    let expected = (keys.count - keys.keys) as f64 / 1_024.0;
    counts.len() as f64 > expected * 0.9 && keys.check(&mut counts)
}

fn wall_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

/// What is seen of the job ten times a second.
#[derive(Default)]
struct Seen {
    /// Time of day and records read by the sources.
    progress: Vec<(i64, u64)>,
    checkpoints: Vec<CheckpointStatistics>,
    records: u64,
}

impl Seen {
    fn look(&mut self, report: &JobReport, registry: &Registry) {
        let Some(source) = report.vertices.first() else { return };
        let now = Now { wall_ms: wall_ms(), monotonic_ns: monotonic_ns() };
        let of_subtask = |row: &millstream_actors::job_master::report::SubtaskReportRow| {
            registry.task_reading(report.job, row.id, now).map_or(0, |reading| reading.records_in)
        };
        let records = report.subtasks.iter().filter(|row| row.id.vertex == source.id).map(of_subtask).sum();
        self.progress.push((now.wall_ms, records));
        for checkpoint in report.checkpoints.history() {
            let new = self.checkpoints.iter().all(|known| known.id != checkpoint.id);
            if new && checkpoint.status == CheckpointStatus::Completed {
                self.checkpoints.push(checkpoint.clone());
            }
        }
        self.records = records;
    }

    /// Records read until a time of day, between the looks by a straight line.
    fn records_at(&self, at_ms: i64) -> Option<f64> {
        let after = self.progress.iter().position(|(ms, _)| *ms >= at_ms)?;
        let ((t0, r0), (t1, r1)) = (*self.progress.get(after.checked_sub(1)?)?, self.progress[after]);
        let part = (at_ms - t0) as f64 / ((t1 - t0).max(1)) as f64;
        Some(r0 as f64 + part * (r1 as f64 - r0 as f64))
    }

    /// Part of the throughput missing in the second after a barrier, against the second before it.
    fn lost_after(&self, barrier_ms: i64) -> Option<f64> {
        let [before, at, after] =
            [self.records_at(barrier_ms - 1_000)?, self.records_at(barrier_ms)?, self.records_at(barrier_ms + 1_000)?];
        Some(1.0 - (after - at) / (at - before).max(1.0))
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn checkpoint(setting: &Setting) -> Result<Measured, String> {
    let keys = keys(setting, 240_000_000);
    let (received, mut seen) = (AllReceived::default(), Seen::default());
    let failure = Arc::default();
    let job = JobSetting {
        parallelism: PARALLELISM,
        checkpoint_ms: Some(INTERVAL_MS),
        folder: &setting.folder,
        adjust: &|_| {},
    };
    let record = |env: &Environment| record_job(env, keys, &failure, &received);
    let done = run(record, &job, &mut |report, registry| seen.look(report, registry))?;
    // Those that began after every key had come, and not the last, whose second after it is the end.
    let loaded_ms = seen.progress.iter().find(|(_, records)| *records > keys.keys * 2).map_or(i64::MAX, |(ms, _)| *ms);
    let steady: Vec<_> =
        seen.checkpoints.iter().filter(|checkpoint| checkpoint.trigger_timestamp_ms > loaded_ms).skip(1).collect();
    let stalls = |checkpoint: &CheckpointStatistics| {
        let subtasks = checkpoint.vertices.iter().flat_map(|vertex| vertex.subtasks.iter().flatten());
        subtasks.map(|subtask| subtask.metrics.longest_step_us).max().unwrap_or(0) as f64 / 1e3
    };
    let lost = steady.iter().filter_map(|checkpoint| seen.lost_after(checkpoint.trigger_timestamp_ms)).collect();
    let written = steady.iter().map(|checkpoint| checkpoint.checkpointed_size_bytes as f64 / 1048576.0).collect();
    let took = steady.iter().map(|checkpoint| checkpoint.end_to_end_duration_ms as f64).collect();
    Ok(Measured {
        parallelism: PARALLELISM,
        correct: is_right(keys, &received),
        more: vec![
            ("steady_checkpoints".into(), steady.len() as f64),
            ("longest_stall_ms".into(), steady.iter().map(|checkpoint| stalls(checkpoint)).fold(0.0, f64::max)),
            ("median_stall_ms".into(), median(steady.iter().map(|checkpoint| stalls(checkpoint)).collect())),
            ("longest_stall_while_loading_ms".into(), seen.checkpoints.iter().map(stalls).fold(0.0, f64::max)),
            ("throughput_lost_in_the_second_after".into(), median(lost)),
            ("written_mib_per_checkpoint".into(), median(written)),
            ("checkpoint_ms".into(), median(took)),
        ],
        ..done.measured(keys.count)
    })
}

/// Every key once, then as many drawn from all of them; with all of the state in memory, or a tenth of what it takes there.
fn drawn(setting: &Setting, skewed: bool, limited: bool) -> Result<Measured, String> {
    let keys = if setting.quick { 1_000_000 } else { 10_000_000 };
    let keys = Keys { keys, count: keys * 2, hot: keys, hot_records: u64::MAX, skewed };
    let received = AllReceived::default();
    let failure = Arc::default();
    // Some 42 bytes a key: an entry has 24, and a table is half full to full.
    let limit = limited.then_some(keys.keys as usize * 42 / 10);
    let job = JobSetting {
        parallelism: PARALLELISM,
        checkpoint_ms: Some(1_000),
        folder: &setting.folder,
        adjust: &|options| options.state_memory = limit,
    };
    let (mut loaded, mut records) = (None, 0);
    let record = |env: &Environment| record_job(env, keys, &failure, &received);
    let done = run(record, &job, &mut |report, registry| {
        let mut seen = Seen::default();
        seen.look(report, registry);
        records = records.max(seen.records);
        if loaded.is_none() && records >= keys.keys {
            loaded = Some((monotonic_ns(), records));
        }
    })?;
    let (loaded_ns, before) = loaded.ok_or("the input was too short to be looked at")?;
    let drawn_s = (done.ended.at_ns - loaded_ns) as f64 / 1e9;
    Ok(Measured {
        parallelism: PARALLELISM,
        correct: is_right(keys, &received),
        more: vec![("drawn_records_per_s".into(), (keys.count - before) as f64 / drawn_s)],
        ..done.measured(keys.count)
    })
}

fn restart(setting: &Setting) -> Result<Measured, String> {
    let keys = keys(setting, 150_000_000);
    let received = AllReceived::default();
    let failure: Arc<Failure> = Arc::default();
    let job = JobSetting {
        parallelism: PARALLELISM,
        checkpoint_ms: Some(1_000),
        folder: &setting.folder,
        adjust: &|options| options.restart = RestartOptions::FixedDelay { attempts: 1, delay_ms: 0 },
    };
    let (mut seen, mut loaded_at, mut asked) = (Seen::default(), None, false);
    let record = |env: &Environment| record_job(env, keys, &failure, &received);
    let done = run(record, &job, &mut |report, registry| {
        seen.look(report, registry);
        let completed = report.checkpoints.counts().completed;
        if seen.records > keys.keys && loaded_at.is_none() {
            loaded_at = Some(completed);
        }
        if !asked && loaded_at.is_some_and(|loaded| completed >= loaded + 3) {
            asked = true;
            failure.want();
        }
    })?;
    if done.report.restarts != 1 {
        return Err(format!("{} restarts instead of one: the input was too short", done.report.restarts));
    }
    let failed_ns = failure.at_ns();
    let mut after: Vec<u64> = {
        let received = received.lock().unwrap_or_else(PoisonError::into_inner);
        let first = received.iter().map(|received| received.attempt).min().unwrap_or(0);
        received.iter().filter(|received| received.attempt > first).map(|received| received.at_ns - failed_ns).collect()
    };
    after.sort_unstable();
    let ms = |index: usize| after.get(index).map_or(f64::NAN, |ns| *ns as f64 / 1e6);
    Ok(Measured {
        parallelism: PARALLELISM,
        correct: is_right(keys, &received),
        more: vec![
            ("first_output_after_failure_ms".into(), ms(0)),
            ("thousandth_output_after_failure_ms".into(), ms(999)),
        ],
        ..done.measured(keys.count)
    })
}
