//! Everything that can happen to a sink of few cuts, in every order: completions late and repeated, savepoints, lost
//! answers, crashes and restores. Every row becomes visible once.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use super::*;
use crate::exploration::{Explored, Model, explore};

/// A bug put between the machine and its world.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mutant {
    None,
    /// A plain savepoint commits.
    SavepointCommits,
    /// A manifest does not list what is being committed.
    ForgetsInFlight,
}

/// A transaction: the stretch of input whose rows it holds, and the run of the sink that wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Transaction {
    stretch: u64,
    run: u32,
}

#[derive(Clone, Debug)]
enum Event {
    /// A barrier cuts off a stretch.
    Cut(Purpose),
    /// The log holds the checkpoint.
    Record(CheckpointId),
    /// The sink hears of it.
    Complete(CheckpointId),
    /// The commit takes effect; its answer may be lost.
    Effect,
    Committed,
    CommitFailed,
    RetryDue,
    Crash,
}

/// What a restore finds.
#[derive(Clone, Debug)]
struct Manifest {
    checkpoint: CheckpointId,
    purpose: Purpose,
    /// Stretches of input before the cut.
    stretches: u64,
    pending: Vec<Transaction>,
}

#[derive(Clone, Debug)]
struct World {
    machine: Commit<Transaction>,
    mutant: Mutant,
    run: u32,
    next_checkpoint: u64,
    stretches: u64,
    /// Acknowledged, not yet recorded.
    acked: Vec<Manifest>,
    /// Recorded in this run, with how often the sink may still hear of it.
    recorded: Vec<(CheckpointId, Purpose, u32)>,
    /// The last recorded one that can be restored, and how much input it covers.
    restorable: Option<Manifest>,
    in_flight: Option<(BatchId, Vec<Transaction>)>,
    pausing: Option<BatchId>,
    visible: BTreeSet<Transaction>,
    /// Transactions whose commit was acknowledged in this run.
    answered: BTreeSet<Transaction>,
    prepared: BTreeSet<Transaction>,
    crashes_left: u32,
    failures_left: u32,
}

const CUTS: u64 = 3;

impl World {
    fn new(mutant: Mutant) -> Self {
        Self {
            machine: Commit::new(Options { max_retries: 1, retry_pause_ms: 1 }),
            mutant,
            run: 0,
            next_checkpoint: 1,
            stretches: 0,
            acked: vec![],
            recorded: vec![],
            restorable: None,
            in_flight: None,
            pausing: None,
            visible: BTreeSet::new(),
            answered: BTreeSet::new(),
            prepared: BTreeSet::new(),
            crashes_left: 2,
            failures_left: 1,
        }
    }

    fn obey(&mut self, commands: Vec<Command<Transaction>>) -> Result<(), String> {
        for command in commands {
            match command {
                Command::Commit { batch, transactions } => {
                    if self.in_flight.is_some() || !transactions.is_sorted_by_key(|transaction| transaction.stretch) {
                        return Err(format!("{transactions:?} committed beside {:?}", self.in_flight));
                    }
                    let covered = self.restorable.as_ref().map_or(0, |manifest| manifest.stretches);
                    if transactions.iter().any(|transaction| transaction.stretch >= covered) {
                        return Err(format!("{transactions:?} committed before their checkpoint is complete"));
                    }
                    self.in_flight = Some((batch, transactions));
                    self.pausing = None;
                }
                Command::RetryAt { batch, .. } => self.pausing = Some(batch),
                Command::Fail { reason, .. } => return Err(reason),
            }
        }
        Ok(())
    }

    fn cut(&mut self, purpose: Purpose) -> Result<(), String> {
        let checkpoint = CheckpointId(self.next_checkpoint);
        self.next_checkpoint += 1;
        let transaction = Transaction { stretch: self.stretches, run: self.run };
        self.stretches += 1;
        self.prepared.insert(transaction);
        self.machine.prepared(checkpoint, vec![transaction]).map_err(|error| error.to_string())?;
        let mut pending: Vec<_> = self.machine.pending_up_to(checkpoint).copied().collect();
        let expected: Vec<_> = self.prepared.difference(&self.answered).copied().collect();
        if pending != expected {
            return Err(format!("manifest {checkpoint} lists {pending:?} instead of {expected:?}"));
        }
        if self.mutant == Mutant::ForgetsInFlight {
            let committing = self.in_flight.as_ref().map_or(&[][..], |(_, transactions)| transactions);
            pending.retain(|transaction| !committing.contains(transaction));
        }
        self.acked.push(Manifest { checkpoint, purpose, stretches: self.stretches, pending });
        Ok(())
    }

    fn crash(&mut self) -> Result<(), String> {
        self.crashes_left -= 1;
        self.run += 1;
        let pending = self.restorable.as_ref().map_or(vec![], |manifest| manifest.pending.clone());
        self.stretches = self.restorable.as_ref().map_or(0, |manifest| manifest.stretches);
        for stretch in 0..self.stretches {
            let is_there = |transaction: &Transaction| transaction.stretch == stretch;
            if !self.visible.iter().any(is_there) && !pending.iter().any(is_there) {
                return Err(format!("stretch {stretch} is neither visible nor listed in the restored manifest"));
            }
        }
        self.machine = Commit::new(Options { max_retries: 1, retry_pause_ms: 1 });
        (self.acked, self.recorded, self.in_flight, self.pausing) = (vec![], vec![], None, None);
        self.answered.clear();
        self.prepared = pending.iter().copied().collect();
        let mut out = Vec::new();
        self.machine.restored(pending, &mut out);
        self.obey(out)
    }
}

