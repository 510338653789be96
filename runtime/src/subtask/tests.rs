//! Every interleaving of two barriers, data, the end and an abort over up to three channels.

use std::collections::BTreeSet;

use super::*;
use crate::element::{CheckpointingMode, Overtaking, Purpose};
use crate::ids::AttemptId;

fn barrier(checkpoint: u64, mode: CheckpointingMode) -> Barrier {
    Barrier {
        checkpoint: CheckpointId(checkpoint),
        attempt: AttemptId::default(),
        purpose: Purpose::Checkpoint,
        mode,
        overtaking: Overtaking::Never,
        triggered_ms: 0,
    }
}

/// What one channel delivers, in order: rows are numbered by the barrier they stand before.
fn script(mode: CheckpointingMode) -> Vec<Element<u64>> {
    vec![
        Element::Batch(1),
        Element::Barrier(barrier(1, mode)),
        Element::Batch(2),
        Element::EndOfInput,
        Element::Barrier(barrier(2, mode)),
    ]
}

/// Calls `visit` with every way to deliver `channels` scripts of `length` elements, and an abort at every place.
fn interleavings(channels: usize, length: usize, visit: &mut dyn FnMut(&[usize])) {
    fn go(taken: &mut Vec<usize>, order: &mut Vec<usize>, length: usize, visit: &mut dyn FnMut(&[usize])) {
        if taken.iter().all(|taken| *taken == length) {
            visit(order);
            return;
        }
        for channel in 0..taken.len() {
            if taken[channel] < length {
                taken[channel] += 1;
                order.push(channel);
                go(taken, order, length, visit);
                order.pop();
                taken[channel] -= 1;
            }
        }
    }
    go(&mut vec![0; channels], &mut Vec::new(), length, visit);
}

fn run(order: &[usize], channels: usize, mode: CheckpointingMode, abort_at: Option<usize>) -> Vec<Action<u64>> {
    let script = script(mode);
    let mut subtask = Subtask::new(channels);
    let mut taken = vec![0; channels];
    let mut actions = Vec::new();
    for (step, channel) in order.iter().enumerate() {
        if abort_at == Some(step) {
            subtask.abort(CheckpointId(1));
            actions.extend(std::iter::from_fn(|| subtask.next_action()));
        }
        subtask.receive(ChannelIndex(u32::try_from(*channel).expect("small")), script[taken[*channel]].clone());
        taken[*channel] += 1;
        actions.extend(std::iter::from_fn(|| subtask.next_action()));
    }
    assert!(subtask.aligning().is_none() && subtask.queued_batches() == 0, "nothing stays parked");
    actions
}

fn check(actions: &[Action<u64>], channels: usize, mode: CheckpointingMode, aborted: bool) {
    let position = |wanted: &dyn Fn(&Action<u64>) -> bool| actions.iter().position(wanted);
    let snapshot = |checkpoint: u64| {
        position(&|action| matches!(action, Action::Snapshot(b) if b.checkpoint == CheckpointId(checkpoint)))
    };
    for rows in [1, 2] {
        let count = actions.iter().filter(|action| matches!(action, Action::Process(_, row) if *row == rows)).count();
        assert_eq!(count, channels, "every batch is processed once: {actions:?}");
    }
    for channel in 0..channels {
        let of = |row: u64| {
            position(&|action| matches!(action, Action::Process(c, r) if c.0 as usize == channel && *r == row))
        };
        assert!(of(1) < of(2), "channels keep their order");
    }
    let second = snapshot(2).expect("the second checkpoint is always taken");
    assert!(position(&|action| matches!(action, Action::EndOfInput)).expect("the input ends") < second);
    assert_eq!(actions.iter().filter(|action| matches!(action, Action::EndOfInput)).count(), 1);
    let Some(first) = snapshot(1) else {
        assert!(aborted, "only an abort loses a checkpoint: {actions:?}");
        return;
    };
    assert!(first < second);
    for (index, action) in actions.iter().enumerate() {
        if let Action::Process(_, row) = action {
            match (row, mode) {
                (1, _) => assert!(index < first, "rows before the barrier are in the snapshot"),
                (_, CheckpointingMode::ExactlyOnce) => {
                    assert!(index > first, "rows behind the barrier are not: {actions:?}");
                }
                (_, CheckpointingMode::AtLeastOnce) => {}
            }
        }
    }
}

#[test]
fn every_interleaving_of_two_checkpoints_keeps_the_cut() {
    for mode in [CheckpointingMode::ExactlyOnce, CheckpointingMode::AtLeastOnce] {
        let mut count = 0;
        for channels in 1..=3 {
            interleavings(channels, 5, &mut |order| {
                count += 1;
                check(&run(order, channels, mode, None), channels, mode, false);
            });
        }
        assert_eq!(count, 1 + 252 + 756_756);
    }
}

