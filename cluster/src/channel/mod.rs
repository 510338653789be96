//! Data channels: [`outlet`] sends, [`inlet`] receives. One unidirectional stream each, for one attempt, never repaired.

pub(crate) mod inlet;
pub(crate) mod outlet;

use std::sync::{Mutex, PoisonError};

use millstream_runtime::exchange::SendElement;
use millstream_runtime::ids::NodeProcess;
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::transport::{ChannelFailed, Registration, RemoteInlet, RemoteOutlet, Transport};
use tokio::sync::Notify;

use crate::links::Links;

/// Why a stream was given up, as its other end gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
enum StreamCode {
    /// The subtask at that end is done or gone.
    Closed = 1,
    /// No receiver has asked for the channel.
    Unclaimed = 2,
    /// The receiver does not take this stream: old attempt, other process, second stream.
    Refused = 3,
    /// What came is not what the protocol allows.
    Protocol = 4,
    /// The channel failed at that end.
    Failed = 5,
}

impl StreamCode {
    fn of(code: quinn::VarInt) -> Option<Self> {
        let codes = [Self::Closed, Self::Unclaimed, Self::Refused, Self::Protocol, Self::Failed];
        codes.into_iter().find(|known| u64::from(*known as u32) == code.into_inner())
    }

    fn value(self) -> quinn::VarInt {
        quinn::VarInt::from_u32(self as u32)
    }

    /// What the other end has done.
    fn text(code: quinn::VarInt) -> String {
        match Self::of(code) {
            Some(Self::Closed) => "the subtask there is gone".to_owned(),
            Some(Self::Unclaimed) => "no receiver asked for it in time".to_owned(),
            Some(Self::Refused) => "it was refused as stale or doubled".to_owned(),
            Some(Self::Protocol) => "its frames were malformed".to_owned(),
            Some(Self::Failed) => "it failed at the other end".to_owned(),
            None => format!("it was given up with the unknown code {code}"),
        }
    }
}

/// One end of a channel as its subtask sees it: fails at most once, and not after it was closed.
struct End {
    failed: Mutex<Option<ChannelFailed>>,
    closed: Notify,
}

impl End {
    fn new(failed: ChannelFailed) -> Self {
        Self { failed: Mutex::new(Some(failed)), closed: Notify::new() }
    }

    fn take(&self) -> Option<ChannelFailed> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn is_open(&self) -> bool {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// The channel has failed.
    fn fail(&self, error: PortError) {
        if let Some(failed) = self.take() {
            tracing::warn!(reason = %error, "a data channel failed");
            failed(error);
            self.closed.notify_waiters();
        }
    }

    /// The subtask is gone.
    fn close(&self) {
        drop(self.take());
        self.closed.notify_waiters();
    }

    /// Returns when the end was closed or has failed.
    async fn closed(&self) {
        loop {
            // Made first, it is woken by whatever happens behind the look.
            let closed = self.closed.notified();
            if !self.is_open() {
                return;
            }
            closed.await;
        }
    }
}

impl Transport for Links {
    fn open(&self, to: &NodeProcess, outlet: RemoteOutlet) -> SendElement {
        outlet::open(&self.shared, to.clone(), outlet)
    }

    fn accept(&self, from: &NodeProcess, inlet: RemoteInlet) -> Registration {
        inlet::accept(&self.shared, from.clone(), inlet)
    }
}
