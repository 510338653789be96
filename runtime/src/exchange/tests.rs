//! An exchange under lack of credit: nothing is lost, nothing overtakes, and what a flush leaves is announced.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use super::partitioner::Single;
use super::*;
use crate::chain::context::TaskInfo;
use crate::credit::CreditLimit;
use crate::ids::{AttemptId, JobId, SubtaskIndex};
use crate::ports::{Blocking, BlockingWork, Clock, Waker};

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
        subtask: SubtaskIndex(0),
        parallelism: 1,
        max_parallelism: 1,
        key_groups: 0..1,
        watermark_floor: Vec::new(),
        batch_rows: 4,
        blocking: Arc::new(Inline),
        clock: Arc::new(Inline),
        waker: Waker::new(|| {}),
        wake_after: Arc::new(|_| {}),
    })
}

type Sent = Arc<Mutex<Vec<Element<Parcel>>>>;

/// An exchange over one channel with one credit; what it sent; how often it was woken.
fn exchange() -> (Exchange<u64, Single>, Sent, Arc<AtomicU32>) {
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
    (Exchange::new(vec![outlet], Single(0), 4), sent, woken)
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
    let (mut exchange, sent, woken) = exchange();
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
    let (mut exchange, sent, _) = exchange();
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
