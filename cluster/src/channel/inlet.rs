//! The receiving end of a channel: a task reads the stream as fast as it comes, decodes, and delivers. What may wait at
//! the receiver is bounded by credit alone, so a slow subtask never holds up the link.

use std::sync::Arc;

use bytes::Bytes;
use millstream_runtime::credit::{CreditLimit, Permit};
use millstream_runtime::element::Element;
use millstream_runtime::exchange::{Parcel, SendElement};
use millstream_runtime::ids::NodeProcess;
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::transport::{ChannelId, DecodeBatch, Registration, RemoteInlet};
use quinn::{ReadError, ReadExactError, RecvStream};

use super::{End, StreamCode};
use crate::claims::Arrival;
use crate::credit::Processed;
use crate::link::{Link, reason};
use crate::links::Shared;
use crate::outbox::ReceivedCredit;
use crate::wire::Malformed;
use crate::wire::frame::{Frame, FrameKind, FrameReader, decode_barrier, decode_channel, decode_watermark};

/// Pieces taken from the stream at once; a piece is about a packet.
const PIECES: usize = 64;

/// A receiver's end of a channel.
pub(crate) struct InletEnd(End);

impl InletEnd {
    pub(crate) fn fail(&self, error: PortError) {
        self.0.fail(error);
    }
}

/// A receiver that waits for its stream.
pub(crate) struct Inlet {
    pub(crate) end: Arc<InletEnd>,
    channel: ChannelId,
    credit: CreditLimit,
    decode: DecodeBatch,
    receive: SendElement,
}

/// A stream that has said which channel it is.
pub(crate) struct Stream {
    receive: RecvStream,
    frames: FrameReader,
    link: Arc<Link>,
}

impl Stream {
    fn stop(mut self, code: StreamCode) {
        // An error means that it is gone already.
        drop(self.receive.stop(code.value()));
    }
}

fn claims(shared: &Shared) -> std::sync::MutexGuard<'_, crate::claims::Claims<Inlet, Arc<InletEnd>, Stream>> {
    shared.claims.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A receiver waits for a channel.
pub(super) fn accept(shared: &Arc<Shared>, from: NodeProcess, inlet: RemoteInlet) -> Registration {
    let RemoteInlet { channel, credit, decode, receive, failed } = inlet;
    let end = Arc::new(InletEnd(End::new(failed)));
    let inlet = Inlet { end: Arc::clone(&end), channel, credit, decode, receive };
    let (matched, stale) = claims(shared).claim(from.clone(), channel, inlet, Arc::clone(&end));
    stale.into_iter().for_each(|stream| stream.stop(StreamCode::Refused));
    let (host, waiting) = (Arc::clone(shared), Arc::clone(&end));
    shared.runtime.spawn(async move {
        if let Some((inlet, stream)) = matched {
            return receive_all(&host, inlet, stream).await;
        }
        let timeout_ms = host.options.channel_timeout_ms;
        tokio::select! {
            biased;
            () = waiting.0.closed() => {}
            () = tokio::time::sleep(host.options.channel_timeout()) => {
                if let Some(inlet) = claims(&host).unmatched(&channel) {
                    inlet.end.fail(PortError::retry(format!("{channel}: {from} has not opened it within {timeout_ms} ms")));
                }
            }
        }
    });
    let shared = Arc::clone(shared);
    Registration::new(move || {
        end.0.close();
        claims(&shared).withdraw(&channel);
    })
}

/// A stream has come over a link.
pub(crate) async fn arrived(shared: Arc<Shared>, link: Arc<Link>, mut receive: RecvStream) {
    let mut frames = FrameReader::new(shared.options.max_frame_bytes);
    let header = tokio::time::timeout(shared.options.handshake_timeout(), read_header(&mut receive, &mut frames)).await;
    let channel = match header {
        Ok(Ok(channel)) => channel,
        Ok(Err(Malformed(problem))) => {
            tracing::warn!(peer = %link.peer, problem, "a stream was refused");
            return drop(receive.stop(StreamCode::Protocol.value()));
        }
        Err(_) => {
            tracing::warn!(peer = %link.peer, "a stream was refused: it does not say which channel it is");
            return drop(receive.stop(StreamCode::Protocol.value()));
        }
    };
    let peer = link.peer.clone();
    let arrival = claims(&shared).arrived(peer.clone(), channel, Stream { receive, frames, link });
    match arrival {
        Arrival::Claimed(inlet, stream) => receive_all(&shared, inlet, stream).await,
        Arrival::Waits(ticket) => {
            tokio::time::sleep(shared.options.channel_timeout()).await;
            let expired = claims(&shared).expire(&channel, ticket);
            if let Some(stream) = expired {
                tracing::warn!(%peer, %channel, "a stream was refused: nobody waits for it");
                stream.stop(StreamCode::Unclaimed);
            }
        }
        Arrival::Refused(stream, why) => {
            tracing::warn!(%peer, %channel, why, "a stream was refused");
            stream.stop(StreamCode::Refused);
        }
        Arrival::Doubled(streams, end) => {
            tracing::warn!(%peer, %channel, "a second stream of a channel");
            streams.into_iter().for_each(|stream| stream.stop(StreamCode::Refused));
            if let Some(end) = end {
                end.fail(PortError::retry(format!("{channel}: a second stream came from {peer}")));
            }
        }
    }
}

