//! How fast transactions are read from JSON lines, every field decoded and validated, and how fast the main job is.

use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use benches::cases::{self, Case, Measured, Setting};
use benches::job::{JobSetting, run};
use benches::sinks::ShowTo;
use millstream::jobs::fraud_detection::fraud_detection;
use millstream::stream::{Environment, Parameters};
use millstream_connectors::file::source::{FileSource, Line, LineFormat};
use millstream_fraud::generate::{Generated, Options, generate};
use millstream_fraud::parse::parse_transaction;
use millstream_fraud::transaction::Transaction;
use millstream_runtime::batch::Rows;
use serde::{Deserialize, Serialize};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PARALLELISM: u32 = 2;

fn main() -> ExitCode {
    cases::main(&[Case { name: "json-lines", run: json_lines }, Case { name: "main-job", run: main_job }])
}

fn sample(setting: &Setting, events: u64) -> Result<Generated, String> {
    let options = Options { events: if setting.quick { events / 10 } else { events }, ..Options::default() };
    generate(&options, &setting.folder.join("input"), &mut |_| {}).map_err(|error| error.to_string())
}

/// What a line became, as the main job decodes it: a transaction, or one that is none.
#[derive(Clone, Serialize, Deserialize)]
enum Decoded {
    Transaction(Transaction),
    Malformed(String),
}

#[derive(Clone)]
struct Transactions;

impl LineFormat for Transactions {
    type Record = Decoded;
    type SplitState = ();

    fn decode(&self, _state: &mut (), line: Line<'_>, out: &mut Vec<Decoded>) {
        out.push(match parse_transaction(line.bytes) {
            Ok(transaction) => Decoded::Transaction(transaction),
            Err(malformed) => Decoded::Malformed(malformed.detail),
        });
    }
}

/// Lines, malformed ones, and the sum of the amounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Totals {
    lines: u64,
    malformed: u64,
    cents: u64,
}

impl Totals {
    fn add(&mut self, decoded: &Decoded) {
        self.lines += 1;
        match decoded {
            Decoded::Transaction(transaction) => self.cents += transaction.amount_cents,
            Decoded::Malformed(_) => self.malformed += 1,
        }
    }
}

fn json_lines(setting: &Setting) -> Result<Measured, String> {
    let generated = sample(setting, 20_000_000)?;
    let input = setting.folder.join("input");
    let totals: Arc<Mutex<Totals>> = Arc::default();
    let collected = Arc::clone(&totals);
    let source = FileSource::new(&input, Transactions);
    let record = move |env: &Environment| {
        let sink = ShowTo::new(move |_| {
            let totals = Arc::clone(&collected);
            Box::new(move |rows: Rows<Decoded>| {
                let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
                rows.values.iter().for_each(|decoded| totals.add(decoded));
            })
        });
        env.from_source("transactions", source).uid("transactions").sink_to("results", sink).uid("results");
    };
    let state = setting.folder.join("state");
    let job = JobSetting { parallelism: PARALLELISM, checkpoint_ms: Some(1_000), folder: &state, adjust: &|_| {} };
    let done = run(record, &job, &mut |_, _| {})?;
    let cpu_ns = done.ended.cpu_ns - done.begun.cpu_ns;
    let totals = *totals.lock().unwrap_or_else(PoisonError::into_inner);
    let expected = reference(&input)?;
    Ok(Measured {
        parallelism: PARALLELISM,
        correct: totals == expected && totals.lines == generated.lines && totals.malformed == generated.malformed,
        more: vec![
            ("records_per_s_and_core".into(), generated.lines as f64 / (cpu_ns as f64 / 1e9)),
            ("input_mib".into(), generated.bytes as f64 / 1_048_576.0),
        ],
        ..done.measured(generated.lines)
    })
}

/// The totals, by one thread without the engine.
fn reference(input: &Path) -> Result<Totals, String> {
    let mut totals = Totals::default();
    let failed = |error: std::io::Error| format!("{}: {error}", input.display());
    for file in std::fs::read_dir(input).map_err(failed)? {
        let content = std::fs::read(file.map_err(failed)?.path()).map_err(failed)?;
        for line in content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match parse_transaction(line) {
                Ok(transaction) => totals.add(&Decoded::Transaction(transaction)),
                Err(malformed) => totals.add(&Decoded::Malformed(malformed.detail)),
            }
        }
    }
    Ok(totals)
}

/// The job that comes with Millstream, from files to files. Its summary must count what was generated.
fn main_job(setting: &Setting) -> Result<Measured, String> {
    let generated = sample(setting, 5_000_000)?;
    let (input, output) = (setting.folder.join("input"), setting.folder.join("output"));
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let parameters = Parameters::default().with("input", text(&input)).with("output", text(&output));
    let state = setting.folder.join("state");
    let job = JobSetting { parallelism: PARALLELISM, checkpoint_ms: Some(1_000), folder: &state, adjust: &|_| {} };
    let done = benches::job::run_with(parameters, fraud_detection, &job, &mut |_, _| {})?;
    let summary = std::fs::read(output.join("summary.json")).map_err(|error| error.to_string())?;
    let summary: serde_json::Value = serde_json::from_slice(&summary).map_err(|error| error.to_string())?;
    let alerts: u64 =
        summary["alerts"].as_object().into_iter().flatten().filter_map(|(_, number)| number.as_u64()).sum();
    let count = |key: &str| summary[key].as_u64();
    Ok(Measured {
        parallelism: PARALLELISM,
        correct: count("lines") == Some(generated.lines)
            && count("malformed") == Some(generated.malformed)
            && count("late") == Some(generated.late)
            && alerts > 0,
        more: vec![("alerts".into(), alerts as f64)],
        ..done.measured(generated.lines)
    })
}
