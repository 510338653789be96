//! From settings to a running node: folder, store, links, task manager, and the candidate for the lead.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millstream_actors::dispatcher::{Scheduling, SchedulingMode};
use millstream_actors::leadership::{Candidate, Role};
use millstream_actors::metrics::{Manager, Registry};
use millstream_actors::node::{self, NodeArguments, NodeHandle};
use millstream_actors::task_manager::{self, LocalGateway, TaskManagerArguments};
use millstream_actors::world::{BlockingPool, Stopwatch, SystemClock, World, blocking};
use millstream_cluster::{Authority, Certificates, Identity, LinkEvents, Links, NetSeed, Options, Setup, udp_socket};
use millstream_config::choice::{Scheduler, SchedulerMode};
use millstream_config::node::{HighAvailabilitySettings, NodeSettings};
use millstream_config::{Configuration, Key, keys};
use millstream_runtime::ids::{NodeId, NodeIncarnation, NodeProcess};
use millstream_runtime::job::adaptive;
use millstream_runtime::membership;
use millstream_runtime::ports::store::BlobStore;
use millstream_runtime::ports::{Clock, PortError};
use millstream_runtime::state::memory::StateMemory;
use millstream_service::Server;
use millstream_state::blob::{Location, MemoryBlobs, Stores};
use millstream_state::local::NodeFolder;
use millstream_state::log::{Leader, WriterNonce};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::watch;

use super::programs::Compiled;
use super::rest;
use crate::error::{Error, Result};
use crate::executable;
use crate::jobs::Job;
use crate::run::screen::Screen;
use crate::run::{memory, settings};
use crate::serve::measuring::{Measured, Measuring};
use crate::watchdog;

/// Before the name of another node is looked up again.
const LOOK_UP_AGAIN: Duration = Duration::from_secs(1);
/// Days that the certificate of a node without peers is valid: it shows it to nobody.
const OWN_CERTIFICATE_DAYS: u32 = 3_650;

/// A running node.
pub(super) struct Running {
    process: NodeProcess,
    slots: u32,
    address: SocketAddr,
    links: Links,
    rest: Option<Server>,
    measuring: Measuring,
    /// Owned for as long as the node runs.
    _folder: Arc<NodeFolder>,
}

impl Running {
    /// What whoever started it waits for.
    pub fn ready_line(&self) -> String {
        let rest = self.rest.as_ref().map(|server| format!(" rest=http://{}", server.local_address()));
        let NodeProcess { node, .. } = &self.process;
        let metrics = self.measuring.endpoint().map(|endpoint| format!(" metrics={endpoint}"));
        format!(
            "ready node={node} address={} slots={}{}{}",
            self.address,
            self.slots,
            rest.unwrap_or_default(),
            metrics.unwrap_or_default()
        )
    }

    /// Tells its peers that it leaves.
    pub async fn stop(&self) {
        self.links.stop("the node stops").await;
    }
}

/// What every part of a node is made of.
struct Ground {
    settings: NodeSettings,
    configuration: Configuration,
    process: NodeProcess,
    folder: Arc<NodeFolder>,
    world: World,
    stopwatch: Stopwatch,
    programs: Arc<Compiled>,
}

/// Starts a node.
///
/// # Errors
/// When a setting, a file or an address cannot be used; says what to do.
pub(super) async fn start(
    settings: NodeSettings,
    configuration: Configuration,
    jobs: Vec<Job>,
    screen: &Screen,
) -> Result<Running> {
    let ground = Ground::prepare(settings, configuration, jobs).await?;
    let measuring = ground.measuring().await?;
    let (take_events, events) = node::events();
    let links = ground.links(take_events, screen).await?;
    let address = links.local_address().map_err(unusable)?;
    let task_manager = ground.task_manager(&links).await?;
    let (role, is) = watch::channel(Role::Unknown);
    let node = node::start(ground.node(&links, task_manager.as_ref()), events).await?;
    let rest = match ground.settings.roles.job_manager {
        true => Some(ground.job_manager(&node, role, is, screen).await?),
        false => None,
    };
    ground.find_job_managers(&links);
    let Ground { settings, process, folder, .. } = ground;
    Ok(Running { process, slots: settings.slots, address, links, rest, measuring, _folder: folder })
}

