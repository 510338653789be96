//! The job's log under undecided puts and rival leaders; falling back; no file left behind.

use std::collections::BTreeSet;
use std::sync::Arc;

use millstream_runtime::checkpoint::manifest::{Manifest, SegmentRef, SubtaskState, VertexState};
use millstream_runtime::element::Purpose;
use millstream_runtime::ids::{
    AttemptId, AttemptNumber, CheckpointId, CutNumber, Epoch, JobId, OlderAttempts, OperatorUid, SubtaskIndex, VertexId,
};
use millstream_runtime::ports::store::BlobStore;
use millstream_runtime::state::cut::{Cut, Entries, KeyedSection, OperatorCut, StateDeclaration};

use super::job_log::recover_from_first_slot;
use super::*;
use crate::blob::{Fault, MemoryBlobs, Operation};
use crate::failpoint::Failpoints;
use crate::names;
use crate::segment::{Chain, Compaction, SegmentContext, SegmentReader, compact, write_segment};

fn job() -> JobId {
    JobId::from_name("job")
}

fn attempt(epoch: u64, attempt: u32) -> AttemptId {
    AttemptId { epoch: Epoch(epoch), attempt: AttemptNumber(attempt) }
}

fn open(blobs: &MemoryBlobs, epoch: u64) -> JobLog {
    let nonce = WriterNonce([epoch as u8; 16]);
    JobLog::open(Arc::new(blobs.clone()), job(), Epoch(epoch), nonce, Failpoints::none()).expect("opens")
}

fn restored(n: u32) -> RecordKind {
    RecordKind::Restored { attempt: attempt(1, n), checkpoint: None, savepoint: None }
}

fn written(outcome: AppendOutcome) -> LogPosition {
    match outcome {
        AppendOutcome::Written(position) => position,
        other => panic!("not written: {other:?}"),
    }
}

#[test]
fn a_log_is_recovered_as_it_was_written_with_and_without_the_hint() {
    let blobs = MemoryBlobs::new();
    let mut log = open(&blobs, 1);
    written(log.seal().expect("seals"));
    for n in 0..100 {
        written(log.append(restored(n)).expect("appends"));
    }
    assert_eq!(log.state().position.expect("not empty").slot, 100);
    let before = blobs.calls(Operation::Get);
    assert_eq!(&recover(&blobs, job()).expect("recovers"), log.state());
    assert!(blobs.calls(Operation::Get) - before < 40, "the hint shortens reading");
    assert_eq!(&recover_from_first_slot(&blobs, job()).expect("recovers"), log.state());
    blobs.damage(&names::hint(&names::job_log(job())), |hint| hint[40] ^= 1);
    assert_eq!(&recover(&blobs, job()).expect("a damaged hint is ignored"), log.state());
    let position = log.state().position.expect("not empty");
    assert!(is_ancestor(&blobs, job(), &position).expect("answers"));
    assert!(!is_ancestor(&blobs, job(), &LogPosition { slot: 99, ..position }).expect("answers"));
}

#[test]
fn an_undecided_put_is_resolved_by_reading_the_slot() {
    for fault in [Fault::DoneButError, Fault::Refused, Fault::FalselyExists] {
        let blobs = MemoryBlobs::new();
        let mut log = open(&blobs, 1);
        written(log.seal().expect("seals"));
        blobs.fail_after(Operation::PutIfAbsent, 1, fault);
        written(log.append(restored(0)).expect("appends"));
        assert_eq!(&recover(&blobs, job()).expect("recovers"), log.state(), "{fault:?}");
        assert_eq!(log.state().position.expect("not empty").slot, 1, "{fault:?}: written once");
    }
}

#[test]
fn an_unreadable_slot_is_undecided_until_the_same_record_is_appended_again() {
    for put in [Fault::DoneButError, Fault::Refused] {
        let blobs = MemoryBlobs::new();
        let mut log = open(&blobs, 1);
        written(log.seal().expect("seals"));
        blobs.fail_after(Operation::PutIfAbsent, 1, put);
        blobs.fail_after(Operation::Get, 1, Fault::Refused);
        let outcome = log.append(restored(0)).expect("answers");
        assert!(matches!(outcome, AppendOutcome::Undecided { .. }), "{outcome:?}");
        assert!(log.append(restored(1)).is_err(), "no other record may follow");
        assert_eq!(written(log.append(restored(0)).expect("appends")).slot, 1);
        assert_eq!(written(log.append(restored(1)).expect("appends")).slot, 2);
        assert_eq!(&recover(&blobs, job()).expect("recovers"), log.state());
    }
}

