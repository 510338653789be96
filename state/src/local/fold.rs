//! Putting completed cuts into LMDB: one write transaction per fold, in key order (`rewrite`), with what each key group
//! stands at in the same transaction. Runs on the blocking executor, one at a time per environment.

use std::ops::{Bound, Range};
use std::sync::Arc;

use heed::{MdbError, RwTxn};
use millstream_runtime::ids::OperatorUid;
use millstream_runtime::key_group::KeyGroup;
use millstream_runtime::ports::PortError;

use super::block::{BlockError, Section};
use super::rewrite::{RewriteError, Rewriter};
use super::store::{GroupRecord, Lease, LocalStore, OperatorStore, Position, group_key};
use crate::segment::{Chain, ChainStates, SegmentReader};

/// What to put where.
#[derive(Clone, Copy)]
pub struct FoldRequest<'a> {
    /// The operators with keyed state of the subtask.
    pub operators: &'a [OperatorUid],
    /// The key groups of the subtask: all of them stand at `to` afterwards, changed or not.
    pub groups: &'a Range<u16>,
    /// Segments, oldest first.
    pub segments: &'a [Arc<SegmentReader>],
    /// What the groups will stand at.
    pub to: &'a Position,
}

/// What a fold or a load came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoldOutcome {
    /// Everything is durable.
    Folded,
    /// A newer attempt holds the lease: nothing was changed.
    Stale,
    /// A key group does not stand where the segments go on: nothing was changed, load it anew.
    Elsewhere {
        /// The operator.
        operator: OperatorUid,
        /// The key group.
        group: KeyGroup,
        /// Where it stands.
        at: Option<Box<GroupRecord>>,
    },
    /// Something that would have been changed is damaged: nothing was changed, load it anew.
    Damaged,
}

/// Why an attempt at a transaction ended without commit.
enum Abort {
    Lmdb(heed::Error),
    Port(PortError),
    Outcome(FoldOutcome),
}

impl From<heed::Error> for Abort {
    fn from(error: heed::Error) -> Self {
        Self::Lmdb(error)
    }
}

impl From<PortError> for Abort {
    fn from(error: PortError) -> Self {
        Self::Port(error)
    }
}

impl From<RewriteError> for Abort {
    fn from(error: RewriteError) -> Self {
        match error {
            RewriteError::Block(BlockError::Lmdb(error)) => Self::Lmdb(error),
            RewriteError::Block(BlockError::Damaged) => Self::Outcome(FoldOutcome::Damaged),
            RewriteError::Changes(error) => Self::Port(error),
        }
    }
}

/// Operators of one fold with their databases.
type Targets = Vec<(OperatorUid, Arc<OperatorStore>)>;

/// What is done in one write transaction, again after the map has grown.
type Work<'a> = dyn Fn(&LocalStore, &mut RwTxn, &Targets, &ChainStates) -> Result<(), Abort> + 'a;

impl LocalStore {
    /// Merges completed cuts into key groups that stand at `from` (`None`: that hold nothing yet). When it returns
    /// `Folded` all of it is durable; on any error nothing has changed.
    ///
    /// # Errors
    /// `Retry` when the disk or the map is full, `GiveUp` when something is damaged, `FixInput` when the version of a
    /// state changed.
    pub fn fold(
        &self,
        lease: &Lease,
        from: Option<&Position>,
        request: &FoldRequest,
    ) -> Result<FoldOutcome, PortError> {
        self.transact(lease, request, &|store, transaction, targets, states| {
            let mut records = Vec::new();
            for (uid, operator) in targets {
                for group in request.groups.clone().map(KeyGroup) {
                    let record = store.record(transaction, operator, group)?;
                    if record.as_ref().map(|record| &record.position) != from {
                        let at = record.map(Box::new);
                        return Err(Abort::Outcome(FoldOutcome::Elsewhere { operator: uid.clone(), group, at }));
                    }
                    records.push((group, merged_record(record, request, states.get(uid).map_or(&[], Vec::as_slice))?));
                }
                store.put_entries(transaction, uid, operator, request, states)?;
                store.put_records(transaction, operator, records.drain(..))?;
            }
            Ok(())
        })
    }

    /// Loads key groups anew from a whole chain: whatever they held is gone.
    ///
    /// # Errors
    /// As [`fold`](Self::fold).
    pub fn reset(&self, lease: &Lease, request: &FoldRequest) -> Result<FoldOutcome, PortError> {
        self.transact(lease, request, &|store, transaction, targets, states| {
            for (uid, operator) in targets {
                store.delete_groups(transaction, operator, request.groups)?;
                store.put_entries(transaction, uid, operator, request, states)?;
                let declared = states.get(uid).map_or(&[][..], Vec::as_slice);
                let record = merged_record(None, request, declared)?;
                let records = request.groups.clone().map(|group| (KeyGroup(group), record.clone()));
                store.put_records(transaction, operator, records)?;
                for group in request.groups.clone() {
                    store.forget_damage(transaction, operator, KeyGroup(group))?;
                }
            }
            Ok(())
        })
    }

