//! How a task manager is started, and the gateway to it within one process: the message itself moves, nothing is encoded.

use millstream_runtime::exchange::SendElement;
use millstream_runtime::ids::{JobId, NodeProcess};
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::transport::{Registration, RemoteInlet, RemoteOutlet, Transport};
use ractor::{Actor, ActorRef};

use super::actor::{TaskManager, TaskManagerArguments};
use super::message::TaskManagerMessage;
use crate::protocol::{Answers, TaskManagerGateway, ToTaskManager};

/// Starts the task manager of a node.
///
/// # Errors
/// When its actor cannot be started.
pub async fn start(arguments: TaskManagerArguments) -> Result<LocalGateway, PortError> {
    let (actor, _joined) = Actor::spawn(None, TaskManager, arguments)
        .await
        .map_err(|error| PortError::give_up(format!("the task manager could not be started: {error}")))?;
    Ok(LocalGateway { actor })
}

/// No other node: every channel of a cluster of one stays within it.
pub struct NoTransport;

impl Transport for NoTransport {
    fn open(&self, to: &NodeProcess, outlet: RemoteOutlet) -> SendElement {
        (outlet.failed)(PortError::give_up(format!("there is no link to {to}: this process is a cluster of one")));
        Box::new(drop)
    }

    fn accept(&self, from: &NodeProcess, inlet: RemoteInlet) -> Registration {
        (inlet.failed)(PortError::give_up(format!("there is no link to {from}: this process is a cluster of one")));
        Registration::new(|| {})
    }
}

/// The way to a task manager in this process.
#[derive(Clone)]
pub struct LocalGateway {
    actor: ActorRef<TaskManagerMessage>,
}

impl LocalGateway {
    /// Stops the task manager and with it all of its subtasks, as the end of its process would.
    pub fn kill(&self) {
        self.actor.kill();
    }
}

impl TaskManagerGateway for LocalGateway {
    fn send(&self, job: JobId, message: ToTaskManager, answers: &Answers) {
        drop(self.actor.cast(TaskManagerMessage::FromMaster { job, message, answers: answers.clone() }));
    }
}