fn unusable(error: millstream_cluster::Error) -> Error {
    PortError::fix_input(error.to_string()).into()
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| PortError::give_up("the random numbers of the operating system cannot be read"))?;
    Ok(bytes)
}

impl Ground {
    async fn prepare(settings: NodeSettings, configuration: Configuration, jobs: Vec<Job>) -> Result<Self> {
        let stopwatch = Stopwatch::start();
        let executor = Arc::new(BlockingPool::new(tokio::runtime::Handle::current()));
        let path = settings.folder.clone();
        let fresh_id = random()?;
        let seed = u64::from_le_bytes(random()?);
        let stores = settings::stores(&configuration);
        let opening = Opening { path, fresh_id, jobs, configuration: configuration.clone(), stores, seed };
        let Opened { folder, blobs, programs } = blocking(&*executor, move || opening.open()).await??;
        let name = settings.name.clone().unwrap_or_else(|| executable::hex(&folder.id()));
        let host = settings.address.rsplit_once(':').map_or("localhost", |(host, _)| host).to_string();
        let world = World {
            blobs,
            blocking: executor,
            clock: Arc::new(SystemClock),
            failpoints: settings::failpoints()?,
            registry: Arc::new(Registry::new(&host, &name, Default::default())),
            memory: StateMemory::new(memory::for_state(&configuration)),
            seed,
        };
        let process = NodeProcess { node: NodeId(name), incarnation: NodeIncarnation(folder.incarnation()) };
        Ok(Self { settings, configuration, process, folder, world, stopwatch, programs })
    }

    async fn measuring(&self) -> Result<Measuring> {
        let NodeSettings { roles, .. } = &self.settings;
        let managers = [(roles.job_manager, Manager::Job), (roles.task_manager, Manager::Task)];
        let managers: Vec<Manager> = managers.into_iter().filter_map(|(is, manager)| is.then_some(manager)).collect();
        let measured = Measured {
            registry: Arc::clone(&self.world.registry),
            stopwatch: self.stopwatch,
            state: Arc::clone(&self.world.memory),
        };
        let mut measuring = Measuring::start(&self.configuration, measured, &managers);
        measuring.answer_prometheus(&self.configuration).await?;
        Ok(measuring)
    }

    async fn links(&self, events: LinkEvents, screen: &Screen) -> Result<Links> {
        let NodeSettings { bind_address, heartbeat, .. } = &self.settings;
        let bind = look_up(bind_address).await.map_err(|error| Error::usage(error.message))?;
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let options = Options {
            heartbeat_interval_ms: millis(heartbeat.interval),
            timeout_ms: millis(heartbeat.timeout),
            ..Options::default()
        };
        let cluster = self.configuration.get(&keys::HA_CLUSTER_ID);
        let executable = self.programs.digest();
        let setup = Setup {
            identity: Identity { cluster, process: self.process.clone(), executable },
            options,
            certificates: self.certificates(screen)?,
            seed: NetSeed::from_system().map_err(unusable)?,
            clock: Arc::new(SystemClock),
            socket: udp_socket(bind).map_err(unusable)?,
            events,
        };
        Links::start(setup).map_err(unusable)
    }

