//! `fraud-checker`: recomputes the contract of the fraud-detection job (`docs/fraud-detection.md`) from its input and
//! rules with sorted lists, and compares the output of a run. It shares no code with the engine or the job, so that an
//! error cannot hide by being made twice. `input` and `rules` read, `judge` decides, `output` reads the result,
//! `compare` finds the differences. Exit code 0: equal, 1: a difference, 2: usage, or something cannot be read.

mod compare;
mod input;
mod judge;
mod output;
mod rules;
mod time;

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

const USAGE: &str = "\
usage: fraud-checker --input DIR --output OUT [--rules FILE]
                     [--blocklist-json FILE | --millstream PATH] [--allow-unfinished] [--strict-late]

Recomputes what the fraud-detection job must write for the input, and compares OUT with it.

  --input DIR            the job's input folder
  --output OUT           the job's output folder
  --rules FILE           the rules the job ran with; without it the defaults
  --blocklist-json FILE  what `millstream table OUT/blocklist --json` printed
  --millstream PATH      run that command with this program
                         (without either of the two the block list is not compared)
  --allow-unfinished     OUT is of a job that has not finished: rows may be missing, none may be
                         wrong or doubled, and neither the summary nor the block list is compared
  --strict-late          take all files as present at the start, so that lateness is decided by each
                         file alone; always on

exit code 0: equal; 1: a difference, the first one is named; 2: usage, or something cannot be read";

#[derive(Default)]
struct Options {
    input: PathBuf,
    output: PathBuf,
    rules: Option<PathBuf>,
    blocklist: Option<PathBuf>,
    millstream: Option<PathBuf>,
    unfinished: bool,
}

/// Why the program ends before the end.
enum Stop {
    /// Asked for help.
    Help,
    /// Exit code 2.
    Unreadable(String),
    /// Exit code 1.
    Difference(String),
}

fn main() -> ExitCode {
    match options(std::env::args().skip(1)).and_then(|options| check(&options)) {
        Ok(()) => {
            println!("equal");
            ExitCode::SUCCESS
        }
        Err(Stop::Help) => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        Err(Stop::Difference(text)) => {
            println!("first difference: {text}");
            ExitCode::from(1)
        }
        Err(Stop::Unreadable(text)) => {
            eprintln!("fraud-checker: {text}");
            ExitCode::from(2)
        }
    }
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options, Stop> {
    let mut options = Options::default();
    let usage = |text: String| Stop::Unreadable(format!("{text}\n{USAGE}"));
    while let Some(argument) = arguments.next() {
        let mut path = || arguments.next().map(PathBuf::from).ok_or(usage(format!("{argument} needs a path")));
        match argument.as_str() {
            "--input" => options.input = path()?,
            "--output" => options.output = path()?,
            "--rules" => options.rules = Some(path()?),
            "--blocklist-json" => options.blocklist = Some(path()?),
            "--millstream" => options.millstream = Some(path()?),
            "--allow-unfinished" => options.unfinished = true,
            "--strict-late" => {}
            "--help" | "-h" => return Err(Stop::Help),
            _ => return Err(usage(format!("unknown argument {argument}"))),
        }
    }
    if options.input.as_os_str().is_empty() || options.output.as_os_str().is_empty() {
        return Err(usage("--input and --output are needed".into()));
    }
    if options.blocklist.is_some() && options.millstream.is_some() {
        return Err(usage("--blocklist-json and --millstream exclude each other".into()));
    }
    Ok(options)
}

/// Recomputes, compares everything, prints totals; the first difference is the error.
fn check(options: &Options) -> Result<(), Stop> {
    let rules = read_rules(options)?;
    let input = input::read_folder(&options.input).map_err(Stop::Unreadable)?;
    let (accepted, files) = (input.accepted.len(), input.files);
    warn_about_equal_ids(&input.accepted);
    let alerts = judge::judge(input.accepted, &rules);
    let summary = expected_summary(accepted, &input.dead, &rules, &alerts);
    println!("input: {files} files; expected: {summary}");
    if !options.output.is_dir() {
        return Err(Stop::Unreadable(format!("the output folder {} does not exist", options.output.display())));
    }

    let mut first = None;
    let mut keep = |result: Result<(), String>| {
        if let Err(text) = result {
            first.get_or_insert(text);
        }
    };
    keep(output::check_names(&options.output));
    let expected = alerts.iter().map(output::expected_alert).collect();
    keep(compare_rows(options, "alert", "alerts", expected, output::found_alert));
    let expected = input.dead.iter().chain(&rules.dead).map(output::expected_dead_letter).collect();
    keep(compare_rows(options, "dead letter", "dead-letters", expected, output::found_dead_letter));
    if !options.unfinished {
        keep(compare_summary(options, &summary));
        match dump(options)? {
            Some(dump) => keep(compare_blocklist(&alerts, &dump)),
            None => println!("block list: not compared (--millstream or --blocklist-json is needed)"),
        }
    }
    first.map_or(Ok(()), |text| Err(Stop::Difference(text)))
}

fn read_rules(options: &Options) -> Result<rules::Rules, Stop> {
    let Some(path) = &options.rules else {
        return Ok(rules::Rules::defaults());
    };
    let bytes = std::fs::read(path)
        .map_err(|error| Stop::Unreadable(format!("the rules file {} cannot be read: {error}", path.display())))?;
    Ok(rules::Rules::read(&path.file_name().unwrap_or_default().to_string_lossy(), &bytes))
}

/// The contract promises unique ids; without that the order of equal times is open, and so is the result.
fn warn_about_equal_ids(accepted: &[input::Transaction]) {
    let mut ids: Vec<u64> = accepted.iter().map(|transaction| transaction.id).collect();
    ids.sort_unstable();
    if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
        println!("warning: the input breaks the contract: transaction_id {} is not unique", pair[0]);
    }
}

