//! Keyed state as functions hold it: typed fields of the function itself, found by the runtime through
//! [`KeyedState`]. Access goes straight to the typed table: no look-up by name, no virtual call.

use std::collections::BTreeMap;
use std::ops::Range;

use super::cut::KeyedSection;
use super::table::{KeyContext, StateTable, StateValue};
use crate::key::Key;
use crate::key_group::KeyGroup;
use crate::ports::PortError;
use crate::ports::state::{EntryAddress, StateNumber};

/// What the runtime does with a keyed state, without the type of its values.
pub trait KeyedState<K>: Send {
    /// The name that ties it to stored state.
    fn name(&self) -> &str;
    /// Version of the value's type.
    fn version(&self) -> u32;
    /// Makes it usable, empty, for these key groups.
    fn attach(&mut self, groups: Range<u16>);
    /// From here on misses may be in the local store.
    fn begin_restore(&mut self);
    /// Takes an entry of the local store unless there is a newer one.
    ///
    /// # Errors
    /// When the bytes are not of this state's types.
    fn load(&mut self, group: KeyGroup, key: &[u8], value: &[u8]) -> Result<(), PortError>;
    /// All entries of the group have been loaded.
    fn finish_restore(&mut self, group: KeyGroup);
    /// Whether the local store need not be asked.
    fn is_fully_resident(&self) -> bool;
    /// Adds the address of the key's entry if only the local store can tell about it.
    fn missing(&self, number: StateNumber, at: &KeyContext<K>, out: &mut Vec<EntryAddress>);
    /// Looks up keys that will be worked on next, side by side; only states without namespaces can.
    fn look_ahead(&mut self, _keys: &[KeyContext<K>]) {}
    /// Begins a cut.
    fn freeze(&mut self);
    /// Encodes what the freeze set aside in one group.
    ///
    /// # Errors
    /// When a value refuses to be serialised.
    fn encode_group(&mut self, number: StateNumber, group: KeyGroup) -> Result<Option<KeyedSection>, PortError>;
    /// Entries in memory.
    fn len(&self) -> usize;
    /// Whether no entry is in memory.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The current key: given by every context of a keyed function.
pub trait CurrentKey<K> {
    /// The key that is being processed.
    fn current(&self) -> &KeyContext<K>;
}

impl<K> CurrentKey<K> for KeyContext<K> {
    fn current(&self) -> &KeyContext<K> {
        self
    }
}

/// A table under a name, attached to key groups by the runtime.
pub(crate) struct NamedTable<N, K, V> {
    name: String,
    version: u32,
    table: Option<StateTable<N, K, V>>,
}

impl<N: Key, K: Key, V: StateValue> NamedTable<N, K, V> {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), version: 1, table: None }
    }

    /// A copy of the declaration, without content: each subtask attaches its own.
    fn declaration(&self) -> Self {
        Self { name: self.name.clone(), version: self.version, table: None }
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

impl<N: Key, K: Key, V: StateValue> KeyedState<K> for NamedTable<N, K, V> {
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

/// Delegates [`KeyedState`] to the table inside.
macro_rules! delegate_keyed_state {
    ($name:ident<$($generic:ident),+> where $($bounds:tt)*) => {
        impl<K: Key, $($generic),+> KeyedState<K> for $name<K, $($generic),+> where $($bounds)* {
            fn name(&self) -> &str { self.inner.name() }
            fn version(&self) -> u32 { self.inner.version() }
            fn attach(&mut self, groups: Range<u16>) { self.inner.attach(groups); }
            fn begin_restore(&mut self) { self.inner.begin_restore(); }
            fn load(&mut self, group: KeyGroup, key: &[u8], value: &[u8]) -> Result<(), PortError> {
                self.inner.load(group, key, value)
            }
            fn finish_restore(&mut self, group: KeyGroup) { self.inner.finish_restore(group); }
            fn is_fully_resident(&self) -> bool { self.inner.is_fully_resident() }
            fn missing(&self, number: StateNumber, at: &KeyContext<K>, out: &mut Vec<EntryAddress>) {
                self.inner.missing(number, at, out);
            }
            fn look_ahead(&mut self, keys: &[KeyContext<K>]) { self.inner.look_ahead(keys); }
            fn freeze(&mut self) { self.inner.freeze(); }
            fn encode_group(
                &mut self,
                number: StateNumber,
                group: KeyGroup,
            ) -> Result<Option<KeyedSection>, PortError> {
                self.inner.encode_group(number, group)
            }
            fn len(&self) -> usize { self.inner.len() }
        }
    };
}

/// One value per key.
pub struct ValueState<K, V> {
    inner: NamedTable<(), K, V>,
}

impl<K: Key, V: StateValue> Clone for ValueState<K, V> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.declaration() }
    }
}

