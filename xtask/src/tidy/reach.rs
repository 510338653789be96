//! No dead file: every `.rs` is a target of cargo, or declared by a `mod`, `#[path]` or `include!` in a file that is
//! reached itself.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::Text;
use crate::source::{closing_brace, identifier, words};
use crate::{Problems, shell};

/// The files that nothing reaches.
pub fn check(root: &Path, texts: &[Text]) -> Result<Problems, String> {
    let metadata = shell::metadata(root, &["--no-deps", "--offline"])?;
    let mut targets = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        for target in package["targets"].as_array().into_iter().flatten() {
            let path = Path::new(target["src_path"].as_str().unwrap_or_default());
            if let Ok(path) = path.strip_prefix(root) {
                targets.push(path.to_path_buf());
            }
        }
    }
    Ok(unreached(targets, texts))
}

fn unreached(targets: Vec<PathBuf>, texts: &[Text]) -> Problems {
    let roots: BTreeSet<PathBuf> = targets.iter().cloned().collect();
    let mut reached = BTreeSet::new();
    let mut open = targets;
    while let Some(path) = open.pop() {
        let Some(file) = texts.iter().find(|file| file.path == path) else { continue };
        if reached.insert(path.clone()) {
            open.extend(declared(file, roots.contains(&path)));
        }
    }
    let dead = texts.iter().filter(|file| file.is_rust() && !reached.contains(&file.path));
    dead.map(|file| format!("{}: nothing uses this file", file.path.display())).collect()
}

/// The files that a file may mean by its declarations; of the two places of a module the wrong one does not exist.
fn declared(file: &Text, is_root: bool) -> Vec<PathBuf> {
    let folder = file.path.parent().unwrap_or(Path::new("")).to_path_buf();
    let stem = file.path.file_stem().unwrap_or_default();
    // Where the children of this file live, and where a `#[path]` starts from.
    let children = if is_root || stem == "mod" { folder.clone() } else { folder.join(stem) };
    let mut found = Vec::new();
    modules(file, (0, file.code.len()), &children, &folder, &mut found);
    for at in words(&file.code, "include") {
        if let Some(path) = quoted(&file.text[at..], "include!(") {
            found.push(normal(&folder.join(path)));
        }
    }
    found
}

/// `mod` declarations within a range; bodies of inline modules add their name to the folder.
fn modules(file: &Text, range: (usize, usize), children: &Path, paths: &Path, found: &mut Vec<PathBuf>) {
    let mut skip_until = range.0;
    for at in words(&file.code, "mod").filter(|at| (range.0..range.1).contains(at)) {
        let name = identifier(&file.code, at + 3);
        let Some(end) = file.code[at..].find([';', '{']).map(|end| at + end) else { continue };
        if at < skip_until || name.is_empty() {
            continue;
        }
        if file.code.as_bytes()[end] == b'{' {
            skip_until = closing_brace(&file.code, end);
            let inner = children.join(name);
            modules(file, (end, skip_until), &inner, &inner, found);
            continue;
        }
        let before = &file.code[..at];
        let attributes = before.rfind([';', '}', '{']).map_or(0, |start| start + 1);
        match quoted(&file.text[attributes..at], "#[path = ") {
            Some(path) => found.push(normal(&paths.join(path))),
            None => {
                found.push(children.join(format!("{name}.rs")));
                found.push(children.join(name).join("mod.rs"));
            }
        }
    }
}

/// The string after `opening`.
fn quoted(text: &str, opening: &str) -> Option<String> {
    let (_, rest) = text.split_once(opening)?;
    let (path, _) = rest.strip_prefix('"')?.split_once('"')?;
    Some(path.to_string())
}

/// Without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                normal.pop();
            }
            std::path::Component::CurDir => {}
            part => normal.push(part),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_are_followed() {
        let texts = [
            Text::of(
                "a/src/lib.rs",
                "mod b;\npub mod c { mod d; }\n#[cfg(test)]\n#[path = \"x_tests.rs\"]\nmod tests;\n// mod e;",
            ),
            Text::of("a/src/b.rs", "mod f;"),
            Text::of("a/src/b/f.rs", "#[path = \"../g.rs\"]\nmod g;"),
            Text::of("a/src/g.rs", ""),
            Text::of("a/src/c/d/mod.rs", ""),
            Text::of("a/src/x_tests.rs", ""),
            Text::of("a/src/e.rs", ""),
            Text::of("a/src/b/unused.rs", ""),
        ];
        let found = unreached(vec!["a/src/lib.rs".into()], &texts);
        assert_eq!(found, ["a/src/e.rs: nothing uses this file", "a/src/b/unused.rs: nothing uses this file"]);
    }

    #[test]
    fn modules_of_a_test_target_lie_beside_it() {
        let texts = [Text::of("a/tests/t.rs", "mod support;"), Text::of("a/tests/support/mod.rs", "")];
        assert_eq!(unreached(vec!["a/tests/t.rs".into()], &texts), Problems::new());
    }
}
