//! Eviction as the tables have it: a hand goes round the buckets, and what was used since it came by is spared once.

use hashbrown::HashTable;

/// Entries that fill a table of half the buckets to three quarters: it must not grow again at once.
pub(super) fn filling_half(buckets: usize) -> usize {
    if buckets <= 8 { 0 } else { buckets / 2 / 8 * 7 / 4 * 3 }
}

/// Evicts so many entries, if one round finds them, and goes on where the hand stopped the last time. `may_go` is asked
/// once for each, takes note that it was, and of what goes.
pub(super) fn evict<T>(
    table: &mut HashTable<T>,
    hand: &mut usize,
    count: usize,
    mut may_go: impl FnMut(&mut T) -> bool,
) -> usize {
    let (buckets, mut evicted) = (table.num_buckets(), 0);
    for _ in 0..buckets {
        if evicted == count {
            break;
        }
        *hand = if *hand + 1 < buckets { *hand + 1 } else { 0 };
        let Ok(mut occupied) = table.get_bucket_entry(*hand) else { continue };
        if may_go(occupied.get_mut()) {
            occupied.remove();
            evicted += 1;
        }
    }
    evicted
}
