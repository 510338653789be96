//! A host of a simulated cluster: the real node with its links, task manager and candidate for the lead, over simulated
//! adapters to the world. What `millstream node` puts together in production is put together here.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millstream_actors::dispatcher::{DispatcherHandle, Scheduling, Submissions};
use millstream_actors::job_master::report::JobReport;
use millstream_actors::leadership::{Candidate, Role};
use millstream_actors::metrics::Registry;
use millstream_actors::node::{self, NodeArguments, NodeHandle};
use millstream_actors::task_manager::{self, Cancellation, TaskManagerArguments};
use millstream_actors::world::{Stopwatch, World};
use millstream_cluster::{Authority, Certificates, Identity, LinkEvents, Links, NetSeed, Options, Setup};
use millstream_runtime::ids::{NodeId, NodeIncarnation, NodeProcess};
use millstream_runtime::job::{JobStatus, adaptive};
use millstream_runtime::membership;
use millstream_runtime::state::memory::StateMemory;
use millstream_state::failpoint::Failpoints;
use millstream_state::local::NodeFolder;
use millstream_state::log::{Leader, TerminalState, WriterNonce};
use tokio::sync::watch;

use super::findings::Findings;
use super::job::Counting;
use super::plan::{FaultKind, Moment, Plan};
use super::store::Store;
use crate::plan::Random;
use crate::simulation::host_name;
use crate::socket::SimulatedSocket;
use crate::trace::Trace;
use crate::world::{EPOCH_MS, Executor, SimulatedClock};

const PORT: u16 = 7_000;
/// How long a leader may not be heard of, in milliseconds.
const LEASE_MS: u64 = 1_000;
/// How often a leader's jobs are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long a job waits for more slots than those it could make do with.
const STABILIZATION_MS: i64 = 500;

/// A host, and everything that outlives its process.
#[derive(Clone)]
pub struct Site {
    /// The plan.
    pub plan: Plan,
    /// Which host.
    pub index: usize,
    /// Told everything.
    pub trace: Trace,
    /// Told what must not happen.
    pub findings: Findings,
    /// Signs certificates.
    pub authority: Arc<Authority>,
    /// Where the folders of nodes are.
    pub folders: PathBuf,
    /// Does blocking work.
    pub executor: Executor,
    /// The checkpoint store, with the log of the cluster.
    pub store: Store,
    /// The job, as it is in the executable.
    pub counting: Counting,
}

impl Site {
    /// Where the plan has a process killed in the midst of something: its first one, and one place for each.
    fn failpoints(&self, incarnation: NodeIncarnation) -> Failpoints {
        let at = self.plan.faults.iter().find_map(|fault| match &fault.kind {
            FaultKind::Crash { host, moment: Moment::At(name, hit) } if *host == self.index => Some((name, *hit)),
            _ => None,
        });
        let Some((name, hit)) = at.filter(|_| incarnation.0 == 1) else { return Failpoints::none() };
        let (executor, host, trace, place) = (self.executor.clone(), self.index, self.trace.clone(), name.clone());
        Failpoints::call_at(name, hit, move || {
            trace.event("fault", &format!("{} is at {place}", host_name(host)));
            executor.doom(host);
        })
    }
}

/// A process on a host.
struct Process {
    site: Site,
    process: NodeProcess,
    folder: Arc<NodeFolder>,
    world: World,
    stopwatch: Stopwatch,
}

/// Runs a node until it is killed.
///
/// # Errors
/// When it cannot be put together.
pub async fn run(site: Site) -> Result<(), Box<dyn std::error::Error>> {
    let process = Process::new(site)?;
    let (take_events, events) = node::events();
    let links = process.links(take_events).await?;
    let node = node::start(process.node(&links).await?, events).await?;
    if process.site.plan.is_job_manager(process.site.index) {
        let (role, is) = watch::channel(Role::Unknown);
        drop(tokio::spawn(process.candidate().run(role)));
        drop(tokio::spawn(attend_role(process.site.clone(), process.process.clone(), node, is)));
    }
    let others = (0..process.site.plan.job_managers).filter(|other| *other != process.site.index);
    for other in others {
        links.connect(SocketAddr::new(turmoil::lookup(host_name(other)), PORT));
    }
    process.site.trace.event(&process.process.to_string(), "runs");
    // The process owns its folder for as long as it lives.
    std::future::pending::<()>().await;
    drop(process);
    Ok(())
}

impl Process {
    fn new(site: Site) -> Result<Self, Box<dyn std::error::Error>> {
        let stopwatch = Stopwatch::start();
        let name = host_name(site.index);
        let id = [u8::try_from(site.index)?; 16];
        let folder = Arc::new(NodeFolder::open(site.folders.join(&name), id)?);
        let process = NodeProcess { node: NodeId(name.clone()), incarnation: NodeIncarnation(folder.incarnation()) };
        let mut random = Random::new(site.plan.seed ^ ((site.index as u64) << 32) ^ (process.incarnation.0 << 48));
        let world = World {
            blobs: Arc::new(site.store.of(&name)),
            blocking: Arc::new(site.executor.of(site.index)),
            clock: Arc::new(SimulatedClock(site.trace.time().clone())),
            failpoints: site.failpoints(process.incarnation),
            registry: Arc::new(Registry::new("simulated", &name, Default::default())),
            memory: StateMemory::new(None),
            seed: random.next_number(),
        };
        Ok(Self { site, process, folder, world, stopwatch })
    }

