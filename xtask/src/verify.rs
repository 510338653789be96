//! `cargo xtask verify`: everything a change must pass, in order of how soon it fails. Rewrites nothing.

use std::path::Path;

use crate::{deploy, features, licences, report, shell, tidy};

/// A name, and what it does.
type Step<'a> = (&'a str, &'a dyn Fn() -> Result<(), String>);

/// Runs all steps, also after a failed one, and says at the end which failed.
pub fn run(root: &Path) -> Result<(), String> {
    let steps: [Step; 8] = [
        ("format", &|| shell::cargo(root, &["fmt", "--all", "--check"])),
        ("tidy", &|| report("tidy", tidy::run(root))),
        ("features", &|| report("features", features::run(root))),
        ("licences", &|| report("licences", licences::run(root))),
        ("deploy", &|| report("deploy", deploy::run(root))),
        ("clippy", &|| {
            shell::cargo(root, &["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"])
        }),
        ("docs", &|| {
            let mut command = shell::cargo_command(root);
            command.env("RUSTDOCFLAGS", "-D warnings").args(["doc", "--workspace", "--no-deps", "--quiet"]);
            shell::run(&mut command, "RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps")
        }),
        ("tests", &|| shell::cargo(root, &["test", "--workspace"])),
    ];
    let mut failed = Vec::new();
    for (name, step) in steps {
        println!("--- {name}");
        if let Err(text) = step() {
            eprintln!("{text}");
            failed.push(name);
        }
    }
    if failed.is_empty() {
        println!("--- verified: all {} steps passed", steps.len());
        return Ok(());
    }
    Err(format!("NOT verified: {} failed", failed.join(", ")))
}
