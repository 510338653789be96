//! What waits to be written to a link's control stream: messages in order, and credit, of which only the newest total
//! of each channel matters. Filled from anywhere, emptied by the link's writer.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use millstream_runtime::credit::ReturnCredit;
use tokio::sync::Notify;

use crate::credit::Processed;
use crate::wire::envelope::Envelope;

/// Bounds: messages by `max_bytes`, credit by one entry for each channel.
#[derive(Debug)]
pub(crate) struct Outbox {
    waiting: Mutex<Waiting>,
    filled: Notify,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<Bytes>,
    bytes: usize,
    /// Streams whose total has changed: each is here at most once.
    credit: Vec<(u64, Arc<Processed>)>,
    #[cfg(test)]
    forged: Vec<u8>,
}

impl Outbox {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { waiting: Mutex::default(), filled: Notify::new(), max_bytes }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a control message; false when too much waits already.
    pub(crate) fn message(&self, message: Bytes) -> bool {
        let mut waiting = self.lock();
        if waiting.bytes + message.len() > self.max_bytes {
            return false;
        }
        waiting.bytes += message.len();
        waiting.messages.push_back(message);
        drop(waiting);
        self.filled.notify_one();
        true
    }

    /// Writes bytes that no honest node would.
    #[cfg(test)]
    pub(crate) fn forge(&self, bytes: Vec<u8>) {
        self.lock().forged.extend(bytes);
        self.filled.notify_one();
    }

    fn credit(&self, stream: u64, processed: Arc<Processed>) {
        self.lock().credit.push((stream, processed));
        self.filled.notify_one();
    }

    /// Returns when there is something.
    pub(crate) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Everything that waits, in its wire form.
    pub(crate) fn take(&self, out: &mut Vec<u8>) {
        let (messages, credit) = {
            let mut waiting = self.lock();
            waiting.bytes = 0;
            #[cfg(test)]
            out.append(&mut waiting.forged);
            (std::mem::take(&mut waiting.messages), std::mem::take(&mut waiting.credit))
        };
        if !credit.is_empty() {
            let totals = credit.iter().map(|(stream, processed)| (*stream, processed.take())).collect();
            Envelope::Credit(totals).encode(out);
        }
        messages.into_iter().for_each(|message| Envelope::Control(message).encode(out));
    }
}

/// Where the permits of batches from one stream go back to.
pub(crate) struct ReceivedCredit {
    pub(crate) stream: u64,
    pub(crate) processed: Arc<Processed>,
    pub(crate) outbox: Arc<Outbox>,
}

impl ReturnCredit for ReceivedCredit {
    fn processed(&self, _bytes: i64) {
        if self.processed.add() {
            self.outbox.credit(self.stream, Arc::clone(&self.processed));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::envelope::EnvelopeReader;
    use millstream_runtime::credit::Permit;

    fn taken(outbox: &Outbox) -> Vec<Envelope> {
        let mut bytes = Vec::new();
        outbox.take(&mut bytes);
        let mut reader = EnvelopeReader::new(1 << 10);
        reader.feed(&bytes);
        std::iter::from_fn(|| reader.next().expect("well formed")).collect()
    }

    #[test]
    fn credit_is_coalesced_into_the_newest_total_and_messages_keep_their_order() {
        let outbox = Arc::new(Outbox::new(1 << 10));
        let processed = Arc::<Processed>::default();
        let credit = Arc::new(ReceivedCredit { stream: 3, processed, outbox: Arc::clone(&outbox) });
        let origin = || Arc::<ReceivedCredit>::clone(&credit);
        for _ in 0..5 {
            drop(Permit::received(origin(), 100));
        }
        assert!(outbox.message(Bytes::from_static(b"one")) && outbox.message(Bytes::from_static(b"two")));
        let control = |text: &'static str| Envelope::Control(Bytes::from_static(text.as_bytes()));
        assert_eq!(taken(&outbox), [Envelope::Credit(vec![(3, 5)]), control("one"), control("two")]);
        drop(Permit::received(origin(), 100));
        assert_eq!(taken(&outbox), [Envelope::Credit(vec![(3, 6)])]);
        assert_eq!(taken(&outbox), []);
    }

    #[test]
    fn messages_are_bounded_by_bytes() {
        let outbox = Outbox::new(10);
        assert!(outbox.message(Bytes::from_static(b"12345678")));
        assert!(!outbox.message(Bytes::from_static(b"123")));
        assert!(outbox.message(Bytes::from_static(b"12")));
        taken(&outbox);
        assert!(outbox.message(Bytes::from_static(b"123")));
    }
}
