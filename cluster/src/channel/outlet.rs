//! The sending end of a channel: elements wait in a queue that credit bounds, a task encodes and writes them, permits
//! are kept until the receiver has processed their batches.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use millstream_runtime::credit::Permit;
use millstream_runtime::element::Element;
use millstream_runtime::exchange::{Parcel, SendElement};
use millstream_runtime::ids::NodeProcess;
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::transport::{ChannelId, RemoteOutlet};
use quinn::{SendStream, WriteError};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{End, StreamCode};
use crate::credit::{ImpossibleCredit, Unprocessed};
use crate::link::{Link, reason};
use crate::links::Shared;
use crate::wire::frame::{FrameKind, FrameWriter, encode_barrier, encode_channel};

/// Elements encoded before they are written.
const ROUND: usize = 8;

/// Permits of the batches under way.
#[derive(Default)]
pub(crate) struct Window {
    unprocessed: Mutex<Unprocessed<Permit>>,
    /// Batches queued or under way.
    batches: AtomicI64,
}

impl Window {
    fn sent(&self, permit: Permit) {
        self.unprocessed.lock().unwrap_or_else(PoisonError::into_inner).sent(permit);
    }

    /// The receiver has processed so many batches, ever.
    pub(crate) fn processed(&self, total: u64) -> Result<(), ImpossibleCredit> {
        let freed = self.unprocessed.lock().unwrap_or_else(PoisonError::into_inner).processed(total)?;
        self.batches.fetch_sub(i64::try_from(freed.len()).unwrap_or(i64::MAX), Ordering::AcqRel);
        // Here, behind the lock, they wake the sender.
        drop(freed);
        Ok(())
    }
}

/// What the subtask holds: dropping it ends the channel.
struct Handle {
    queue: UnboundedSender<Element<Parcel>>,
    window: Arc<Window>,
    end: Arc<End>,
    channel: ChannelId,
    max_batches: i64,
}

impl Handle {
    fn send(&self, element: Element<Parcel>) {
        if matches!(element, Element::Batch(_)) {
            let batches = self.window.batches.fetch_add(1, Ordering::AcqRel) + 1;
            if batches > self.max_batches {
                let (channel, most) = (self.channel, self.max_batches);
                return self.end.fail(PortError::fix_input(format!(
                    "{channel}: {batches} batches are under way where credit and one record's output allow {most}: \
                     let an operator emit less for one record, or raise the overdraft"
                )));
            }
        }
        // A task that has ended has failed the channel.
        drop(self.queue.send(element));
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.end.close();
    }
}

/// Opens a channel.
pub(super) fn open(shared: &Arc<Shared>, to: NodeProcess, outlet: RemoteOutlet) -> SendElement {
    let RemoteOutlet { channel, credit, failed } = outlet;
    // Its bound is `max_batches`: nothing else is sent without a batch before it but conflated watermarks and barriers.
    let (queue, elements) = unbounded_channel();
    let end = Arc::new(End::new(failed));
    let window = Arc::<Window>::default();
    let max_batches = i64::from(credit.batches) + i64::from(shared.options.max_overdraft_batches);
    let (task_shared, task_end, task_window) = (Arc::clone(shared), Arc::clone(&end), Arc::clone(&window));
    shared.runtime.spawn(async move {
        if let Err(error) = run(&task_shared, &to, &channel, elements, &task_window, &task_end).await {
            task_end.fail(error);
        }
    });
    let handle = Handle { queue, window, end, channel, max_batches };
    Box::new(move |element| handle.send(element))
}

async fn run(
    shared: &Shared,
    to: &NodeProcess,
    channel: &ChannelId,
    elements: UnboundedReceiver<Element<Parcel>>,
    window: &Arc<Window>,
    end: &End,
) -> Result<(), PortError> {
    let link = shared.link_with(to).await?;
    let opened = tokio::time::timeout(shared.options.channel_timeout(), link.connection.open_uni()).await;
    let opened = opened.map_err(|_| PortError::retry(format!("{channel}: {to} takes no more channels")))?;
    let stream = opened.map_err(|error| PortError::retry(format!("{channel}: the link broke: {}", reason(&error))))?;
    let index = stream.id().index();
    link.add_window(index, Arc::clone(window));
    let mut sender = Sender { channel, stream, frames: FrameWriter::default(), ended: false, batch_bytes: 0 };
    let sent = sender.run(shared, elements, window, end, &link).await;
    link.remove_window(index);
    sent
}

