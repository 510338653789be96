//! Everything that can happen to a coordinator of two subtasks and few checkpoints, in every order: late and repeated
//! acknowledgements, declines, undecided records, requests, the end of the input, restarts.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use super::pending::is_savepoint;
use super::*;
use crate::element::Purpose;
use crate::exploration::{Explored, Model, explore};
use crate::ids::{AttemptNumber, Epoch, SubtaskIndex, VertexId};

/// A bug put between the machine and its world.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mutant {
    None,
    /// Complete as soon as all have acknowledged.
    CompleteWhenAcked,
    /// An undecided record counts as written.
    UndecidedIsWritten,
    /// An undecided record counts as failed.
    UndecidedIsFailed,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Tick,
    Enumerators(CheckpointId),
    Ack(CheckpointId, AttemptId, u32),
    Decline(CheckpointId, AttemptId, u32),
    Written,
    /// The outcome is not to be learnt; `true`: the record exists nevertheless.
    Undecided(bool),
    RecordFailed,
    Request(Purpose),
    EndOfData(u32),
    EndAttempt,
    StartAttempt,
}

/// The record under way: the slot may exist before anybody knows.
#[derive(Clone, Debug)]
struct Writing {
    checkpoint: CheckpointId,
    retained: Vec<Retained>,
    exists: bool,
    /// Waits for `RetryRecord`.
    pausing: bool,
}

#[derive(Clone, Debug)]
struct World {
    coordinator: Coordinator,
    mutant: Mutant,
    now_ms: i64,
    attempt: u32,
    running: bool,
    settled: Option<Option<CheckpointId>>,
    started: Vec<(CheckpointId, Purpose)>,
    snapshots: BTreeSet<CheckpointId>,
    /// Triggers sent: each subtask may acknowledge, also late, and twice.
    triggered: BTreeSet<(CheckpointId, AttemptId)>,
    acks: Vec<(CheckpointId, AttemptId, u32)>,
    writing: Option<Writing>,
    /// What the log holds.
    durable: BTreeSet<CheckpointId>,
    log: Vec<Retained>,
    told: BTreeSet<CheckpointId>,
    aborted: BTreeSet<CheckpointId>,
    dropped: BTreeSet<CheckpointId>,
    ended: BTreeSet<u32>,
    open: Vec<(RequestId, Purpose)>,
    requests: Vec<Purpose>,
    budget: Budget,
}

/// How often what may still happen.
#[derive(Clone, Copy, Debug)]
struct Budget {
    ticks: u32,
    checkpoints: u64,
    declines: u32,
    undecided: u32,
    repeated: u32,
    restarts: u32,
    end_of_data: bool,
}

fn subtask(index: u32) -> SubtaskId {
    SubtaskId { vertex: VertexId([1; 16]), index: SubtaskIndex(index) }
}

impl World {
    fn new(options: Options, requests: &[Purpose], budget: Budget, mutant: Mutant) -> Self {
        let mut world = Self {
            coordinator: Coordinator::new(options, vec![]),
            mutant,
            now_ms: 0,
            attempt: 0,
            running: false,
            settled: Some(None),
            started: vec![],
            snapshots: BTreeSet::new(),
            triggered: BTreeSet::new(),
            acks: vec![],
            writing: None,
            durable: BTreeSet::new(),
            log: vec![],
            told: BTreeSet::new(),
            aborted: BTreeSet::new(),
            dropped: BTreeSet::new(),
            ended: BTreeSet::new(),
            open: vec![],
            requests: requests.to_vec(),
            budget,
        };
        world.apply(&Event::StartAttempt).unwrap();
        world
    }

    fn attempt(&self) -> AttemptId {
        AttemptId { epoch: Epoch(1), attempt: AttemptNumber(self.attempt) }
    }

    fn purpose_of(&self, checkpoint: CheckpointId) -> Purpose {
        self.started.iter().find(|(started, _)| *started == checkpoint).expect("started").1
    }

