//! What crosses a link: two processes on loopback, batches of 1,024 records over two channels, encoded, framed, encrypted,
//! decoded and counted. The batch is the same each time, so that making records is not measured.
#![expect(clippy::disallowed_methods, reason = "benchmarks measure time")]

use std::net::SocketAddr;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use benches::cases::{self, Case, Measured, Setting};
use benches::process::cpu_ns;
use benches::records::{Record, scrambled};
use millstream_cluster::{
    Authority, Certificates, Identity, LinkEvent, Links, NetSeed, Options, PemCertificates, Setup, udp_socket,
};
use millstream_runtime::batch::{Batch, BatchError, DEFAULT_BATCH_ROWS, Data, Rows};
use millstream_runtime::credit::{CreditLimit, CreditPool};
use millstream_runtime::element::Element;
use millstream_runtime::exchange::Parcel;
use millstream_runtime::ids::{
    AttemptId, ChannelIndex, JobId, NodeId, NodeIncarnation, NodeProcess, SubtaskId, SubtaskIndex, VertexId,
};
use millstream_runtime::ports::transport::{ChannelId, RemoteInlet, RemoteOutlet, Transport};
use millstream_runtime::ports::{Clock, Waker};
use millstream_runtime::time::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CHANNELS: u32 = 2;
/// Set in the process that sends: where to, what, how many batches on each channel.
const SENDER: &str = "MILLSTREAM_BENCH_SENDER";

fn main() -> ExitCode {
    if let Ok(order) = std::env::var(SENDER) {
        return match send_as_ordered(&order) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("the sender: {error}");
                ExitCode::FAILURE
            }
        };
    }
    cases::main(&[
        Case { name: "exchange-bid", run: |setting| receive::<Bid>(setting, 10_000_000) },
        Case { name: "exchange-4-numbers", run: |setting| receive::<Record>(setting, 60_000_000) },
    ])
}

/// A bid of Nexmark: seven fields, three of them text, 165 bytes on the wire.
#[derive(Clone, Serialize, Deserialize)]
struct Bid {
    auction: u64,
    bidder: u64,
    price: u64,
    channel: String,
    url: String,
    date_time: i64,
    extra: String,
}

/// What is sent.
trait Sample: Data {
    const NAME: &'static str;
    fn sample(number: u64) -> Self;
    fn checksum(&self) -> u64;
}

impl Sample for Bid {
    const NAME: &'static str = "bid";

    fn sample(number: u64) -> Self {
        let drawn = scrambled(number);
        Self {
            auction: 100_000 + drawn % 100_000,
            bidder: 100_000 + (drawn >> 20) % 100_000,
            price: 70_000 + (drawn >> 40) % 1_000_000,
            channel: format!("channel-{:04}", drawn % 10_000),
            url: format!(
                "https://www.nexmark.com/{:08x}/item.htm?query=1&channel_id={:09}",
                drawn as u32,
                drawn % 999_999_999
            ),
            date_time: 1_790_000_000_000 + number as i64,
            extra: format!("{drawn:016x}{:016x}{drawn:021x}", !drawn),
        }
    }

    fn checksum(&self) -> u64 {
        self.auction + self.bidder + self.price + (self.channel.len() + self.url.len() + self.extra.len()) as u64
    }
}

impl Sample for Record {
    const NAME: &'static str = "numbers";

    fn sample(number: u64) -> Self {
        let drawn = scrambled(number);
        Self { id: 1_000_000 + number, key: drawn & 0xffff_ffff, value: drawn & 0xffff, emitted_ns: 1 << 30 }
    }

    fn checksum(&self) -> u64 {
        self.id + self.key + self.value
    }
}

/// The same rows, sent again and again.
struct Repeated<T>(Arc<Rows<T>>);

impl<T: Sample + Sync> Batch for Repeated<T> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn size_bytes(&self) -> usize {
        self.0.size_bytes()
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), BatchError> {
        self.0.encode(out)
    }
}

