//! Merges staged transactions into the table, each exactly once. Blocks throughout.

use std::collections::BTreeSet;
use std::sync::Arc;

use heed::RwTxn;
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::sink::{Committer, OlderAttempts, SinkContext};

use super::environment::Failure;
use super::layout::{Entries, Section, TableTransaction, keys_of, rows_of};
use super::{Merge, Shared};

/// Ids of committed transactions kept per subtask and attempt. A transaction is committed again only while its
/// checkpoint, or one of those retained before it, may be restored: far fewer.
const KEPT_IDS: u64 = 4_096;

pub(super) struct TableCommitter {
    merge: Merge,
    shared: Arc<Shared>,
    context: SinkContext,
}

impl TableCommitter {
    pub fn new(merge: Merge, shared: Arc<Shared>, context: SinkContext) -> Self {
        Self { merge, shared, context }
    }

    fn apply(&self, database: &Entries, transaction: &mut RwTxn<'_>, staged: &TableTransaction) -> Result<(), Failure> {
        let id = staged.key(Section::Committed);
        if database.get(transaction, &id)?.is_some() {
            return Ok(());
        }
        for part in 0..staged.parts {
            let part = staged.part_key(part);
            // Copied, because writing moves the pages it lies on.
            let sealed = database.get(transaction, &part)?.map(<[u8]>::to_vec).ok_or_else(|| self.lost(staged))?;
            for (key, value) in rows_of(&sealed)? {
                let mut entry = Vec::with_capacity(key.len() + 1);
                entry.push(Section::Entries.prefix());
                entry.extend_from_slice(key);
                if let Some(merged) = (self.merge)(database.get(transaction, &entry)?, value) {
                    database.put(transaction, &entry, &merged)?;
                }
            }
            database.delete(transaction, &part)?;
        }
        database.put(transaction, &id, &[])?;
        if let Some(sequence) = staged.sequence.checked_sub(KEPT_IDS) {
            let oldest = TableTransaction { sequence, ..staged.clone() };
            database.delete(transaction, &oldest.key(Section::Committed))?;
        }
        Ok(())
    }

    fn lost(&self, staged: &TableTransaction) -> PortError {
        PortError::give_up(format!(
            "transaction {} of subtask {} and attempt {} is neither staged nor committed in the table in {}: rows of a \
             completed checkpoint are lost; restore the folder, or start the job anew",
            staged.sequence,
            staged.subtask,
            staged.attempt,
            self.shared.folder.display()
        ))
    }
}

impl Committer<TableTransaction> for TableCommitter {
    fn abort_unlisted(&mut self, pending: &[TableTransaction], older: &OlderAttempts) -> Result<(), PortError> {
        if !super::environment::exists(&self.shared.folder) {
            return Ok(());
        }
        let listed: BTreeSet<Vec<u8>> = pending.iter().map(|staged| staged.key(Section::Staged)).collect();
        self.shared.environment()?.write(|database, transaction| {
            for key in keys_of(database, transaction, &[Section::Staged.prefix()])? {
                let Some(staged) = TableTransaction::of_part_key(&key) else { continue };
                let is_over = staged.job == self.context.job && older.contains(staged.attempt);
                if is_over && !listed.contains(&staged.key(Section::Staged)) {
                    database.delete(transaction, &key)?;
                }
            }
            Ok(())
        })
    }

    fn commit(&mut self, transactions: Vec<TableTransaction>) -> Result<(), PortError> {
        if transactions.is_empty() {
            return Ok(());
        }
        // All in one write: one sync, and a crash leaves either none or all committed.
        self.shared.environment()?.write(|database, transaction| {
            transactions.iter().try_for_each(|staged| self.apply(database, transaction, staged))
        })
    }
}
