//! How a node is started, and what its owner holds.

use std::sync::Arc;

use millstream_cluster::{LinkEvent, LinkEvents};
use millstream_runtime::ports::PortError;
use ractor::{Actor, ActorRef};
use tokio::sync::mpsc;

use crate::dispatcher::DispatcherHandle;

use super::actor::{Node, NodeArguments, NodeMessage};

/// The receiving end of the events of a node's links.
pub struct EventReceiver(mpsc::UnboundedReceiver<LinkEvent>);

/// Carries the events of links to a node that is started after them. What waits is bounded by the links: a peer that
/// sends more control messages than its backlog allows loses its link.
#[must_use]
pub fn events() -> (LinkEvents, EventReceiver) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Arc::new(move |event| drop(sender.send(event))), EventReceiver(receiver))
}

/// Starts a node over its links.
///
/// # Errors
/// When its actor cannot be started.
pub async fn start(arguments: NodeArguments, mut events: EventReceiver) -> Result<NodeHandle, PortError> {
    let (actor, _joined) = Actor::spawn(None, Node, arguments)
        .await
        .map_err(|error| PortError::give_up(format!("the node could not be started: {error}")))?;
    let node = actor.clone();
    drop(tokio::spawn(async move {
        while let Some(event) = events.0.recv().await {
            if node.cast(NodeMessage::Link(event)).is_err() {
                return;
            }
        }
    }));
    Ok(NodeHandle { actor })
}

/// A running node.
#[derive(Clone)]
pub struct NodeHandle {
    actor: ActorRef<NodeMessage>,
}

impl NodeHandle {
    /// This job manager leads from now on, or no longer.
    pub fn lead(&self, dispatcher: Option<DispatcherHandle>) {
        drop(self.actor.cast(NodeMessage::Lead(dispatcher)));
    }

    /// Ends it at once, without a word to anybody.
    pub fn kill(&self) {
        self.actor.kill();
    }
}