#[test]
fn an_undecided_record_is_settled_before_another_one_follows() {
    let blobs = MemoryBlobs::new();
    let mut log = open(&blobs, 1);
    written(log.seal().expect("seals"));
    assert_eq!(log.settle().expect("answers"), None);
    for n in 0..2 {
        blobs.fail_after(Operation::PutIfAbsent, 1, Fault::Refused);
        blobs.fail_after(Operation::Get, 1, Fault::Refused);
        let outcome = if n == 0 { log.append(restored(0)).map(Some) } else { log.settle() };
        assert!(matches!(outcome.expect("answers"), Some(AppendOutcome::Undecided { .. })));
    }
    assert!(log.append(restored(1)).is_err(), "another record may not follow yet");
    assert!(matches!(log.settle().expect("answers"), Some(AppendOutcome::Written(_))));
    assert_eq!(written(log.append(restored(1)).expect("appends")).slot, 2);
    assert_eq!(&recover(&blobs, job()).expect("recovers"), log.state());
}

#[test]
fn a_store_that_stays_undecided_is_reported_as_that() {
    let blobs = MemoryBlobs::new();
    let mut log = open(&blobs, 1);
    (1..=4).for_each(|n| blobs.fail_after(Operation::PutIfAbsent, n, Fault::FalselyExists));
    assert!(matches!(log.seal().expect("answers"), AppendOutcome::Undecided { .. }));
    assert_eq!(written(log.seal().expect("seals")).slot, 0);
}

#[test]
fn a_sealed_log_refuses_the_leader_before() {
    let blobs = MemoryBlobs::new();
    let mut old = open(&blobs, 1);
    written(old.seal().expect("seals"));
    let mut new = open(&blobs, 2);
    // The old leader is quicker with one more record: it counts.
    written(old.append(restored(0)).expect("appends"));
    assert_eq!(written(new.seal().expect("seals")).slot, 2);
    assert_eq!(new.state().attempt, Some(attempt(1, 0)));
    assert_eq!(old.append(restored(1)).expect("answers"), AppendOutcome::Deposed { by: Epoch(2) });
    assert_eq!(old.append(restored(1)).expect("answers"), AppendOutcome::Deposed { by: Epoch(2) });
    // Whoever comes later with an older or the same term is deposed before it writes.
    assert_eq!(open(&blobs, 1).append(restored(2)).expect("answers"), AppendOutcome::Deposed { by: Epoch(2) });
    assert_eq!(open(&blobs, 1).seal().expect("answers"), AppendOutcome::Deposed { by: Epoch(2) });
    let rival = JobLog::open(Arc::new(blobs.clone()), job(), Epoch(2), WriterNonce([9; 16]), Failpoints::none());
    assert_eq!(rival.expect("opens").seal().expect("answers"), AppendOutcome::Deposed { by: Epoch(2) });
    written(new.append(restored(3)).expect("appends"));
}

#[test]
fn a_damaged_or_replaced_slot_is_an_error_that_names_it() {
    let blobs = MemoryBlobs::new();
    let mut log = open(&blobs, 1);
    for n in 0..3 {
        written(log.append(restored(n)).expect("appends"));
    }
    let path = names::log_slot(job(), 1);
    let length = blobs.get(&path).expect("get").expect("there").len();
    for bit in 0..length * 8 {
        blobs.damage(&path, |slot| slot[bit / 8] ^= 1 << (bit % 8));
        assert!(recover(&blobs, job()).expect_err("damaged").message.contains(&path), "bit {bit}");
        blobs.damage(&path, |slot| slot[bit / 8] ^= 1 << (bit % 8));
    }
    let other = blobs.get(&names::log_slot(job(), 2)).expect("get").expect("there");
    blobs.damage(&path, |slot| *slot = other);
    assert!(recover(&blobs, job()).expect_err("replaced").message.contains("does not continue"));
}

fn segment_context(attempt: AttemptId) -> SegmentContext {
    SegmentContext { job: job(), vertex: VertexId::from_name("v"), subtask: SubtaskIndex(0), attempt, key_groups: 0..4 }
}

fn store_segment(blobs: &Arc<dyn BlobStore>, attempt: AttemptId, cut: u64) -> SegmentRef {
    let mut entries = Entries::default();
    entries.push(&(cut % 7).to_be_bytes(), (!cut.is_multiple_of(3)).then_some(&cut.to_be_bytes()[..]));
    let state = millstream_runtime::ports::state::StateNumber(0);
    let group = millstream_runtime::key_group::KeyGroup((cut % 4) as u16);
    let operator = OperatorCut {
        uid: OperatorUid("op".to_string()),
        declarations: vec![StateDeclaration { number: state, name: "s".to_string(), version: 1 }],
        keyed: vec![KeyedSection { state, group, entries }],
        operator_states: vec![],
    };
    let cut = Cut { number: CutNumber(cut), watermark: 0, operators: vec![operator] };
    let segment = write_segment(&cut, &segment_context(attempt));
    segment.store(blobs.as_ref(), &Failpoints::none()).expect("stores");
    segment.reference
}

