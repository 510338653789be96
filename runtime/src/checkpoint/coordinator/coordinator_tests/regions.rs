//! Checkpoints of jobs of two regions, which run and end each on its own.

use super::*;

fn regions(numbers: impl IntoIterator<Item = u32>) -> BTreeSet<RegionId> {
    numbers.into_iter().map(RegionId).collect()
}

/// Two regions of a source and a sink each, and checkpoints every second.
fn two_regions() -> Driver {
    let mut driver = Driver { coordinator: Coordinator::new(every_second(), vec![], regions([0, 1])), out: vec![] };
    driver.start_region(0, 0, 0);
    assert_eq!(driver.tick(9_000), [], "nothing is triggered before all regions run");
    assert_eq!(driver.request(1, Purpose::Checkpoint, 9_000), [answer(1, Err(RequestError::NotRunning))]);
    driver.start_region(1, 1, 9_000);
    driver.out.clear();
    assert_eq!(driver.tick(10_000), [snapshot(1)]);
    driver
}

impl Driver {
    fn start_region(&mut self, index: u32, number: u32, now_ms: i64) {
        let first = u8::try_from(index * 2 + 1).unwrap();
        let region = region(index, number, vec![subtask(first), subtask(first + 1)]);
        self.coordinator.start_region(region, id(1), now_ms, &mut self.out).unwrap();
    }

    fn ack_of(&mut self, checkpoint: u64, number: u32, vertex: u8) -> AckReply {
        let ack = Ack {
            checkpoint: id(checkpoint),
            attempt: attempt(number),
            vertex: subtask(vertex).vertex,
            subtask: SubtaskIndex(0),
            state: SubtaskState::default(),
        };
        self.coordinator.ack(ack, AckMetrics::default(), 10_001, &mut self.out)
    }
}

#[test]
fn a_checkpoint_of_several_regions_takes_each_ones_acknowledgements_under_its_own_number() {
    let mut driver = two_regions();
    driver.enumerators(1, 10_000);
    let sent = driver.commands();
    let Some(Command::SendTriggers { attempts, .. }) = sent.first() else { panic!("{sent:?}") };
    assert_eq!(*attempts, BTreeSet::from([attempt(0), attempt(1)]));
    assert_eq!(driver.ack_of(1, 0, 3), AckReply::Unknown, "a subtask of the other region");
    assert_eq!(driver.ack_of(1, 7, 1), AckReply::Stale);
    for (number, vertex) in [(0, 1), (0, 2), (1, 3), (1, 4)] {
        assert_eq!(driver.ack_of(1, number, vertex), AckReply::Success);
    }
    assert!(matches!(driver.commands()[..], [Command::WriteRecord(_)]));
}

#[test]
fn the_end_of_any_region_aborts_what_is_pending_and_the_others_are_told() {
    let mut driver = two_regions();
    driver.enumerators(1, 10_000);
    driver.ack_of(1, 0, 1);
    driver.out.clear();
    driver.coordinator.region_ended(attempt(1), 10_100, &mut driver.out);
    let reason = AbortReason::AttemptEnded(attempt(1));
    let abort = Command::Abort { checkpoint: id(1), attempts: the_attempt(), reason };
    assert_eq!(driver.commands(), [abort, Command::Settled { newest: None }]);
    assert_eq!(driver.tick(20_000), [], "nothing is triggered while a region does not run");
    assert_eq!(driver.ack_of(1, 0, 2), AckReply::Discarded);
    driver.start_region(1, 2, 20_000);
    driver.out.clear();
    assert_eq!(driver.tick(21_000), [snapshot(2)]);
}

