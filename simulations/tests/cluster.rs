//! A whole cluster with a job, through whatever its seed lets happen: the output is that of a run without faults, and a
//! seed gives the same run each time.

use millstream_simulations::cluster::minimise::minimised;
use millstream_simulations::cluster::plan::{Fault, FaultKind, Moment, Mutant, Shape};
use millstream_simulations::cluster::{Plan, run};
use millstream_simulations::simulation::Outcome;

/// Runs a plan in which nothing may go wrong for the job. A seed that fails is looked at with `SEEDS=n`, see below.
fn checked(plan: &Plan) -> Outcome {
    let outcome = run(plan);
    let plan = serde_json::to_string(plan).expect("plain data");
    assert!(outcome.violations.is_empty(), "{:#?}\n{:#?}\nplan: {plan}", outcome.lines, outcome.violations);
    outcome
}

fn happened(outcome: &Outcome, what: &str) -> bool {
    outcome.lines.iter().any(|line| line.contains(what))
}

fn assert_same(first: &Outcome, again: &Outcome) {
    for (one, other) in first.lines.iter().zip(&again.lines) {
        assert_eq!(one, other);
    }
    assert_eq!(first.lines.len(), again.lines.len());
    assert_eq!((first.hash, first.packets), (again.hash, again.packets), "packets or blobs differ");
}

#[test]
fn a_calm_cluster_runs_the_job_in_one_attempt_the_same_way_each_time() {
    let first = checked(&Plan::calm(1));
    assert!(happened(&first, "checkpoint 5 of attempt 1.0 is complete") && !happened(&first, "attempt 1.1"));
    assert_same(&first, &checked(&Plan::calm(1)));
    assert_ne!(first.hash, checked(&Plan::calm(2)).hash);
}

#[test]
fn the_same_seed_gives_the_same_crashes_checkpoints_and_commits() {
    for seed in [1, 2, 3] {
        assert_same(&checked(&Plan::of_seed(seed)), &checked(&Plan::of_seed(seed)));
    }
}

#[test]
fn the_output_is_that_of_a_run_without_faults_whatever_the_seed_lets_happen() {
    let outcomes: Vec<Outcome> = (4..16).map(|seed| checked(&Plan::of_seed(seed))).collect();
    for what in ["is killed", "Partition", "Stall", "Loss", "leads", "starts from checkpoint Some", "committed again"] {
        assert!(outcomes.iter().any(|outcome| happened(outcome, what)), "no seed shows '{what}'");
    }
}

/// Plans that have failed once, made small; their names say what was wrong.
#[test]
fn plans_that_have_failed_once_do_not_fail_again() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).expect("it is there").map(|file| file.expect("a file").path()).collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        println!("{}", file.display());
        let text = std::fs::read_to_string(file).expect("a plan");
        checked(&serde_json::from_str(&text).expect("a plan"));
    }
}

fn with_fault(at_ms: u64, for_ms: u64, kind: FaultKind) -> Plan {
    Plan { faults: vec![Fault { at_ms, for_ms, kind }], ..Plan::calm(1) }
}

#[test]
fn another_job_manager_goes_on_with_the_job_when_the_leader_is_killed_or_hangs() {
    let killed = FaultKind::Crash { host: 0, moment: Moment::AtOnce };
    for kind in [killed, FaultKind::Stall { host: 0 }] {
        // Which of the two leads at first is the seed's.
        let plan = Plan { job_managers: 2, ..with_fault(700, 10_000, kind) };
        let leaders = |outcome: &Outcome| outcome.lines.iter().filter(|line| line.ends_with("leads")).count();
        let outcomes: Vec<Outcome> = (1..5).map(|seed| checked(&Plan { seed, ..plan.clone() })).collect();
        let taken_over = outcomes.iter().filter(|outcome| leaders(outcome) == 2).count();
        assert!(taken_over > 0, "{taken_over} takeovers");
    }
}

#[test]
fn a_job_that_has_lost_a_slot_goes_on_with_the_other_and_uses_it_again() {
    let killed = FaultKind::Crash { host: 1, moment: Moment::AtOnce };
    let mut plan = Plan { adaptive: true, ..with_fault(500, 2_500, killed) };
    plan.input.records = 500;
    let outcome = checked(&plan);
    let back = outcome.lines.iter().position(|line| line.ends_with("node-1#2 runs")).expect("it comes back");
    let (alone, together) = outcome.lines.split_at(back);
    let deployed = |lines: &[String]| lines.iter().any(|line| line.contains("starts from checkpoint Some"));
    assert!(deployed(alone) && deployed(together));
}