fn rows<T: Sample>() -> Rows<T> {
    Rows::untimed((0..DEFAULT_BATCH_ROWS as u64).map(T::sample).collect())
}

struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        since.as_millis() as Timestamp
    }
}

fn process(name: &str) -> NodeProcess {
    NodeProcess { node: NodeId(name.to_owned()), incarnation: NodeIncarnation(1) }
}

fn channel(index: u32) -> ChannelId {
    let subtask = |name, index| SubtaskId { vertex: VertexId::from_name(name), index: SubtaskIndex(index) };
    ChannelId {
        job: JobId::from_name("exchange"),
        attempt: AttemptId::default(),
        sender: subtask("send", index),
        receiver: subtask("receive", index),
        channel: ChannelIndex(0),
    }
}

fn links(name: &str, pem: &PemCertificates, events: UnboundedSender<LinkEvent>) -> Result<Links, String> {
    let text = |error: millstream_cluster::Error| error.to_string();
    Links::start(Setup {
        identity: Identity { cluster: "bench".to_owned(), process: process(name), executable: [0; 32] },
        options: Options::default(),
        certificates: Certificates::from_pem(pem, SystemClock.now_ms()).map_err(text)?,
        seed: NetSeed::from_system().map_err(text)?,
        clock: Arc::new(SystemClock),
        socket: udp_socket(SocketAddr::from(([127, 0, 0, 1], 0))).map_err(text)?,
        events: Arc::new(move |event| drop(events.send(event))),
    })
    .map_err(text)
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())
}

/// What the sending process is told to do.
#[derive(Serialize, Deserialize)]
struct Order {
    to: SocketAddr,
    what: String,
    batches: u64,
    certificate: [String; 3],
}

fn start_sender(order: &Order) -> Result<Child, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let order = serde_json::to_string(order).map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.env(SENDER, order).stdin(Stdio::null()).stdout(Stdio::piped());
    command.spawn().map_err(|error| error.to_string())
}

/// The measured process: receives, with the sender as its child.
fn receive<T: Sample + Sync>(setting: &Setting, records: u64) -> Result<Measured, String> {
    let batches = records / DEFAULT_BATCH_ROWS as u64 / u64::from(CHANNELS) / if setting.quick { 20 } else { 1 };
    let per_batch: u64 = rows::<T>().values.iter().map(T::checksum).sum();
    runtime()?.block_on(async move {
        let text = |error: millstream_cluster::Error| error.to_string();
        let authority = Authority::create(SystemClock.now_ms()).map_err(text)?;
        let pem = authority.issue("any", SystemClock.now_ms(), 1).map_err(text)?;
        let (told, _events) = unbounded_channel();
        let links = links("receiver", &pem, told)?;
        let (elements, mut arrived) = unbounded_channel();
        let mut registrations = Vec::new();
        for index in 0..CHANNELS {
            let (elements, failures) = (elements.clone(), elements.clone());
            let inlet = RemoteInlet {
                channel: channel(index),
                credit: CreditLimit::default(),
                decode: Arc::new(|bytes| Ok(Box::new(Rows::<T>::decode(bytes)?) as Box<dyn Batch>)),
                receive: Box::new(move |element| drop(elements.send(Ok(element)))),
                failed: Box::new(move |error| drop(failures.send(Err(error.to_string())))),
            };
            registrations.push(links.accept(&process("sender"), inlet));
        }
        let certificate = [pem.authority, pem.certificate, pem.key];
        let to = links.local_address().map_err(text)?;
        let sender = start_sender(&Order { to, what: T::NAME.to_owned(), batches, certificate })?;
        let (mut counted, mut sum, mut ended) = (0u64, 0u64, 0);
        let mut started: Option<(Instant, u64)> = None;
        while ended < CHANNELS {
            match arrived.recv().await.ok_or("the channels are gone")?? {
                Element::Batch(Parcel { batch, permit }) => {
                    started.get_or_insert_with(|| (Instant::now(), cpu_ns()));
                    let rows = batch.into_rows::<T>();
                    counted += rows.len() as u64;
                    sum = sum.wrapping_add(rows.values.iter().map(T::checksum).sum());
                    drop(permit);
                }
                Element::EndOfInput => ended += 1,
                Element::Watermark(_) | Element::Idle | Element::Active | Element::Barrier(_) => {}
            }
        }
        let (began, cpu_began_ns) = started.ok_or("nothing came")?;
        let (seconds, cpu_ns) = (began.elapsed().as_secs_f64(), cpu_ns() - cpu_began_ns);
        drop(registrations);
        links.stop("everything came").await;
        let output = sender.wait_with_output().map_err(|error| error.to_string())?;
        let sent_cpu_ns: f64 = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap_or(f64::NAN);
        let mut wire = Vec::new();
        rows::<T>().encode(&mut wire).map_err(|error| error.to_string())?;
        let record_bytes = wire.len() as f64 / DEFAULT_BATCH_ROWS as f64;
        let expected = batches * u64::from(CHANNELS);
        Ok(Measured {
            parallelism: CHANNELS,
            records: counted,
            seconds,
            cpu_ns,
            checkpoints: 0,
            correct: counted == expected * DEFAULT_BATCH_ROWS as u64 && sum == expected.wrapping_mul(per_batch),
            more: vec![
                ("record_bytes".to_owned(), record_bytes),
                ("megabytes_per_s".to_owned(), counted as f64 * record_bytes / seconds / 1e6),
                ("sender_cpu_ns_per_record".to_owned(), sent_cpu_ns / counted as f64),
            ],
        })
    })
}

