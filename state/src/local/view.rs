//! What a restarted subtask reads of one operator: the cuts not folded yet, newest first, then LMDB. Works without
//! LMDB as well, over segments only.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use heed::{RoTxn, WithoutTls};
use millstream_runtime::ids::OperatorUid;
use millstream_runtime::key_group::KeyGroup;
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::state::{EntryAddress, StateNumber, StateReader, VisitEntry};
use millstream_runtime::state::cut::StateDeclaration;

use super::block::{BlockError, Section};
use super::store::{LocalStore, OperatorStore};
use crate::segment::{Chain, EntryCursor, SegmentReader};

type Segments = Arc<Vec<Arc<SegmentReader>>>;

/// The state of one operator in one subtask as of its newest segment. Reads are consistent while folds go on: a
/// segment leaves the list only after its fold is durable, and a read takes list and transaction together. The visitor of
/// a scan must not read from a view of the same job: it would wait for itself when the map is about to grow. Segments
/// in the list must stay in the checkpoint store: tell the view of a compaction before its inputs are deleted.
pub struct StateView {
    uid: OperatorUid,
    states: BTreeMap<StateNumber, StateDeclaration>,
    local: Option<Arc<LocalStore>>,
    /// Oldest first.
    unmerged: RwLock<Segments>,
}

/// One consistent look at LMDB.
struct Local<'a> {
    store: &'a LocalStore,
    operator: Arc<OperatorStore>,
    transaction: RoTxn<'a, WithoutTls>,
    /// A key group of which something is damaged.
    damaged: Cell<Option<KeyGroup>>,
}

impl StateView {
    /// A view for an operator whose states the program declares so; `unmerged` oldest first.
    #[must_use]
    pub fn new(
        uid: OperatorUid,
        declarations: &[StateDeclaration],
        local: Option<Arc<LocalStore>>,
        unmerged: Vec<Arc<SegmentReader>>,
    ) -> Self {
        let states = declarations.iter().map(|declaration| (declaration.number, declaration.clone())).collect();
        Self { uid, states, local, unmerged: RwLock::new(Arc::new(unmerged)) }
    }

    /// Adds the segment of a newer cut.
    pub fn push(&self, segment: Arc<SegmentReader>) {
        self.change(|segments| segments.push(segment));
    }

    /// Takes out segments whose fold is durable.
    pub fn folded(&self, folded: &[Arc<SegmentReader>]) {
        self.change(|segments| segments.retain(|segment| !contains(folded, segment)));
    }

    /// Puts what a compaction made in the place of what it read.
    pub fn compacted(&self, from: &[Arc<SegmentReader>], to: &[Arc<SegmentReader>]) {
        self.change(|segments| {
            let Some(at) = segments.iter().position(|segment| contains(from, segment)) else { return };
            segments.retain(|segment| !contains(from, segment));
            segments.splice(at..at, to.iter().cloned());
        });
    }

    /// How many segments every miss has to look into.
    #[must_use]
    pub fn unmerged(&self) -> usize {
        self.unmerged.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<SegmentReader>>)) {
        let mut segments = self.unmerged.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut segments));
    }

    fn state_name(&self, state: StateNumber) -> Result<&StateDeclaration, PortError> {
        self.states.get(&state).ok_or_else(|| {
            PortError::fix_input(format!("operator '{}' has not declared its state number {}", self.uid, state.0))
        })
    }

    /// Runs `read` over one consistent picture.
    fn read<T>(
        &self,
        read: impl FnOnce(&[Arc<SegmentReader>], Option<&Local>) -> Result<T, PortError>,
    ) -> Result<T, PortError> {
        let Some(store) = &self.local else {
            let segments = Arc::clone(&self.unmerged.read().unwrap_or_else(PoisonError::into_inner));
            return read(&segments, None);
        };
        let gate = store.gate();
        let (segments, local) = {
            // Neither a push nor a removal can come between the two, so no fold is seen whose newer segments are not.
            let segments = self.unmerged.read().unwrap_or_else(PoisonError::into_inner);
            let local = match store.operator(&self.uid) {
                None => None,
                Some(operator) => {
                    let transaction = store.env.read_txn().map_err(|error| store.failed("reading", &error))?;
                    Some(Local { store, operator, transaction, damaged: Cell::new(None) })
                }
            };
            (Arc::clone(&segments), local)
        };
        let outcome = read(&segments, local.as_ref());
        let Some(Local { operator, transaction, damaged, .. }) = local else { return outcome };
        drop(transaction);
        drop(gate);
        if let Some(group) = damaged.get() {
            store.note_damage(&operator, group);
        }
        outcome
    }
}

fn contains(segments: &[Arc<SegmentReader>], segment: &Arc<SegmentReader>) -> bool {
    segments.iter().any(|other| other.reference() == segment.reference())
}

