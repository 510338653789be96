//! How entries of keyed state become bytes: the parts of the key in their canonical encoding, one behind the other, and the
//! value as serde has it.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::cut::Entries;
use super::table::StateValue;
use crate::key::{Key, KeyFormatError};
use crate::ports::PortError;

/// Appends an entry whose key has two parts; `None` is a tombstone.
pub(super) fn push_entry<A: Key, B: Key, V: StateValue>(
    entries: &mut Entries,
    (first, second): (&A, &B),
    value: Option<&V>,
) -> Result<(), PortError> {
    let mut outcome = Ok(());
    entries.push_with(
        |out| {
            first.encode_key(out);
            second.encode_key(out);
        },
        |out| {
            outcome = value.map_or(Ok(()), |value| rmp_serde::encode::write(out, value));
            value.is_some()
        },
    );
    outcome.map_err(|error| not_stored::<V>(&error))
}

/// Encodes a value.
pub(super) fn encode_value<V: Serialize>(value: &V) -> Result<Vec<u8>, PortError> {
    rmp_serde::to_vec(value).map_err(|error| not_stored::<V>(&error))
}

fn not_stored<V>(error: &rmp_serde::encode::Error) -> PortError {
    PortError::fix_input(format!("a {} cannot be stored: {error}", std::any::type_name::<V>()))
}

/// Decodes the two parts of a stored key.
pub(super) fn decode_key<A: Key, B: Key>(bytes: &[u8]) -> Result<(A, B), PortError> {
    let mut input = bytes;
    let wrong_key = |error: KeyFormatError| PortError::fix_input(error.to_string());
    let first = A::decode_key(&mut input).map_err(wrong_key)?;
    let second = B::decode_key(&mut input).map_err(wrong_key)?;
    if input.is_empty() { Ok((first, second)) } else { Err(wrong_key(KeyFormatError)) }
}

/// Decodes a stored value.
pub(super) fn decode_value<V: DeserializeOwned>(bytes: &[u8]) -> Result<V, PortError> {
    rmp_serde::from_slice(bytes).map_err(|error| {
        PortError::fix_input(format!(
            "a stored value is not a {}: {error}; the type of a state cannot change without a migration",
            std::any::type_name::<V>()
        ))
    })
}
