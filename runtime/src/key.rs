//! Keys: one canonical, order-preserving encoding and one hash, the same on every platform and in every version.
//! Key group, segment order and the local store all use them; `std::hash::Hash` never decides placement.
//! Changing anything here breaks every savepoint: the golden vectors in the tests hold it still.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// Version of encoding and hash, written into every manifest.
pub const KEY_FORMAT_VERSION: u16 = 1;

/// Canonical hash of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyHash(pub u64);

/// What can be a key: has a canonical encoding and a canonical hash.
///
/// The encoding is prefix-free and compares bytewise in the order of the value, so that tuples are the concatenation
/// of their fields. Equal keys encode to equal bytes.
pub trait Key: Clone + Ord + Send + Sync + 'static {
    /// Appends the canonical bytes.
    fn encode_key(&self, out: &mut Vec<u8>);

    /// Reads a key from the front of `input` and advances it.
    ///
    /// # Errors
    /// When the bytes are not a key of this type.
    fn decode_key(input: &mut &[u8]) -> Result<Self, KeyFormatError>;

    /// The canonical hash. The default hashes the encoding; integers override it with a direct mix.
    #[inline]
    fn key_hash(&self) -> KeyHash {
        let mut bytes = Vec::with_capacity(32);
        self.encode_key(&mut bytes);
        KeyHash(xxh3_64(&bytes))
    }
}

/// Bytes that are not the encoding of a key of the expected type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("these bytes are not a key of the expected type: the key type of an operator cannot change")]
pub struct KeyFormatError;

/// Finaliser of MurmurHash3 (64 bit): a bijection in which every input bit reaches every output bit.
#[inline]
fn mix(mut x: u64) -> KeyHash {
    x ^= x >> 33;
    x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
    x ^= x >> 33;
    x = x.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    KeyHash(x ^ (x >> 33))
}

fn take<'a>(input: &mut &'a [u8], n: usize) -> Result<&'a [u8], KeyFormatError> {
    let (head, tail) = input.split_at_checked(n).ok_or(KeyFormatError)?;
    *input = tail;
    Ok(head)
}

macro_rules! integer_key {
    ($unsigned:ty, $($signed:ty)?) => {
        impl Key for $unsigned {
            #[inline]
            fn encode_key(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }
            #[inline]
            fn decode_key(input: &mut &[u8]) -> Result<Self, KeyFormatError> {
                let bytes = take(input, size_of::<Self>())?;
                Ok(Self::from_be_bytes(bytes.try_into().map_err(|_| KeyFormatError)?))
            }
            #[inline]
            fn key_hash(&self) -> KeyHash {
                mix(u64::from(*self))
            }
        }
        $(
            impl Key for $signed {
                #[inline]
                fn encode_key(&self, out: &mut Vec<u8>) {
                    // Flipping the sign bit makes byte order equal to numeric order.
                    let flipped = self.cast_unsigned() ^ (1 << (<$signed>::BITS - 1));
                    out.extend_from_slice(&flipped.to_be_bytes());
                }
                #[inline]
                fn decode_key(input: &mut &[u8]) -> Result<Self, KeyFormatError> {
                    let bytes = take(input, size_of::<Self>())?;
                    let flipped = <$unsigned>::from_be_bytes(bytes.try_into().map_err(|_| KeyFormatError)?);
                    Ok((flipped ^ (1 << (<$signed>::BITS - 1))).cast_signed())
                }
                #[inline]
                fn key_hash(&self) -> KeyHash {
                    mix(i64::from(*self).cast_unsigned())
                }
            }
        )?
    };
}

integer_key!(u8, i8);
integer_key!(u16, i16);
integer_key!(u32, i32);
integer_key!(u64, i64);

impl Key for bool {
    fn encode_key(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn decode_key(input: &mut &[u8]) -> Result<Self, KeyFormatError> {
        match take(input, 1)? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(KeyFormatError),
        }
    }
    fn key_hash(&self) -> KeyHash {
        mix(u64::from(*self))
    }
}

impl Key for () {
    fn encode_key(&self, _out: &mut Vec<u8>) {}
    fn decode_key(_input: &mut &[u8]) -> Result<Self, KeyFormatError> {
        Ok(())
    }
    fn key_hash(&self) -> KeyHash {
        mix(0)
    }
}

