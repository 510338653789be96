//! The local keyed state store, read per batch. Implemented in `state` over LMDB and unmerged segments.

use super::PortError;
use crate::key_group::KeyGroup;
use crate::state::cut::StateDeclaration;

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

/// What must be in memory before something is processed.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Single entries.
    pub entries: Vec<EntryAddress>,
    /// All entries whose keys begin so.
    pub prefixes: Vec<EntryAddress>,
}

/// Takes the prefix that an entry was found under, its key and its value.
pub type VisitEntry<'a> = &'a mut dyn FnMut(&EntryAddress, &[u8], &[u8]) -> Result<(), PortError>;

/// Serves what a restarted subtask has not yet in memory. All calls may block.
pub trait StateReader: Send + Sync {
    /// Tells how the program numbers its states; called once, before anything is read. What is stored is found by name: states
    /// in another form than the program declares have been rewritten before, see
    /// [`conversions`](crate::state::schema::conversions).
    fn declare(&self, declarations: &[StateDeclaration]);

    /// The newest value of each address, `None` where there is none.
    ///
    /// # Errors
    /// When the store is damaged or gone.
    fn fetch(&self, addresses: &[EntryAddress]) -> Result<Vec<Option<Vec<u8>>>, PortError>;

    /// For each of the prefixes, all entries of its state and key group whose keys begin with it, in key order. An empty
    /// key stands for the whole key group.
    ///
    /// # Errors
    /// When the store is damaged or gone, or `visit` fails.
    fn scan(&self, prefixes: &[EntryAddress], visit: VisitEntry<'_>) -> Result<(), PortError>;
}
