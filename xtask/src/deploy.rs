//! `cargo xtask deploy`: what lies in `deploy/` is what systemd and Kubernetes accept. A check whose tool is not on this
//! machine is skipped with a message; `MILLSTREAM_REQUIRE_TOOLS=1` makes that a problem.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::{Problems, shell};

const UNIT: &str = "deploy/millstream-node.service";
const MANIFESTS: &str = "deploy/kubernetes.yaml";
/// What the unit starts; on this machine another program stands for it, since systemd looks whether it exists.
const PROGRAM: &str = "/usr/local/bin/millstream";

/// What is wrong with the files.
pub fn run(root: &Path) -> Result<Problems, String> {
    let mut problems = Problems::new();
    for (what, checked) in [(UNIT, unit(root)?), (MANIFESTS, manifests(root))] {
        match checked {
            Checked::Accepted => println!("{what}: accepted"),
            Checked::Refused(why) => problems.push(format!("{what}: {why}")),
            Checked::Skipped(why) if std::env::var_os("MILLSTREAM_REQUIRE_TOOLS").is_some() => {
                problems.push(format!("{what}: not checked: {why}"));
            }
            Checked::Skipped(why) => println!("{what}: skipped: {why}"),
        }
    }
    Ok(problems)
}

enum Checked {
    Accepted,
    Refused(String),
    Skipped(String),
}

fn judged(output: std::io::Result<Output>, missing: &str) -> Checked {
    match output {
        Err(_) => Checked::Skipped(missing.to_string()),
        Ok(output) => {
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said).trim().to_string();
            // systemd-analyze warns, and succeeds, where a directive is unknown.
            let complains = said.lines().any(|line| line.contains("ERROR") || line.contains(".service:"));
            if output.status.success() && !complains { Checked::Accepted } else { Checked::Refused(said) }
        }
    }
}

fn unit(root: &Path) -> Result<Checked, String> {
    let text = shell::read(&root.join(UNIT))?;
    if !text.contains(PROGRAM) {
        return Ok(Checked::Refused(format!("it does not start {PROGRAM}")));
    }
    let stand_in = std::env::current_exe().map_err(|error| format!("this program is not to be found: {error}"))?;
    let folder = root.join("target/deploy");
    let file = folder.join("millstream-node.service");
    let copied = fs::create_dir_all(&folder)
        .and_then(|()| fs::write(&file, text.replace(PROGRAM, &stand_in.display().to_string())));
    copied.map_err(|error| format!("{} cannot be written: {error}", file.display()))?;
    let output = Command::new("systemd-analyze").arg("verify").arg(&file).output();
    Ok(judged(output, "systemd-analyze is not on this machine"))
}

fn manifests(root: &Path) -> Checked {
    let missing = "kubernetes-validate is not on this machine (pip install kubernetes-validate)";
    let program = prepared("kubernetes-validate").unwrap_or_else(|| "kubernetes-validate".into());
    judged(Command::new(program).args(["--strict", "--quiet"]).arg(root.join(MANIFESTS)).output(), missing)
}

/// A program of the Python folder that `.ci/run` prepares.
fn prepared(name: &str) -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    Some(cache.join("millstream/python/bin").join(name)).filter(|program| program.exists())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;

    fn output(code: i32, text: &str) -> std::io::Result<Output> {
        let status = ExitStatus::from_raw(code << 8);
        Ok(Output { status, stdout: text.as_bytes().to_vec(), stderr: Vec::new() })
    }

    #[test]
    fn a_tool_that_complains_or_fails_refuses_and_one_that_is_missing_skips() {
        assert!(matches!(judged(output(0, ""), "gone"), Checked::Accepted));
        assert!(matches!(judged(output(1, ""), "gone"), Checked::Refused(_)));
        let warning = "x.service:9: Unknown key name 'Exec' in section 'Service', ignoring.";
        assert!(matches!(judged(output(0, warning), "gone"), Checked::Refused(why) if why.contains("Unknown key")));
        let missing = Err(std::io::Error::from(std::io::ErrorKind::NotFound));
        assert!(matches!(judged(missing, "gone"), Checked::Skipped(why) if why == "gone"));
    }
}