#[test]
fn lanes_that_have_lost_their_node_restart_and_the_others_go_on() {
    let killed = FaultKind::Crash { host: 2, moment: Moment::AtOnce };
    let mut plan = Plan { shape: Shape::Lanes, slots: 2, ..with_fault(700, 500, killed) };
    plan.input.splits = 4;
    let outcome = checked(&plan);
    let starts = outcome.lines.iter().filter(|line| line.contains("starts from checkpoint"));
    assert_eq!(starts.count(), 2, "{:#?}", outcome.lines);
    // Attempts 0 to 3 are the first of the four lanes; two of these begin again.
    let committed = |attempt: u32| happened(&outcome, &format!("is committed by attempt 1.{attempt},"));
    let attempts: Vec<u32> = (0..9).filter(|attempt| committed(*attempt)).collect();
    assert_eq!(attempts, [0, 1, 2, 3, 4, 5]);
}

#[test]
fn a_pipeline_beside_one_that_is_rescaled_goes_on_when_slots_are_lost_and_come_back() {
    let killed = FaultKind::Crash { host: 2, moment: Moment::AtOnce };
    let mut plan = Plan { adaptive: true, shape: Shape::Beside, ..with_fault(500, 2_500, killed) };
    plan.input.records = 500;
    let outcome = checked(&plan);
    let back = outcome.lines.iter().position(|line| line.ends_with("node-2#2 runs")).expect("it comes back");
    // Two regions: by key as attempt 0, at first with two subtasks, then one, then two again; the other as attempt 1.
    let committed = |lines: &[String], attempt: u32| {
        lines.iter().any(|line| line.contains(&format!("is committed by attempt 1.{attempt},")))
    };
    let by_key: Vec<u32> = (2..9).filter(|attempt| committed(&outcome.lines, *attempt)).collect();
    assert!(by_key.len() >= 2, "{by_key:?}");
    let newest = by_key[by_key.len() - 1];
    let grown = outcome.lines.iter().position(|line| line.contains(&format!("is committed by attempt 1.{newest},")));
    let grown = grown.filter(|grown| *grown > back).expect("it grows again");
    assert!(committed(&outcome.lines[grown..], 1), "the other has gone on: {:#?}", outcome.lines);
}

#[test]
fn broken_rules_are_caught() {
    let caught = |mutant, what: &str| {
        let mut plans: Vec<Plan> = (1..40).map(Plan::of_seed).collect();
        if mutant == Mutant::Overwrites {
            // Two leaders, of which one has slept.
            let plan = Plan { job_managers: 2, ..with_fault(700, 5_000, FaultKind::Stall { host: 0 }) };
            plans = (1..5).map(|seed| Plan { seed, ..plan.clone() }).collect();
        }
        if mutant == Mutant::AbortsOthers {
            plans.iter_mut().for_each(|plan| plan.shape = Shape::Lanes);
        }
        let outcomes = plans.into_iter().map(|plan| run(&Plan { mutant: Some(mutant), ..plan }));
        let mut violations = outcomes.map(|outcome| outcome.violations);
        assert!(violations.any(|found| found.iter().any(|violation| violation.contains(what))), "{mutant:?} survived");
    };
    caught(Mutant::CommitsEarly, "no completed checkpoint lists it");
    caught(Mutant::CommitsEarly, "visible a second time");
    caught(Mutant::SkipsACommit, "rows are visible in the end");
    caught(Mutant::RepeatsOne, "rows are visible in the end");
    caught(Mutant::AbortsOthers, "neither prepared nor committed");
    caught(Mutant::Overwrites, "is written over");
}

#[test]
#[ignore = "minutes: the long form, over many seeds; SEEDS=7 or SEEDS=100-200 for others"]
fn the_output_is_that_of_a_run_without_faults_over_many_seeds() {
    let seeds = std::env::var("SEEDS").unwrap_or_else(|_| "1000-3000".to_owned());
    let number = |text: &str| text.parse::<u64>().expect("SEEDS are numbers");
    let Some((first, last)) = seeds.split_once('-') else {
        let outcome = run(&Plan::of_seed(number(&seeds)));
        outcome.lines.iter().for_each(|line| println!("{line}"));
        return assert!(outcome.violations.is_empty(), "{:#?}", outcome.violations);
    };
    let mut failed = Vec::new();
    for seed in number(first)..=number(last) {
        let outcome = run(&Plan::of_seed(seed));
        if seed % 16 == 0 {
            assert_same(&outcome, &run(&Plan::of_seed(seed)));
        }
        if !outcome.violations.is_empty() {
            let plan = minimised(&Plan::of_seed(seed), |plan| !run(plan).violations.is_empty());
            let plan = serde_json::to_string(&plan).expect("plain data");
            println!("SEEDS={seed}: {:#?}\n{plan}", outcome.violations);
            failed.push(seed);
        }
    }
    assert!(failed.is_empty(), "these seeds fail: {failed:?}");
}
