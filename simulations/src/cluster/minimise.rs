//! From a plan that fails to a smaller one that fails as well: what is kept in `simulations/regressions/`, and looked at by
//! people.

use super::plan::Plan;

/// Leaves out what the failure does not need: faults, and whatever makes the cluster
/// other than a calm one. Hosts stay, since faults name them.
pub fn minimised(plan: &Plan, fails: impl Fn(&Plan) -> bool) -> Plan {
    let mut smallest = plan.clone();
    while let Some(smaller) = smaller(&smallest).into_iter().find(&fails) {
        smallest = smaller;
    }
    smallest
}

/// Plans that are a step smaller.
fn smaller(plan: &Plan) -> Vec<Plan> {
    let mut plans = Vec::new();
    let mut with = |change: &dyn Fn(&mut Plan)| {
        let mut changed = plan.clone();
        change(&mut changed);
        if changed != *plan {
            plans.push(changed);
        }
    };
    for index in 0..plan.faults.len() {
        with(&|plan| drop(plan.faults.remove(index)));
    }
    let calm = Plan::calm(plan.seed);
    with(&|plan| plan.adaptive = calm.adaptive);
    with(&|plan| plan.reactive = calm.reactive);
    with(&|plan| plan.slots = calm.slots);
    with(&|plan| plan.shape = calm.shape);
    with(&|plan| plan.exchange = calm.exchange);
    with(&|plan| plan.aligned_timeout_ms = calm.aligned_timeout_ms);
    with(&|plan| plan.checkpoint_interval_ms = calm.checkpoint_interval_ms);
    with(&|plan| plan.blocking_ms = calm.blocking_ms);
    with(&|plan| plan.latency_ms = calm.latency_ms);
    plans
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::plan::FaultKind;

    #[test]
    fn what_the_failure_does_not_need_is_left_out() {
        let stalls = |plan: &Plan| plan.faults.iter().any(|fault| matches!(fault.kind, FaultKind::Stall { .. }));
        let plan = (0..100).map(Plan::of_seed).find(|plan| stalls(plan) && plan.faults.len() > 2).expect("one of many");
        let minimal = minimised(&plan, stalls);
        assert_eq!(minimal.faults.len(), 1);
        assert_eq!(minimal.exchange, Plan::calm(plan.seed).exchange);
        assert_eq!(minimal.job_managers, plan.job_managers);
    }
}
