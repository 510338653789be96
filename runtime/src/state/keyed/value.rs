//! Value state: one value per key.

use serde::de::DeserializeOwned;

use super::ttl::{StateTtl, TtlValueState};
use super::{CurrentKey, Declared, KeyedState, StateBacking};
use crate::key::Key;
use crate::state::schema::step_of_values;
use crate::state::table::{StateTable, StateValue};

/// One value per key.
pub struct ValueState<K, V> {
    declared: Declared<StateTable<(), K, V>>,
}

impl<K, V> Clone for ValueState<K, V> {
    fn clone(&self) -> Self {
        Self { declared: self.declared.clone() }
    }
}

impl<K: Key, V: StateValue> ValueState<K, V> {
    /// Declares the state; it must be visited in the function's `states`.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { declared: Declared::new(name, StateTable::new) }
    }

    /// Sets the version of the value's type: another one than 1 once it has changed so that what is stored cannot be read
    /// any more.
    #[must_use]
    pub fn with_version(self, version: u32) -> Self {
        Self { declared: self.declared.with_version(version) }
    }

    /// Tells what becomes of values stored in an older version when the state is restored. Each version that may still be
    /// stored has a migration of its own, straight to the present type:
    ///
    /// ```
    /// # use millstream_runtime::state::keyed::ValueState;
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Profile { name: String, visits: u64, vip: bool }
    /// # type Visits1 = u32;
    /// # #[derive(serde::Deserialize)]
    /// # struct Profile2 { name: String, visits: u64 }
    /// # impl From<u32> for Profile2 { fn from(visits: u32) -> Self { Self { name: String::new(), visits: visits.into() } } }
    /// # impl From<Profile2> for Profile { fn from(old: Profile2) -> Self { Self { name: old.name, visits: old.visits, vip: false } } }
    /// let profile = ValueState::<u64, Profile>::new("profile")
    ///     .with_version(3)
    ///     .migrate_from(1, |visits: Visits1| Profile2::from(visits).into())
    ///     .migrate_from(2, |old: Profile2| old.into());
    /// # drop(profile);
    /// ```
    ///
    /// # Panics
    /// When the version is not an older one than that of the state, or has a migration already.
    #[must_use]
    pub fn migrate_from<Old: DeserializeOwned>(
        self,
        version: u32,
        upgrade: impl Fn(Old) -> V + Send + Sync + 'static,
    ) -> Self {
        Self { declared: self.declared.migrate(version, step_of_values(upgrade)) }
    }

    /// Gives each value a time to live.
    #[must_use]
    pub fn with_ttl(&self, ttl: StateTtl) -> TtlValueState<K, V> {
        TtlValueState::new(&self.declared, ttl)
    }

    /// The value of the current key.
    #[inline]
    #[must_use]
    pub fn get(&self, cx: &impl CurrentKey<K>) -> Option<&V> {
        self.declared.table().get(cx.current(), &())
    }

    /// The value of the current key for writing.
    #[inline]
    pub fn get_mut(&mut self, cx: &impl CurrentKey<K>) -> Option<&mut V> {
        self.declared.table_mut().get_mut(cx.current(), &())
    }

    /// The value of the current key for writing, made by `default` when there is none.
    #[inline]
    pub fn get_or_insert_with(&mut self, cx: &impl CurrentKey<K>, default: impl FnOnce() -> V) -> &mut V {
        self.declared.table_mut().get_or_insert_with(cx.current(), &(), default)
    }

    /// Sets the value of the current key.
    pub fn set(&mut self, cx: &impl CurrentKey<K>, value: V) {
        let mut value = Some(value);
        let slot = self.get_or_insert_with(cx, || value.take().expect("called at most once"));
        if let Some(value) = value {
            *slot = value;
        }
    }

    /// Removes the value of the current key.
    pub fn clear(&mut self, cx: &impl CurrentKey<K>) -> Option<V> {
        self.declared.table_mut().remove(cx.current(), &())
    }
}

impl<K: Key, V: StateValue> KeyedState<K> for ValueState<K, V> {
    fn backing(&mut self) -> &mut dyn StateBacking<K> {
        &mut self.declared
    }
}
