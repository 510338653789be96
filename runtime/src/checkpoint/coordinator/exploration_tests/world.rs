//! The world around a coordinator that is explored: what subtasks, the writer of records and time may do, and what must hold
//! of every command.

use std::collections::{BTreeMap, BTreeSet};

use super::super::pending::is_savepoint;
use super::super::*;
use crate::element::Purpose;
use crate::exploration::Model;
use crate::ids::{AttemptNumber, Epoch, SubtaskIndex, VertexId};

/// A bug put between the machine and its world.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mutant {
    None,
    /// Complete as soon as all have acknowledged.
    CompleteWhenAcked,
    /// An undecided record counts as written.
    UndecidedIsWritten,
    /// An undecided record counts as failed.
    UndecidedIsFailed,
    /// The end of a region is not told while others run.
    EndNotTold,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
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
    /// Of a region.
    EndAttempt(usize),
    /// Of a region.
    StartAttempt(usize),
    /// Another graph, with another region in the place of the last.
    Redeploy,
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
pub(super) struct World {
    coordinator: Coordinator,
    mutant: Mutant,
    now_ms: i64,
    /// The number of each region's newest deployment.
    attempts: Vec<u32>,
    running: Vec<bool>,
    /// One that runs is none of the job any more.
    leaving: bool,
    /// The numbers of the regions.
    ids: Vec<RegionId>,
    /// The region of every deployment.
    of: BTreeMap<AttemptId, usize>,
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
pub(super) struct Budget {
    pub ticks: u32,
    pub checkpoints: u64,
    pub declines: u32,
    pub undecided: u32,
    pub repeated: u32,
    pub restarts: u32,
    pub redeployments: u32,
    pub end_of_data: bool,
}

fn subtask(index: u32) -> SubtaskId {
    SubtaskId { vertex: VertexId([1; 16]), index: SubtaskIndex(index) }
}

impl World {
    pub fn new(regions: usize, options: Options, requests: &[Purpose], budget: Budget, mutant: Mutant) -> Self {
        let ids: Vec<RegionId> = (0..).map(RegionId).take(regions).collect();
        let mut world = Self {
            coordinator: Coordinator::new(options, vec![], ids.iter().copied().collect()),
            ids,
            mutant,
            now_ms: 0,
            attempts: (0..).take(regions).collect(),
            running: vec![false; regions],
            leaving: false,
            of: BTreeMap::new(),
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
        (0..regions).for_each(|region| world.apply(&Event::StartAttempt(region)).unwrap());
        world
    }

    fn attempt(&self, region: usize) -> AttemptId {
        AttemptId { epoch: Epoch(1), attempt: AttemptNumber(self.attempts[region]) }
    }

    /// With two regions each has one of the two subtasks.
    fn region_of(&self, index: u32) -> usize {
        (index as usize).min(self.attempts.len() - 1)
    }

    fn attempt_of(&self, index: u32) -> AttemptId {
        self.attempt(self.region_of(index))
    }

    fn runs(&self, attempt: &AttemptId) -> bool {
        let region = self.of[attempt];
        self.running[region] && self.attempt(region) == *attempt
    }

    fn all_run(&self) -> bool {
        self.running.iter().all(|running| *running) && !self.leaving
    }

    fn current(&self) -> BTreeSet<AttemptId> {
        self.of.keys().filter(|attempt| self.runs(attempt)).copied().collect()
    }

    fn purpose_of(&self, checkpoint: CheckpointId) -> Purpose {
        self.started.iter().find(|(started, _)| *started == checkpoint).expect("started").1
    }

    fn obey(&mut self, commands: Vec<Command>) -> Result<(), String> {
        for command in commands {
            let text = format!("{command:?}");
            let holds = match command {
                Command::SnapshotEnumerators { checkpoint } => self.starts(checkpoint),
                Command::SendTriggers { barrier, attempts, .. } => {
                    let mut once = true;
                    attempts.iter().for_each(|it| once &= self.triggered.insert((barrier.checkpoint, *it)));
                    once && self.all_run() && attempts == self.current()
                }
                Command::WriteRecord(record) => self.writes(*record),
                Command::RetryRecord { checkpoint } => match &mut self.writing {
                    Some(writing) if writing.checkpoint == checkpoint && writing.pausing => {
                        writing.pausing = false;
                        true
                    }
                    _ => false,
                },
                Command::NotifyComplete { checkpoint, attempts, .. } => {
                    let first = self.told.insert(checkpoint);
                    let current = !attempts.is_empty() && attempts == self.taking_part(checkpoint);
                    first && current && self.durable.contains(&checkpoint) && !self.aborted.contains(&checkpoint)
                }
                Command::Drop { checkpoints } => checkpoints.into_iter().all(|checkpoint| {
                    let named = self.log.iter().any(|kept| kept.checkpoint == checkpoint);
                    self.dropped.insert(checkpoint) && !named && !is_savepoint(self.purpose_of(checkpoint))
                }),
                Command::Abort { checkpoint, attempts, .. } => {
                    let all = attempts.iter().all(|attempt| self.runs(attempt));
                    let in_doubt = self.writing.as_ref().is_some_and(|writing| writing.checkpoint == checkpoint);
                    let first = self.aborted.insert(checkpoint);
                    first && all && !in_doubt && !self.durable.contains(&checkpoint)
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
                    !self.all_run() && self.writing.is_none()
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

    /// The deployments a checkpoint was triggered for that still run.
    fn taking_part(&self, checkpoint: CheckpointId) -> BTreeSet<AttemptId> {
        let of = self.triggered.iter().filter(|(triggered, _)| *triggered == checkpoint).map(|(_, attempt)| *attempt);
        of.filter(|attempt| self.runs(attempt)).collect()
    }

    fn starts(&mut self, checkpoint: CheckpointId) -> bool {
        let pending = self.coordinator.pending.get(&checkpoint).expect("it was just started");
        let newer = self.started.last().is_none_or(|(last, _)| *last < checkpoint);
        let open = |id: &CheckpointId| !self.durable.contains(id) && !self.aborted.contains(id);
        let alone = !self.started.iter().any(|(id, purpose)| open(id) && pending::is_exclusive(*purpose));
        let in_doubt = self.writing.as_ref().is_some_and(|writing| writing.pausing);
        self.started.push((checkpoint, pending.purpose));
        self.snapshots.insert(checkpoint);
        newer && alone && !in_doubt && self.all_run()
    }

    fn writes(&mut self, record: Record) -> bool {
        let acked = |index| self.acks.contains(&(record.checkpoint, self.attempt_of(index), index));
        let whole = acked(0) && acked(1) && record.subtasks.len() == 2;
        let current = self.all_run() && Some(&record.attempt) == self.current().last();
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
                    Mutant::None | Mutant::CompleteWhenAcked | Mutant::EndNotTold => {
                        self.coordinator.record_undecided(checkpoint, now, out)
                    }
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
        let stale = !self.runs(&attempt);
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

    fn end_attempt(&mut self, region: usize, out: &mut Vec<Command>) {
        let was_running = std::mem::replace(&mut self.running[region], false);
        let regions = self.attempts.len();
        self.ended.retain(|index| (*index as usize).min(regions - 1) != region);
        if self.mutant == Mutant::EndNotTold {
            self.settled = Some(None);
        } else if was_running {
            self.coordinator.region_ended(self.attempt(region), self.now_ms, out);
        }
        self.attempts[region] = self.attempts.iter().max().copied().unwrap_or(0) + 1;
    }

    fn redeploy(&mut self, out: &mut Vec<Command>) -> Result<(), String> {
        let last = self.ids.len() - 1;
        self.ids[last] = RegionId(self.ids[last].0 + 10);
        self.leaving = true;
        let mut first = Vec::new();
        self.coordinator.has_regions(self.ids.iter().copied().collect(), self.now_ms, &mut first);
        self.obey(first)?;
        self.end_attempt(last, out);
        self.leaving = false;
        Ok(())
    }

    fn start_attempt(&mut self, region: usize, out: &mut Vec<Command>) -> Result<(), String> {
        let newest = self.settled.expect("started when settled");
        let expected = self.durable.iter().rev().find(|id| self.purpose_of(**id) != Purpose::Savepoint).copied();
        if newest != expected {
            return Err(format!("restored from {newest:?} instead of {expected:?}"));
        }
        self.running[region] = true;
        if self.all_run() {
            self.settled = None;
        }
        let subtasks = (0..2).filter(|index| self.region_of(*index) == region);
        let (subtasks, attempt) = (subtasks.map(subtask).collect(), self.attempt(region));
        self.of.insert(attempt, region);
        let region = RegionDeployment { region: self.ids[region], attempt, subtasks };
        self.coordinator.start_region(region, CheckpointId(1), self.now_ms, out).map_err(|e| e.to_string())
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
            for index in (0..2).filter(|index| self.region_of(*index) == self.of[attempt]) {
                let repeated = self.acks.contains(&(*checkpoint, *attempt, index));
                let stale = !self.runs(attempt);
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
        for (region, running) in self.running.iter().enumerate() {
            if *running && budget.restarts > 0 {
                events.push(Event::EndAttempt(region));
            } else if !*running && self.settled.is_some() {
                events.push(Event::StartAttempt(region));
            }
        }
        if budget.redeployments > 0 {
            events.push(Event::Redeploy);
        }
        if budget.end_of_data {
            let running = (0..2).filter(|index| self.running[self.region_of(*index)]);
            events.extend(running.filter(|index| !self.ended.contains(index)).map(Event::EndOfData));
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
                self.coordinator.end_of_data(self.attempt_of(index), subtask(index), self.now_ms, &mut out);
            }
            Event::EndAttempt(region) => {
                self.budget.restarts -= 1;
                self.end_attempt(region, &mut out);
            }
            Event::Redeploy => {
                self.budget.redeployments -= 1;
                self.redeploy(&mut out)?;
            }
            Event::StartAttempt(region) => self.start_attempt(region, &mut out)?,
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
            (c.next_id, c.failures_in_a_row, c.next_periodic_ms, c.last_end_ms, c.final_retry_ms, &c.last_attempts);
        let world =
            (self.now_ms, &self.attempts, &self.ids, &self.running, &self.settled, &self.started, &self.snapshots);
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