fn manifest(attempt: AttemptId, checkpoint: u64, segments: Vec<SegmentRef>) -> Manifest {
    Manifest {
        job: job(),
        job_name: "job".to_string(),
        checkpoint: CheckpointId(checkpoint),
        attempt,
        purpose: Purpose::Checkpoint,
        triggered_ms: 0,
        key_format: 1,
        graph_fingerprint: [0; 16],
        vertices: vec![VertexState {
            vertex: VertexId::from_name("v"),
            name: "v".to_string(),
            operators: vec![OperatorUid("op".to_string())],
            parallelism: 1,
            max_parallelism: 4,
            subtasks: vec![SubtaskState { segments, finished: false }],
            enumerator: None,
        }],
        properties: vec![],
    }
}

/// Completes a checkpoint as a job master does: manifest, record, then deletion.
fn complete(
    blobs: &Arc<dyn BlobStore>,
    log: &mut JobLog,
    retention: &mut Retention,
    manifest: &Manifest,
    pending: &BTreeSet<String>,
) {
    let reference = write_manifest(blobs.as_ref(), manifest, &Failpoints::none()).expect("writes");
    retention.add(&reference, manifest);
    let mut retained = log.state().retained.clone();
    retained.push(RetainedCheckpoint { checkpoint: manifest.checkpoint, manifest: reference });
    let retained = retained.split_off(retained.len().saturating_sub(2));
    let kind = RecordKind::CheckpointCompleted { checkpoint: manifest.checkpoint, retained: retained.clone() };
    written(log.append(kind).expect("appends"));
    let (_, error) = retention.collect(blobs.as_ref(), &retained, pending);
    assert!(error.is_none());
}

fn files(blobs: &MemoryBlobs) -> BTreeSet<String> {
    let folders = [names::segment_folder(job()), names::manifest_folder(job())];
    folders.iter().flat_map(|folder| blobs.list(folder).expect("lists")).collect()
}

#[test]
fn a_thousand_checkpoints_leave_no_orphan() {
    let memory = MemoryBlobs::new();
    let blobs: Arc<dyn BlobStore> = Arc::new(memory.clone());
    let mut log = open(&memory, 1);
    written(log.seal().expect("seals"));
    let mut retention = Retention::new(job());
    let mut chain: Vec<SegmentRef> = Vec::new();
    for checkpoint in 1..=1000u64 {
        chain.push(store_segment(&blobs, attempt(1, 0), checkpoint));
        if checkpoint % 10 == 5 {
            // Aborted: its cut is part of the next checkpoint, its manifest is never written.
            retention.add_pending([chain.last().expect("just pushed").path.clone()]);
            continue;
        }
        if checkpoint % 7 == 0 {
            let readers: Vec<_> =
                chain.iter().map(|s| Arc::new(SegmentReader::open(&blobs, s).expect("opens"))).collect();
            let context = segment_context(attempt(1, 0));
            let compaction = Compaction { context, base_included: true, target_bytes: 0 };
            // All that is compacted away was known before.
            retention.add_pending(chain.iter().map(|segment| segment.path.clone()));
            chain = compact(Chain(&readers), &compaction, &mut |segment| {
                segment.store(blobs.as_ref(), &Failpoints::none())
            })
            .expect("compacts");
        }
        let ahead = store_segment(&blobs, attempt(1, 0), 10_000 + checkpoint);
        let pending = BTreeSet::from([ahead.path.clone()]);
        complete(&blobs, &mut log, &mut retention, &manifest(attempt(1, 0), checkpoint, chain.clone()), &pending);
        assert!(files(&memory).contains(&ahead.path), "a pending cut is kept");
    }
    let retained = log.state().retained.clone();
    assert_eq!(retained.len(), 2);
    retention.collect(blobs.as_ref(), &retained, &BTreeSet::new());
    assert_eq!(files(&memory), retention.reachable());
    for retained in &retained {
        let manifest = read_manifest(blobs.as_ref(), &retained.manifest).expect("reads");
        restore::segments(&manifest).for_each(|segment| crate::segment::verify(&blobs, segment).expect("whole"));
    }
}

#[test]
fn a_file_that_could_not_be_deleted_is_deleted_with_the_next_record() {
    let memory = MemoryBlobs::new();
    let blobs: Arc<dyn BlobStore> = Arc::new(memory.clone());
    let mut retention = Retention::new(job());
    let path = store_segment(&blobs, attempt(1, 0), 1).path;
    retention.add_pending([path.clone(), "elsewhere/other.seg".to_string()]);
    memory.fail_after(Operation::Delete, 1, Fault::Refused);
    assert!(retention.collect(blobs.as_ref(), &[], &BTreeSet::new()).1.is_some());
    assert_eq!(retention.collect(blobs.as_ref(), &[], &BTreeSet::new()).0, 1);
    assert!(files(&memory).is_empty());
}

