//! What nodes say to each other over the control stream of their link.

use std::net::SocketAddr;

use bytes::Bytes;
use millstream_runtime::ids::JobId;
use millstream_runtime::ports::PortError;
use serde::{Deserialize, Serialize};

use crate::metrics::ProcessReading;
use crate::protocol::{FromTaskManager, ToTaskManager};

/// A control message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Control {
    /// A task manager runs on this node, with so many slots. Told whenever a link is up.
    Offer {
        /// Its slots.
        slots: u32,
    },
    /// From a task manager, every now and then: what its process takes.
    Process(Box<ProcessReading>),
    /// From a job manager: nodes that this one is to keep links with.
    Meet(Vec<SocketAddr>),
    /// From the master of a job.
    ToTaskManager(JobId, ToTaskManager),
    /// To the master of a job.
    FromTaskManager(JobId, FromTaskManager),
}

impl Control {
    /// The wire form.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn encode(&self) -> Result<Bytes, PortError> {
        let bytes = rmp_serde::to_vec(self);
        bytes
            .map(Bytes::from)
            .map_err(|error| PortError::give_up(format!("a control message cannot be written: {error}")))
    }

    /// Reads the wire form.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, PortError> {
        rmp_serde::from_slice(bytes)
            .map_err(|error| PortError::give_up(format!("a control message cannot be read: {error}")))
    }
}