    async fn links(&self, events: LinkEvents) -> Result<Links, Box<dyn std::error::Error>> {
        let name = &self.process.node.0;
        let certificate = self.site.authority.issue(name, EPOCH_MS, 30)?;
        Ok(Links::start(Setup {
            identity: Identity { cluster: "simulated".to_owned(), process: self.process.clone(), executable: [0; 32] },
            options: Options::default(),
            certificates: Certificates::from_pem(&certificate, EPOCH_MS)?,
            seed: NetSeed::simulated(self.world.seed),
            clock: Arc::clone(&self.world.clock),
            socket: SimulatedSocket::bind(PORT, name, self.site.trace.clone()).await?,
            events,
        })?)
    }

    async fn node(&self, links: &Links) -> Result<NodeArguments, Box<dyn std::error::Error>> {
        let mut task_manager = None;
        if !self.site.plan.is_job_manager(self.site.index) {
            let arguments = TaskManagerArguments {
                cancellation: Cancellation::patient(),
                process: self.process.clone(),
                world: self.world.clone(),
                transport: Arc::new(links.clone()),
                programs: Arc::new(self.site.counting.clone()),
                folder: Arc::downgrade(&self.folder),
                stopwatch: self.stopwatch,
            };
            task_manager = Some((task_manager::start(arguments).await?, self.site.plan.slots));
        }
        Ok(NodeArguments {
            process: self.process.clone(),
            links: links.clone(),
            membership: membership::Options::default(),
            task_manager,
            dispatcher: None,
            stopwatch: self.stopwatch,
            registry: Arc::clone(&self.world.registry),
        })
    }

    fn candidate(&self) -> Candidate {
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&self.world.seed.to_be_bytes());
        let Scheduling { adaptive, balance, .. } = Scheduling::default();
        let adaptive = adaptive::Options {
            // Hosts are down for longer than that, but always come back.
            resource_wait_ms: None,
            submission_stabilization_ms: STABILIZATION_MS,
            executing_stabilization_ms: STABILIZATION_MS,
            ..adaptive
        };
        Candidate {
            leader: Leader { node: self.process.node.clone(), rest: String::new() },
            nonce: WriterNonce(nonce),
            log: Arc::clone(&self.world.blobs),
            lease_ms: LEASE_MS,
            world: self.world.clone(),
            stopwatch: self.stopwatch,
            submissions: Arc::new(self.site.counting.clone()),
            scheduling: Scheduling { mode: self.site.plan.scheduling_mode(), adaptive, balance },
        }
    }
}

/// Tells the node what its candidate is, and looks after the job while it leads, as a client would.
async fn attend_role(site: Site, process: NodeProcess, node: NodeHandle, mut is: watch::Receiver<Role>) {
    let mut attending: Option<tokio::task::JoinHandle<()>> = None;
    while is.changed().await.is_ok() {
        let role = is.borrow_and_update().clone();
        if let Some(before) = attending.take() {
            before.abort();
        }
        match role {
            Role::Leads(dispatcher) => {
                site.trace.event(&process.to_string(), "leads");
                node.lead(Some(dispatcher.clone()));
                attending = Some(tokio::spawn(attend(site.clone(), process.clone(), dispatcher)));
            }
            Role::Follows(leader) => {
                site.trace.event(&process.to_string(), &format!("follows {}", leader.node));
                node.lead(None);
            }
            Role::Unknown => node.lead(None),
        }
    }
}

/// Submits the job unless the cluster has it, and traces what becomes of it.
async fn attend(site: Site, process: NodeProcess, dispatcher: DispatcherHandle) {
    let name = process.to_string();
    let mut shown = String::new();
    loop {
        // In this order: a job that is taken over meanwhile is in one of them.
        let (Ok(remembered), Ok(jobs)) = (dispatcher.remembered().await, dispatcher.jobs().await) else { return };
        if remembered.is_empty() && jobs.is_empty() {
            let submitted = submit(&site, &dispatcher).await;
            site.trace.event(&name, &format!("submits the job: {submitted:?}"));
        }
        match remembered.first().and_then(|job| job.known.ended.as_ref()) {
            Some(TerminalState::Finished) => site.findings.ended(),
            Some(other) => site.findings.violation(format!("the job has ended as {other:?}")),
            None => {}
        }
        if let Some(job) = jobs.first()
            && let Ok(report) = job.report().await
        {
            let shows = shown_of(&report);
            if shows != shown {
                site.trace.event(&name, &format!("shows {shows}"));
                shown = shows;
            }
            match report.status {
                JobStatus::Finished => site.findings.ended(),
                JobStatus::Failed | JobStatus::Canceled => {
                    site.findings.violation(format!("the job has ended as {:?}", report.status));
                    site.findings.ended();
                }
                _ => {}
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn submit(site: &Site, dispatcher: &DispatcherHandle) -> Result<(), String> {
    let submission = site.counting.submission(&site.counting.record()).map_err(|error| error.to_string())?;
    dispatcher.submit(submission).await.map(drop).map_err(|error| error.to_string())
}

/// What is traced of a job: its state, its deployment and restarts; checkpoints are traced as they are recorded.
fn shown_of(report: &JobReport) -> String {
    let attempt = report.attempt.map(|attempt| attempt.to_string()).unwrap_or_default();
    let failed = report.checkpoints.counts().failed;
    let failure = report.exceptions.latest().map(|entry| entry.message.as_str()).unwrap_or_default();
    format!(
        "{:?}, attempt {attempt}, {} restarts, {failed} checkpoints failed {failure}",
        report.status, report.restarts
    )
}
