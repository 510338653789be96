//! One link: its control stream, its heartbeats, and the streams that come over it. A reader and a writer task; whatever
//! ends one of them closes the connection, and with it the link.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use millstream_runtime::ids::NodeProcess;
use quinn::{Connection, ConnectionError, RecvStream, SendStream, VarInt, WriteError};

use crate::alert;
use crate::channel::outlet::Window;
use crate::links::{LinkEvent, Shared};
use crate::outbox::Outbox;
use crate::wire::Malformed;
use crate::wire::envelope::{Envelope, EnvelopeReader};

/// Why a connection is closed, as the peer gets it beside the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum CloseCode {
    /// The node stops.
    Stopping = 1,
    /// The greeting was refused.
    Refused = 2,
    /// There is another link.
    Replaced = 3,
    /// The peer does not keep to the protocol.
    Protocol = 4,
    /// The peer is too slow.
    Backlog = 5,
}

/// Closes a connection with a reason that the peer logs as well.
pub(crate) fn close(connection: &Connection, code: CloseCode, reason: &str) {
    connection.close(VarInt::from_u32(code as u32), reason.as_bytes());
}

/// Why a connection ended, in words.
pub(crate) fn reason(error: &ConnectionError) -> String {
    if let Some(refusal) = alert::refusal(error) {
        return refusal;
    }
    match error {
        ConnectionError::ApplicationClosed(close) => {
            format!("the peer closed it: {}", String::from_utf8_lossy(&close.reason))
        }
        ConnectionError::TimedOut => "the peer is silent".to_owned(),
        ConnectionError::Reset => "the peer was restarted".to_owned(),
        ConnectionError::ConnectionClosed(close) => format!("the peer's QUIC closed it: {close}"),
        ConnectionError::VersionMismatch
        | ConnectionError::TransportError(_)
        | ConnectionError::LocallyClosed
        | ConnectionError::CidsExhausted => error.to_string(),
    }
}

/// A live link.
pub(crate) struct Link {
    /// The process at the other end.
    pub(crate) peer: NodeProcess,
    /// Its number among the links of the two.
    pub(crate) number: u64,
    pub(crate) connection: Connection,
    pub(crate) outbox: Arc<Outbox>,
    /// Senders by the index of their stream: for credit.
    windows: Mutex<BTreeMap<u64, Arc<Window>>>,
    /// Events of the link are told until this is false.
    told: Mutex<bool>,
    /// Why this end closed it.
    closed_for: Mutex<Option<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    pub(crate) fn new(peer: NodeProcess, number: u64, connection: Connection, max_backlog_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            peer,
            number,
            connection,
            outbox: Arc::new(Outbox::new(max_backlog_bytes)),
            windows: Mutex::default(),
            told: Mutex::new(true),
            closed_for: Mutex::default(),
        })
    }

    /// Gives the link up.
    pub(crate) fn close(&self, code: CloseCode, why: &str) {
        lock(&self.closed_for).get_or_insert_with(|| why.to_owned());
        close(&self.connection, code, why);
    }

    pub(crate) fn add_window(&self, stream: u64, window: Arc<Window>) {
        lock(&self.windows).insert(stream, window);
    }

    pub(crate) fn remove_window(&self, stream: u64) {
        lock(&self.windows).remove(&stream);
    }

    /// Tells an event of this link, unless the link's end has been told.
    fn tell(&self, shared: &Shared, event: LinkEvent) {
        let told = lock(&self.told);
        if *told {
            (shared.events)(event);
        }
    }

    /// Tells the link's end, once, as its last event.
    pub(crate) fn tell_down(&self, shared: &Shared, reason: &str) {
        let mut told = lock(&self.told);
        if std::mem::replace(&mut *told, false) {
            tracing::warn!(peer = %self.peer, link = self.number, reason, "link down");
            (shared.events)(LinkEvent::Down { peer: self.peer.clone(), reason: reason.to_owned() });
        }
    }

    /// Starts the tasks of the link. `reader` may hold bytes behind the greeting; `first` is written before anything else.
    pub(crate) fn run(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        send: SendStream,
        receive: RecvStream,
        reader: EnvelopeReader,
        first: Vec<u8>,
    ) {
        let (link, host) = (Arc::clone(self), Arc::clone(shared));
        shared.runtime.spawn(async move { link.write(&host, send, first).await });
        let (link, host) = (Arc::clone(self), Arc::clone(shared));
        shared.runtime.spawn(async move {
            let error = link.read(&host, receive, reader).await;
            if let Some(Malformed(problem)) = error {
                link.close(CloseCode::Protocol, &problem);
            }
            let error = link.connection.closed().await;
            let why = lock(&link.closed_for).take().unwrap_or_else(|| reason(&error));
            host.lost(&link, &why);
        });
        let (link, host) = (Arc::clone(self), Arc::clone(shared));
        shared.runtime.spawn(async move {
            while let Ok(stream) = link.connection.accept_uni().await {
                let (link, receiving) = (Arc::clone(&link), Arc::clone(&host));
                host.runtime.spawn(async move { crate::channel::inlet::arrived(receiving, link, stream).await });
            }
        });
    }

    /// Writes heartbeats, credit and messages until the connection ends.
    async fn write(&self, shared: &Shared, mut send: SendStream, first: Vec<u8>) {
        let mut beat = tokio::time::interval(shared.options.heartbeat_interval());
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut bytes = first;
        loop {
            tokio::select! {
                biased;
                _ = beat.tick() => Envelope::Heartbeat.encode(&mut bytes),
                () = self.outbox.filled() => {}
            }
            self.outbox.take(&mut bytes);
            if bytes.is_empty() {
                continue;
            }
            match send.write_chunk(Bytes::from(std::mem::take(&mut bytes))).await {
                Ok(()) => {}
                Err(WriteError::ConnectionLost(_)) => return,
                Err(error) => {
                    return self.close(CloseCode::Protocol, &format!("the control stream is broken: {error}"));
                }
            }
        }
    }

    /// Reads envelopes until the connection ends, or what comes is malformed.
    async fn read(&self, shared: &Shared, mut receive: RecvStream, mut reader: EnvelopeReader) -> Option<Malformed> {
        loop {
            loop {
                match reader.next() {
                    Ok(Some(envelope)) => {
                        if let Err(problem) = self.handle(shared, envelope) {
                            return Some(problem);
                        }
                    }
                    Ok(None) => break,
                    Err(problem) => return Some(problem),
                }
            }
            match receive.read_chunk(usize::MAX, true).await {
                Ok(Some(chunk)) => reader.feed(&chunk.bytes),
                Ok(None) => return Some(Malformed("the control stream has ended".to_owned())),
                Err(quinn::ReadError::ConnectionLost(_)) => return None,
                Err(error) => return Some(Malformed(format!("the control stream is broken: {error}"))),
            }
        }
    }

    fn handle(&self, shared: &Shared, envelope: Envelope) -> Result<(), Malformed> {
        match envelope {
            Envelope::Heartbeat => self.tell(shared, LinkEvent::Heartbeat { peer: self.peer.clone() }),
            Envelope::Control(message) => self.tell(shared, LinkEvent::Control { peer: self.peer.clone(), message }),
            Envelope::Credit(totals) => {
                for (stream, total) in totals {
                    let window = lock(&self.windows).get(&stream).cloned();
                    // A sender that has ended needs no credit.
                    if let Some(window) = window {
                        window.processed(total).map_err(|error| Malformed(error.to_string()))?;
                    }
                }
            }
            Envelope::Decision(_) => return Err(Malformed("a decision about a link that is up".to_owned())),
        }
        Ok(())
    }
}
