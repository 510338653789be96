//! Drives a run of a cluster: steps the simulated time, does the blocking work of its hosts, lets faults happen, and checks in
//! the end that the job has ended and what it has written.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use millstream_cluster::Authority;
use millstream_runtime::ports::PortError;
use millstream_state::log::{TerminalState, recover_cluster};

use super::findings::Findings;
use super::host::{self, Site};
use super::job::{Counting, expected};
use super::output::{Output, Row};
use super::plan::{Fault, FaultKind, Moment, Mutant, Plan};
use super::store::Store;
use crate::simulation::{Outcome, host_name, in_a_fresh_thread, network};
use crate::trace::Trace;
use crate::world::{EPOCH_MS, Executor};

/// How long a run goes on behind the end of the job: whatever comes late comes then.
const AFTERWARDS_MS: u64 = 1_000;
/// How often it is looked whether the cluster remembers the end of the job.
const LOOK_EVERY_MS: u64 = 100;
/// How the job is to end.
const FINISHED: Option<TerminalState> = Some(TerminalState::Finished);
/// How long a process that was killed at a failpoint is dead.
const DOWN_AT_FAILPOINT_MS: u64 = 300;
/// The part of packets that is lost on a lossy link.
const LOST: f64 = 0.05;

/// Runs a plan, in a thread of its own: nothing of the one before is left in thread-local state.
///
/// # Panics
/// When the run itself panics.
#[must_use]
pub fn run(plan: &Plan) -> Outcome {
    let plan = plan.clone();
    in_a_fresh_thread(move || {
        let folders = tempfile::tempdir().expect("a temporary folder can be made");
        let site = site(plan, folders.path().to_path_buf());
        let simulation = network(site.plan.seed, site.plan.latency_ms, site.plan.end_ms);
        Driver::new(site, simulation).run()
    })
}

/// What all hosts share.
fn site(plan: Plan, folders: std::path::PathBuf) -> Site {
    let trace = Trace::default();
    let findings = Findings::new(trace.clone());
    let output = Output::new(trace.clone(), findings.clone());
    let overwrites = plan.mutant == Some(Mutant::Overwrites);
    Site {
        index: 0,
        authority: Arc::new(Authority::create(EPOCH_MS).expect("the machine has random numbers")),
        folders,
        executor: Executor::new(trace.time().clone(), plan.seed, plan.blocking_ms),
        store: Store::new(trace.clone(), findings.clone(), output.clone(), overwrites),
        counting: Counting::new(plan.clone(), output),
        plan,
        trace,
        findings,
    }
}

/// What the driver does at a time.
#[derive(Debug)]
enum Act {
    Begin(Fault),
    Restart(usize),
    Heal(usize, usize),
    LoseNone(usize, usize),
    GoOn(usize),
}

struct Driver<'a> {
    site: Site,
    simulation: turmoil::Sim<'a>,
    /// By time, then in the order in which they were planned.
    acts: BTreeMap<(u64, u64), Act>,
    planned: u64,
    down: BTreeSet<usize>,
    /// Hosts that are killed behind their next piece of work, and for how long.
    doomed: BTreeMap<usize, u64>,
}

impl<'a> Driver<'a> {
    fn new(site: Site, mut simulation: turmoil::Sim<'a>) -> Self {
        for index in 0..site.plan.hosts() {
            let site = Site { index, ..site.clone() };
            simulation.host(host_name(index), move || host::run(site.clone()));
        }
        let (acts, planned) = (BTreeMap::new(), 0);
        let mut driver = Self { site, simulation, acts, planned, down: BTreeSet::new(), doomed: BTreeMap::new() };
        for fault in driver.site.plan.faults.clone() {
            driver.plan(fault.at_ms, Act::Begin(fault));
        }
        driver
    }

    fn plan(&mut self, at_ms: u64, act: Act) {
        self.planned += 1;
        self.acts.insert((at_ms, self.planned), act);
    }

    fn now_ms(&self) -> u64 {
        self.site.trace.time().now_ms()
    }

    fn run(mut self) -> Outcome {
        for now_ms in 0..self.site.plan.end_ms {
            self.site.trace.time().set(now_ms);
            while let Some(entry) = self.acts.first_entry().filter(|entry| entry.key().0 <= now_ms) {
                let act = entry.remove();
                self.carry_out(act);
            }
            if let Err(error) = self.simulation.step() {
                self.site.findings.violation(format!("a host has ended: {error}"));
                break;
            }
            self.work();
            let ended_ms = self.site.findings.ended_ms();
            let is_calm = self.acts.is_empty() && ended_ms.is_some_and(|ended_ms| ended_ms + AFTERWARDS_MS <= now_ms);
            // A leader may have died between the job's last record and the cluster's: the next one sees to that.
            if is_calm && now_ms % LOOK_EVERY_MS == 0 && self.ends().is_ok_and(|ends| ends == [FINISHED]) {
                break;
            }
        }
        self.check();
        let trace = &self.site.trace;
        let (hash, packets, lines) = (trace.hash(), trace.packets(), trace.lines());
        Outcome { hash, packets, lines, violations: self.site.findings.violations() }
    }

