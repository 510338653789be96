//! Everything that can happen to a job of two regions and few failures, in every order: two deployments of a region never
//! overlap, what concerns all of them restarts them together, what another graph has as well goes on, every job ends once,
//! and its end is told only behind its record.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::exploration::{Explored, Model, explore};
use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{AttemptId, Epoch, RegionId};
use crate::ports::ErrorKind;

/// A bug put between the machine and its world.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mutant {
    None,
    /// The attempt of an event is not looked at.
    ObeysStale,
    /// A restart does not wait until the subtasks are gone.
    RestartsEarly,
    /// That subtasks of one region are gone is taken for the other.
    ConfusesRegions,
    /// What concerns all regions restarts only one.
    RestartsOne,
    /// At another graph everything is stopped.
    StopsAll,
    /// What a graph has brought does not wait until there is room.
    CrowdsIn,
}

#[derive(Clone, Debug)]
enum Event {
    Deployed(AttemptId),
    Failed(AttemptId, ErrorKind),
    JobFailed,
    GoesBack,
    Gone(AttemptId),
    Finished(AttemptId),
    RestartDue,
    Cancel,
    /// With so many regions of the graph before.
    Redeploy(usize),
    StopDone,
    Recorded,
    LeadershipLost,
}

/// How much of what may happen.
#[derive(Clone, Copy)]
struct Budget {
    failures: u32,
    goes_back: u32,
    redeployments: u32,
}

#[derive(Clone, Debug)]
struct World {
    job: Job,
    mutant: Mutant,
    /// The regions that the job has to have, and those should it go on after its stop.
    graph: BTreeSet<RegionId>,
    after_stop: Option<BTreeSet<RegionId>>,
    next_region: u32,
    now_ms: i64,
    /// Deployments whose subtasks may still act.
    alive: Vec<AttemptId>,
    canceled: Vec<AttemptId>,
    /// Every deployment so far: its events may come late.
    deployed: Vec<AttemptId>,
    /// The region of every deployment, and the newest of each region.
    regions: BTreeMap<AttemptId, RegionId>,
    newest: BTreeMap<RegionId, AttemptId>,
    /// All regions are to be deployed at once: none may act any more.
    together: bool,
    /// Wake-ups asked for, and the newest of each region's failures.
    restarts_ms: Vec<i64>,
    due_ms: BTreeMap<RegionId, i64>,
    failures_left: u32,
    goes_back_left: u32,
    cancels_left: u32,
    redeployments_left: u32,
    recording: Option<JobStatus>,
    recorded: Option<JobStatus>,
    ended: Option<JobStatus>,
}

impl World {
    fn new(mutant: Mutant, budget: Budget) -> Self {
        let options =
            Options { restart: RestartOptions::FixedDelay { attempts: 1, delay_ms: 100 }, ..Options::default() };
        let graph = BTreeSet::from([RegionId(0), RegionId(1)]);
        let mut world = Self {
            job: Job::new(Epoch(1), &graph, options, 0),
            mutant,
            graph,
            after_stop: None,
            next_region: 2,
            now_ms: 0,
            alive: vec![],
            canceled: vec![],
            deployed: vec![],
            regions: BTreeMap::new(),
            newest: BTreeMap::new(),
            together: true,
            restarts_ms: vec![],
            due_ms: BTreeMap::new(),
            failures_left: budget.failures,
            goes_back_left: budget.goes_back,
            cancels_left: 1,
            redeployments_left: budget.redeployments,
            recording: None,
            recorded: None,
            ended: None,
        };
        let mut out = Vec::new();
        world.job.submitted(0, &mut out);
        world.obey(out).unwrap();
        world
    }

