//! Datagrams that no node has sent, told in the log: whoever sends them has a wrong address, or looks for holes. QUIC drops
//! them without a word. Wrapped around the socket of every endpoint.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::time::Instant;

/// The version of QUIC that nodes speak (RFC 9000).
pub(crate) const QUIC_VERSION: u32 = 1;
/// Bytes of the smallest packet that is sent without a version: a stateless reset (RFC 9000, 10.3).
const SMALLEST_BYTES: usize = 21;
/// After a line of the log, the next datagrams are only counted for so long.
const SILENCE: Duration = Duration::from_secs(10);

/// Tells of noise now and then, so that who makes noise cannot fill the log.
#[derive(Default)]
pub(crate) struct Noise(Mutex<Heard>);

/// What came since the last line of the log.
#[derive(Default)]
struct Heard {
    told: Option<Instant>,
    datagrams: u64,
}

impl Noise {
    /// Something came that no node has sent; `what` says why it is none.
    pub(crate) fn heard(&self, from: SocketAddr, what: &str) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.datagrams += 1;
        let now = Instant::now();
        if heard.told.is_none_or(|told| now.duration_since(told) >= SILENCE) {
            tracing::warn!(%from, datagrams = heard.datagrams, "garbage was dropped: {what}");
            *heard = Heard { told: Some(now), datagrams: 0 };
        }
    }
}

/// A socket that tells of noise.
pub(crate) struct Watched {
    socket: Arc<dyn AsyncUdpSocket>,
    noise: Noise,
}

impl Watched {
    pub(crate) fn new(socket: Arc<dyn AsyncUdpSocket>) -> Arc<Self> {
        Arc::new(Self { socket, noise: Noise::default() })
    }
}

/// Whether a datagram can be no packet of a node. Garbage that looks like one is left to QUIC, which cannot decrypt it.
fn is_noise(datagram: &[u8]) -> bool {
    /// Set in every packet of version 1; endpoints agree not to play with it.
    const FIXED: u8 = 0x40;
    /// Set where a version follows, in packets of a handshake.
    const LONG: u8 = 0x80;
    match datagram {
        [first, ..] if first & FIXED == 0 => true,
        [first, a, b, c, d, ..] if first & LONG != 0 => {
            // 0: the answer to a packet of another version.
            ![0, QUIC_VERSION].contains(&u32::from_be_bytes([*a, *b, *c, *d]))
        }
        _ => datagram.len() < SMALLEST_BYTES,
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket.fmt(f)
    }
}

impl AsyncUdpSocket for Watched {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.socket).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.socket.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [io::IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let polled = self.socket.poll_recv(cx, buffers, meta);
        if let Poll::Ready(Ok(count)) = polled {
            for (buffer, meta) in buffers.iter().zip(&*meta).take(count) {
                // Datagrams that come together are of one sender: the first tells.
                if is_noise(&buffer[..meta.len.min(meta.stride)]) {
                    self.noise.heard(meta.addr, "it is no QUIC of version 1");
                }
            }
        }
        polled
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_node_sends_is_noise() {
        for noise in
            [&b""[..], b"GET / HTTP/1.1\r\n", &[0; 1_200], &[0xff; 1_200], b"\xc0\x6b\x33\x43\xcf...", &[0xc0, 0]]
        {
            assert!(is_noise(noise), "{noise:?}");
        }
    }

    #[test]
    fn what_nodes_send_is_none() {
        let handshake = [&[0xc3, 0, 0, 0, 1][..], &[9; 1_195]].concat();
        let negotiation = [0xca, 0, 0, 0, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 1];
        let reset = [0x5a; 21];
        for packet in [&handshake[..], &negotiation, &reset, &[0x41; 1_200]] {
            assert!(!is_noise(packet), "{packet:?}");
        }
    }
}