    /// Runs `work` in a write transaction and commits it; grows the map as often as need be.
    fn transact(&self, lease: &Lease, request: &FoldRequest, work: &Work) -> Result<FoldOutcome, PortError> {
        let leases = self.lock_folding();
        if !leases.held.contains(&lease.attempt) {
            return Ok(FoldOutcome::Stale);
        }
        let states = Chain(request.segments).states()?;
        let mut targets = Targets::new();
        for uid in request.operators {
            let declared = states.get(uid).map_or(&[][..], Vec::as_slice);
            targets.push((uid.clone(), self.declare(uid, declared)?));
        }
        loop {
            let attempt = || -> Result<(), Abort> {
                let mut transaction = self.env.write_txn()?;
                work(self, &mut transaction, &targets, &states)?;
                Ok(transaction.commit()?)
            };
            match attempt() {
                Ok(()) => return Ok(FoldOutcome::Folded),
                Err(Abort::Lmdb(heed::Error::Mdb(MdbError::MapFull))) => self.grow()?,
                Err(Abort::Lmdb(error)) => return Err(self.failed("writing", &error)),
                Err(Abort::Port(error)) => return Err(error),
                Err(Abort::Outcome(outcome)) => return Ok(outcome),
            }
        }
    }

    fn record(
        &self,
        transaction: &RwTxn,
        operator: &OperatorStore,
        group: KeyGroup,
    ) -> Result<Option<GroupRecord>, Abort> {
        let bytes = self.meta.get(transaction, &group_key(&operator.name, group))?;
        Ok(bytes.map(|bytes| self.decode_record(bytes)).transpose()?)
    }

    fn put_records(
        &self,
        transaction: &mut RwTxn,
        operator: &OperatorStore,
        records: impl Iterator<Item = (KeyGroup, GroupRecord)>,
    ) -> Result<(), Abort> {
        for (group, record) in records {
            let bytes = rmp_serde::to_vec_named(&record).expect("plain data serialises");
            self.meta.put(transaction, &group_key(&operator.name, group), &bytes)?;
        }
        Ok(())
    }

    /// Puts and deletes, in the order of the database.
    fn put_entries(
        &self,
        transaction: &mut RwTxn,
        uid: &OperatorUid,
        operator: &OperatorStore,
        request: &FoldRequest,
        states: &ChainStates,
    ) -> Result<(), Abort> {
        let Some(declarations) = states.get(uid) else { return Ok(()) };
        let mut numbered: Vec<(u16, &str)> = Vec::new();
        for declaration in declarations {
            let number = operator.states.get(&(declaration.name.clone(), declaration.version));
            numbered.push((*number.expect("declared before the transaction"), &declaration.name));
        }
        numbered.sort_unstable();
        let mut rewriter = Rewriter::default();
        let chain = Chain(request.segments);
        for (number, name) in numbered {
            for group in chain.groups(uid, name).into_iter().filter(|group| request.groups.contains(&group.0)) {
                let place = (operator.database, Section::new(number, group));
                rewriter.rewrite(place, transaction, &mut chain.entries(uid, name, group))?;
            }
        }
        Ok(())
    }

    fn delete_groups(
        &self,
        transaction: &mut RwTxn,
        operator: &OperatorStore,
        groups: &Range<u16>,
    ) -> Result<(), Abort> {
        if !self.has_groups_outside(transaction, operator, groups)? {
            return Ok(operator.database.clear(transaction)?);
        }
        for number in operator.states.values() {
            let prefix = |group| Section::new(*number, KeyGroup(group)).prefix();
            let (start, end) = (prefix(groups.start), prefix(groups.end));
            let range = (Bound::Included(&start[..]), Bound::Excluded(&end[..]));
            operator.database.delete_range(transaction, &range)?;
        }
        Ok(())
    }
}

/// The record of a key group after a fold; versions of its states must not change under its entries.
fn merged_record(
    before: Option<GroupRecord>,
    request: &FoldRequest,
    declared: &[millstream_runtime::state::cut::StateDeclaration],
) -> Result<GroupRecord, PortError> {
    let segment = request.segments.last().map(|reader| (reader.reference().attempt, reader.reference().cuts.1));
    let mut record = before.unwrap_or(GroupRecord { position: request.to.clone(), segment: None, schema: Vec::new() });
    record.position = request.to.clone();
    record.segment = segment.or(record.segment);
    for state in declared {
        match record.schema.iter().find(|(name, _)| *name == state.name) {
            Some((_, version)) if *version == state.version => {}
            Some((name, version)) => {
                let message = format!(
                    "the local state holds '{name}' in version {version}, the program writes version {}: load it anew",
                    state.version
                );
                return Err(PortError::fix_input(message));
            }
            None => record.schema.push((state.name.clone(), state.version)),
        }
    }
    Ok(record)
}
