//! A table under a name and a version, attached to key groups by the runtime: what every kind of keyed state holds.

use std::ops::Range;
use std::sync::Arc;

use super::backing::{StateBacking, Table};
use super::ttl::TtlTime;
use crate::key::Key;
use crate::key_group::KeyGroup;
use crate::ports::PortError;
use crate::ports::state::{StateNumber, Wanted};
use crate::state::cut::KeyedSection;
use crate::state::map_table::MapTable;
use crate::state::schema::{StateSchema, Step, ValueKind};
use crate::state::table::{KeyContext, StateTable, StateValue};

/// A declared state with its table, once it is attached.
pub(crate) struct Declared<T> {
    schema: StateSchema,
    /// The name it is stored under.
    stored_name: String,
    make: Arc<dyn Fn(Range<u16>) -> T + Send + Sync>,
    table: Option<T>,
}

/// A copy of the declaration, without content: each subtask attaches its own.
impl<T> Clone for Declared<T> {
    fn clone(&self) -> Self {
        Self {
            schema: self.schema.clone(),
            stored_name: self.stored_name.clone(),
            make: Arc::clone(&self.make),
            table: None,
        }
    }
}

impl<T> Declared<T> {
    /// Declares a state whose table for a range of key groups is made by `make`.
    pub(crate) fn new(name: impl Into<String>, make: impl Fn(Range<u16>) -> T + Send + Sync + 'static) -> Self {
        Self::of_kind(name, ValueKind::One, make)
    }

    /// The same for a state whose values are lists or something else.
    pub(super) fn of_kind(
        name: impl Into<String>,
        kind: ValueKind,
        make: impl Fn(Range<u16>) -> T + Send + Sync + 'static,
    ) -> Self {
        Self::of_schema(StateSchema::new(name, kind), make)
    }

    fn of_schema(schema: StateSchema, make: impl Fn(Range<u16>) -> T + Send + Sync + 'static) -> Self {
        Self { stored_name: schema.stored_name(), schema, make: Arc::new(make), table: None }
    }

    pub(super) fn with_version(mut self, version: u32) -> Self {
        self.schema.set_version(version);
        self
    }

    /// Adds a migration from an older version.
    pub(super) fn migrate(mut self, from: u32, step: Arc<Step>) -> Self {
        self.schema.migrate(from, step);
        self
    }

    /// The same state with entries that expire: it is stored under another name, since its values have a time.
    pub(super) fn expiring<U>(
        &self,
        time: TtlTime,
        make: impl Fn(Range<u16>) -> U + Send + Sync + 'static,
    ) -> Declared<U> {
        Declared::of_schema(self.schema.expiring(time), make)
    }

    #[inline]
    pub(crate) fn table(&self) -> &T {
        match &self.table {
            Some(table) => table,
            None => self.not_attached(),
        }
    }

    #[inline]
    pub(crate) fn table_mut(&mut self) -> &mut T {
        if self.table.is_none() {
            self.not_attached();
        }
        self.table.as_mut().expect("checked above")
    }

    #[cold]
    fn not_attached(&self) -> ! {
        panic!("state '{}' is used but not visited in `states`: it would not be checkpointed", self.stored_name)
    }
}

impl<K, T: Table<K>> StateBacking<K> for Declared<T> {
    fn name(&self) -> &str {
        &self.stored_name
    }

    fn version(&self) -> u32 {
        self.schema.version()
    }

    fn schema(&self) -> StateSchema {
        self.schema.clone()
    }

    fn attach(&mut self, groups: Range<u16>) {
        self.table = Some((self.make)(groups));
    }

    fn entries(&mut self) -> &mut dyn Table<K> {
        self.table_mut()
    }
}

/// The namespace of states with one entry per key; the others cannot be asked by key alone.
fn no_namespace<N: Key>() -> Option<N> {
    N::decode_key(&mut &[][..]).ok()
}

impl<N: Key, K: Key, V: StateValue> Table<K> for StateTable<N, K, V> {
    fn begin_restore(&mut self) {
        self.begin_restore();
    }

    fn load(&mut self, group: KeyGroup, key: &[u8], value: &[u8]) -> Result<(), PortError> {
        self.load(group, key, value)
    }

    fn finish_restore(&mut self, group: KeyGroup) {
        self.finish_restore(group);
    }

    fn missing(&mut self, number: StateNumber, at: &KeyContext<K>, wanted: &mut Wanted) {
        if let Some(namespace) = no_namespace() {
            self.missing(number, at, &namespace, wanted);
        }
    }

    fn is_resident(&self, group: KeyGroup) -> bool {
        self.is_resident(group)
    }

    fn remember(&mut self) {
        self.remember();
    }

    fn forget(&mut self, durable: u32) {
        self.forget(durable);
    }

    fn evict(&mut self, group: KeyGroup, durable: u32) -> usize {
        self.evict(group, durable)
    }

    fn memory(&mut self) -> usize {
        self.memory()
    }

    fn look_ahead(&mut self, keys: &[KeyContext<K>]) {
        if let Some(namespace) = no_namespace() {
            self.look_ahead(keys, &namespace);
        }
    }

    fn freeze(&mut self) {
        self.freeze();
    }

    fn encode_group(&mut self, number: StateNumber, group: KeyGroup) -> Result<Option<KeyedSection>, PortError> {
        self.encode_group(number, group)
    }
}

impl<K: Key, M: Key, V: StateValue> Table<K> for MapTable<K, M, V> {
    fn begin_restore(&mut self) {
        self.begin_restore();
    }

    fn load(&mut self, group: KeyGroup, key: &[u8], value: &[u8]) -> Result<(), PortError> {
        self.load(group, key, value)
    }

    fn finish_restore(&mut self, group: KeyGroup) {
        self.finish_restore(group);
    }

    fn missing(&mut self, number: StateNumber, at: &KeyContext<K>, wanted: &mut Wanted) {
        self.missing(number, at, wanted);
    }

    fn is_resident(&self, group: KeyGroup) -> bool {
        self.is_resident(group)
    }

    fn remember(&mut self) {
        self.remember();
    }

    fn forget(&mut self, durable: u32) {
        self.forget(durable);
    }

    fn evict(&mut self, group: KeyGroup, durable: u32) -> usize {
        self.evict(group, durable)
    }

    fn memory(&mut self) -> usize {
        self.memory()
    }

    fn freeze(&mut self) {
        self.freeze();
    }

    fn encode_group(&mut self, number: StateNumber, group: KeyGroup) -> Result<Option<KeyedSection>, PortError> {
        self.encode_group(number, group)
    }
}
