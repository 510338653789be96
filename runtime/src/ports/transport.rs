//! Channels to and from subtasks on other nodes. Implemented in `cluster` over QUIC; used by the task manager, which
//! wires a channel within its own node without it.
//!
//! A channel lives for one attempt and is never repaired: whatever breaks it fails the subtasks at both ends.
//!
//! | what happens | the sender | the receiver |
//! |---|---|---|
//! | the stream or the link breaks, a frame is missing or doubled | `failed` | `failed` |
//! | the sender is dropped behind `EndOfInput` | - | nothing more comes |
//! | the sender is dropped before `EndOfInput` | - | `failed` |
//! | the receiver's [`Registration`] is dropped before `EndOfInput` was sent | `failed` | - |
//! | the receiver's [`Registration`] is dropped behind `EndOfInput` | nothing | - |
//! | no receiver registers in time, or only one of a later attempt | `failed` | - |

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::PortError;
use crate::batch::{Batch, BatchError, Data, Rows};
use crate::credit::CreditLimit;
use crate::exchange::SendElement;
use crate::ids::{AttemptId, ChannelIndex, JobId, NodeProcess, SubtaskId};

/// Names a channel. Everything about it that can be late carries this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChannelId {
    /// The job.
    pub job: JobId,
    /// The deployment that both subtasks belong to.
    pub attempt: AttemptId,
    /// The sending subtask.
    pub sender: SubtaskId,
    /// The receiving subtask.
    pub receiver: SubtaskId,
    /// The channel as the receiver counts.
    pub channel: ChannelIndex,
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { job, attempt, sender, receiver, channel } = self;
        write!(f, "channel {channel} from {sender} to {receiver} (job {job}, attempt {attempt})")
    }
}

/// Turns the wire form of a batch back into one: `Rows::<T>::decode` of the edge's type. Called off the handlers.
pub type DecodeBatch = Arc<dyn Fn(&[u8]) -> Result<Box<dyn Batch>, BatchError> + Send + Sync>;

/// Reads batches of records of type `T`.
#[must_use]
pub fn decoder<T: Data>() -> DecodeBatch {
    Arc::new(|bytes| Ok(Box::new(Rows::<T>::decode(bytes)?)))
}

/// Called once, from any thread, when a channel has failed; not when this end was dropped before.
pub type ChannelFailed = Box<dyn FnOnce(PortError) + Send>;

/// The sending end of a channel, as the task manager describes it.
pub struct RemoteOutlet {
    /// Which channel.
    pub channel: ChannelId,
    /// The limit of the pool that the permits are taken from. The queue to the link is held to it.
    pub credit: CreditLimit,
    /// Told when the channel fails.
    pub failed: ChannelFailed,
}

/// The receiving end of a channel, as the task manager describes it.
pub struct RemoteInlet {
    /// Which channel.
    pub channel: ChannelId,
    /// The sender's limit: more than that, unprocessed, is a broken sender.
    pub credit: CreditLimit,
    /// How its batches are read.
    pub decode: DecodeBatch,
    /// Puts an element into the subtask's mailbox. A batch's permit is returned when it was *processed*.
    pub receive: SendElement,
    /// Told when the channel fails.
    pub failed: ChannelFailed,
}

/// Links to other nodes. No method waits.
pub trait Transport: Send + Sync {
    /// Opens a channel to a subtask of another process. What is sent before the stream is up waits, bounded by credit;
    /// the task manager puts the answer into an [`Outlet`](crate::exchange::Outlet). Dropping it ends the channel.
    fn open(&self, to: &NodeProcess, outlet: RemoteOutlet) -> SendElement;

    /// Waits for a channel from a subtask of another process; it may have been opened already.
    fn accept(&self, from: &NodeProcess, inlet: RemoteInlet) -> Registration;
}

/// A receiver's claim on a channel. Dropping it ends the channel: nothing is received and no failure told any more.
#[must_use]
pub struct Registration(Option<Box<dyn FnOnce() + Send>>);

impl Registration {
    /// Calls `end` when it is dropped.
    pub fn new(end: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(end)))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(end) = self.0.take() {
            end();
        }
    }
}
