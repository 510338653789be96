//! Jobs submitted to the dispatcher of a cluster whose nodes have real links over QUIC on loopback: they find each other
//! through the job manager, and a node that falls silent is noticed by the failure detector.

use std::net::SocketAddr;

use millstream_actors::dispatcher::{
    self, DispatcherArguments, DispatcherHandle, Scheduling, SchedulingMode, Submission, Submissions,
};
use millstream_actors::launch::sealed::Term;
use millstream_actors::node::{self, NodeArguments, NodeHandle};
use millstream_actors::protocol::deploy::Recorded;
use millstream_actors::task_manager::{self, LocalGateway, TaskManagerArguments};
use millstream_actors::world::{Stopwatch, SystemClock};
use millstream_cluster::{Authority, Certificates, Identity, Links, NetSeed, Options, Setup, udp_socket};
use millstream_runtime::graph::JobGraph;
use millstream_runtime::ids::{NodeId, NodeIncarnation, NodeProcess};
use millstream_runtime::membership;
use millstream_runtime::ports::{Clock, PortError};
use millstream_state::blob::MemoryBlobs;
use millstream_state::failpoint::Failpoints;
use millstream_state::local::NodeFolder;
use millstream_state::log::{AppendOutcome, ClusterLog, Leader, WriterNonce};

use super::*;

/// Nodes of one cluster.
struct Cluster {
    ground: Ground,
    authority: Authority,
    leader: SocketAddr,
    dispatcher: DispatcherHandle,
    leading: LinkedNode,
}

/// A node with its links.
struct LinkedNode {
    links: Links,
    node: NodeHandle,
    task_manager: Option<LocalGateway>,
    folder: Arc<NodeFolder>,
}

impl LinkedNode {
    /// Its process ends without a word: peers hear nothing more.
    async fn kill(self) {
        self.node.kill();
        if let Some(task_manager) = &self.task_manager {
            task_manager.kill();
        }
        self.links.stop("killed").await;
        let gone = Arc::downgrade(&self.folder);
        drop((self.folder, self.links));
        until(async || gone.strong_count() == 0).await;
    }
}

/// Starts a node; with a graph it is a task manager that can run it, with a dispatcher a job manager.
async fn linked(
    ground: &Ground,
    authority: &Authority,
    name: &str,
    task_manager: Option<(&JobGraph, u32)>,
    dispatcher: Option<DispatcherHandle>,
) -> LinkedNode {
    let now_ms = SystemClock.now_ms();
    let folder = Arc::new(NodeFolder::open(ground.folder(name), [7; 16]).expect("nobody else has it"));
    let process = NodeProcess { node: NodeId(name.to_owned()), incarnation: NodeIncarnation(folder.incarnation()) };
    let pem = authority.issue(name, now_ms, 1).expect("issued");
    let (take_events, events) = node::events();
    let links = Links::start(Setup {
        identity: Identity { cluster: "test".to_owned(), process: process.clone(), executable: [1; 32] },
        options: Options::default(),
        certificates: Certificates::from_pem(&pem, now_ms).expect("valid"),
        seed: NetSeed::from_system().expect("random numbers"),
        clock: Arc::new(SystemClock),
        socket: udp_socket("127.0.0.1:0".parse().expect("an address")).expect("a socket"),
        events: take_events,
    })
    .expect("links");
    let mut offered = None;
    if let Some((graph, slots)) = task_manager {
        let arguments = TaskManagerArguments {
            cancellation: task_manager::Cancellation::patient(),
            process: process.clone(),
            world: ground.world(name),
            transport: Arc::new(links.clone()),
            programs: Arc::new(Recorded(Arc::new(graph.clone()))),
            folder: Arc::downgrade(&folder),
            stopwatch: Stopwatch::start(),
        };
        offered = Some((task_manager::start(arguments).await.expect("it starts"), slots));
    }
    let arguments = NodeArguments {
        process,
        links: links.clone(),
        membership: membership::Options::default(),
        task_manager: offered.clone(),
        dispatcher,
        stopwatch: Stopwatch::start(),
        registry: ground.world(name).registry,
    };
    let node = node::start(arguments, events).await.expect("it starts");
    LinkedNode { links, node, task_manager: offered.map(|(gateway, _)| gateway), folder }
}

/// A leader that took nothing over has nothing to make anew.
struct NoneBefore;

impl Submissions for NoneBefore {
    fn submission(&self, record: &JobRecord) -> Result<Submission, PortError> {
        Err(PortError::give_up(format!("{} was never submitted", record.name)))
    }
}

/// The dispatcher of the only job manager: the log of its cluster lies in memory.
pub async fn dispatcher_of(ground: &Ground, scheduling: Scheduling) -> DispatcherHandle {
    let nonce = WriterNonce([1; 16]);
    let mut log = ClusterLog::open(Arc::new(MemoryBlobs::default()), nonce, Failpoints::none()).expect("empty");
    let leader = Leader { node: NodeId("leader".to_owned()), rest: String::new() };
    assert!(matches!(log.lead(&leader), Ok(AppendOutcome::Written(_))));
    let term = Term { epoch: log.epoch(), nonce };
    let arguments = DispatcherArguments {
        log,
        term,
        taken: Vec::new(),
        world: ground.world("leader"),
        stopwatch: Stopwatch::start(),
        submissions: Arc::new(NoneBefore),
        scheduling,
        deposed: Arc::new(|| panic!("nobody else leads")),
    };
    dispatcher::start(arguments).await.expect("it starts")
}

