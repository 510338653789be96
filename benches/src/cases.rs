//! The command line of a benchmark program: runs each case several times, every run in a process of its own, and prints
//! medians for people or one JSON object a case.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::process::peak_rss_bytes;

const USAGE: &str = "usage: cargo bench -p benches --bench NAME -- [CASE]... [--json] [--runs N] [--quick]";

/// What every case reports.
const COMMON: [&str; 11] = [
    "case",
    "system",
    "parallelism",
    "records",
    "seconds",
    "records_per_s",
    "cpu_ns_per_record",
    "peak_rss_bytes",
    "checkpoints_completed",
    "answer",
    "commit",
];

/// One thing that is measured.
#[derive(Clone, Copy)]
pub struct Case {
    /// Its name; an argument selects the cases that begin with it.
    pub name: &'static str,
    /// Runs it once.
    pub run: fn(&Setting) -> Result<Measured, String>,
}

/// How one run is done.
pub struct Setting {
    /// Only show that it works.
    pub quick: bool,
    /// An empty folder on the disk of the machine.
    pub folder: PathBuf,
}

/// What one run came to.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Measured {
    /// Subtasks of each operator.
    pub parallelism: u32,
    /// Records, counted at the source.
    pub records: u64,
    /// Wall time.
    pub seconds: f64,
    /// CPU time of the process in it.
    pub cpu_ns: u64,
    /// Checkpoints completed.
    pub checkpoints: u64,
    /// Whether the answer was what it must be.
    pub correct: bool,
    /// Figures that only this case has.
    pub more: Vec<(String, f64)>,
}

/// What the child process prints.
#[derive(Serialize, Deserialize)]
struct Told {
    measured: Measured,
    peak_rss_bytes: u64,
}

struct Arguments {
    cases: Vec<String>,
    json: bool,
    quick: bool,
    runs: usize,
    child: Option<String>,
}

fn arguments() -> Result<Arguments, String> {
    let mut parsed = Arguments { cases: Vec::new(), json: false, quick: false, runs: 0, child: None };
    let mut rest = std::env::args().skip(1);
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--json" => parsed.json = true,
            "--quick" => parsed.quick = true,
            // What cargo itself adds.
            "--bench" => {}
            "--runs" => {
                let number = rest.next().and_then(|number| number.parse().ok()).filter(|number| *number > 0);
                parsed.runs = number.ok_or("--runs needs a number")?;
            }
            "--child" => parsed.child = rest.next(),
            other if other.starts_with('-') => return Err(format!("unknown option {other}\n{USAGE}")),
            case => parsed.cases.push(case.to_string()),
        }
    }
    if parsed.runs == 0 {
        parsed.runs = if parsed.quick { 1 } else { 3 };
    }
    Ok(parsed)
}

