//! Collects a cut's upserts in memory and hands out the staging of them in pieces.

use std::sync::Arc;

use millstream_runtime::batch::{Data, Rows};
use millstream_runtime::ids::CutNumber;
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::sink::{PrepareWork, SinkContext, SinkWork, SinkWriter};

use super::layout::{MAX_KEY_BYTES, TableTransaction, push_row, seal_part};
use super::{Shared, Upsert};

/// Bytes of rows collected before they are staged.
const STAGE_BYTES: usize = 4 * 1024 * 1024;
/// Largest value: one row must fit in memory several times over.
const MAX_VALUE_BYTES: usize = 1024 * 1024 * 1024;

pub(super) struct TableWriter<T> {
    upsert: fn(&T) -> Upsert,
    shared: Arc<Shared>,
    /// The open transaction.
    transaction: TableTransaction,
    rows: Vec<u8>,
}

impl<T: Data> TableWriter<T> {
    pub fn new(upsert: fn(&T) -> Upsert, shared: Arc<Shared>, context: SinkContext) -> Self {
        let SinkContext { job, attempt, subtask, parallelism: _ } = context;
        let transaction = TableTransaction { job, attempt, subtask, sequence: 0, parts: 0 };
        Self { upsert, shared, transaction, rows: Vec::new() }
    }

    fn check(&self, row: &Upsert) -> Result<(), PortError> {
        if row.key.is_empty() || row.key.len() > MAX_KEY_BYTES || row.value.len() > MAX_VALUE_BYTES {
            return Err(PortError::fix_input(format!(
                "a row for the table in {} has a key of {} bytes and a value of {}: keys must have 1 to \
                 {MAX_KEY_BYTES} bytes, values at most {MAX_VALUE_BYTES}",
                self.shared.folder.display(),
                row.key.len(),
                row.value.len()
            )));
        }
        Ok(())
    }

    /// Work that stages the collected rows as the next part of the open transaction.
    fn stage(&mut self) -> SinkWork {
        let key = self.transaction.part_key(self.transaction.parts);
        self.transaction.parts += 1;
        let rows = std::mem::take(&mut self.rows);
        let shared = Arc::clone(&self.shared);
        Box::new(move || {
            let sealed = seal_part(&rows);
            shared.environment()?.write(|database, transaction| Ok(database.put(transaction, &key, &sealed)?))
        })
    }
}

impl<T: Data> SinkWriter<T, TableTransaction> for TableWriter<T> {
    fn write(&mut self, rows: Rows<T>) -> Result<Option<SinkWork>, PortError> {
        for row in &rows.values {
            let row = (self.upsert)(row);
            self.check(&row)?;
            push_row(&mut self.rows, &row.key, &row.value);
        }
        Ok(if self.rows.len() >= STAGE_BYTES { Some(self.stage()) } else { None })
    }

    fn prepare(&mut self, _cut: CutNumber) -> Result<PrepareWork<TableTransaction>, PortError> {
        let last = if self.rows.is_empty() { None } else { Some(self.stage()) };
        let sequence = self.transaction.sequence + 1;
        let next = TableTransaction { sequence, parts: 0, ..self.transaction.clone() };
        let ended = std::mem::replace(&mut self.transaction, next);
        Ok(Box::new(move || {
            if let Some(stage) = last {
                stage()?;
            }
            Ok(if ended.parts > 0 { vec![ended] } else { Vec::new() })
        }))
    }
}
