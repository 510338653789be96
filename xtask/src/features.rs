//! `cargo xtask features`: `docs/features.md` must have each row of `docs/features/table.md` once, and every test it
//! names must exist. Prints how many rows are proven.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::source::{blanked, functions};
use crate::{Problems, shell};

/// What is wrong with `docs/features.md`.
pub fn run(root: &Path) -> Result<Problems, String> {
    let table = shell::read(&root.join("docs/features/table.md"))?;
    let states = shell::read(&root.join("docs/features.md"))?;
    Ok(check(&table, &states, &tests_of(root)?))
}

/// Names of all tests of the workspace, bare and with their folder, `runtime::a_test`.
fn tests_of(root: &Path) -> Result<BTreeSet<String>, String> {
    let mut names = BTreeSet::new();
    for file in shell::files(root)? {
        if file.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let folder = file.components().next().expect("a file has a name").as_os_str().to_string_lossy().into_owned();
        for test in tests_in(&shell::read(&root.join(&file))?) {
            names.insert(format!("{folder}::{test}"));
            names.insert(test);
        }
    }
    Ok(names)
}

/// Functions with a test attribute, and those inside `proptest!`, which must have it too.
fn tests_in(text: &str) -> Vec<String> {
    let code = blanked(text);
    let mut names = Vec::new();
    for function in functions(&code) {
        // Attributes stand between the end of the item before and the `fn`.
        let before = &code[..function.at];
        let start = before.rfind([';', '}', '{']).map_or(0, |at| at + 1);
        let attributes: String = before[start..].split_whitespace().collect();
        if ["#[test]", "::test]", "::test(", "#[test_"].iter().any(|attribute| attributes.contains(attribute)) {
            names.push(function.name);
        }
    }
    names
}

fn check(table: &str, states: &str, tests: &BTreeSet<String>) -> Problems {
    let mut problems = Problems::new();
    let wanted: Vec<String> = rows(table).into_iter().map(|(_, id, _)| id).collect();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut counts = [0usize; 3];
    for (line, id, cells) in rows(states) {
        let place = format!("docs/features.md:{line}: {id}");
        if let Some(before) = seen.insert(id.clone(), line) {
            problems.push(format!("{place} is doubled, see line {before}"));
        }
        if !wanted.contains(&id) {
            problems.push(format!("{place} is not in docs/features/table.md"));
        }
        let [_, state, text] = cells.as_slice() else {
            problems.push(format!("{place} has {} columns, not 4 (a | in a cell is written \\|)", cells.len() + 1));
            continue;
        };
        let named = names_in(text);
        for name in &named {
            if !tests.contains(name) {
                problems.push(format!("{place}: there is no test {name}"));
            }
        }
        match state.as_str() {
            "proven" if named.is_empty() => problems.push(format!("{place} is proven, but names no test")),
            "proven" if text.contains("missing:") => {
                problems.push(format!("{place} is proven, but something is missing"))
            }
            "proven" => counts[0] += 1,
            "partly" if named.is_empty() || !text.contains("missing:") => {
                problems.push(format!("{place} is partly proven: name a test, and what is missing after `missing:`"));
            }
            "partly" => counts[1] += 1,
            "missing" if text.is_empty() => problems.push(format!("{place} does not say what is missing")),
            "missing" => counts[2] += 1,
            _ => problems.push(format!("{place}: the state is proven, partly or missing, not {state:?}")),
        }
    }
    for id in &wanted {
        if !seen.contains_key(id) {
            problems.push(format!("docs/features.md has no row {id}"));
        }
    }
    println!("features: {} rows: {} proven, {} partly, {} missing", wanted.len(), counts[0], counts[1], counts[2]);
    problems
}

/// (line, id, the other cells) of each row of a table.
fn rows(text: &str) -> Vec<(usize, String, Vec<String>)> {
    let mut rows = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let Some(inner) = line.strip_prefix('|').and_then(|line| line.trim_end().strip_suffix('|')) else {
            continue;
        };
        let inner = inner.replace("\\|", "\u{1}");
        let mut cells = inner.split('|').map(|cell| cell.trim().replace('\u{1}', "|"));
        let id = cells.next().unwrap_or_default().trim_end_matches(['★', ' ']).to_string();
        let number = id.rsplit_once('-').map_or("", |(_, number)| number);
        if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) {
            rows.push((index + 1, id, cells.collect()));
        }
    }
    rows
}

/// What stands in backquotes before `missing:`, as `folder::test` or `test`.
fn names_in(text: &str) -> Vec<String> {
    let tests = text.split("missing:").next().unwrap_or_default();
    let quoted = tests.split('`').skip(1).step_by(2);
    quoted
        .map(|name| {
            let parts: Vec<&str> = name.split("::").collect();
            match parts.as_slice() {
                [folder, .., test] => format!("{folder}::{test}"),
                _ => name.to_string(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "| id | feature | test shows |\n|---|---|---|\n| A-1 | a | x |\n| A-2 ★ | b|c | x |\n";

    fn problems(rows: &[&str]) -> String {
        let tests = ["works", "runtime::works"].map(String::from).into();
        check(TABLE, &rows.join("\n"), &tests).join("\n")
    }

    #[test]
    fn each_row_once_with_tests_that_exist() {
        let second = "| A-2 ★ | b | missing | not begun |";
        assert_eq!(problems(&["| A-1 | a | proven | `works`, `runtime::join::works` |", second]), "");
        assert_eq!(problems(&["| A-1 | a | partly | `works`; missing: `x` |", second]), "");
        assert_eq!(problems(&[second]), "docs/features.md has no row A-1");
        assert!(problems(&["| A-1 | a | missing | x |", second, second]).contains("A-2 is doubled"));
        assert!(problems(&["| A-1 | a | proven | `fails` |", second]).contains("there is no test fails"));
        assert!(problems(&["| A-1 | a | proven | `state::works` |", second]).contains("no test state::works"));
        assert!(problems(&["| A-1 | a | proven | surely |", second]).contains("names no test"));
        assert!(problems(&["| A-1 | a | partly | `works` |", second]).contains("what is missing"));
        assert!(problems(&["| A-1 | a | done | `works` |", second]).contains("not \"done\""));
        assert!(problems(&["| A-1 | a | missing | x |", second, "| A-3 | x | missing | x |"]).contains("not in"));
    }

    #[test]
    fn tests_are_functions_with_a_test_attribute() {
        let text = "#[test]\nfn a() {}\nfn b() {}\n#[tokio::test(start_paused = true)]\nasync fn c() { fn d() {} }\n\
                    // #[test]\nfn e() {}\n#[test]\n#[ignore = \"slow; {\"]\npub fn f() {}\nproptest! {\n#[test]\nfn g(x in 0..9) {} }";
        assert_eq!(tests_in(text), ["a", "c", "f", "g"]);
    }
}