fn send_as_ordered(order: &str) -> Result<(), String> {
    let order: Order = serde_json::from_str(order).map_err(|error| error.to_string())?;
    match order.what.as_str() {
        Bid::NAME => send::<Bid>(order),
        _ => send::<Record>(order),
    }
}

/// The sending process: prints its CPU nanoseconds.
fn send<T: Sample + Sync>(order: Order) -> Result<(), String> {
    let rows = Arc::new(rows::<T>());
    runtime()?.block_on(async move {
        let [authority, certificate, key] = order.certificate;
        let pem = PemCertificates { authority, certificate, key };
        let (told, mut events) = unbounded_channel();
        let links = links("sender", &pem, told)?;
        links.connect(order.to);
        while !matches!(events.recv().await.ok_or("no events")?, LinkEvent::Up { .. }) {}
        let before_ns = cpu_ns();
        let mut tasks = Vec::new();
        for index in 0..CHANNELS {
            let (links, rows) = (links.clone(), Arc::clone(&rows));
            tasks.push(tokio::spawn(async move { fill(&links, index, order.batches, &rows).await }));
        }
        for task in tasks {
            task.await.map_err(|error| error.to_string())?;
        }
        // The receiver goes when it has everything.
        while !matches!(events.recv().await.ok_or("no events")?, LinkEvent::Down { .. }) {}
        println!("{}", cpu_ns() - before_ns);
        Ok(())
    })
}

/// Sends as an exchange does: as long as there is credit.
async fn fill<T: Sample + Sync>(links: &Links, index: u32, batches: u64, rows: &Arc<Rows<T>>) {
    let failed = Box::new(|error| panic!("{error}"));
    let outlet = RemoteOutlet { channel: channel(index), credit: CreditLimit::default(), failed };
    let send = links.open(&process("receiver"), outlet);
    let wake = Arc::new(Notify::new());
    let woken = Arc::clone(&wake);
    let credit = CreditPool::new(CreditLimit::default(), Waker::new(move || woken.notify_one()));
    for _ in 0..batches {
        while !credit.has_credit() {
            if credit.park() {
                wake.notified().await;
            }
        }
        let permit = credit.take(rows.size_bytes());
        send(Element::Batch(Parcel { batch: Box::new(Repeated(Arc::clone(rows))), permit }));
        tokio::task::yield_now().await;
    }
    send(Element::EndOfInput);
    drop(send);
    tokio::time::sleep(Duration::from_millis(1)).await;
}
