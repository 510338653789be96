//! Records in a store whose answers get lost: every retry goes on where it was, and nothing is written twice.

use millstream_runtime::ids::{AttemptId, AttemptNumber, Epoch};
use millstream_state::blob::{Fault, MemoryBlobs, Operation, Stores};
use millstream_state::log::{LogState, WriterNonce, recover};

use super::*;

const CHECKPOINT: CheckpointId = CheckpointId(7);

fn job() -> JobId {
    JobId::from_name("job")
}

fn attempt() -> AttemptId {
    AttemptId { epoch: Epoch(1), attempt: AttemptNumber(0) }
}

fn ledger(blobs: &MemoryBlobs) -> Ledger {
    let store: Arc<dyn BlobStore> = Arc::new(blobs.clone());
    let mut log = JobLog::open(Arc::clone(&store), job(), Epoch(1), WriterNonce([1; 16]), Failpoints::none())
        .expect("an empty log opens");
    assert!(matches!(log.seal(), Ok(AppendOutcome::Written(_))));
    Ledger { job: job(), log, blobs: store, stores: Stores::default(), failpoints: Failpoints::none() }
}

fn work(purpose: Purpose, target: Option<String>) -> RecordWork {
    let record = Record {
        checkpoint: CHECKPOINT,
        attempt: attempt(),
        purpose,
        request: None,
        triggered_ms: 1,
        subtasks: Vec::new(),
        enumerators: Vec::new(),
        retained: Vec::new(),
    };
    let manifest = Manifest {
        job: job(),
        job_name: "job".to_owned(),
        checkpoint: CHECKPOINT,
        attempt: attempt(),
        purpose,
        triggered_ms: 1,
        key_format: KEY_FORMAT_VERSION,
        graph_fingerprint: [0; 16],
        vertices: Vec::new(),
        properties: Vec::new(),
    };
    RecordWork::new(Box::new(record), manifest, target)
}

/// Loses the answer of the `n`-th append, and the answer to the question what became of it.
fn lose_append(blobs: &MemoryBlobs, n: u64, fault: Fault) {
    blobs.fail_after(Operation::PutIfAbsent, n, fault);
    // Every append before it asks nothing back.
    blobs.fail_after(Operation::Get, 1, Fault::Refused);
}

fn log(blobs: &MemoryBlobs) -> LogState {
    recover(blobs, job()).expect("the log can be read")
}

#[test]
fn a_stop_goes_on_at_the_record_whose_outcome_was_not_known() {
    for lost_append in [1, 2] {
        for fault in [Fault::DoneButError, Fault::Refused] {
            let folder = tempfile::tempdir().expect("a folder");
            let target = folder.path().join("savepoint").display().to_string();
            let blobs = MemoryBlobs::new();
            let mut ledger = ledger(&blobs);
            let mut work = work(Purpose::StopWithSavepoint, Some(target.clone()));
            lose_append(&blobs, lost_append, fault);
            let first = ledger.write(&mut work);
            assert!(matches!(first, Outcome::Undecided(_)), "append {lost_append}, {fault:?}");
            let Outcome::Written { location, position } = ledger.write(&mut work) else {
                panic!("append {lost_append}, {fault:?}: the second try did not settle it")
            };
            assert_eq!(location, target);
            let state = log(&blobs);
            assert_eq!(state.position, position, "the savepoint is the last record");
            assert_eq!(position.map(|at| at.slot), Some(2), "seal, checkpoint, savepoint: each once");
            assert_eq!(state.retained.len(), 1);
            assert_eq!(state.savepoint.map(|made| (made.path, made.stop)), Some((target, true)));
        }
    }
}

#[test]
fn an_undecided_savepoint_is_not_refused_for_its_own_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let target = folder.path().join("savepoint").display().to_string();
    let blobs = MemoryBlobs::new();
    let mut ledger = ledger(&blobs);
    let mut work = work(Purpose::Savepoint, Some(target.clone()));
    lose_append(&blobs, 1, Fault::DoneButError);
    assert!(matches!(ledger.write(&mut work), Outcome::Undecided(_)));
    assert!(matches!(ledger.write(&mut work), Outcome::Written { .. }));
    let state = log(&blobs);
    assert!(state.retained.is_empty(), "a savepoint alone completes no checkpoint");
    assert_eq!(state.savepoint.map(|made| made.path), Some(target));
}

#[test]
fn a_checkpoint_in_doubt_is_never_called_failed_because_its_manifest_cannot_be_written_again() {
    let blobs = MemoryBlobs::new();
    let mut ledger = ledger(&blobs);
    let mut work = work(Purpose::Checkpoint, None);
    lose_append(&blobs, 1, Fault::DoneButError);
    assert!(matches!(ledger.write(&mut work), Outcome::Undecided(_)));
    blobs.fail_after(Operation::Put, 1, Fault::Refused);
    assert!(matches!(ledger.write(&mut work), Outcome::Written { .. }));
    assert_eq!(log(&blobs).retained.len(), 1);
}

#[test]
fn nothing_is_deleted_before_a_checkpoint_is_told_complete() {
    let blobs = MemoryBlobs::new();
    let mut ledger = ledger(&blobs);
    let mut work = work(Purpose::Checkpoint, None);
    lose_append(&blobs, 1, Fault::DoneButError);
    assert!(matches!(ledger.write(&mut work), Outcome::Undecided(_)));
    assert!(work.made_unreachable().is_none(), "its record may not be there");
    assert!(matches!(ledger.write(&mut work), Outcome::Written { .. }));
    assert_eq!(blobs.calls(Operation::Delete), 0);
    assert!(work.made_unreachable().is_some() && work.made_unreachable().is_none(), "told once");
}
