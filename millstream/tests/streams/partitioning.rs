//! Which subtask gets which record, in running jobs.

use super::*;

/// Puts the number of its subtask beside every record. Copies of one function are made one after the other, so a
/// counter shared by all copies numbers them.
#[derive(Debug)]
struct Here {
    copies: Arc<AtomicU32>,
    me: u32,
}

impl Here {
    fn new() -> Self {
        Self { copies: Arc::new(AtomicU32::new(0)), me: u32::MAX }
    }
}

impl Clone for Here {
    fn clone(&self) -> Self {
        Self { copies: Arc::clone(&self.copies), me: self.copies.fetch_add(1, Ordering::SeqCst) }
    }
}

impl ProcessFunction for Here {
    type In = u64;
    type Out = (u32, u64);

    fn process(&mut self, n: u64, cx: &mut ProcessContext<'_, Self::Out>) -> Result<(), PortError> {
        cx.emit((self.me, n));
        Ok(())
    }
}

/// Records by receiving subtask, after a partitioning from 2 senders with 1,000 records each to 4 receivers.
fn dealt(partition: impl FnOnce(DataStream<u64>) -> DataStream<u64>) -> Vec<Vec<u64>> {
    let target = Target::<(u32, u64)>::new();
    run(async {
        let env = environment(2);
        let tap = Tap::bounded(2, 1_000);
        let numbers = env.from_source("numbers", tapped(&tap, |split, n| split * 10_000 + n)).uid("numbers");
        partition(numbers)
            .process(Here::new())
            .uid("here")
            .set_parallelism(4)
            .sink_to("out", MemorySink(Arc::clone(&target)))
            .uid("out")
            .set_parallelism(4);
        run_to_end(&env).await;
    });
    let mut by_subtask = BTreeMap::<u32, Vec<u64>>::new();
    for (subtask, n) in target.rows() {
        by_subtask.entry(subtask).or_default().push(n);
    }
    by_subtask.into_values().collect()
}

#[test]
fn rebalance_deals_evenly_to_all() {
    let dealt = dealt(|numbers| numbers.rebalance());
    assert_eq!(dealt.iter().map(Vec::len).collect::<Vec<_>>(), [500; 4]);
    assert!(dealt.iter().all(|rows| rows.iter().filter(|n| **n < 10_000).count() == 250), "of each sender the same");
}

#[test]
fn shuffle_deals_by_chance_about_evenly_to_all() {
    let dealt = dealt(|numbers| numbers.shuffle());
    assert!(dealt.iter().all(|rows| (400..600).contains(&rows.len())), "{:?}", dealt.iter().map(Vec::len));
    let far = dealt.iter().map(|rows| rows.iter().filter(|n| **n >= 10_000).count());
    assert!(far.clone().all(|far| (190..310).contains(&far)), "of each sender: {far:?}");
    let mut all: Vec<u64> = dealt.into_iter().flatten().collect();
    all.sort_unstable();
    assert!(all.into_iter().eq((0..1_000).chain(10_000..11_000)), "each record once");
}

#[test]
fn rescale_deals_evenly_within_the_near_half() {
    let dealt = dealt(|numbers| numbers.rescale());
    assert_eq!(dealt.iter().map(Vec::len).collect::<Vec<_>>(), [500; 4]);
    assert!(dealt.iter().all(|rows| rows.iter().all(|n| *n < 10_000) || rows.iter().all(|n| *n >= 10_000)));
}

#[test]
fn a_forward_edge_between_parallelisms_becomes_a_rebalance() {
    let dealt = dealt(|numbers| numbers.forward());
    assert_eq!(dealt.iter().map(Vec::len).collect::<Vec<_>>(), [500; 4]);
}

#[test]
fn global_sends_all_to_one() {
    let dealt = dealt(|numbers| numbers.global());
    assert_eq!(dealt.iter().map(Vec::len).collect::<Vec<_>>(), [2_000]);
}

#[test]
fn broadcast_sends_all_to_all() {
    let dealt = dealt(|numbers| numbers.broadcast().as_stream().clone());
    let all: BTreeSet<u64> = (0..1_000).chain(10_000..11_000).collect();
    assert_eq!(dealt.len(), 4);
    assert!(dealt.iter().all(|rows| rows.len() == 2_000 && rows.iter().copied().collect::<BTreeSet<_>>() == all));
}

#[test]
fn a_custom_partitioner_chooses_the_subtask() {
    let dealt = dealt(|numbers| numbers.partition_custom(|n, subtasks| (*n % 3) as usize % subtasks));
    assert_eq!(dealt.len(), 3, "the fourth subtask gets nothing");
    assert!(dealt.iter().all(|rows| rows.windows(2).all(|pair| pair[0] % 3 == pair[1] % 3)));
}

#[test]
fn the_records_of_a_key_meet_in_one_subtask_in_the_order_of_their_split() {
    let dealt = dealt(|numbers| numbers.key_by(|n| n % 50).as_stream().clone());
    let mut owner = BTreeMap::new();
    for (subtask, rows) in dealt.iter().enumerate() {
        let mut last = BTreeMap::new();
        for n in rows {
            assert_eq!(*owner.entry(n % 50).or_insert(subtask), subtask, "key {} in two subtasks", n % 50);
            let before = last.insert((n / 10_000, n % 50), *n);
            assert!(before.is_none_or(|before| before < *n), "{n} after {before:?}");
        }
    }
    assert_eq!(owner.len(), 50);
}
