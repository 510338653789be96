//! The sample keeps its promises, and never changes for the same arguments.

use std::fs;

use super::*;
use crate::{parse::parse_transaction, transaction::Transaction};

fn generated(events: u64, files: u32, seed: u64) -> (Generated, Vec<Vec<u8>>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = folder.path().join("sample");
    let options = Options { events, files, seed, rules: None };
    let report = generate(&options, &output, &mut |_| {}).expect("generated");
    let contents: Vec<_> = (0..files)
        .map(|number| fs::read(output.join(format!("transactions-{number:05}.jsonl"))).expect("a file of the sample"))
        .collect();
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing hidden is left");
    assert_eq!(report.bytes, contents.iter().map(|content| content.len() as u64).sum::<u64>());
    (report, contents)
}

#[test]
fn the_same_arguments_give_the_same_bytes() {
    let (_, first) = generated(3_000, 3, 7);
    assert_eq!(first, generated(3_000, 3, 7).1);
    assert_ne!(first, generated(3_000, 3, 8).1);
    // Golden: a change here changes every published sample.
    let digest = first
        .concat()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |digest, byte| (digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    assert_eq!(digest, 9_666_697_540_775_598_859, "FNV-1a of all files");
}

#[test]
fn counts_and_lateness_are_as_reported() {
    for events in [1, 2, 10, 49, 50, 51, 100, 500, 1_000, 20_000] {
        let (report, contents) = generated(events, 4, events);
        let (mut lines, mut malformed, mut late, mut ids) = (0, 0, 0, Vec::new());
        for content in &contents {
            let mut reached: Option<i64> = None;
            for line in content.split_inclusive(|byte| *byte == b'\n') {
                lines += 1;
                let Ok(transaction) = parse_transaction(&line[..line.len() - 1]) else {
                    malformed += 1;
                    continue;
                };
                ids.push(transaction.transaction_id);
                match reached {
                    Some(reached) if transaction.time <= reached - LATE_MS => late += 1,
                    Some(reached) => assert!(transaction.time > reached - OUT_OF_ORDER_MS),
                    None => {}
                }
                reached = reached.max(Some(transaction.time));
            }
        }
        assert_eq!((lines, malformed, late), (report.lines, report.malformed, report.late));
        assert_eq!(lines, events);
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count, "ids are unique");
    }
}

#[test]
fn malformed_lines_are_of_many_kinds() {
    let (_, contents) = generated(20_000, 1, 1);
    let mut details: Vec<_> = contents[0]
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .filter_map(|line| parse_transaction(line).err())
        .map(|error| error.detail.split_whitespace().next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(details.len(), 20);
    details.sort();
    details.dedup();
    assert!(details.len() >= 6, "{details:?}");
    for turn in 0..malformed::KINDS {
        for city in CITIES {
            let mut writer = Writer::new(1, turn);
            writer.transaction(5, SAMPLE_START, 1_000, city);
            parse_transaction(&writer.line).expect("well-formed before it is broken");
            malformed::break_line(&mut writer.line, turn, &mut Random::new(turn, "test"));
            parse_transaction(&writer.line).expect_err("broken");
        }
    }
}

#[test]
fn every_planted_case_gives_its_alert_and_nothing_else_does() {
    use crate::{alert::Rule, judge::UserState, rules::RuleBook};
    use std::collections::BTreeMap;

    let folder = tempfile::tempdir().expect("a temporary folder");
    let rules = folder.path().join("etc/rules.jsonl");
    let options = Options { events: 20_000, files: 8, seed: 3, rules: Some(rules.clone()) };
    let output = folder.path().join("sample");
    let report = generate(&options, &output, &mut |_| {}).expect("generated");
    let mut book = RuleBook::default();
    for line in fs::read(&rules).expect("the rules file").split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        book.add(RuleSet::parse(line).expect("a rule set"));
    }
    assert_eq!(book.sets().len(), 2);
    let mut users: BTreeMap<u64, UserState> = BTreeMap::new();
    for entry in fs::read_dir(&output).expect("the sample") {
        let content = fs::read(entry.expect("an entry").path()).expect("a file");
        let mut reached = i64::MIN / 2;
        let well_formed = content.split(|byte| *byte == b'\n').filter_map(|line| parse_transaction(line).ok());
        for transaction in well_formed.collect::<Vec<Transaction>>() {
            if transaction.time > reached - LATE_MS {
                users.entry(transaction.user_id).or_default().accept(&transaction);
            }
            reached = reached.max(transaction.time);
        }
    }
    let mut alerts = Vec::new();
    users.values_mut().for_each(|user| user.judge_until(i64::MAX, &book, &mut alerts));
    for rule in Rule::ALL {
        let count = alerts.iter().filter(|alert| alert.rule == rule).count() as u64;
        let per_case = if rule == Rule::BlockedUser { 3 } else { 1 };
        assert_eq!(count, report.cases_per_rule * per_case, "{rule:?}");
    }
    assert!(report.cases_per_rule >= 50);
}

#[test]
fn an_earlier_sample_is_replaced_and_other_files_stay() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = folder.path().join("sample");
    let options = |files| Options { events: 100, files, seed: 1, rules: None };
    generate(&options(4), &output, &mut |_| {}).expect("generated");
    fs::write(output.join("mine.txt"), "kept").expect("written");
    generate(&options(2), &output, &mut |_| {}).expect("generated again");
    let mut names: Vec<_> =
        fs::read_dir(&output).expect("a folder").map(|entry| entry.expect("an entry").file_name()).collect();
    names.sort();
    assert_eq!(names, ["mine.txt", "transactions-00000.jsonl", "transactions-00001.jsonl"]);
}

#[test]
fn asking_for_nothing_is_an_error() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (events, files) in [(0, 1), (1, 0)] {
        let options = Options { events, files, seed: 1, rules: None };
        assert!(matches!(generate(&options, folder.path(), &mut |_| {}), Err(GenerateError::Nothing)));
    }
}
