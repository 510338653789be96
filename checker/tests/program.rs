//! The program as a whole, on small folders: exit codes, and what it says about each kind of difference.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const ALERT: &str = r#"{"alert_id":"small-purchases:7:2026-01-01T00:00:03.000Z:3","rule":"small-purchases","user_id":7,"time":"2026-01-01T00:00:03.000Z","count":3,"amount":"3.30","transactions":[1,2,3]}"#;
const MALFORMED: &str =
    r#"{"reason":"malformed","detail":"not an object","file":"a.jsonl","line":4,"offset":411,"raw_base64":"W10="}"#;
const SUMMARY: &str = r#"{"lines":4,"accepted":3,"late":0,"malformed":1,"rules_rejected":0,"alerts":{"small-purchases":1,"many-transactions":0,"impossible-travel":0,"blocked-user":0}}"#;
const BLOCKED: &str = r#"{"user_id":7,"rule":"small-purchases","since":"2026-01-01T00:00:03.000Z","alert_id":"small-purchases:7:2026-01-01T00:00:03.000Z:3"}"#;

struct Case {
    root: PathBuf,
}

impl Case {
    /// An input of four lines and the right output.
    fn new(name: &str) -> Self {
        let case = Self { root: Path::new(env!("CARGO_TARGET_TMPDIR")).join(name) };
        let _ = fs::remove_dir_all(&case.root);
        let lines: Vec<String> = (1..=3).map(|id| Self::transaction(id, id)).collect();
        case.write("in/a.jsonl", &format!("{}\n[]", lines.join("\n")));
        case.write("in/ignored.txt", "no input");
        case.write("out/alerts/part-0.jsonl", &format!("{ALERT}\n"));
        case.write("out/alerts/.part-1.jsonl.pending", "half a li");
        case.write("out/dead-letters/part-0.jsonl", &format!("{MALFORMED}\n"));
        case.write("out/summary.json", SUMMARY);
        case.write("out/.job", "anything");
        case.write("blocked.jsonl", &format!("{BLOCKED}\n"));
        case
    }

    fn transaction(id: u64, second: u64) -> String {
        format!(
            r#"{{"transaction_id":{id},"user_id":7,"time":"2026-01-01T00:00:0{second}.000Z","amount":"1.10","merchant":"m","city":"c{id}","latitude":1,"longitude":1}}"#
        )
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.root.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folder is made");
        fs::write(path, text).expect("file is written");
    }

    fn run(&self, more: &[&str]) -> (i32, String) {
        let run = Command::new(env!("CARGO_BIN_EXE_fraud-checker"))
            .current_dir(&self.root)
            .args(["--input", "in", "--output", "out", "--blocklist-json", "blocked.jsonl"])
            .args(more)
            .output()
            .expect("the checker runs");
        let text = String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
        (run.status.code().expect("an exit code"), text)
    }

    fn differs(&self, expected: &str) {
        let (code, text) = self.run(&[]);
        assert_eq!(code, 1, "{text}");
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn the_right_output_is_equal() {
    let (code, text) = Case::new("right").run(&[]);
    assert_eq!(code, 0, "{text}");
    assert!(text.ends_with("equal\n"), "{text}");
}

#[test]
fn compressed_input_is_the_same_input() {
    let case = Case::new("compressed");
    let zip = Command::new("gzip").arg(case.root.join("in/a.jsonl")).stdin(Stdio::null()).status();
    assert!(zip.expect("gzip runs").success());
    case.write("out/dead-letters/part-0.jsonl", &format!("{MALFORMED}\n").replace("a.jsonl", "a.jsonl.gz"));
    let (code, text) = case.run(&[]);
    assert_eq!(code, 0, "{text}");
}

#[test]
fn a_missing_alert_is_named() {
    let case = Case::new("missing");
    case.write("out/alerts/part-0.jsonl", "");
    case.differs("first difference: alert small-purchases:7:2026-01-01T00:00:03.000Z:3 is missing");
    let (code, text) = case.run(&["--allow-unfinished"]);
    assert_eq!(code, 0, "{text}");
}

#[test]
fn a_doubled_alert_is_named_also_across_files() {
    let case = Case::new("doubled");
    case.write("out/alerts/part-1.jsonl", &format!("{ALERT}\n"));
    case.differs("is there 2 times");
    case.differs("in:       alerts/part-1.jsonl:1");
    assert_eq!(case.run(&["--allow-unfinished"]).0, 1);
}

#[test]
fn a_different_byte_in_an_alert_is_named() {
    let case = Case::new("different");
    case.write("out/alerts/part-0.jsonl", &format!("{}\n", ALERT.replace("\"count\":3", "\"count\": 3")));
    case.differs("is different");
    case.write("out/alerts/part-0.jsonl", &format!("{}\n", ALERT.replace("time\":\"2026", "time\":\"2027")));
    case.differs("is different");
}

#[test]
fn torn_and_visible_files_are_named() {
    let case = Case::new("torn");
    case.write("out/alerts/part-0.jsonl", ALERT);
    case.differs("alerts/part-0.jsonl ends within a line");
    let case = Case::new("visible");
    case.write("out/alerts/part-1.tmp", "");
    case.differs("alerts/part-1.tmp is visible");
    let case = Case::new("visible-above");
    case.write("out/checkpoints/x", "");
    case.differs("checkpoints is visible");
}

#[test]
fn a_dead_letter_of_another_offset_is_named() {
    let case = Case::new("offset");
    case.write("out/dead-letters/part-0.jsonl", &format!("{}\n", MALFORMED.replace("411", "485")));
    case.differs("dead letter a.jsonl line 4 is different");
}

#[test]
fn summary_and_block_list_are_compared() {
    let case = Case::new("summary");
    case.write("out/summary.json", &SUMMARY.replace("\"late\":0", "\"late\":1"));
    case.differs("summary.json");
    let case = Case::new("blocked");
    case.write("blocked.jsonl", "");
    case.differs("blocked user 7 is missing");
}

#[test]
fn bad_rules_are_dead_letters_of_the_rules_file() {
    let case = Case::new("rules");
    case.write("rules.jsonl", "\nnonsense\n");
    let dead =
        r#"{"reason":"rules","detail":"no","file":"rules.jsonl","line":2,"offset":1,"raw_base64":"bm9uc2Vuc2U="}"#;
    case.write("out/dead-letters/part-0.jsonl", &format!("{dead}\n{MALFORMED}\n"));
    case.write("out/summary.json", &SUMMARY.replace("rejected\":0", "rejected\":1"));
    let (code, text) = case.run(&["--rules", "rules.jsonl"]);
    assert_eq!(code, 0, "{text}");
}

#[test]
fn wrong_usage_is_exit_code_two() {
    let case = Case::new("usage");
    assert_eq!(case.run(&["--nonsense"]).0, 2);
    assert_eq!(case.run(&["--rules", "absent.jsonl"]).0, 2);
    assert_eq!(case.run(&["--help"]).0, 0);
}
