//! Everything that can happen to a subtask whose barriers may overtake: every order of deliveries, steps of the chain,
//! time-outs and an abort. Whatever happens, the cut is consistent: what stood before a barrier was either processed
//! before the cut or recorded as in flight, never both, and nothing is missing or out of order.

use std::collections::BTreeSet;

use super::*;
use crate::element::{CheckpointingMode, Overtaking, Purpose};
use crate::exploration::{Model, explore};
use crate::ids::AttemptId;

fn barrier(checkpoint: u64, overtaking: Overtaking) -> Element<u32> {
    Element::Barrier(Barrier {
        checkpoint: CheckpointId(checkpoint),
        attempt: AttemptId::default(),
        purpose: Purpose::Checkpoint,
        mode: CheckpointingMode::ExactlyOnce,
        overtaking,
        triggered_ms: 0,
    })
}

const LATER: Overtaking = Overtaking::After { timeout_ms: 100 };

#[derive(Clone, Debug, PartialEq)]
enum Event {
    Deliver(usize),
    Step,
    TimeOut(u64),
    Abort(u64),
}

/// How the cut of a checkpoint has gone so far.
#[derive(Clone, Debug, Default)]
struct Cut {
    /// By channel: batches processed before it, and recorded as in flight.
    before: Option<Vec<Vec<u32>>>,
    recorded: Vec<Vec<u32>>,
    given_up: bool,
}

#[derive(Clone)]
struct World {
    scripts: Vec<Vec<Element<u32>>>,
    delivered: Vec<usize>,
    subtask: Subtask<u32>,
    processed: Vec<Vec<u32>>,
    cuts: Vec<Cut>,
    timed_out: BTreeSet<u64>,
    aborted: BTreeSet<u64>,
    abortable: bool,
}

/// Batches of a channel that stand before a barrier of it.
fn before(script: &[Element<u32>], checkpoint: u64) -> Option<Vec<u32>> {
    let is_wanted = |element: &Element<u32>| matches!(element, Element::Barrier(b) if b.checkpoint.0 == checkpoint);
    let end = script.iter().position(is_wanted)?;
    Some(batches(&script[..end]))
}

fn batches(script: &[Element<u32>]) -> Vec<u32> {
    let batch = |element: &Element<u32>| if let Element::Batch(batch) = element { Some(*batch) } else { None };
    script.iter().filter_map(batch).collect()
}

impl World {
    fn new(scripts: Vec<Vec<Element<u32>>>, allowed: Vec<bool>, abortable: bool) -> Self {
        let channels = scripts.len();
        Self {
            scripts,
            delivered: vec![0; channels],
            subtask: Subtask::overtakable(allowed),
            processed: vec![Vec::new(); channels],
            cuts: vec![Cut::default(); 3],
            timed_out: BTreeSet::new(),
            aborted: BTreeSet::new(),
            abortable,
        }
    }

    fn cut(&mut self, checkpoint: u64) -> Result<(), String> {
        let cut = &mut self.cuts[checkpoint as usize];
        if cut.before.replace(self.processed.clone()).is_some() {
            return Err(format!("checkpoint {checkpoint} is cut twice"));
        }
        if cut.recorded.is_empty() {
            cut.recorded = vec![Vec::new(); self.scripts.len()];
        }
        Ok(())
    }

    /// As the driver: what is overdue comes first, also in the middle of a batch.
    fn overtake(&mut self) -> Result<(), String> {
        if let Some(lost) = self.subtask.take_lost() {
            self.cuts[lost.0 as usize].given_up = true;
        }
        let mut recorded = vec![Vec::new(); self.scripts.len()];
        let Some(barrier) = self.subtask.overtake(|channel, batch| recorded[channel.0 as usize].push(*batch)) else {
            return Ok(());
        };
        if barrier.overtaking != Overtaking::Now {
            return Err("it goes on as one that may wait once more".to_owned());
        }
        self.cuts[barrier.checkpoint.0 as usize].recorded = recorded;
        self.cut(barrier.checkpoint.0)
    }

    fn deliver(&mut self, at: usize) {
        let channel = ChannelIndex(u32::try_from(at).expect("small"));
        let element = self.scripts[at][self.delivered[at]].clone();
        self.delivered[at] += 1;
        if let Element::Batch(batch) = element
            && self.subtask.is_recording(channel)
        {
            let checkpoint = self.subtask.recording().expect("recording");
            self.cuts[checkpoint.0 as usize].recorded[at].push(batch);
        }
        self.subtask.receive(channel, element);
    }

