//! The node's materialisation of keyed state, as the actors use it: what a restored operator reads, and when completed
//! checkpoints are folded in. The checkpoint store stays the truth; without a local store everything works, slower.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use millstream_runtime::checkpoint::manifest::SegmentRef;
use millstream_runtime::ids::{CheckpointId, CutNumber, JobId, OlderAttempts, OperatorUid};
use millstream_runtime::key_group::KeyGroup;
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::state::{EntryAddress, StateReader, VisitEntry};
use millstream_runtime::ports::store::BlobStore;
use millstream_runtime::state::cut::StateDeclaration;
use millstream_state::local::{
    FoldOutcome, FoldRequest, Lease, LocalOptions, LocalStore, NodeFolder, Position, StateView, segments_to_fold,
};
use millstream_state::log::{LogPosition, is_ancestor};
use millstream_state::segment::{SegmentContext, SegmentReader};

mod parts;

use parts::{Part, Standing, parts};

/// The local store of one job.
pub struct LocalState {
    store: Arc<LocalStore>,
    job: JobId,
    /// Completed checkpoints that may wait to be folded together.
    lag: u32,
    /// The job has ended: nobody will read what a fold would bring.
    closed: AtomicBool,
}

impl LocalState {
    /// Opens the local store; a damaged one is thrown away, since it can always be loaded anew.
    ///
    /// # Errors
    /// When the folder cannot be used at all.
    pub fn open(node: &Arc<NodeFolder>, job: JobId, lag: u32) -> Result<Self, PortError> {
        let open = || LocalStore::open(node, job, LocalOptions::default());
        let store = open().or_else(|error| {
            tracing::warn!("{error}; it is made anew");
            LocalStore::discard(node, job)?;
            open()
        })?;
        Ok(Self { store: Arc::new(store), job, lag: lag.max(1), closed: AtomicBool::new(false) })
    }

    /// The job has ended: no more folds, and one that is cut short by the end of the process is no loss.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Reads what an operator has in it, once everything that was restored has been folded.
    #[must_use]
    pub fn reader(&self, uid: &OperatorUid) -> Arc<dyn StateReader> {
        let store = Some(Arc::clone(&self.store));
        let parts = vec![RestoredPart { groups: 0..u16::MAX, store, unmerged: Vec::new() }];
        Arc::new(RestoredState { uid: uid.clone(), parts, views: OnceLock::new() })
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Makes the folds of attempts that are over stale, and waits for one that is running.
    ///
    /// # Errors
    /// When a newer attempt has it.
    pub fn lease(&self, older: &OlderAttempts) -> Result<(), PortError> {
        self.store.lease(older).map(drop)
    }

    /// What a key group of an operator has; `None` when that is not a part of the chain, or cannot be told.
    fn standing(
        &self,
        uid: &OperatorUid,
        group: KeyGroup,
        chain: &[SegmentRef],
    ) -> Result<Option<Standing>, PortError> {
        let record = self.store.position(uid, group)?;
        Ok(record.and_then(|record| {
            let next = segments_to_fold(&record, group, chain)?;
            Some(Standing { position: record.position, next })
        }))
    }
}

/// The local stores of a node, by job: each is open once, for as long as the node has something of the job.
pub struct LocalStates {
    /// Owned by whoever runs the node; gone when it has shut down.
    folder: Weak<NodeFolder>,
    open: Mutex<BTreeMap<JobId, Arc<LocalState>>>,
}

impl LocalStates {
    /// Keeps stores in this folder.
    #[must_use]
    pub fn new(folder: Weak<NodeFolder>) -> Self {
        Self { folder, open: Mutex::default() }
    }

    /// The store of a job, opened if need be. Blocks.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub fn of(&self, job: JobId, lag: u32) -> Result<Arc<LocalState>, PortError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = open.get(&job) {
            return Ok(Arc::clone(known));
        }
        let folder = self.folder.upgrade().ok_or_else(|| PortError::retry("the node is shutting down"))?;
        let local = Arc::new(LocalState::open(&folder, job, lag)?);
        open.insert(job, Arc::clone(&local));
        Ok(local)
    }

    /// The node will do nothing more for the job: no more folds, and nothing of it stays open.
    pub fn release(&self, job: JobId) {
        let released = self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&job);
        if let Some(local) = released {
            local.close();
        }
    }
}

/// The chain of segments of a subtask, each opened when something of it is lacking here.
pub struct OpenedChain<'a> {
    blobs: &'a Arc<dyn BlobStore>,
    segments: &'a [SegmentRef],
    opened: RefCell<BTreeMap<usize, Arc<SegmentReader>>>,
}

impl<'a> OpenedChain<'a> {
    /// Nothing is opened yet.
    #[must_use]
    pub fn new(blobs: &'a Arc<dyn BlobStore>, segments: &'a [SegmentRef]) -> Self {
        Self { blobs, segments, opened: RefCell::default() }
    }

