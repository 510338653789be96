//! The way from a job master to a task manager on another node and back: messages in their wire form on the control
//! stream of the link.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use millstream_cluster::{Error, Links};
use millstream_runtime::ids::{JobId, NodeProcess};
use millstream_runtime::ports::ErrorKind;

use super::control::Control;
use crate::protocol::{Answers, FromTaskManager, Refusal, TaskManagerGateway, ToTaskManager};

/// Where what task managers tell goes: by process and job, since whatever an old process said counts for nothing.
#[derive(Clone, Default)]
pub struct Routes(Arc<Mutex<BTreeMap<(NodeProcess, JobId), Answers>>>);

impl Routes {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(NodeProcess, JobId), Answers>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands on what a task manager has told.
    pub fn tell(&self, from: &NodeProcess, job: JobId, told: FromTaskManager) {
        let key = (from.clone(), job);
        let last = matches!(told, FromTaskManager::Released(_));
        let answers = if last { self.lock().remove(&key) } else { self.lock().get(&key).cloned() };
        if let Some(answers) = answers {
            answers.tell(told);
        }
    }

    /// Nothing of a process will be heard again.
    pub fn forget(&self, process: &NodeProcess) {
        self.lock().retain(|(of, _), _| of != process);
    }
}

/// The way to the task manager of another process.
pub struct RemoteGateway {
    /// The links of this node.
    pub links: Links,
    /// The process at the other end.
    pub process: NodeProcess,
    /// Where its answers go.
    pub routes: Routes,
}

impl TaskManagerGateway for RemoteGateway {
    fn send(&self, job: JobId, message: ToTaskManager, answers: &Answers) {
        self.routes.lock().insert((self.process.clone(), job), answers.clone());
        let deployed = match &message {
            ToTaskManager::Deploy(deploy) => Some(deploy.attempt),
            ToTaskManager::Order(..)
            | ToTaskManager::Stop(_)
            | ToTaskManager::StopAll(_)
            | ToTaskManager::Release(_) => None,
        };
        let refused = match Control::ToTaskManager(job, message).encode() {
            Ok(bytes) => match self.links.send(&self.process.node, bytes) {
                Err(error @ Error::TooLong { .. }) => error.to_string(),
                // Without a link the message is lost, and the node will be.
                Ok(()) | Err(_) => return,
            },
            Err(error) => error.message,
        };
        tracing::error!(%job, "not sent to {}: {refused}", self.process);
        if let Some(attempt) = deployed {
            let reason = Refusal { kind: ErrorKind::GiveUp, message: refused };
            answers.tell(FromTaskManager::NotDeployed { attempt, reason });
        }
    }
}