    fn obey(&mut self, commands: Vec<Command>) -> Result<(), String> {
        let mut failed = Vec::new();
        for command in commands {
            if self.ended.is_some() {
                return Err(format!("{command:?} after the end"));
            }
            match command {
                Command::Deploy(deployment) => self.deploy(&deployment)?,
                Command::CancelSubtasks(attempt) => {
                    if !self.alive.contains(&attempt) || self.canceled.contains(&attempt) {
                        return Err(format!("{attempt} cancelled without need"));
                    }
                    self.canceled.push(attempt);
                    failed.push(self.regions[&attempt]);
                }
                Command::ScheduleRestart { at_ms } => {
                    self.restarts_ms.push(at_ms);
                    self.due_ms.extend(failed.iter().map(|region| (*region, at_ms)));
                }
                Command::RecordFailure { .. } => {}
                Command::StopInterrupted => {
                    self.together = true;
                    if let Some(graph) = self.after_stop.take() {
                        self.graph = graph;
                    }
                }
                Command::RecordTerminal(status) => {
                    if !self.alive.is_empty() || self.recording.replace(status).is_some() {
                        return Err(format!("{status} recorded too early or twice"));
                    }
                }
                Command::ReachedTerminal(status) => {
                    if status.is_globally_terminal() && self.recorded != Some(status) {
                        return Err(format!("{status} told before its record"));
                    }
                    if !self.alive.is_empty() {
                        return Err(format!("{status} while {:?} may act", self.alive));
                    }
                    self.ended = Some(status);
                }
            }
        }
        Ok(())
    }

    fn deploy(&mut self, deployment: &BTreeMap<RegionId, AttemptId>) -> Result<(), String> {
        for (region, attempt) in deployment {
            if self.alive.iter().any(|alive| self.regions[alive] == *region) {
                return Err(format!("{attempt} deployed beside {:?}", self.alive));
            }
            if self.due_ms.remove(region).is_some_and(|due| self.now_ms < due) {
                return Err("restarted before its time".to_owned());
            }
            if !self.graph.contains(region) {
                return Err(format!("{attempt} is of {region:?}, which the job does not have"));
            }
            let is_new = !self.newest.contains_key(region);
            if is_new && self.alive.iter().any(|alive| !self.graph.contains(&self.regions[alive])) {
                return Err(format!("{attempt} deployed beside {:?}, whose place it takes", self.alive));
            }
            if self.newest.insert(*region, *attempt).is_some_and(|older| older >= *attempt) {
                return Err(format!("{attempt} is not newer"));
            }
            self.regions.insert(*attempt, *region);
        }
        if std::mem::take(&mut self.together) && (!self.alive.is_empty() || deployment.len() != self.graph.len()) {
            return Err(format!("{deployment:?} deployed alone, {:?} may act", self.alive));
        }
        self.alive.extend(deployment.values());
        self.deployed.extend(deployment.values());
        Ok(())
    }

    /// The attempt as the mutant lets the machine see it.
    fn seen(&self, attempt: AttemptId) -> AttemptId {
        if self.mutant == Mutant::ObeysStale { self.newest[&self.regions[&attempt]] } else { attempt }
    }

    fn gone(&mut self, attempt: AttemptId, out: &mut Vec<Command>) {
        self.alive.retain(|alive| *alive != attempt);
        let seen = match self.mutant {
            Mutant::ConfusesRegions => {
                let others = self.newest.iter().filter(|(region, _)| **region != self.regions[&attempt]);
                others.map(|(_, newest)| *newest).next_back().unwrap_or(attempt)
            }
            Mutant::None
            | Mutant::ObeysStale
            | Mutant::RestartsEarly
            | Mutant::RestartsOne
            | Mutant::StopsAll
            | Mutant::CrowdsIn => self.seen(attempt),
        };
        self.job.subtasks_canceled(seen, self.now_ms, out);
    }

    fn job_failed(&mut self, out: &mut Vec<Command>) {
        let first = self.graph.iter().find_map(|region| self.newest.get(region)).copied();
        let all = [first.unwrap_or_default()];
        let scope = if self.mutant == Mutant::RestartsOne { Scope::Regions(&all) } else { Scope::Job };
        let reply = self.job.failed(scope, Failure::of_job(ErrorKind::Retry, "broken"), 0.5, self.now_ms, out);
        self.together |= reply == Reply::Accepted && out.iter().any(|c| matches!(c, Command::RecordFailure { .. }));
    }

