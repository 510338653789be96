//! What of an operator's keyed state is in memory: entries leave when the process holds more than it may and the local store
//! has their newest version; what is small enough comes back in the background, key group by key group.
//!
//! The local store has everything up to a cut, which is told by [`folded`](KeyedBackend::folded). Entries are evicted and tombstones
//! forgotten only while nothing is on its way from the store: it could be older than what was evicted.

use std::ops::Range;
use std::sync::Arc;

use super::backend::{KeyedBackend, VisitStates};
use crate::chain::ChainContext;
use crate::ids::CutNumber;
use crate::key::Key;
use crate::key_group::KeyGroup;
use crate::ports::state::StateReader;
use crate::state::memory::Share;

/// What a batch adds to the state at most, about: memory is looked at again before that could be too much.
const BATCH_BYTES: usize = 1 << 20;
/// Batches after which memory is looked at in any case.
const LOOK_EVERY: usize = 1_024;
/// Above so many sixteenths of the limit deletions are remembered, so that eviction is possible when it is needed.
const REMEMBER: usize = 8;
/// Above so many sixteenths of the limit nothing is read in the background after a restart.
const SCANNED: usize = 14;
/// Above so many sixteenths of the limit nothing that was evicted comes back by itself.
const RESCANNED: usize = 12;

/// What serves misses.
struct Store {
    reader: Arc<dyn StateReader>,
    /// It has all changes up to the freeze with this number; 0 is what was restored.
    durable: u32,
    /// It reads the segments that were restored, which have to stay meanwhile.
    restored: bool,
}

/// What is in memory, and what serves the rest.
pub(super) struct Residency {
    store: Option<Store>,
    /// Some key group is not wholly in memory.
    pub(super) partial: bool,
    scanning: bool,
    /// The key group that is scanned or evicted next.
    scan_next: u16,
    evict_next: u16,
    /// Freezes so far, and the cut before the first.
    freezes: u32,
    first_cut: CutNumber,
    share: Share,
    /// Batches until memory is looked at again.
    look_in: usize,
    remembering: bool,
    /// Something was evicted that may have been fetched for what is processed next.
    evicted: bool,
    /// Everything the store had by this freeze was evicted, and so much was left.
    stuck: Option<(u32, usize)>,
}

impl Residency {
    pub(super) fn new(reader: Option<Arc<dyn StateReader>>, cx: &ChainContext) -> Self {
        let first = cx.task.key_groups.start;
        Self {
            partial: reader.is_some(),
            store: reader.map(|reader| Store { reader, durable: 0, restored: true }),
            scanning: false,
            scan_next: first,
            evict_next: first,
            freezes: 0,
            first_cut: CutNumber(0),
            share: Share::of(&cx.task.memory),
            look_in: 0,
            remembering: false,
            evicted: false,
            stuck: None,
        }
    }

    pub(super) fn reader(&self) -> Option<Arc<dyn StateReader>> {
        self.store.as_ref().map(|store| Arc::clone(&store.reader))
    }

    /// A cut has been frozen: changes until now are in it.
    pub(super) fn frozen(&mut self, cut: CutNumber) {
        self.freezes += 1;
        if self.freezes == 1 {
            self.first_cut = cut;
        }
    }

    /// The freeze that a cut was made of; 0 for those of earlier attempts.
    fn freeze_of(&self, cut: CutNumber) -> u32 {
        u32::try_from((cut.0 + 1).saturating_sub(self.first_cut.0)).unwrap_or(u32::MAX).min(self.freezes)
    }
}

/// The key group behind one, round and round.
fn next_of(group: KeyGroup, groups: &Range<u16>) -> u16 {
    if group.0 + 1 < groups.end { group.0 + 1 } else { groups.start }
}

impl<K: Key> KeyedBackend<K> {
    /// Whether segments that were restored are still read.
    #[must_use]
    pub fn is_restoring(&self) -> bool {
        self.residency.store.as_ref().is_some_and(|store| store.restored)
    }

    /// Looks at memory when it is time, and evicts what is too much. Called between two batches.
    pub fn relieve(&mut self, visit: VisitStates<'_, K>, cx: &mut ChainContext) {
        if !self.residency.share.is_limited() {
            return;
        }
        self.residency.look_in = self.residency.look_in.saturating_sub(1);
        if self.residency.look_in == 0 {
            self.look(visit, cx);
        }
    }

    /// Whether something was evicted since this was asked last: what was fetched may be gone.
    pub fn take_evicted(&mut self) -> bool {
        std::mem::take(&mut self.residency.evicted)
    }