    fn obey(&mut self, commands: Vec<Command>) -> Result<(), String> {
        for command in commands {
            let text = format!("{command:?}");
            let holds = match command {
                Command::SnapshotEnumerators { checkpoint } => self.starts(checkpoint),
                Command::SendTriggers { barrier, .. } => {
                    let once = self.triggered.insert((barrier.checkpoint, barrier.attempt));
                    once && self.running && barrier.attempt == self.attempt()
                }
                Command::WriteRecord(record) => self.writes(*record),
                Command::RetryRecord { checkpoint } => match &mut self.writing {
                    Some(writing) if writing.checkpoint == checkpoint && writing.pausing => {
                        writing.pausing = false;
                        true
                    }
                    _ => false,
                },
                Command::NotifyComplete { checkpoint, attempt, .. } => {
                    let first = self.told.insert(checkpoint);
                    let current = self.running && attempt == self.attempt();
                    first && current && self.durable.contains(&checkpoint) && !self.aborted.contains(&checkpoint)
                }
                Command::Drop { checkpoints } => checkpoints.into_iter().all(|checkpoint| {
                    let named = self.log.iter().any(|kept| kept.checkpoint == checkpoint);
                    self.dropped.insert(checkpoint) && !named && !is_savepoint(self.purpose_of(checkpoint))
                }),
                Command::Abort { checkpoint, .. } => {
                    let in_doubt = self.writing.as_ref().is_some_and(|writing| writing.checkpoint == checkpoint);
                    let first = self.aborted.insert(checkpoint);
                    first && !in_doubt && !self.durable.contains(&checkpoint)
                }
                Command::Answer { request, result } => {
                    let place = self.open.iter().position(|(open, _)| *open == request);
                    let purpose = place.map(|place| self.open.remove(place).1);
                    match result {
                        Ok(checkpoint) => {
                            self.durable.contains(&checkpoint) && purpose == Some(self.purpose_of(checkpoint))
                        }
                        Err(_) => purpose.is_some(),
                    }
                }
                Command::Settled { newest } => {
                    self.settled = Some(newest);
                    !self.running && self.writing.is_none()
                }
                Command::FailJob { .. } | Command::WakeAt(_) => true,
                Command::StepDown => false,
            };
            if !holds {
                return Err(format!("{text} must not come now"));
            }
        }
        Ok(())
    }

    fn starts(&mut self, checkpoint: CheckpointId) -> bool {
        let pending = self.coordinator.pending.get(&checkpoint).expect("it was just started");
        let newer = self.started.last().is_none_or(|(last, _)| *last < checkpoint);
        let open = |id: &CheckpointId| !self.durable.contains(id) && !self.aborted.contains(id);
        let alone = !self.started.iter().any(|(id, purpose)| open(id) && pending::is_exclusive(*purpose));
        let in_doubt = self.writing.as_ref().is_some_and(|writing| writing.pausing);
        self.started.push((checkpoint, pending.purpose));
        self.snapshots.insert(checkpoint);
        newer && alone && !in_doubt && self.running
    }

    fn writes(&mut self, record: Record) -> bool {
        let acked = |index| self.acks.contains(&(record.checkpoint, self.attempt(), index));
        let whole = acked(0) && acked(1) && record.subtasks.len() == 2;
        let current = self.running && record.attempt == self.attempt();
        let sound = record.retained.iter().all(|kept| {
            let exists = kept.checkpoint == record.checkpoint || self.durable.contains(&kept.checkpoint);
            exists && !self.dropped.contains(&kept.checkpoint)
        });
        let free = self.writing.is_none();
        self.writing =
            Some(Writing { checkpoint: record.checkpoint, retained: record.retained, exists: false, pausing: false });
        whole && current && sound && free
    }

    /// The log slot comes into being.
    fn create(&mut self) {
        let writing = self.writing.as_mut().unwrap();
        writing.exists = true;
        self.durable.insert(writing.checkpoint);
        self.log.clone_from(&writing.retained);
    }

    fn record_outcome(&mut self, event: Event, out: &mut Vec<Command>) {
        let now = self.now_ms;
        let checkpoint = self.writing.as_ref().unwrap().checkpoint;
        match event {
            Event::Written => {
                self.create();
                self.writing = None;
                self.coordinator.record_written(checkpoint, now, out);
            }
            Event::RecordFailed => {
                self.writing = None;
                self.coordinator.record_failed(checkpoint, "disk full".to_owned(), now, out);
            }
            Event::Undecided(exists) => {
                self.budget.undecided -= 1;
                if exists {
                    self.create();
                }
                self.writing.as_mut().unwrap().pausing = true;
                match self.mutant {
                    Mutant::UndecidedIsWritten => self.coordinator.record_written(checkpoint, now, out),
                    Mutant::UndecidedIsFailed => {
                        self.coordinator.record_failed(checkpoint, "undecided".to_owned(), now, out)
                    }
                    Mutant::None | Mutant::CompleteWhenAcked => self.coordinator.record_undecided(checkpoint, now, out),
                };
            }
            other => unreachable!("{other:?} is no outcome"),
        }
    }

    fn ack(
        &mut self,
        checkpoint: CheckpointId,
        attempt: AttemptId,
        index: u32,
        out: &mut Vec<Command>,
    ) -> Result<(), String> {
        let repeated = self.acks.contains(&(checkpoint, attempt, index));
        let stale = !self.running || attempt != self.attempt();
        if repeated || stale {
            self.budget.repeated -= 1;
        }
        if !repeated {
            self.acks.push((checkpoint, attempt, index));
        }
        let id = subtask(index);
        let ack = Ack { checkpoint, attempt, vertex: id.vertex, subtask: id.index, state: SubtaskState::default() };
        let reply = self.coordinator.ack(ack, AckMetrics::default(), self.now_ms, out);
        let expected = match (stale, self.aborted.contains(&checkpoint), repeated) {
            (true, _, _) => AckReply::Stale,
            (false, true, _) => AckReply::Discarded,
            (false, false, true) => AckReply::Duplicate,
            (false, false, false) => AckReply::Success,
        };
        if reply == expected { Ok(()) } else { Err(format!("answered {reply:?} instead of {expected:?}")) }
    }

