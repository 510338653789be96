//! A cluster on this host, every node a process: `millstream cluster`. Starts what one file names, tells when all of it is
//! there, starts a node again that has ended, and ends all of them when it ends itself, however that happens.
//!
//! - [`child`]: the process of one node
//! - [`certificates`]: an authority for the nodes of one host

mod certificates;
mod child;

use std::io::Write;
use std::process::ExitStatus;
use std::time::Duration;

use millstream_actors::world::{BlockingPool, blocking};
use millstream_config::Sources;
use millstream_config::node::{ClusterNode, NodeSettings, load_cluster};
use millstream_runtime::ports::PortError;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use crate::client::{Client, place};
use crate::error::{Error, Result};
use crate::run::screen::Screen;
use crate::run::signals::Signals;
use child::{Child, Event, What};

/// Between two questions whether all nodes are there.
const ASK_AGAIN: Duration = Duration::from_millis(5);
/// A node that ran for so long was well: it is started again at once.
const WELL_AFTER: Duration = Duration::from_secs(10);
/// Pauses before a node that is not well is started again, from the second time on.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long nodes may take to end.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// A cluster to be started.
pub(crate) struct Request {
    /// The file, with what wins over it.
    pub sources: Sources,
    /// Start nodes again that have ended.
    pub restart: bool,
    /// What nodes log.
    pub log: Option<String>,
    /// Print JSON.
    pub json: bool,
}

/// How a cluster ended.
pub(crate) enum Ending {
    /// Because it was told to.
    Told,
    /// A node could not be started: with this exit code, its reason is on standard error.
    NotStarted(u8),
    /// All nodes have ended, and none is started again.
    AllGone,
}

/// Runs a cluster until it is told to stop.
///
/// # Errors
/// When the file cannot be used, or a process cannot be started.
pub(crate) fn run(request: &Request, screen: &Screen) -> Result<Ending> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| PortError::retry(format!("threads cannot be started: {error}")))?;
    let ended = runtime.block_on(launch(request, screen));
    runtime.shutdown_background();
    ended
}

async fn launch(request: &Request, screen: &Screen) -> Result<Ending> {
    let started = Instant::now();
    let mut signals = Signals::listen()
        .map_err(|error| PortError::retry(format!("signals of the system cannot be received: {error}")))?;
    let cluster = load_cluster(&request.sources).map_err(|error| Error::usage(error.to_string()))?;
    cluster.warnings.iter().for_each(|warning| screen.message(&format!("warning: {warning}")));
    let (events, told) = mpsc::channel(64);
    let mut launcher = Launcher::new(request, &cluster.nodes, events, screen)?;
    for index in 0..launcher.children.len() {
        launcher.start(index)?;
    }
    let ending = tokio::select! {
        biased;
        () = signals.next() => Ok(Ending::Told),
        ending = launcher.watch(told, started) => ending,
    };
    launcher.stop().await;
    ending
}

/// The nodes and what is known of them.
struct Launcher<'a> {
    request: &'a Request,
    screen: &'a Screen,
    children: Vec<Child>,
    events: mpsc::Sender<Event>,
    /// Task managers and slots that the file describes.
    expected: (u32, u32),
}

/// A launcher whose output nobody reads any more goes on.
fn print_line(text: &str) {
    drop(writeln!(std::io::stdout(), "{text}"));
}

impl<'a> Launcher<'a> {
    fn new(
        request: &'a Request,
        nodes: &[ClusterNode],
        events: mpsc::Sender<Event>,
        screen: &'a Screen,
    ) -> Result<Self> {
        let file = request.sources.file.clone().unwrap_or_default();
        let settings_of = |node: &ClusterNode| {
            let wrong = |error| Error::usage(format!("{}: node {}: {error}", file.display(), node.name));
            Ok(certificates::Holder {
                name: node.name.clone(),
                settings: NodeSettings::of(&node.configuration).map_err(wrong)?,
            })
        };
        let holders = nodes.iter().map(settings_of).collect::<Result<Vec<_>>>()?;
        let mut children = Vec::new();
        let mut expected = (0, 0);
        let made = certificates::make(&holders)?;
        for (certificates::Holder { name, settings }, flags) in holders.into_iter().zip(made) {
            if settings.roles.task_manager {
                expected = (expected.0 + 1, expected.1 + settings.slots);
            }
            let flags = request.sources.flags.iter().cloned().chain(flags).collect();
            children.push(Child::new(name, file.clone(), flags, request.log.clone()));
        }
        Ok(Self { request, screen, children, events, expected })
    }

