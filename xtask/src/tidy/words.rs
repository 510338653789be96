//! How a Rust file opens, and what no file may say: marks of unfinished work, and paths of one machine.

use super::Text;
use crate::Problems;
use crate::source::words;

// In two parts, so that this file does not say them either.
const MARKS: [&str; 3] = [concat!("FIX", "ME"), concat!("TO", "DO"), concat!("X", "XX")];
const FOLDERS: [&str; 2] = [concat!("/wo", "rk/"), concat!("/ro", "ot/")];

/// Openings and words of all files.
pub fn check(texts: &[Text]) -> Problems {
    let mut problems = Problems::new();
    for file in texts {
        let path = file.path.display();
        if file.is_rust() && !file.text.starts_with("//!") {
            problems.push(format!("{path}: opens without //! (what it is responsible for, and who uses it)"));
        }
        for (index, line) in file.text.lines().enumerate() {
            let place = format!("{path}:{}", index + 1);
            for mark in MARKS.iter().filter(|mark| words(line, mark).next().is_some()) {
                problems.push(format!("{place}: {mark}: do it, or write down elsewhere what is missing"));
            }
            for folder in FOLDERS.iter().filter(|folder| names_folder(line, folder)) {
                problems.push(format!("{place}: {folder} exists on one machine only"));
            }
        }
    }
    problems
}

/// Whether the folder stands at the beginning of a path.
fn names_folder(line: &str, folder: &str) -> bool {
    let within = |before: &str| before.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '}'));
    line.match_indices(folder).any(|(at, _)| !within(&line[..at]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openings_marks_and_folders() {
        let found = |path: &str, text: &str| check(&[Text::of(path, text)]).join("\n");
        assert_eq!(found("a.rs", "//! Fine.\n"), "");
        assert!(found("a.rs", "use x;\n").contains("opens without"));
        assert_eq!(found("a.md", "# Fine\n"), "");
        for mark in MARKS {
            assert!(found("a.md", &format!("- {mark}: x")).contains("a.md:1: "), "{mark}");
            assert_eq!(found("a.md", &format!("MY{mark}S")), "");
        }
        for folder in FOLDERS {
            assert!(found("a.md", &format!("see `{folder}x`")).contains("one machine"), "{folder}");
            assert_eq!(found("a.md", &format!("see target{folder}x")), "");
        }
    }
}