    fn start_attempt(&mut self, out: &mut Vec<Command>) -> Result<(), String> {
        let newest = self.settled.take().expect("started when settled");
        let expected = self.durable.iter().rev().find(|id| self.purpose_of(**id) != Purpose::Savepoint).copied();
        if newest != expected {
            return Err(format!("restored from {newest:?} instead of {expected:?}"));
        }
        self.running = true;
        self.ended.clear();
        let subtasks = [(subtask(0), true), (subtask(1), false)];
        let attempt = self.attempt();
        self.coordinator.start_attempt(attempt, subtasks, CheckpointId(1), self.now_ms, out).map_err(|e| e.to_string())
    }
}

impl Model for World {
    type Event = Event;

    fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        let budget = &self.budget;
        if budget.ticks > 0 && (self.started.len() as u64) < budget.checkpoints {
            events.push(Event::Tick);
        }
        events.extend(self.snapshots.iter().map(|checkpoint| Event::Enumerators(*checkpoint)));
        for (checkpoint, attempt) in &self.triggered {
            for index in 0..2 {
                let repeated = self.acks.contains(&(*checkpoint, *attempt, index));
                let stale = !self.running || *attempt != self.attempt();
                if !(repeated || stale) || budget.repeated > 0 {
                    events.push(Event::Ack(*checkpoint, *attempt, index));
                }
                if budget.declines > 0 && !repeated {
                    events.push(Event::Decline(*checkpoint, *attempt, index));
                }
            }
        }
        match &self.writing {
            Some(writing) if writing.pausing => events.push(Event::Tick),
            Some(writing) => {
                events.push(Event::Written);
                if !writing.exists {
                    events.push(Event::RecordFailed);
                }
                if budget.undecided > 0 {
                    events.extend([Event::Undecided(true), Event::Undecided(false)]);
                }
            }
            None => {}
        }
        events.extend(self.requests.first().map(|purpose| Event::Request(*purpose)));
        if self.running {
            if budget.restarts > 0 {
                events.push(Event::EndAttempt);
            }
            if budget.end_of_data {
                events.extend((0..2).filter(|index| !self.ended.contains(index)).map(Event::EndOfData));
            }
        } else if self.settled.is_some() {
            events.push(Event::StartAttempt);
        }
        events
    }

    fn apply(&mut self, event: &Event) -> Result<(), String> {
        let mut out = Vec::new();
        match *event {
            Event::Tick => {
                self.budget.ticks = self.budget.ticks.saturating_sub(1);
                self.now_ms += 1_000;
                self.coordinator.tick(self.now_ms, &mut out);
            }
            Event::Enumerators(checkpoint) => {
                self.snapshots.remove(&checkpoint);
                self.coordinator.enumerators_snapshotted(checkpoint, vec![], self.now_ms, &mut out);
            }
            Event::Ack(checkpoint, attempt, index) => self.ack(checkpoint, attempt, index, &mut out)?,
            Event::Decline(checkpoint, attempt, index) => {
                self.budget.declines -= 1;
                let reason = "disk full".to_owned();
                self.coordinator.declined(checkpoint, attempt, subtask(index), reason, self.now_ms, &mut out);
            }
            Event::Written | Event::Undecided(_) | Event::RecordFailed => self.record_outcome(*event, &mut out),
            Event::Request(purpose) => {
                self.requests.remove(0);
                let id = RequestId(self.requests.len() as u64);
                self.open.push((id, purpose));
                let request = Request { id, purpose, drain: false };
                self.coordinator.trigger_requested(request, self.now_ms, &mut out);
            }
            Event::EndOfData(index) => {
                self.ended.insert(index);
                self.coordinator.end_of_data(self.attempt(), subtask(index), self.now_ms, &mut out);
            }
            Event::EndAttempt => {
                self.budget.restarts -= 1;
                self.running = false;
                self.coordinator.attempt_ended(self.attempt(), self.now_ms, &mut out);
                self.attempt += 1;
            }
            Event::StartAttempt => self.start_attempt(&mut out)?,
        }
        self.obey(out)?;
        if self.mutant == Mutant::CompleteWhenAcked
            && let Some(writing) = &self.writing
        {
            let mut out = Vec::new();
            self.coordinator.record_written(writing.checkpoint, self.now_ms, &mut out);
            self.obey(out)?;
        }
        Ok(())
    }

    fn state(&self) -> String {
        let c = &self.coordinator;
        let machine = (&c.running, &c.pending, &c.queue, &c.retained, &c.retained_next, &c.recently_completed);
        let counts =
            (c.next_id, c.failures_in_a_row, c.next_periodic_ms, c.last_end_ms, c.final_retry_ms, c.last_attempt);
        let world = (self.now_ms, self.attempt, self.running, &self.settled, &self.started, &self.snapshots);
        let flight =
            (&self.triggered, self.acks.iter().collect::<BTreeSet<_>>(), &self.writing, &self.durable, &self.log);
        let past = (&self.told, &self.aborted, &self.dropped, &self.ended, &self.open, &self.requests, self.budget);
        format!("{machine:?} {counts:?} {world:?} {flight:?} {past:?}")
    }

    fn at_end(&self) -> Result<(), String> {
        // Everything was delivered: nobody waits, unless on time that this small world does not have.
        let waits = !self.coordinator.pending.is_empty() || !self.coordinator.queue.is_empty();
        if waits { Err(format!("left waiting: {:?}", self.coordinator.pending)) } else { Ok(()) }
    }
}

