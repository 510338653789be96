//! Credit across a link, as absolute totals: the receiver says how many batches of a channel it has processed, ever.
//! A total that is lost, late or doubled does no harm; the next one says it all. Pure but for the atomics.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What a sender has sent and not yet heard of, in order. `P` is the permit that a batch holds.
#[derive(Debug)]
pub(crate) struct Unprocessed<P> {
    permits: VecDeque<P>,
    processed: u64,
}

/// The receiver claims to have processed batches that were never sent.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the receiver says it has processed {claimed} batches of {sent} sent")]
pub(crate) struct ImpossibleCredit {
    pub(crate) claimed: u64,
    pub(crate) sent: u64,
}

impl<P> Default for Unprocessed<P> {
    fn default() -> Self {
        Self { permits: VecDeque::new(), processed: 0 }
    }
}

impl<P> Unprocessed<P> {
    /// A batch is on its way.
    pub(crate) fn sent(&mut self, permit: P) {
        self.permits.push_back(permit);
    }

    /// The permits that a total frees, oldest first: to be dropped outside of locks, they wake the sender.
    pub(crate) fn processed(&mut self, total: u64) -> Result<Vec<P>, ImpossibleCredit> {
        let freed = total.saturating_sub(self.processed);
        let held = self.permits.len() as u64;
        if freed > held {
            return Err(ImpossibleCredit { claimed: total, sent: self.processed + held });
        }
        self.processed = self.processed.max(total);
        Ok(self.permits.drain(..freed as usize).collect())
    }
}

/// What a receiver has processed of one channel. Counted by the subtask, read by the link.
#[derive(Debug, Default)]
pub(crate) struct Processed {
    total: AtomicU64,
    /// The link has been told that there is news.
    announced: AtomicBool,
}

impl Processed {
    /// One more; true when the link has to be told.
    pub(crate) fn add(&self) -> bool {
        self.total.fetch_add(1, Ordering::AcqRel);
        !self.announced.swap(true, Ordering::AcqRel)
    }

    /// The total, to be sent: what comes after it is news again.
    pub(crate) fn take(&self) -> u64 {
        // In this order: a batch counted between the two is announced once more, never forgotten.
        self.announced.store(false, Ordering::SeqCst);
        self.total.load(Ordering::SeqCst)
    }

    /// The total, for the receiver's own bound.
    pub(crate) fn total(&self) -> u64 {
        self.total.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(count: u32) -> Unprocessed<u32> {
        let mut window = Unprocessed::default();
        (0..count).for_each(|permit| window.sent(permit));
        window
    }

    #[test]
    fn a_total_frees_everything_before_it_once_and_in_order() {
        let mut window = sent(5);
        assert_eq!(window.processed(2), Ok(vec![0, 1]));
        assert_eq!(window.processed(2), Ok(vec![]), "doubled");
        assert_eq!(window.processed(1), Ok(vec![]), "late");
        assert_eq!(window.processed(5), Ok(vec![2, 3, 4]));
    }

    #[test]
    fn more_than_was_sent_is_refused_and_frees_nothing() {
        let mut window = sent(3);
        assert_eq!(window.processed(1), Ok(vec![0]));
        assert_eq!(window.processed(4), Err(ImpossibleCredit { claimed: 4, sent: 3 }));
        assert_eq!(window.processed(3), Ok(vec![1, 2]));
    }

    #[test]
    fn whatever_order_totals_arrive_in_every_batch_is_freed_once() {
        // All orders of the totals 1 to 5, each possibly lost: the last one is never lost.
        fn permute(left: &mut Vec<u64>, taken: &mut Vec<u64>, check: &dyn Fn(&[u64])) {
            check(taken);
            for index in 0..left.len() {
                taken.push(left.remove(index));
                permute(left, taken, check);
                left.insert(index, taken.pop().expect("just pushed"));
            }
        }
        permute(&mut (1..=5).collect(), &mut Vec::new(), &|totals| {
            let mut window = sent(5);
            let mut freed = Vec::new();
            for total in totals.iter().chain(&[5]) {
                freed.extend(window.processed(*total).expect("at most five"));
            }
            assert_eq!(freed, [0, 1, 2, 3, 4], "{totals:?}");
        });
    }

    #[test]
    fn news_is_announced_once_until_it_is_taken() {
        let processed = Processed::default();
        assert!(processed.add());
        assert!(!processed.add(), "announced already");
        assert_eq!(processed.take(), 2);
        assert!(processed.add());
        assert_eq!(processed.total(), 3);
    }
}
