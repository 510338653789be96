//! How many records a second: source, map, filter, exchange by key, keyed sum, with a checkpoint every second.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use benches::cases::{self, Case, Measured, Setting};
use benches::job::{JobSetting, Moment, run};
use benches::records::Record;
use benches::sinks::ShowTo;
use millstream::stream::Environment;
use millstream_connectors::generator::DataGeneratorSource;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PARALLELISM: u32 = 2;

fn main() -> ExitCode {
    cases::main(&[
        Case { name: "keyed-sum-10k", run: |setting| keyed_sum(setting, 10_000, 1_000_000_000, Some(1_000)) },
        Case { name: "keyed-sum-1m", run: |setting| keyed_sum(setting, 1_000_000, 400_000_000, Some(1_000)) },
        Case { name: "no-checkpoints-10k", run: |setting| keyed_sum(setting, 10_000, 1_000_000_000, None) },
        Case { name: "no-checkpoints-1m", run: |setting| keyed_sum(setting, 1_000_000, 400_000_000, None) },
        Case { name: "exchange-only", run: exchange_only },
    ])
}

/// What came out of the sums: when each subtask had processed all of its records, and the sums.
#[derive(Default)]
struct Results {
    last_begun: Option<Moment>,
    sums: Vec<(u64, u64)>,
}

fn doubled(record: Record) -> Record {
    Record { value: record.value * 2 + 1, ..record }
}

fn is_kept(record: &Record) -> bool {
    !record.id.is_multiple_of(8)
}

fn records(setting: &Setting, full: u64) -> u64 {
    if setting.quick { full / 10 } else { full }
}

/// The sums come out when the input has ended, so the first of them tells when a subtask had processed everything:
/// until then it is measured.
fn keyed_sum(setting: &Setting, keys: u64, full: u64, checkpoint_ms: Option<i64>) -> Result<Measured, String> {
    let count = records(setting, full);
    let results: Arc<Mutex<Results>> = Arc::default();
    let collected = Arc::clone(&results);
    let record = move |env: &Environment| {
        let sink = ShowTo::new(move |_| {
            let results = Arc::clone(&collected);
            let mut begun = false;
            Box::new(move |rows| {
                let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                if !std::mem::replace(&mut begun, true) {
                    results.last_begun = Some(Moment::now());
                }
                results.sums.extend(rows.values);
            })
        });
        env.from_source("numbers", DataGeneratorSource::new(move |id| Record::new(id, keys), count))
            .uid("numbers")
            .map(doubled)
            .filter(is_kept)
            .key_by(|record| record.key)
            .fold_to_end::<u64, _>(|sum, record| *sum += record.value)
            .uid("sums")
            .sink_to("results", sink)
            .uid("results");
    };
    let job = JobSetting { parallelism: PARALLELISM, checkpoint_ms, folder: &setting.folder, adjust: &|_| {} };
    let done = run(record, &job, &mut |_, _| {})?;
    let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
    let ended = results.last_begun.ok_or("there were no results")?;
    results.sums.sort_unstable();
    Ok(Measured {
        parallelism: PARALLELISM,
        records: count,
        seconds: (ended.at_ns - done.begun.at_ns) as f64 / 1e9,
        cpu_ns: ended.cpu_ns - done.begun.cpu_ns,
        checkpoints: done.report.checkpoints.counts().completed,
        correct: results.sums == reference(count, keys),
        more: vec![("seconds_with_results".into(), (done.ended.at_ns - done.begun.at_ns) as f64 / 1e9)],
    })
}

/// The sums, by one thread without the engine.
fn reference(count: u64, keys: u64) -> Vec<(u64, u64)> {
    let mut sums = vec![None::<u64>; keys as usize];
    for record in (0..count).map(|id| doubled(Record::new(id, keys))).filter(is_kept) {
        *sums[record.key as usize].get_or_insert(0) += record.value;
    }
    let present = sums.iter().enumerate().filter_map(|(key, sum)| sum.map(|sum| (key as u64, sum)));
    present.collect()
}

/// The same without keyed state: what the exchange alone lets through.
fn exchange_only(setting: &Setting) -> Result<Measured, String> {
    let count = records(setting, 1_500_000_000);
    let seen: Arc<Mutex<(u64, u64)>> = Arc::default();
    let counted = Arc::clone(&seen);
    let record = move |env: &Environment| {
        let sink = ShowTo::new(move |_| {
            let seen = Arc::clone(&counted);
            Box::new(move |rows: millstream_runtime::batch::Rows<Record>| {
                let sum: u64 = rows.values.iter().map(|record| record.value).sum();
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.0 += rows.len() as u64;
                seen.1 += sum;
            })
        });
        env.from_source("numbers", DataGeneratorSource::new(|id| Record::new(id, 1_000_000), count))
            .uid("numbers")
            .map(doubled)
            .filter(is_kept)
            .key_by(|record| record.key)
            .as_stream()
            .sink_to("results", sink)
            .uid("results");
    };
    let job =
        JobSetting { parallelism: PARALLELISM, checkpoint_ms: Some(1_000), folder: &setting.folder, adjust: &|_| {} };
    let done = run(record, &job, &mut |_, _| {})?;
    let kept = (0..count).map(|id| doubled(Record::new(id, 1_000_000))).filter(is_kept);
    let expected = kept.fold((0, 0), |(number, sum), record| (number + 1, sum + record.value));
    let seen = *seen.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Measured { parallelism: PARALLELISM, correct: seen == expected, more: Vec::new(), ..done.measured(count) })
}