impl Cluster {
    async fn start(dir: &std::path::Path) -> Self {
        let ground = Ground::new(dir);
        let authority = Authority::create(SystemClock.now_ms()).expect("an authority");
        let whole = Scheduling { mode: SchedulingMode::Whole, ..Scheduling::default() };
        let dispatcher = dispatcher_of(&ground, whole).await;
        let leading = linked(&ground, &authority, "leader", None, Some(dispatcher.clone())).await;
        let leader = leading.links.local_address().expect("bound");
        Self { ground, authority, leader, dispatcher, leading }
    }

    async fn task_manager(&self, name: &str, graph: &JobGraph, slots: u32) -> LinkedNode {
        let node = linked(&self.ground, &self.authority, name, Some((graph, slots)), None).await;
        node.links.connect(self.leader);
        node
    }

    async fn submit(&self, graph: &JobGraph, options: LaunchOptions) -> millstream_actors::job_master::JobHandle {
        let graph = Arc::new(graph.clone());
        let submission = Submission { record: JobRecord::default(), graph, options };
        self.dispatcher.submit(submission).await.expect("submitted")
    }

    async fn free(&self) -> u32 {
        self.dispatcher.nodes().await.expect("it answers").iter().map(|node| node.free).sum()
    }
}

#[test]
fn a_job_over_quic_survives_the_silence_of_a_task_manager_exactly_once() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let cluster = Cluster::start(dir.path()).await;
        let (tap, target) = (Tap::new(SPLITS as usize), Target::new());
        let graph = graph_of(&sums(4, &tap, &Trap::at(&[700]), &target));
        let _first = cluster.task_manager("a", &graph, 2).await;
        let second = cluster.task_manager("b", &graph, 2).await;
        let job = cluster.submit(&graph, options(dir.path())).await;
        tap.release_all(200);
        until_completed(&job, 5).await;
        assert_eq!(cluster.free().await, 0);
        second.kill().await;
        until(async || cluster.dispatcher.nodes().await.expect("it answers").len() == 1).await;
        let _third = cluster.task_manager("c", &graph, 2).await;
        let before = report(&job).await.checkpoints.counts().completed;
        tap.release_all(400);
        until_completed(&job, before + 2).await;
        tap.close_all();
        assert_eq!(job.outcome().await.expect("it answers").status, JobStatus::Finished);
        assert_eq!(sorted(&target), expected(400));
        assert_eq!(target.pending(), 0);
        until(async || cluster.free().await == 4).await;
        assert!(cluster.leading.links.linked().len() >= 2);
    });
}

#[test]
fn a_job_goes_on_exactly_once_when_the_link_to_a_task_manager_breaks_and_comes_back() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let cluster = Cluster::start(dir.path()).await;
        let (tap, target) = (Tap::new(SPLITS as usize), Target::new());
        let graph = graph_of(&sums(4, &tap, &Trap::default(), &target));
        let _nodes = [cluster.task_manager("a", &graph, 2).await, cluster.task_manager("b", &graph, 2).await];
        let job = cluster.submit(&graph, options(dir.path())).await;
        for round in 1..=4 {
            tap.release_all(100 * round);
            let before = report(&job).await.checkpoints.counts().completed;
            until_completed(&job, before + 2).await;
            cluster.leading.links.cut(&NodeId(["a", "b"][round as usize % 2].to_owned()), "cut by a test");
            until(async || report(&job).await.restarts >= round).await;
            until_status(&job, JobStatus::Running).await;
        }
        tap.close_all();
        assert_eq!(job.outcome().await.expect("it answers").status, JobStatus::Finished);
        assert_eq!(sorted(&target), expected(400));
        assert_eq!(target.pending(), 0);
    });
}

#[test]
fn a_job_waits_until_another_gives_its_slots_back() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let cluster = Cluster::start(dir.path()).await;
        let (tap, target) = (Tap::new(SPLITS as usize), Target::new());
        let graph = graph_of(&sums(1, &tap, &Trap::default(), &target));
        let store: Location = dir.path().join("checkpoints").into();
        let options_of =
            |name: &str| LaunchOptions { checkpoint_dir: Some(store.clone()), ..options(&dir.path().join(name)) };
        let _node = cluster.task_manager("a", &graph, 1).await;
        until(async || cluster.free().await == 1).await;
        let first = cluster.submit(&graph, options_of("first")).await;
        until_status(&first, JobStatus::Running).await;
        let second = cluster.submit(&graph, options_of("second")).await;
        until_status(&second, JobStatus::Created).await;
        assert_eq!(cluster.free().await, 0);
        assert_eq!(first.cancel().await.expect("it answers").status, JobStatus::Canceled);
        tap.release_all(50);
        tap.close_all();
        assert_eq!(second.outcome().await.expect("it answers").status, JobStatus::Finished);
        assert_eq!(sorted(&target), expected(50));
        assert_eq!(cluster.dispatcher.jobs().await.expect("it answers").len(), 2);
        until(async || cluster.free().await == 1).await;
    });
}