    /// The certificates of its settings. A node that is a cluster by itself shows its own to nobody.
    fn certificates(&self, screen: &Screen) -> Result<Certificates> {
        let now_ms = SystemClock.now_ms();
        if let Some(files) = &self.settings.certificates {
            return Certificates::load(&files.authority, &files.certificate, &files.key, now_ms).map_err(unusable);
        }
        let name = &self.process.node.0;
        if self.settings.job_managers.iter().any(|place| *place != self.settings.address) {
            return Err(Error::usage(format!(
                "nodes of several hosts need certificates: make them with `millstream certs --output certificates {name}` and set {}, {} and {}",
                keys::CERTIFICATE_FILE.name,
                keys::KEY_FILE.name,
                keys::AUTHORITY_FILE.name
            )));
        }
        screen.message("warning: this node has no certificates, so no other node can join it (see `certs --help`)");
        let pem = Authority::create(now_ms).and_then(|own| own.issue(name, now_ms, OWN_CERTIFICATE_DAYS));
        Certificates::from_pem(&pem.map_err(unusable)?, now_ms).map_err(unusable)
    }

    async fn task_manager(&self, links: &Links) -> Result<Option<LocalGateway>> {
        if !self.settings.roles.task_manager {
            return Ok(None);
        }
        let cancellation = settings::cancellation(&self.configuration);
        if let Some(timeout) = cancellation.timeout {
            watchdog::watch_runtime(timeout, watchdog::end_process);
        }
        let arguments = TaskManagerArguments {
            process: self.process.clone(),
            world: self.world.clone(),
            transport: Arc::new(links.clone()),
            programs: Arc::<Compiled>::clone(&self.programs),
            folder: Arc::downgrade(&self.folder),
            stopwatch: self.stopwatch,
            cancellation,
        };
        Ok(Some(task_manager::start(arguments).await?))
    }

    fn node(&self, links: &Links, task_manager: Option<&LocalGateway>) -> NodeArguments {
        let timeout_ms = u64::try_from(self.settings.heartbeat.timeout.as_millis()).unwrap_or(u64::MAX);
        NodeArguments {
            process: self.process.clone(),
            links: links.clone(),
            membership: membership::Options { timeout_ms, suspicion_ms: timeout_ms / 2, separation_ms: timeout_ms },
            task_manager: task_manager.map(|gateway| (gateway.clone(), self.settings.slots)),
            dispatcher: None,
            stopwatch: self.stopwatch,
            registry: Arc::clone(&self.world.registry),
        }
    }

    /// The REST server first, since others are told where it is; then the candidate.
    async fn job_manager(
        &self,
        node: &NodeHandle,
        role: watch::Sender<Role>,
        is: watch::Receiver<Role>,
        screen: &Screen,
    ) -> Result<Server> {
        let site = rest::Site {
            configuration: self.configuration.clone(),
            world: self.world.clone(),
            stopwatch: self.stopwatch,
            programs: Arc::clone(&self.programs),
        };
        let server = rest::start(site, is.clone(), screen).await?;
        let (log, lease_ms) = self.cluster_log().await?;
        let leader = Leader { node: self.process.node.clone(), rest: rest::url(&self.configuration, &server) };
        let candidate = Candidate {
            leader,
            nonce: WriterNonce(random()?),
            log,
            lease_ms,
            world: self.world.clone(),
            stopwatch: self.stopwatch,
            submissions: Arc::<Compiled>::clone(&self.programs),
            scheduling: Scheduling {
                mode: scheduling_mode(&self.configuration),
                adaptive: adaptive(&self.configuration),
                balance: settings::load_balance(&self.configuration),
            },
        };
        drop(tokio::spawn(candidate.run(role)));
        drop(tokio::spawn(tell_the_node(node.clone(), is)));
        Ok(server)
    }