    /// Those of a part of the key groups, from one on.
    fn from(&self, first: usize, groups: &Range<u16>) -> Result<Vec<Arc<SegmentReader>>, PortError> {
        let mut opened = self.opened.borrow_mut();
        let mut found = Vec::new();
        for (index, segment) in self.segments.iter().enumerate().skip(first) {
            let SegmentRef { key_groups, .. } = segment;
            if key_groups.start.max(groups.start) >= key_groups.end.min(groups.end) {
                continue;
            }
            let reader = match opened.entry(index) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(vacant) => vacant.insert(Arc::new(SegmentReader::open(self.blobs, segment)?)),
            };
            found.push(Arc::clone(reader));
        }
        Ok(found)
    }
}

/// What a restored operator of one subtask reads: of key groups that stand at an ancestor of what is restored LMDB and what
/// they lack, of others the segments alone; `None` when it has no keyed state.
///
/// # Errors
/// When the store or the local state cannot be read.
pub fn reader(
    local: Option<&LocalState>,
    uid: &OperatorUid,
    declared: &[StateDeclaration],
    chain: &OpenedChain<'_>,
    groups: &Range<u16>,
    restored: CheckpointId,
) -> Result<Option<Arc<dyn StateReader>>, PortError> {
    if declared.is_empty() {
        return Ok(None);
    }
    // Few places, each of which many groups stand at.
    let mut looked_up: Vec<(LogPosition, bool)> = Vec::new();
    let found = parts(groups, |group| {
        let Some(local) = local else { return Ok(None) };
        let Some(standing) = local.standing(uid, group, chain.segments)? else { return Ok(None) };
        let Position { job, log, checkpoint } = &standing.position;
        if *job != local.job || *checkpoint > restored {
            return Ok(None);
        }
        let known = looked_up.iter().find(|(known, _)| known == log).map(|(_, is_ancestor)| *is_ancestor);
        let is_ancestor = match known {
            Some(known) => known,
            None => {
                let is_ancestor = is_ancestor(&**chain.blobs, local.job, log)?;
                looked_up.push((*log, is_ancestor));
                is_ancestor
            }
        };
        Ok(Some(standing).filter(|_| is_ancestor))
    })?;
    let store = local.map(|local| &local.store);
    let mut parts = Vec::new();
    for part in found {
        let unmerged = chain.from(part.lacks_from(), &part.groups)?;
        let store = store.filter(|_| part.standing.is_some()).map(Arc::clone);
        parts.push(RestoredPart { groups: part.groups, store, unmerged });
    }
    Ok(Some(Arc::new(RestoredState { uid: uid.clone(), parts, views: OnceLock::new() })))
}

/// Where neighbouring key groups are read.
#[derive(Clone)]
struct RestoredPart {
    groups: Range<u16>,
    store: Option<Arc<LocalStore>>,
    unmerged: Vec<Arc<SegmentReader>>,
}

/// A reader that becomes views when the program has told how it numbers its states.
struct RestoredState {
    uid: OperatorUid,
    parts: Vec<RestoredPart>,
    /// One for each part.
    views: OnceLock<Vec<StateView>>,
}

impl RestoredState {
    /// The number of the part that a key group belongs to.
    fn part_of(&self, group: KeyGroup) -> usize {
        let part = self.parts.partition_point(|part| part.groups.end <= group.0);
        assert!(part < self.parts.len(), "an operator reads key groups of its subtask, not {}", group.0);
        part
    }

    fn view(&self, part: usize) -> &StateView {
        &self.views.get().expect("states are declared before they are read")[part]
    }
}

impl StateReader for RestoredState {
    fn declare(&self, declarations: &[StateDeclaration]) {
        let view =
            |RestoredPart { store, unmerged, .. }| StateView::new(self.uid.clone(), declarations, store, unmerged);
        self.views.get_or_init(|| self.parts.iter().cloned().map(view).collect());
    }

    fn fetch(&self, addresses: &[EntryAddress]) -> Result<Vec<Option<Vec<u8>>>, PortError> {
        if self.parts.len() == 1 {
            return self.view(0).fetch(addresses);
        }
        let mut values = vec![None; addresses.len()];
        let mut by_part: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (index, address) in addresses.iter().enumerate() {
            by_part.entry(self.part_of(address.group)).or_default().push(index);
        }
        for (part, indexes) in by_part {
            let asked: Vec<EntryAddress> = indexes.iter().map(|index| addresses[*index].clone()).collect();
            for (index, value) in indexes.into_iter().zip(self.view(part).fetch(&asked)?) {
                values[index] = value;
            }
        }
        Ok(values)
    }

    fn scan(&self, prefixes: &[EntryAddress], visit: VisitEntry<'_>) -> Result<(), PortError> {
        prefixes
            .chunk_by(|a, b| self.part_of(a.group) == self.part_of(b.group))
            .try_for_each(|prefixes| self.view(self.part_of(prefixes[0].group)).scan(prefixes, visit))
    }
}

/// What became of a fold.
pub struct Folded {
    /// The checkpoint that was to be folded.
    pub checkpoint: CheckpointId,
    /// The newest cut that the local store has now; `None` when it did not take it.
    pub cut: Option<CutNumber>,
}

/// Work for the blocking executor.
pub type FoldWork = Box<dyn FnOnce() -> Folded + Send>;

