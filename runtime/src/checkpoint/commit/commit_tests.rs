//! Behaviour of the commit machine, event by event.
#![allow(clippy::unwrap_used)]

use super::*;

type Machine = Commit<&'static str>;
type Commands = Vec<Command<&'static str>>;

fn commit(batch: u64, transactions: &[&'static str]) -> Command<&'static str> {
    Command::Commit { batch: BatchId(batch), transactions: transactions.to_vec() }
}

fn machine() -> (Machine, Commands) {
    (Commit::new(Options::default()), Vec::new())
}

fn listed(machine: &Machine) -> Vec<&'static str> {
    machine.pending().copied().collect()
}

#[test]
fn completion_commits_everything_up_to_it_oldest_first_and_one_batch_at_a_time() {
    let (mut machine, mut out) = machine();
    for (checkpoint, transactions) in [(1, vec!["a"]), (2, vec![]), (3, vec!["b", "c"]), (4, vec!["d"])] {
        machine.prepared(CheckpointId(checkpoint), transactions).unwrap();
    }
    machine.complete(CheckpointId(3), Purpose::Checkpoint, &mut out);
    machine.complete(CheckpointId(4), Purpose::Checkpoint, &mut out);
    assert_eq!(out, [commit(0, &["a", "b", "c"])]);
    assert_eq!(listed(&machine), ["a", "b", "c", "d"], "what is in flight stays listed");
    out.clear();
    assert!(machine.committed(BatchId(0), &mut out));
    assert_eq!(out, [commit(1, &["d"])]);
    assert!(!machine.committed(BatchId(0), &mut out), "a late answer changes nothing");
    assert!(machine.committed(BatchId(1), &mut out));
    assert!(machine.is_drained());
}

#[test]
fn late_and_repeated_completions_are_harmless() {
    let (mut machine, mut out) = machine();
    machine.prepared(CheckpointId(2), vec!["a"]).unwrap();
    machine.complete(CheckpointId(2), Purpose::Checkpoint, &mut out);
    machine.committed(BatchId(0), &mut out);
    machine.prepared(CheckpointId(3), vec!["b"]).unwrap();
    machine.complete(CheckpointId(2), Purpose::Checkpoint, &mut out);
    machine.complete(CheckpointId(1), Purpose::Checkpoint, &mut out);
    assert_eq!(out, [commit(0, &["a"])]);
}

#[test]
fn a_savepoint_commits_nothing_but_a_stop_does() {
    let (mut machine, mut out) = machine();
    machine.prepared(CheckpointId(1), vec!["a"]).unwrap();
    machine.complete(CheckpointId(1), Purpose::Savepoint, &mut out);
    assert_eq!(out, []);
    machine.prepared(CheckpointId(2), vec!["b"]).unwrap();
    machine.complete(CheckpointId(2), Purpose::StopWithSavepoint, &mut out);
    assert_eq!(out, [commit(0, &["a", "b"])]);
}

#[test]
fn restored_transactions_are_committed_at_once_and_listed_until_then() {
    let (mut machine, mut out) = machine();
    machine.restored(vec!["x", "y"], &mut out);
    assert_eq!(out, [commit(0, &["x", "y"])]);
    machine.prepared(CheckpointId(8), vec!["z"]).unwrap();
    assert_eq!(machine.pending_up_to(CheckpointId(8)).copied().collect::<Vec<_>>(), ["x", "y", "z"]);
    machine.committed(BatchId(0), &mut out);
    assert_eq!(listed(&machine), ["z"]);
}

#[test]
fn transactions_that_missed_their_manifest_are_refused() {
    let (mut machine, mut out) = machine();
    machine.prepared(CheckpointId(2), vec!["a"]).unwrap();
    let refused = |last| Err(OutOfOrder { prepared: CheckpointId(2), last: CheckpointId(last) });
    assert_eq!(machine.prepared(CheckpointId(2), vec!["b"]), refused(2));
    machine.complete(CheckpointId(3), Purpose::Checkpoint, &mut out);
    assert_eq!(machine.prepared(CheckpointId(2), vec!["b"]), refused(3));
}

#[test]
fn a_failed_batch_is_repeated_whole_with_growing_pauses_and_then_fails_the_subtask() {
    let mut machine = Machine::new(Options { max_retries: 2, retry_pause_ms: 10 });
    let mut out = Vec::new();
    machine.prepared(CheckpointId(1), vec!["a"]).unwrap();
    machine.complete(CheckpointId(1), Purpose::Checkpoint, &mut out);
    machine.prepared(CheckpointId(2), vec!["b"]).unwrap();
    for pause in [10, 20] {
        out.clear();
        assert!(machine.commit_failed(BatchId(0), ErrorKind::Retry, "busy", 1_000, &mut out));
        machine.complete(CheckpointId(2), Purpose::Checkpoint, &mut out);
        assert!(!machine.committed(BatchId(0), &mut out), "nothing is in flight during the pause");
        assert_eq!(out, [Command::RetryAt { batch: BatchId(0), at_ms: 1_000 + pause }]);
        out.clear();
        assert!(machine.retry_due(BatchId(0), &mut out));
        assert_eq!(out, [commit(0, &["a"])]);
    }
    out.clear();
    machine.commit_failed(BatchId(0), ErrorKind::Retry, "busy", 1_000, &mut out);
    let reason = "committing failed 3 times, last: busy".to_owned();
    assert_eq!(out, [Command::Fail { kind: ErrorKind::Retry, reason }]);
    assert_eq!(listed(&machine), ["a", "b"]);
}

#[test]
fn a_lost_transaction_fails_the_subtask_at_once() {
    let (mut machine, mut out) = machine();
    machine.restored(vec!["x"], &mut out);
    out.clear();
    machine.commit_failed(BatchId(0), ErrorKind::GiveUp, "x is gone", 0, &mut out);
    assert_eq!(out, [Command::Fail { kind: ErrorKind::GiveUp, reason: "x is gone".to_owned() }]);
    out.clear();
    machine.complete(CheckpointId(9), Purpose::Checkpoint, &mut out);
    assert_eq!(out, []);
}
