//! Who has which slots: nodes come and go with theirs, jobs claim as many as they want and no less than they need. A job gets
//! all that it wants, or what there is; nothing as long as that is less than it needs, so that two jobs never wait for each
//! other's halves. Fed by the dispatcher.
//!
//! Invariant: no node has given more slots than it has, and none is given twice.

use std::collections::{BTreeMap, BTreeSet};

use super::placement::{LoadBalance, SlotOffer, take_slots};
use crate::ids::{JobId, NodeId, NodeProcess};

/// What a job may use of a node from now on: all its slots there, with those it had before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The job.
    pub job: JobId,
    /// The node.
    pub process: NodeProcess,
    /// Slots of it.
    pub slots: u32,
}

#[derive(Clone, Debug)]
struct Claim {
    job: JobId,
    /// Without so many it does not run.
    needed: u32,
    wanted: u32,
    held: BTreeMap<NodeId, u32>,
}

/// The slots of all nodes.
#[derive(Clone, Debug, Default)]
pub struct SlotPool {
    nodes: BTreeMap<NodeId, (NodeProcess, u32)>,
    /// In the order in which the jobs came: the first is served first.
    claims: Vec<Claim>,
    balance: LoadBalance,
}

impl SlotPool {
    /// Without nodes and jobs.
    #[must_use]
    pub fn new(balance: LoadBalance) -> Self {
        Self { balance, ..Self::default() }
    }

    /// A node is there with its slots, which one process never changes. It takes the place of an older process, whose slots nobody has any more.
    pub fn join(&mut self, process: NodeProcess, slots: u32) -> Vec<Grant> {
        if self.nodes.get(&process.node).is_none_or(|(known, _)| *known != process) {
            self.forget(&process.node);
            self.nodes.insert(process.node.clone(), (process, slots));
        }
        self.fill()
    }

    /// A process is lost; what jobs had there they get elsewhere, if there is something.
    pub fn lose(&mut self, process: &NodeProcess) -> Vec<Grant> {
        if self.nodes.get(&process.node).is_some_and(|(known, _)| known == process) {
            self.forget(&process.node);
        }
        self.fill()
    }

    fn forget(&mut self, node: &NodeId) {
        self.nodes.remove(node);
        for claim in &mut self.claims {
            claim.held.remove(node);
        }
    }

    /// A job wants so many slots, and needs some of them to run at all; what it has beyond that it gives back, from the nodes
    /// where it has most.
    pub fn claim(&mut self, job: JobId, needed: u32, wanted: u32) -> Vec<Grant> {
        let mut grants = match self.claims.iter().position(|claim| claim.job == job) {
            Some(index) => {
                (self.claims[index].needed, self.claims[index].wanted) = (needed, wanted);
                self.shrink(index)
            }
            None => {
                self.claims.push(Claim { job, needed, wanted, held: BTreeMap::new() });
                Vec::new()
            }
        };
        grants.extend(self.fill());
        grants
    }

    fn shrink(&mut self, index: usize) -> Vec<Grant> {
        let claim = &mut self.claims[index];
        let mut touched = BTreeSet::new();
        while claim.held.values().sum::<u32>() > claim.wanted {
            let most = claim.held.iter().max_by_key(|(node, slots)| (**slots, *node)).map(|(node, _)| node.clone());
            let node = most.expect("it has slots");
            *claim.held.get_mut(&node).expect("just seen") -= 1;
            touched.insert(node);
        }
        let grant = |node: NodeId| {
            let slots = claim.held[&node];
            Grant { job: claim.job, process: self.nodes[&node].0.clone(), slots }
        };
        let grants = touched.into_iter().map(grant).collect();
        claim.held.retain(|_, slots| *slots > 0);
        grants
    }

    /// Slots that a job has.
    #[must_use]
    pub fn held(&self, job: JobId) -> u32 {
        let claim = self.claims.iter().find(|claim| claim.job == job);
        claim.map_or(0, |claim| claim.held.values().sum())
    }

    /// A job has ended: its slots go to those that wait.
    pub fn release(&mut self, job: JobId) -> Vec<Grant> {
        self.claims.retain(|claim| claim.job != job);
        self.fill()
    }

    /// Slots of a node that no job has.
    #[must_use]
    pub fn free(&self, node: &NodeId) -> u32 {
        let total = self.nodes.get(node).map_or(0, |(_, slots)| *slots);
        let given: u32 = self.claims.iter().filter_map(|claim| claim.held.get(node)).sum();
        assert!(given <= total, "{node} has {total} slots and has given {given}");
        total - given
    }

    /// All nodes with their slots, and how many of them are free.
    pub fn nodes(&self) -> impl Iterator<Item = (&NodeProcess, u32, u32)> {
        self.nodes.iter().map(|(node, (process, slots))| (process, *slots, self.free(node)))
    }