async fn read_header(receive: &mut RecvStream, frames: &mut FrameReader) -> Result<ChannelId, Malformed> {
    /// Bytes of the largest header.
    const MAX_BYTES: usize = 1 << 10;
    let mut buffer = [0; MAX_BYTES];
    loop {
        let wanted = frames.wanted()?;
        let Some(piece) = buffer.get_mut(..wanted) else {
            return Err(Malformed(format!("a channel header of {wanted} bytes, the limit is {MAX_BYTES}")));
        };
        receive.read_exact(piece).await.map_err(|error| match error {
            ReadExactError::FinishedEarly(bytes) => Malformed(format!("a stream has ended after {bytes} bytes")),
            ReadExactError::ReadError(error) => Malformed(format!("a stream is broken: {error}")),
        })?;
        if let Some(frame) = frames.next(&mut &*piece)? {
            return decode_channel(frame.content);
        }
    }
}

/// Reads a stream to its end.
async fn receive_all(shared: &Shared, inlet: Inlet, mut stream: Stream) {
    let peer = stream.link.peer.clone();
    let processed = Arc::<Processed>::default();
    let credit = Arc::new(ReceivedCredit {
        stream: stream.receive.id().index(),
        processed: Arc::clone(&processed),
        outbox: Arc::clone(&stream.link.outbox),
    });
    let limit = u64::from(inlet.credit.batches) + u64::from(shared.options.max_overdraft_batches);
    let mut receiver = Receiver { inlet, credit, processed, received: 0, limit, ended: false };
    let mut pieces: [Bytes; PIECES] = std::array::from_fn(|_| Bytes::new());
    let end = Arc::clone(&receiver.inlet.end);
    let problem = loop {
        let read = tokio::select! {
            biased;
            () = end.0.closed() => {
                return stream.stop(StreamCode::Closed);
            }
            read = stream.receive.read_chunks(&mut pieces) => read,
        };
        let count = match read {
            Ok(Some(count)) => count,
            Ok(None) if receiver.ended && stream.frames.at_boundary() => return,
            Ok(None) => break "it has ended before the end of the input".to_owned(),
            Err(ReadError::Reset(code)) => break StreamCode::text(code),
            Err(ReadError::ConnectionLost(error)) => break format!("the link broke: {}", reason(&error)),
            Err(error) => break error.to_string(),
        };
        let taken = pieces[..count].iter().try_for_each(|piece| receiver.take(&mut stream.frames, piece));
        if let Err(error) = taken {
            let channel = receiver.inlet.channel;
            end.fail(PortError { message: format!("{channel} from {peer}: {}", error.message), ..error });
            return stream.stop(StreamCode::Protocol);
        }
        // Decoding is work: others get their turn.
        tokio::task::yield_now().await;
    };
    end.fail(PortError::retry(format!("{} from {peer}: {problem}", receiver.inlet.channel)));
}

/// What frames are delivered to.
struct Receiver {
    inlet: Inlet,
    credit: Arc<ReceivedCredit>,
    processed: Arc<Processed>,
    /// Batches.
    received: u64,
    /// Batches that may be here unprocessed.
    limit: u64,
    ended: bool,
}

impl Receiver {
    fn take(&mut self, frames: &mut FrameReader, piece: &Bytes) -> Result<(), PortError> {
        let mut input = &piece[..];
        while let Some(frame) = frames.next(&mut input).map_err(malformed)? {
            let element = self.element(&frame)?;
            (self.inlet.receive)(element);
        }
        Ok(())
    }

    fn element(&mut self, frame: &Frame<'_>) -> Result<Element<Parcel>, PortError> {
        let bare = |element| {
            let empty = frame.content.is_empty();
            if empty { Ok(element) } else { Err(malformed(Malformed(format!("a {:?} with content", frame.kind)))) }
        };
        match frame.kind {
            FrameKind::Header => Err(malformed(Malformed("a second header".to_owned()))),
            FrameKind::Batch => self.batch(frame.content).map(Element::Batch),
            FrameKind::Watermark => decode_watermark(frame.content).map(Element::Watermark).map_err(malformed),
            FrameKind::Barrier => decode_barrier(frame.content).map(Element::Barrier).map_err(malformed),
            FrameKind::Idle => bare(Element::Idle),
            FrameKind::Active => bare(Element::Active),
            FrameKind::EndOfInput => {
                self.ended = true;
                bare(Element::EndOfInput)
            }
        }
    }

    fn batch(&mut self, content: &[u8]) -> Result<Parcel, PortError> {
        self.received += 1;
        let (waiting, limit) = (self.received - self.processed.total(), self.limit);
        if waiting > limit {
            return Err(malformed(Malformed(format!("{waiting} batches wait here, credit allows {limit}"))));
        }
        let batch = (self.inlet.decode)(content)
            .map_err(|error| PortError::fix_input(format!("{error}: its type does not read what it writes")))?;
        let bytes = i64::try_from(content.len()).expect("a frame is shorter");
        let permit = Permit::received(Arc::<ReceivedCredit>::clone(&self.credit), bytes);
        Ok(Parcel { batch, permit })
    }
}

fn malformed(Malformed(problem): Malformed) -> PortError {
    PortError::retry(problem)
}
