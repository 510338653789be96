//! Data channels: everything arrives in order, credit bounds what waits, and whatever breaks a channel is told.

use millstream_runtime::batch::{Batch, Rows};
use millstream_runtime::credit::{CreditLimit, CreditPool};
use millstream_runtime::element::{Barrier, CheckpointingMode, Element, Overtaking, Purpose};
use millstream_runtime::exchange::{Parcel, SendElement};
use millstream_runtime::ids::{
    AttemptId, AttemptNumber, ChannelIndex, CheckpointId, Epoch, JobId, SubtaskId, SubtaskIndex, VertexId,
};
use millstream_runtime::ports::transport::{ChannelId, Registration, RemoteInlet, RemoteOutlet, Transport};
use millstream_runtime::ports::{PortError, Waker};

use super::*;
use crate::wire::envelope::Envelope;
use crate::wire::frame::{FrameKind, FrameWriter, encode_channel};

const CREDIT: CreditLimit = CreditLimit { batches: 4, bytes: 1 << 20 };

fn channel(attempt: u32) -> ChannelId {
    let subtask = |name| SubtaskId { vertex: VertexId::from_name(name), index: SubtaskIndex(0) };
    ChannelId {
        job: JobId::from_name("job"),
        attempt: AttemptId { epoch: Epoch(1), attempt: AttemptNumber(attempt) },
        sender: subtask("map"),
        receiver: subtask("sum"),
        channel: ChannelIndex(0),
    }
}

type Failure = Arc<Mutex<Option<PortError>>>;

/// The text of a failure, if there was one.
fn failure(of: &Failure) -> Option<String> {
    of.lock().unwrap().as_ref().map(ToString::to_string)
}

/// A sender as the exchange has it.
struct Sender {
    send: SendElement,
    credit: Arc<CreditPool>,
    failed: Failure,
    woken: Arc<AtomicBool>,
}

impl Sender {
    fn open(from: &Node, to: &NodeProcess, attempt: u32) -> Self {
        let failed = Failure::default();
        let told = Arc::clone(&failed);
        let failed_once = Box::new(move |error| assert!(told.lock().unwrap().replace(error).is_none(), "told once"));
        let send = from.links.open(to, RemoteOutlet { channel: channel(attempt), credit: CREDIT, failed: failed_once });
        let woken = Arc::<AtomicBool>::default();
        let wake = Arc::clone(&woken);
        let credit = CreditPool::new(CREDIT, Waker::new(move || wake.store(true, Ordering::SeqCst)));
        Self { send, credit, failed, woken }
    }

    fn batch(&self, values: Vec<u64>) {
        let permit = self.credit.take(values.len() * 8);
        (self.send)(Element::Batch(Parcel { batch: Box::new(Rows::untimed(values)), permit }));
    }
}

/// A receiver that keeps what it gets until it is asked to process it.
struct Receiver {
    mailbox: Arc<Mutex<Vec<Element<Parcel>>>>,
    failed: Failure,
    registration: Option<Registration>,
}

impl Receiver {
    fn accept(at: &Node, from: &NodeProcess, attempt: u32) -> Self {
        let (mailbox, failed) = (Arc::<Mutex<Vec<_>>>::default(), Failure::default());
        let (delivered, told) = (Arc::clone(&mailbox), Arc::clone(&failed));
        let inlet = RemoteInlet {
            channel: channel(attempt),
            credit: CREDIT,
            decode: Arc::new(|bytes| Ok(Box::new(Rows::<u64>::decode(bytes)?) as Box<dyn Batch>)),
            receive: Box::new(move |element| delivered.lock().unwrap().push(element)),
            failed: Box::new(move |error| assert!(told.lock().unwrap().replace(error).is_none(), "told once")),
        };
        Self { mailbox, failed, registration: Some(at.links.accept(from, inlet)) }
    }

    fn waiting(&self) -> usize {
        self.mailbox.lock().unwrap().len()
    }

    /// Processes everything: permits go back.
    fn process(&self) -> Vec<u64> {
        let elements = std::mem::take(&mut *self.mailbox.lock().unwrap());
        elements
            .into_iter()
            .flat_map(|element| match element {
                Element::Batch(parcel) => parcel.batch.into_rows::<u64>().values,
                other => panic!("{:?} is no batch", std::mem::discriminant(&other)),
            })
            .collect()
    }
}

/// A channel from a to b that is up.
async fn connected(a: &Node, b: &Node) -> (Sender, Receiver) {
    let receiver = Receiver::accept(b, &a.process, 1);
    let sender = Sender::open(a, &b.process, 1);
    sender.batch(vec![0]);
    eventually("the first batch", || receiver.waiting() == 1).await;
    assert_eq!(receiver.process(), [0]);
    (sender, receiver)
}