/// Folds the completed checkpoints of one subtask, one fold at a time, several checkpoints together.
pub struct Folder {
    local: Arc<LocalState>,
    context: SegmentContext,
    blobs: Arc<dyn BlobStore>,
    /// The chain that each acknowledged checkpoint names.
    acked: BTreeMap<CheckpointId, Vec<SegmentRef>>,
    completed: u32,
    running: bool,
    folded: Option<CutNumber>,
}

impl Folder {
    /// Folds into `local` what the subtask of `context` has made durable.
    #[must_use]
    pub fn new(local: Arc<LocalState>, context: SegmentContext, blobs: Arc<dyn BlobStore>) -> Self {
        Self { local, context, blobs, acked: BTreeMap::new(), completed: 0, running: false, folded: None }
    }

    /// Where it folds to.
    #[must_use]
    pub fn local(&self) -> &Arc<LocalState> {
        &self.local
    }

    /// The newest own cut that the local store has.
    #[must_use]
    pub fn folded_cut(&self) -> Option<CutNumber> {
        self.folded
    }

    /// A checkpoint was acknowledged with this chain.
    pub fn acked(&mut self, checkpoint: CheckpointId, chain: Vec<SegmentRef>) {
        self.acked.insert(checkpoint, chain);
    }

    /// A checkpoint is complete; answers work when enough have gathered, or when that is urgent.
    pub fn complete(&mut self, checkpoint: CheckpointId, log: LogPosition, urgent: bool) -> Option<FoldWork> {
        self.completed += 1;
        let enough = urgent || self.completed >= self.local.lag;
        if self.running || !enough || self.local.is_closed() {
            return None;
        }
        let chain = self.acked.remove(&checkpoint)?;
        self.acked = self.acked.split_off(&checkpoint);
        self.completed = 0;
        self.running = true;
        let (local, context, blobs) = (Arc::clone(&self.local), self.context.clone(), Arc::clone(&self.blobs));
        Some(Box::new(move || match fold(&local, &context, &blobs, &chain, checkpoint, log) {
            Ok(cut) => Folded { checkpoint, cut },
            Err(_) if local.is_closed() => Folded { checkpoint, cut: None },
            Err(error) => {
                tracing::warn!("the local state falls behind, a restart will read the checkpoint store: {error}");
                Folded { checkpoint, cut: None }
            }
        }))
    }

    /// Takes what became of a fold; answers the cut that is new in the local store.
    pub fn folded(&mut self, folded: &Folded) -> Option<CutNumber> {
        self.running = false;
        self.folded = folded.cut.or(self.folded);
        folded.cut
    }
}

fn fold(
    local: &LocalState,
    context: &SegmentContext,
    blobs: &Arc<dyn BlobStore>,
    chain: &[SegmentRef],
    checkpoint: CheckpointId,
    log: LogPosition,
) -> Result<Option<CutNumber>, PortError> {
    let Some(lease) = local.store.leased(context.attempt) else { return Ok(None) };
    let opened = OpenedChain::new(blobs, chain);
    let newest = chain.last().map(|segment| segment.cuts.1);
    // Every cut declares all keyed state of the operators that made it.
    let declaring = opened.from(chain.len().saturating_sub(1), &(0..u16::MAX))?;
    let declaring = declaring.iter().flat_map(|newest| newest.operators().map(move |uid| (newest, uid)));
    let operators: Vec<OperatorUid> =
        declaring.filter(|(newest, uid)| !newest.declarations(uid).is_empty()).map(|(_, uid)| uid.clone()).collect();
    if operators.is_empty() {
        return Ok(newest);
    }
    let common = |group| -> Result<Option<Standing>, PortError> {
        let mut standing = operators.iter().map(|uid| local.standing(uid, group, chain));
        let first = standing.next().transpose()?.flatten();
        for other in standing {
            if other? != first {
                return Ok(None);
            }
        }
        Ok(first)
    };
    let to = Position { job: local.job, log, checkpoint };
    for part in parts(&context.key_groups, common)? {
        let outcome = fold_part(local, &lease, &operators, &opened, (&part, &to))?;
        if outcome != FoldOutcome::Folded {
            return Ok(None);
        }
    }
    Ok(newest)
}

/// Folds what key groups lack that stand at the same place. Each part is whole on its own, whatever becomes of the others.
fn fold_part(
    local: &LocalState,
    lease: &Lease,
    operators: &[OperatorUid],
    opened: &OpenedChain<'_>,
    (part, to): (&Part, &Position),
) -> Result<FoldOutcome, PortError> {
    let groups = &part.groups;
    let lacking = opened.from(part.lacks_from(), groups)?;
    let request = FoldRequest { operators, groups, segments: &lacking, to };
    let outcome = match &part.standing {
        Some(standing) => local.store.fold(lease, Some(&standing.position), &request)?,
        None => local.store.reset(lease, &request)?,
    };
    if outcome != FoldOutcome::Damaged {
        return Ok(outcome);
    }
    tracing::warn!("a part of the local state is damaged; it is loaded anew");
    let whole = opened.from(0, groups)?;
    local.store.reset(lease, &FoldRequest { segments: &whole, ..request })
}
