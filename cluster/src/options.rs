//! What can be set about links. The defaults are safe on a network one trusts to lose packets, not to keep secrets.

use std::time::Duration;

use crate::backoff::BackoffOptions;

/// Options of all links of a node. Both ends of a link should have the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Milliseconds between two heartbeats on a link (`heartbeat.interval`). Smaller detects failures sooner and costs
    /// a packet each.
    pub heartbeat_interval_ms: u64,
    /// Milliseconds of silence after which a link counts as broken (`heartbeat.timeout`). At least three intervals.
    pub timeout_ms: u64,
    /// Milliseconds that a peer gets to say who it is, from its first packet.
    pub handshake_timeout_ms: u64,
    /// Milliseconds that one end of a data channel waits for the other: for the link, and for the receiver to
    /// register. Covers that tasks are deployed on several nodes at slightly different times.
    pub channel_timeout_ms: u64,
    /// When a lost link is dialled again.
    pub reconnect: BackoffOptions,
    /// Bytes of the largest frame on a data channel: an encoded batch. A larger one fails the channel at the sender,
    /// and is refused unread at the receiver.
    pub max_frame_bytes: u32,
    /// Bytes of the largest control message; a larger one is an error of the caller, and breaks the link when received.
    pub max_control_bytes: u32,
    /// Bytes of control messages that wait to be written. Beyond it the peer is too slow, and the link is given up.
    pub max_control_backlog_bytes: usize,
    /// Bytes of one stream that may be under way. Backpressure is credit: this is to be larger than what credit allows
    /// in a moment, or fast links are slowed down.
    pub stream_window_bytes: u32,
    /// Data channels that a peer may have open at the same time.
    pub max_channels: u32,
    /// Batches that a channel may exceed its credit by: the output of one record that was in work when credit ran out.
    /// Beyond it the sender is broken, and the channel fails.
    pub max_overdraft_batches: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            heartbeat_interval_ms: 100,
            timeout_ms: 1_000,
            handshake_timeout_ms: 5_000,
            channel_timeout_ms: 10_000,
            reconnect: BackoffOptions::default(),
            max_frame_bytes: 64 << 20,
            max_control_bytes: 16 << 20,
            max_control_backlog_bytes: 64 << 20,
            stream_window_bytes: 16 << 20,
            max_channels: 16_384,
            max_overdraft_batches: 1_024,
        }
    }
}

impl Options {
    pub(crate) fn heartbeat_interval(&self) -> Duration {
        Duration::from_millis(self.heartbeat_interval_ms)
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    pub(crate) fn handshake_timeout(&self) -> Duration {
        Duration::from_millis(self.handshake_timeout_ms)
    }

    pub(crate) fn channel_timeout(&self) -> Duration {
        Duration::from_millis(self.channel_timeout_ms)
    }
}
