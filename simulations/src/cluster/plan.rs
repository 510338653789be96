//! What happens in a run of a cluster: drawn from a seed once, then data. A plan can be written down, changed and run again.

use millstream_actors::dispatcher::SchedulingMode;
use millstream_actors::subtask::actor::BETWEEN_COMMITS;
use millstream_state::failpoint::{BEFORE_COMMIT, LOG_APPENDED, MANIFEST_CREATED, SEGMENT_WRITTEN};
use serde::{Deserialize, Serialize};

use crate::plan::Random;

/// Failpoints that job managers hit.
const OF_JOB_MANAGERS: &[&str] = &[MANIFEST_CREATED, LOG_APPENDED, BEFORE_COMMIT];
/// Failpoints that task managers hit.
const OF_TASK_MANAGERS: &[&str] = &[SEGMENT_WRITTEN, BETWEEN_COMMITS];

/// A run. Times are milliseconds of simulated time since its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Seeds everything random in the run itself: latencies, orders, keys, jitter.
    pub seed: u64,
    /// The first hosts; one of them leads.
    pub job_managers: usize,
    /// The hosts behind them. The job wants all of their slots.
    pub task_managers: usize,
    /// Slots of each.
    pub slots: u32,
    /// Whether the job runs with fewer slots when some are lost.
    pub adaptive: bool,
    /// Whether the job takes all slots that there are, whatever it was submitted with.
    #[serde(default)]
    pub reactive: bool,
    /// How the subtasks of the job are joined.
    #[serde(default)]
    pub shape: Shape,
    /// What the job reads.
    pub input: Input,
    /// How rows are exchanged.
    pub exchange: Exchange,
    /// Milliseconds between the starts of two checkpoints.
    pub checkpoint_interval_ms: i64,
    /// Milliseconds after which a barrier overtakes rows, if it may.
    pub aligned_timeout_ms: Option<u64>,
    /// Latency of a packet, at least and at most.
    pub latency_ms: (u64, u64),
    /// What a piece of blocking work takes at most.
    pub blocking_ms: u64,
    /// What goes wrong, in order of time.
    pub faults: Vec<Fault>,
    /// When the job must have ended: faults are over long before.
    pub end_ms: u64,
    /// A bug that the run must catch.
    pub mutant: Option<Mutant>,
}

/// The input of the job: records that come into being while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Splits.
    pub splits: u64,
    /// Records of each.
    pub records: u64,
    /// Milliseconds between two records of a split.
    pub every_ms: u64,
    /// Distinct keys.
    pub keys: u64,
}

/// How the subtasks of the job are joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shape {
    /// By key: all are one region.
    #[default]
    ByKey,
    /// Each reader has a sink of its own: as many regions as readers, which fail and restart each on its own.
    Lanes,
    /// By key, and beside it a reader with a sink that share nothing with the rest and are one each at every parallelism.
    Beside,
}

/// How rows are exchanged between subtasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// Rows in a full batch.
    pub batch_rows: usize,
    /// Batches that may be under way in a channel.
    pub credit_batches: u32,
    /// The sink writes every batch as blocking work, while those behind it wait.
    pub slow_sink: bool,
}

/// Bugs that are put into a cluster to see whether the simulation notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mutant {
    /// The sink makes rows visible when they are prepared, not when the checkpoint is complete.
    CommitsEarly,
    /// The sink drops the oldest transaction that it is to commit.
    SkipsACommit,
    /// A reader stores a position that is one record too early.
    RepeatsOne,
    /// The sink of a region that begins throws away what regions that go on beside it have prepared.
    AbortsOthers,
    /// The checkpoint store writes over what is there, and says that nothing was.
    Overwrites,
}

/// Something that goes wrong for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// When it begins, or may begin.
    pub at_ms: u64,
    /// How long it lasts.
    pub for_ms: u64,
    /// What it is.
    pub kind: FaultKind,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FaultKind {
    /// The process is killed, and started again as the next incarnation.
    Crash {
        /// Of this host.
        host: usize,
        /// At which moment from then on.
        moment: Moment,
    },
    /// No packet passes from one host to another.
    Partition {
        /// One.
        one: usize,
        /// The other.
        other: usize,
        /// Nor back.
        both_ways: bool,
    },
    /// Packets between two hosts are lost now and then, with those that are under way.
    Loss {
        /// One.
        one: usize,
        /// The other.
        other: usize,
    },
    /// Nothing of a host's blocking work gets done, while the rest of it goes on: its disk and its store hang.
    Stall {
        /// Of this host.
        host: usize,
    },
}

/// When a process is killed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Moment {
    /// At once.
    AtOnce,
    /// Behind its next piece of blocking work: that is done, and nobody was told.
    BehindWork,
    /// In the midst of a piece of blocking work, between two durable steps: where its first process hits this failpoint so
    /// often, whenever that is.
    At(String, u32),
}

