//! Two nodes, everything that can happen to them in a few steps of time, in every order: nobody is given up too early or
//! too late, verdicts never contradict each other, and a pair is separated exactly when both live and do not meet.

use std::collections::BTreeMap;

use super::*;
use crate::exploration::{Explored, Model, explore};
use crate::ids::{NodeId, NodeIncarnation, NodeProcess};

const OPTIONS: Options = Options { timeout_ms: 3, suspicion_ms: 2, separation_ms: 2 };
const LAST_MS: u64 = 6;

/// A bug put between the machine and its world.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mutant {
    None,
    /// The machine believes heartbeats of any process of the node.
    ForgetsIncarnations,
    /// Time comes only every other step.
    TicksTooSeldom,
}

#[derive(Clone, Debug)]
enum Event {
    LinkUp(usize),
    LinkDown(usize),
    Beat(usize),
    /// A heartbeat of the process before a restart comes late.
    LateBeat(usize),
    Restart(usize),
    Report(usize, bool),
    Advance,
}

/// What really is.
#[derive(Clone, Debug)]
struct Node {
    incarnation: u64,
    linked: bool,
    seen_ms: u64,
    restarts_left: u32,
}

#[derive(Clone, Debug)]
struct World {
    membership: Membership,
    mutant: Mutant,
    now_ms: u64,
    nodes: [Node; 2],
    /// What whoever obeys the verdicts believes.
    believed: BTreeMap<NodeProcess, NodeState>,
    separated: bool,
    /// Who says that the link between the two is down, since when one does.
    reported: [bool; 2],
    reported_ms: u64,
    reports_left: u32,
}

impl World {
    fn new(mutant: Mutant) -> Self {
        let node = Node { incarnation: 1, linked: false, seen_ms: 0, restarts_left: 1 };
        Self {
            membership: Membership::new(OPTIONS),
            mutant,
            now_ms: 0,
            nodes: [node.clone(), Node { restarts_left: 0, ..node }],
            believed: BTreeMap::new(),
            separated: false,
            reported: [false; 2],
            reported_ms: 0,
            reports_left: 3,
        }
    }

    fn process(&self, node: usize) -> NodeProcess {
        let incarnation = NodeIncarnation(self.nodes[node].incarnation);
        NodeProcess { node: NodeId(["a", "b"][node].to_owned()), incarnation }
    }

    /// Whether the newest process of a node that was ever told of is not lost.
    fn lives(&self, node: usize) -> bool {
        let newest = self.believed.iter().rfind(|(process, _)| process.node == self.process(node).node);
        newest.is_some_and(|(_, state)| *state != NodeState::Lost)
    }

    fn obey(&mut self, verdicts: Vec<Verdict>) -> Result<(), String> {
        for verdict in verdicts {
            let contradiction = format!("{verdict:?} contradicts {:?}", self.believed);
            let (process, allowed, state) = match &verdict {
                Verdict::Joined(process) => (process, vec![None], NodeState::Alive),
                Verdict::Suspected(process) => (process, vec![Some(NodeState::Alive)], NodeState::Suspected),
                Verdict::Cleared(process) => (process, vec![Some(NodeState::Suspected)], NodeState::Alive),
                Verdict::Returned(process) => (process, vec![Some(NodeState::Lost)], NodeState::Alive),
                Verdict::Lost(process, reason) => {
                    self.check_loss(process, reason)?;
                    (process, vec![Some(NodeState::Alive), Some(NodeState::Suspected)], NodeState::Lost)
                }
                Verdict::Separated(..) => {
                    let old = self.now_ms - self.reported_ms >= OPTIONS.separation_ms;
                    if self.separated || !old || self.reported == [false; 2] || !(self.lives(0) && self.lives(1)) {
                        return Err(contradiction);
                    }
                    self.separated = true;
                    continue;
                }
                Verdict::Reunited(..) => {
                    if !std::mem::replace(&mut self.separated, false) {
                        return Err(contradiction);
                    }
                    continue;
                }
            };
            if !allowed.contains(&self.believed.get(process).copied()) {
                return Err(contradiction);
            }
            if state == NodeState::Lost {
                self.reported = [false; 2];
            }
            self.believed.insert(process.clone(), state);
        }
        Ok(())
    }

    fn check_loss(&self, process: &NodeProcess, reason: &LossReason) -> Result<(), String> {
        let node = &self.nodes[usize::from(process.node.0 == "b")];
        match reason {
            LossReason::Silent { for_ms } if *for_ms == self.now_ms - node.seen_ms && *for_ms >= OPTIONS.timeout_ms => {
                Ok(())
            }
            LossReason::Restarted if process.incarnation.0 < node.incarnation => Ok(()),
            reason => Err(format!("{process} was given up without reason: {reason:?}")),
        }
    }

