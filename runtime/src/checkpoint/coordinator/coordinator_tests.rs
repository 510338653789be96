//! Behaviour of the coordinator, event by event: a source and a sink subtask, checkpoints every second.
#![allow(clippy::unwrap_used)]

mod regions;

use super::*;
use crate::checkpoint::manifest::SegmentRef;
use crate::element::{CheckpointingMode, Overtaking, Purpose};
use crate::ids::{AttemptNumber, CutNumber, Epoch, RegionId, SubtaskIndex, VertexId};

/// The coordinator with its commands.
struct Driver {
    coordinator: Coordinator,
    out: Vec<Command>,
}

fn subtask(vertex: u8) -> SubtaskId {
    SubtaskId { vertex: VertexId([vertex; 16]), index: SubtaskIndex(0) }
}

fn attempt(number: u32) -> AttemptId {
    AttemptId { epoch: Epoch(1), attempt: AttemptNumber(number) }
}

fn id(checkpoint: u64) -> CheckpointId {
    CheckpointId(checkpoint)
}

fn segment(path: &str, size_bytes: u64) -> SegmentRef {
    let cuts = (CutNumber(1), CutNumber(1));
    SegmentRef { path: path.to_owned(), size_bytes, digest: [0; 32], cuts, attempt: attempt(0), key_groups: 0..128 }
}

fn region(region: u32, number: u32, subtasks: Vec<SubtaskId>) -> RegionDeployment {
    RegionDeployment { region: RegionId(region), attempt: attempt(number), subtasks }
}

/// The only deployment of a test, as commands name it.
fn the_attempt() -> BTreeSet<AttemptId> {
    BTreeSet::from([attempt(0)])
}

fn every_second() -> Options {
    Options { interval_ms: Some(1_000), ..Options::default() }
}

impl Driver {
    fn start(options: Options) -> Self {
        let mut driver =
            Self { coordinator: Coordinator::new(options, vec![], BTreeSet::from([RegionId(0)])), out: vec![] };
        driver.restart(0, 0);
        driver.out.clear();
        driver
    }

    fn restart(&mut self, number: u32, now_ms: i64) {
        let region = region(0, number, vec![subtask(1), subtask(2)]);
        self.coordinator.start_region(region, id(1), now_ms, &mut self.out).unwrap();
    }

    /// The commands since the last call, without wake-ups.
    fn commands(&mut self) -> Vec<Command> {
        self.out.drain(..).filter(|command| !matches!(command, Command::WakeAt(_))).collect()
    }

    fn tick(&mut self, now_ms: i64) -> Vec<Command> {
        self.coordinator.tick(now_ms, &mut self.out);
        self.commands()
    }

    fn request(&mut self, number: u64, purpose: Purpose, now_ms: i64) -> Vec<Command> {
        let request = Request { id: RequestId(number), purpose, drain: false };
        self.coordinator.trigger_requested(request, now_ms, &mut self.out);
        self.commands()
    }

    fn ack_with(&mut self, checkpoint: u64, vertex: u8, segments: Vec<SegmentRef>, now_ms: i64) -> AckReply {
        let ack = Ack {
            checkpoint: id(checkpoint),
            attempt: attempt(0),
            vertex: subtask(vertex).vertex,
            subtask: SubtaskIndex(0),
            state: SubtaskState { segments, finished: false },
        };
        self.coordinator.ack(ack, AckMetrics::default(), now_ms, &mut self.out)
    }

    fn ack(&mut self, checkpoint: u64, vertex: u8, now_ms: i64) -> AckReply {
        self.ack_with(checkpoint, vertex, vec![], now_ms)
    }

    fn enumerators(&mut self, checkpoint: u64, now_ms: i64) -> Reply {
        self.coordinator.enumerators_snapshotted(id(checkpoint), vec![], now_ms, &mut self.out)
    }

    fn all_ack(&mut self, checkpoint: u64, now_ms: i64) {
        assert_eq!(self.enumerators(checkpoint, now_ms), Reply::Accepted);
        assert_eq!(self.ack(checkpoint, 1, now_ms), AckReply::Success);
        assert_eq!(self.ack(checkpoint, 2, now_ms), AckReply::Success);
    }

    fn written(&mut self, checkpoint: u64, now_ms: i64) -> Reply {
        self.coordinator.record_written(id(checkpoint), now_ms, &mut self.out)
    }

