//! What callers hold of the dispatcher: cheap to clone, every call a message.

use millstream_runtime::ids::{JobId, NodeProcess};
use millstream_runtime::job::Requirements;
use millstream_runtime::ports::PortError;
use ractor::{Actor, ActorRef, RpcReplyPort};

use super::actor::{Dispatcher, DispatcherArguments};
use super::message::{DispatcherMessage, NodeReport, RememberedJob, Submission, Wanted};
use crate::job_master::JobHandle;
use crate::job_master::deployment::OfferedNode;
use crate::metrics::ProcessReading;

/// Starts the dispatcher of a leader, without nodes at first.
///
/// # Errors
/// When its actor cannot be started.
pub async fn start(arguments: DispatcherArguments) -> Result<DispatcherHandle, PortError> {
    let (actor, _joined) = Actor::spawn(None, Dispatcher, arguments)
        .await
        .map_err(|error| PortError::give_up(format!("the dispatcher could not be started: {error}")))?;
    Ok(DispatcherHandle { actor })
}

/// The dispatcher of a cluster.
#[derive(Clone)]
pub struct DispatcherHandle {
    actor: ActorRef<DispatcherMessage>,
}

impl DispatcherHandle {
    /// A task manager is there.
    pub fn node_joined(&self, node: OfferedNode) {
        drop(self.actor.cast(DispatcherMessage::NodeJoined(node)));
    }

    /// A process is lost.
    pub fn node_lost(&self, process: NodeProcess, reason: String) {
        drop(self.actor.cast(DispatcherMessage::NodeLost(process, reason)));
    }

    /// What the process of a task manager takes now.
    pub fn node_measured(&self, process: NodeProcess, reading: ProcessReading) {
        drop(self.actor.cast(DispatcherMessage::NodeMeasured(process, Box::new(reading))));
    }

    /// Runs a job: it starts as soon as there are slots for it, and outlives this leader once this has answered.
    ///
    /// # Errors
    /// When it cannot be launched.
    pub async fn submit(&self, submission: Submission) -> Result<JobHandle, PortError> {
        self.call(|reply| DispatcherMessage::Submit(Box::new(submission), reply)).await?
    }

    /// All jobs, the newest last; ended ones too.
    ///
    /// # Errors
    /// When the dispatcher is gone.
    pub async fn jobs(&self) -> Result<Vec<JobHandle>, PortError> {
        self.call(DispatcherMessage::Jobs).await
    }

    /// Jobs that had ended before this leader came, and those that do not go on here yet, as the log of the cluster
    /// remembers them.
    ///
    /// # Errors
    /// When the dispatcher is gone.
    pub async fn remembered(&self) -> Result<Vec<RememberedJob>, PortError> {
        self.call(DispatcherMessage::Remembered).await
    }

    /// Says how many subtasks the vertices of a job may have from now on, from its newest checkpoint; answers when that is
    /// recorded.
    ///
    /// # Errors
    /// When there is no such job, or it cannot run so.
    pub async fn require(&self, job: JobId, wanted: Wanted) -> Result<(), PortError> {
        self.call(|reply| DispatcherMessage::Require(job, wanted, reply)).await?
    }

    /// How many subtasks the vertices of a job may have; nothing of one that does not run here.
    ///
    /// # Errors
    /// When the dispatcher is gone.
    pub async fn requirements(&self, job: JobId) -> Result<Option<Requirements>, PortError> {
        self.call(|reply| DispatcherMessage::Requirements(job, reply)).await
    }

    /// Cancels a job of an earlier leader that does not run here yet, whatever is in its way; answers whether it is one, when
    /// that is recorded.
    ///
    /// # Errors
    /// When another job manager leads now.
    pub async fn cancel_taking(&self, job: JobId) -> Result<bool, PortError> {
        self.call(|reply| DispatcherMessage::CancelTaking(job, reply)).await?
    }

    /// A newer leader is there: all jobs stop here, and nothing of that is recorded.
    pub fn step_down(&self) {
        drop(self.actor.cast(DispatcherMessage::StepDown));
    }

    /// All task managers.
    ///
    /// # Errors
    /// When the dispatcher is gone.
    pub async fn nodes(&self) -> Result<Vec<NodeReport>, PortError> {
        self.call(DispatcherMessage::Nodes).await
    }

    async fn call<A: Send + 'static>(
        &self,
        message: impl FnOnce(RpcReplyPort<A>) -> DispatcherMessage,
    ) -> Result<A, PortError> {
        match self.actor.call(message, None).await {
            Ok(ractor::rpc::CallResult::Success(answer)) => Ok(answer),
            _ => Err(PortError::retry("the dispatcher is gone: its node is shutting down")),
        }
    }
}