impl Local<'_> {
    fn number(&self, state: &StateDeclaration) -> Option<u16> {
        self.operator.states.get(&(state.name.clone(), state.version)).copied()
    }

    fn get(&self, (section, group): (Section, KeyGroup), key: &[u8]) -> Result<Option<Vec<u8>>, PortError> {
        let block = section.block_of(self.operator.database, &self.transaction, key);
        let value = block.and_then(|block| block.map_or(Ok(None), |block| block.find(key)));
        value.map(|value| value.map(<[u8]>::to_vec)).map_err(|error| self.failed(group, error))
    }

    /// What is damaged here is whole in the checkpoint store: another attempt reads it there.
    fn failed(&self, group: KeyGroup, error: BlockError) -> PortError {
        match error {
            BlockError::Lmdb(error) => self.store.failed("reading", &error),
            BlockError::Damaged => {
                self.damaged.set(Some(group));
                self.store.damaged_block(group)
            }
        }
    }
}

impl StateReader for StateView {
    /// The view was made with the declarations.
    fn declare(&self, _declarations: &[StateDeclaration]) {}

    fn fetch(&self, addresses: &[EntryAddress]) -> Result<Vec<Option<Vec<u8>>>, PortError> {
        // Sorted, so that every block and page is read once.
        let mut order: Vec<usize> = (0..addresses.len()).collect();
        order.sort_unstable_by(|a, b| addresses[*a].cmp(&addresses[*b]));
        self.read(|segments, local| {
            let mut values = vec![None; addresses.len()];
            let same_section = |a: &usize, b: &usize| {
                (addresses[*a].state, addresses[*a].group) == (addresses[*b].state, addresses[*b].group)
            };
            for section in order.chunk_by(same_section) {
                let EntryAddress { state, group, .. } = addresses[section[0]];
                let declaration = self.state_name(state)?;
                let lookup = |segment| SegmentReader::lookup(segment, &self.uid, &declaration.name, group);
                let mut cursors: Vec<_> =
                    segments.iter().rev().filter_map(|segment| lookup(segment.as_ref())).collect();
                let older =
                    local.and_then(|local| Some((local, (Section::new(local.number(declaration)?, group), group))));
                for &index in section {
                    let key = &addresses[index].key;
                    values[index] = match find(&mut cursors, key)? {
                        Some(found) => found,
                        None => older.map_or(Ok(None), |(local, section)| local.get(section, key))?,
                    };
                }
            }
            Ok(values)
        })
    }

    fn scan(&self, prefixes: &[EntryAddress], visit: VisitEntry<'_>) -> Result<(), PortError> {
        self.read(|segments, local| {
            prefixes.iter().try_for_each(|prefix| self.scan_one(segments, local, prefix, visit))
        })
    }
}

impl StateView {
    /// Visits what begins with one prefix: the segments and LMDB merged, where both have a key the segments count.
    fn scan_one(
        &self,
        segments: &[Arc<SegmentReader>],
        local: Option<&Local>,
        prefix: &EntryAddress,
        visit: VisitEntry<'_>,
    ) -> Result<(), PortError> {
        let EntryAddress { state, group, key: begin } = prefix;
        let declaration = self.state_name(*state)?;
        let mut newer = Chain(segments).entries_from(&self.uid, &declaration.name, *group, begin)?;
        let mut has_newer = newer.advance()? && newer.key().starts_with(begin);
        if let Some((local, number)) = local.and_then(|local| Some((local, local.number(declaration)?))) {
            let older = Section::new(number, *group).scan(local.operator.database, &local.transaction, begin);
            let mut older = older.map_err(|error| local.failed(*group, error))?;
            while let Some((key, value)) = older.next().map_err(|error| local.failed(*group, error))? {
                if !key.starts_with(begin) {
                    // The first block may begin before.
                    if key < begin.as_slice() { continue } else { break }
                }
                while has_newer && newer.key() < key {
                    newer.value().map_or(Ok(()), |value| visit(prefix, newer.key(), value))?;
                    has_newer = newer.advance()? && newer.key().starts_with(begin);
                }
                if has_newer && newer.key() == key {
                    newer.value().map_or(Ok(()), |value| visit(prefix, newer.key(), value))?;
                    has_newer = newer.advance()? && newer.key().starts_with(begin);
                } else {
                    visit(prefix, key, value)?;
                }
            }
        }
        while has_newer {
            newer.value().map_or(Ok(()), |value| visit(prefix, newer.key(), value))?;
            has_newer = newer.advance()? && newer.key().starts_with(begin);
        }
        Ok(())
    }
}

/// What segments say about a key, newest first: `Some(None)` when it was deleted, `None` when they do not know it.
fn find(cursors: &mut [EntryCursor], key: &[u8]) -> Result<Option<Option<Vec<u8>>>, PortError> {
    for cursor in cursors {
        if cursor.seek(key)? && cursor.key() == key {
            return Ok(Some(cursor.value().map(<[u8]>::to_vec)));
        }
    }
    Ok(None)
}
