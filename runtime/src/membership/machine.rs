//! The failure detector. A node is lost when no sign of life came for the time-out, when a newer process of it shows up,
//! or when it says that it stops; a broken link alone makes it suspected, as it may be back in time.
//!
//! Two nodes that are alive may still not reach each other: they report their link, and are separated when it stays down.
//!
//! Invariants: a process is lost at most once until it returns; only a newer process takes a node's place; a separated
//! pair consists of nodes that are not lost.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{NodeId, NodeProcess};

/// When silence counts. Times are milliseconds of one monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Silence after which a node is lost (`heartbeat.timeout`); its tasks are started elsewhere.
    pub timeout_ms: u64,
    /// Silence after which a node is suspected: nothing new is placed on it. At most `timeout_ms`.
    pub suspicion_ms: u64,
    /// How long a link between two nodes may be down before they count as separated. Data channels over it have failed
    /// at once; this only keeps new ones off it.
    pub separation_ms: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { timeout_ms: 1_000, suspicion_ms: 500, separation_ms: 1_000 }
    }
}

/// Why a node was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LossReason {
    /// No sign of life.
    Silent {
        /// Milliseconds since the last one.
        for_ms: u64,
    },
    /// A newer process of the node is there.
    Restarted,
    /// It said that it stops.
    Left,
}

/// What changes for those who rely on nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A new process is there.
    Joined(NodeProcess),
    /// It is late, or its link is down: place nothing new there.
    Suspected(NodeProcess),
    /// The suspicion was wrong.
    Cleared(NodeProcess),
    /// Its tasks are to be started elsewhere.
    Lost(NodeProcess, LossReason),
    /// A process that was lost is back. Whatever it still runs belongs to old attempts.
    Returned(NodeProcess),
    /// Both are alive and do not reach each other: no channel may run between them.
    Separated(NodeId, NodeId),
    /// They reach each other again, or one of them is lost.
    Reunited(NodeId, NodeId),
}

/// How a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// In time.
    Alive,
    /// Late.
    Suspected,
    /// Given up.
    Lost,
}

#[derive(Clone, Debug)]
struct Member {
    process: NodeProcess,
    state: NodeState,
    /// When it last gave a sign of life.
    seen_ms: u64,
    /// Its link is down.
    unlinked: bool,
}

/// A link between two nodes that at least one of them reports as down.
#[derive(Clone, Debug)]
struct Broken {
    since_ms: u64,
    reporters: BTreeSet<NodeId>,
    separated: bool,
}

/// The nodes that a job manager knows. It remembers one process for each node, for ever: names of nodes are few.
#[derive(Clone, Debug)]
pub struct Membership {
    options: Options,
    members: BTreeMap<NodeId, Member>,
    broken: BTreeMap<(NodeId, NodeId), Broken>,
}

impl Membership {
    /// Without nodes.
    #[must_use]
    pub fn new(options: Options) -> Self {
        assert!(options.suspicion_ms <= options.timeout_ms, "suspicion comes before loss");
        Self { options, members: BTreeMap::new(), broken: BTreeMap::new() }
    }

    /// The link to a process is up.
    pub fn link_up(&mut self, process: &NodeProcess, now_ms: u64, out: &mut Vec<Verdict>) {
        let Some(member) = self.members.get(&process.node) else {
            return self.join(process, now_ms, out);
        };
        if process.incarnation > member.process.incarnation {
            let (old, state) = (member.process.clone(), member.state);
            if state != NodeState::Lost {
                out.push(Verdict::Lost(old, LossReason::Restarted));
                self.forget_links(&process.node, out);
            }
            return self.join(process, now_ms, out);
        }
        self.sign_of_life(process, now_ms, true, out);
    }

    /// A heartbeat, or anything else that only a living process sends.
    pub fn heartbeat(&mut self, process: &NodeProcess, now_ms: u64, out: &mut Vec<Verdict>) {
        self.sign_of_life(process, now_ms, false, out);
    }

    /// The link to a process is down; it may be made again.
    pub fn link_down(&mut self, process: &NodeProcess, out: &mut Vec<Verdict>) {
        let Some(member) = self.current(process) else { return };
        member.unlinked = true;
        match member.state {
            NodeState::Alive => {
                member.state = NodeState::Suspected;
                out.push(Verdict::Suspected(process.clone()));
            }
            NodeState::Suspected | NodeState::Lost => {}
        }
    }

    /// A process stops and says so.
    pub fn left(&mut self, process: &NodeProcess, out: &mut Vec<Verdict>) {
        if self.current(process).is_some_and(|member| member.state != NodeState::Lost) {
            self.lose(&process.node.clone(), LossReason::Left, out);
        }
    }