/// The `main` of a benchmark program.
#[must_use]
pub fn main(cases: &[Case]) -> ExitCode {
    let outcome = arguments().and_then(|arguments| match &arguments.child {
        Some(name) => child(cases, name, arguments.quick).map(|()| true),
        None => parent(cases, &arguments),
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn child(cases: &[Case], name: &str, quick: bool) -> Result<(), String> {
    let case = cases.iter().find(|case| case.name == name).ok_or("no such case")?;
    let folder = scratch(name)?;
    let measured = (case.run)(&Setting { quick, folder: folder.clone() });
    drop(std::fs::remove_dir_all(folder));
    let told = Told { measured: measured?, peak_rss_bytes: peak_rss_bytes() };
    println!("{}", serde_json::to_string(&told).map_err(|error| error.to_string())?);
    Ok(())
}

/// A new folder below the build's own: `/tmp` may be in memory, where nothing is ever synced.
fn scratch(name: &str) -> Result<PathBuf, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let base = program.parent().unwrap_or(Path::new("."));
    let folder = base.join("bench-state").join(format!("{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder)
}

/// True when every answer was right.
fn parent(cases: &[Case], arguments: &Arguments) -> Result<bool, String> {
    let wanted = |case: &&Case| {
        arguments.cases.is_empty() || arguments.cases.iter().any(|prefix| case.name.starts_with(prefix.as_str()))
    };
    let selected: Vec<&Case> = cases.iter().filter(wanted).collect();
    if selected.is_empty() {
        let known: Vec<_> = cases.iter().map(|case| case.name).collect();
        return Err(format!("no such case; there are {}", known.join(", ")));
    }
    let commit = commit();
    let mut all_right = true;
    for case in selected {
        let runs: Vec<Told> = (0..arguments.runs).map(|_| one_run(case, arguments.quick)).collect::<Result<_, _>>()?;
        all_right &= runs.iter().all(|run| run.measured.correct);
        let line = summary(case.name, &runs, &commit);
        println!("{}", if arguments.json { line.to_string() } else { for_people(&line) });
    }
    Ok(all_right)
}

fn one_run(case: &Case, quick: bool) -> Result<Told, String> {
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", case.name);
    let mut command = Command::new(std::env::current_exe().map_err(|error| failed(&error))?);
    command.args(["--child", case.name]).stdin(Stdio::null()).stdout(Stdio::piped());
    if quick {
        command.arg("--quick");
    }
    let child = command.spawn().map_err(|error| failed(&error))?;
    let output = child.wait_with_output().map_err(|error| failed(&error))?;
    if !output.status.success() {
        return Err(failed(&output.status));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| failed(&error))
}

fn commit() -> String {
    let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output();
    output.map_or("unknown".into(), |output| String::from_utf8_lossy(&output.stdout).trim().to_string())
}

fn sorted(runs: &[Told], figure: impl Fn(&Told) -> f64) -> Vec<f64> {
    let mut values: Vec<f64> = runs.iter().map(figure).collect();
    values.sort_by(f64::total_cmp);
    values
}

fn median(runs: &[Told], figure: impl Fn(&Told) -> f64) -> f64 {
    let values = sorted(runs, figure);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}

fn summary(name: &str, runs: &[Told], commit: &str) -> Value {
    let first = &runs[0].measured;
    let seconds = sorted(runs, |run| run.measured.seconds);
    let median_seconds = median(runs, |run| run.measured.seconds);
    let mut line = Map::new();
    let mut put = |key: &str, value: Value| drop(line.insert(key.to_string(), value));
    put("case", json!(name));
    put("system", json!("millstream"));
    put("parallelism", json!(first.parallelism));
    put("records", json!(first.records));
    put("seconds", json!({"min": seconds[0], "median": median_seconds, "max": seconds[seconds.len() - 1]}));
    put("records_per_s", json!((median(runs, |run| run.measured.records as f64 / run.measured.seconds)).round()));
    put("cpu_ns_per_record", json!(median(runs, |run| run.measured.cpu_ns as f64 / run.measured.records as f64)));
    put("peak_rss_bytes", json!(runs.iter().map(|run| run.peak_rss_bytes).max()));
    put("checkpoints_completed", json!(median(runs, |run| run.measured.checkpoints as f64).round() as u64));
    let correct = runs.iter().all(|run| run.measured.correct);
    put("answer", json!(if correct { "checked" } else { "differs" }));
    put("commit", json!(commit));
    for (index, (key, _)) in first.more.iter().enumerate() {
        put(key, json!(median(runs, |run| run.measured.more.get(index).map_or(f64::NAN, |(_, value)| *value))));
    }
    Value::Object(line)
}

fn for_people(line: &Value) -> String {
    let number = |key: &str| line[key].as_f64().unwrap_or(f64::NAN);
    let mut text = format!(
        "{:<28} {:>8.2} M records/s  {:>7.1} CPU ns/record  {:>6.2} s  {:>5.0} MiB  {} checkpoints  {}",
        line["case"].as_str().unwrap_or_default(),
        number("records_per_s") / 1e6,
        number("cpu_ns_per_record"),
        line["seconds"]["median"].as_f64().unwrap_or(f64::NAN),
        number("peak_rss_bytes") / f64::from(1 << 20),
        line["checkpoints_completed"],
        line["answer"].as_str().unwrap_or_default(),
    );
    let extra = line.as_object().into_iter().flatten().filter(|(key, _)| !COMMON.contains(&key.as_str()));
    for (key, value) in extra {
        text += &format!("\n    {key}: {value}");
    }
    text
}
