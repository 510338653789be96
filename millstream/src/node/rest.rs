//! The REST server of a job manager: answers when it leads, and sends clients to the leader when it does not.

use std::sync::Arc;

use millstream_actors::dispatcher::DispatcherHandle;
use millstream_actors::leadership::Role;
use millstream_actors::world::{Stopwatch, World};
use millstream_config::{Configuration, keys};
use millstream_runtime::ports::PortError;
use millstream_service::{Leading, Server};
use tokio::sync::watch;

use super::programs::Compiled;
use super::submission::Submitter;
use crate::error::Result;
use crate::executable;
use crate::run::screen::Screen;
use crate::serve::figures::Figures;
use crate::serve::jobs::Jobs;
use crate::serve::programs::{Entrance, Programs};
use crate::serve::{Leader, Settings};

/// Addresses that only this host reaches.
const LOOPBACK: [&str; 3] = ["127.0.0.1", "localhost", "::1"];

/// What the server is made of.
pub(super) struct Site {
    pub configuration: Configuration,
    pub world: World,
    pub stopwatch: Stopwatch,
    pub programs: Arc<Compiled>,
}

/// Starts the server.
pub(super) async fn start(site: Site, mut role: watch::Receiver<Role>, screen: &Screen) -> Result<Server> {
    let configuration = &site.configuration;
    let (address, port) = (configuration.get(&keys::REST_ADDRESS), configuration.get(&keys::REST_PORT));
    if !LOOPBACK.contains(&address.as_str()) {
        screen.message(&format!(
            "warning: REST listens on {address}: whoever reaches it can run and cancel jobs; put a proxy with authentication before it"
        ));
    }
    let figures = Arc::new(Figures::new(Arc::clone(&site.world.registry), site.stopwatch));
    let (tell, leading) = watch::channel(Leading::Unknown);
    let server = Server::follow(&address, port, leading).await;
    let server = server.map_err(|error| PortError::fix_input(error.to_string()))?;
    drop(tokio::spawn(async move {
        while role.changed().await.is_ok() {
            let now = match &*role.borrow_and_update() {
                Role::Unknown => Leading::Unknown,
                Role::Follows(leader) => Leading::At(leader.rest.clone()),
                Role::Leads(dispatcher) => Leading::Here(Arc::new(site.leader(dispatcher, &figures))),
            };
            tell.send_replace(now);
        }
    }));
    Ok(server)
}

impl Site {
    fn leader(&self, dispatcher: &DispatcherHandle, figures: &Arc<Figures>) -> Leader {
        let submitter = Submitter {
            programs: Arc::clone(&self.programs),
            dispatcher: dispatcher.clone(),
            blocking: Arc::clone(&self.world.blocking),
        };
        let artefact = executable::hex(&self.programs.digest());
        let entrance = Entrance { artefact, submitter: Arc::new(submitter) };
        let programs = Programs::new(self.programs.jobs(), figures.now().wall_ms, Some(entrance));
        let settings = Settings {
            configuration: self.configuration.clone(),
            checkpoint_storage: self.configuration.get(&keys::CHECKPOINT_DIR).unwrap_or_default(),
        };
        Leader::new(Jobs::Dispatched(dispatcher.clone()), programs, Arc::clone(figures), settings)
    }
}

/// How clients reach the server.
pub(super) fn url(configuration: &Configuration, server: &Server) -> String {
    let address = configuration.get(&keys::REST_ADDRESS);
    let host = match address.as_str() {
        // Bound to all addresses: others reach it where they reach the node.
        "0.0.0.0" | "::" => {
            let node = configuration.get(&keys::NODE_ADDRESS);
            node.rsplit_once(':').map_or_else(|| node.clone(), |(host, _)| host.to_string())
        }
        _ => address,
    };
    let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host };
    format!("http://{host}:{}", server.local_address().port())
}