#[tokio::test]
async fn elements_of_all_kinds_arrive_in_order_and_a_channel_ends_without_failure() {
    let (a, b) = pair(&Cluster::new()).await;
    // The sender comes first: its stream waits for the receiver.
    let sender = Sender::open(&a, &b.process, 1);
    let barrier = Barrier {
        checkpoint: CheckpointId(7),
        attempt: channel(1).attempt,
        purpose: Purpose::Checkpoint,
        mode: CheckpointingMode::ExactlyOnce,
        overtaking: Overtaking::Now,
        triggered_ms: 1,
    };
    let rows = Rows { values: vec![1u64, 2, 3], timestamps: vec![10, 20, 30] };
    let permit = sender.credit.take(1);
    (sender.send)(Element::Batch(Parcel { batch: Box::new(rows.clone()), permit }));
    for element in
        [Element::Watermark(25), Element::Idle, Element::Active, Element::Barrier(barrier), Element::EndOfInput]
    {
        (sender.send)(element);
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    let mut receiver = Receiver::accept(&b, &a.process, 1);
    eventually("all elements", || receiver.waiting() == 6).await;
    let mut elements = receiver.mailbox.lock().unwrap().drain(..).collect::<Vec<_>>().into_iter();
    match elements.next().unwrap() {
        Element::Batch(parcel) => assert_eq!(parcel.batch.into_rows::<u64>(), rows),
        _ => panic!("the batch comes first"),
    }
    assert!(matches!(elements.next(), Some(Element::Watermark(25))));
    assert!(matches!(elements.next(), Some(Element::Idle)));
    assert!(matches!(elements.next(), Some(Element::Active)));
    assert!(matches!(elements.next(), Some(Element::Barrier(same)) if same == barrier));
    assert!(matches!(elements.next(), Some(Element::EndOfInput)));
    // A last barrier may follow; then the receiver goes first.
    (sender.send)(Element::Barrier(barrier));
    eventually("the last barrier", || receiver.waiting() == 1).await;
    drop(receiver.registration.take());
    let failed = Arc::clone(&sender.failed);
    drop(sender);
    // Something after it on the same link: by then the failures would have been told.
    let (_sender, _receiver) = (Sender::open(&a, &b.process, 2), Receiver::accept(&b, &a.process, 2));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!((failure(&failed), failure(&receiver.failed)), (None, None));
}

#[tokio::test]
async fn a_receiver_that_stops_parks_its_sender_and_what_waits_is_bounded() {
    let (a, b) = pair(&Cluster::new()).await;
    let (sender, receiver) = connected(&a, &b).await;
    eventually("the credit is back", || sender.credit.in_flight() == 0).await;
    let mut sent = Vec::new();
    let mut processed = Vec::new();
    for round in 0..20u64 {
        // As the exchange does: until an output lacks credit.
        while sender.credit.has_credit() {
            sent.push(round * 100 + sent.len() as u64);
            sender.batch(vec![*sent.last().unwrap()]);
        }
        sender.woken.store(false, Ordering::SeqCst);
        assert!(sender.credit.park(), "nothing is processed");
        let limit = CREDIT.batches as usize;
        eventually("all that credit allows", || receiver.waiting() == limit).await;
        assert_eq!(sender.credit.in_flight(), i64::from(CREDIT.batches), "credit comes back for processing only");
        assert!(!sender.woken.load(Ordering::SeqCst));
        processed.extend(receiver.process());
        eventually("the sender is woken", || sender.woken.load(Ordering::SeqCst)).await;
        eventually("all credit", || sender.credit.in_flight() == 0).await;
    }
    assert_eq!(processed, sent);
    assert_eq!(sent.len(), 80);
}

#[tokio::test]
async fn a_stopped_channel_does_not_hold_up_others_or_control() {
    let (a, mut b) = pair(&Cluster::new()).await;
    let (stopped, _held) = connected(&a, &b).await;
    while stopped.credit.has_credit() {
        stopped.batch(vec![1; 10_000]);
    }
    let receiver = Receiver::accept(&b, &a.process, 2);
    let sender = Sender::open(&a, &b.process, 2);
    for number in 0..50 {
        eventually("credit", || sender.credit.has_credit()).await;
        sender.batch(vec![number; 1_000]);
        eventually("a batch", || receiver.waiting() > 0).await;
        assert_eq!(receiver.process(), vec![number; 1_000]);
    }
    a.links.send(&b.process.node, "control").unwrap();
    assert_eq!(b.message().await, b"control");
}

#[tokio::test]
async fn a_cut_link_fails_both_ends() {
    let (a, b) = pair(&Cluster::new()).await;
    let (sender, receiver) = connected(&a, &b).await;
    a.links.cut(&b.process.node, "for a test");
    eventually("both ends fail", || failure(&sender.failed).is_some() && failure(&receiver.failed).is_some()).await;
    assert!(failure(&sender.failed).unwrap().contains("the link broke"));
    assert!(failure(&receiver.failed).unwrap().contains("the link broke"));
    assert_eq!(sender.failed.lock().unwrap().as_ref().unwrap().kind, millstream_runtime::ports::ErrorKind::Retry);
}

#[tokio::test]
async fn a_silent_link_fails_both_ends_within_the_time_out() {
    let mut cluster = Cluster::new();
    cluster.options.heartbeat_interval_ms = 20;
    cluster.options.timeout_ms = 200;
    let (a, b) = pair(&cluster).await;
    let (sender, receiver) = connected(&a, &b).await;
    a.pulled.store(true, Ordering::SeqCst);
    eventually("both ends fail", || failure(&sender.failed).is_some() && failure(&receiver.failed).is_some()).await;
    assert!(failure(&sender.failed).unwrap().contains("the peer is silent"));
}

#[tokio::test]
async fn a_sender_that_is_gone_too_early_fails_its_receiver_and_the_other_way_round() {
    let (a, b) = pair(&Cluster::new()).await;
    let (sender, receiver) = connected(&a, &b).await;
    let own = Arc::clone(&sender.failed);
    drop(sender);
    eventually("the receiver fails", || failure(&receiver.failed).is_some()).await;
    assert!(failure(&receiver.failed).unwrap().contains("the subtask there is gone"));
    assert_eq!(failure(&own), None, "it knows itself");

    let mut receiver = Receiver::accept(&b, &a.process, 2);
    let sender = Sender::open(&a, &b.process, 2);
    sender.batch(vec![1]);
    eventually("the batch", || receiver.waiting() == 1).await;
    drop(receiver.registration.take());
    eventually("the sender fails", || failure(&sender.failed).is_some()).await;
    assert!(failure(&sender.failed).unwrap().contains("the subtask there is gone"));
    assert_eq!(failure(&receiver.failed), None);
}

#[tokio::test]
async fn a_stream_of_an_old_attempt_is_refused() {
    let (a, b) = pair(&Cluster::new()).await;
    // Before and after the new attempt's receiver is there.
    let before = Sender::open(&a, &b.process, 1);
    before.batch(vec![1]);
    tokio::time::sleep(Duration::from_millis(20)).await;
    let receiver = Receiver::accept(&b, &a.process, 2);
    let after = Sender::open(&a, &b.process, 0);
    after.batch(vec![2]);
    for old in [&before, &after] {
        eventually("an old sender fails", || failure(&old.failed).is_some()).await;
        assert!(failure(&old.failed).unwrap().contains("refused as stale or doubled"));
    }
    let sender = Sender::open(&a, &b.process, 2);
    sender.batch(vec![3]);
    eventually("the new attempt's batch", || receiver.waiting() == 1).await;
    assert_eq!(receiver.process(), [3], "and nothing of the old ones");
}

#[tokio::test]
async fn an_end_whose_other_end_never_comes_fails_in_time() {
    let mut cluster = Cluster::new();
    cluster.options.channel_timeout_ms = 100;
    let (a, b) = pair(&cluster).await;
    let receiver = Receiver::accept(&b, &a.process, 1);
    let sender = Sender::open(&a, &b.process, 2);
    let unlinked = Sender::open(&a, &process("nobody", 1), 3);
    for (failed, text) in [
        (&receiver.failed, "a#1 has not opened it within 100 ms"),
        (&sender.failed, "no receiver asked for it in time"),
        (&unlinked.failed, "no link to nobody#1 within 100 ms"),
    ] {
        eventually(text, || failure(failed).is_some()).await;
        assert!(failure(failed).unwrap().contains(text), "{:?}", failure(failed));
    }
}

#[tokio::test]
async fn channels_to_and_from_a_process_that_was_restarted_fail() {
    let cluster = Cluster::new();
    let (mut a, b) = pair(&cluster).await;
    let (sender, _receiver) = connected(&a, &b).await;
    let waiting = Receiver::accept(&a, &b.process, 1);
    let restarted = cluster.node("b", 2);
    restarted.links.connect(a.address);
    a.until_up(&restarted.process).await;
    eventually("the sender fails", || failure(&sender.failed).is_some()).await;
    eventually("the receiver that waits fails", || failure(&waiting.failed).is_some()).await;
    assert!(failure(&waiting.failed).unwrap().contains("restarted as b#2"));
    let late = Sender::open(&a, &b.process, 2);
    eventually("a new sender to the old process fails", || failure(&late.failed).is_some()).await;
    assert!(failure(&late.failed).unwrap().contains("b#1 was restarted as b#2"));
}

#[tokio::test]
async fn a_batch_over_the_limit_fails_the_channel_with_what_to_do() {
    let mut cluster = Cluster::new();
    cluster.options.max_frame_bytes = 1_000;
    let (a, b) = pair(&cluster).await;
    let (sender, receiver) = connected(&a, &b).await;
    sender.batch(vec![u64::MAX; 200]);
    eventually("both ends fail", || failure(&sender.failed).is_some() && failure(&receiver.failed).is_some()).await;
    let text = failure(&sender.failed).unwrap();
    assert!(text.contains("a batch of 200 rows takes 1805 bytes, the limit of a frame is 1000"), "{text}");
    assert!(failure(&receiver.failed).unwrap().contains("failed at the other end"));
}

#[tokio::test]
async fn a_sender_that_ignores_credit_fails() {
    let mut cluster = Cluster::new();
    cluster.options.max_overdraft_batches = 2;
    let (a, b) = pair(&cluster).await;
    let (sender, receiver) = connected(&a, &b).await;
    eventually("the credit is back", || sender.credit.in_flight() == 0).await;
    (0..6).for_each(|number| sender.batch(vec![number]));
    eventually("overdrawn, but received", || receiver.waiting() == 6).await;
    assert_eq!(failure(&sender.failed), None);
    sender.batch(vec![6]);
    assert!(failure(&sender.failed).unwrap().contains("7 batches are under way where credit"));
}

/// A stream that breaks the protocol, written past the sender.
async fn raw_stream(a: &Node, to: &NodeProcess, attempt: u32) -> (quinn::SendStream, FrameWriter, Vec<u8>) {
    let link = a.links.shared.link(&to.node).unwrap();
    let stream = link.connection.open_uni().await.unwrap();
    let (mut frames, mut bytes) = (FrameWriter::default(), Vec::new());
    frames.small(FrameKind::Header, &encode_channel(&channel(attempt)), &mut bytes);
    (stream, frames, bytes)
}

#[tokio::test]
async fn gaps_garbage_and_a_second_stream_fail_the_receiver() {
    let (a, b) = pair(&Cluster::new()).await;
    for (attempt, why) in
        [(1, "frame 2 came where 1 was due"), (2, "what came is no frame"), (3, "its type does not read")]
    {
        let receiver = Receiver::accept(&b, &a.process, attempt);
        let (mut stream, mut frames, mut bytes) = raw_stream(&a, &b.process, attempt).await;
        match attempt {
            1 => {
                frames.small(FrameKind::Idle, &[], &mut Vec::new());
                frames.small(FrameKind::Active, &[], &mut bytes);
            }
            2 => bytes.extend([0xff; 16]),
            _ => frames.small(FrameKind::Batch, b"\xc1", &mut bytes),
        }
        stream.write_all(&bytes).await.unwrap();
        eventually(why, || failure(&receiver.failed).is_some()).await;
        assert!(failure(&receiver.failed).unwrap().contains(why), "{:?}", failure(&receiver.failed));
        assert_eq!(stream.stopped().await.unwrap(), Some(quinn::VarInt::from_u32(4)), "the sender is told");
    }
    let (sender, receiver) = connected_as(&a, &b, 4).await;
    let (mut second, _, bytes) = raw_stream(&a, &b.process, 4).await;
    second.write_all(&bytes).await.unwrap();
    eventually("both ends fail", || failure(&sender.failed).is_some() && failure(&receiver.failed).is_some()).await;
    assert!(failure(&receiver.failed).unwrap().contains("a second stream came from a#1"));
}

async fn connected_as(a: &Node, b: &Node, attempt: u32) -> (Sender, Receiver) {
    let receiver = Receiver::accept(b, &a.process, attempt);
    let sender = Sender::open(a, &b.process, attempt);
    sender.batch(vec![0]);
    eventually("the first batch", || receiver.waiting() == 1).await;
    (sender, receiver)
}

#[tokio::test]
async fn credit_for_what_was_never_sent_breaks_the_link() {
    let (mut a, b) = pair(&Cluster::new()).await;
    let (sender, receiver) = connected(&a, &b).await;
    let link = b.links.shared.link(&a.process.node).unwrap();
    // The index of the only stream; the envelope goes in as a message would.
    let mut forged = Vec::new();
    Envelope::Credit(vec![(0, 99)]).encode(&mut forged);
    link.outbox.forge(forged);
    assert!(a.until_down(&b.process).await.contains("says it has processed 99 batches of 1 sent"));
    eventually("both ends fail", || failure(&sender.failed).is_some() && failure(&receiver.failed).is_some()).await;
}