    /// After a tick nothing is overdue.
    fn check_time(&self) -> Result<(), String> {
        for node in 0..2 {
            let silent_ms = self.now_ms - self.nodes[node].seen_ms;
            match self.membership.state(&self.process(node).node) {
                Some(NodeState::Alive) if silent_ms >= OPTIONS.suspicion_ms => {}
                Some(NodeState::Suspected) if silent_ms >= OPTIONS.timeout_ms => {}
                Some(NodeState::Alive | NodeState::Suspected | NodeState::Lost) | None => continue,
            }
            // A restarted process that has not been met yet is none of its business.
            if self.believed.contains_key(&self.process(node)) {
                return Err(format!("silent for {silent_ms} and not noticed: {}", self.process(node)));
            }
        }
        if self.membership.next_tick_ms().is_some_and(|due_ms| due_ms <= self.now_ms) {
            return Err("a tick did not do all that was due".to_owned());
        }
        let overdue = self.now_ms - self.reported_ms >= OPTIONS.separation_ms && self.reported != [false; 2];
        if overdue && !self.separated && self.lives(0) && self.lives(1) {
            return Err("two nodes that do not meet are not separated".to_owned());
        }
        Ok(())
    }

    fn seen(&mut self, node: usize) {
        self.nodes[node].seen_ms = self.now_ms;
    }
}

impl Model for World {
    type Event = Event;

    fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        if self.now_ms >= LAST_MS {
            return events;
        }
        events.push(Event::Advance);
        for (index, node) in self.nodes.iter().enumerate() {
            if node.linked {
                events.extend([Event::LinkDown(index), Event::Beat(index)]);
            } else {
                events.push(Event::LinkUp(index));
            }
            if node.restarts_left > 0 && node.linked {
                events.push(Event::Restart(index));
            }
            if node.incarnation > 1 {
                events.push(Event::LateBeat(index));
            }
            if self.reports_left > 0 && node.linked && self.lives(0) && self.lives(1) {
                events.push(Event::Report(index, !self.reported[index]));
            }
        }
        events
    }

    fn apply(&mut self, event: &Event) -> Result<(), String> {
        let mut out = Vec::new();
        match *event {
            Event::LinkUp(node) => {
                self.nodes[node].linked = true;
                self.seen(node);
                self.membership.link_up(&self.process(node), self.now_ms, &mut out);
            }
            Event::LinkDown(node) => {
                self.nodes[node].linked = false;
                self.membership.link_down(&self.process(node), &mut out);
            }
            Event::Beat(node) => {
                self.seen(node);
                self.membership.heartbeat(&self.process(node), self.now_ms, &mut out);
            }
            Event::LateBeat(node) => {
                let mut old = self.process(node);
                if self.mutant != Mutant::ForgetsIncarnations {
                    old.incarnation.0 -= 1;
                }
                if !self.believed.contains_key(&self.process(node)) {
                    // The old process is all that is known: it seems to live.
                    self.seen(node);
                }
                self.membership.heartbeat(&old, self.now_ms, &mut out);
            }
            Event::Restart(node) => {
                self.nodes[node].restarts_left -= 1;
                self.nodes[node].incarnation += 1;
                self.nodes[node].linked = false;
            }
            Event::Report(node, down) => {
                self.reports_left -= 1;
                if down && self.reported == [false; 2] {
                    self.reported_ms = self.now_ms;
                }
                self.reported[node] = down;
                let other = self.process(1 - node).node;
                self.membership.reported(&self.process(node), &other, !down, self.now_ms, &mut out);
            }
            Event::Advance => {
                self.now_ms += 1;
                if self.mutant != Mutant::TicksTooSeldom || self.now_ms.is_multiple_of(2) {
                    self.membership.tick(self.now_ms, &mut out);
                }
                self.obey(std::mem::take(&mut out))?;
                return self.check_time();
            }
        }
        self.obey(out)
    }

    fn state(&self) -> String {
        let reality = (self.now_ms, &self.nodes, &self.believed, self.separated, self.reported, self.reported_ms);
        format!("{} {reality:?} {}", self.membership.decisive_state(self.now_ms), self.reports_left)
    }
}

fn explore_with(mutant: Mutant) -> Explored<Event> {
    explore(World::new(mutant), 400_000)
}

#[test]
fn in_every_order_of_signs_and_time_nobody_is_given_up_too_early_or_too_late() {
    let explored = explore_with(Mutant::None);
    assert!(explored.violation.is_none(), "{:?}", explored.violation);
    assert!(explored.states > 1_000, "{}", explored.states);
}

#[test]
fn the_enumeration_catches_a_machine_that_believes_old_processes() {
    assert!(explore_with(Mutant::ForgetsIncarnations).violation.is_some());
}

#[test]
fn the_enumeration_catches_missed_time() {
    assert!(explore_with(Mutant::TicksTooSeldom).violation.is_some());
}
