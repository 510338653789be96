//! `cargo xtask`: the tasks of the project. `verify` is the finish line of every change; `tidy`, `features`, `licences`
//! and `deploy` are parts of it; `benchmarks` and `torture` are run by hand. Only `benchmarks` writes a file.

mod benchmarks;
mod deploy;
mod features;
mod licences;
mod shell;
mod source;
mod tidy;
mod verify;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask TASK

  verify                 fmt --check, clippy, tests, docs, licences, tidy, features, deploy; rewrites nothing
  tidy [--print-ratchet] layers, file openings, sizes, dead files, words; with the flag, prints what
                         xtask/ratchet.toml would have to list
  features               docs/features.md against docs/features/table.md and the tests of the workspace
  licences               licences of all dependencies
  deploy                 deploy/ by systemd-analyze and by Kubernetes' schemas, where these tools are
  benchmarks [--quick]   runs the benchmarks and writes docs/benchmarks.md
                         (with --quick: short runs, into target/benchmarks-quick.md)
  torture [--release]    kills jobs and whole clusters many times and checks their output, loses ten gigabytes
                         of state, then simulates clusters through thousands of seeds; takes half an hour
                         and 30 GB of disk";

/// What a task finds wrong, a line each.
type Problems = Vec<String>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let root = root();
    let result = match arguments.as_slice() {
        ["verify"] => verify::run(&root),
        ["tidy"] => report("tidy", tidy::run(&root)),
        ["tidy", "--print-ratchet"] => tidy::print_ratchet(&root),
        ["features"] => report("features", features::run(&root)),
        ["licences"] => report("licences", licences::run(&root)),
        ["deploy"] => report("deploy", deploy::run(&root)),
        ["benchmarks"] => benchmarks::run(&root, false),
        ["benchmarks", "--quick"] => benchmarks::run(&root, true),
        ["torture"] => torture(&root, &[]),
        ["torture", "--release"] => torture(&root, &["--release"]),
        ["--help" | "-h" | "help"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("xtask: {text}");
            ExitCode::FAILURE
        }
    }
}

/// Real processes first, then orders of calls and simulated clusters; one test at a time, since some measure how fast a job
/// is. The build is that of `cargo test`, whose assertions are on, unless it is to be the one that ships.
fn torture(root: &Path, profile: &[&str]) -> Result<(), String> {
    const TESTS: [&str; 4] = ["torture", "cluster", "stopped_sink", "task_managers"];
    const LEADERSHIP: &[&str] = &["-p", "millstream-state", "--lib", "leadership"];
    const SIMULATIONS: &[&str] = &["-p", "millstream-simulations"];
    let processes = [&["-p", "millstream"][..], &TESTS.map(|test| ["--test", test]).concat()].concat();
    [&*processes, LEADERSHIP, SIMULATIONS].into_iter().try_for_each(|tests| {
        let ignored = ["--", "--ignored", "--nocapture", "--test-threads=1"];
        shell::cargo(root, &[&["test"], profile, tests, &ignored].concat())
    })
}

/// The folder of the workspace: the one that cargo runs this for, where checkouts share a build folder.
fn root() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&manifest).parent().expect("xtask is a folder of the workspace").to_path_buf()
}

/// Prints the problems; any is an error.
fn report(task: &str, problems: Result<Problems, String>) -> Result<(), String> {
    let problems = problems?;
    for problem in &problems {
        eprintln!("{problem}");
    }
    match problems.len() {
        0 => {
            println!("{task}: ok");
            Ok(())
        }
        count => Err(format!("{task}: {count} problems")),
    }
}