    /// Where the log of the cluster lies: in memory unless it is to outlive this process.
    async fn cluster_log(&self) -> Result<(Arc<dyn BlobStore>, u64)> {
        let Some(HighAvailabilitySettings { storage, lease }) = &self.settings.high_availability else {
            let lease = self.configuration.get(&keys::HA_LEASE);
            return Ok((Arc::new(MemoryBlobs::default()), u64::try_from(lease.as_millis()).unwrap_or(u64::MAX)));
        };
        let location = Location::parse(storage)?;
        let (stores, trial) = (settings::stores(&self.configuration), format!("{:016x}", self.world.seed));
        let open = move || stores.open_tried(&location, &trial);
        let blobs = blocking(&*self.world.blocking, open).await??;
        Ok((blobs, u64::try_from(lease.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Keeps a link to every job manager; their names may be known later than this node starts.
    fn find_job_managers(&self, links: &Links) {
        for place in self.settings.job_managers.iter().filter(|place| **place != self.settings.address) {
            let (links, place) = (links.clone(), place.clone());
            drop(tokio::spawn(async move {
                loop {
                    match look_up(&place).await {
                        Ok(address) => return links.connect(address),
                        Err(error) => tracing::warn!("{error}; looking it up again"),
                    }
                    tokio::time::sleep(LOOK_UP_AGAIN).await;
                }
            }));
        }
    }
}

/// Whoever comes to lead gets the task managers that are linked.
async fn tell_the_node(node: NodeHandle, mut is: watch::Receiver<Role>) {
    while is.changed().await.is_ok() {
        let dispatcher = match &*is.borrow_and_update() {
            Role::Leads(dispatcher) => Some(dispatcher.clone()),
            Role::Follows(_) | Role::Unknown => None,
        };
        node.lead(dispatcher);
    }
}

/// What is opened on the blocking executor.
struct Opening {
    path: PathBuf,
    fresh_id: [u8; 16],
    jobs: Vec<Job>,
    configuration: Configuration,
    stores: Stores,
    seed: u64,
}

struct Opened {
    folder: Arc<NodeFolder>,
    blobs: Arc<dyn BlobStore>,
    programs: Arc<Compiled>,
}

impl Opening {
    fn open(self) -> Result<Opened> {
        let folder = Arc::new(NodeFolder::open(&self.path, self.fresh_id)?);
        let location = match self.configuration.get(&keys::CHECKPOINT_DIR) {
            Some(place) => Location::parse(&place)?,
            None => self.path.join("checkpoints").into(),
        };
        let blobs = self.stores.open_tried(&location, &format!("{:016x}", self.seed))?;
        Ok(Opened { folder, blobs, programs: Arc::new(Compiled::new(self.jobs, self.configuration, self.path)?) })
    }
}

fn scheduling_mode(configuration: &Configuration) -> SchedulingMode {
    match (configuration.get(&keys::SCHEDULER_MODE), configuration.get(&keys::SCHEDULER)) {
        (SchedulerMode::Reactive, _) => SchedulingMode::Reactive,
        (SchedulerMode::None, Scheduler::Adaptive) => SchedulingMode::Adaptive,
        (SchedulerMode::None, Scheduler::Default) => SchedulingMode::Whole,
    }
}

/// How long jobs wait for slots, and what for.
fn adaptive(configuration: &Configuration) -> adaptive::Options {
    let millis = |key: &Key<Duration>| i64::try_from(configuration.get(key).as_millis()).unwrap_or(i64::MAX);
    adaptive::Options {
        resource_wait_ms: Some(millis(&keys::RESOURCE_WAIT)).filter(|wait_ms| *wait_ms > 0),
        submission_stabilization_ms: millis(&keys::SUBMISSION_STABILIZATION),
        executing_stabilization_ms: millis(&keys::EXECUTING_STABILIZATION),
        cooldown_ms: millis(&keys::RESCALE_COOLDOWN),
        max_delay_ms: millis(&keys::RESCALE_MAX_DELAY),
        max_checkpoint_failures: configuration.get(&keys::RESCALE_MAX_CHECKPOINT_FAILURES),
    }
}

async fn look_up(place: &str) -> Result<SocketAddr, PortError> {
    let unknown = |reason: String| PortError::retry(format!("the address {place} cannot be looked up: {reason}"));
    let mut found = tokio::net::lookup_host(place).await.map_err(|error| unknown(error.to_string()))?;
    found.next().ok_or_else(|| unknown("it has none".to_string()))
}
