//! One node of a cluster as a process of its own: `millstream node`. Puts together what the crates below offer; decides
//! nothing.
//!
//! - [`memory`]: how much of it a node holds that waits for jobs
//! - [`programs`]: the jobs of this executable, made from records
//! - [`start`]: folder, store, links, task manager, and the candidate for the lead
//! - [`submission`]: from a request to a job that the cluster goes on with
//! - [`rest`]: the REST server of a job manager

mod memory;
pub(crate) mod programs;
mod rest;
mod start;
mod submission;

use std::io::Read;
use std::time::Duration;

use millstream_config::Configuration;
use millstream_config::node::NodeSettings;
use millstream_runtime::ports::PortError;
use tokio::sync::oneshot;

use crate::error::{Error, Result};
use crate::jobs::Job;
use crate::run::screen::Screen;
use crate::run::signals::Signals;

/// How long peers are told that the node leaves.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// A node to be started.
pub(crate) struct Request {
    /// Its settings.
    pub configuration: Configuration,
    /// The jobs of this program.
    pub jobs: Vec<Job>,
    /// It ends when its standard input does: so does whoever started it.
    pub until_stdin_closes: bool,
}

/// Runs a node until it is told to stop.
///
/// # Errors
/// When it cannot be started.
pub(crate) fn run(request: Request, screen: &Screen) -> Result<()> {
    memory::wait_for_work();
    let settings = NodeSettings::of(&request.configuration).map_err(|error| Error::usage(error.to_string()))?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    // Two at least, so that signs of life are sent while subtasks work.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.max(2))
        .enable_all()
        .build()
        .map_err(|error| PortError::retry(format!("threads cannot be started: {error}")))?;
    let ended = runtime.block_on(until_told_to_stop(settings, request, screen));
    // Subtasks need not end well: what counts is in the store.
    runtime.shutdown_background();
    ended
}

async fn until_told_to_stop(settings: NodeSettings, request: Request, screen: &Screen) -> Result<()> {
    let mut signals = Signals::listen()
        .map_err(|error| PortError::retry(format!("signals of the system cannot be received: {error}")))?;
    let Request { configuration, jobs, until_stdin_closes } = request;
    let running = start::start(settings, configuration, jobs, screen).await?;
    // A launcher waits for this line.
    println!("{}", running.ready_line());
    let closed = until_stdin_closes.then(stdin_closed);
    let closed = async {
        match closed {
            Some(closed) => drop(closed.await),
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = signals.next() => screen.message("the node stops"),
        () = closed => screen.message("the node stops: whoever started it has ended"),
    }
    drop(tokio::time::timeout(LAST_WORDS, running.stop()).await);
    Ok(())
}

/// Tells when nobody holds the other end of standard input any more.
#[expect(clippy::disallowed_methods, reason = "reading it cannot be given up, and nothing of it is replayed")]
fn stdin_closed() -> oneshot::Receiver<()> {
    let (closed, told) = oneshot::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while matches!(std::io::stdin().read(&mut buffer), Ok(read) if read > 0) {}
        // Nobody waits any more: the node ends anyway.
        let _ = closed.send(());
    });
    told
}