    fn complete(&mut self, checkpoint: u64, now_ms: i64) -> Vec<Command> {
        self.all_ack(checkpoint, now_ms);
        self.out.clear();
        assert_eq!(self.written(checkpoint, now_ms), Reply::Accepted);
        self.commands()
    }

    fn decline(&mut self, checkpoint: u64, now_ms: i64) -> Vec<Command> {
        let reason = "disk full".to_owned();
        self.coordinator.declined(id(checkpoint), attempt(0), subtask(2), reason, now_ms, &mut self.out);
        self.commands()
    }
}

fn snapshot(checkpoint: u64) -> Command {
    Command::SnapshotEnumerators { checkpoint: id(checkpoint) }
}

fn notify(checkpoint: u64, purpose: Purpose) -> Command {
    Command::NotifyComplete { checkpoint: id(checkpoint), attempts: the_attempt(), purpose }
}

fn answer(request: u64, result: Result<u64, RequestError>) -> Command {
    Command::Answer { request: RequestId(request), result: result.map(CheckpointId) }
}

fn started(commands: &[Command]) -> Vec<u64> {
    let starts = commands.iter().filter_map(|command| match command {
        Command::SnapshotEnumerators { checkpoint } => Some(checkpoint.0),
        _ => None,
    });
    starts.collect()
}

#[test]
fn a_checkpoint_goes_from_enumerators_to_triggers_to_record_to_completion() {
    let mut driver = Driver::start(every_second());
    assert_eq!(driver.tick(999), []);
    assert_eq!(driver.tick(1_000), [snapshot(1)]);
    assert_eq!(driver.ack(1, 1, 1_000), AckReply::Unknown, "no trigger is out yet");
    let enumerators = vec![(subtask(1).vertex, crate::ids::OperatorUid("source".to_owned()), vec![7])];
    driver.coordinator.enumerators_snapshotted(id(1), enumerators.clone(), 1_001, &mut driver.out);
    let mode = CheckpointingMode::ExactlyOnce;
    let barrier = Barrier {
        checkpoint: id(1),
        attempt: attempt(0),
        purpose: Purpose::Checkpoint,
        mode,
        overtaking: Overtaking::Never,
        triggered_ms: 1_000,
    };
    assert_eq!(driver.commands(), [Command::SendTriggers { barrier, attempts: the_attempt(), drain: false }]);
    assert_eq!(driver.ack(1, 2, 1_002), AckReply::Success);
    assert_eq!(driver.commands(), []);
    assert_eq!(driver.ack(1, 1, 1_003), AckReply::Success);
    let record = Record {
        checkpoint: id(1),
        attempt: attempt(0),
        purpose: Purpose::Checkpoint,
        request: None,
        triggered_ms: 1_000,
        subtasks: vec![(subtask(1), SubtaskState::default()), (subtask(2), SubtaskState::default())],
        enumerators,
        retained: vec![Retained { checkpoint: id(1), purpose: Purpose::Checkpoint }],
    };
    assert_eq!(driver.commands(), [Command::WriteRecord(Box::new(record))]);
    assert_eq!(driver.coordinator.retained(), []);
    driver.written(1, 1_004);
    assert_eq!(driver.commands(), [notify(1, Purpose::Checkpoint)]);
    assert_eq!(driver.written(1, 1_005), Reply::Stale);
}

#[test]
fn acknowledgements_are_answered_by_what_they_are() {
    let mut driver = Driver::start(every_second());
    driver.tick(1_000);
    driver.enumerators(1, 1_000);
    assert_eq!(driver.ack(1, 1, 1_001), AckReply::Success);
    assert_eq!(driver.ack(1, 1, 1_001), AckReply::Duplicate);
    assert_eq!(driver.ack(1, 9, 1_001), AckReply::Unknown, "no such subtask");
    assert_eq!(driver.ack(2, 1, 1_001), AckReply::Unknown, "no such checkpoint");
    driver.ack(1, 2, 1_001);
    assert_eq!(driver.ack(1, 2, 1_001), AckReply::Duplicate, "while its record is written");
    driver.written(1, 1_002);
    assert_eq!(driver.ack(1, 2, 1_003), AckReply::Duplicate, "after its completion");
    driver.tick(2_000);
    driver.enumerators(2, 2_000);
    driver.decline(2, 2_001);
    assert_eq!(driver.ack(2, 1, 2_002), AckReply::Discarded);
    driver.coordinator.region_ended(attempt(0), 2_003, &mut driver.out);
    assert_eq!(driver.ack(1, 1, 2_004), AckReply::Stale);
    driver.restart(1, 2_005);
    assert_eq!(driver.ack(1, 1, 2_006), AckReply::Stale);
}

