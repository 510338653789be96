//! Drives a run of links: steps the simulated time, lets faults happen, and checks in the end that everything got done. Runs
//! of whole clusters share its network.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use millstream_cluster::Authority;

use crate::counting::{self, Progress, Site};
use crate::plan::{FaultKind, Plan};
use crate::trace::Trace;
use crate::world::EPOCH_MS;

/// Datagrams that may wait at a host.
const UDP_CAPACITY: usize = 1 << 16;

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Hash over all events and packets.
    pub hash: u128,
    /// Packets sent.
    pub packets: u64,
    /// What happened, line by line.
    pub lines: Vec<String>,
    /// What must not have happened.
    pub violations: Vec<String>,
}

/// The name of a host.
#[must_use]
pub fn host_name(index: usize) -> String {
    format!("node-{index}")
}

/// Runs a plan, in a thread of its own: nothing of the one before is left in thread-local state.
///
/// # Panics
/// When the run itself panics.
#[must_use]
pub fn run(plan: &Plan) -> Outcome {
    let plan = plan.clone();
    in_a_fresh_thread(move || run_here(&plan))
}

pub(crate) fn in_a_fresh_thread(run: impl FnOnce() -> Outcome + Send + 'static) -> Outcome {
    #[expect(clippy::disallowed_methods, reason = "a fresh thread for each simulation")]
    let thread = std::thread::spawn(run);
    match thread.join() {
        Ok(outcome) => outcome,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// A network without hosts.
pub(crate) fn network<'a>(seed: u64, latency_ms: (u64, u64), end_ms: u64) -> turmoil::Sim<'a> {
    turmoil::Builder::new()
        .rng_seed(seed)
        .enable_random_order()
        .tick_duration(Duration::from_millis(1))
        .epoch(SystemTime::UNIX_EPOCH + Duration::from_millis(EPOCH_MS.unsigned_abs()))
        .simulation_duration(Duration::from_millis(end_ms + 1_000))
        .min_message_latency(Duration::from_millis(latency_ms.0))
        .max_message_latency(Duration::from_millis(latency_ms.1))
        .udp_capacity(UDP_CAPACITY)
        .build()
}

/// What the driver does at a time.
enum Act {
    Begin(FaultKind),
    End(FaultKind),
}

fn run_here(plan: &Plan) -> Outcome {
    let trace = Trace::default();
    let progress: Vec<Arc<Mutex<Progress>>> = (0..plan.hosts).map(|_| Arc::default()).collect();
    let mut simulation = network(plan.seed, plan.latency_ms, plan.end_ms);
    let authority = Arc::new(Authority::create(EPOCH_MS).expect("the machine has random numbers"));
    for (index, progress) in progress.iter().enumerate() {
        let (plan, trace, progress) = (plan.clone(), trace.clone(), Arc::clone(progress));
        let (authority, incarnations) = (Arc::clone(&authority), Mutex::new(0));
        simulation.host(host_name(index), move || {
            let mut last = incarnations.lock().unwrap_or_else(PoisonError::into_inner);
            *last += 1;
            let (authority, progress) = (Arc::clone(&authority), Arc::clone(&progress));
            let site =
                Site { plan: plan.clone(), index, incarnation: *last, trace: trace.clone(), progress, authority };
            async move { counting::run(site).await }
        });
    }
    let mut acts: Vec<(u64, Act)> = Vec::new();
    for fault in &plan.faults {
        acts.push((fault.at_ms, Act::Begin(fault.kind)));
        acts.push((fault.at_ms + fault.for_ms, Act::End(fault.kind)));
    }
    acts.sort_by_key(|(at_ms, _)| *at_ms);
    let mut acts = acts.into_iter().peekable();
    let mut violations = Vec::new();
    for now_ms in 0..plan.end_ms {
        trace.time().set(now_ms);
        while let Some((_, act)) = acts.next_if(|(at_ms, _)| *at_ms <= now_ms) {
            carry_out(&mut simulation, &act, &trace, now_ms);
        }
        if let Err(error) = simulation.step() {
            violations.push(format!("at {now_ms} ms: {error}"));
            break;
        }
    }
    for (index, progress) in progress.iter().enumerate() {
        let progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
        violations.extend(progress.violations.iter().cloned());
        if progress.received != plan.values || !progress.ended {
            let (received, values) = (progress.received, plan.values);
            violations.push(format!("{} has {received} of {values} values in the end", host_name(index)));
        }
    }
    Outcome { hash: trace.hash(), packets: trace.packets(), lines: trace.lines(), violations }
}

fn carry_out(simulation: &mut turmoil::Sim<'_>, act: &Act, trace: &Trace, now_ms: u64) {
    let (kind, begins) = match act {
        Act::Begin(kind) => (kind, true),
        Act::End(kind) => (kind, false),
    };
    trace.event("fault", &format!("{now_ms}: {kind:?} {}", if begins { "begins" } else { "ends" }));
    match (*kind, begins) {
        (FaultKind::Crash { host }, true) => simulation.crash(host_name(host)),
        (FaultKind::Crash { host }, false) => simulation.bounce(host_name(host)),
        (FaultKind::Partition { one, other }, true) => simulation.partition(host_name(one), host_name(other)),
        (FaultKind::Partition { one, other }, false) => simulation.repair(host_name(one), host_name(other)),
    }
}
