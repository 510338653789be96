//! The whole job in the harness: the result depends on input and rules only.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use millstream_connectors::table::Table;
use millstream_fraud::generate::{self, generate};
use millstream_fraud::time_format::format_time;
use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::harness::{Harness, HarnessOptions, Snapshot};

struct World {
    folder: TempDir,
}

/// Everything the job wrote.
#[derive(Debug, PartialEq)]
struct Output {
    alerts: Vec<String>,
    dead_letters: Vec<String>,
    summary: String,
    block_list: Vec<(u64, String)>,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("input")).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_string()
    }

    fn parameters(&self, output: &str) -> Parameters {
        let parameters = Parameters::default().with("input", self.path("input")).with("output", self.path(output));
        if Path::new(&self.path("rules")).exists() { parameters.with("rules", self.path("rules")) } else { parameters }
    }

    fn environment(&self, output: &str, parallelism: u32) -> Environment {
        let env = Environment::new("fraud-detection", parallelism, self.parameters(output));
        fraud_detection(&env).unwrap();
        env
    }

    /// From beginning to end in one go.
    fn run(&self, output: &str, parallelism: u32) -> Output {
        finish(Harness::new(&self.environment(output, parallelism)).unwrap());
        self.output(output)
    }

    fn output(&self, output: &str) -> Output {
        let mut block_list = Vec::new();
        let mut table = Table::open_read(Path::new(&self.path(&format!("{output}/blocklist")))).unwrap();
        table
            .iterate(&mut |key, value| {
                let user = u64::from_be_bytes(key.try_into().unwrap());
                block_list.push((user, String::from_utf8(value.to_vec()).unwrap()));
                Ok(())
            })
            .unwrap();
        Output {
            alerts: lines(Path::new(&self.path(&format!("{output}/alerts")))),
            dead_letters: lines(Path::new(&self.path(&format!("{output}/dead-letters")))),
            summary: fs::read_to_string(self.path(&format!("{output}/summary.json"))).unwrap(),
            block_list,
        }
    }
}

/// Runs to the end, and closes what sinks have open.
fn finish(mut harness: Harness) -> Snapshot {
    harness.finish().unwrap()
}

/// The committed lines of a folder, sorted.
fn lines(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if !path.file_name().unwrap().to_str().unwrap().starts_with('.') {
            lines.extend(fs::read_to_string(path).unwrap().lines().map(str::to_string));
        }
    }
    lines.sort();
    lines
}

fn value(line: &str) -> Value {
    serde_json::from_str(line).unwrap()
}

/// A transaction at a second of the first of January.
fn transaction(id: u64, user: u64, second: i64, amount: &str, place: (&str, f64, f64)) -> String {
    let time = format_time(generate::SAMPLE_START + second * 1_000);
    let (time, (city, latitude, longitude)) = (std::str::from_utf8(&time).unwrap(), place);
    format!(
        "{{\"transaction_id\":{id},\"user_id\":{user},\"time\":\"{time}\",\"amount\":\"{amount}\",\"merchant\":\"m\",\
         \"city\":\"{city}\",\"latitude\":{latitude:?},\"longitude\":{longitude:?}}}\n"
    )
}

const LISBON: (&str, f64, f64) = ("Lisbon", 38.7223, -9.1393);
const OSLO: (&str, f64, f64) = ("Oslo", 59.9139, 10.7522);

