//! Encoded entries of one state in one key group, each as it lies in the blocks of a segment: the length of the key, that
//! of the value plus one (0 for a tombstone), both as varints, the key, the value. So an entry is encoded once and only
//! copied on its way to disk. Filled by the tables of a cut, sorted and written by `state`.

use crate::varint::{put_varint, take_varint};

/// Lengths below this take one byte each.
const SHORT: usize = 0x80;

/// Encoded entries in one arena: a key with its value, or with a tombstone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entries {
    bytes: Vec<u8>,
    count: usize,
}

/// An entry of an arena or a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodedEntry<'a> {
    /// Its key.
    pub key: &'a [u8],
    /// Its value; `None` for a tombstone.
    pub value: Option<&'a [u8]>,
}

impl<'a> EncodedEntry<'a> {
    /// Takes the entry at the front of `input` off it; `None` where the bytes are none.
    #[inline]
    #[must_use]
    pub fn take(input: &mut &'a [u8]) -> Option<Self> {
        let mut rest = *input;
        let key = usize::try_from(take_varint(&mut rest)?).ok()?;
        let value = usize::try_from(take_varint(&mut rest)?).ok()?;
        let (key, rest) = rest.split_at_checked(key)?;
        let (bytes, rest) = rest.split_at_checked(value.saturating_sub(1))?;
        *input = rest;
        Some(Self { key, value: (value > 0).then_some(bytes) })
    }

    /// Appends the entry.
    #[inline]
    pub fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.key.len() as u64);
        put_varint(out, self.value.map_or(0, |value| value.len() as u64 + 1));
        out.extend_from_slice(self.key);
        out.extend_from_slice(self.value.unwrap_or_default());
    }
}

impl Entries {
    /// Makes room for this many bytes of entries in all, so that they are not moved while they become more.
    pub fn reserve_up_to(&mut self, bytes: usize) {
        self.bytes.reserve(bytes.saturating_sub(self.bytes.len()));
    }

    /// Removes all; the memory stays.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All of them, encoded one behind the other.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Appends an entry: `write_key` appends the key, then `write_value` the value, or answers false for a tombstone.
    ///
    /// # Panics
    /// When one section grows beyond 4 GiB; sections are one key group of one cut.
    #[inline]
    pub fn push_with(&mut self, write_key: impl FnOnce(&mut Vec<u8>), write_value: impl FnOnce(&mut Vec<u8>) -> bool) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        write_key(&mut self.bytes);
        let key = self.bytes.len() - start - 2;
        let has_value = write_value(&mut self.bytes);
        let value = if has_value { self.bytes.len() - start - 2 - key + 1 } else { 0 };
        if key < SHORT && value < SHORT {
            self.bytes[start] = key as u8;
            self.bytes[start + 1] = value as u8;
        } else {
            self.lengthen(start, key, value);
        }
        assert!(u32::try_from(self.bytes.len()).is_ok(), "a section of one key group in one cut stays below 4 GiB");
        self.count += 1;
    }

    /// Makes room for lengths of more than one byte.
    #[cold]
    fn lengthen(&mut self, start: usize, key: usize, value: usize) {
        let mut lengths = Vec::with_capacity(20);
        put_varint(&mut lengths, key as u64);
        put_varint(&mut lengths, value as u64);
        self.bytes.splice(start..start + 2, lengths);
    }

    /// Appends an entry; `None` is a tombstone.
    pub fn push(&mut self, key: &[u8], value: Option<&[u8]>) {
        self.push_with(
            |out| out.extend_from_slice(key),
            |out| value.inspect(|value| out.extend_from_slice(value)).is_some(),
        );
    }

    /// The entries in the order they came in; `None` is a tombstone.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let EncodedEntry { key, value } =
                (!rest.is_empty()).then(|| EncodedEntry::take(&mut rest).expect("only whole entries are appended"))?;
            Some((key, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_all_lengths_come_back_as_they_went_in() {
        let lengths = [0, 1, 126, 127, 128, 129, 16_383, 16_384];
        let mut entries = Entries::default();
        let mut expected = Vec::new();
        for (n, key) in lengths.into_iter().enumerate() {
            let key = vec![n as u8; key];
            for value in lengths.map(|length| Some(vec![n as u8 + 1; length])).into_iter().chain([None]) {
                entries.push(&key, value.as_deref());
                expected.push((key.clone(), value));
            }
        }
        assert_eq!(entries.len(), expected.len());
        let seen: Vec<_> = entries.iter().map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec))).collect();
        assert_eq!(seen, expected);
        let mut copied = Vec::new();
        entries.iter().for_each(|(key, value)| EncodedEntry { key, value }.put(&mut copied));
        assert_eq!(copied, entries.as_bytes(), "one encoding");
    }

    #[test]
    fn bytes_that_are_no_entry_are_refused() {
        let mut entry = Vec::new();
        EncodedEntry { key: b"key", value: Some(b"value") }.put(&mut entry);
        for length in 0..entry.len() {
            assert_eq!(EncodedEntry::take(&mut &entry[..length]), None);
        }
        assert_eq!(EncodedEntry::take(&mut &[0x80; 30][..]), None);
        assert_eq!(EncodedEntry::take(&mut &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0][..]), None);
    }
}
