//! What a key costs that was never seen, while state is not wholly in memory: a measurement.

use std::sync::Arc;

use millstream_runtime::ids::{
    AttemptId, AttemptNumber, CheckpointId, CutNumber, Epoch, JobId, OlderAttempts, OperatorUid, SubtaskIndex, VertexId,
};
use millstream_runtime::key::Key;
use millstream_runtime::key_group::KeyGroup;
use millstream_runtime::ports::state::{EntryAddress, StateNumber, StateReader};
use millstream_runtime::ports::store::BlobStore;
use millstream_runtime::state::cut::{Cut, OperatorCut, StateDeclaration};
use millstream_runtime::state::table::{KeyContext, StateTable};

use super::*;
use crate::blob::MemoryBlobs;
use crate::failpoint::Failpoints;
use crate::log::{Digest, LogPosition};
use crate::segment::{SegmentContext, SegmentReader, write_segment};
use crate::testing::thread_cpu;

const KEYS: u64 = 1_000_000;
const GROUPS: std::ops::Range<u16> = 0..128;
/// Keys of a batch.
const BATCH: u64 = 1_024;

/// Run it with `cargo test --release -p millstream-state -- --ignored --nocapture never_seen`.
#[test]
#[ignore = "a measurement, not a check"]
fn asking_for_keys_never_seen() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = Arc::new(NodeFolder::open(folder.path().join("node"), [1; 16]).expect("opens"));
    let job = JobId::from_name("job");
    let store = Arc::new(LocalStore::open(&node, job, LocalOptions::default()).expect("opens"));
    let attempt = AttemptId { epoch: Epoch(1), attempt: AttemptNumber(0) };
    let lease = store.lease(&OlderAttempts::before(attempt)).expect("leases");
    let blobs: Arc<dyn BlobStore> = Arc::new(MemoryBlobs::new());
    let at = |key: u64| KeyContext::new(key, GROUPS.end);
    let mut table = StateTable::<(), u64, u64>::new(GROUPS);
    // Even keys are there, odd ones are not.
    (0..KEYS).for_each(|key| *table.get_or_insert_with(&at(key * 2), &(), || 0) = key);
    table.freeze();
    let encode = |group| table.encode_group(StateNumber(0), KeyGroup(group)).expect("encodes");
    let keyed = GROUPS.filter_map(encode).collect();
    let declarations = vec![StateDeclaration { number: StateNumber(0), name: "count".to_owned(), version: 1 }];
    let uid = OperatorUid("op".to_owned());
    let operator = OperatorCut { uid: uid.clone(), declarations: declarations.clone(), keyed, operator_states: vec![] };
    let context =
        SegmentContext { job, vertex: VertexId::from_name("v"), subtask: SubtaskIndex(0), attempt, key_groups: GROUPS };
    let segment = write_segment(&Cut { number: CutNumber(1), watermark: 0, operators: vec![operator] }, &context);
    segment.store(blobs.as_ref(), &Failpoints::none()).expect("stores");
    let segments = [Arc::new(SegmentReader::open(&blobs, &segment.reference).expect("opens"))];
    let log = LogPosition { slot: 1, digest: Digest::of(b"1") };
    let to = Position { job, log, checkpoint: CheckpointId(1) };
    let operators = [uid.clone()];
    let request = FoldRequest { operators: &operators, groups: &GROUPS, segments: &segments, to: &to };
    assert_eq!(store.fold(&lease, None, &request).expect("folds"), FoldOutcome::Folded);
    let view = StateView::new(uid, &declarations, Some(store), Vec::new());
    for (what, odd) in [("there", 0), ("never seen", 1)] {
        let start = thread_cpu();
        let mut found = 0;
        for batch in 0..100u64 {
            let keys = (0..BATCH).map(|n| at((batch * BATCH + n) * 7_919 % KEYS * 2 + odd));
            let address = |at: KeyContext<u64>| {
                let mut key = Vec::new();
                at.key.encode_key(&mut key);
                EntryAddress { state: StateNumber(0), group: at.group, key }
            };
            let addresses: Vec<_> = keys.map(address).collect();
            found += view.fetch(&addresses).expect("reads").iter().flatten().count();
        }
        let keys = 100 * BATCH;
        assert_eq!(found as u64, if odd == 0 { keys } else { 0 });
        println!("{what}: {} ns of CPU a key", (thread_cpu() - start).as_nanos() / u128::from(keys));
    }
}
