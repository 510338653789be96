//! An exchange under lack of credit: nothing is lost, nothing overtakes, and what a flush leaves is announced.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use super::partitioner::Single;
use super::*;
use crate::chain::context::TaskInfo;
use crate::credit::CreditLimit;
use crate::ids::{AttemptId, JobId, SubtaskIndex};
use crate::ports::{Blocking, BlockingWork, Clock, Waker};
use crate::state::memory::StateMemory;

struct Inline;

impl Blocking for Inline {
    fn run(&self, work: BlockingWork) {
        work();
    }
}

impl Clock for Inline {
    fn now_ms(&self) -> Timestamp {
        0
    }
}

fn context() -> ChainContext {
    ChainContext::new(TaskInfo {
        job: JobId::from_name("test"),
        task_name: "test".to_owned(),
        attempt: AttemptId::default(),
        beside: Arc::default(),
        is_first: true,
        subtask: SubtaskIndex(0),
        parallelism: 1,
        max_parallelism: 1,
        key_groups: 0..1,
        watermark_floor: Vec::new(),
        batch_rows: 4,
        batch_bytes: 1 << 20,
        memory: StateMemory::new(None),
        blocking: Arc::new(Inline),
        clock: Arc::new(Inline),
        waker: Waker::new(|| {}),
        wake_after: Arc::new(|_| {}),
    })
}

type Sent = Arc<Mutex<Vec<Element<Parcel>>>>;

const FOUR_ROWS: BatchLimit = BatchLimit { rows: 4, bytes: 1 << 20 };

/// An exchange over one channel with one credit; what it sent; how often it was woken.
fn exchange<T: Data>(limit: BatchLimit) -> (Exchange<T, Single>, Sent, Arc<AtomicU32>) {
    let woken = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&woken);
    let waker = Waker::new(move || {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    let sent: Sent = Arc::default();
    let sink = Arc::clone(&sent);
    let outlet = Outlet {
        credit: CreditPool::new(CreditLimit { batches: 1, bytes: 1 << 20 }, waker),
        send: Box::new(move |element| sink.lock().expect("not poisoned").push(element)),
    };
    (Exchange::new(vec![outlet], Single(0), limit), sent, woken)
}

fn rows(sent: &Sent) -> Vec<u64> {
    let taken: Vec<_> = sent.lock().expect("not poisoned").drain(..).collect();
    taken
        .into_iter()
        .flat_map(|element| match element {
            Element::Batch(parcel) => parcel.batch.into_rows::<u64>().values,
            _ => Vec::new(),
        })
        .collect()
}

#[test]
fn what_a_flush_leaves_for_lack_of_credit_goes_after_the_wake_up() {
    let (mut exchange, sent, woken) = exchange::<u64>(FOUR_ROWS);
    let mut cx = context();
    assert_eq!(exchange.push(Rows::untimed(vec![1, 2, 3, 4]), &mut cx).expect("no user code"), Flow::Blocked);
    assert_eq!(exchange.push(Rows::untimed(vec![5]), &mut cx).expect("no user code"), Flow::Blocked);
    assert_eq!(exchange.flush(&mut cx).expect("no user code"), Flow::Blocked, "a row is left");
    assert_eq!(rows(&sent), [1, 2, 3, 4], "taking the parcel returns its credit");
    assert_eq!(woken.load(Ordering::SeqCst), 1);
    assert_eq!(exchange.flush(&mut cx).expect("no user code"), Flow::Ready);
    assert_eq!(rows(&sent), [5]);
}

#[test]
fn a_watermark_waits_for_the_rows_before_it_and_only_the_last_is_sent() {
    let (mut exchange, sent, _) = exchange::<u64>(FOUR_ROWS);
    let mut cx = context();
    let _flow = exchange.push(Rows { values: vec![1], timestamps: vec![10] }, &mut cx).expect("no user code");
    for watermark in [3, 5, 9] {
        let _flow = exchange.watermark(watermark, &mut cx).expect("no user code");
    }
    assert!(sent.lock().expect("not poisoned").is_empty());
    let _flow = exchange.flush(&mut cx).expect("no user code");
    let sent = sent.lock().expect("not poisoned");
    assert!(matches!(sent[0], Element::Batch(_)) && matches!(sent[1], Element::Watermark(9)) && sent.len() == 2);
}

/// Lengths of the batches sent.
fn batch_lengths(sent: &Sent) -> Vec<usize> {
    let sent = sent.lock().expect("not poisoned");
    let length = |element: &Element<Parcel>| match element {
        Element::Batch(parcel) => Some(parcel.batch.len()),
        _ => None,
    };
    sent.iter().filter_map(length).collect()
}

#[test]
fn rows_of_known_size_are_sent_when_their_bytes_fill_a_batch() {
    let (mut exchange, sent, _) = exchange::<[u64; 16]>(BatchLimit { rows: 1_000, bytes: 512 });
    let mut cx = context();
    for _ in 0..9 {
        let _flow = exchange.push(Rows::untimed(vec![[0; 16]]), &mut cx).expect("no user code");
    }
    assert_eq!(batch_lengths(&sent), [4, 4], "four rows of 128 bytes each, the ninth waits");
}

#[test]
fn rows_that_own_memory_are_sent_when_what_they_own_fills_a_batch() {
    let limit = BatchLimit { rows: 1_000, bytes: 10_000 };
    let (mut exchange, sent, _) = exchange::<String>(limit);
    let mut cx = context();
    for _ in 0..300 {
        let _flow = exchange.push(Rows::untimed(vec!["x".repeat(100)]), &mut cx).expect("no user code");
    }
    // Weighed are rows 1, 17, 33, ...: the seventh of them reaches the limit.
    assert_eq!(batch_lengths(&sent), [97, 97, 97]);
    let _flow = exchange.flush(&mut cx).expect("no user code");
    assert_eq!(cx.counters.records_out, 300 - 9, "nine wait for credit");
    assert!((29_000..31_000).contains(&cx.counters.bytes_out), "{}", cx.counters.bytes_out);
}

#[test]
fn a_whole_batch_above_the_limit_is_cut() {
    let (mut exchange, sent, _) = exchange::<[u64; 16]>(BatchLimit { rows: 1_000, bytes: 1_024 });
    let mut cx = context();
    let _flow = exchange.push(Rows::untimed(vec![[0; 16]; 20]), &mut cx).expect("no user code");
    assert_eq!(batch_lengths(&sent), [8, 8]);
}