    /// Gives every job what it lacks, or what there is if it can run with that. What a job has it keeps, also when it lost too
    /// much to run: some of its regions may go on there.
    fn fill(&mut self) -> Vec<Grant> {
        let mut grants = Vec::new();
        for index in 0..self.claims.len() {
            let held: u32 = self.claims[index].held.values().sum();
            let missing = self.claims[index].wanted.saturating_sub(held);
            let offer = |node: &NodeId| SlotOffer { node: node.clone(), slots: self.free(node) };
            let offers: Vec<SlotOffer> = self.nodes.keys().map(offer).collect();
            let free: u32 = offers.iter().map(|offer| offer.slots).sum();
            let missing = if held + free >= self.claims[index].needed { missing.min(free) } else { 0 };
            let Ok(taken) = take_slots(&offers, missing, self.balance) else { continue };
            let mut touched: Vec<NodeId> = taken.clone();
            touched.dedup();
            let claim = &mut self.claims[index];
            taken.into_iter().for_each(|node| *claim.held.entry(node).or_default() += 1);
            grants.extend(touched.into_iter().map(|node| Grant {
                job: claim.job,
                process: self.nodes[&node].0.clone(),
                slots: claim.held[&node],
            }));
        }
        grants
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::NodeIncarnation;

    fn process(name: &str, incarnation: u64) -> NodeProcess {
        NodeProcess { node: NodeId(name.to_owned()), incarnation: NodeIncarnation(incarnation) }
    }

    fn job(name: &str) -> JobId {
        JobId::from_name(name)
    }

    fn grant(name: &str, process: NodeProcess, slots: u32) -> Grant {
        Grant { job: job(name), process, slots }
    }

    #[test]
    fn a_job_gets_all_that_it_wants_or_waits() {
        let mut pool = SlotPool::new(LoadBalance::Slots);
        assert_eq!(pool.claim(job("one"), 3, 3), []);
        assert_eq!(pool.join(process("a", 1), 2), []);
        assert_eq!(pool.free(&NodeId("a".to_owned())), 2, "nothing is held while it waits");
        assert_eq!(pool.join(process("b", 1), 2), [grant("one", process("a", 1), 2), grant("one", process("b", 1), 1)]);
        assert_eq!(pool.claim(job("two"), 2, 2), []);
        assert_eq!(pool.release(job("one")), [grant("two", process("a", 1), 1), grant("two", process("b", 1), 1)]);
    }

    #[test]
    fn what_a_lost_process_had_is_taken_elsewhere_or_from_its_successor() {
        let mut pool = SlotPool::new(LoadBalance::Slots);
        pool.join(process("a", 1), 2);
        pool.join(process("b", 1), 2);
        pool.claim(job("one"), 2, 2);
        assert_eq!(pool.lose(&process("b", 1)), [grant("one", process("a", 1), 2)]);
        assert_eq!(pool.claim(job("two"), 1, 1), []);
        assert_eq!(pool.join(process("b", 2), 1), [grant("two", process("b", 2), 1)]);
        assert_eq!(pool.lose(&process("b", 1)), [], "that one was lost before");
        assert_eq!(pool.join(process("b", 3), 1), [grant("two", process("b", 3), 1)], "a restart nobody noticed");
    }

    #[test]
    fn a_job_that_runs_with_less_gets_what_there_is_and_the_rest_when_it_comes() {
        let mut pool = SlotPool::new(LoadBalance::Slots);
        assert_eq!(pool.join(process("a", 1), 2), []);
        assert_eq!(pool.claim(job("one"), 1, 3), [grant("one", process("a", 1), 2)]);
        assert_eq!(pool.claim(job("two"), 1, 1), [], "the first is served first");
        assert_eq!(pool.join(process("b", 1), 2), [grant("one", process("b", 1), 1), grant("two", process("b", 1), 1)]);
        assert_eq!((pool.held(job("one")), pool.held(job("two"))), (3, 1));
    }

    #[test]
    fn a_job_gets_no_slots_while_there_are_fewer_than_it_needs_and_then_what_there_is() {
        let mut pool = SlotPool::new(LoadBalance::Slots);
        assert_eq!(pool.join(process("a", 1), 2), []);
        assert_eq!(pool.claim(job("one"), 3, 5), []);
        assert_eq!(
            pool.claim(job("two"), 1, 1),
            [grant("two", process("a", 1), 1)],
            "nothing is held back for the first"
        );
        assert_eq!(pool.join(process("b", 1), 3), [grant("one", process("a", 1), 1), grant("one", process("b", 1), 3)]);
        pool.lose(&process("b", 1));
        assert_eq!((pool.held(job("one")), pool.held(job("two"))), (1, 1), "what it has it keeps");
        assert_eq!(pool.join(process("c", 1), 1), [], "not enough");
        assert_eq!(pool.join(process("d", 1), 1), [grant("one", process("c", 1), 1), grant("one", process("d", 1), 1)]);
    }

    #[test]
    fn a_job_that_wants_less_gives_slots_back_to_those_that_wait() {
        let mut pool = SlotPool::new(LoadBalance::Slots);
        pool.join(process("a", 1), 2);
        pool.join(process("b", 1), 2);
        pool.claim(job("one"), 4, 4);
        pool.claim(job("two"), 1, 1);
        let grants = pool.claim(job("one"), 2, 2);
        assert_eq!(
            grants,
            [grant("one", process("a", 1), 1), grant("one", process("b", 1), 1), grant("two", process("a", 1), 1)]
        );
        assert_eq!(pool.held(job("one")), 2);
    }

    #[test]
    fn no_slot_is_given_twice_whatever_happens() {
        let mut pool = SlotPool::new(LoadBalance::Slots);
        let mut random = 7u64;
        for _ in 0..2_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (what, which) = ((random >> 33) % 4, (random >> 40) % 3);
            let (node, name) = (["a", "b", "c"][which as usize], ["x", "y", "z"][which as usize]);
            match what {
                0 => drop(pool.join(process(node, (random >> 50) % 3), 1 + (random >> 55) as u32 % 4)),
                1 => drop(pool.lose(&process(node, (random >> 50) % 3))),
                2 => {
                    let needed = 1 + (random >> 52) as u32 % 3;
                    drop(pool.claim(job(name), needed, needed + (random >> 55) as u32 % 3));
                }
                _ => drop(pool.release(job(name))),
            }
            // `free` asserts the invariant.
            assert!(pool.nodes().all(|(_, slots, free)| free <= slots));
        }
    }
}
