//! The local keyed state store, read per batch. Implemented in `state` over LMDB and unmerged segments.

use super::PortError;
use crate::key_group::KeyGroup;

/// Number of a state within its operator, given by the order of declaration; the name decides on restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct StateNumber(pub u16);

/// One entry wanted: which state, which group, which encoded key (namespace first, then key).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryAddress {
    /// The state.
    pub state: StateNumber,
    /// The key group.
    pub group: KeyGroup,
    /// Namespace and key in their canonical encoding.
    pub key: Vec<u8>,
}

/// Takes the key and the value of an entry.
pub type VisitEntry<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<(), PortError>;

/// Serves what a restarted subtask has not yet in memory. All calls may block.
pub trait StateReader: Send + Sync {
    /// Tells how the program numbers its states; called once, before anything is read. What is stored is found by name.
    fn declare(&self, _declarations: &[crate::state::cut::StateDeclaration]) {}

    /// The newest value of each address, `None` where there is none.
    ///
    /// # Errors
    /// When the store is damaged or gone.
    fn fetch(&self, addresses: &[EntryAddress]) -> Result<Vec<Option<Vec<u8>>>, PortError>;

    /// All entries of one state in one key group, in key order.
    ///
    /// # Errors
    /// When the store is damaged or gone.
    fn scan(&self, state: StateNumber, group: KeyGroup, visit: VisitEntry<'_>) -> Result<(), PortError>;
}
