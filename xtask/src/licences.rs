//! `cargo xtask licences`: every dependency must offer a licence that an Apache-2.0 program may include.

use std::path::Path;

use crate::{Problems, shell};

/// Permissive licences, and such as bind only their own files.
const ALLOWED: [&str; 16] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "OLDAP-2.8",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// The dependencies whose licence is not allowed.
pub fn run(root: &Path) -> Result<Problems, String> {
    let metadata = shell::metadata(root, &[])?;
    let mut problems = Problems::new();
    let mut count = 0;
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let (name, version) = (&package["name"], &package["version"]);
        let licence = package["license"].as_str().unwrap_or_default();
        count += 1;
        if !allowed(licence) {
            let licence = if licence.is_empty() { "no licence named" } else { licence };
            problems.push(format!("{name} {version}: {licence} is not on the list of xtask/src/licences.rs"));
        }
    }
    println!("licences: {count} packages");
    Ok(problems)
}

/// Whether an SPDX expression can be fulfilled with allowed licences alone. `/` is an old form of OR.
fn allowed(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let result = any_of(&tokens, &mut at);
    result && at == tokens.len()
}

fn any_of(tokens: &[&str], at: &mut usize) -> bool {
    let mut result = all_of(tokens, at);
    while tokens.get(*at) == Some(&"OR") {
        *at += 1;
        result |= all_of(tokens, at);
    }
    result
}

fn all_of(tokens: &[&str], at: &mut usize) -> bool {
    let mut result = one(tokens, at);
    while tokens.get(*at) == Some(&"AND") {
        *at += 1;
        result &= one(tokens, at);
    }
    result
}

fn one(tokens: &[&str], at: &mut usize) -> bool {
    let token = tokens.get(*at);
    // Also past the end, so that a cut-off expression does not end where the tokens do.
    *at += 1;
    let Some(token) = token else {
        return false;
    };
    if *token == "(" {
        let result = any_of(tokens, at);
        *at += 1;
        return result && tokens.get(*at - 1) == Some(&")");
    }
    let mut licence = (*token).to_string();
    if let Some(["WITH", exception]) = tokens.get(*at..*at + 2) {
        licence = format!("{licence} WITH {exception}");
        *at += 2;
    }
    ALLOWED.contains(&licence.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions() {
        for good in [
            "MIT",
            "MIT OR Apache-2.0",
            "MIT/Apache-2.0",
            "GPL-3.0 OR MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
            "Apache-2.0 AND ISC",
        ] {
            assert!(allowed(good), "{good}");
        }
        for bad in [
            "",
            "GPL-3.0",
            "BUSL-1.1",
            "MIT AND GPL-3.0",
            "(MIT OR Apache-2.0) AND GPL-3.0",
            "GPL-2.0 WITH Classpath-exception-2.0",
            "MIT OR",
            "(MIT",
        ] {
            assert!(!allowed(bad), "{bad}");
        }
    }
}
