//! How long a record takes from its source to the sink, through two exchanges, at a steady rate with checkpoints on.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use benches::cases::{self, Case, Measured, Setting};
use benches::job::{JobSetting, run};
use benches::paced::PacedSource;
use benches::process::monotonic_ns;
use benches::records::Record;
use benches::sinks::ShowTo;
use millstream::stream::Environment;
use millstream_runtime::batch::Rows;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PARALLELISM: u32 = 2;
const KEYS: u64 = 10_000;

fn main() -> ExitCode {
    cases::main(&[
        Case { name: "two-exchanges-100k", run: |setting| latency(setting, 100_000, Some(1_000)) },
        Case { name: "no-checkpoints-100k", run: |setting| latency(setting, 100_000, None) },
        Case { name: "two-exchanges-1m", run: |setting| latency(setting, 1_000_000, Some(1_000)) },
    ])
}

/// Nanoseconds on the way, and the sums of what arrived.
#[derive(Default)]
struct Arrived {
    taken_ns: Vec<u32>,
    ids: u64,
    counts: u64,
}

/// Two rolling aggregates by two keys: the first counts the records of a key, the second keeps the greatest count.
fn latency(setting: &Setting, per_second: u64, checkpoint_ms: Option<i64>) -> Result<Measured, String> {
    let seconds = if setting.quick { 3 } else { 15 };
    let count = per_second * seconds;
    let arrived: Arc<Mutex<Arrived>> = Arc::default();
    let collected = Arc::clone(&arrived);
    let record = move |env: &Environment| {
        let sink = ShowTo::new(move |_| {
            let arrived = Arc::clone(&collected);
            Box::new(move |rows: Rows<Record>| {
                let now_ns = monotonic_ns();
                let mut arrived = arrived.lock().unwrap_or_else(PoisonError::into_inner);
                for record in &rows.values {
                    arrived.taken_ns.push(u32::try_from(now_ns - record.emitted_ns).unwrap_or(u32::MAX));
                    arrived.ids += record.id;
                    arrived.counts += record.value;
                }
            })
        });
        let source = PacedSource { count, per_second, keys: KEYS, parallelism: u64::from(PARALLELISM) };
        env.from_source("paced", source)
            .uid("paced")
            .map(|record| Record { value: 1, ..record })
            .key_by(|record| record.key)
            .reduce(|sum, record| *sum = Record { value: sum.value + 1, ..record })
            .uid("counts")
            .key_by(|record| record.id)
            .as_stream()
            .sink_to("results", sink)
            .uid("results");
    };
    let job = JobSetting { parallelism: PARALLELISM, checkpoint_ms, folder: &setting.folder, adjust: &|_| {} };
    let done = run(record, &job, &mut |_, _| {})?;
    let mut arrived = arrived.lock().unwrap_or_else(PoisonError::into_inner);
    let correct = is_right(&arrived, count);
    arrived.taken_ns.sort_unstable();
    let ms = |part: f64| {
        let index = ((arrived.taken_ns.len() as f64 * part) as usize).min(arrived.taken_ns.len().saturating_sub(1));
        arrived.taken_ns.get(index).map_or(f64::NAN, |ns| f64::from(*ns) / 1e6)
    };
    let more = [("p50_ms", 0.5), ("p99_ms", 0.99), ("p99_9_ms", 0.999), ("max_ms", 1.0)];
    Ok(Measured {
        parallelism: PARALLELISM,
        correct,
        more: more.map(|(name, part)| (name.to_string(), ms(part))).to_vec(),
        ..done.measured(count)
    })
}

/// Every record once, with every count of its key once.
fn is_right(arrived: &Arrived, count: u64) -> bool {
    let mut by_key = vec![0u64; KEYS as usize];
    (0..count).for_each(|id| by_key[Record::new(id, KEYS).key as usize] += 1);
    let counts: u64 = by_key.iter().map(|number| number * (number + 1) / 2).sum();
    arrived.taken_ns.len() as u64 == count && arrived.ids == count * (count - 1) / 2 && arrived.counts == counts
}