#[test]
fn every_output_of_a_small_input_is_as_the_contract_says() {
    let world = World::new();
    let mut input = String::new();
    for id in 0..11 {
        input += &transaction(id, 1, 10 + i64::try_from(id).unwrap(), "20.50", LISBON);
    }
    input += &transaction(20, 2, 22, "5.00", LISBON);
    input += "\nnonsense\n";
    input += &transaction(21, 2, 12, "5.00", LISBON);
    input += &transaction(22, 2, 82, "7.00", OSLO);
    input += &transaction(23, 7, 83, "1", OSLO);
    fs::write(world.path("input/a.jsonl"), input.trim_end()).unwrap();
    let from = String::from_utf8(format_time(generate::SAMPLE_START + 60_000).to_vec()).unwrap();
    let rules = format!(
        "{{\"from\":\"{from}\",\"max_transactions\":10,\"small_amount\":\"10.00\",\"small_count\":3,\"small_cities\":3,\
         \"max_speed_kmh\":900,\"blocked_users\":[7]}}\nno rules\n"
    );
    fs::write(world.path("rules"), rules).unwrap();
    let output = world.run("out", 2);
    assert_eq!(
        output.alerts,
        [
            "{\"alert_id\":\"blocked-user:7:2026-01-01T00:01:23.000Z:23\",\"rule\":\"blocked-user\",\"user_id\":7,\
             \"time\":\"2026-01-01T00:01:23.000Z\",\"count\":1,\"amount\":\"1.00\",\"transactions\":[23]}",
            "{\"alert_id\":\"impossible-travel:2:2026-01-01T00:01:22.000Z:22\",\"rule\":\"impossible-travel\",\
             \"user_id\":2,\"time\":\"2026-01-01T00:01:22.000Z\",\"count\":2,\"amount\":\"12.00\",\
             \"transactions\":[20,22]}",
            "{\"alert_id\":\"many-transactions:1:2026-01-01T00:05:00.000Z\",\"rule\":\"many-transactions\",\
             \"user_id\":1,\"time\":\"2026-01-01T00:05:00.000Z\",\"count\":11,\"amount\":\"225.50\",\
             \"transactions\":[]}",
        ]
    );
    let letters: Vec<Value> = output.dead_letters.iter().map(|line| value(line)).collect();
    let told: Vec<_> = letters
        .iter()
        .map(|letter| (letter["reason"].as_str().unwrap(), letter["file"].as_str().unwrap(), letter["line"].as_u64()))
        .collect();
    assert_eq!(told, [("late", "a.jsonl", Some(15)), ("malformed", "a.jsonl", Some(14)), ("rules", "rules", Some(2))]);
    assert_eq!(
        output.summary,
        "{\"lines\":16,\"accepted\":14,\"late\":1,\"malformed\":1,\"rules_rejected\":1,\"alerts\":\
         {\"many-transactions\":1,\"small-purchases\":0,\"impossible-travel\":1,\"blocked-user\":1}}\n"
    );
    let blocked: Vec<_> = output.block_list.iter().map(|(user, entry)| (*user, value(entry)["rule"].clone())).collect();
    assert_eq!(blocked, [(1, "many-transactions".into()), (2, "impossible-travel".into()), (7, "blocked-user".into())]);
}

#[test]
fn a_line_of_form_feeds_is_malformed_and_blank_lines_count_nowhere() {
    let world = World::new();
    let input = format!(" \t\r\n\x0c\n{}\n", transaction(1, 1, 1, "1", LISBON));
    fs::write(world.path("input/a.jsonl"), input).unwrap();
    finish(Harness::new(&world.environment("out", 1)).unwrap());
    let letters = lines(Path::new(&world.path("out/dead-letters")));
    let letters: Vec<Value> = letters.iter().map(|line| value(line)).collect();
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0]["reason"].as_str(), letters[0]["line"].as_u64()), (Some("malformed"), Some(2)));
    let summary = value(&fs::read_to_string(world.path("out/summary.json")).unwrap());
    let counted = ["lines", "accepted", "malformed"].map(|count| summary[count].as_u64());
    assert_eq!(counted, [Some(2), Some(1), Some(1)]);
}

fn sample(world: &World, events: u64) -> generate::Generated {
    let rules = Some(world.folder.path().join("rules"));
    let options = generate::Options { events, files: 5, seed: 3, rules };
    generate(&options, Path::new(&world.path("input")), &mut |_| {}).unwrap()
}

#[test]
fn the_sample_gives_its_planted_cases_at_any_parallelism() {
    let world = World::new();
    let generated = sample(&world, 30_000);
    let one = world.run("one", 1);
    let summary = value(&one.summary);
    assert_eq!(summary["lines"].as_u64(), Some(generated.lines));
    assert_eq!(summary["malformed"].as_u64(), Some(generated.malformed));
    assert_eq!(summary["late"].as_u64(), Some(generated.late));
    for (rule, count) in summary["alerts"].as_object().unwrap() {
        assert!(count.as_u64().unwrap() >= generated.cases_per_rule, "{rule}: {count} alerts");
    }
    let mut earliest = BTreeMap::<u64, (String, String)>::new();
    for alert in one.alerts.iter().map(|line| value(line)) {
        let text = |key: &str| alert[key].as_str().unwrap().to_string();
        let new = (text("time"), text("alert_id"));
        let entry = earliest.entry(alert["user_id"].as_u64().unwrap()).or_insert_with(|| new.clone());
        *entry = entry.clone().min(new);
    }
    let listed: BTreeMap<_, _> = one
        .block_list
        .iter()
        .map(|(user, entry)| {
            let entry = value(entry);
            let text = |key: &str| entry[key].as_str().unwrap().to_string();
            (*user, (text("since"), text("alert_id")))
        })
        .collect();
    assert_eq!(listed, earliest);
    assert_eq!(world.run("three", 3), one);
}

#[test]
fn a_restore_at_another_parallelism_in_the_middle_changes_no_output() {
    let world = World::new();
    sample(&world, 8_000);
    let expected = world.run("whole", 2);
    for (parallelism, restored, committed) in [(1, 3, true), (3, 2, false)] {
        let output = format!("restored-{restored}");
        let env = world.environment(&output, parallelism);
        let mut harness = Harness::new(&env).unwrap();
        harness.run_rounds(200).unwrap();
        let snapshot = if committed { harness.checkpoint() } else { harness.savepoint() }.unwrap();
        assert!(snapshot.keyed_entries("judge") > 100, "in the middle: {}", snapshot.keyed_entries("judge"));
        // What comes after the snapshot is lost with the deployment.
        harness.run_rounds(50).unwrap();
        drop(harness);
        let env = world.environment(&output, restored);
        finish(Harness::restore(&env, HarnessOptions::default(), &snapshot).unwrap());
        assert_eq!(world.output(&output), expected);
    }
}