fn expected_summary(
    accepted: usize,
    dead: &[input::DeadLetter],
    rules: &rules::Rules,
    alerts: &[judge::Alert],
) -> Value {
    let count = |reason: &str| dead.iter().filter(|letter| letter.reason == reason).count();
    let of_rule = |rule: &str| alerts.iter().filter(|alert| alert.rule == rule).count();
    let per_rule: serde_json::Map<String, Value> =
        judge::RULES.iter().map(|rule| (rule.to_string(), of_rule(rule).into())).collect();
    json!({
        "lines": accepted + dead.len(),
        "accepted": accepted,
        "late": count("late"),
        "malformed": count("malformed"),
        "rules_rejected": rules.dead.len(),
        "alerts": per_rule,
    })
}

fn compare_rows(
    options: &Options,
    kind: &str,
    folder: &str,
    expected: Vec<compare::Row>,
    row: fn(&str, String) -> compare::Row,
) -> Result<(), String> {
    let found = output::read_rows(&options.output, folder, row)?;
    report(kind, folder, expected, found, options.unfinished)
}

fn report(
    kind: &str,
    name: &str,
    expected: Vec<compare::Row>,
    found: Vec<compare::Row>,
    unfinished: bool,
) -> Result<(), String> {
    let counts = (expected.len(), found.len());
    let differences = compare::compare(kind, expected, found, unfinished);
    let result = if differences.is_none() { "equal".to_string() } else { differences.to_string() };
    println!("{name}: {} expected, {} found: {result}", counts.0, counts.1);
    differences.first.map_or(Ok(()), Err)
}

fn compare_summary(options: &Options, expected: &Value) -> Result<(), String> {
    let path = options.output.join("summary.json");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("summary.json cannot be read: {error}"))?;
    let mut found: Value =
        serde_json::from_str(&text).map_err(|error| format!("summary.json is not JSON: {error}: {text}"))?;
    if let Some(alerts) = found.get_mut("alerts").and_then(Value::as_object_mut) {
        // A rule without alerts may be left out.
        for rule in judge::RULES {
            alerts.entry(rule).or_insert(0.into());
        }
    }
    if found != *expected {
        return Err(format!("summary.json\n  expected: {expected}\n  found:    {}", text.trim_end()));
    }
    println!("summary.json: equal");
    Ok(())
}

fn dump(options: &Options) -> Result<Option<String>, Stop> {
    if let Some(path) = &options.blocklist {
        let text = std::fs::read_to_string(path);
        return text.map(Some).map_err(|error| Stop::Unreadable(format!("{}: {error}", path.display())));
    }
    let Some(millstream) = &options.millstream else {
        return Ok(None);
    };
    output::dump_blocklist(millstream, &options.output).map(Some).map_err(Stop::Unreadable)
}

fn compare_blocklist(alerts: &[judge::Alert], dump: &str) -> Result<(), String> {
    let found = output::found_blocklist(dump)?;
    report("blocked", "blocklist", output::expected_blocklist(alerts), found, false)
}
