//! Task managers of one process, to which the job master speaks in the wire form of its messages.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use millstream_actors::job_master::deployment::OfferedNode;
use millstream_actors::metrics::Registry;
use millstream_actors::protocol::deploy::{Programs, Recorded};
use millstream_actors::protocol::{Answers, TaskManagerGateway, ToTaskManager};
use millstream_actors::task_manager::{self, Cancellation, LocalGateway, TaskManagerArguments};
use millstream_actors::world::{BlockingPool, Stopwatch, SystemClock, World};
use millstream_runtime::graph::JobGraph;
use millstream_runtime::ids::{JobId, NodeId, NodeIncarnation, NodeProcess, VertexId};
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::store::{BlobStore, Created};
use millstream_runtime::state::memory::StateMemory;
use millstream_state::blob::LocalBlobs;
use millstream_state::failpoint::Failpoints;
use millstream_state::local::NodeFolder;

use super::network::{MemoryTransport, Network};

/// The ground on which task managers are started.
pub struct Ground {
    dir: PathBuf,
    pub network: Arc<Network>,
    reads: Mutex<BTreeMap<String, Reads>>,
    pub cancellation: Cancellation,
    /// What keyed state may take in memory on each node, in bytes.
    pub state_memory: Option<usize>,
}

/// Blobs that a node has read, in order.
type Reads = Arc<Mutex<Vec<String>>>;

/// A task manager of this process.
pub struct Node {
    pub process: NodeProcess,
    slots: u32,
    gateway: LocalGateway,
    folder: Arc<NodeFolder>,
}

impl Ground {
    /// Checkpoints lie where a job with this state folder has them.
    pub fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_path_buf(),
            network: Arc::default(),
            reads: Mutex::default(),
            cancellation: Cancellation::patient(),
            state_memory: None,
        }
    }

    /// What a task manager uses of the world.
    pub fn world(&self, name: &str) -> World {
        World {
            blobs: Arc::new(Watched {
                blobs: LocalBlobs::open(self.dir.join("checkpoints")).expect("a folder"),
                reads: self.reads_of(name),
            }),
            blocking: Arc::new(BlockingPool::new(tokio::runtime::Handle::current())),
            clock: Arc::new(SystemClock),
            failpoints: Failpoints::none(),
            registry: Arc::new(Registry::new("localhost", name, Default::default())),
            memory: StateMemory::new(self.state_memory),
            seed: 1,
        }
    }

    fn reads_of(&self, name: &str) -> Reads {
        Arc::clone(self.reads.lock().expect("nobody panics").entry(name.to_owned()).or_default())
    }

    /// The segments of a vertex that a node has read of the checkpoint store so far, in order.
    pub fn segments_read(&self, name: &str, vertex: VertexId) -> Vec<String> {
        let reads = self.reads_of(name);
        let reads = reads.lock().expect("nobody panics");
        reads.iter().filter(|path| path.contains(&format!("/segments/{vertex}/"))).cloned().collect()
    }

    /// Where a node keeps what is its own.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Starts a task manager that can run this graph.
    pub async fn node(&self, name: &str, slots: u32, graph: &JobGraph) -> Node {
        self.node_with(name, slots, Arc::new(Recorded(Arc::new(graph.clone())))).await
    }

    /// Starts a task manager with these programs.
    pub async fn node_with(&self, name: &str, slots: u32, programs: Arc<dyn Programs>) -> Node {
        let folder = Arc::new(NodeFolder::open(self.dir.join(name), [7; 16]).expect("nobody else has it"));
        let process = NodeProcess { node: NodeId(name.to_owned()), incarnation: NodeIncarnation(folder.incarnation()) };
        let world = self.world(name);
        let arguments = TaskManagerArguments {
            process: process.clone(),
            world,
            transport: Arc::new(MemoryTransport(Arc::clone(&self.network))),
            programs,
            folder: Arc::downgrade(&folder),
            stopwatch: Stopwatch::start(),
            cancellation: self.cancellation.clone(),
        };
        let gateway = task_manager::start(arguments).await.expect("it starts");
        Node { process, slots, gateway, folder }
    }
}

impl Node {
    pub fn offered(&self) -> OfferedNode {
        OfferedNode {
            process: self.process.clone(),
            slots: self.slots,
            gateway: Arc::new(Encoded(self.gateway.clone())),
        }
    }

    /// Its process ends at once.
    pub async fn kill(self) -> NodeProcess {
        self.gateway.kill();
        // Whatever runs on other threads for it still holds the folder for a moment.
        let Self { process, folder, .. } = self;
        let gone = Arc::downgrade(&folder);
        drop(folder);
        super::until(async || gone.strong_count() == 0).await;
        process
    }
}

/// The checkpoint store, seen from a node.
struct Watched {
    blobs: LocalBlobs,
    reads: Reads,
}

impl Watched {
    fn read(&self, path: &str) {
        self.reads.lock().expect("nobody panics").push(path.to_owned());
    }
}

impl BlobStore for Watched {
    fn put(&self, path: &str, parts: &[&[u8]]) -> Result<(), PortError> {
        self.blobs.put(path, parts)
    }
    fn put_if_absent(&self, path: &str, bytes: &[u8]) -> Result<Created, PortError> {
        self.blobs.put_if_absent(path, bytes)
    }
    fn get(&self, path: &str) -> Result<Option<Vec<u8>>, PortError> {
        self.read(path);
        self.blobs.get(path)
    }
    fn get_range(&self, path: &str, offset: u64, length: u64) -> Result<Vec<u8>, PortError> {
        self.read(path);
        self.blobs.get_range(path, offset, length)
    }
    fn delete(&self, path: &str) -> Result<(), PortError> {
        self.blobs.delete(path)
    }
    fn list(&self, prefix: &str) -> Result<Vec<String>, PortError> {
        self.blobs.list(prefix)
    }
}

/// Sends every message through its wire form, both ways.
struct Encoded(LocalGateway);

fn recoded<T: serde::Serialize + for<'a> serde::Deserialize<'a>>(message: &T) -> T {
    let bytes = rmp_serde::to_vec(message).expect("it is plain data");
    rmp_serde::from_slice(&bytes).expect("just written")
}

impl TaskManagerGateway for Encoded {
    fn send(&self, job: JobId, message: ToTaskManager, answers: &Answers) {
        let answers = answers.clone();
        let back = Answers::new(move |told| answers.tell(recoded(&told)));
        self.0.send(job, recoded(&message), &back);
    }
}