#[test]
fn wake_ups_are_wished_for_when_time_alone_brings_something() {
    let mut driver = Driver::start(every_second());
    driver.coordinator.tick(1_000, &mut driver.out);
    // A checkpoint is pending and no other may start: only its timeout matters.
    assert_eq!(driver.out, [snapshot(1), Command::WakeAt(601_000)]);
    driver.all_ack(1, 1_400);
    driver.out.clear();
    driver.written(1, 1_500);
    assert_eq!(driver.out, [notify(1, Purpose::Checkpoint), Command::WakeAt(2_000)]);
}

#[test]
fn a_minimal_pause_is_kept_and_savepoints_do_not_count_for_it() {
    let mut driver = Driver::start(Options { min_pause_ms: 800, max_concurrent: 5, ..every_second() });
    driver.tick(1_000);
    driver.complete(1, 1_900);
    assert_eq!(driver.tick(2_699), []);
    assert_eq!(driver.request(1, Purpose::Savepoint, 2_699), [snapshot(2)], "requests do not wait for the pause");
    assert_eq!(started(&driver.tick(2_700)), [0; 0], "a pause leaves room for one");
    let commands = driver.complete(2, 2_750);
    assert_eq!(started(&commands), [3], "the pause counts from checkpoint 1");
}

#[test]
fn pending_checkpoints_are_bounded_and_a_later_completion_subsumes_earlier_ones() {
    let mut driver = Driver::start(Options { max_concurrent: 2, ..every_second() });
    assert_eq!(started(&driver.tick(1_000)), [1]);
    assert_eq!(started(&driver.tick(2_000)), [2]);
    assert_eq!(started(&driver.tick(3_000)), [0; 0]);
    driver.enumerators(1, 3_000);
    let commands = driver.complete(2, 3_001);
    let abort = Command::Abort { checkpoint: id(1), attempts: the_attempt(), reason: AbortReason::Subsumed(id(2)) };
    assert_eq!(commands, [notify(2, Purpose::Checkpoint), abort, snapshot(3)]);
    assert_eq!(driver.ack(1, 1, 3_002), AckReply::Discarded);
    assert_eq!(driver.coordinator.statistics().counts().failed, 1);
}

#[test]
fn a_savepoint_is_not_subsumed_and_completes_after_a_later_checkpoint() {
    let mut driver = Driver::start(Options { max_concurrent: 2, ..every_second() });
    assert_eq!(started(&driver.request(7, Purpose::Savepoint, 500)), [1]);
    assert_eq!(started(&driver.tick(1_000)), [2]);
    driver.complete(2, 1_100);
    let commands = driver.complete(1, 1_200);
    assert_eq!(commands, [notify(1, Purpose::Savepoint), answer(7, Ok(1))]);
    let retained = [Retained { checkpoint: id(2), purpose: Purpose::Checkpoint }];
    assert_eq!(driver.coordinator.retained(), retained, "savepoints are the user's");
}

#[test]
fn only_what_the_new_record_no_longer_names_is_dropped() {
    let mut driver = Driver::start(every_second());
    for checkpoint in 1..=2 {
        driver.tick(checkpoint * 1_000);
        assert_eq!(driver.complete(checkpoint as u64, checkpoint * 1_000).len(), 1);
    }
    driver.tick(3_000);
    assert_eq!(driver.complete(3, 3_000), [notify(3, Purpose::Checkpoint), Command::Drop { checkpoints: vec![id(1)] }]);
    driver.coordinator.damaged(id(3));
    assert_eq!(driver.coordinator.retained().last().map(|kept| kept.checkpoint), Some(id(2)));
    driver.tick(4_000);
    let commands = driver.complete(4, 4_000);
    assert_eq!(commands[1], Command::Drop { checkpoints: vec![id(3)] }, "the damaged one goes before sound ones");
}