/// Text and bytes end with 0x00 0x01; a 0x00 inside is written 0x00 0xff. So "a" sorts before "ab" and before "a\0".
fn encode_escaped(bytes: &[u8], out: &mut Vec<u8>) {
    for &byte in bytes {
        out.push(byte);
        if byte == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0, 1]);
}

fn decode_escaped(input: &mut &[u8]) -> Result<Vec<u8>, KeyFormatError> {
    let mut bytes = Vec::new();
    loop {
        match take(input, 1)?[0] {
            0 => match take(input, 1)?[0] {
                1 => return Ok(bytes),
                0xff => bytes.push(0),
                _ => return Err(KeyFormatError),
            },
            byte => bytes.push(byte),
        }
    }
}

impl Key for String {
    fn encode_key(&self, out: &mut Vec<u8>) {
        encode_escaped(self.as_bytes(), out);
    }
    fn decode_key(input: &mut &[u8]) -> Result<Self, KeyFormatError> {
        String::from_utf8(decode_escaped(input)?).map_err(|_| KeyFormatError)
    }
    #[inline]
    fn key_hash(&self) -> KeyHash {
        KeyHash(xxh3_64(self.as_bytes()))
    }
}

impl Key for Vec<u8> {
    fn encode_key(&self, out: &mut Vec<u8>) {
        encode_escaped(self, out);
    }
    fn decode_key(input: &mut &[u8]) -> Result<Self, KeyFormatError> {
        decode_escaped(input)
    }
    #[inline]
    fn key_hash(&self) -> KeyHash {
        KeyHash(xxh3_64(self))
    }
}

impl<K: Key> Key for Option<K> {
    fn encode_key(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.is_some()));
        if let Some(key) = self {
            key.encode_key(out);
        }
    }
    fn decode_key(input: &mut &[u8]) -> Result<Self, KeyFormatError> {
        if bool::decode_key(input)? { K::decode_key(input).map(Some) } else { Ok(None) }
    }
}

macro_rules! tuple_key {
    ($($name:ident $index:tt),+) => {
        impl<$($name: Key),+> Key for ($($name,)+) {
            fn encode_key(&self, out: &mut Vec<u8>) {
                $(self.$index.encode_key(out);)+
            }
            fn decode_key(input: &mut &[u8]) -> Result<Self, KeyFormatError> {
                Ok(($($name::decode_key(input)?,)+))
            }
        }
    };
}

tuple_key!(A 0, B 1);
tuple_key!(A 0, B 1, C 2);
tuple_key!(A 0, B 1, C 2, D 3);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded<K: Key>(key: &K) -> Vec<u8> {
        let mut out = Vec::new();
        key.encode_key(&mut out);
        out
    }

    /// These values are in savepoints of users: they never change.
    #[test]
    fn golden_vectors_hold() {
        assert_eq!(encoded(&42u64), [0, 0, 0, 0, 0, 0, 0, 42]);
        assert_eq!(encoded(&-1i32), [0x7f, 0xff, 0xff, 0xff]);
        assert_eq!(encoded(&"a\0b".to_string()), [b'a', 0, 0xff, b'b', 0, 1]);
        assert_eq!(encoded(&(7u8, "x".to_string())), [7, b'x', 0, 1]);
        assert_eq!(42u64.key_hash(), KeyHash(9_297_814_886_316_923_340));
        assert_eq!(0u64.key_hash(), KeyHash(0));
        assert_eq!(String::new().key_hash(), KeyHash(0x2d06_8005_38d3_94c2));
    }

    #[test]
    fn the_hash_of_an_integer_does_not_depend_on_its_width() {
        assert_eq!(7u8.key_hash(), 7u64.key_hash());
        assert_eq!((-7i16).key_hash(), (-7i64).key_hash());
    }

    proptest! {
        #[test]
        fn encoding_round_trips_and_keeps_order(a: (i64, String, Vec<u8>), b: (i64, String, Vec<u8>)) {
            let (x, y) = (encoded(&a), encoded(&b));
            prop_assert_eq!(<(i64, String, Vec<u8>)>::decode_key(&mut x.as_slice()), Ok(a.clone()));
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
        }
    }
}
