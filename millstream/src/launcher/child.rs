//! The process of one node: `node` of the same executable. It holds the other end of the node's standard input for as long
//! as it lives, so that a node ends when its launcher does, even when that is killed.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use millstream_runtime::ports::PortError;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, Command};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::{FIRST_PAUSE, LONGEST_PAUSE, WELL_AFTER};
use crate::error::Result;
use crate::run::screen::Screen;

/// Rows are passed on in pieces of about so many bytes.
const ROWS_BYTES: usize = 64 << 10;

/// Something happened to a node.
pub(super) struct Event {
    pub node: usize,
    /// Which of its processes.
    pub generation: u32,
    pub what: What,
}

/// What happened.
pub(super) enum What {
    /// It has started; a job manager says where its REST server is.
    Ready { rest: Option<String> },
    /// Its process has ended.
    Ended(ExitStatus),
    /// The pause after its end is over.
    StartAgain,
}

/// One node.
pub(super) struct Child {
    pub name: String,
    pub is_ready: bool,
    pub has_been_ready: bool,
    /// Where its REST server is.
    pub rest: Option<String>,
    /// Counts its processes.
    pub generation: u32,
    file: PathBuf,
    flags: Vec<String>,
    log: Option<String>,
    running: Option<RunningChild>,
    pause: Duration,
}

struct RunningChild {
    stdin: Option<ChildStdin>,
    since: Instant,
    /// Owns the process, and kills it when it is aborted.
    waiter: AbortHandle,
    gone: watch::Receiver<bool>,
}

impl Drop for RunningChild {
    fn drop(&mut self) {
        self.waiter.abort();
    }
}

impl Child {
    pub fn new(name: String, file: PathBuf, flags: Vec<String>, log: Option<String>) -> Self {
        Self {
            name,
            is_ready: false,
            has_been_ready: false,
            rest: None,
            generation: 0,
            file,
            flags,
            log,
            running: None,
            pause: Duration::ZERO,
        }
    }

    /// Starts its process and answers its id.
    pub fn start(&mut self, index: usize, events: &mpsc::Sender<Event>, screen: &Screen) -> Result<u32> {
        let failed = |error: std::io::Error| PortError::retry(format!("node {} cannot be started: {error}", self.name));
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command.arg("node").arg("--config").arg(&self.file).args(["--name", &self.name, "--until-stdin-closes"]);
        command.args(self.flags.iter().flat_map(|flag| ["-D", flag]));
        command.args(self.log.iter().flat_map(|log| ["--log", log]));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().map_err(failed)?;
        let pid = process.id().unwrap_or_default();
        self.generation += 1;
        let (generation, node) = (self.generation, index);
        if let Some(stderr) = process.stderr.take() {
            let (screen, name) = (screen.clone(), self.name.clone());
            drop(tokio::spawn(tell_lines(stderr, name, screen)));
        }
        if let Some(stdout) = process.stdout.take() {
            let events = events.clone();
            let ready = move |rest| Event { node, generation, what: What::Ready { rest } };
            drop(tokio::spawn(pass_on(stdout, events, ready)));
        }
        let stdin = process.stdin.take();
        let (told_gone, gone) = watch::channel(false);
        let events = events.clone();
        let waiter = tokio::spawn(async move {
            let status = process.wait().await.unwrap_or_default();
            told_gone.send_replace(true);
            drop(events.send(Event { node, generation, what: What::Ended(status) }).await);
        });
        self.running = Some(RunningChild { stdin, since: Instant::now(), waiter: waiter.abort_handle(), gone });
        Ok(pid)
    }

    /// It has started.
    pub fn ready(&mut self, rest: Option<String>) {
        self.is_ready = true;
        self.has_been_ready = true;
        self.rest = rest;
    }

    /// Its process has ended.
    pub fn ended(&mut self) {
        let was_well = self.running.take().is_some_and(|running| running.since.elapsed() >= WELL_AFTER);
        self.is_ready = false;
        if was_well {
            self.pause = Duration::ZERO;
        }
    }

    /// Before it is started again: nothing the first time, then longer and longer.
    pub fn next_pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        pause
    }

    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// It stops when its standard input ends.
    pub fn tell_to_stop(&mut self) {
        if let Some(running) = &mut self.running {
            running.stdin = None;
        }
    }

    /// Waits for the end of its process.
    pub async fn gone(&mut self) {
        if let Some(running) = &mut self.running {
            drop(running.gone.wait_for(|gone| *gone).await);
        }
    }
}

/// What a node says, with its name.
async fn tell_lines(from: impl AsyncRead + Unpin, name: String, screen: Screen) {
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        screen.message(&format!("[{name}] {line}"));
    }
}

/// Waits for the line that says that a node is ready. What comes behind it are rows that its jobs print: they go on to
/// standard output, no faster than that takes them.
async fn pass_on(
    from: impl AsyncRead + Unpin,
    events: mpsc::Sender<Event>,
    ready: impl FnOnce(Option<String>) -> Event + Send,
) {
    let mut from = BufReader::new(from);
    let mut first = String::new();
    if from.read_line(&mut first).await.is_ok()
        && let Some(told) = first.trim_end().strip_prefix("ready ")
    {
        let rest = told.split(' ').find_map(|word| word.strip_prefix("rest=")).map(str::to_string);
        drop(events.send(ready(rest)).await);
    }
    let (mut rows, mut stdout) = (Vec::with_capacity(ROWS_BYTES), tokio::io::stdout());
    while from.read_until(b'\n', &mut rows).await.is_ok_and(|read| read > 0) {
        // Whole lines, since those of several nodes come together; many at once, as far as they are here.
        if rows.len() < ROWS_BYTES && from.buffer().contains(&b'\n') {
            continue;
        }
        // Once nobody reads them any more, nodes still have to get rid of them.
        let written = async { stdout.write_all(&rows).await.and(stdout.flush().await) };
        drop(written.await);
        rows.clear();
    }
}
