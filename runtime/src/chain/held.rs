//! Rows behind a cursor: the rest of a batch that an operator has not processed. A cut that overtakes them contains
//! them, as operator state, and after a restore they come before everything else.

use super::ChainContext;
use crate::batch::{Data, Rows};
use crate::ids::OperatorUid;
use crate::key_group::KeyGroup;
use crate::ports::PortError;
use crate::state::cut::{OperatorState, Redistribution};
use crate::state::operator::{decode_item, encode_item};
use crate::time::Timestamp;

/// Name of the operator state that rows behind a cursor are stored under.
const HELD: &str = "rows in flight";

/// A batch with a cursor.
pub(crate) struct HeldRows<I> {
    pub(crate) values: std::vec::IntoIter<I>,
    pub(crate) timestamps: std::vec::IntoIter<Timestamp>,
}

impl<I> HeldRows<I> {
    pub(crate) fn new(rows: Rows<I>) -> Self {
        Self { values: rows.values.into_iter(), timestamps: rows.timestamps.into_iter() }
    }
}

impl<I: Data> HeldRows<I> {
    /// Puts what is behind the cursor into the cut; any subtask may go on with it.
    pub(crate) fn store(&self, uid: &OperatorUid, cx: &mut ChainContext) -> Result<(), PortError> {
        self.store_as(uid, Redistribution::Split, cx, |_| Vec::new())
    }

    /// The same for an operator with keys: rows go to the subtask that has their key group.
    pub(crate) fn store_by_group(
        &self,
        uid: &OperatorUid,
        cx: &mut ChainContext,
        group: impl Fn(&I) -> KeyGroup,
    ) -> Result<(), PortError> {
        self.store_as(uid, Redistribution::KeyGroup, cx, |row| group(row).0.to_be_bytes().to_vec())
    }

    fn store_as(
        &self,
        uid: &OperatorUid,
        redistribution: Redistribution,
        cx: &mut ChainContext,
        prefix: impl Fn(&I) -> Vec<u8>,
    ) -> Result<(), PortError> {
        let (values, timestamps) = (self.values.as_slice(), self.timestamps.as_slice());
        if values.is_empty() {
            return Ok(());
        }
        let mut items = Vec::with_capacity(values.len());
        for (index, value) in values.iter().enumerate() {
            let mut item = prefix(value);
            item.extend(encode_item(HELD, &(timestamps.get(index).copied(), value))?);
            items.push(item);
        }
        let bytes: usize = items.iter().map(Vec::len).sum();
        cx.cut.in_flight_bytes += bytes as u64;
        let state = OperatorState { name: HELD.to_owned(), version: 1, redistribution, items };
        cx.cut.operator(uid).operator_states.push(state);
        Ok(())
    }

    /// What was dealt out to this subtask, if anything.
    pub(crate) fn restore(restored: &[OperatorState]) -> Result<Option<Self>, PortError> {
        let mut rows = Rows::default();
        for state in restored.iter().filter(|state| state.name == HELD) {
            let prefix = if state.redistribution == Redistribution::KeyGroup { size_of::<KeyGroup>() } else { 0 };
            for item in &state.items {
                let (timestamp, value): (Option<Timestamp>, I) =
                    decode_item(HELD, item.get(prefix..).unwrap_or_default())?;
                rows.push(value, timestamp);
            }
        }
        Ok((!rows.is_empty()).then(|| Self::new(rows)))
    }
}
