//! What it costs that a window drops its contents key by key: a measurement behind the decision against tombstones of ranges.

use std::sync::Arc;

use millstream_runtime::ids::{
    AttemptId, AttemptNumber, CheckpointId, CutNumber, Epoch, JobId, OlderAttempts, OperatorUid, SubtaskIndex, VertexId,
};
use millstream_runtime::key_group::KeyGroup;
use millstream_runtime::ports::state::StateNumber;
use millstream_runtime::ports::store::BlobStore;
use millstream_runtime::state::cut::{Cut, KeyedSection, OperatorCut, StateDeclaration};
use millstream_runtime::state::keyed::StateBacking;
use millstream_runtime::state::table::{KeyContext, StateTable};
use millstream_runtime::state::timers::Timers;

use super::*;
use crate::blob::MemoryBlobs;
use crate::failpoint::Failpoints;
use crate::log::{Digest, LogPosition};
use crate::segment::{SegmentContext, SegmentReader, write_segment};
use crate::testing::thread_cpu;

const KEYS: u64 = 1_000_000;
const GROUPS: std::ops::Range<u16> = 0..128;
const END: i64 = 60_000;

/// CPU time since the last call, shown.
struct Laps(std::time::Duration);

impl Laps {
    fn tell(&mut self, what: &str) {
        let now = thread_cpu();
        println!("{what}: {:?}", now - self.0);
        self.0 = now;
    }
}

fn stored(blobs: &Arc<dyn BlobStore>, number: u64, keyed: Vec<KeyedSection>) -> Arc<SegmentReader> {
    let sizes: [usize; 2] = [0, 1].map(|state| {
        let sections = keyed.iter().filter(|section| section.state == StateNumber(state));
        sections.map(|section| section.entries.as_bytes().len()).sum()
    });
    println!("cut {number}: {} bytes of the window, {} of timers", sizes[0], sizes[1]);
    let declare =
        |number, name: &str| StateDeclaration { number: StateNumber(number), name: name.to_owned(), version: 1 };
    let declarations = vec![declare(0, "windows"), declare(1, "timers")];
    let operator = OperatorCut { uid: OperatorUid("op".to_owned()), declarations, keyed, operator_states: vec![] };
    let attempt = AttemptId { epoch: Epoch(1), attempt: AttemptNumber(0) };
    let (job, vertex) = (JobId::from_name("job"), VertexId::from_name("v"));
    let context = SegmentContext { job, vertex, subtask: SubtaskIndex(0), attempt, key_groups: GROUPS };
    let segment = write_segment(&Cut { number: CutNumber(number), watermark: 0, operators: vec![operator] }, &context);
    segment.store(blobs.as_ref(), &Failpoints::none()).expect("stores");
    Arc::new(SegmentReader::open(blobs, &segment.reference).expect("opens"))
}

/// Run it with `cargo test --release -p millstream-state -- --ignored --nocapture dropping`.
#[test]
#[ignore = "a measurement, not a check"]
fn dropping_a_window_of_a_million_keys() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = Arc::new(NodeFolder::open(folder.path().join("node"), [1; 16]).expect("opens"));
    let store = LocalStore::open(&node, JobId::from_name("job"), LocalOptions::default()).expect("opens");
    let attempt = AttemptId { epoch: Epoch(1), attempt: AttemptNumber(0) };
    let lease = store.lease(&OlderAttempts::before(attempt)).expect("leases");
    let blobs: Arc<dyn BlobStore> = Arc::new(MemoryBlobs::new());
    let keys: Vec<KeyContext<u64>> = (0..KEYS).map(|key| KeyContext::new(key, GROUPS.end)).collect();
    let mut windows = StateTable::<i64, u64, (u64, u64)>::new(GROUPS);
    let mut timers = Timers::new("timers", GROUPS.end, GROUPS);
    let mut laps = Laps(thread_cpu());
    for key in &keys {
        *windows.get_or_insert_with(key, &END, || (0, 0)) = (1, key.key * 100);
        timers.register(key, END - 1);
    }
    laps.tell("records come");
    let (mut position, mut segments) = (None, Vec::new());
    for number in 1..3u64 {
        if number == 2 {
            while let Some((_, key)) = timers.pop_due(END) {
                assert!(windows.remove(&key, &END).is_some());
            }
            laps.tell("timers fire, the window is dropped");
        }
        windows.freeze();
        timers.entries().freeze();
        let mut sections = Vec::new();
        for group in GROUPS.map(KeyGroup) {
            sections.extend(windows.encode_group(StateNumber(0), group).expect("encodes"));
            sections.extend(timers.entries().encode_group(StateNumber(1), group).expect("encodes"));
        }
        laps.tell("encoded");
        segments.push(stored(&blobs, number, sections));
        laps.tell("sorted and written");
        let log = LogPosition { slot: number, digest: Digest::of(&number.to_be_bytes()) };
        let to = Position { job: JobId::from_name("job"), log, checkpoint: CheckpointId(number) };
        let newest = &segments[segments.len() - 1..];
        let operators = [OperatorUid("op".to_owned())];
        let request = FoldRequest { operators: &operators, groups: &GROUPS, segments: newest, to: &to };
        assert_eq!(store.fold(&lease, position.as_ref(), &request).expect("folds"), FoldOutcome::Folded);
        laps.tell("folded");
        position = Some(to);
    }
}
