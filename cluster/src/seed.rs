//! Everything random about an endpoint, from one key: so that a simulation replays the same packets.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quinn::{ConnectionId, ConnectionIdGenerator};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use rustls::crypto::GetRandomFailed;

use crate::error::Error;

/// Bytes of a connection id.
const CONNECTION_ID_BYTES: usize = 8;

/// Source of all keys, ids and random numbers of one endpoint.
#[derive(Clone)]
pub struct NetSeed {
    key: hmac::Key,
    simulated: bool,
}

impl NetSeed {
    /// From the randomness of the machine; TLS uses that as well.
    ///
    /// # Errors
    /// When the machine has none.
    pub fn from_system() -> Result<Self, Error> {
        let mut bytes = [0; 32];
        let filled = SystemRandom::new().fill(&mut bytes);
        filled.map_err(|_| Error::System("the random numbers of the operating system cannot be read".to_owned()))?;
        Ok(Self { key: hmac::Key::new(hmac::HMAC_SHA256, &bytes), simulated: false })
    }

    /// From a number; TLS uses it as well, so that nothing is secret. For simulations only.
    #[must_use]
    pub fn simulated(seed: u64) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &seed.to_le_bytes()), simulated: true }
    }

    /// 32 bytes for one purpose.
    pub(crate) fn derive(&self, purpose: &str) -> [u8; 32] {
        let tag = hmac::sign(&self.key, purpose.as_bytes());
        tag.as_ref().try_into().expect("SHA-256 gives 32 bytes")
    }

    /// A number for one purpose.
    pub(crate) fn number(&self, purpose: &str) -> u64 {
        let bytes = self.derive(purpose);
        u64::from_le_bytes(*bytes.first_chunk().expect("eight of 32 bytes"))
    }

    /// An endless stream of bytes for one purpose.
    pub(crate) fn stream(&self, purpose: &str) -> KeyStream {
        KeyStream { key: hmac::Key::new(hmac::HMAC_SHA256, &self.derive(purpose)), counter: AtomicU64::new(0) }
    }

    /// What TLS draws from; `None` means the machine's randomness.
    pub(crate) fn tls_random(&self) -> Option<&'static dyn rustls::crypto::SecureRandom> {
        // A provider lives as long as the process; simulations make a few dozen.
        self.simulated.then(|| -> &'static dyn rustls::crypto::SecureRandom { Box::leak(Box::new(self.stream("tls"))) })
    }
}

/// HMAC of a counter.
#[derive(Debug)]
pub(crate) struct KeyStream {
    key: hmac::Key,
    counter: AtomicU64,
}

impl KeyStream {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(32) {
            let counter = self.counter.fetch_add(1, Ordering::Relaxed);
            let tag = hmac::sign(&self.key, &counter.to_le_bytes());
            chunk.copy_from_slice(&tag.as_ref()[..chunk.len()]);
        }
    }

    fn connection_id(&self) -> ConnectionId {
        let mut bytes = [0; CONNECTION_ID_BYTES];
        self.fill(&mut bytes);
        ConnectionId::new(&bytes)
    }
}

impl rustls::crypto::SecureRandom for KeyStream {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        Self::fill(self, bytes);
        Ok(())
    }
}

/// Makes the connection ids of an endpoint.
pub(crate) struct SeededConnectionIds(pub(crate) std::sync::Arc<KeyStream>);

impl ConnectionIdGenerator for SeededConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        self.0.connection_id()
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// Makes the ids that a dialler first addresses a peer by.
pub(crate) fn destination_ids(stream: KeyStream) -> impl Fn() -> ConnectionId + Send + Sync {
    // At least eight bytes are demanded (RFC 9000, 7.2).
    move || stream.connection_id()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_keys_and_another_other_ones() {
        let (one, same, other) = (NetSeed::simulated(1), NetSeed::simulated(1), NetSeed::simulated(2));
        assert_eq!(one.derive("reset"), same.derive("reset"));
        assert_ne!(one.derive("reset"), other.derive("reset"));
        assert_ne!(one.derive("reset"), one.derive("token"));
        let (first, second) = (one.stream("ids"), same.stream("ids"));
        assert_eq!(first.connection_id(), second.connection_id());
        assert_ne!(first.connection_id(), first.connection_id(), "it goes on");
    }

    #[test]
    fn the_seed_of_the_machine_differs_each_time() {
        let seeds = [NetSeed::from_system(), NetSeed::from_system()].map(|seed| seed.expect("randomness").number("x"));
        assert_ne!(seeds[0], seeds[1]);
    }
}
