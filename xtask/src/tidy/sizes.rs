//! A file stays readable in one sitting, a function on one screen. Present exceptions stand in `xtask/ratchet.toml`,
//! and may only shrink.

use std::collections::BTreeMap;

use super::Text;
use crate::Problems;
use crate::source::functions;

const FILE_LINES: usize = 500;
const FUNCTION_LINES: usize = 70;

/// What is too long, by name: `path`, or `path::function`.
type Exceptions = BTreeMap<String, usize>;

/// Files and functions against the limits and the ratchet.
pub fn check(texts: &[Text], ratchet: &str) -> Result<Problems, String> {
    let listed: toml::Table = ratchet.parse().map_err(|error| format!("xtask/ratchet.toml: {error}"))?;
    let mut problems = Problems::new();
    let (files, functions) = measure(texts);
    for (table, limit, found) in [("files", FILE_LINES, files), ("functions", FUNCTION_LINES, functions)] {
        let mut allowed = Exceptions::new();
        for (name, lines) in listed.get(table).and_then(toml::Value::as_table).into_iter().flatten() {
            let lines = lines.as_integer().and_then(|lines| usize::try_from(lines).ok());
            allowed.insert(name.clone(), lines.ok_or(format!("xtask/ratchet.toml: {name} is not a number"))?);
        }
        for (name, lines) in &found {
            match allowed.get(name) {
                None => problems.push(format!("{name}: {lines} lines, the limit is {limit}")),
                Some(was) if lines > was => {
                    problems.push(format!("{name}: {lines} lines, it was {was} and may only shrink"))
                }
                Some(was) if lines < was => println!("{name} has shrunk: lower it to {lines} in xtask/ratchet.toml"),
                Some(_) => {}
            }
        }
        for name in allowed.keys().filter(|name| !found.contains_key(*name)) {
            problems.push(format!("{name} is no exception any more: take it out of xtask/ratchet.toml"));
        }
    }
    Ok(problems)
}

/// The ratchet of the present sources.
pub fn ratchet(texts: &[Text]) -> String {
    let (files, functions) = measure(texts);
    let mut text = String::from(OPENING);
    for (table, found) in [("files", files), ("functions", functions)] {
        text += &format!("\n[{table}]\n");
        for (name, lines) in found {
            text += &format!("\"{name}\" = {lines}\n");
        }
    }
    text
}

const OPENING: &str = "\
# Files and functions above the limits (500 and 70 lines). `cargo xtask tidy` fails when one grows or a new one appears,
# and when one is no exception any more. `cargo xtask tidy --print-ratchet` prints what would stand here.
";

/// Files and functions above the limits.
fn measure(texts: &[Text]) -> (Exceptions, Exceptions) {
    let (mut files, mut long) = (Exceptions::new(), Exceptions::new());
    for file in texts.iter().filter(|file| file.is_rust()) {
        let path = file.path.to_string_lossy().into_owned();
        let lines = file.text.lines().count();
        if lines > FILE_LINES {
            files.insert(path.clone(), lines);
        }
        for function in functions(&file.code).into_iter().filter(|function| function.length > FUNCTION_LINES) {
            // Of two functions of one name in a file the longer one counts.
            let entry = long.entry(format!("{path}::{}", function.name)).or_insert(0);
            *entry = function.length.max(*entry);
        }
    }
    (files, long)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts() -> [Text; 1] {
        [Text::of("a.rs", &format!("fn long() {{\n{}}}\nfn short() {{\n}}\n", "x();\n".repeat(600)))]
    }

    fn problems(ratchet: &str) -> String {
        check(&texts(), ratchet).expect("the ratchet is TOML").join("\n")
    }

    #[test]
    fn long_files_and_functions_are_found() {
        assert_eq!(problems(""), "a.rs: 604 lines, the limit is 500\na.rs::long: 602 lines, the limit is 70");
    }

    #[test]
    fn exceptions_may_only_shrink() {
        assert_eq!(problems(&ratchet(&texts())), "");
        assert_eq!(problems("[files]\n\"a.rs\" = 605\n[functions]\n\"a.rs::long\" = 700\n"), "");
        assert!(problems("[files]\n\"a.rs\" = 603\n").contains("it was 603 and may only shrink"));
        assert!(problems("[functions]\n\"a.rs::short\" = 80\n").contains("a.rs::short is no exception any more"));
    }
}