#[test]
fn a_timeout_aborts_and_one_failure_more_than_tolerable_fails_the_job() {
    let mut driver = Driver::start(Options { tolerable_failed: Some(1), timeout_ms: 500, ..every_second() });
    driver.tick(1_000);
    assert_eq!(driver.tick(1_499), []);
    let expired = |n| Command::Abort { checkpoint: id(n), attempts: the_attempt(), reason: AbortReason::Expired };
    assert_eq!(driver.tick(1_500), [expired(1)]);
    driver.tick(2_000);
    driver.complete(2, 2_100);
    driver.tick(3_000);
    assert_eq!(driver.decline(3, 3_001).len(), 1, "a completion has set the count back");
    driver.tick(4_000);
    let commands = driver.tick(4_500);
    assert_eq!(commands[0], expired(4));
    assert!(matches!(&commands[1], Command::FailJob { reason } if reason.contains("2 in a row")), "{commands:?}");
    assert_eq!(driver.tick(9_000), [], "nothing starts while the job fails");
}

#[test]
fn unlimited_tolerance_and_failed_savepoints_never_fail_the_job() {
    let mut driver = Driver::start(Options { tolerable_failed: None, ..every_second() });
    for checkpoint in 1..20 {
        assert_eq!(started(&driver.tick(checkpoint * 1_000)), [checkpoint as u64]);
        assert_eq!(driver.decline(checkpoint as u64, checkpoint * 1_000).len(), 1);
    }
    let mut driver = Driver::start(Options::default());
    driver.request(1, Purpose::Savepoint, 0);
    let reason = AbortReason::Declined { subtask: subtask(2), reason: "disk full".to_owned() };
    let abort = Command::Abort { checkpoint: id(1), attempts: the_attempt(), reason: reason.clone() };
    let failed = answer(1, Err(RequestError::Failed { checkpoint: id(1), reason }));
    assert_eq!(driver.decline(1, 1), [abort, failed]);
}

#[test]
fn an_undecided_record_is_neither_complete_nor_aborted_and_everything_waits_for_it() {
    let mut driver = Driver::start(Options { max_concurrent: 3, ..every_second() });
    driver.tick(1_000);
    driver.all_ack(1, 1_001);
    driver.commands();
    driver.coordinator.record_undecided(id(1), 1_100, &mut driver.out);
    assert_eq!(driver.commands(), []);
    assert_eq!(driver.tick(1_199), []);
    assert_eq!(driver.tick(1_200), [Command::RetryRecord { checkpoint: id(1) }]);
    driver.coordinator.record_undecided(id(1), 2_000, &mut driver.out);
    assert_eq!(driver.out, [Command::WakeAt(2_200)], "pauses grow, and the interval does not count now");
    assert_eq!(driver.tick(1_000_000), [Command::RetryRecord { checkpoint: id(1) }, snapshot(2)], "no timeout either");
    driver.written(1, 1_000_001);
    assert_eq!(driver.commands(), [notify(1, Purpose::Checkpoint)]);
}

#[test]
fn a_record_in_doubt_outlives_its_deployment_and_decides_what_is_restored() {
    for written in [true, false] {
        let mut driver = Driver::start(every_second());
        driver.tick(1_000);
        driver.all_ack(1, 1_001);
        driver.commands();
        driver.coordinator.region_ended(attempt(0), 1_002, &mut driver.out);
        assert_eq!(driver.commands(), []);
        let refused = driver.coordinator.start_region(region(0, 1, vec![]), id(1), 1_003, &mut driver.out);
        assert_eq!(refused, Err(StartError::Undecided(id(1))));
        if written {
            driver.written(1, 1_004);
            assert_eq!(driver.commands(), [Command::Settled { newest: Some(id(1)) }], "nobody is left to be told");
        } else {
            driver.coordinator.record_failed(id(1), "disk full".to_owned(), 1_004, &mut driver.out);
            assert_eq!(driver.commands().last(), Some(&Command::Settled { newest: None }));
        }
        driver.restart(1, 1_005);
        assert_eq!(started(&driver.tick(2_005)), [2], "numbers are never used again");
    }
}

#[test]
fn the_end_of_a_deployment_aborts_what_is_pending_and_answers_what_waits() {
    let mut driver = Driver::start(Options::default());
    driver.request(1, Purpose::Checkpoint, 0);
    driver.request(2, Purpose::Savepoint, 0);
    driver.coordinator.region_ended(attempt(0), 1, &mut driver.out);
    let reason = AbortReason::AttemptEnded(attempt(0));
    let expected = [
        Command::Abort { checkpoint: id(1), attempts: BTreeSet::new(), reason: reason.clone() },
        answer(1, Err(RequestError::Failed { checkpoint: id(1), reason })),
        answer(2, Err(RequestError::NotRunning)),
        Command::Settled { newest: None },
    ];
    assert_eq!(driver.commands(), expected);
    assert_eq!(driver.request(3, Purpose::Savepoint, 2), [answer(3, Err(RequestError::NotRunning))]);
    assert_eq!(driver.enumerators(1, 3), Reply::Stale);
}