    fn act(&mut self, action: Action<u32>) -> Result<(), String> {
        match action {
            Action::Process(channel, batch) => self.processed[channel.0 as usize].push(batch),
            Action::Snapshot(barrier) => self.cut(barrier.checkpoint.0)?,
            Action::Abandoned(checkpoint) => self.cuts[checkpoint.0 as usize].given_up = true,
            Action::Watermark(_) | Action::Idle(_) | Action::EndOfInput => {}
        }
        Ok(())
    }

    /// Of every cut that is whole: before and in flight together are what stood before the barrier.
    fn check(&self) -> Result<(), String> {
        for (checkpoint, cut) in (0..).zip(&self.cuts) {
            let Some(done) = &cut.before else { continue };
            let is_recording = self.subtask.recording() == Some(CheckpointId(checkpoint));
            if cut.given_up || is_recording || self.aborted.contains(&checkpoint) {
                continue;
            }
            for (channel, script) in self.scripts.iter().enumerate() {
                let mut seen = done[channel].clone();
                seen.extend(&cut.recorded[channel]);
                let Some(wanted) = before(script, checkpoint) else {
                    return Err(format!("{checkpoint} is whole without a barrier from channel {channel}"));
                };
                if seen != wanted {
                    return Err(format!("cut {checkpoint}, channel {channel}: {seen:?} instead of {wanted:?}"));
                }
            }
        }
        Ok(())
    }
}

impl Model for World {
    type Event = Event;

    fn events(&self) -> Vec<Event> {
        let open = |channel: &usize| self.delivered[*channel] < self.scripts[*channel].len();
        let mut events: Vec<Event> = (0..self.scripts.len()).filter(open).map(Event::Deliver).collect();
        // An idle step changes nothing.
        if self.subtask.clone().next_action().is_some() {
            events.push(Event::Step);
        }
        events.extend((1..=2).filter(|checkpoint| !self.timed_out.contains(checkpoint)).map(Event::TimeOut));
        if self.abortable && self.aborted.is_empty() {
            events.push(Event::Abort(1));
        }
        events
    }

    fn apply(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::Deliver(channel) => self.deliver(*channel),
            Event::Step => {
                if let Some(action) = self.subtask.next_action() {
                    self.act(action)?;
                }
            }
            Event::TimeOut(checkpoint) => {
                self.timed_out.insert(*checkpoint);
                self.subtask.time_out(CheckpointId(*checkpoint));
            }
            Event::Abort(checkpoint) => {
                self.aborted.insert(*checkpoint);
                self.subtask.abort(CheckpointId(*checkpoint));
            }
        }
        self.overtake()?;
        self.check()
    }

    fn state(&self) -> String {
        let Self { delivered, subtask, processed, cuts, timed_out, aborted, .. } = self;
        format!("{delivered:?} {subtask:?} {processed:?} {cuts:?} {timed_out:?} {aborted:?}")
    }

    fn at_end(&self) -> Result<(), String> {
        let all: Vec<_> = self.scripts.iter().map(|script| batches(script)).collect();
        if self.processed != all {
            return Err(format!("processed {:?} of {all:?}", self.processed));
        }
        if self.subtask.aligning().is_some() || self.subtask.queued_batches() > 0 {
            return Err("something stays parked".to_owned());
        }
        if self.subtask.recording().is_some() {
            return Err("a record stays open".to_owned());
        }
        let complete = |checkpoint: u64| {
            let everywhere = self.scripts.iter().all(|script| before(script, checkpoint).is_some());
            let is_newest = checkpoint == 2;
            !everywhere || !is_newest || self.cuts[checkpoint as usize].before.is_some()
        };
        if !complete(2) {
            return Err("the newest checkpoint was never cut".to_owned());
        }
        Ok(())
    }
}

fn script(first: u32, overtaking: Overtaking) -> Vec<Element<u32>> {
    vec![
        Element::Batch(first),
        barrier(1, overtaking),
        Element::Batch(first + 1),
        barrier(2, overtaking),
        Element::Batch(first + 2),
    ]
}

fn check(world: World) -> usize {
    let explored = explore(world, 3_000_000);
    assert_eq!(explored.violation, None, "after {} states", explored.states);
    assert!(explored.ends > 0);
    explored.states
}

#[test]
fn whenever_a_barrier_overtakes_every_row_is_processed_or_recorded() {
    let alone = check(World::new(vec![script(1, LATER)], vec![true], true));
    let two = check(World::new(vec![script(1, LATER), script(11, LATER)], vec![true; 2], true));
    assert!(alone > 30 && two > 5_000, "{alone} {two}");
}

