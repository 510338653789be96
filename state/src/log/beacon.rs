//! The beacon: an object that the leader rewrites while it is alive, and how a standby watches it. It decides only *when*
//! somebody tries to take over; whether that is right is decided by the log alone.

use millstream_runtime::ids::Epoch;
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::store::BlobStore;
use serde::{Deserialize, Serialize};

use super::cluster_log::Leader;
use super::record::WriterNonce;
use crate::frame::{self, FrameKind};
use crate::names;

const BEACON: FrameKind = FrameKind { magic: *b"MSBEACON", version: 1, what: "beacon of the leader" };

/// A leader rewrites its beacon so often within a lease, so that one write may fail or be slow.
const REWRITES_PER_LEASE: u64 = 4;

/// What the leader writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beacon {
    /// Its epoch.
    pub epoch: Epoch,
    /// Its process.
    pub writer: WriterNonce,
    /// Counts the rewrites; only that it changes means something.
    pub count: u64,
    /// Where it is found.
    pub leader: Leader,
}

impl Beacon {
    /// Shows the next sign of life.
    ///
    /// # Errors
    /// When the store refuses; the leader goes on, and tries again when the next one is due.
    pub fn write(&mut self, blobs: &dyn BlobStore) -> Result<(), PortError> {
        self.count += 1;
        let content = rmp_serde::to_vec_named(self).expect("plain data serialises");
        blobs.put(names::BEACON, &[&frame::seal(BEACON, &content)])
    }

    /// The newest sign of life; `None` when there was never a leader. One that cannot be made sense of is none.
    ///
    /// # Errors
    /// When the store cannot answer.
    pub fn read(blobs: &dyn BlobStore) -> Result<Option<Self>, PortError> {
        let Some(bytes) = blobs.get(names::BEACON)? else { return Ok(None) };
        let content = frame::open(BEACON, names::BEACON, &bytes).ok();
        Ok(content.and_then(|content| rmp_serde::from_slice(content).ok()))
    }
}

/// Time between two rewrites of a beacon, in milliseconds.
#[must_use]
pub fn rewrite_interval_ms(lease_ms: u64) -> u64 {
    (lease_ms / REWRITES_PER_LEASE).max(1)
}

/// What a standby does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// Nothing until this time, unless something is heard.
    Wait {
        /// On its own clock.
        until_ms: u64,
    },
    /// The beacon stood still for too long: try to win the lead.
    TryToLead,
}

/// A standby's view of the beacon. Pure: time is its own monotonic clock, in milliseconds from any beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standby {
    lease_ms: u64,
    /// State of the random numbers.
    random: u64,
    /// The newest sign of life of the newest leader.
    seen: Option<(Epoch, WriterNonce, u64)>,
    /// Somebody has won the lead, although no beacon was seen yet.
    is_led: bool,
    /// When it tries to take over.
    due_ms: u64,
}

impl Standby {
    /// Begins to watch: whoever leads has a whole lease to be heard of.
    #[must_use]
    pub fn new(lease_ms: u64, seed: u64, now_ms: u64) -> Self {
        let mut standby = Self { lease_ms, random: seed, seen: None, is_led: false, due_ms: 0 };
        standby.restart(now_ms);
        standby
    }

    /// What the beacon shows at this time. Call it at least once a lease; not when the store cannot answer, which says
    /// nothing about the leader. Where there was never a beacon, there is nobody to wait for.
    pub fn observe(&mut self, beacon: Option<&Beacon>, now_ms: u64) -> Watched {
        let shown = beacon.map(|beacon| (beacon.epoch, beacon.writer, beacon.count));
        match (shown, self.seen) {
            (None, None) if !self.is_led => return Watched::TryToLead,
            (None, _) => {}
            // A leader of an older term that woke up is no sign of life of the newest one.
            (Some(shown), Some(seen)) if shown.0 < seen.0 || shown == seen => {}
            (Some(shown), _) => {
                self.seen = Some(shown);
                self.restart(now_ms);
            }
        }
        if now_ms >= self.due_ms { Watched::TryToLead } else { Watched::Wait { until_ms: self.due_ms } }
    }

    /// Another candidate was quicker, or it is not known: it gets a whole lease to be heard of.
    pub fn lost(&mut self, now_ms: u64) {
        self.is_led = true;
        self.restart(now_ms);
    }

