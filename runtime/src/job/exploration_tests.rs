//! Everything that can happen to a job of few failures, in every order: two deployments never overlap, every job ends
//! once, and its end is told only behind its record.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::exploration::{Explored, Model, explore};
use crate::ids::{AttemptId, Epoch};
use crate::ports::ErrorKind;

/// A bug put between the machine and its world.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mutant {
    None,
    /// The attempt of an event is not looked at.
    ObeysStale,
    /// A restart does not wait until the subtasks are gone.
    RestartsEarly,
}

#[derive(Clone, Debug)]
enum Event {
    Deployed(AttemptId),
    Failed(AttemptId, ErrorKind),
    Gone(AttemptId),
    Finished(AttemptId),
    RestartDue,
    Cancel,
    Redeploy,
    StopDone(AttemptId),
    Recorded,
    LeadershipLost,
}

#[derive(Clone, Debug)]
struct World {
    job: Job,
    mutant: Mutant,
    now_ms: i64,
    /// Deployments whose subtasks may still act.
    alive: Vec<AttemptId>,
    canceled: Vec<AttemptId>,
    /// Every deployment so far: its events may come late.
    deployed: Vec<AttemptId>,
    restart_ms: Option<i64>,
    failures_left: u32,
    cancels_left: u32,
    redeployments_left: u32,
    recording: Option<JobStatus>,
    recorded: Option<JobStatus>,
    ended: Option<JobStatus>,
}

impl World {
    fn new(mutant: Mutant) -> Self {
        let options =
            Options { restart: RestartOptions::FixedDelay { attempts: 2, delay_ms: 100 }, ..Options::default() };
        let mut world = Self {
            job: Job::new(Epoch(1), options, 0),
            mutant,
            now_ms: 0,
            alive: vec![],
            canceled: vec![],
            deployed: vec![],
            restart_ms: None,
            failures_left: 4,
            cancels_left: 1,
            redeployments_left: 1,
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
        for command in commands {
            if self.ended.is_some() {
                return Err(format!("{command:?} after the end"));
            }
            match command {
                Command::Deploy(attempt) => {
                    if !self.alive.is_empty() {
                        return Err(format!("{attempt} deployed beside {:?}", self.alive));
                    }
                    if self.restart_ms.take().is_some_and(|due| self.now_ms < due) {
                        return Err("restarted before its time".to_owned());
                    }
                    self.alive.push(attempt);
                    self.deployed.push(attempt);
                }
                Command::CancelSubtasks(attempt) => {
                    if !self.alive.contains(&attempt) || self.canceled.contains(&attempt) {
                        return Err(format!("{attempt} cancelled without need"));
                    }
                    self.canceled.push(attempt);
                }
                Command::ScheduleRestart { at_ms } => self.restart_ms = Some(at_ms),
                Command::RecordFailure { .. } | Command::StopInterrupted => {}
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

    /// The attempt as the mutant lets the machine see it.
    fn seen(&self, attempt: AttemptId) -> AttemptId {
        let current = self.job.attempt().unwrap_or(attempt);
        if self.mutant == Mutant::ObeysStale { current } else { attempt }
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
            events.push(Event::Deployed(*attempt));
            if self.failures_left > 0 {
                events.push(Event::Failed(*attempt, ErrorKind::Retry));
                events.push(Event::Failed(*attempt, ErrorKind::GiveUp));
            }
            if self.canceled.contains(attempt) || !self.alive.contains(attempt) {
                events.push(Event::Gone(*attempt));
            }
            events.push(Event::Finished(*attempt));
            events.push(Event::StopDone(*attempt));
        }
        if self.restart_ms.is_some() {
            events.push(Event::RestartDue);
        }
        if self.cancels_left > 0 {
            events.push(Event::Cancel);
            events.push(Event::LeadershipLost);
        }
        if self.redeployments_left > 0 {
            events.push(Event::Redeploy);
        }
        if self.recording.is_some() && self.recorded.is_none() {
            events.push(Event::Recorded);
        }
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
                self.job.failed(self.seen(attempt), Failure::of_job(kind, "broken"), 0.5, now, &mut out);
            }
            Event::Gone(attempt) => {
                self.alive.retain(|alive| *alive != attempt);
                self.job.subtasks_canceled(self.seen(attempt), now, &mut out);
            }
            Event::Finished(attempt) => {
                self.alive.retain(|alive| *alive != attempt);
                self.job.all_finished(self.seen(attempt), now, &mut out);
            }
            Event::RestartDue => {
                self.now_ms = self.now_ms.max(self.restart_ms.unwrap_or(0));
                if self.mutant == Mutant::RestartsEarly {
                    let attempt = self.job.attempt().unwrap();
                    self.job.subtasks_canceled(attempt, self.now_ms, &mut out);
                }
                self.job.restart_due(self.now_ms, &mut out);
            }
            Event::Cancel => {
                self.cancels_left -= 1;
                self.job.cancel_requested(now, &mut out);
            }
            Event::Redeploy => {
                self.redeployments_left -= 1;
                self.job.redeploy(now, &mut out);
            }
            Event::StopDone(attempt) => {
                self.job.stop_savepoint_done(self.seen(attempt));
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
        let world = (self.now_ms, self.restart_ms, self.failures_left, self.cancels_left, self.redeployments_left);
        let ends = (self.recording, self.recorded, self.ended);
        format!("{:?} {alive:?} {canceled:?} {deployed:?} {world:?} {ends:?}", job.decisive_state())
    }

    fn at_end(&self) -> Result<(), String> {
        let status = self.ended.ok_or("nothing can happen, and the job has not ended")?;
        if status == self.job.status() { Ok(()) } else { Err(format!("told {status}, is {}", self.job.status())) }
    }
}

fn explore_with(mutant: Mutant) -> Explored<Event> {
    explore(World::new(mutant), 200_000)
}

#[test]
fn no_order_of_events_lets_two_deployments_act_or_a_job_end_twice() {
    let explored = explore_with(Mutant::None);
    assert!(explored.violation.is_none(), "{:?}", explored.violation);
    assert_eq!((explored.states, explored.transitions, explored.ends), (1_449, 11_944, 537));
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
