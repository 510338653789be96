//! Savepoints hold everything, can be moved, and say what is wrong with them.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use millstream_runtime::checkpoint::manifest::{Manifest, SegmentRef, SubtaskState, VertexState};
use millstream_runtime::element::Purpose;
use millstream_runtime::ids::{
    AttemptId, AttemptNumber, CheckpointId, CutNumber, Epoch, JobId, OperatorUid, SubtaskIndex, VertexId,
};
use millstream_runtime::key_group::{KeyGroup, key_group_range};
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::state::StateNumber;
use millstream_runtime::ports::store::BlobStore;
use millstream_runtime::state::cut::{
    Cut, Entries, KeyedSection, OperatorCut, OperatorState, Redistribution, StateDeclaration,
};

use super::*;
use crate::blob::{LocalBlobs, Stores};
use crate::failpoint::Failpoints;
use crate::log::write_manifest;
use crate::segment::{Found, SegmentContext, SegmentReader, write_segment};

const ATTEMPT: AttemptId = AttemptId { epoch: Epoch(2), attempt: AttemptNumber(1) };

fn job() -> JobId {
    JobId::from_name("job")
}

fn uid() -> OperatorUid {
    OperatorUid("totals".to_string())
}

/// Cut 1 sets keys 0..10 in every group of the subtask, cut 2 deletes key 3 and changes key 4.
fn cut(number: u64, groups: std::ops::Range<u16>) -> Cut {
    let keyed = groups.map(|group| {
        let mut entries = Entries::default();
        if number == 1 {
            (0..10u8).for_each(|key| entries.push(&[key], Some(b"first")));
        } else {
            entries.push(&[4], Some(b"second"));
            entries.push(&[3], None);
        }
        KeyedSection { state: StateNumber(0), group: KeyGroup(group), entries }
    });
    let items = vec![format!("position after cut {number}").into_bytes()];
    let operator = OperatorCut {
        uid: uid(),
        declarations: vec![StateDeclaration { number: StateNumber(0), name: "total".to_string(), version: 1 }],
        keyed: keyed.collect(),
        operator_states: vec![OperatorState {
            name: "splits".to_string(),
            version: 1,
            redistribution: Redistribution::Split,
            items,
        }],
    };
    Cut { number: CutNumber(number), watermark: 1_000 * number as i64, operators: vec![operator] }
}

fn store_chain(blobs: &Arc<dyn BlobStore>, subtask: u32) -> Vec<SegmentRef> {
    let key_groups = key_group_range(8, 2, SubtaskIndex(subtask));
    let context = SegmentContext {
        job: job(),
        vertex: VertexId::from_name("v"),
        subtask: SubtaskIndex(subtask),
        attempt: ATTEMPT,
        key_groups: key_groups.clone(),
    };
    let store = |number| {
        let segment = write_segment(&cut(number, key_groups.clone()), &context);
        segment.store(blobs.as_ref(), &Failpoints::none()).expect("stores");
        segment.reference
    };
    vec![store(1), store(2)]
}

fn checkpoint(blobs: &Arc<dyn BlobStore>) -> Manifest {
    let subtask = |index| SubtaskState { segments: store_chain(blobs, index), finished: false };
    Manifest {
        job: job(),
        job_name: "spending alerts".to_string(),
        checkpoint: CheckpointId(7),
        attempt: ATTEMPT,
        purpose: Purpose::Savepoint,
        triggered_ms: 1_234,
        key_format: 1,
        graph_fingerprint: [3; 16],
        vertices: vec![VertexState {
            vertex: VertexId::from_name("v"),
            name: "totals".to_string(),
            operators: vec![uid()],
            parallelism: 2,
            max_parallelism: 8,
            subtasks: vec![subtask(0), subtask(1)],
            enumerator: Some((uid(), b"files".to_vec())),
        }],
        properties: vec![("parallelism.default".to_string(), "2".to_string())],
    }
}

fn store(folder: &Path) -> Arc<dyn BlobStore> {
    Arc::new(LocalBlobs::open(folder).expect("opens"))
}

fn write_savepoint_at(target: &Path, manifest: &Manifest, source: &Arc<dyn BlobStore>) -> Result<Manifest, PortError> {
    write_savepoint(&Stores::default(), &target.into(), manifest, source)
}

fn read_savepoint_at(path: &Path) -> Result<Savepoint, PortError> {
    read_savepoint(&Stores::default(), &path.into())
}

fn inspect_at(path: &Path) -> Result<SavepointSummary, PortError> {
    inspect(&Stores::default(), &path.into())
}

fn check_content(blobs: &Arc<dyn BlobStore>, manifest: &Manifest) {
    for (index, subtask) in manifest.vertices[0].subtasks.iter().enumerate() {
        let [segment] = &subtask.segments[..] else { panic!("one segment per subtask: {subtask:?}") };
        let reader = SegmentReader::open(blobs, segment).expect("opens");
        assert_eq!(reader.watermark(), 2_000);
        assert_eq!(reader.operator_states(&uid()).expect("reads")[0].items, [b"position after cut 2".to_vec()]);
        for group in key_group_range(8, 2, SubtaskIndex(index as u32)) {
            let get = |key| reader.get(&uid(), "total", KeyGroup(group), &[key]).expect("reads");
            assert_eq!(get(2), Found::Value(b"first".to_vec()));
            assert_eq!(get(3), Found::Nothing, "a savepoint needs no tombstones");
            assert_eq!(get(4), Found::Value(b"second".to_vec()));
        }
    }
}

