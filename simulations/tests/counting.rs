//! Three hosts exchange control and counted data through a crash and a partition: nothing is lost or doubled, everything
//! arrives once the faults are over, and a seed gives the same run each time.

use millstream_simulations::plan::{Mutant, Plan};
use millstream_simulations::simulation::{Outcome, run};

fn checked(plan: &Plan) -> Outcome {
    let outcome = run(plan);
    let plan = serde_json::to_string(plan).expect("plain data");
    assert!(outcome.violations.is_empty(), "{:#?}\n{:#?}\nplan: {plan}", outcome.lines, outcome.violations);
    outcome
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another_one() {
    let first = checked(&Plan::of_seed(1));
    let again = checked(&Plan::of_seed(1));
    assert_eq!(first.lines, again.lines);
    assert_eq!((first.hash, first.packets), (again.hash, again.packets), "packets differ");
    assert_ne!(first.hash, checked(&Plan::of_seed(2)).hash);
}

#[test]
fn every_number_arrives_once_whatever_the_seed_lets_happen() {
    for seed in 3..9 {
        let outcome = checked(&Plan::of_seed(seed));
        let happened = |what: &str| outcome.lines.iter().any(|line| line.contains(what));
        assert!(happened("Crash") && happened("Partition") && happened("is up"), "seed {seed}");
    }
}

#[test]
fn numbers_that_are_lost_or_doubled_are_noticed() {
    for mutant in [Mutant::GoesOn, Mutant::ForgetsOne] {
        let caught = (1..4).any(|seed| {
            let plan = Plan { mutant: Some(mutant), ..Plan::of_seed(seed) };
            run(&plan).violations.iter().any(|violation| violation.contains("was due"))
        });
        assert!(caught, "{mutant:?} survived");
    }
}

#[test]
#[ignore = "a minute: the long form of the one above"]
fn every_number_arrives_once_over_many_seeds() {
    (1_000..1_300).for_each(|seed| drop(checked(&Plan::of_seed(seed))));
}