    /// Another graph, that has the first regions of this one as well.
    fn redeploy(&mut self, kept: usize, out: &mut Vec<Command>) -> Result<(), String> {
        let (mut same, mut nothing) = (self.job.clone(), Vec::new());
        if same.redeploy(&self.graph, self.now_ms, &mut nothing) == Reply::Accepted || !nothing.is_empty() {
            return Err(format!("{nothing:?}, though nothing has changed"));
        }
        let mut graph: BTreeSet<RegionId> = self.graph.iter().take(kept).copied().collect();
        while graph.len() < 2 {
            graph.insert(RegionId(self.next_region));
            self.next_region += 1;
        }
        let told = match self.mutant {
            Mutant::StopsAll => BTreeSet::from([RegionId(98), RegionId(99)]),
            Mutant::None
            | Mutant::ObeysStale
            | Mutant::RestartsEarly
            | Mutant::ConfusesRegions
            | Mutant::RestartsOne
            | Mutant::CrowdsIn => graph.clone(),
        };
        if self.job.redeploy(&told, self.now_ms, out) == Reply::Ignored {
            self.after_stop = Some(graph);
            return Ok(());
        }
        let goes_on = |command: &Command| match command {
            Command::CancelSubtasks(attempt) => graph.contains(&self.regions[attempt]),
            _other => false,
        };
        if let Some(command) = out.iter().find(|command| goes_on(command)) {
            return Err(format!("{command:?}, though the next graph has it as well"));
        }
        let due_ms = self.due_ms.extract_if(.., |region, _| !graph.contains(region)).map(|(_, due)| due).max();
        let new: Vec<RegionId> = graph.difference(&self.graph).copied().collect();
        self.due_ms.extend(new.into_iter().zip(due_ms.into_iter().cycle()));
        self.graph = graph;
        if self.mutant == Mutant::CrowdsIn {
            for attempt in self.alive.clone() {
                self.job.subtasks_canceled(attempt, self.now_ms, out);
            }
        }
        Ok(())
    }
}

impl Model for World {
    type Event = Event;

    fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        if self.ended.is_some() {
            return events;
        }
        for attempt in &self.deployed {
            // Late words of a deployment that is gone may come at any time.
            let is_old = self.newest[&self.regions[attempt]] != *attempt;
            events.push(Event::Deployed(*attempt));
            if self.failures_left > 0 {
                events.push(Event::Failed(*attempt, ErrorKind::Retry));
                if !is_old {
                    events.push(Event::Failed(*attempt, ErrorKind::GiveUp));
                }
            }
            if self.canceled.contains(attempt) || !self.alive.contains(attempt) {
                events.push(Event::Gone(*attempt));
            }
            events.push(Event::Finished(*attempt));
        }
        if self.failures_left > 0 {
            events.push(Event::JobFailed);
        }
        if self.goes_back_left > 0 {
            events.push(Event::GoesBack);
        }
        if !self.restarts_ms.is_empty() {
            events.push(Event::RestartDue);
        }
        if self.cancels_left > 0 {
            events.push(Event::Cancel);
            events.push(Event::LeadershipLost);
        }
        if self.redeployments_left > 0 {
            events.extend([Event::Redeploy(0), Event::Redeploy(1)]);
        }
        if self.recording.is_some() && self.recorded.is_none() {
            events.push(Event::Recorded);
        }
        events.push(Event::StopDone);
        events
    }

    fn apply(&mut self, event: &Event) -> Result<(), String> {
        let mut out = Vec::new();
        let now = self.now_ms;
        match *event {
            Event::Deployed(attempt) => {
                self.job.deployed(self.seen(attempt), now);
            }
            Event::Failed(attempt, kind) => {
                self.failures_left -= 1;
                let failed = [self.seen(attempt)];
                self.job.failed(Scope::Regions(&failed), Failure::of_job(kind, "broken"), 0.5, now, &mut out);
            }
            Event::JobFailed => {
                self.failures_left -= 1;
                self.job_failed(&mut out);
            }
            Event::GoesBack => {
                self.goes_back_left -= 1;
                self.together |= self.job.goes_back(now, &mut out) == Reply::Accepted;
            }
            Event::Gone(attempt) => self.gone(attempt, &mut out),
            Event::Finished(attempt) => {
                self.alive.retain(|alive| *alive != attempt);
                self.job.all_finished(self.seen(attempt), now, &mut out);
            }
            Event::RestartDue => {
                self.now_ms = self.now_ms.max(self.restarts_ms.remove(0));
                if self.mutant == Mutant::RestartsEarly {
                    let newest: Vec<_> = self.newest.values().copied().collect();
                    for attempt in newest {
                        self.job.subtasks_canceled(attempt, self.now_ms, &mut out);
                    }
                }
                self.job.restart_due(self.now_ms, &mut out);
            }
            Event::Cancel => {
                self.cancels_left -= 1;
                self.job.cancel_requested(now, &mut out);
            }
            Event::Redeploy(kept) => {
                self.redeployments_left -= 1;
                self.redeploy(kept, &mut out)?;
            }
            Event::StopDone => {
                self.job.stop_savepoint_done();
            }
            Event::Recorded => {
                self.recorded = self.recording;
                self.job.terminal_recorded(now, &mut out);
            }
            Event::LeadershipLost => {
                self.cancels_left -= 1;
                self.job.leadership_lost(now, &mut out);
            }
        }
        self.obey(out)
    }

    fn state(&self) -> String {
        // Exceptions and times of states decide about nothing.
        let job = &self.job;
        let (alive, canceled, deployed) = (&self.alive, &self.canceled, &self.deployed);
        let left = (self.failures_left, self.goes_back_left, self.cancels_left, self.redeployments_left);
        let times = (self.now_ms, &self.restarts_ms, &self.due_ms, self.together);
        let graphs = (&self.graph, &self.after_stop);
        let ends = (self.recording, self.recorded, self.ended);
        format!("{:?} {graphs:?} {alive:?} {canceled:?} {deployed:?} {left:?} {times:?} {ends:?}", job.decisive_state())
    }

    fn at_end(&self) -> Result<(), String> {
        let status = self.ended.ok_or("nothing can happen, and the job has not ended")?;
        if status == self.job.status() { Ok(()) } else { Err(format!("told {status}, is {}", self.job.status())) }
    }
}

