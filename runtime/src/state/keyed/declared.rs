//! A table under a name and a version, attached to key groups by the runtime: what every kind of keyed state holds.

use std::ops::Range;

use super::StateBacking;
use crate::key::Key;
use crate::key_group::KeyGroup;
use crate::ports::PortError;
use crate::ports::state::{EntryAddress, StateNumber};
use crate::state::cut::KeyedSection;
use crate::state::table::{KeyContext, StateTable, StateValue};

/// A declared state with its table, once it is attached.
pub(crate) struct Declared<N, K, V> {
    name: String,
    version: u32,
    table: Option<StateTable<N, K, V>>,
}

/// A copy of the declaration, without content: each subtask attaches its own.
impl<N, K, V> Clone for Declared<N, K, V> {
    fn clone(&self) -> Self {
        Self { name: self.name.clone(), version: self.version, table: None }
    }
}

impl<N: Key, K: Key, V: StateValue> Declared<N, K, V> {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), version: 1, table: None }
    }

    pub(super) fn with_version(self, version: u32) -> Self {
        Self { version, ..self }
    }

    #[inline]
    pub(crate) fn table(&self) -> &StateTable<N, K, V> {
        match &self.table {
            Some(table) => table,
            None => self.not_attached(),
        }
    }

    #[inline]
    pub(crate) fn table_mut(&mut self) -> &mut StateTable<N, K, V> {
        if self.table.is_none() {
            self.not_attached();
        }
        self.table.as_mut().expect("checked above")
    }

    #[cold]
    fn not_attached(&self) -> ! {
        panic!("state '{}' is used but not visited in `states`: it would not be checkpointed", self.name)
    }
}

impl<N: Key, K: Key, V: StateValue> StateBacking<K> for Declared<N, K, V> {
    fn name(&self) -> &str {
        &self.name
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn attach(&mut self, groups: Range<u16>) {
        self.table = Some(StateTable::new(groups));
    }

    fn begin_restore(&mut self) {
        self.table_mut().begin_restore();
    }

    fn load(&mut self, group: KeyGroup, key: &[u8], value: &[u8]) -> Result<(), PortError> {
        self.table_mut().load(group, key, value).map_err(|error| PortError {
            kind: error.kind,
            message: format!("state '{}': {}", self.name, error.message),
        })
    }

    fn finish_restore(&mut self, group: KeyGroup) {
        self.table_mut().finish_restore(group);
    }

    fn is_fully_resident(&self) -> bool {
        self.table().is_fully_resident()
    }

    fn missing(&self, number: StateNumber, at: &KeyContext<K>, out: &mut Vec<EntryAddress>) {
        // Only states without namespaces can be asked for by key alone.
        let mut no_bytes: &[u8] = &[];
        if let Ok(namespace) = N::decode_key(&mut no_bytes) {
            self.table().missing(number, at, &namespace, out);
        }
    }

    fn look_ahead(&mut self, keys: &[KeyContext<K>]) {
        let mut no_bytes: &[u8] = &[];
        if let Ok(namespace) = N::decode_key(&mut no_bytes) {
            self.table_mut().look_ahead(keys, &namespace);
        }
    }

    fn freeze(&mut self) {
        self.table_mut().freeze();
    }

    fn encode_group(&mut self, number: StateNumber, group: KeyGroup) -> Result<Option<KeyedSection>, PortError> {
        self.table_mut().encode_group(number, group)
    }

    fn len(&self) -> usize {
        self.table().len()
    }
}