#[test]
fn a_record_under_way_survives_the_end_of_a_region_and_completes_for_the_others() {
    let mut driver = two_regions();
    driver.enumerators(1, 10_000);
    for (number, vertex) in [(0, 1), (0, 2), (1, 3), (1, 4)] {
        driver.ack_of(1, number, vertex);
    }
    driver.coordinator.region_ended(attempt(1), 10_100, &mut driver.out);
    driver.out.clear();
    let refused = driver.coordinator.start_region(region(1, 2, vec![]), id(1), 10_101, &mut driver.out);
    assert_eq!(refused, Err(StartError::Undecided(id(1))));
    driver.written(1, 10_102);
    assert_eq!(driver.commands(), [notify(1, Purpose::Checkpoint), Command::Settled { newest: Some(id(1)) }]);
    assert!(!driver.coordinator.is_closing());
}

#[test]
fn the_final_checkpoint_waits_for_the_end_of_every_region_and_closes_all_of_them() {
    let mut driver = two_regions();
    driver.enumerators(1, 10_000);
    for (number, vertex) in [(0, 1), (0, 2), (1, 3), (1, 4)] {
        driver.ack_of(1, number, vertex);
    }
    driver.written(1, 10_002);
    driver.out.clear();
    for (number, vertex) in [(0, 1), (0, 2), (1, 3)] {
        driver.coordinator.end_of_data(attempt(number), subtask(vertex), 10_003, &mut driver.out);
    }
    driver.coordinator.end_of_data(attempt(0), subtask(4), 10_003, &mut driver.out);
    assert_eq!(driver.commands(), [], "said under the number of another region");
    driver.coordinator.end_of_data(attempt(1), subtask(4), 10_004, &mut driver.out);
    assert_eq!(driver.commands(), [snapshot(2)]);
    driver.enumerators(2, 10_005);
    assert!(!driver.coordinator.is_closing());
    for (number, vertex) in [(0, 1), (0, 2), (1, 3), (1, 4)] {
        driver.ack_of(2, number, vertex);
    }
    assert!(driver.coordinator.is_closing(), "its record may exist");
}

#[test]
fn another_graph_aborts_what_is_pending_and_checkpoints_go_on_when_its_regions_run() {
    let mut driver = two_regions();
    driver.enumerators(1, 10_000);
    driver.request(7, Purpose::Savepoint, 10_001);
    driver.out.clear();
    driver.coordinator.has_regions(regions([0, 2]), 10_100, &mut driver.out);
    let attempts = BTreeSet::from([attempt(0), attempt(1)]);
    let abort = Command::Abort { checkpoint: id(1), attempts, reason: AbortReason::Redeployed };
    let refused = answer(7, Err(RequestError::NotRunning));
    assert_eq!(driver.commands(), [abort, refused, Command::Settled { newest: None }]);
    driver.coordinator.region_ended(attempt(1), 10_101, &mut driver.out);
    assert_eq!(driver.commands(), [Command::Settled { newest: None }]);
    assert_eq!(driver.tick(20_000), [], "the new one does not run yet");
    driver.start_region(2, 2, 20_000);
    driver.out.clear();
    assert_eq!(driver.tick(21_000), [snapshot(2)]);
    driver.enumerators(2, 21_000);
    let sent = driver.commands();
    let Some(Command::SendTriggers { attempts, .. }) = sent.first() else { panic!("{sent:?}") };
    assert_eq!(*attempts, BTreeSet::from([attempt(0), attempt(2)]));
    driver.coordinator.has_regions(regions([0, 2]), 21_001, &mut driver.out);
    assert_eq!(driver.commands(), [], "nothing has changed");
}

#[test]
fn sources_that_have_ended_their_input_for_a_stop_concern_all_regions() {
    let mut driver = two_regions();
    driver.enumerators(1, 10_000);
    for (number, vertex) in [(0, 1), (0, 2), (1, 3), (1, 4)] {
        driver.ack_of(1, number, vertex);
    }
    driver.written(1, 10_002);
    let stop = Request { id: RequestId(1), purpose: Purpose::StopWithSavepoint, drain: true };
    driver.coordinator.trigger_requested(stop, 10_003, &mut driver.out);
    assert!(!driver.coordinator.is_closing(), "no source was told");
    driver.enumerators(2, 10_004);
    assert!(driver.coordinator.is_closing(), "what has ended its input does not read on");
}
