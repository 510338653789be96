//! From a connection to a link: greeting, answer, decision. Each side says why it refuses, and logs why it was refused.

use std::net::SocketAddr;
use std::sync::Arc;

use quinn::{Connection, ConnectionError, Incoming, RecvStream, SendStream};
use tokio::time::timeout;

use crate::alert;
use crate::certificates::NODE_NAME;
use crate::link::{CloseCode, close, reason};
use crate::links::{Established, Shared};
use crate::pairing::Verdict;
use crate::wire::Malformed;
use crate::wire::envelope::{Envelope, EnvelopeReader};
use crate::wire::hello::{Answer, Hello, PREFIX_BYTES, content_bytes, decode, encode_answer, encode_hello};
use millstream_runtime::ids::NodeId;

/// Why a connection did not become a link.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoLink {
    /// There is one already, or soon: nothing is wrong.
    #[error("there is another link to {0}")]
    Second(NodeId),
    /// One of the two does not want the other.
    #[error("{0}")]
    Refused(String),
    /// It could not be reached, or broke off.
    #[error("{0}")]
    Unreachable(String),
}

impl From<Malformed> for NoLink {
    fn from(Malformed(problem): Malformed) -> Self {
        Self::Refused(problem)
    }
}

fn broken(error: impl std::fmt::Display) -> NoLink {
    NoLink::Unreachable(error.to_string())
}

fn unreachable(connection: &Connection, error: impl std::fmt::Display) -> NoLink {
    connection.close_reason().as_ref().map_or_else(|| broken(error), ended)
}

/// A node that is not trusted is refused, also if it was QUIC that said so.
fn ended(error: &ConnectionError) -> NoLink {
    alert::refusal(error).map_or_else(|| NoLink::Unreachable(reason(error)), NoLink::Refused)
}

/// Dials an address. `known` is who answered there last.
pub(crate) async fn dial(shared: &Arc<Shared>, address: SocketAddr, known: Option<&NodeId>) -> Result<NodeId, NoLink> {
    let connecting = shared.endpoint.quinn.connect_with(shared.endpoint.client.clone(), address, NODE_NAME);
    let connection = connecting.map_err(broken)?.await.map_err(|error| ended(&error))?;
    let greeted = timeout(shared.options.handshake_timeout(), greet(shared, &connection, known)).await;
    let greeted =
        greeted.unwrap_or_else(|_| Err(NoLink::Unreachable("the peer does not answer the greeting".to_owned())));
    finish(&connection, greeted)
}

async fn greet(shared: &Arc<Shared>, connection: &Connection, known: Option<&NodeId>) -> Result<NodeId, NoLink> {
    let gone = |error: &dyn std::fmt::Display| unreachable(connection, error);
    let (mut send, mut receive) = connection.open_bi().await.map_err(|error| gone(&error))?;
    let hello = shared.hello(known);
    send.write_all(&encode_hello(&hello)).await.map_err(|error| gone(&error))?;
    let content = read_greeting(connection, &mut receive).await?;
    let theirs = match decode::<Answer>(&content)? {
        Answer::Refused(why) => return Err(NoLink::Refused(format!("the peer refuses: {why}"))),
        Answer::Hello(theirs) => theirs,
    };
    if let Some(why) = hello.refusal(&theirs) {
        return Err(NoLink::Refused(why));
    }
    let node = theirs.process.node.clone();
    settle(shared, connection, send, receive, &theirs, Vec::new()).await.map(|()| node)
}

/// Looks at a connection that a peer has dialled.
pub(crate) async fn accept(shared: &Arc<Shared>, incoming: Incoming) {
    let from = incoming.remote_address();
    let connecting = match incoming.accept() {
        Ok(connecting) => connecting,
        // Whoever sends such packets may send many.
        Err(ConnectionError::TransportError(error)) => {
            return shared
                .garbage
                .heard(from, &format!("the first packet of a connection cannot be read: {}", error.reason));
        }
        Err(error) => return tracing::warn!(%from, reason = reason(&error), "a connection was refused"),
    };
    let connection = match timeout(shared.options.handshake_timeout(), connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return tracing::warn!(%from, reason = reason(&error), "a connection was refused"),
        Err(_) => return tracing::warn!(%from, "a connection was refused: the TLS handshake takes too long"),
    };
    let answered = timeout(shared.options.handshake_timeout(), answer(shared, &connection)).await;
    let answered = answered.unwrap_or_else(|_| Err(NoLink::Refused("no greeting came".to_owned())));
    match finish(&connection, answered) {
        Ok(()) => {}
        Err(error @ NoLink::Second(_)) => tracing::debug!(%from, reason = %error, "a second connection was closed"),
        Err(error) => tracing::warn!(%from, reason = %error, "a connection was refused"),
    }
}

