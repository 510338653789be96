//! `cargo xtask tidy`: what the compiler does not check. `layers`: who may depend on whom; `reach`: no dead file;
//! `sizes`: files and functions, as a ratchet; `words`: openings of files, and what no file may say.

mod layers;
mod reach;
mod sizes;
mod words;

use std::path::{Path, PathBuf};

use crate::{Problems, shell, source};

/// A file of the workspace that is text.
struct Text {
    /// Relative to the root.
    path: PathBuf,
    /// Its content.
    text: String,
    /// The content without comments and literals; empty unless it is Rust.
    code: String,
}

/// All problems of all checks.
pub fn run(root: &Path) -> Result<Problems, String> {
    let texts = texts(root)?;
    let mut problems = layers::check(root)?;
    problems.extend(reach::check(root, &texts)?);
    problems.extend(words::check(&texts));
    let ratchet = shell::read(&root.join("xtask/ratchet.toml"))?;
    problems.extend(sizes::check(&texts, &ratchet)?);
    Ok(problems)
}

/// Prints what `xtask/ratchet.toml` would have to list for the present sources.
pub fn print_ratchet(root: &Path) -> Result<(), String> {
    print!("{}", sizes::ratchet(&texts(root)?));
    Ok(())
}

fn texts(root: &Path) -> Result<Vec<Text>, String> {
    let mut texts = Vec::new();
    for path in shell::files(root)? {
        let extension = path.extension().unwrap_or_default().to_string_lossy().into_owned();
        let written =
            matches!(extension.as_str(), "rs" | "md" | "toml" | "sh" | "yml" | "yaml" | "html" | "js" | "css")
                || path.starts_with(".ci");
        if written {
            let text = shell::read(&root.join(&path))?;
            let code = if extension == "rs" { source::blanked(&text) } else { String::new() };
            texts.push(Text { path, text, code });
        }
    }
    Ok(texts)
}

impl Text {
    fn is_rust(&self) -> bool {
        self.path.extension().is_some_and(|extension| extension == "rs")
    }
}

#[cfg(test)]
impl Text {
    fn of(path: &str, text: &str) -> Self {
        Self { path: path.into(), text: text.into(), code: source::blanked(text) }
    }
}
