//! What happens in a run: drawn from a seed once, then data. A plan can be written down, changed and run again.

use serde::{Deserialize, Serialize};

/// A run. Times are milliseconds of simulated time since its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Seeds everything random in the run itself: latencies, orders, keys, jitter.
    pub seed: u64,
    /// Number of hosts.
    pub hosts: usize,
    /// Values that each host sends to the next.
    pub values: u64,
    /// Values in a batch.
    pub batch: u64,
    /// Milliseconds between two steps of a host.
    pub step_ms: u64,
    /// Latency of a packet, at least and at most.
    pub latency_ms: (u64, u64),
    /// What goes wrong, in order of time.
    pub faults: Vec<Fault>,
    /// When everything must be done: faults are over long before.
    pub end_ms: u64,
    /// A bug that the run must catch.
    pub mutant: Option<Mutant>,
}

/// Bugs that are put into hosts to see whether the simulation notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mutant {
    /// A sender goes on where it was, whatever has arrived.
    GoesOn,
    /// A receiver asks for a number again that it has.
    ForgetsOne,
}

/// Something that goes wrong for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// When it begins.
    pub at_ms: u64,
    /// How long it lasts.
    pub for_ms: u64,
    /// What it is.
    pub kind: FaultKind,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FaultKind {
    /// The process is killed, and started again as the next incarnation.
    Crash {
        /// Of this host.
        host: usize,
    },
    /// No packet passes between two hosts.
    Partition {
        /// One.
        one: usize,
        /// The other.
        other: usize,
    },
}

impl Plan {
    /// The plan of a seed: three hosts, a crash and a partition.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let crash = Fault {
            at_ms: random.between(500, 2_000),
            for_ms: random.between(50, 1_500),
            kind: FaultKind::Crash { host: random.between(0, 3) as usize },
        };
        let one = random.between(0, 3) as usize;
        let partition = Fault {
            at_ms: random.between(500, 3_000),
            // Some are over before anybody notices.
            for_ms: random.between(100, 2_500),
            kind: FaultKind::Partition { one, other: (one + 1) % 3 },
        };
        let mut faults = vec![crash, partition];
        faults.sort_by_key(|fault| fault.at_ms);
        let latency_ms = (1, random.between(2, 10));
        Self { seed, hosts: 3, values: 10_000, batch: 10, step_ms: 5, latency_ms, faults, end_ms: 12_000, mutant: None }
    }
}

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Numbers from a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next_number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `low` to below `high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next_number() % (high - low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_its_seed_s_alone_and_survives_being_written_down() {
        assert_eq!(Plan::of_seed(7), Plan::of_seed(7));
        assert_ne!(Plan::of_seed(7).faults, Plan::of_seed(8).faults);
        let text = serde_json::to_string(&Plan::of_seed(7)).expect("plain data");
        assert_eq!(serde_json::from_str::<Plan>(&text).expect("just written"), Plan::of_seed(7));
    }
}
