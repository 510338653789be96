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
use millstream_runtime::state::cut::{StateDeclaration, check_stored};
use millstream_state::local::{
    FoldOutcome, FoldRequest, GroupRecord, LocalOptions, LocalStore, NodeFolder, Position, StateView, segments_to_fold,
};
use millstream_state::log::{LogPosition, is_ancestor};
use millstream_state::segment::{SegmentContext, SegmentReader};

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
        let parts = (Some(Arc::clone(&self.store)), Vec::new());
        Arc::new(RestoredState { uid: uid.clone(), stored: Vec::new(), parts, view: OnceLock::new() })
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

    /// The record that all key groups of an operator stand at, and the first segment of the chain they lack.
    fn standing(
        &self,
        uid: &OperatorUid,
        groups: &Range<u16>,
        chain: &[SegmentRef],
    ) -> Result<Option<(GroupRecord, usize)>, PortError> {
        let mut common: Option<(GroupRecord, usize)> = None;
        for group in groups.clone().map(KeyGroup) {
            let Some(record) = self.store.position(uid, group)? else { return Ok(None) };
            let Some(next) = segments_to_fold(&record, group, chain) else { return Ok(None) };
            match &common {
                Some((known, at)) if known.position != record.position || *at != next => return Ok(None),
                Some(_) => {}
                None => common = Some((record, next)),
            }
        }
        Ok(common)
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

    fn from(&self, first: usize) -> Result<Vec<Arc<SegmentReader>>, PortError> {
        let mut opened = self.opened.borrow_mut();
        for (index, segment) in self.segments.iter().enumerate().skip(first) {
            if let Entry::Vacant(vacant) = opened.entry(index) {
                vacant.insert(Arc::new(SegmentReader::open(self.blobs, segment)?));
            }
        }
        Ok(opened.range(first..).map(|(_, reader)| Arc::clone(reader)).collect())
    }
}

/// What a restored operator of one subtask reads: over LMDB where it stands at an ancestor of what is restored, else over
/// the segments alone; `None` when it has no keyed state.
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
    let (mut store, mut lacking) = (None, 0);
    if let Some(local) = local
        && let Some((record, next)) = local.standing(uid, groups, chain.segments)?
        && record.position.job == local.job
        && record.position.checkpoint <= restored
        && is_ancestor(&**chain.blobs, local.job, &record.position.log)?
    {
        (store, lacking) = (Some(Arc::clone(&local.store)), next);
    }
    let (uid, stored, unmerged) = (uid.clone(), declared.to_vec(), chain.from(lacking)?);
    Ok(Some(Arc::new(RestoredState { uid, stored, parts: (store, unmerged), view: OnceLock::new() })))
}

/// A reader that becomes a view when the program has told how it numbers its states.
struct RestoredState {
    uid: OperatorUid,
    /// What the segments declare.
    stored: Vec<StateDeclaration>,
    parts: (Option<Arc<LocalStore>>, Vec<Arc<SegmentReader>>),
    view: OnceLock<StateView>,
}

impl RestoredState {
    fn view(&self) -> &StateView {
        self.view.get().expect("states are declared before they are read")
    }
}

impl StateReader for RestoredState {
    fn declare(&self, declarations: &[StateDeclaration]) -> Result<(), PortError> {
        check_stored(declarations, &self.stored).map_err(|error| PortError {
            message: format!("operator '{}': {}", self.uid, error.message),
            kind: error.kind,
        })?;
        let (store, unmerged) = self.parts.clone();
        self.view.get_or_init(|| StateView::new(self.uid.clone(), declarations, store, unmerged));
        Ok(())
    }

    fn fetch(&self, addresses: &[EntryAddress]) -> Result<Vec<Option<Vec<u8>>>, PortError> {
        self.view().fetch(addresses)
    }

    fn scan(&self, prefixes: &[EntryAddress], visit: VisitEntry<'_>) -> Result<(), PortError> {
        self.view().scan(prefixes, visit)
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
    // Every cut declares all keyed state of the operators that made it.
    let declaring = opened.from(chain.len().saturating_sub(1))?;
    let declaring = declaring.iter().flat_map(|newest| newest.operators().map(move |uid| (newest, uid)));
    let operators: Vec<OperatorUid> =
        declaring.filter(|(newest, uid)| !newest.declarations(uid).is_empty()).map(|(_, uid)| uid.clone()).collect();
    let newest = chain.last().map(|segment| segment.cuts.1);
    if operators.is_empty() {
        return Ok(newest);
    }
    let to = Position { job: local.job, log, checkpoint };
    let mut standing = Vec::new();
    for uid in &operators {
        standing.push(local.standing(uid, &context.key_groups, chain)?);
    }
    let together = standing.first().cloned().flatten().filter(|first| {
        standing
            .iter()
            .all(|other| other.as_ref().is_some_and(|other| other.0.position == first.0.position && other.1 == first.1))
    });
    let lacking = opened.from(together.as_ref().map_or(0, |(_, next)| *next))?;
    let groups = &context.key_groups;
    let request = FoldRequest { operators: &operators, groups, segments: &lacking, to: &to };
    let mut outcome = match &together {
        Some((record, _)) => local.store.fold(&lease, Some(&record.position), &request)?,
        None => local.store.reset(&lease, &request)?,
    };
    if outcome == FoldOutcome::Damaged {
        tracing::warn!("a part of the local state is damaged; it is loaded anew");
        let whole = opened.from(0)?;
        outcome = local.store.reset(&lease, &FoldRequest { segments: &whole, ..request })?;
    }
    Ok(match outcome {
        FoldOutcome::Folded => newest,
        FoldOutcome::Stale | FoldOutcome::Elsewhere { .. } | FoldOutcome::Damaged => None,
    })
}
