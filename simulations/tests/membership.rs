//! The failure detector over real links on a simulated network: who is suspected, lost and back, and that two hosts which
//! do not reach each other are noticed though both heartbeat to the first.

use millstream_simulations::plan::{Fault, FaultKind, Plan};
use millstream_simulations::simulation::run;

/// The verdicts of the first host behind the start, in order.
fn verdicts(kind: FaultKind, for_ms: u64) -> Vec<String> {
    let plan = Plan { faults: vec![Fault { at_ms: 1_000, for_ms, kind }], ..Plan::of_seed(1) };
    let outcome = run(&plan);
    assert!(outcome.violations.is_empty(), "{:#?}\n{:#?}", outcome.lines, outcome.violations);
    let told = outcome.lines.iter().filter_map(|line| Some(line.split_once("verdict ")?.1.to_owned()));
    let told: Vec<String> = told.collect();
    assert!(told[..2].iter().all(|verdict| verdict.starts_with("Joined")), "{told:?}");
    told[2..].iter().map(|verdict| short(verdict)).collect()
}

/// The name of a verdict, and whom it is about.
fn short(verdict: &str) -> String {
    let name = verdict.split('(').next().unwrap_or_default();
    let nodes: Vec<&str> = verdict.split('"').skip(1).step_by(2).collect();
    format!("{name} {}", nodes.join(" "))
}

#[test]
fn hosts_that_only_do_not_reach_each_other_are_separated_and_nobody_is_lost() {
    let seen = verdicts(FaultKind::Partition { one: 1, other: 2 }, 4_000);
    assert_eq!(seen, ["Separated node-1 node-2", "Reunited node-1 node-2"]);
}

#[test]
fn a_host_that_is_cut_off_is_suspected_then_lost_and_returns() {
    let seen = verdicts(FaultKind::Partition { one: 0, other: 1 }, 3_000);
    assert_eq!(seen, ["Suspected node-1", "Lost node-1", "Returned node-1"]);
}

#[test]
fn a_host_that_is_cut_off_for_a_moment_is_not_lost() {
    let seen = verdicts(FaultKind::Partition { one: 0, other: 1 }, 700);
    assert_eq!(seen, ["Suspected node-1", "Cleared node-1"]);
}

#[test]
fn a_host_that_crashes_is_lost_and_its_next_process_joins() {
    let seen = verdicts(FaultKind::Crash { host: 2 }, 2_000);
    assert_eq!(seen, ["Suspected node-2", "Lost node-2", "Joined node-2"]);
}