    fn start(&mut self, index: usize) -> Result<()> {
        let child = &mut self.children[index];
        let pid = child.start(index, &self.events, self.screen)?;
        let text = match self.request.json {
            true => json!({ "node": child.name, "pid": pid }).to_string(),
            false => format!("node {} pid={pid}", child.name),
        };
        print_line(&text);
        Ok(())
    }

    /// Until all nodes have ended, or one cannot be started.
    async fn watch(&mut self, mut told: mpsc::Receiver<Event>, started: Instant) -> Result<Ending> {
        let mut is_ready = false;
        loop {
            let all_ready = !is_ready && self.children.iter().all(|child| child.is_ready);
            let event = tokio::select! {
                biased;
                event = told.recv() => event,
                rest = self.until_complete(), if all_ready => {
                    is_ready = true;
                    self.ready(&rest, started);
                    continue;
                }
            };
            let Some(Event { node, generation, what }) = event else { return Ok(Ending::AllGone) };
            if self.children[node].generation != generation {
                continue;
            }
            match what {
                What::Ready { rest } => self.children[node].ready(rest),
                What::StartAgain => self.start(node)?,
                What::Ended(status) => {
                    if let Some(ending) = self.ended(node, status, is_ready) {
                        return Ok(ending);
                    }
                }
            }
        }
    }

    fn ready(&self, rest: &str, started: Instant) {
        let (ms, nodes, slots) = (started.elapsed().as_millis(), self.children.len(), self.expected.1);
        let text = match self.request.json {
            true => json!({ "rest": rest, "nodes": nodes, "slots": slots, "ms": ms }).to_string(),
            false => format!("ready rest={rest} nodes={nodes} slots={slots} ms={ms}"),
        };
        print_line(&text);
    }

    /// Asks job managers until one of them has all task managers.
    async fn until_complete(&self) -> String {
        let pool = BlockingPool::new(tokio::runtime::Handle::current());
        let servers: Vec<String> = self.children.iter().filter_map(|child| child.rest.clone()).collect();
        loop {
            for server in &servers {
                let (asked, expected) = (server.clone(), self.expected);
                let complete = blocking(&pool, move || is_complete(&asked, expected)).await;
                if complete.unwrap_or(false) {
                    return server.clone();
                }
            }
            sleep(ASK_AGAIN).await;
        }
    }

    fn ended(&mut self, node: usize, status: ExitStatus, was_ready: bool) -> Option<Ending> {
        let child = &mut self.children[node];
        let never_ran = !child.has_been_ready;
        child.ended();
        self.screen.message(&format!("node {} ended ({status})", child.name));
        // What is wrong with its settings is wrong the next time as well.
        if let (true, false, Some(code @ (2 | 3))) = (never_ran, was_ready, status.code()) {
            return Some(Ending::NotStarted(u8::try_from(code).unwrap_or(1)));
        }
        if !self.request.restart {
            let any = self.children.iter().any(Child::is_running);
            return (!any).then_some(Ending::AllGone);
        }
        let pause = child.next_pause();
        let (events, generation) = (self.events.clone(), child.generation);
        drop(tokio::spawn(async move {
            sleep(pause).await;
            drop(events.send(Event { node, generation, what: What::StartAgain }).await);
        }));
        None
    }

    async fn stop(&mut self) {
        self.children.iter_mut().for_each(Child::tell_to_stop);
        let all = async {
            for child in &mut self.children {
                child.gone().await;
            }
        };
        drop(tokio::time::timeout(LAST_WORDS, all).await);
        // Dropping a child kills what is left of it.
    }
}

/// Whether a job manager has all task managers.
fn is_complete(server: &str, (task_managers, slots): (u32, u32)) -> bool {
    // A node tells its port.
    let Some((host, port)) = place::parse(server, 0) else { return false };
    Client::new(&host, port)
        .overview()
        .is_ok_and(|overview| overview.taskmanagers >= task_managers && overview.slots_total >= slots)
}