impl<K: Key, V: StateValue> ValueState<K, V> {
    /// Declares the state; it must be visited in the function's `states`.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { inner: NamedTable::new(name) }
    }

    /// Sets the version of the value's type.
    #[must_use]
    pub fn with_version(mut self, version: u32) -> Self {
        self.inner.version = version;
        self
    }

    /// The value of the current key.
    #[inline]
    #[must_use]
    pub fn get(&self, cx: &impl CurrentKey<K>) -> Option<&V> {
        self.inner.table().get(cx.current(), &())
    }

    /// The value of the current key for writing.
    #[inline]
    pub fn get_mut(&mut self, cx: &impl CurrentKey<K>) -> Option<&mut V> {
        self.inner.table_mut().get_mut(cx.current(), &())
    }

    /// The value of the current key for writing, made by `default` when there is none.
    #[inline]
    pub fn get_or_insert_with(&mut self, cx: &impl CurrentKey<K>, default: impl FnOnce() -> V) -> &mut V {
        self.inner.table_mut().get_or_insert_with(cx.current(), &(), default)
    }

    /// Sets the value of the current key.
    pub fn set(&mut self, cx: &impl CurrentKey<K>, value: V) {
        let mut value = Some(value);
        let slot =
            self.inner.table_mut().get_or_insert_with(cx.current(), &(), || value.take().expect("called at most once"));
        if let Some(value) = value {
            *slot = value;
        }
    }

    /// Removes the value of the current key.
    pub fn clear(&mut self, cx: &impl CurrentKey<K>) -> Option<V> {
        self.inner.table_mut().remove(cx.current(), &())
    }
}

delegate_keyed_state!(ValueState<V> where V: StateValue);

/// A list per key, read and written as a whole at every cut in which it changed.
pub struct ListState<K, T> {
    inner: NamedTable<(), K, Vec<T>>,
}

impl<K: Key, T: StateValue> Clone for ListState<K, T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.declaration() }
    }
}

impl<K: Key, T: StateValue> ListState<K, T> {
    /// Declares the state; it must be visited in the function's `states`.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { inner: NamedTable::new(name) }
    }

    /// The list of the current key.
    #[must_use]
    pub fn get(&self, cx: &impl CurrentKey<K>) -> &[T] {
        self.inner.table().get(cx.current(), &()).map_or(&[], Vec::as_slice)
    }

    /// Appends to the list of the current key.
    pub fn add(&mut self, cx: &impl CurrentKey<K>, item: T) {
        self.inner.table_mut().get_or_insert_with(cx.current(), &(), Vec::new).push(item);
    }

    /// Replaces the list of the current key; an empty one is removed.
    pub fn update(&mut self, cx: &impl CurrentKey<K>, items: Vec<T>) {
        if items.is_empty() {
            self.clear(cx);
        } else {
            *self.inner.table_mut().get_or_insert_with(cx.current(), &(), Vec::new) = items;
        }
    }

    /// Removes the list of the current key and returns it.
    pub fn clear(&mut self, cx: &impl CurrentKey<K>) -> Vec<T> {
        self.inner.table_mut().remove(cx.current(), &()).unwrap_or_default()
    }
}

delegate_keyed_state!(ListState<T> where T: StateValue);

/// An ordered map per key, read and written as a whole at every cut in which it changed.
pub struct MapState<K, M, T> {
    inner: NamedTable<(), K, BTreeMap<M, T>>,
}

impl<K: Key, M: StateValue + Ord, T: StateValue> Clone for MapState<K, M, T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.declaration() }
    }
}

impl<K: Key, M: StateValue + Ord, T: StateValue> MapState<K, M, T> {
    /// Declares the state; it must be visited in the function's `states`.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { inner: NamedTable::new(name) }
    }

    /// The map of the current key, if it has one.
    #[must_use]
    pub fn get(&self, cx: &impl CurrentKey<K>) -> Option<&BTreeMap<M, T>> {
        self.inner.table().get(cx.current(), &())
    }

    /// The map of the current key for writing.
    pub fn get_mut(&mut self, cx: &impl CurrentKey<K>) -> &mut BTreeMap<M, T> {
        self.inner.table_mut().get_or_insert_with(cx.current(), &(), BTreeMap::new)
    }

    /// Removes the map of the current key and returns it.
    pub fn clear(&mut self, cx: &impl CurrentKey<K>) -> Option<BTreeMap<M, T>> {
        self.inner.table_mut().remove(cx.current(), &())
    }
}

delegate_keyed_state!(MapState<M, T> where M: StateValue + Ord, T: StateValue);

/// One accumulator per key and window; the namespace is the end of the window.
pub(crate) struct WindowState<K, A> {
    pub(crate) inner: NamedTable<i64, K, A>,
}

impl<K: Key, A: StateValue> Clone for WindowState<K, A> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.declaration() }
    }
}

delegate_keyed_state!(WindowState<A> where A: StateValue);
