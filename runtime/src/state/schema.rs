//! What a program says of a keyed state, and what it makes of one that is stored otherwise: in an older version, or with a time
//! to live that it had not or has no more. Asked by whoever opens stored state, before anything is read.

use std::borrow::Cow;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::conversion::Conversion;
use super::cut::StateDeclaration;
use super::encoding::{decode_key, decode_value, encode_value};
use super::keyed::ttl::TtlTime;
use super::table::StateValue;
use super::versions::Versions;
use crate::key::Key;
use crate::ports::PortError;

/// What the stored name of a state ends with whose entries have the time of day of their last use.
const BY_PROCESSING_TIME: &str = "+ttl";
/// The same with event time.
const BY_EVENT_TIME: &str = "+ttl:event";

/// Key and value of one entry without a time, as an older version stored them, to what the present one has.
pub(super) type Step = dyn for<'a> Fn(&'a [u8], &[u8]) -> Result<(Cow<'a, [u8]>, Vec<u8>), PortError> + Send + Sync;

fn step(
    convert: impl for<'a> Fn(&'a [u8], &[u8]) -> Result<(Cow<'a, [u8]>, Vec<u8>), PortError> + Send + Sync + 'static,
) -> Arc<Step> {
    Arc::new(convert)
}

/// From values of an older version, or the items of its lists.
pub(super) fn step_of_values<Old, V>(upgrade: impl Fn(Old) -> V + Send + Sync + 'static) -> Arc<Step>
where
    Old: DeserializeOwned,
    V: StateValue,
{
    step(move |key, value| Ok((Cow::Borrowed(key), encode_value(&upgrade(decode_value(value)?))?)))
}

/// From entries of maps: map keys and values.
pub(super) fn step_of_entries<K, OldM, OldV, M, V>(
    upgrade: impl Fn(OldM, OldV) -> (M, V) + Send + Sync + 'static,
) -> Arc<Step>
where
    K: Key,
    OldM: Key,
    OldV: DeserializeOwned,
    M: Key,
    V: StateValue,
{
    step(move |key, value| {
        let (key, map_key): (K, OldM) = decode_key(key)?;
        let (map_key, value) = upgrade(map_key, decode_value(value)?);
        let mut encoded = Vec::with_capacity(24);
        key.encode_key(&mut encoded);
        map_key.encode_key(&mut encoded);
        Ok((Cow::Owned(encoded), encode_value(&value)?))
    })
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ValueKind {
    /// One thing, with one time of its last use.
    One,
    /// A list, each item with a time of its own.
    Items,
}

/// What a program declares of a keyed state.
#[derive(Clone)]
pub struct StateSchema {
    pub(super) name: String,
    pub(super) versions: Versions<Step>,
    /// By which time its entries grow old, if they do.
    pub(super) ttl: Option<TtlTime>,
    pub(super) kind: ValueKind,
}

impl StateSchema {
    /// A state without a time to live, in its first version.
    pub(crate) fn new(name: impl Into<String>, kind: ValueKind) -> Self {
        Self { name: name.into(), versions: Versions::only(1), ttl: None, kind }
    }

    /// A state that has one form only.
    pub(super) fn fixed(name: &str, version: u32) -> Self {
        Self { versions: Versions::only(version), ..Self::new(name, ValueKind::One) }
    }

    pub(super) fn version(&self) -> u32 {
        self.versions.present()
    }

    pub(super) fn set_version(&mut self, version: u32) {
        self.versions.set(&self.name, version);
    }

    /// Adds a migration from an older version.
    pub(super) fn migrate(&mut self, from: u32, step: Arc<Step>) {
        self.versions.add(&self.name, from, step);
    }

    /// The same state with entries that expire.
    pub(super) fn expiring(&self, time: TtlTime) -> Self {
        Self { ttl: Some(time), ..self.clone() }
    }

    /// The name it is stored under: the form of the entries shows in it.
    pub(super) fn stored_name(&self) -> String {
        match self.ttl {
            None => self.name.clone(),
            Some(TtlTime::ProcessingTime) => format!("{}{BY_PROCESSING_TIME}", self.name),
            Some(TtlTime::EventTime) => format!("{}{BY_EVENT_TIME}", self.name),
        }
    }

    fn is(&self, stored: &StateDeclaration) -> bool {
        self.version() == stored.version && self.stored_name() == stored.name
    }
}

/// A stored name without what it says of the form, and that form.
pub(super) fn of_stored(name: &str) -> (&str, Option<TtlTime>) {
    if let Some(name) = name.strip_suffix(BY_EVENT_TIME) {
        return (name, Some(TtlTime::EventTime));
    }
    name.strip_suffix(BY_PROCESSING_TIME).map_or((name, None), |name| (name, Some(TtlTime::ProcessingTime)))
}

/// What has to be done with stored states before a program that declares these can read them; nothing for those that it
/// declares as they are. One that it does not declare at all is left alone.
///
/// # Errors
/// `FixInput` for a version that the program has no migration from, and for one newer than its own: reading it would be
/// guesswork, and beginning anew would lose what is there.
pub fn conversions(declared: &[StateSchema], stored: &[StateDeclaration]) -> Result<Vec<Conversion>, PortError> {
    let mut conversions: Vec<Conversion> = Vec::new();
    for from in stored {
        // Segments may number a state differently.
        let is_same = |other: &StateDeclaration| (&other.name, other.version) == (&from.name, from.version);
        if declared.iter().any(|schema| schema.is(from)) || conversions.iter().any(|other| is_same(other.from())) {
            continue;
        }
        let (name, _) = of_stored(&from.name);
        let exactly = declared.iter().find(|schema| schema.stored_name() == from.name);
        let Some(schema) = exactly.or_else(|| declared.iter().find(|schema| schema.name == name)) else { continue };
        schema.versions.step_from(&schema.name, from.version)?;
        let conversion = Conversion::new(from, schema);
        // A program may have declared it with and without a time to live: then both are somebody's.
        let taken = stored.iter().any(|other| other.name == conversion.to().name && !is_same(other));
        if taken || conversions.iter().any(|other| other.to().name == conversion.to().name) {
            return Err(PortError::fix_input(format!(
                "state '{name}' is stored in several forms, and the program declares one of them: declare them as they are stored"
            )));
        }
        conversions.push(conversion);
    }
    Ok(conversions)
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