#[test]
fn requests_wait_in_a_bounded_queue() {
    let mut driver = Driver::start(Options { max_queued_requests: 1, ..Options::default() });
    assert_eq!(driver.request(1, Purpose::Savepoint, 0), [snapshot(1)]);
    assert_eq!(driver.request(2, Purpose::Savepoint, 0), []);
    assert_eq!(driver.request(3, Purpose::Savepoint, 0), [answer(3, Err(RequestError::QueueFull(1)))]);
    assert_eq!(driver.complete(1, 1), [notify(1, Purpose::Savepoint), answer(1, Ok(1)), snapshot(2)]);
}

#[test]
fn a_stop_runs_alone_and_nothing_follows_it() {
    let mut driver = Driver::start(Options { max_concurrent: 2, ..every_second() });
    driver.tick(1_000);
    assert_eq!(driver.request(1, Purpose::StopWithSavepoint, 1_001), [], "it waits for what is pending");
    assert_eq!(driver.tick(2_000), [], "and nothing starts before it");
    assert_eq!(driver.request(2, Purpose::Savepoint, 2_000), [answer(2, Err(RequestError::Stopping))]);
    assert_eq!(driver.complete(1, 2_001), [notify(1, Purpose::Checkpoint), snapshot(2)]);
    assert_eq!(driver.tick(5_000), []);
    assert_eq!(driver.complete(2, 5_001), [notify(2, Purpose::StopWithSavepoint), answer(1, Ok(2))]);
    assert_eq!(driver.tick(9_000), []);
    for vertex in [1, 2] {
        driver.coordinator.end_of_data(attempt(0), subtask(vertex), 9_001, &mut driver.out);
    }
    assert_eq!(driver.commands(), [], "no final checkpoint behind a stop");
    let newest = driver.coordinator.retained().last().copied();
    assert_eq!(newest, Some(Retained { checkpoint: id(2), purpose: Purpose::StopWithSavepoint }));
}

#[test]
fn a_failed_stop_lets_the_job_go_on_unless_its_input_was_ended() {
    for drain in [false, true] {
        let mut driver = Driver::start(every_second());
        let request = Request { id: RequestId(1), purpose: Purpose::StopWithSavepoint, drain };
        driver.coordinator.trigger_requested(request, 0, &mut driver.out);
        driver.enumerators(1, 1);
        let sent = driver.commands();
        assert!(matches!(sent[1], Command::SendTriggers { drain: told, .. } if told == drain));
        let commands = driver.decline(1, 2);
        assert_eq!(commands.iter().any(|command| matches!(command, Command::FailJob { .. })), drain);
        assert_eq!(started(&driver.tick(1_000)).is_empty(), drain);
    }
}

#[test]
fn the_final_checkpoint_is_made_once_all_inputs_have_ended_and_retried_if_it_fails() {
    let mut driver = Driver::start(Options { tolerable_failed: Some(1), ..Options::default() });
    driver.coordinator.end_of_data(attempt(0), subtask(1), 10, &mut driver.out);
    assert_eq!(driver.commands(), []);
    driver.coordinator.end_of_data(attempt(0), subtask(2), 11, &mut driver.out);
    assert_eq!(driver.commands(), [snapshot(1)], "also in a job without an interval");
    assert_eq!(driver.decline(1, 20).len(), 1);
    assert_eq!(driver.tick(1_019), []);
    assert_eq!(driver.tick(1_020), [snapshot(2)]);
    assert_eq!(driver.complete(2, 1_030), [notify(2, Purpose::Final)]);
    assert_eq!(driver.tick(99_000), []);
    assert_eq!(driver.request(1, Purpose::Savepoint, 99_000), [answer(1, Err(RequestError::Stopping))]);
}

#[test]
fn a_final_checkpoint_that_fails_too_often_fails_the_job() {
    let mut driver = Driver::start(every_second());
    for vertex in [1, 2] {
        driver.coordinator.end_of_data(attempt(0), subtask(vertex), 10, &mut driver.out);
    }
    assert!(matches!(driver.decline(1, 20)[..], [.., Command::FailJob { .. }]));
}

