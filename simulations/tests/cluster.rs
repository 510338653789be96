//! A whole cluster with a job, through whatever its seed lets happen: the output is that of a run without faults, and a
//! seed gives the same run each time.

use millstream_simulations::cluster::{Plan, run};
use millstream_simulations::simulation::Outcome;

fn checked(plan: &Plan) -> Outcome {
    let outcome = run(plan);
    let plan = serde_json::to_string(plan).expect("plain data");
    assert!(outcome.violations.is_empty(), "{:#?}\n{:#?}\nplan: {plan}", outcome.lines, outcome.violations);
    outcome
}

#[test]
fn a_job_in_a_calm_cluster_gives_the_same_trace_each_time() {
    let first = checked(&Plan::calm(1));
    if std::env::var_os("SHOW").is_some() {
        first.lines.iter().for_each(|line| println!("{line}"));
    }
    let again = checked(&Plan::calm(1));
    assert_eq!(first.lines, again.lines);
    assert_eq!((first.hash, first.packets), (again.hash, again.packets), "packets or blobs differ");
    assert_ne!(first.hash, checked(&Plan::calm(2)).hash);
}