    /// Does what is due of the hosts' blocking work.
    fn work(&mut self) {
        while let Some((host, work)) = self.site.executor.next_due() {
            let done = catch_unwind(AssertUnwindSafe(work));
            if self.site.executor.is_doomed(host) {
                self.kill(host, DOWN_AT_FAILPOINT_MS);
            } else if done.is_err() {
                self.site.findings.violation(format!("blocking work of {} panicked", host_name(host)));
            } else if let Some(for_ms) = self.doomed.remove(&host) {
                self.kill(host, for_ms);
            }
        }
    }

    fn carry_out(&mut self, act: Act) {
        self.site.trace.event("fault", &format!("{act:?}"));
        match act {
            Act::Begin(Fault { kind, for_ms, .. }) => self.begin(kind, for_ms),
            Act::Restart(host) => {
                self.down.remove(&host);
                self.simulation.bounce(host_name(host));
            }
            Act::Heal(one, other) => self.simulation.repair(host_name(one), host_name(other)),
            Act::LoseNone(one, other) => self.simulation.set_link_fail_rate(host_name(one), host_name(other), 0.0),
            Act::GoOn(host) => self.site.executor.stall(host, false),
        }
    }

    fn begin(&mut self, kind: FaultKind, for_ms: u64) {
        let end_ms = self.now_ms() + for_ms;
        match kind {
            FaultKind::Crash { host, moment: Moment::AtOnce } => self.kill(host, for_ms),
            FaultKind::Crash { host, moment: Moment::BehindWork } => {
                if !self.down.contains(&host) {
                    self.doomed.insert(host, for_ms);
                }
            }
            // Its first process knows where.
            FaultKind::Crash { moment: Moment::At(..), .. } => {}
            FaultKind::Partition { one, other, both_ways } => {
                let (from, to) = (host_name(one), host_name(other));
                if both_ways {
                    self.simulation.partition(from, to)
                } else {
                    self.simulation.partition_oneway(from, to)
                }
                self.plan(end_ms, Act::Heal(one, other));
            }
            FaultKind::Loss { one, other } => {
                self.simulation.set_link_fail_rate(host_name(one), host_name(other), LOST);
                self.plan(end_ms, Act::LoseNone(one, other));
            }
            FaultKind::Stall { host } => {
                self.site.executor.stall(host, true);
                self.plan(end_ms, Act::GoOn(host));
            }
        }
    }

    /// Kills a host's process, unless it is dead already.
    fn kill(&mut self, host: usize, for_ms: u64) {
        if !self.down.insert(host) {
            return;
        }
        self.site.trace.event("fault", &format!("{} is killed", host_name(host)));
        self.simulation.crash(host_name(host));
        self.site.executor.forget(host);
        self.doomed.remove(&host);
        self.plan(self.now_ms() + for_ms, Act::Restart(host));
    }

    /// How jobs have ended, as the cluster's log has it.
    fn ends(&self) -> Result<Vec<Option<TerminalState>>, PortError> {
        Ok(recover_cluster(self.site.store.blobs())?.jobs.into_values().map(|job| job.ended).collect())
    }

    /// What must hold in the end.
    fn check(&self) {
        let findings = &self.site.findings;
        if findings.ended_ms().is_none() {
            return findings.violation(format!("the job has not ended after {} ms", self.site.plan.end_ms));
        }
        match self.ends() {
            Ok(ends) if ends == [FINISHED] => {}
            Ok(ends) => findings.violation(format!("the cluster's log has these ends of jobs: {ends:?}")),
            Err(error) => findings.violation(format!("the cluster's log cannot be read: {error}")),
        }
        let rows = self.site.counting.output().rows();
        let expected = expected(&self.site.plan.input, self.site.plan.shape);
        let all: u64 = expected.iter().map(|(_, count, _)| count).sum();
        // Every count of a key once, and the sum behind its last one.
        let last: BTreeMap<u64, Row> = rows.iter().map(|row| (row.0, *row)).collect();
        let last: Vec<Row> = last.into_values().collect();
        if rows.len() as u64 != all {
            findings.violation(format!("{} rows are visible in the end, {all} should be", rows.len()));
        }
        if last != expected {
            findings.violation(format!("the output ends with {last:?} instead of {expected:?}"));
        }
    }
}