    /// The local store has everything up to this cut, and `reader` serves it.
    pub fn folded(
        &mut self,
        cut: CutNumber,
        reader: Arc<dyn StateReader>,
        visit: VisitStates<'_, K>,
        cx: &mut ChainContext,
    ) {
        reader.declare(&self.declarations);
        let durable = self.residency.freeze_of(cut);
        self.residency.store = Some(Store { reader, durable, restored: false });
        if !self.residency.share.is_limited() && !self.residency.partial {
            return;
        }
        if !self.is_reading() {
            visit(&mut |state| state.backing().entries().forget(durable));
        }
        self.look(visit, cx);
        if self.residency.partial && !self.residency.share.is_above(RESCANNED) {
            self.scan_on(visit, cx);
        }
    }

    /// Whether something is on its way from the store.
    fn is_reading(&self) -> bool {
        self.fetching || self.residency.scanning || self.is_waiting()
    }

    /// Finds out what is held, and gives up what is too much.
    fn look(&mut self, visit: VisitStates<'_, K>, cx: &mut ChainContext) {
        let mut held = 0;
        self.each(visit, &mut |_, state| held += state.entries().memory());
        self.residency.share.hold(held);
        if !self.residency.remembering && self.residency.share.is_above(REMEMBER) {
            self.residency.remembering = true;
            visit(&mut |state| state.backing().entries().remember());
        }
        let mut freed = 0;
        let excess = self.residency.share.excess();
        if excess > 0 {
            freed = self.evict(excess, visit, cx);
            self.residency.share.hold(held.saturating_sub(freed));
        }
        cx.counters.state_bytes = self.residency.share.held_bytes() as u64;
        cx.counters.memory_short = freed < excess;
        self.residency.look_in = (self.residency.share.fair_headroom() / BATCH_BYTES).clamp(1, LOOK_EVERY);
    }

    /// Evicts about so many bytes; answers how many.
    fn evict(&mut self, excess: usize, visit: VisitStates<'_, K>, cx: &ChainContext) -> usize {
        let Some(durable) = self.residency.store.as_ref().map(|store| store.durable) else { return 0 };
        let held = self.residency.share.held_bytes();
        let as_before = |(tried, left): (u32, usize)| tried == durable && held < left + left / 16;
        if self.is_reading() || self.residency.stuck.is_some_and(as_before) {
            return 0;
        }
        let groups = cx.task.key_groups.clone();
        let (mut freed, mut partial) = (0, self.residency.partial);
        // What has been used is spared in the first round.
        for _ in 0..groups.len() * 2 {
            let group = KeyGroup(self.residency.evict_next);
            self.residency.evict_next = next_of(group, &groups);
            visit(&mut |state| {
                let entries = state.backing().entries();
                freed += entries.evict(group, durable);
                partial |= !entries.is_resident(group);
            });
            if freed >= excess {
                break;
            }
        }
        self.residency.partial = partial;
        self.residency.evicted |= freed > 0;
        self.residency.stuck = (freed < excess).then_some((durable, held.saturating_sub(freed)));
        freed
    }

    /// Scans the next key group that is not resident in the background, if there is room; when there is none left, what was
    /// restored is no longer needed.
    pub(super) fn scan_on(&mut self, visit: VisitStates<'_, K>, cx: &mut ChainContext) {
        let Some(reader) = self.residency.reader() else { return };
        if self.residency.scanning {
            return;
        }
        let groups = cx.task.key_groups.clone();
        for _ in groups.clone() {
            let group = KeyGroup(self.residency.scan_next);
            self.residency.scan_next = next_of(group, &groups);
            let mut resident = true;
            visit(&mut |state| resident &= state.backing().entries().is_resident(group));
            if resident {
                continue;
            }
            if !self.residency.share.is_above(SCANNED) {
                self.residency.scanning = true;
                self.start_scan(group, self.residency.share.headroom() / 2, reader, cx);
            }
            return;
        }
        self.residency.partial = false;
        if self.is_restoring() {
            self.residency.store = None;
        }
    }

    /// A key group has been loaded, if there was room for it.
    pub(super) fn scanned(&mut self, group: KeyGroup, fits: bool, visit: VisitStates<'_, K>, cx: &mut ChainContext) {
        self.residency.scanning = false;
        if !fits {
            return;
        }
        visit(&mut |state| state.backing().entries().finish_restore(group));
        self.residency.remembering = false;
        if self.residency.share.is_limited() {
            self.look(visit, cx);
            if self.residency.evicted {
                // There is no room for more: it would push out what has just come.
                return;
            }
        }
        self.scan_on(visit, cx);
    }
}
