//! Everything that can happen to a coordinator of two subtasks, of one region or of two, and few checkpoints, in every
//! order: late and repeated acknowledgements, declines, undecided records, requests, the end of the input, restarts.
#![allow(clippy::unwrap_used)]

mod world;

use super::*;
use crate::element::Purpose;
use crate::exploration::{Explored, explore};
use world::{Budget, Event, Mutant, World};

fn options(max_concurrent: u32, tolerable_failed: u32) -> Options {
    Options { interval_ms: Some(1_000), max_concurrent, tolerable_failed: Some(tolerable_failed), ..Options::default() }
}

const SMALL: Budget = Budget {
    ticks: 2,
    checkpoints: 3,
    declines: 1,
    undecided: 1,
    repeated: 1,
    restarts: 1,
    redeployments: 0,
    end_of_data: false,
};

/// Two overlapping checkpoints and a savepoint.
fn overlapping(mutant: Mutant) -> Explored<Event> {
    let budget = Budget { restarts: 0, ..SMALL };
    explore(World::new(1, options(2, 1), &[Purpose::Savepoint], budget, mutant), 200_000)
}

/// A checkpoint and a savepoint, with a restart at any time and words of the old deployment after it.
fn restarting(regions: usize, mutant: Mutant) -> Explored<Event> {
    let budget = Budget { checkpoints: 2, ..SMALL };
    explore(World::new(regions, options(1, 0), &[Purpose::Savepoint], budget, mutant), 200_000)
}

/// A checkpoint and a stop, and a savepoint asked for after it, with a restart.
fn stopping(regions: usize, mutant: Mutant) -> Explored<Event> {
    let requests = [Purpose::StopWithSavepoint, Purpose::Savepoint];
    let budget = Budget { ticks: 1, checkpoints: 2, repeated: 0, ..SMALL };
    explore(World::new(regions, options(2, 0), &requests, budget, mutant), 200_000)
}

/// The end of the input at any time, with a failure and a restart.
fn ending(regions: usize, mutant: Mutant) -> Explored<Event> {
    let budget = Budget { undecided: 0, repeated: 0, end_of_data: true, ..SMALL };
    explore(World::new(regions, options(1, 1), &[], budget, mutant), 200_000)
}

#[test]
fn every_order_of_two_overlapping_checkpoints_and_a_savepoint_is_safe() {
    let explored = overlapping(Mutant::None);
    assert!(explored.violation.is_none(), "{:?}", explored.violation);
    assert_eq!((explored.states, explored.transitions, explored.ends), (53_311, 294_164, 830));
}

#[test]
fn every_order_of_a_checkpoint_a_savepoint_and_a_restart_is_safe() {
    let explored = restarting(1, Mutant::None);
    assert!(explored.violation.is_none(), "{:?}", explored.violation);
    assert_eq!((explored.states, explored.transitions, explored.ends), (16_325, 64_484, 1_351));
}

#[test]
fn every_order_of_a_checkpoint_and_a_stop_is_safe() {
    let explored = stopping(1, Mutant::None);
    assert!(explored.violation.is_none(), "{:?}", explored.violation);
    assert_eq!((explored.states, explored.transitions, explored.ends), (39_834, 92_353, 4_436));
}

#[test]
fn every_order_of_checkpoints_and_the_end_of_the_input_is_safe() {
    let explored = ending(1, Mutant::None);
    assert!(explored.violation.is_none(), "{:?}", explored.violation);
    assert_eq!((explored.states, explored.transitions, explored.ends), (22_683, 49_834, 1_668));
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

#[test]
fn every_order_of_the_events_of_two_regions_is_safe() {
    let explored = [restarting(2, Mutant::None), stopping(2, Mutant::None), ending(2, Mutant::None)];
    explored.iter().for_each(|explored| assert!(explored.violation.is_none(), "{:?}", explored.violation));
    let sizes = explored.map(|explored| (explored.states, explored.transitions, explored.ends));
    assert_eq!(sizes, [(30_034, 123_415, 1_778), (65_852, 177_621, 3_980), (30_693, 74_715, 1_610)]);
}

/// A checkpoint and a savepoint, and another graph at any time, also in the midst of a restart.
fn redeploying(regions: usize) -> Explored<Event> {
    let budget = Budget { checkpoints: 2, declines: 0, repeated: 0, redeployments: 1, ..SMALL };
    explore(World::new(regions, options(1, 0), &[Purpose::Savepoint], budget, Mutant::None), 200_000)
}

#[test]
fn every_order_of_checkpoints_and_another_graph_is_safe_while_a_region_goes_on() {
    let explored = [redeploying(1), redeploying(2)];
    explored.iter().for_each(|explored| assert!(explored.violation.is_none(), "{:?}", explored.violation));
    let sizes = explored.map(|explored| (explored.states, explored.transitions, explored.ends));
    assert_eq!(sizes, [(23_819, 37_361, 3_034), (50_035, 87_767, 5_905)]);
}

#[test]
fn the_enumeration_catches_a_checkpoint_that_outlives_one_of_its_regions() {
    assert!(restarting(2, Mutant::EndNotTold).violation.is_some(), "the mutant survived");
}
