//! The UDP socket of a simulated host, as QUIC wants it.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use turmoil::net::UdpSocket;

use crate::trace::Trace;

type Readable = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

/// A socket whose packets are traced.
pub struct SimulatedSocket {
    socket: Arc<UdpSocket>,
    readable: Mutex<Option<Readable>>,
    host: String,
    trace: Trace,
}

impl SimulatedSocket {
    /// Binds a port on the host that runs just now.
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn bind(port: u16, host: &str, trace: Trace) -> io::Result<Arc<Self>> {
        let socket = Arc::new(UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, port)).await?);
        Ok(Arc::new(Self { socket, readable: Mutex::default(), host: host.to_owned(), trace }))
    }
}

impl std::fmt::Debug for SimulatedSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SimulatedSocket of {}", self.host)
    }
}

/// A simulated network always takes a packet.
#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncUdpSocket for SimulatedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let to = transmit.destination;
        self.trace.packet(&self.host, &to.ip().to_string(), transmit.contents.len());
        // A host that is gone loses packets, as UDP does.
        drop(self.socket.try_send_to(transmit.contents, to));
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [io::IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut readable = self.readable.lock().unwrap_or_else(PoisonError::into_inner);
            if readable.is_none() {
                match self.socket.try_recv_from(&mut buffers[0]) {
                    Ok((bytes, from)) => {
                        meta[0] = RecvMeta { addr: from, len: bytes, stride: bytes, ..RecvMeta::default() };
                        return Poll::Ready(Ok(1));
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            let socket = Arc::clone(&self.socket);
            let wait = readable.get_or_insert_with(|| Box::pin(async move { socket.readable().await }));
            ready!(wait.as_mut().poll(cx))?;
            *readable = None;
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}