    /// A lease and a random part of one, so that candidates do not collide again and again.
    fn restart(&mut self, now_ms: u64) {
        // SplitMix64 (Steele, Lea, Flood 2014).
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        self.due_ms = now_ms + self.lease_ms + mixed % (self.lease_ms / 2).max(1);
    }
}

#[cfg(test)]
mod tests {
    use millstream_runtime::ids::NodeId;

    use super::*;
    use crate::blob::{Fault, MemoryBlobs, Operation};

    const LEASE_MS: u64 = 1_000;

    fn beacon(epoch: u64, count: u64) -> Beacon {
        let leader = Leader { node: NodeId("a".to_string()), rest: "http://a:8081".to_string() };
        Beacon { epoch: Epoch(epoch), writer: WriterNonce([epoch as u8; 16]), count, leader }
    }

    fn due(watched: Watched) -> u64 {
        match watched {
            Watched::Wait { until_ms } => until_ms,
            Watched::TryToLead => panic!("it does not wait"),
        }
    }

    #[test]
    fn a_beacon_that_moves_is_waited_for_and_one_that_stands_still_is_not() {
        for seed in 0..100 {
            let mut standby = Standby::new(LEASE_MS, seed, 50);
            let mut now_ms = 50;
            for count in 1..10 {
                now_ms += LEASE_MS - 1;
                let until_ms = due(standby.observe(Some(&beacon(1, count)), now_ms));
                assert!((now_ms + LEASE_MS..now_ms + LEASE_MS * 3 / 2).contains(&until_ms), "seed {seed}");
            }
            let until_ms = due(standby.observe(Some(&beacon(1, 9)), now_ms + LEASE_MS - 1));
            assert_eq!(due(standby.observe(Some(&beacon(1, 9)), until_ms - 1)), until_ms, "nothing prolongs it");
            assert_eq!(standby.observe(Some(&beacon(1, 9)), until_ms), Watched::TryToLead);
            standby.lost(until_ms);
            assert!(due(standby.observe(Some(&beacon(1, 9)), until_ms)) >= until_ms + LEASE_MS, "the wait starts anew");
        }
    }

    #[test]
    fn an_older_leader_that_wakes_up_does_not_count_as_the_newest() {
        let mut standby = Standby::new(LEASE_MS, 7, 0);
        let until_ms = due(standby.observe(Some(&beacon(2, 1)), 10));
        for count in 5..50 {
            assert_eq!(due(standby.observe(Some(&beacon(1, count)), 20 + count)), until_ms);
        }
        assert_eq!(standby.observe(Some(&beacon(1, 99)), until_ms), Watched::TryToLead);
        assert!(due(standby.observe(Some(&beacon(3, 1)), until_ms)) >= until_ms + LEASE_MS);
    }

    #[test]
    fn where_there_was_never_a_leader_nobody_waits_and_where_one_was_deleted_somebody_does() {
        let mut standby = Standby::new(LEASE_MS, 7, 0);
        assert_eq!(standby.observe(None, 0), Watched::TryToLead);
        standby.lost(0);
        assert!(due(standby.observe(None, 1)) >= LEASE_MS, "the winner has not lit its beacon yet");
        let until_ms = due(standby.observe(Some(&beacon(1, 1)), 5));
        assert_eq!(due(standby.observe(None, 6)), until_ms);
    }

    #[test]
    fn candidates_with_different_seeds_do_not_try_together() {
        let times: std::collections::BTreeSet<u64> =
            (0..10).map(|seed| due(Standby::new(LEASE_MS, seed, 0).observe(Some(&beacon(1, 1)), 0))).collect();
        assert!(times.len() >= 9, "{times:?}");
    }

    #[test]
    fn a_beacon_is_read_as_it_was_written_and_damage_is_no_sign_of_life() {
        let blobs = MemoryBlobs::new();
        assert_eq!(Beacon::read(&blobs).expect("answers"), None);
        let mut written = beacon(3, 0);
        written.write(&blobs).expect("writes");
        written.write(&blobs).expect("writes");
        assert_eq!(Beacon::read(&blobs).expect("answers"), Some(beacon(3, 2)));
        blobs.damage(names::BEACON, |bytes| bytes[30] ^= 1);
        assert_eq!(Beacon::read(&blobs).expect("answers"), None);
        blobs.fail_after(Operation::Get, 1, Fault::Refused);
        assert!(Beacon::read(&blobs).is_err(), "a store that cannot answer is no missing beacon");
        assert_eq!(rewrite_interval_ms(LEASE_MS), 250);
    }
}