impl Model for World {
    type Event = Event;

    fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        if self.next_checkpoint <= CUTS {
            events.push(Event::Cut(Purpose::Checkpoint));
            events.push(Event::Cut(Purpose::Savepoint));
        }
        // Any of those acknowledged may be recorded, later ones first too; an aborted one never is.
        events.extend(self.acked.iter().map(|manifest| Event::Record(manifest.checkpoint)));
        let told = self.recorded.iter().filter(|(_, _, left)| *left > 0);
        events.extend(told.map(|(checkpoint, ..)| Event::Complete(*checkpoint)));
        if let Some((_, transactions)) = &self.in_flight {
            if !transactions.iter().all(|transaction| self.visible.contains(transaction)) {
                events.push(Event::Effect);
            } else {
                events.push(Event::Committed);
            }
            if self.failures_left > 0 {
                events.push(Event::CommitFailed);
            }
        }
        if self.pausing.is_some() {
            events.push(Event::RetryDue);
        }
        if self.crashes_left > 0 {
            events.push(Event::Crash);
        }
        events
    }

    fn apply(&mut self, event: &Event) -> Result<(), String> {
        let mut out = Vec::new();
        match *event {
            Event::Cut(purpose) => self.cut(purpose)?,
            Event::Record(checkpoint) => {
                let place = self.acked.iter().position(|manifest| manifest.checkpoint == checkpoint).unwrap();
                let manifest = self.acked.remove(place);
                self.recorded.push((checkpoint, manifest.purpose, 2));
                if manifest.purpose == Purpose::Checkpoint {
                    // It subsumes the checkpoints before it, not the savepoints.
                    self.acked.retain(|older| older.checkpoint > checkpoint || older.purpose == Purpose::Savepoint);
                    self.restorable = Some(manifest);
                }
            }
            Event::Complete(checkpoint) => {
                let entry = self.recorded.iter_mut().find(|(recorded, ..)| *recorded == checkpoint).unwrap();
                entry.2 -= 1;
                let mutant = self.mutant == Mutant::SavepointCommits;
                let purpose = if mutant { Purpose::Checkpoint } else { entry.1 };
                self.machine.complete(checkpoint, purpose, &mut out);
            }
            Event::Effect => {
                let (_, transactions) = self.in_flight.as_ref().unwrap();
                self.visible.extend(transactions);
                let stretches: BTreeSet<_> = self.visible.iter().map(|transaction| transaction.stretch).collect();
                if stretches.len() != self.visible.len() {
                    return Err(format!("a stretch is visible twice: {:?}", self.visible));
                }
            }
            Event::Committed => {
                let (batch, transactions) = self.in_flight.take().unwrap();
                self.answered.extend(transactions);
                assert!(self.machine.committed(batch, &mut out));
            }
            Event::CommitFailed => {
                self.failures_left -= 1;
                let (batch, _) = self.in_flight.take().unwrap();
                assert!(self.machine.commit_failed(batch, ErrorKind::Retry, "busy", 0, &mut out));
            }
            Event::RetryDue => {
                assert!(self.machine.retry_due(self.pausing.unwrap(), &mut out));
            }
            Event::Crash => self.crash()?,
        }
        self.obey(out)
    }

    fn state(&self) -> String {
        format!("{self:?}")
    }

    fn at_end(&self) -> Result<(), String> {
        // Every completion was told and every commit answered.
        let covered = self.restorable.as_ref().map_or(0, |manifest| manifest.stretches);
        let visible: BTreeSet<_> = self.visible.iter().map(|transaction| transaction.stretch).collect();
        let waiting: Vec<_> = self.machine.pending().filter(|transaction| transaction.stretch < covered).collect();
        if (0..covered).all(|stretch| visible.contains(&stretch)) && waiting.is_empty() {
            Ok(())
        } else {
            Err(format!("of {covered} stretches only {visible:?} are visible, {waiting:?} wait"))
        }
    }
}

fn explore_with(mutant: Mutant) -> Explored<Event> {
    explore(World::new(mutant), 200_000)
}

#[test]
fn every_order_of_cuts_completions_commits_and_crashes_shows_each_row_once() {
    let explored = explore_with(Mutant::None);
    assert!(explored.violation.is_none(), "{:?}", explored.violation);
    assert_eq!((explored.states, explored.transitions, explored.ends), (46_206, 152_694, 326));
}

#[test]
fn the_enumeration_catches_a_savepoint_that_commits() {
    let (_, broken) = explore_with(Mutant::SavepointCommits).violation.expect("the mutant survived");
    assert!(broken.contains("before their checkpoint is complete"), "{broken}");
}

#[test]
fn the_enumeration_catches_a_manifest_that_forgets_what_is_being_committed() {
    let (way, broken) = explore_with(Mutant::ForgetsInFlight).violation.expect("the mutant survived");
    assert!(broken.contains("neither visible nor listed"), "{broken}: {way:?}");
}
