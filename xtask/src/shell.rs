//! Running cargo, and finding files of the workspace. Used by every task.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// The cargo that started this task.
pub fn cargo_command(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

/// Runs cargo with its output visible.
pub fn cargo(root: &Path, arguments: &[&str]) -> Result<(), String> {
    run(cargo_command(root).args(arguments), &format!("cargo {}", arguments.join(" ")))
}

/// Runs a command with its output visible; `name` stands in the messages.
pub fn run(command: &mut Command, name: &str) -> Result<(), String> {
    println!("$ {name}");
    let status = command.status().map_err(|error| format!("{name} cannot be started: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{name} failed ({status})")) }
}

/// Runs a command and gives its output, trimmed.
pub fn output(command: &mut Command, name: &str) -> Result<String, String> {
    let run = command.stderr(Stdio::inherit()).output();
    let run = run.map_err(|error| format!("{name} cannot be started: {error}"))?;
    if !run.status.success() {
        return Err(format!("{name} failed ({})", run.status));
    }
    Ok(String::from_utf8_lossy(&run.stdout).trim().to_string())
}

/// `cargo metadata`.
pub fn metadata(root: &Path, more: &[&str]) -> Result<Value, String> {
    let mut command = cargo_command(root);
    command.args(["metadata", "--format-version", "1"]).args(more);
    let text = output(&mut command, "cargo metadata")?;
    serde_json::from_str(&text).map_err(|error| format!("cargo metadata is not JSON: {error}"))
}

/// Reads a text file; the path stands in the error.
pub fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))
}

/// All files of the workspace, relative, sorted; not those of hidden folders (but `.ci`, `.cargo`) or build folders.
pub fn files(root: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let failed = |error| format!("{} cannot be read: {error}", folder.display());
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let hidden = name.starts_with('.') && !matches!(name.as_str(), ".ci" | ".cargo" | ".gitignore");
            if hidden || path.is_symlink() {
                continue;
            }
            if !path.is_dir() {
                found.push(path.strip_prefix(root).expect("the walk starts at the root").to_path_buf());
            } else if name != "target" && !path.join("CACHEDIR.TAG").exists() {
                folders.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