/// The stream and where it stands.
struct Sender<'a> {
    channel: &'a ChannelId,
    stream: SendStream,
    frames: FrameWriter,
    /// The end of input was sent.
    ended: bool,
    /// Of the last batch: so much is reserved for the next.
    batch_bytes: usize,
}

impl Sender<'_> {
    async fn run(
        &mut self,
        shared: &Shared,
        mut elements: UnboundedReceiver<Element<Parcel>>,
        window: &Window,
        end: &End,
        link: &Link,
    ) -> Result<(), PortError> {
        let mut header = Vec::new();
        self.frames.small(FrameKind::Header, &encode_channel(self.channel), &mut header);
        let mut chunks = vec![Bytes::from(header)];
        let mut round = Vec::with_capacity(ROUND);
        let stopped = self.stream.stopped();
        tokio::pin!(stopped);
        loop {
            if let Err(error) = self.stream.write_all_chunks(&mut chunks).await {
                return self.broken(error, link);
            }
            chunks.clear();
            let count = tokio::select! {
                biased;
                stopped = &mut stopped => return match stopped {
                    Ok(Some(code)) => self.broken(WriteError::Stopped(code), link),
                    Ok(None) => Ok(()),
                    Err(quinn::StoppedError::ConnectionLost(error)) => self.broken(WriteError::ConnectionLost(error), link),
                    Err(quinn::StoppedError::ZeroRttRejected) => self.broken(WriteError::ZeroRttRejected, link),
                },
                count = elements.recv_many(&mut round, ROUND) => count,
            };
            if count == 0 {
                self.close(end);
                return Ok(());
            }
            for element in round.drain(..) {
                let bytes = self.encode(element, shared.options.max_frame_bytes, window).inspect_err(|_| {
                    drop(self.stream.reset(StreamCode::Failed.value()));
                })?;
                chunks.push(bytes);
            }
            // Encoding is work: others get their turn.
            tokio::task::yield_now().await;
        }
    }

    /// The subtask has dropped its end.
    fn close(&mut self, end: &End) {
        end.close();
        // An error means that the receiver has stopped already.
        drop(if self.ended { self.stream.finish() } else { self.stream.reset(StreamCode::Closed.value()) });
    }

    fn encode(&mut self, element: Element<Parcel>, max_bytes: u32, window: &Window) -> Result<Bytes, PortError> {
        let mut out = Vec::new();
        match element {
            Element::Batch(Parcel { batch, permit }) => {
                window.sent(permit);
                out.reserve(self.batch_bytes + self.batch_bytes / 8);
                let framed = self.frames.frame(FrameKind::Batch, max_bytes, &mut out, |out| batch.encode(out));
                let framed = framed.map_err(|error| PortError::fix_input(format!("{}: {error}", self.channel)))?;
                framed.map_err(|bytes| {
                    let (channel, rows) = (self.channel, batch.len());
                    PortError::fix_input(format!(
                        "{channel}: a batch of {rows} rows takes {bytes} bytes, the limit of a frame is {max_bytes}: \
                         make batches or records smaller"
                    ))
                })?;
                self.batch_bytes = out.len();
            }
            Element::Watermark(watermark) => {
                self.frames.small(FrameKind::Watermark, &watermark.to_le_bytes(), &mut out)
            }
            Element::Barrier(barrier) => self.frames.small(FrameKind::Barrier, &encode_barrier(&barrier), &mut out),
            Element::Idle => self.frames.small(FrameKind::Idle, &[], &mut out),
            Element::Active => self.frames.small(FrameKind::Active, &[], &mut out),
            Element::EndOfInput => {
                self.ended = true;
                self.frames.small(FrameKind::EndOfInput, &[], &mut out);
            }
        }
        Ok(Bytes::from(out))
    }

    /// The stream cannot be written any more.
    fn broken(&self, error: WriteError, link: &Link) -> Result<(), PortError> {
        let (channel, peer) = (self.channel, &link.peer);
        let why = match error {
            WriteError::Stopped(code) if self.ended && StreamCode::of(code) == Some(StreamCode::Closed) => {
                return Ok(());
            }
            WriteError::Stopped(code) => StreamCode::text(code),
            WriteError::ConnectionLost(error) => format!("the link broke: {}", reason(&error)),
            WriteError::ClosedStream | WriteError::ZeroRttRejected => error.to_string(),
        };
        Err(PortError::retry(format!("{channel} to {peer}: {why}")))
    }
}
