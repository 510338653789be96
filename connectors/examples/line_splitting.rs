//! Measures how fast the file source cuts files into lines and hands them over, with a format that only counts.
//! `cargo run --release -p millstream-connectors --example line_splitting [MEGABYTES] [LINE_BYTES]`
#![allow(clippy::disallowed_methods, reason = "measures real time on real threads")]

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use millstream_connectors::file::source::{FileSource, Line, LineFormat};
use millstream_runtime::ids::SubtaskIndex;
use millstream_runtime::ports::source::{Polled, ReaderContext, Source, SplitIndex, SplitProgress};
use millstream_runtime::ports::{Blocking, BlockingWork, Clock, Waker};
use millstream_runtime::time::{MIN_TIMESTAMP, Timestamp};

/// Counts lines and bytes in the split's state; a row per line of 8 bytes.
#[derive(Clone)]
struct Count;

impl LineFormat for Count {
    type Record = u64;
    type SplitState = u64;
    #[inline]
    fn decode(&self, state: &mut u64, line: Line<'_>, out: &mut Vec<u64>) {
        *state += line.bytes.len() as u64;
        out.push(line.bytes.len() as u64 ^ u64::from(line.bytes[0]));
    }
}

struct OneThread(mpsc::Sender<BlockingWork>);

impl Blocking for OneThread {
    fn run(&self, work: BlockingWork) {
        self.0.send(work).expect("the thread lives as long as the process");
    }
}

struct NoClock;

impl Clock for NoClock {
    fn now_ms(&self) -> Timestamp {
        0
    }
}

struct Level;

impl SplitProgress for Level {
    fn watermark(&self, _split: SplitIndex) -> Timestamp {
        MIN_TIMESTAMP
    }
}

fn read(source: &FileSource<u64, Count>) -> Result<(u64, Duration), Box<dyn Error>> {
    let (work, works) = mpsc::channel::<BlockingWork>();
    thread::spawn(move || works.into_iter().for_each(|work| work()));
    let (wake, wakes) = mpsc::channel();
    let wake = Mutex::new(wake);
    let context = ReaderContext {
        subtask: SubtaskIndex(0),
        parallelism: 1,
        blocking: Arc::new(OneThread(work)),
        waker: Waker::new(move || {
            // Nobody waits any more when the reader is done.
            let _ = wake.lock().map(|wake| wake.send(()));
        }),
        wake_after: Arc::new(|_| {}),
        clock: Arc::new(NoClock),
    };
    let mut reader = source.reader(context)?;
    reader.add_splits(source.enumerator(None)?.discover()?, MIN_TIMESTAMP)?;
    reader.no_more_splits();
    let (mut lines, mut rows) = (0u64, Vec::new());
    let start = Instant::now();
    loop {
        rows.clear();
        match reader.poll(&Level, 1_024, &mut rows)? {
            Polled::Rows(_) => lines += rows.len() as u64,
            Polled::Waiting => wakes.recv()?,
            Polled::Finished(_) | Polled::Idle(_) => {}
            Polled::EndOfInput => return Ok((lines, start.elapsed())),
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<usize>());
    let megabytes = arguments.next().transpose()?.unwrap_or(1_000);
    let line_bytes = arguments.next().transpose()?.unwrap_or(190).max(2);
    let folder = tempfile::tempdir()?;
    let mut line = vec![b'x'; line_bytes];
    line[line_bytes - 1] = b'\n';
    let lines = megabytes * 1_000_000 / line_bytes;
    let mut plain = BufWriter::new(File::create(folder.path().join("a.jsonl"))?);
    (0..lines).try_for_each(|_| plain.write_all(&line))?;
    plain.into_inner()?.sync_all()?;
    let source = FileSource::new(folder.path(), Count);
    for run in 1..=5 {
        let (seen, took) = read(&source)?;
        assert_eq!(seen, lines as u64, "every line once");
        let gigabytes = (lines * line_bytes) as f64 / 1e9 / took.as_secs_f64();
        let millions = seen as f64 / 1e6 / took.as_secs_f64();
        println!("run {run}: {gigabytes:.2} GB/s, {millions:.1} M lines/s of {line_bytes} bytes");
    }
    Ok(())
}