#[test]
fn a_barrier_that_overtook_before_overtakes_at_once_on_whichever_channel_it_comes() {
    let mixed = vec![script(1, LATER), script(11, Overtaking::Now)];
    check(World::new(mixed, vec![true; 2], true));
    check(World::new(vec![script(1, Overtaking::Now), script(11, Overtaking::Now)], vec![true; 2], false));
}

#[test]
fn three_channels_keep_the_cut() {
    let short = |first| vec![Element::Batch(first), barrier(2, LATER), Element::Batch(first + 1)];
    check(World::new(vec![short(1), short(11), short(21)], vec![true; 3], false));
}

#[test]
fn rows_that_may_not_be_overtaken_are_not() {
    let states = check(World::new(vec![script(1, LATER), script(11, LATER)], vec![true, false], false));
    assert!(states > 1_000);
    let mut subtask = Subtask::overtakable(vec![true, false]);
    subtask.receive(ChannelIndex(1), Element::Batch(11));
    subtask.receive(ChannelIndex(0), Element::Batch(1));
    subtask.receive(ChannelIndex(0), barrier(1, LATER));
    subtask.time_out(CheckpointId(1));
    assert_eq!(subtask.overtake(|_, _| panic!("nothing is recorded")), None);
    subtask.receive(ChannelIndex(1), barrier(1, LATER));
    assert_eq!(subtask.overtake(|_, _| panic!("a row waits that may not be overtaken")), None);
    let mut aligned = subtask.clone();
    assert_eq!(subtask.next_action(), Some(Action::Process(ChannelIndex(1), 11)));
    let mut recorded = Vec::new();
    let overtaken = subtask.overtake(|channel, batch| recorded.push((channel.0, *batch)));
    assert!(overtaken.is_some() && recorded == [(0, 1)], "no row waits before its barrier any more");
    let actions: Vec<_> = std::iter::from_fn(|| aligned.next_action()).collect();
    let Some(Action::Snapshot(barrier)) = actions.last() else { panic!("aligned: {actions:?}") };
    assert_eq!(barrier.overtaking, Overtaking::Now, "the next subtasks need not wait once more");
}

#[test]
fn a_barrier_passed_over_upstream_gives_the_record_up() {
    // The first checkpoint never comes on the second channel: aborted before it was taken there.
    let second = vec![Element::Batch(11), barrier(2, LATER), Element::Batch(12)];
    for first in [LATER, Overtaking::Now] {
        check(World::new(vec![script(1, first), second.clone()], vec![true; 2], false));
    }
    let mut subtask = Subtask::overtakable(vec![true; 2]);
    subtask.receive(ChannelIndex(0), barrier(1, Overtaking::Now));
    assert!(subtask.overtake(|_, _| panic!("nothing waits")).is_some());
    subtask.receive(ChannelIndex(1), barrier(2, LATER));
    assert_eq!(subtask.recording(), Some(CheckpointId(1)), "not whole before it is given up");
    assert_eq!(subtask.take_lost(), Some(CheckpointId(1)));
    assert_eq!(subtask.recording(), None);
}

#[test]
fn a_time_out_is_asked_for_once_with_the_first_barrier() {
    let mut subtask: Subtask<u32> = Subtask::overtakable(vec![true; 2]);
    subtask.receive(ChannelIndex(0), Element::Batch(1));
    assert_eq!(subtask.take_wanted_timeout(), None);
    subtask.receive(ChannelIndex(0), barrier(1, LATER));
    let wanted = WantedTimeout { checkpoint: CheckpointId(1), after_ms: 100 };
    assert_eq!(subtask.take_wanted_timeout(), Some(wanted));
    subtask.receive(ChannelIndex(1), barrier(1, LATER));
    assert_eq!(subtask.take_wanted_timeout(), None);
}

#[test]
fn what_was_in_flight_comes_before_everything_else() {
    let mut subtask = Subtask::overtakable(vec![true; 2]);
    subtask.receive(ChannelIndex(0), Element::Batch(3));
    subtask.replay([(ChannelIndex(0), 1), (ChannelIndex(1), 2)].into_iter());
    let order: Vec<_> = std::iter::from_fn(|| subtask.next_action()).collect();
    let process = |channel, batch| Action::Process(ChannelIndex(channel), batch);
    assert_eq!(order, [process(0, 1), process(1, 2), process(0, 3)]);
}