async fn answer(shared: &Arc<Shared>, connection: &Connection) -> Result<(), NoLink> {
    let gone = |error: &dyn std::fmt::Display| unreachable(connection, error);
    let (mut send, mut receive) = connection.accept_bi().await.map_err(|error| gone(&error))?;
    let theirs = match read_greeting(connection, &mut receive).await.and_then(|content| Ok(decode::<Hello>(&content)?))
    {
        Ok(theirs) => theirs,
        Err(error) => return Err(refuse(&mut send, error).await),
    };
    let own = shared.hello(Some(&theirs.process.node));
    if let Some(why) = own.refusal(&theirs) {
        return Err(refuse(&mut send, NoLink::Refused(why)).await);
    }
    let answer = encode_answer(&Answer::Hello(own));
    settle(shared, connection, send, receive, &theirs, answer).await
}

/// Answers why not, so that the dialler can log it.
async fn refuse(send: &mut SendStream, error: NoLink) -> NoLink {
    // If it cannot be written the reason still goes with the close.
    if send.write_all(&encode_answer(&Answer::Refused(error.to_string()))).await.is_ok() && send.finish().is_ok() {
        drop(send.stopped().await);
    }
    error
}

/// Closes what did not become a link.
fn finish<T>(connection: &Connection, result: Result<T, NoLink>) -> Result<T, NoLink> {
    if let Err(error) = &result {
        let code = if matches!(error, NoLink::Second(_)) { CloseCode::Replaced } else { CloseCode::Refused };
        close(connection, code, &error.to_string());
    }
    result
}

async fn read_greeting(connection: &Connection, receive: &mut RecvStream) -> Result<Vec<u8>, NoLink> {
    let gone = |error: quinn::ReadExactError| unreachable(connection, error);
    let mut prefix = [0; PREFIX_BYTES];
    receive.read_exact(&mut prefix).await.map_err(gone)?;
    let mut content = vec![0; content_bytes(prefix)?];
    receive.read_exact(&mut content).await.map_err(gone)?;
    Ok(content)
}

/// The node with the lower id decides, the other follows. `first` is written before anything else.
async fn settle(
    shared: &Arc<Shared>,
    connection: &Connection,
    mut send: SendStream,
    mut receive: RecvStream,
    theirs: &Hello,
    mut first: Vec<u8>,
) -> Result<(), NoLink> {
    let gone = |error: &dyn std::fmt::Display| unreachable(connection, error);
    let peer = &theirs.process;
    let mut reader = EnvelopeReader::new(shared.options.max_control_bytes);
    let decides = shared.own.process.node < peer.node;
    if !decides {
        if !first.is_empty() {
            send.write_all(&first).await.map_err(|error| gone(&error))?;
        }
        let number = read_decision(&mut receive, &mut reader, connection).await?;
        let established = match number {
            0 => Established::Not(Verdict::Second),
            number => shared.establish(peer, connection, |pairing, _| pairing.follow(peer, number)),
        };
        return start(shared, established, peer, send, receive, reader);
    }
    let established =
        shared.establish(peer, connection, |pairing, own| pairing.decide(own, peer, theirs.known.as_ref()));
    // Nothing is awaited between a link and its tasks: a time-out there would leave one that nobody looks after.
    if let Established::Link(link) = &established {
        Envelope::Decision(link.number).encode(&mut first);
        link.run(shared, send, receive, reader, first);
        return Ok(());
    }
    Envelope::Decision(0).encode(&mut first);
    if send.write_all(&first).await.is_ok() {
        // The peer closes: it has to read the decision first.
        drop(timeout(shared.options.handshake_timeout(), connection.closed()).await);
    }
    start(shared, established, peer, send, receive, reader)
}

fn start(
    shared: &Arc<Shared>,
    established: Established,
    peer: &millstream_runtime::ids::NodeProcess,
    send: SendStream,
    receive: RecvStream,
    reader: EnvelopeReader,
) -> Result<(), NoLink> {
    match established {
        Established::Link(link) => {
            link.run(shared, send, receive, reader, Vec::new());
            Ok(())
        }
        Established::Not(Verdict::OldProcess) => {
            Err(NoLink::Refused(format!("{peer} is an old process of its node: a newer one has been linked")))
        }
        Established::Not(Verdict::Second | Verdict::Link(_)) => Err(NoLink::Second(peer.node.clone())),
    }
}

async fn read_decision(
    receive: &mut RecvStream,
    reader: &mut EnvelopeReader,
    connection: &Connection,
) -> Result<u64, NoLink> {
    loop {
        match reader.next()? {
            Some(Envelope::Decision(number)) => return Ok(number),
            Some(Envelope::Heartbeat | Envelope::Control(_) | Envelope::Credit(_)) => {
                return Err(NoLink::Refused("the peer did not decide about the link".to_owned()));
            }
            None => {}
        }
        let chunk = receive.read_chunk(usize::MAX, true).await.map_err(|error| unreachable(connection, error))?;
        let chunk = chunk.ok_or_else(|| unreachable(connection, "the peer has closed the control stream"))?;
        reader.feed(&chunk.bytes);
    }
}