#[test]
fn a_restore_behind_the_end_repeats_nothing() {
    let world = World::new();
    sample(&world, 2_000);
    let snapshot = finish(Harness::new(&world.environment("out", 2)).unwrap());
    let once = world.output("out");
    finish(Harness::restore(&world.environment("out", 3), HarnessOptions::default(), &snapshot).unwrap());
    assert_eq!(world.output("out"), once);
}

#[test]
fn a_watched_folder_and_watched_rules_are_followed_over_a_stop() {
    let world = World::new();
    let blocking = |second: i64, user: u64| {
        let from = String::from_utf8(format_time(generate::SAMPLE_START + second * 1_000).to_vec()).unwrap();
        format!(
            "{{\"from\":\"{from}\",\"max_transactions\":10,\"small_amount\":\"10.00\",\"small_count\":3,\
             \"small_cities\":3,\"max_speed_kmh\":900,\"blocked_users\":[{user}]}}\n"
        )
    };
    let deploy = |parallelism, restored: Option<&Snapshot>| {
        let env = Environment::new("fraud-detection", parallelism, world.parameters("out").with_flag("watch"));
        fraud_detection(&env).unwrap();
        let options = HarnessOptions::default();
        restored
            .map_or_else(|| Harness::new(&env).unwrap(), |snapshot| Harness::restore(&env, options, snapshot).unwrap())
    };
    let alerts = || {
        let ids = |line: &String| value(line)["alert_id"].as_str().unwrap().split(':').next_back().unwrap().to_string();
        lines(Path::new(&world.path("out/alerts"))).iter().map(ids).collect::<Vec<_>>()
    };
    let look = |harness: &mut Harness, second: i64| {
        harness.discover().unwrap();
        // Growth is looked for by the clock, in the background.
        (0..3).for_each(|part| harness.advance_processing_time(second * 1_000 + part * 300).unwrap());
        harness.checkpoint().unwrap();
    };
    fs::write(world.path("rules"), blocking(0, 1)).unwrap();
    let first = transaction(1, 1, 10, "1.00", LISBON) + &transaction(2, 2, 20, "1.00", LISBON);
    fs::write(world.path("input/a.jsonl"), &first).unwrap();
    let mut harness = deploy(2, None);
    look(&mut harness, 1);
    assert_eq!(alerts(), ["1"], "event time has come to 14.999 s: nobody waits for rules to come");

    fs::write(world.path("rules"), blocking(0, 1) + &blocking(15, 2)).unwrap();
    look(&mut harness, 2);
    fs::write(world.path("input/a.jsonl"), first.clone() + &transaction(3, 1, 40, "1.00", LISBON)).unwrap();
    look(&mut harness, 3);
    assert_eq!(alerts(), ["1", "2"], "the rule added later judges what was not judged yet");

    let snapshot = harness.savepoint().unwrap();
    drop(harness);
    let second = transaction(4, 2, 50, "1.00", LISBON) + &transaction(5, 2, 60, "1.00", LISBON);
    fs::write(world.path("input/b.jsonl"), second).unwrap();
    let mut harness = deploy(3, Some(&snapshot));
    look(&mut harness, 4);
    assert_eq!(alerts(), ["1", "2", "4"], "a file at its end does not hold back event time");
    let grown = first + &transaction(3, 1, 40, "1.00", LISBON) + &transaction(6, 3, 90, "1", OSLO);
    fs::write(world.path("input/a.jsonl"), grown).unwrap();
    look(&mut harness, 5);
    assert_eq!(alerts(), ["1", "2", "4", "5"]);
    assert_eq!(lines(Path::new(&world.path("out/dead-letters"))), Vec::<String>::new());
}

#[test]
fn options_that_are_wrong_say_what_to_write() {
    let message = |parameters: Parameters| Options::from_parameters(&parameters).unwrap_err().to_string();
    let whole = || Parameters::default().with("input", "in").with("output", "out");
    assert!(message(Parameters::default().with("output", "out")).contains("--input"));
    assert!(message(Parameters::default().with("input", "in")).contains("--output"));
    assert!(message(whole().with("rule", "r")).contains("--rule;"));
    assert!(message(whole().with("input", "out")).contains("same folder"));
    assert!(message(whole().with("rate-limit", "0")).contains("--rate-limit"));
    assert!(message(whole().with_flag("rules")).contains("--rules VALUE"));
    let options = Options::from_parameters(&whole().with_flag("watch").with("rate-limit", "5")).unwrap();
    assert!(options.watch && options.rate_limit == Some(5) && options.rules.is_none());
}
