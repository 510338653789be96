//! What a finished run has found, for people: read from the committed output, so that it says what is really there.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::text::{amount, grouped};
use crate::error::Result;

/// Users shown as worst offenders.
const OFFENDERS: usize = 10;

/// What is counted of one user.
#[derive(Default)]
struct Offender {
    alerts: u64,
    cents: u64,
    rules: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct AlertLine<'a> {
    rule: &'a str,
    user_id: u64,
    amount: &'a str,
}

/// The summary of the main job. `seconds` is what the run took.
pub(super) fn of_fraud_detection(output: &Path, program: &str, seconds: f64) -> Result<String> {
    let counts: Value = std::fs::read(output.join("summary.json"))
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    let (offenders, files) = offenders(&output.join("alerts"))?;
    let count = |key: &str| counts[key].as_u64().unwrap_or(0);
    let mut text = String::new();
    let lines = count("lines");
    let mut put = |line: std::fmt::Arguments<'_>| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{line}");
    };
    put(format_args!(
        "{} lines in {seconds:.2} s, {} a second: {} accepted, {} late, {} malformed; {} rule lines rejected",
        grouped(lines),
        grouped((lines as f64 / seconds.max(0.001)) as u64),
        grouped(count("accepted")),
        grouped(count("late")),
        grouped(count("malformed")),
        count("rules_rejected"),
    ));
    put(format_args!("\nALERTS"));
    for (rule, alerts) in counts["alerts"].as_object().into_iter().flatten() {
        put(format_args!("  {rule:<24}{:>10}", grouped(alerts.as_u64().unwrap_or(0))));
    }
    put(format_args!("\n{:<26}{:>10}{:>18}  RULES", "WORST OFFENDERS", "ALERTS", "AMOUNT"));
    let mut worst: Vec<(&u64, &Offender)> = offenders.iter().collect();
    worst.sort_by_key(|(user, offender)| (std::cmp::Reverse((offender.alerts, offender.cents)), **user));
    for (user, offender) in worst.into_iter().take(OFFENDERS) {
        let rules: Vec<String> = offender.rules.iter().map(|(rule, alerts)| format!("{rule} {alerts}")).collect();
        let (alerts, cents) = (grouped(offender.alerts), amount(offender.cents));
        put(format_args!("  {:<24}{alerts:>10}{cents:>18}  {}", format!("user {user}"), rules.join(", ")));
    }
    let place = output.display();
    put(format_args!("\nFILES"));
    put(format_args!("  alerts        {place}/alerts ({files} files)"));
    put(format_args!("  dead letters  {place}/dead-letters"));
    put(format_args!(
        "  block list    {place}/blocklist ({} users; {program} table {place}/blocklist)",
        offenders.len()
    ));
    Ok(text)
}

/// What each user has got, and in how many files it was found.
fn offenders(alerts: &Path) -> Result<(BTreeMap<u64, Offender>, usize)> {
    let unreadable = |error: std::io::Error| {
        millstream_runtime::ports::PortError::fix_input(format!("{} cannot be read: {error}", alerts.display()))
    };
    let mut offenders: BTreeMap<u64, Offender> = BTreeMap::new();
    let mut files = 0;
    let entries = match std::fs::read_dir(alerts) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((offenders, 0)),
        Err(error) => return Err(unreadable(error).into()),
    };
    for entry in entries {
        let entry = entry.map_err(unreadable)?;
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        files += 1;
        for line in BufReader::new(File::open(entry.path()).map_err(unreadable)?).split(b'\n') {
            let line = line.map_err(unreadable)?;
            let Ok(alert) = serde_json::from_slice::<AlertLine<'_>>(&line) else { continue };
            let offender = offenders.entry(alert.user_id).or_default();
            offender.alerts += 1;
            offender.cents += alert.amount.replace('.', "").parse::<u64>().unwrap_or(0);
            *offender.rules.entry(alert.rule.to_string()).or_default() += 1;
        }
    }
    Ok((offenders, files))
}