#[test]
fn an_abort_at_any_moment_never_blocks_or_loses_a_batch() {
    let mut outcomes = BTreeSet::new();
    for mode in [CheckpointingMode::ExactlyOnce, CheckpointingMode::AtLeastOnce] {
        for channels in 1..=2 {
            interleavings(channels, 5, &mut |order| {
                for abort_at in 0..order.len() {
                    let actions = run(order, channels, mode, Some(abort_at));
                    check(&actions, channels, mode, true);
                    outcomes.insert(actions.iter().filter(|action| matches!(action, Action::Snapshot(_))).count());
                }
            });
        }
    }
    assert_eq!(outcomes, BTreeSet::from([1, 2]), "an abort comes in time, or too late to matter");
}

/// Each watermark keeps the chain busy with its timers for some steps, in which rows may not come.
fn run_with_timers(order: &[usize], channels: usize, mode: CheckpointingMode, steps: usize) -> Vec<Action<u64>> {
    let mut script = script(mode);
    script.insert(1, Element::Watermark(5));
    script.insert(4, Element::Watermark(9));
    let mut subtask = Subtask::new(channels);
    let mut taken = vec![0; channels];
    let mut actions = Vec::new();
    let mut firing = 0;
    let mut work = |subtask: &mut Subtask<u64>, firing: &mut usize| {
        let was_firing = *firing > 0;
        let action = if was_firing { subtask.next_between_timers() } else { subtask.next_action() };
        *firing = firing.saturating_sub(1);
        match &action {
            Some(Action::Watermark(_)) => *firing = steps,
            Some(Action::Process(..) | Action::Idle(_) | Action::EndOfInput) => {
                assert!(!was_firing, "while timers fire there are no rows, and the end does not come: {action:?}");
            }
            Some(Action::Snapshot(_) | Action::Abandoned(_)) | None => {}
        }
        let is_done = action.is_none() && !was_firing;
        actions.extend(action);
        is_done
    };
    for channel in order {
        subtask.receive(ChannelIndex(u32::try_from(*channel).expect("small")), script[taken[*channel]].clone());
        taken[*channel] += 1;
        work(&mut subtask, &mut firing);
    }
    while !work(&mut subtask, &mut firing) {}
    assert!(subtask.aligning().is_none() && subtask.queued_batches() == 0, "nothing stays parked");
    actions
}

#[test]
fn a_barrier_between_timers_keeps_the_cut_in_every_interleaving() {
    let mut early = 0;
    for mode in [CheckpointingMode::ExactlyOnce, CheckpointingMode::AtLeastOnce] {
        for channels in 1..=2 {
            interleavings(channels, 7, &mut |order| {
                for steps in [0, 2, 5] {
                    let actions = run_with_timers(order, channels, mode, steps);
                    check(&actions, channels, mode, false);
                    let watermarks = actions.iter().filter_map(|action| match action {
                        Action::Watermark(watermark) => Some(*watermark),
                        _ => None,
                    });
                    assert!(watermarks.clone().is_sorted(), "event time never goes back");
                    assert_eq!(watermarks.max(), Some(crate::time::MAX_TIMESTAMP));
                    let after = |action: &Action<u64>| matches!(action, Action::Watermark(_));
                    early += actions
                        .windows(2)
                        .filter(|pair| steps > 1 && after(&pair[0]) && matches!(pair[1], Action::Snapshot(_)))
                        .count();
                }
            });
        }
    }
    assert!(early > 1_000, "barriers do get through while timers fire: {early}");
}

#[test]
fn a_newer_barrier_replaces_one_that_cannot_complete() {
    let mut subtask = Subtask::new(2);
    let mode = CheckpointingMode::ExactlyOnce;
    subtask.receive(ChannelIndex(0), Element::Barrier(barrier(1, mode)));
    subtask.receive(ChannelIndex(0), Element::Batch(10));
    subtask.receive(ChannelIndex(1), Element::Barrier(barrier(2, mode)));
    subtask.receive(ChannelIndex(1), Element::Batch(20));
    subtask.receive(ChannelIndex(0), Element::Barrier(barrier(2, mode)));
    let actions: Vec<_> = std::iter::from_fn(|| subtask.next_action()).collect();
    assert_eq!(
        actions,
        [
            Action::Abandoned(CheckpointId(1)),
            Action::Process(ChannelIndex(0), 10),
            Action::Snapshot(barrier(2, mode)),
            Action::Process(ChannelIndex(1), 20),
        ]
    );
}