/// Failures of all kinds.
fn explore_with(mutant: Mutant) -> Explored<Event> {
    let budget = Budget { failures: 2, goes_back: 1, redeployments: 0 };
    explore(World::new(mutant, budget), 400_000)
}

/// Other graphs: one with failures, or two.
fn explore_graphs(redeployments: u32, mutant: Mutant) -> Explored<Event> {
    let others = 2 - redeployments;
    let budget = Budget { failures: others, goes_back: others, redeployments };
    explore(World::new(mutant, budget), 400_000)
}

#[test]
fn no_order_of_events_lets_two_deployments_act_or_a_job_end_twice() {
    let explored = explore_with(Mutant::None);
    assert!(explored.violation.is_none(), "{:?}", explored.violation);
    assert_eq!((explored.states, explored.transitions, explored.ends), (12_365, 144_707, 3_752));
}

#[test]
fn no_order_of_events_stops_what_another_graph_has_as_well_or_deploys_what_it_brings_too_early() {
    let explored = [1, 2].map(|redeployments| explore_graphs(redeployments, Mutant::None));
    explored.iter().for_each(|explored| assert!(explored.violation.is_none(), "{:?}", explored.violation));
    let sizes = explored.map(|explored| (explored.states, explored.transitions, explored.ends));
    assert_eq!(sizes, [(46_158, 610_453, 11_503), (3_323, 32_842, 896)]);
}

#[test]
fn the_enumeration_catches_that_another_graph_stops_everything_or_is_deployed_too_early() {
    let (_, broken) = explore_graphs(1, Mutant::StopsAll).violation.expect("the mutant survived");
    assert!(broken.contains("the next graph has it as well"), "{broken}");
    let (_, broken) = explore_graphs(1, Mutant::CrowdsIn).violation.expect("the mutant survived");
    assert!(broken.contains("whose place it takes"), "{broken}");
}

#[test]
fn the_enumeration_catches_a_machine_that_obeys_old_deployments() {
    let (way, broken) = explore_with(Mutant::ObeysStale).violation.expect("the mutant survived");
    assert!(way.len() > 1, "{broken}: {way:?}");
}

#[test]
fn the_enumeration_catches_a_restart_beside_living_subtasks() {
    let (_, broken) = explore_with(Mutant::RestartsEarly).violation.expect("the mutant survived");
    assert!(broken.contains("deployed beside"), "{broken}");
}

#[test]
fn the_enumeration_catches_a_machine_that_confuses_regions() {
    let (_, broken) = explore_with(Mutant::ConfusesRegions).violation.expect("the mutant survived");
    let caught = ["deployed beside", "may act", "recorded too early"];
    assert!(caught.iter().any(|what| broken.contains(what)), "{broken}");
}

#[test]
fn the_enumeration_catches_that_one_region_restarts_where_all_must() {
    let (_, broken) = explore_with(Mutant::RestartsOne).violation.expect("the mutant survived");
    assert!(broken.contains("deployed alone"), "{broken}");
}