fn options(max_concurrent: u32, tolerable_failed: u32) -> Options {
    Options { interval_ms: Some(1_000), max_concurrent, tolerable_failed: Some(tolerable_failed), ..Options::default() }
}

const SMALL: Budget =
    Budget { ticks: 2, checkpoints: 3, declines: 1, undecided: 1, repeated: 1, restarts: 1, end_of_data: false };

/// Two overlapping checkpoints and a savepoint.
fn overlapping(mutant: Mutant) -> Explored<Event> {
    let budget = Budget { restarts: 0, ..SMALL };
    explore(World::new(options(2, 1), &[Purpose::Savepoint], budget, mutant), 200_000)
}

/// A checkpoint and a savepoint, with a restart at any time and words of the old deployment after it.
fn restarting() -> Explored<Event> {
    let budget = Budget { checkpoints: 2, ..SMALL };
    explore(World::new(options(1, 0), &[Purpose::Savepoint], budget, Mutant::None), 200_000)
}

/// A checkpoint and a stop, and a savepoint asked for after it, with a restart.
fn stopping() -> Explored<Event> {
    let requests = [Purpose::StopWithSavepoint, Purpose::Savepoint];
    let budget = Budget { ticks: 1, checkpoints: 2, repeated: 0, ..SMALL };
    explore(World::new(options(2, 0), &requests, budget, Mutant::None), 200_000)
}

/// The end of the input at any time, with a failure and a restart.
fn ending() -> Explored<Event> {
    let budget = Budget { undecided: 0, repeated: 0, end_of_data: true, ..SMALL };
    explore(World::new(options(1, 1), &[], budget, Mutant::None), 200_000)
}

#[test]
fn every_order_of_two_overlapping_checkpoints_and_a_savepoint_is_safe() {
    let explored = overlapping(Mutant::None);
    assert!(explored.violation.is_none(), "{:?}", explored.violation);
    assert_eq!((explored.states, explored.transitions, explored.ends), (53_311, 294_164, 830));
}

#[test]
fn every_order_of_a_checkpoint_a_savepoint_and_a_restart_is_safe() {
    let explored = restarting();
    assert!(explored.violation.is_none(), "{:?}", explored.violation);
    assert_eq!((explored.states, explored.transitions, explored.ends), (16_325, 64_484, 1_351));
}

#[test]
fn every_order_of_a_checkpoint_and_a_stop_is_safe() {
    let explored = stopping();
    assert!(explored.violation.is_none(), "{:?}", explored.violation);
    assert_eq!((explored.states, explored.transitions, explored.ends), (39_834, 92_353, 4_436));
}

#[test]
fn every_order_of_checkpoints_and_the_end_of_the_input_is_safe() {
    let explored = ending();
    assert!(explored.violation.is_none(), "{:?}", explored.violation);
    assert_eq!((explored.states, explored.transitions, explored.ends), (23_017, 50_344, 1_668));
}

#[test]
fn the_enumeration_catches_completion_before_the_record() {
    let (_, broken) = overlapping(Mutant::CompleteWhenAcked).violation.expect("the mutant survived");
    assert!(broken.contains("NotifyComplete"), "{broken}");
}

#[test]
fn the_enumeration_catches_undecided_records_taken_as_written_or_failed() {
    let (_, broken) = overlapping(Mutant::UndecidedIsWritten).violation.expect("the mutant survived");
    assert!(broken.contains("NotifyComplete"), "{broken}");
    let (_, broken) = overlapping(Mutant::UndecidedIsFailed).violation.expect("the mutant survived");
    assert!(broken.contains("Abort"), "{broken}");
}
