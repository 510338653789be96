//! How a task manager is started, and the gateway to it within one process: the message itself moves, nothing is encoded.

use millstream_runtime::ids::JobId;
use millstream_runtime::ports::PortError;
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