#[test]
fn a_deposed_leader_answers_everybody_and_decides_nothing_more() {
    let mut driver = Driver::start(every_second());
    driver.request(1, Purpose::Savepoint, 0);
    driver.request(2, Purpose::Savepoint, 0);
    driver.all_ack(1, 1);
    driver.commands();
    driver.coordinator.deposed(&mut driver.out);
    let expected = [answer(1, Err(RequestError::Deposed)), answer(2, Err(RequestError::Deposed)), Command::StepDown];
    assert_eq!(driver.commands(), expected);
    assert_eq!(driver.written(1, 2), Reply::Stale);
    assert_eq!(driver.tick(100_000), []);
    assert_eq!(driver.request(3, Purpose::Savepoint, 3), [answer(3, Err(RequestError::Deposed))]);
}

#[test]
fn statistics_show_sizes_durations_and_the_latest_of_each_kind() {
    let mut driver = Driver::start(Options { tolerable_failed: None, history_size: 2, ..every_second() });
    driver.tick(1_000);
    driver.enumerators(1, 1_000);
    driver.ack_with(1, 1, vec![segment("a", 100)], 1_010);
    driver.ack_with(1, 2, vec![segment("b", 10)], 1_030);
    driver.written(1, 1_050);
    driver.tick(2_000);
    driver.enumerators(2, 2_000);
    driver.ack_with(2, 1, vec![segment("a", 100), segment("c", 5)], 2_010);
    let pending = driver.coordinator.statistics().checkpoint(id(2)).unwrap();
    assert_eq!((pending.status, pending.num_acknowledged_subtasks), (CheckpointStatus::InProgress, 1));
    driver.ack_with(2, 2, vec![segment("b", 10)], 2_020);
    driver.written(2, 2_040);
    driver.tick(3_000);
    driver.decline(3, 3_005);
    let statistics = driver.coordinator.statistics();
    let expected = Counts { restored: 0, total: 3, in_progress: 0, completed: 2, failed: 1 };
    assert_eq!(statistics.counts(), expected);
    assert_eq!(statistics.history().map(|entry| entry.id.0).collect::<Vec<_>>(), [3, 2]);
    let completed = statistics.latest_completed().unwrap();
    assert_eq!((completed.state_size_bytes, completed.checkpointed_size_bytes), (115, 5), "incremental");
    assert_eq!((completed.latest_ack_timestamp_ms, completed.end_to_end_duration_ms), (Some(2_020), 40));
    let second = completed.vertices[1].subtasks[0].as_ref().unwrap();
    assert_eq!((second.ack_timestamp_ms, second.end_to_end_duration_ms), (2_020, 20));
    let failed = statistics.latest_failed().unwrap();
    assert_eq!(failed.failure_timestamp_ms, Some(3_005));
    assert!(failed.failure_message.as_ref().unwrap().contains("disk full"));
    let duration = statistics.summary().end_to_end_duration_ms;
    assert_eq!((duration.min, duration.max, duration.avg, duration.p50, duration.p99), (40, 50, 45, 40, 50));
}

#[test]
fn only_plain_checkpoints_one_at_a_time_may_overtake() {
    let mut options = Options { aligned_timeout_ms: Some(250), ..Options::default() };
    let later = Overtaking::After { timeout_ms: 250 };
    assert_eq!(options.overtaking(Purpose::Checkpoint), later);
    for purpose in [Purpose::Savepoint, Purpose::StopWithSavepoint, Purpose::Final] {
        assert_eq!(options.overtaking(purpose), Overtaking::Never);
    }
    options.aligned_timeout_ms = Some(0);
    assert_eq!(options.overtaking(Purpose::Checkpoint), Overtaking::Now);
    let several = Options { max_concurrent: 2, ..options.clone() };
    let passing = Options { mode: CheckpointingMode::AtLeastOnce, ..options.clone() };
    let never = Options { aligned_timeout_ms: None, ..options };
    for options in [several, passing, never] {
        assert_eq!(options.overtaking(Purpose::Checkpoint), Overtaking::Never);
    }
}

#[test]
fn a_checkpoint_that_is_waited_for_comes_early_but_not_before_the_pause() {
    let mut driver = Driver::start(Options { min_pause_ms: 300, ..every_second() });
    for (now_ms, comes) in [(100, &[1][..]), (150, &[])] {
        driver.coordinator.hastened(subtask(2), attempt(0), now_ms, &mut driver.out);
        assert_eq!(started(&driver.commands()), comes, "one at a time");
    }
    driver.complete(1, 200);
    assert_eq!((started(&driver.tick(499)), started(&driver.tick(500))), (vec![], vec![2]), "right behind the pause");
}