    /// A node reports how its link with another one is. Repeated reports change nothing.
    pub fn reported(&mut self, reporter: &NodeProcess, other: &NodeId, up: bool, now_ms: u64, out: &mut Vec<Verdict>) {
        if self.current(reporter).is_none_or(|member| member.state == NodeState::Lost) || reporter.node == *other {
            return;
        }
        let pair = pair(&reporter.node, other);
        if up {
            let Some(broken) = self.broken.get_mut(&pair) else { return };
            broken.reporters.remove(&reporter.node);
            if broken.reporters.is_empty() {
                self.reunite(&pair, out);
            }
        } else if self.state(other).is_some_and(|state| state != NodeState::Lost) {
            let new = || Broken { since_ms: now_ms, reporters: BTreeSet::new(), separated: false };
            self.broken.entry(pair).or_insert_with(new).reporters.insert(reporter.node.clone());
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now_ms: u64, out: &mut Vec<Verdict>) {
        let nodes: Vec<NodeId> = self.members.keys().cloned().collect();
        for node in nodes {
            let options = self.options;
            let member = self.members.get_mut(&node).expect("just listed");
            let silent_ms = now_ms.saturating_sub(member.seen_ms);
            match member.state {
                NodeState::Alive | NodeState::Suspected if silent_ms >= options.timeout_ms => {
                    self.lose(&node, LossReason::Silent { for_ms: silent_ms }, out);
                }
                NodeState::Alive if silent_ms >= options.suspicion_ms => {
                    member.state = NodeState::Suspected;
                    out.push(Verdict::Suspected(member.process.clone()));
                }
                NodeState::Alive | NodeState::Suspected | NodeState::Lost => {}
            }
        }
        for ((one, other), broken) in &mut self.broken {
            if !broken.separated && now_ms.saturating_sub(broken.since_ms) >= self.options.separation_ms {
                broken.separated = true;
                out.push(Verdict::Separated(one.clone(), other.clone()));
            }
        }
    }

    /// When `tick` has something to say if nothing happens until then.
    #[must_use]
    pub fn next_tick_ms(&self) -> Option<u64> {
        let members = self.members.values().filter_map(|member| match member.state {
            NodeState::Alive => Some(member.seen_ms + self.options.suspicion_ms),
            NodeState::Suspected => Some(member.seen_ms + self.options.timeout_ms),
            NodeState::Lost => None,
        });
        let links = self.broken.values().filter(|broken| !broken.separated);
        members.chain(links.map(|broken| broken.since_ms + self.options.separation_ms)).min()
    }

    /// How a node stands; `None` when it was never seen.
    #[must_use]
    pub fn state(&self, node: &NodeId) -> Option<NodeState> {
        self.members.get(node).map(|member| member.state)
    }

    /// The newest process of each node, and how it stands.
    pub fn members(&self) -> impl Iterator<Item = (&NodeProcess, NodeState)> {
        self.members.values().map(|member| (&member.process, member.state))
    }

    /// Whether two nodes may have channels with each other, as far as is known.
    #[must_use]
    pub fn reach_each_other(&self, one: &NodeId, other: &NodeId) -> bool {
        !self.broken.get(&pair(one, other)).is_some_and(|broken| broken.separated)
    }

    fn join(&mut self, process: &NodeProcess, now_ms: u64, out: &mut Vec<Verdict>) {
        let member = Member { process: process.clone(), state: NodeState::Alive, seen_ms: now_ms, unlinked: false };
        self.members.insert(process.node.clone(), member);
        out.push(Verdict::Joined(process.clone()));
    }

    /// The member, if the process is its newest.
    fn current(&mut self, process: &NodeProcess) -> Option<&mut Member> {
        self.members.get_mut(&process.node).filter(|member| member.process == *process)
    }

    fn sign_of_life(&mut self, process: &NodeProcess, now_ms: u64, linked: bool, out: &mut Vec<Verdict>) {
        let Some(member) = self.current(process) else { return };
        // Messages of a link may be told behind its end; they prove nothing any more.
        if member.unlinked && !linked {
            return;
        }
        member.unlinked = false;
        member.seen_ms = member.seen_ms.max(now_ms);
        let verdict = match member.state {
            NodeState::Alive => return,
            NodeState::Suspected => Verdict::Cleared(process.clone()),
            NodeState::Lost => Verdict::Returned(process.clone()),
        };
        member.state = NodeState::Alive;
        out.push(verdict);
    }

    fn lose(&mut self, node: &NodeId, reason: LossReason, out: &mut Vec<Verdict>) {
        let member = self.members.get_mut(node).expect("the caller looked it up");
        member.state = NodeState::Lost;
        out.push(Verdict::Lost(member.process.clone(), reason));
        self.forget_links(node, out);
    }

    /// What was reported by or about a node that is lost says nothing about its next process.
    fn forget_links(&mut self, node: &NodeId, out: &mut Vec<Verdict>) {
        let pairs: Vec<(NodeId, NodeId)> =
            self.broken.keys().filter(|(one, other)| one == node || other == node).cloned().collect();
        for pair in pairs {
            self.reunite(&pair, out);
        }
    }

    fn reunite(&mut self, pair: &(NodeId, NodeId), out: &mut Vec<Verdict>) {
        if self.broken.remove(pair).is_some_and(|broken| broken.separated) {
            out.push(Verdict::Reunited(pair.0.clone(), pair.1.clone()));
        }
    }

    /// Everything that decides about the future, with times as ages.
    #[cfg(test)]
    pub(super) fn decisive_state(&self, now_ms: u64) -> String {
        let members: Vec<_> = self
            .members
            .values()
            .map(|member| (&member.process, member.state, now_ms - member.seen_ms, member.unlinked))
            .collect();
        let broken: Vec<_> = self
            .broken
            .iter()
            .map(|(pair, broken)| (pair, now_ms - broken.since_ms, &broken.reporters, broken.separated))
            .collect();
        format!("{members:?} {broken:?}")
    }
}

/// The two in order.
fn pair(one: &NodeId, other: &NodeId) -> (NodeId, NodeId) {
    if one < other { (one.clone(), other.clone()) } else { (other.clone(), one.clone()) }
}
