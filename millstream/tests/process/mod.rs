//! Runs the program as a process in a folder of its own, and waits for what it says.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

#[path = "../support/rest.rs"]
#[allow(dead_code)]
mod rest;

use rest::Rest;

const MILLSTREAM: &str = env!("CARGO_BIN_EXE_millstream");
/// What has not happened by then will not.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(20);
/// Transactions of the input: few, so that a slowed run is still read while it is waited for.
const EVENTS: &str = "20000";

/// The folder that a test works in; the program sees only relative paths.
pub struct Place {
    folder: PathBuf,
}

/// A process that has ended.
pub struct Done {
    /// Exit code; -1 for an end by a signal.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    pub fn last_line(&self) -> String {
        self.stdout.lines().last().unwrap_or_default().to_string()
    }
}

/// The input that all tests read: made once.
pub fn input() -> String {
    static INPUT: OnceLock<PathBuf> = OnceLock::new();
    let folder = INPUT.get_or_init(|| {
        let place = Place::new("input");
        let arguments = ["generate", "transactions", "--output", "transactions", "--events", EVENTS, "--seed", "3"];
        let made = run(&place, &arguments);
        assert_eq!(made.code, 0, "{}", made.stderr);
        place.path("transactions")
    });
    folder.display().to_string()
}

impl Place {
    /// An empty folder.
    pub fn new(name: &str) -> Self {
        // Tests of one name may run at the same time in several threads: `undisturbed` does.
        let thread = format!("{:?}", std::thread::current().id());
        let digits: String = thread.chars().filter(char::is_ascii_digit).collect();
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{name}-{digits}"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("the folder is made");
        Self { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The arguments that run the job over the input into `out`, on a port of its own.
    pub fn job(&self, flags: &[&str]) -> Vec<String> {
        let mut arguments: Vec<String> = ["run", "fraud-detection", "-D", "rest.port=0"].map(str::to_string).to_vec();
        arguments.extend(["-D", "execution.checkpointing.interval=100ms"].map(str::to_string));
        arguments.extend(flags.iter().map(|flag| (*flag).to_string()));
        arguments.extend(["--", "--input", &input(), "--output", "out"].map(str::to_string));
        arguments
    }

    fn command<A: AsRef<str>>(&self, arguments: &[A]) -> Command {
        let mut command = Command::new(MILLSTREAM);
        command.current_dir(&self.folder).args(arguments.iter().map(AsRef::as_ref)).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("MILLSTREAM_") || name == "RUST_LOG" {
                command.env_remove(name);
            }
        }
        command
    }

    /// Starts the program.
    pub fn start<A: AsRef<str>>(&self, arguments: &[A]) -> Running {
        let (stdout, stderr) = (self.path("stdout"), self.path("stderr"));
        let mut command = self.command(arguments);
        command.stdout(File::create(&stdout).expect("a file")).stderr(File::create(&stderr).expect("a file"));
        Running { child: command.spawn().expect("the program starts"), stdout, stderr }
    }
}

/// Runs the program to its end.
pub fn run<A: AsRef<str>>(place: &Place, arguments: &[A]) -> Done {
    run_with(place, arguments, &[])
}

/// Runs the program to its end with variables.
pub fn run_with<A: AsRef<str>>(place: &Place, arguments: &[A], variables: &[(&str, &str)]) -> Done {
    let output = place.command(arguments).envs(variables.iter().copied()).output().expect("the program starts");
    Done {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A process that runs.
pub struct Running {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Running {
    fn log(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    fn until<T>(&mut self, what: &str, mut found: impl FnMut(&Self) -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            if let Some(found) = found(self) {
                return found;
            }
            let ended = self.child.try_wait().expect("the process can be waited for");
            assert!(ended.is_none(), "ended before {what}: {}", self.log());
            assert!(started.elapsed() < PATIENCE, "waited in vain for {what}: {}", self.log());
            std::thread::sleep(POLL);
        }
    }

    /// Where its REST server listens.
    pub fn address(&mut self) -> String {
        self.until("the address", |running| {
            let log = running.log();
            let (_, rest) = log.split_once("rest: ")?;
            Some(rest.split_once('\n')?.0.to_string())
        })
    }

    fn rest(&mut self) -> Rest {
        let address = self.address();
        let port = address.rsplit(':').next().and_then(|port| port.parse().ok());
        Rest::at(std::net::Ipv4Addr::LOCALHOST, port.expect("an address with a port"))
    }

    /// Waits until the job runs; its id.
    pub fn until_running(&mut self) -> String {
        let rest = self.rest();
        self.until("the running job", |_| rest.running_job())
    }

    /// Waits until the job has completed two checkpoints: the sinks were told to commit the first.
    pub fn until_checkpoint(&mut self) {
        let (id, rest) = (self.until_running(), self.rest());
        self.until("two checkpoints", |_| rest.checkpoints(&id).filter(|(completed, _)| *completed >= 2));
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(sent.expect("kill starts").success(), "the process has ended: {}", self.log());
    }

    /// Waits for the end.
    pub fn wait(mut self) -> Done {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("the process can be waited for") {
                break status;
            }
            assert!(started.elapsed() < PATIENCE, "does not end: {}", self.log());
            std::thread::sleep(POLL);
        };
        let stdout = fs::read_to_string(&self.stdout).unwrap_or_default();
        Done { code: status.code().unwrap_or(-1), stdout, stderr: self.log() }
    }
}

impl Drop for Running {
    /// A failed assertion leaves no process behind.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
