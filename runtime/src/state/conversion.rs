//! Entries of a stored state as a newer program wants them: migrated from an older version, given a time of their last use or
//! relieved of it. Works on encoded entries, one by one, so that a state is rewritten without ever being in memory.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::cut::{Entries, StateDeclaration};
use super::encoding::encode_value;
use super::keyed::ttl::TtlTime;
use super::schema::{StateSchema, ValueKind, of_stored};
use crate::ports::PortError;
use crate::ports::state::StateNumber;
use crate::time::Timestamp;

/// What the two parts of a value with a time are encoded as: an array of two.
const TIMED: u8 = 0x92;

/// What is to be done with the entries of one stored state.
#[derive(Clone)]
pub struct Conversion {
    from: StateDeclaration,
    to: StateDeclaration,
    schema: StateSchema,
    was: Option<TtlTime>,
}

impl Conversion {
    /// From what is stored to what is declared, between which the version has been found to have a migration.
    pub(super) fn new(from: &StateDeclaration, schema: &StateSchema) -> Self {
        let to = StateDeclaration { number: StateNumber(0), name: schema.stored_name(), version: schema.version() };
        let (_, was) = of_stored(&from.name);
        Self { from: from.clone(), to, schema: schema.clone(), was }
    }

    /// The state as it is stored.
    #[must_use]
    pub fn from(&self) -> &StateDeclaration {
        &self.from
    }

    /// The state as it is to be stored; its number says nothing.
    #[must_use]
    pub fn to(&self) -> &StateDeclaration {
        &self.to
    }

    /// The time that entries without one get, or with one by another clock: that of the restore, of day or by watermark.
    #[must_use]
    pub fn last_use(&self, now_ms: Timestamp, watermark: Timestamp) -> Timestamp {
        match self.schema.ttl {
            None | Some(TtlTime::ProcessingTime) => now_ms,
            Some(TtlTime::EventTime) => watermark,
        }
    }

    /// Appends what an entry becomes.
    ///
    /// # Errors
    /// When the entry is not of the type that the migration takes.
    pub fn convert(&self, key: &[u8], value: &[u8], last_use: Timestamp, out: &mut Entries) -> Result<(), PortError> {
        self.try_convert(key, value, last_use, out).map_err(|error| {
            let StateDeclaration { name, version, .. } = &self.from;
            let message = format!("state '{name}', stored in version {version}: {}", error.message);
            PortError { kind: error.kind, message }
        })
    }

    fn try_convert(&self, key: &[u8], value: &[u8], last_use: Timestamp, out: &mut Entries) -> Result<(), PortError> {
        let (key, value) = match self.schema.kind {
            ValueKind::One => self.item(key, value, last_use)?,
            ValueKind::Items => (Cow::Borrowed(key), self.items(value, last_use)?),
        };
        out.push(&key, Some(&value));
        Ok(())
    }

    /// The items of a list, which is an array.
    fn items(&self, list: &[u8], last_use: Timestamp) -> Result<Vec<u8>, PortError> {
        let (count, mut rest) = array(list).ok_or_else(not_encoded)?;
        let mut out = Vec::with_capacity(list.len() + count * 10);
        out.extend_from_slice(&list[..list.len() - rest.len()]);
        for _ in 0..count {
            let mut behind = rest;
            IgnoredAny::deserialize(&mut rmp_serde::Deserializer::new(&mut behind)).map_err(|_| not_encoded())?;
            let (item, others) = rest.split_at(rest.len() - behind.len());
            out.extend_from_slice(&self.item(&[], item, last_use)?.1);
            rest = others;
        }
        if rest.is_empty() { Ok(out) } else { Err(not_encoded()) }
    }

    fn item<'a>(
        &self,
        key: &'a [u8],
        value: &[u8],
        last_use: Timestamp,
    ) -> Result<(Cow<'a, [u8]>, Vec<u8>), PortError> {
        let (used, plain) = match self.was {
            None => (None, value),
            Some(_) => split(value).map(|(used, plain)| (Some(used), plain))?,
        };
        let (key, plain) = match self.schema.versions.step_from(&self.schema.name, self.from.version)? {
            Some(step) => step(key, plain)?,
            None => (Cow::Borrowed(key), plain.to_vec()),
        };
        let Some(ttl) = self.schema.ttl else { return Ok((key, plain)) };
        let used = used.filter(|_| self.was == Some(ttl)).unwrap_or(last_use);
        let mut timed = vec![TIMED];
        timed.extend_from_slice(&encode_value(&used)?);
        timed.extend_from_slice(&plain);
        Ok((key, timed))
    }
}

/// Takes the time off a value that has one.
fn split(timed: &[u8]) -> Result<(Timestamp, &[u8]), PortError> {
    let mut rest = timed.strip_prefix(&[TIMED]).ok_or_else(not_encoded)?;
    let used = Timestamp::deserialize(&mut rmp_serde::Deserializer::new(&mut rest)).map_err(|_| not_encoded())?;
    Ok((used, rest))
}

/// The length of an array, and what is behind it.
fn array(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (marker, rest) = bytes.split_first()?;
    match marker {
        0x90..=0x9f => Some((usize::from(marker & 0x0f), rest)),
        0xdc => rest.split_first_chunk().map(|(count, rest)| (usize::from(u16::from_be_bytes(*count)), rest)),
        0xdd => rest.split_first_chunk().map(|(count, rest)| (u32::from_be_bytes(*count) as usize, rest)),
        _ => None,
    }
}

fn not_encoded() -> PortError {
    PortError::fix_input("a stored value is not of the kind of state that the program declares")
}