impl Plan {
    /// A cluster of one job manager and two task managers in which nothing goes wrong.
    #[must_use]
    pub fn calm(seed: u64) -> Self {
        Self {
            seed,
            job_managers: 1,
            task_managers: 2,
            slots: 1,
            adaptive: false,
            reactive: false,
            shape: Shape::default(),
            input: Input { splits: 3, records: 200, every_ms: 10, keys: 20 },
            exchange: Exchange { batch_rows: 64, credit_batches: 8, slow_sink: false },
            checkpoint_interval_ms: 150,
            aligned_timeout_ms: None,
            latency_ms: (1, 3),
            blocking_ms: 4,
            faults: Vec::new(),
            end_ms: 60_000,
            mutant: None,
        }
    }

    /// The plan of a seed: one job manager or two, two task managers, two to five faults.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut plan = Self::calm(seed);
        plan.job_managers = random.between(1, 3) as usize;
        plan.adaptive = random.between(0, 2) == 1;
        plan.slots = random.between(1, 3) as u32;
        plan.input.records = random.between(300, 500);
        plan.checkpoint_interval_ms = random.between(50, 400).cast_signed();
        plan.aligned_timeout_ms = [None, Some(0), Some(20)][random.between(0, 3) as usize];
        plan.exchange.batch_rows = random.between(1, 32) as usize;
        plan.exchange.credit_batches = random.between(1, 8) as u32;
        plan.exchange.slow_sink = random.between(0, 2) == 1;
        plan.latency_ms.1 = random.between(2, 10);
        plan.blocking_ms = random.between(1, 20);
        for _ in 0..random.between(2, 6) {
            let kind = plan.fault_kind(&mut random);
            // Some are over before anybody notices.
            plan.faults.push(Fault { at_ms: random.between(300, 5_000), for_ms: random.between(50, 4_000), kind });
        }
        plan.faults.sort_by_key(|fault| fault.at_ms);
        plan.shape = [Shape::ByKey, Shape::Lanes][random.between(0, 2) as usize];
        plan.reactive = random.between(0, 4) == 1;
        if plan.shape == Shape::ByKey && random.between(0, 2) == 1 {
            plan.shape = Shape::Beside;
        }
        plan
    }

    fn fault_kind(&self, random: &mut Random) -> FaultKind {
        let hosts = self.hosts();
        let one = random.between(0, hosts as u64) as usize;
        let other = (one + random.between(1, hosts as u64) as usize) % hosts;
        match random.between(0, 9) {
            0 => FaultKind::Crash { host: one, moment: Moment::AtOnce },
            1 | 2 => FaultKind::Crash { host: one, moment: Moment::BehindWork },
            3 | 4 => {
                let names = if self.is_job_manager(one) { OF_JOB_MANAGERS } else { OF_TASK_MANAGERS };
                let name = names[random.between(0, names.len() as u64) as usize];
                let hit = random.between(1, 25) as u32;
                FaultKind::Crash { host: one, moment: Moment::At(name.to_owned(), hit) }
            }
            5 => FaultKind::Partition { one, other, both_ways: true },
            6 => FaultKind::Partition { one, other, both_ways: false },
            7 => FaultKind::Loss { one, other },
            _ => FaultKind::Stall { host: one },
        }
    }

    /// Number of hosts.
    #[must_use]
    pub fn hosts(&self) -> usize {
        self.job_managers + self.task_managers
    }

    /// What the job does with other slots than it wants.
    #[must_use]
    pub fn scheduling_mode(&self) -> SchedulingMode {
        match (self.reactive, self.adaptive) {
            (true, _) => SchedulingMode::Reactive,
            (false, true) => SchedulingMode::Adaptive,
            (false, false) => SchedulingMode::Whole,
        }
    }

    /// Subtasks of each operator that the job is submitted with.
    #[must_use]
    pub fn parallelism(&self) -> u32 {
        if self.reactive {
            return 1;
        }
        u32::try_from(self.task_managers).expect("few hosts") * self.slots
    }

    /// Whether a host may lead; the others have slots.
    #[must_use]
    pub fn is_job_manager(&self, host: usize) -> bool {
        host < self.job_managers
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

    #[test]
    fn seeds_reach_every_kind_of_fault_at_every_kind_of_host() {
        let mut seen = std::collections::BTreeSet::new();
        for plan in (0..100).map(Plan::of_seed) {
            for fault in &plan.faults {
                let (kind, host) = match &fault.kind {
                    FaultKind::Crash { host, moment: Moment::AtOnce } => ("crash", host),
                    FaultKind::Crash { host, moment: Moment::BehindWork } => ("crash behind work", host),
                    FaultKind::Crash { host, moment: Moment::At(name, _) } => (name.as_str(), host),
                    FaultKind::Partition { one, both_ways: true, .. } => ("partition", one),
                    FaultKind::Partition { one, both_ways: false, .. } => ("half a partition", one),
                    FaultKind::Loss { one, .. } => ("loss", one),
                    FaultKind::Stall { host } => ("stall", host),
                };
                seen.insert((kind.to_owned(), plan.is_job_manager(*host)));
            }
        }
        assert_eq!(seen.len(), 2 * 6 + 5, "{seen:?}");
    }
}
