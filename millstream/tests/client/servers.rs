//! Two servers of one cluster: one leads, the other knows who does, until a test says otherwise.

use std::net::TcpListener;
use std::sync::Arc;

use millstream_service::{Leading, Server};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::fake::FakeCluster;

pub struct Servers {
    pub fake: Arc<FakeCluster>,
    /// URL of the one that leads.
    pub leader: String,
    /// URL of the other one.
    pub standby: String,
    leading: watch::Sender<Leading>,
    _servers: [Server; 2],
    _runtime: Runtime,
}

impl Servers {
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let fake = Arc::new(FakeCluster::default());
        let start = |receiver| runtime.block_on(Server::follow("127.0.0.1", 0, receiver)).unwrap();
        let url = |server: &Server| format!("http://{}", server.local_address());
        let (_always, receiver) = watch::channel(Leading::Here(fake.clone()));
        let first = start(receiver);
        let (leading, receiver) = watch::channel(Leading::At(url(&first)));
        let second = start(receiver);
        let (leader, standby) = (url(&first), url(&second));
        Self { fake, leader, standby, leading, _servers: [first, second], _runtime: runtime }
    }

    /// Says whom the other server knows to lead.
    pub fn follow(&self, leading: Leading) {
        self.leading.send_replace(leading);
    }
}

/// A URL at which nobody listens.
pub fn nobody() -> String {
    format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap())
}