#[test]
fn a_store_that_deletes_nothing_is_asked_once_and_one_stubborn_file_does_not_keep_the_others() {
    let memory = MemoryBlobs::new();
    let blobs: Arc<dyn BlobStore> = Arc::new(memory.clone());
    let mut retention = Retention::new(job());
    let paths: Vec<String> = (1..=5).map(|cut| store_segment(&blobs, attempt(1, 0), cut).path).collect();
    retention.add_pending(paths.clone());
    memory.fail_after(Operation::Delete, 1, Fault::Refused);
    assert_eq!(retention.collect(blobs.as_ref(), &[], &BTreeSet::new()).0, 0);
    assert_eq!(memory.calls(Operation::Delete), 1);
    // The same file again: the fifth call of those that follow.
    memory.fail_after(Operation::Delete, 5, Fault::Refused);
    let (deleted, error) = retention.collect(blobs.as_ref(), &[], &BTreeSet::new());
    assert!(error.expect("it was refused").message.contains(&paths[0]));
    assert_eq!((deleted, files(&memory)), (4, BTreeSet::from([paths[0].clone()])));
    assert_eq!(retention.collect(blobs.as_ref(), &[], &BTreeSet::new()).0, 1);
}

#[test]
fn strays_of_older_attempts_go_and_all_else_stays() {
    let memory = MemoryBlobs::new();
    let blobs: Arc<dyn BlobStore> = Arc::new(memory.clone());
    let kept = store_segment(&blobs, attempt(1, 0), 1).path;
    let stray = store_segment(&blobs, attempt(1, 0), 2).path;
    let current = store_segment(&blobs, attempt(1, 1), 1).path;
    let stray_manifest = write_manifest(blobs.as_ref(), &manifest(attempt(1, 0), 3, vec![]), &Failpoints::none());
    let foreign = format!("{}/notes.txt", names::segment_folder(job()));
    blobs.put(&foreign, &[b"mine"]).expect("puts");
    let keep = BTreeSet::from([kept.clone()]);
    let deleted = remove_strays(blobs.as_ref(), job(), &OlderAttempts::before(attempt(1, 1)), &keep).expect("cleans");
    assert_eq!(deleted, [stray, stray_manifest.expect("writes").path]);
    assert_eq!(files(&memory), BTreeSet::from([kept, current, foreign]));
}

#[test]
fn a_damaged_checkpoint_is_passed_over_and_named() {
    let memory = MemoryBlobs::new();
    let blobs: Arc<dyn BlobStore> = Arc::new(memory.clone());
    let mut log = open(&memory, 1);
    let mut retention = Retention::new(job());
    let mut chain = Vec::new();
    for checkpoint in 1..=2 {
        chain.push(store_segment(&blobs, attempt(1, 0), checkpoint));
        let manifest = manifest(attempt(1, 0), checkpoint, chain.clone());
        complete(&blobs, &mut log, &mut retention, &manifest, &BTreeSet::new());
    }
    let state = log.state().clone();
    let found = |state: &LogState| newest_usable(&blobs, state, Look::Whole).expect("answers");
    let number = |restorable: &Restorable| restorable.checkpoint.as_ref().map(|(retained, _)| retained.checkpoint.0);
    assert_eq!((number(&found(&state)), found(&state).problems.len()), (Some(2), 0));

    memory.fail_after(Operation::Get, 2, Fault::Refused);
    assert!(
        newest_usable(&blobs, &state, Look::Whole).is_err(),
        "a store that cannot answer is no reason to fall back"
    );

    let newest = chain[1].path.clone();
    memory.damage(&newest, |blob| blob[20] ^= 1);
    let restorable = found(&state);
    assert_eq!(number(&restorable), Some(1));
    assert!(restorable.problems[0].contains("checkpoint 2") && restorable.problems[0].contains(&newest));
    let to = Some(CheckpointId(1));
    let kind = RecordKind::FellBack { to, reasons: restorable.problems, consented: true };
    written(log.append(kind).expect("appends"));
    assert_eq!(log.state().retained.len(), 1);
    assert_eq!(log.state().last_checkpoint, CheckpointId(2), "numbers are never used again");

    blobs.delete(&chain[0].path).expect("deletes");
    let restorable = found(&state);
    assert_eq!((number(&restorable), restorable.problems.len()), (None, 2));
    memory.damage(&state.retained[1].manifest.path, |blob| blob.truncate(9));
    assert!(found(&state).problems[0].contains("manifest"));
}
