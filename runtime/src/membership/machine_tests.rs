//! The failure detector, case by case.

use super::*;
use crate::ids::{NodeId, NodeIncarnation, NodeProcess};

fn process(name: &str, incarnation: u64) -> NodeProcess {
    NodeProcess { node: NodeId(name.to_owned()), incarnation: NodeIncarnation(incarnation) }
}

/// The machine with two nodes that have joined at 0.
fn two() -> Membership {
    let mut membership = Membership::new(Options::default());
    let mut out = Vec::new();
    membership.link_up(&process("a", 1), 0, &mut out);
    membership.link_up(&process("b", 1), 0, &mut out);
    assert_eq!(out, [Verdict::Joined(process("a", 1)), Verdict::Joined(process("b", 1))]);
    membership
}

fn verdicts(call: impl FnOnce(&mut Vec<Verdict>)) -> Vec<Verdict> {
    let mut out = Vec::new();
    call(&mut out);
    out
}

#[test]
fn a_silent_node_is_suspected_then_lost_and_may_return() {
    let mut membership = two();
    membership.heartbeat(&process("a", 1), 400, &mut Vec::new());
    assert_eq!(membership.next_tick_ms(), Some(500));
    assert_eq!(verdicts(|out| membership.tick(499, out)), []);
    assert_eq!(verdicts(|out| membership.tick(500, out)), [Verdict::Suspected(process("b", 1))]);
    membership.heartbeat(&process("a", 1), 800, &mut Vec::new());
    let lost = Verdict::Lost(process("b", 1), LossReason::Silent { for_ms: 1_000 });
    assert_eq!(verdicts(|out| membership.tick(1_000, out)), [lost]);
    assert_eq!(verdicts(|out| membership.tick(1_100, out)), [], "once");
    assert_eq!(membership.state(&process("b", 1).node), Some(NodeState::Lost));
    assert_eq!(
        verdicts(|out| membership.heartbeat(&process("b", 1), 1_200, out)),
        [Verdict::Returned(process("b", 1))]
    );
}

#[test]
fn a_broken_link_makes_suspected_at_once_and_lost_only_when_it_stays_broken() {
    let mut membership = two();
    let b = process("b", 1);
    assert_eq!(verdicts(|out| membership.link_down(&b, out)), [Verdict::Suspected(b.clone())]);
    assert_eq!(verdicts(|out| membership.heartbeat(&b, 100, out)), [], "from before the break");
    assert_eq!(verdicts(|out| membership.link_up(&b, 300, out)), [Verdict::Cleared(b.clone())]);
    membership.link_down(&b, &mut Vec::new());
    membership.heartbeat(&process("a", 1), 1_299, &mut Vec::new());
    assert_eq!(verdicts(|out| membership.tick(1_299, out)), []);
    let lost = Verdict::Lost(b, LossReason::Silent { for_ms: 1_000 });
    assert_eq!(verdicts(|out| membership.tick(1_300, out)), [lost]);
}

#[test]
fn a_restarted_process_takes_the_place_of_the_old_one_which_is_not_heard_any_more() {
    let mut membership = two();
    let (old, new) = (process("b", 1), process("b", 2));
    let replaced = [Verdict::Lost(old.clone(), LossReason::Restarted), Verdict::Joined(new.clone())];
    assert_eq!(verdicts(|out| membership.link_up(&new, 100, out)), replaced);
    let late = verdicts(|out| {
        membership.link_up(&old, 150, out);
        membership.heartbeat(&old, 200, out);
        membership.link_down(&old, out);
        membership.left(&old, out);
    });
    assert_eq!(late, []);
    assert_eq!(membership.members().last(), Some((&new, NodeState::Alive)));
}

#[test]
fn a_node_that_leaves_is_lost_at_once() {
    let mut membership = two();
    let b = process("b", 1);
    assert_eq!(verdicts(|out| membership.left(&b, out)), [Verdict::Lost(b.clone(), LossReason::Left)]);
    assert_eq!(verdicts(|out| membership.link_down(&b, out)), []);
}

#[test]
fn two_healthy_nodes_whose_link_breaks_are_separated_and_neither_is_lost() {
    let mut membership = two();
    let (a, b) = (process("a", 1), process("b", 1));
    let mut out = Vec::new();
    for now_ms in (0..=3_000).step_by(100) {
        // Both heartbeat to the job manager all the time.
        membership.heartbeat(&a, now_ms, &mut out);
        membership.heartbeat(&b, now_ms, &mut out);
        if now_ms == 500 {
            membership.reported(&a, &b.node, false, now_ms, &mut out);
        }
        if now_ms == 700 {
            membership.reported(&b, &a.node, false, now_ms, &mut out);
            membership.reported(&b, &a.node, false, now_ms, &mut out);
        }
        membership.tick(now_ms, &mut out);
        let separated = now_ms >= 1_500;
        assert_eq!(out.len(), usize::from(separated), "{now_ms}: {out:?}");
        assert_eq!(membership.reach_each_other(&b.node, &a.node), !separated);
    }
    assert_eq!(out, [Verdict::Separated(a.node.clone(), b.node.clone())]);
    assert_eq!(verdicts(|out| membership.reported(&a, &b.node, true, 3_100, out)), [], "b does not see it yet");
    let reunited = [Verdict::Reunited(a.node.clone(), b.node.clone())];
    assert_eq!(verdicts(|out| membership.reported(&b, &a.node, true, 3_200, out)), reunited);
}

#[test]
fn a_link_that_heals_in_time_or_belongs_to_a_lost_node_separates_nobody() {
    let mut membership = two();
    let (a, b) = (process("a", 1), process("b", 1));
    membership.reported(&a, &b.node, false, 0, &mut Vec::new());
    membership.reported(&a, &b.node, true, 400, &mut Vec::new());
    membership.reported(&a, &b.node, false, 800, &mut Vec::new());
    membership.heartbeat(&a, 1_000, &mut Vec::new());
    // b is silent: lost, and what a reported about it forgotten.
    assert_eq!(verdicts(|out| membership.tick(1_000, out)).len(), 1);
    membership.heartbeat(&a, 1_900, &mut Vec::new());
    assert_eq!(verdicts(|out| membership.tick(1_900, out)), []);
    membership.reported(&a, &b.node, false, 1_900, &mut Vec::new());
    assert_eq!(membership.next_tick_ms(), Some(2_400), "nothing is kept about a lost node");
}