#[test]
fn a_savepoint_is_whole_without_the_store_and_where_it_was_moved_to() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let source = folder.path().join("store");
    let manifest = checkpoint(&store(&source));
    write_savepoint_at(&folder.path().join("savepoint"), &manifest, &store(&source)).expect("writes");
    fs::remove_dir_all(&source).expect("removes");
    let moved = folder.path().join("elsewhere/moved");
    fs::create_dir_all(folder.path().join("elsewhere")).expect("makes");
    fs::rename(folder.path().join("savepoint"), &moved).expect("moves");
    for path in [moved.clone(), moved.join(METADATA)] {
        let savepoint = read_savepoint_at(&path).expect("reads");
        savepoint.verify().expect("whole");
        check_content(&savepoint.blobs, &savepoint.manifest);
        let mut same = savepoint.manifest.clone();
        same.vertices[0].subtasks.clone_from(&manifest.vertices[0].subtasks);
        assert_eq!(same, manifest, "all but the segments is as it was");
    }
}

#[test]
fn a_savepoint_is_never_written_over_another() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let source = store(&folder.path().join("store"));
    let manifest = checkpoint(&source);
    let target = folder.path().join("savepoint");
    write_savepoint_at(&target, &manifest, &source).expect("writes");
    let error = write_savepoint_at(&target, &manifest, &source).expect_err("taken");
    assert!(error.message.contains("already"), "{error}");
}

#[test]
fn state_is_taken_over_into_another_job() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let source = store(&folder.path().join("store"));
    let target = folder.path().join("savepoint");
    write_savepoint_at(&target, &checkpoint(&source), &source).expect("writes");
    let other = store(&folder.path().join("other"));
    let savepoint = read_savepoint_at(&target).expect("reads");
    let manifest = savepoint.import(other.as_ref(), JobId::from_name("other"), ATTEMPT).expect("copies");
    fs::remove_dir_all(&target).expect("removes");
    check_content(&other, &manifest);
    let path = &manifest.vertices[0].subtasks[0].segments[0].path;
    assert_eq!(crate::names::attempt_of(path), Some(ATTEMPT), "cleaned up like any segment of the attempt");
}

#[test]
fn a_summary_counts_what_is_there() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let source = store(&folder.path().join("store"));
    let manifest = checkpoint(&source);
    let target = folder.path().join("savepoint");
    write_savepoint_at(&target, &manifest, &source).expect("writes");
    let summary = inspect_at(&target).expect("reads");
    assert_eq!((summary.job_name.as_str(), summary.checkpoint, summary.purpose), ("spending alerts", 7, "savepoint"));
    let vertex = &summary.vertices[0];
    assert_eq!((vertex.parallelism, vertex.max_parallelism, vertex.watermark), (2, 8, Some(2_000)));
    let operator = &vertex.operators[0];
    assert_eq!(operator.uid, "totals");
    let keyed = StateSummary { name: "total".to_string(), kind: "keyed", version: 1, entries: 72, bytes: 8 * 55 };
    let split = StateSummary { name: "splits".to_string(), kind: "split", version: 1, entries: 2, bytes: 40 };
    assert_eq!(operator.states, [keyed, split]);

    // A retained checkpoint, where a chain is still a chain, says the same.
    let reference = write_manifest(source.as_ref(), &manifest, &Failpoints::none()).expect("writes");
    let of_checkpoint = inspect_at(&folder.path().join("store").join(&reference.path)).expect("reads");
    assert_eq!(of_checkpoint.vertices[0].operators, vertex.operators);
    let copy = folder.path().join("copy.manifest");
    fs::copy(folder.path().join("store").join(&reference.path), &copy).expect("copies");
    assert!(read_savepoint_at(&copy).err().expect("out of place").message.contains("inside its store"));
}

#[test]
fn damage_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let source = store(&folder.path().join("store"));
    let target = folder.path().join("savepoint");
    let manifest = write_savepoint_at(&target, &checkpoint(&source), &source).expect("writes");
    assert!(
        read_savepoint_at(&folder.path().join("nothing")).err().expect("missing").message.contains("cannot be read")
    );

    let segment = target.join(&manifest.vertices[0].subtasks[1].segments[0].path);
    let intact = fs::read(&segment).expect("reads");
    let mut damaged = intact.clone();
    damaged[30] ^= 1;
    fs::write(&segment, damaged).expect("writes");
    let savepoint = read_savepoint_at(&target).expect("its manifest is intact");
    let error = savepoint.verify().expect_err("damaged");
    assert!(error.message.contains("/1.seg"), "{error}");
    assert!(inspect_at(&target).is_err());
    assert!(savepoint.import(source.as_ref(), job(), ATTEMPT).expect_err("damaged").message.contains("/1.seg"));
    fs::remove_file(&segment).expect("removes");
    assert!(savepoint.verify().expect_err("missing").message.contains("does not exist"));

    let metadata = target.join(METADATA);
    let bytes = fs::read(&metadata).expect("reads");
    fs::write(&metadata, &bytes[..bytes.len() - 1]).expect("writes");
    let error = read_savepoint_at(&target).err().expect("torn");
    assert!(error.message.contains(METADATA) && error.message.contains("damaged"), "{error}");
    fs::write(&metadata, b"Flink's metadata").expect("writes");
    assert!(read_savepoint_at(&target).err().expect("foreign").message.contains("not a manifest"));
}
