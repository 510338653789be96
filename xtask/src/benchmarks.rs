//! `cargo xtask benchmarks`: runs each benchmark, collects the JSON line of every case, and writes them as
//! `docs/benchmarks.md` with the machine, the commit and the commands.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::shell;

const NAMES: [&str; 8] = ["dataplane", "state", "latency", "sources", "exchange", "startup", "recovery", "rescale"];

/// What every case reports; anything else goes to the last column.
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

/// Runs all benchmarks and writes the page; the page of a failed run is not written.
pub fn run(root: &Path, quick: bool) -> Result<(), String> {
    let target = if quick { "target/benchmarks-quick.md" } else { "docs/benchmarks.md" };
    let mut page = opening(root, quick)?;
    for name in NAMES {
        let mut arguments = vec!["bench", "-p", "benches", "--bench", name, "--", "--json"];
        if quick {
            arguments.push("--quick");
        }
        let command = format!("cargo {}", arguments.join(" "));
        println!("$ {command}");
        let text = shell::output(shell::cargo_command(root).args(&arguments), &command)?;
        let cases = cases(&text)?;
        if cases.is_empty() {
            return Err(format!("{command} printed no case"));
        }
        page += &format!("\n## {name}\n\n`{command}`\n\n{}", table(&cases));
    }
    let path = root.join(target);
    std::fs::write(&path, page).map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
    println!("{target} is written");
    Ok(())
}

fn opening(root: &Path, quick: bool) -> Result<String, String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_string();
        line.split_once(':').map_or("unknown".into(), |(_, value)| value.trim().to_string())
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let memory: u64 = memory.trim_end_matches(" kB").parse().unwrap_or(0);
    let git = |arguments: &[&str]| shell::output(Command::new("git").current_dir(root).args(arguments), "git");
    let (commit, date) = (git(&["rev-parse", "HEAD"])?, git(&["log", "-1", "--format=%cs"])?);
    // The page itself does not make a tree another one.
    let changed = !git(&["status", "--porcelain", "--", ".", ":!docs/benchmarks.md"])?.is_empty();
    let rustc = shell::output(Command::new("rustc").arg("--version"), "rustc")?;
    let system = shell::output(Command::new("uname").args(["-sr"]), "uname").unwrap_or_default();
    let mut page = String::from("# Benchmarks\n\nWritten by `cargo xtask benchmarks`; do not edit.\n\n");
    page +=
        &format!("- machine: {}, {cores} cores, {} GiB\n", field(&read("/proc/cpuinfo"), "model name"), memory >> 20);
    page += &format!("- system: {system}, {rustc}, release build\n");
    page += &format!("- commit: {commit} of {date}{}\n", if changed { ", with changes not committed" } else { "" });
    page += "- seconds are the median of the runs of a case, with the least and the greatest; a case whose answer differs fails the run\n";
    if quick {
        page += "- **quick runs: the figures say only that the cases work**\n";
    }
    Ok(page)
}

/// The JSON objects among the lines.
fn cases(text: &str) -> Result<Vec<Value>, String> {
    let lines = text.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| serde_json::from_str(line).map_err(|error| format!("{error} in a case: {line}"))).collect()
}

fn table(cases: &[Value]) -> String {
    let mut text = String::from(
        "| case | system | parallelism | records | seconds | records/s | CPU ns/record | peak memory | checkpoints | answer | more |\n\
         |---|---|---:|---:|---:|---:|---:|---:|---:|---|---|\n",
    );
    for case in cases {
        let plain = |key: &str| match &case[key] {
            Value::Null => "-".to_string(),
            Value::String(text) => text.clone(),
            value => value.to_string(),
        };
        let number = |key: &str| case[key].as_f64().map_or("-".into(), scaled);
        let seconds = &case["seconds"];
        let second = |key: &str| seconds[key].as_f64().unwrap_or(f64::NAN);
        let mebibytes =
            case["peak_rss_bytes"].as_f64().map_or("-".into(), |bytes| format!("{:.0} MiB", bytes / 1048576.0));
        let more: Vec<String> = case
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(key, _)| !COMMON.contains(&key.as_str()))
            .map(|(key, value)| format!("{key} {}", value.as_str().map_or(value.to_string(), str::to_string)))
            .collect();
        text += &format!(
            "| {} | {} | {} | {} | {:.3} ({:.3}-{:.3}) | {} | {} | {mebibytes} | {} | {} | {} |\n",
            plain("case"),
            plain("system"),
            plain("parallelism"),
            number("records"),
            second("median"),
            second("min"),
            second("max"),
            number("records_per_s"),
            case["cpu_ns_per_record"].as_f64().map_or("-".into(), |ns| format!("{ns:.1}")),
            plain("checkpoints_completed"),
            plain("answer"),
            more.join(", ")
        );
    }
    text
}

/// With a unit, three digits.
fn scaled(number: f64) -> String {
    let (value, unit) = match number {
        n if n >= 1e9 => (n / 1e9, " G"),
        n if n >= 1e6 => (n / 1e6, " M"),
        n if n >= 1e3 => (n / 1e3, " k"),
        n => (n, ""),
    };
    let digits = if value >= 100.0 || value.fract() == 0.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_becomes_a_row() {
        let text = "noise\n{\"case\":\"keyed-sum\",\"system\":\"millstream\",\"parallelism\":2,\"records\":100000000,\
            \"seconds\":{\"min\":0.9,\"median\":1.0,\"max\":1.25},\"records_per_s\":100000000.0,\"cpu_ns_per_record\":19.97,\
            \"peak_rss_bytes\":104857600,\"checkpoints_completed\":3,\"answer\":\"checked\",\"commit\":\"abc\",\"p99_ms\":0.5}\n";
        let rows = table(&cases(text).expect("JSON"));
        let row = rows.lines().nth(2).expect("a row");
        assert_eq!(
            row,
            "| keyed-sum | millstream | 2 | 100 M | 1.000 (0.900-1.250) | 100 M | 20.0 | 100 MiB | 3 | checked | p99_ms 0.5 |"
        );
    }

    #[test]
    fn numbers_have_units() {
        for (number, text) in [(7.0, "7"), (1500.0, "1.50 k"), (35_400_000.0, "35.4 M"), (2e9, "2 G")] {
            assert_eq!(scaled(number), text);
        }
    }
}
