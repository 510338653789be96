//! The local store against a plain map: random cuts, folds, compactions and reopenings; leases, full maps, damage.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_runtime::checkpoint::manifest::SegmentRef;
use millstream_runtime::ids::{
    AttemptId, AttemptNumber, CheckpointId, CutNumber, Epoch, JobId, OlderAttempts, OperatorUid, SubtaskIndex, VertexId,
};
use millstream_runtime::key_group::KeyGroup;
use millstream_runtime::ports::ErrorKind;
use millstream_runtime::ports::state::{EntryAddress, StateNumber, StateReader};
use millstream_runtime::ports::store::BlobStore;
use millstream_runtime::state::cut::{Cut, Entries, KeyedSection, OperatorCut, StateDeclaration};
use proptest::prelude::*;
use tempfile::TempDir;

use super::block::Section;
use super::*;
use crate::blob::MemoryBlobs;
use crate::failpoint::Failpoints;
use crate::log::{Digest, LogPosition};
use crate::segment::{Chain, Compaction, SegmentContext, SegmentReader, compact, write_segment};

const GROUPS: std::ops::Range<u16> = 0..4;
const STATES: [&str; 2] = ["count", "sum"];

fn uid() -> OperatorUid {
    OperatorUid("op".to_string())
}

fn attempt(number: u32) -> AttemptId {
    AttemptId { epoch: Epoch(1), attempt: AttemptNumber(number) }
}

fn position(checkpoint: u64) -> Position {
    let log = LogPosition { slot: checkpoint, digest: Digest::of(&checkpoint.to_be_bytes()) };
    Position { job: JobId::from_name("job"), log, checkpoint: CheckpointId(checkpoint) }
}

fn declarations(swapped: bool) -> Vec<StateDeclaration> {
    let number = |index: u16| StateNumber(if swapped { 1 - index } else { index });
    let declare = |index: u16| StateDeclaration {
        number: number(index),
        name: STATES[usize::from(index)].to_string(),
        version: 1,
    };
    vec![declare(0), declare(1)]
}

fn context() -> SegmentContext {
    SegmentContext {
        job: JobId::from_name("job"),
        vertex: VertexId::from_name("v"),
        subtask: SubtaskIndex(0),
        attempt: attempt(0),
        key_groups: GROUPS,
    }
}

/// (state index, group, key) -> value
type Model = BTreeMap<(u16, u16, Vec<u8>), Vec<u8>>;
type Change = (u16, u16, Vec<u8>, Option<Vec<u8>>);

/// Writes a cut with these changes; every other one numbers its states the other way round.
fn store_cut(blobs: &Arc<dyn BlobStore>, number: u64, changes: &[Change]) -> Arc<SegmentReader> {
    let swapped = number % 2 == 1;
    let mut sections: BTreeMap<(u16, u16), BTreeMap<_, _>> = BTreeMap::new();
    for (state, group, key, value) in changes {
        let state = if swapped { 1 - state } else { *state };
        sections.entry((state, *group)).or_default().insert(key.as_slice(), value.as_deref());
    }
    let keyed = sections.into_iter().map(|((state, group), pairs)| {
        let mut entries = Entries::default();
        pairs.into_iter().for_each(|(key, value)| entries.push(key, value));
        KeyedSection { state: StateNumber(state), group: KeyGroup(group), entries }
    });
    let operator = OperatorCut {
        uid: uid(),
        declarations: declarations(swapped),
        keyed: keyed.collect(),
        operator_states: vec![],
    };
    let cut = Cut { number: CutNumber(number), watermark: 0, operators: vec![operator] };
    let segment = write_segment(&cut, &context());
    segment.store(blobs.as_ref(), &Failpoints::none()).expect("stores");
    Arc::new(SegmentReader::open(blobs, &segment.reference).expect("opens"))
}

fn apply(model: &mut Model, changes: &[Change]) {
    for (state, group, key, value) in changes {
        match value {
            Some(value) => model.insert((*state, *group, key.clone()), value.clone()),
            None => model.remove(&(*state, *group, key.clone())),
        };
    }
}

/// All entries whose keys begin so.
fn scanned_from(view: &StateView, begin: &[u8]) -> Model {
    let sections = (0..2).flat_map(|state| GROUPS.map(move |group| (StateNumber(state), KeyGroup(group))));
    let prefixes: Vec<_> = sections.map(|(state, group)| EntryAddress { state, group, key: begin.to_vec() }).collect();
    let mut content = Model::new();
    let mut last: Option<EntryAddress> = None;
    view.scan(&prefixes, &mut |prefix, key, value| {
        let address = EntryAddress { key: key.to_vec(), ..prefix.clone() };
        assert!(last.as_ref() < Some(&address), "in the order of the prefixes, then of the keys, each once");
        last = Some(address);
        content.insert((prefix.state.0, prefix.group.0, key.to_vec()), value.to_vec());
        Ok(())
    })
    .expect("scans");
    content
}

fn scanned(view: &StateView) -> Model {
    scanned_from(view, b"")
}

fn beginning_with(model: &Model, begin: &[u8]) -> Model {
    model.clone().into_iter().filter(|((_, _, key), _)| key.starts_with(begin)).collect()
}

/// As long as parts of keys that LMDB holds whole, orders by, and cuts.
fn beginnings() -> [Vec<u8>; 6] {
    let ks = |length| vec![b'k'; length];
    [ks(1), ks(3), ks(475), ks(490), [ks(474), vec![5]].concat(), [ks(600), vec![5]].concat()]
}

struct Fixture {
    folder: TempDir,
    blobs: Arc<dyn BlobStore>,
    store: Arc<LocalStore>,
}

fn open(folder: &TempDir, options: LocalOptions) -> Arc<LocalStore> {
    let node = Arc::new(NodeFolder::open(folder.path(), [1; 16]).expect("opens"));
    Arc::new(LocalStore::open(&node, JobId::from_name("job"), options).expect("opens"))
}

fn fixture_with(options: LocalOptions) -> Fixture {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open(&folder, options);
    Fixture { folder, blobs: Arc::new(MemoryBlobs::new()), store }
}

fn fixture() -> Fixture {
    fixture_with(LocalOptions { initial_map_bytes: 1 << 16, ..LocalOptions::default() })
}

fn request<'a>(operators: &'a [OperatorUid], segments: &'a [Arc<SegmentReader>], to: &'a Position) -> FoldRequest<'a> {
    FoldRequest { operators, groups: &GROUPS, segments, to }
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let key = (0u8..20, prop::sample::select(vec![0usize, 3, 474, 475, 476, 506, 507, 600]))
        .prop_map(|(n, length)| [vec![b'k'; length], vec![n]].concat());
    let value = prop::option::of(prop::collection::vec(any::<u8>(), 0..30));
    prop::collection::vec((0u16..2, GROUPS, key, value), 0..40)
}

#[derive(Clone, Debug)]
enum Step {
    Cut(Vec<Change>),
    Fold(usize),
    Compact,
    Reset,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => changes().prop_map(Step::Cut),
        3 => (1usize..4).prop_map(Step::Fold),
        1 => Just(Step::Compact),
        1 => Just(Step::Reset),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..16)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn a_view_says_what_the_cuts_said_whatever_is_folded(steps in steps()) {
        let Fixture { folder, blobs, mut store } = fixture();
        let operators = [uid()];
        let mut model = Model::new();
        let mut all: Vec<Arc<SegmentReader>> = Vec::new();
        let mut folded = 0;
        let mut stands_at: Option<Position> = None;
        let mut view = StateView::new(uid(), &declarations(false), Some(Arc::clone(&store)), vec![]);
        for (index, step) in steps.into_iter().enumerate() {
            let to = position(index as u64);
            let lease = store.lease(&OlderAttempts::before(attempt(index as u32))).expect("leases");
            match step {
                Step::Cut(changes) => {
                    apply(&mut model, &changes);
                    let segment = store_cut(&blobs, index as u64 + 1, &changes);
                    view.push(Arc::clone(&segment));
                    all.push(segment);
                }
                Step::Fold(count) => {
                    let until = (folded + count).min(all.len());
                    let segments = &all[folded..until];
                    let outcome = store.fold(&lease, stands_at.as_ref(), &request(&operators, segments, &to));
                    prop_assert_eq!(outcome.expect("folds"), FoldOutcome::Folded);
                    view.folded(segments);
                    folded = until;
                    stands_at = Some(to);
                }
                Step::Compact if all.len() > folded => {
                    let compaction = Compaction { context: context(), base_included: false, target_bytes: 500 };
                    let mut made = Vec::new();
                    compact(Chain(&all[folded..]), &compaction, &mut |segment| {
                        segment.store(blobs.as_ref(), &Failpoints::none())?;
                        made.push(Arc::new(SegmentReader::open(&blobs, &segment.reference)?));
                        Ok(())
                    }).expect("compacts");
                    view.compacted(&all[folded..], &made);
                    all.truncate(folded);
                    all.extend(made);
                }
                Step::Compact => {}
                Step::Reset => {
                    let outcome = store.reset(&lease, &request(&operators, &all, &to));
                    prop_assert_eq!(outcome.expect("loads"), FoldOutcome::Folded);
                    view.folded(&all);
                    folded = all.len();
                    stands_at = Some(to);
                }
                Step::Reopen => {
                    drop(view);
                    drop(store);
                    store = open(&folder, LocalOptions::default());
                    view = StateView::new(uid(), &declarations(false), Some(Arc::clone(&store)), all[folded..].to_vec());
                }
            }
            prop_assert_eq!(&scanned(&view), &model);
            for begin in beginnings() {
                prop_assert_eq!(scanned_from(&view, &begin), beginning_with(&model, &begin));
            }
        }
        // Without LMDB the segments alone say the same.
        let without = StateView::new(uid(), &declarations(false), None, all);
        prop_assert_eq!(&scanned(&without), &model);
        let missing = (0u16, 0u16, b"missing".to_vec());
        let addresses: Vec<EntryAddress> = model.keys().rev().chain([&missing]).map(|(state, group, key)| EntryAddress {
            state: StateNumber(*state), group: KeyGroup(*group), key: key.clone(),
        }).collect();
        let expected: Vec<Option<Vec<u8>>> = model.values().rev().cloned().map(Some).chain([None]).collect();
        prop_assert_eq!(&view.fetch(&addresses).expect("fetches"), &expected);
        prop_assert_eq!(&without.fetch(&addresses).expect("fetches"), &expected);
    }
}

fn entry(state: u16, group: u16, key: &str, value: Option<&str>) -> Change {
    (state, group, key.as_bytes().to_vec(), value.map(|value| value.as_bytes().to_vec()))
}

#[test]
fn each_key_group_records_what_it_stands_at() {
    let Fixture { folder, blobs, store } = fixture();
    let lease = store.lease(&OlderAttempts::before(attempt(0))).expect("leases");
    let segments = [store_cut(&blobs, 1, &[entry(0, 1, "a", Some("1"))])];
    let operators = [uid()];
    assert_eq!(store.position(&uid(), KeyGroup(0)).expect("reads"), None);
    store.fold(&lease, None, &request(&operators, &segments, &position(1))).expect("folds");
    drop(store);
    let store = open(&folder, LocalOptions::default());
    for group in GROUPS {
        let record = store.position(&uid(), KeyGroup(group)).expect("reads").expect("stands somewhere");
        assert_eq!(record.position, position(1));
        assert_eq!(record.schema, [("count".to_string(), 1), ("sum".to_string(), 1)]);
        let next = store_cut(&blobs, 2, &[]);
        let chain = [segments[0].reference().clone(), next.reference().clone()];
        assert_eq!(segments_to_fold(&record, KeyGroup(group), &chain), Some(1));
        assert_eq!(segments_to_fold(&record, KeyGroup(group), &chain[1..]), None, "compacted away: load anew");
        assert_eq!(segments_to_fold(&record, KeyGroup(9), &chain), None, "another subtask's cut");
        let piece = |key_groups| SegmentRef { key_groups, ..segments[0].reference().clone() };
        let split = [piece(0..1), piece(1..3), next.reference().clone()];
        let has_it = split[..2].iter().any(|piece| piece.key_groups.contains(&group));
        let lacks = segments_to_fold(&record, KeyGroup(group), &split);
        assert_eq!(lacks, has_it.then_some(2), "a compaction has split it: all groups lack the same");
    }
    assert_eq!(store.position(&uid(), KeyGroup(4)).expect("reads"), None);
}

#[test]
fn a_fold_that_does_not_continue_where_a_group_stands_changes_nothing() {
    let Fixture { blobs, store, .. } = fixture();
    let lease = store.lease(&OlderAttempts::before(attempt(0))).expect("leases");
    let operators = [uid()];
    let first = [store_cut(&blobs, 1, &[entry(0, 0, "a", Some("1"))])];
    let third = [store_cut(&blobs, 3, &[entry(0, 0, "a", Some("3"))])];
    store.fold(&lease, None, &request(&operators, &first, &position(1))).expect("folds");
    let outcome = store.fold(&lease, Some(&position(2)), &request(&operators, &third, &position(3))).expect("answers");
    assert!(matches!(outcome, FoldOutcome::Elsewhere { group: KeyGroup(0), at: Some(_), .. }), "{outcome:?}");
    let view = StateView::new(uid(), &declarations(false), Some(Arc::clone(&store)), vec![]);
    assert_eq!(scanned(&view), Model::from([((0, 0, b"a".to_vec()), b"1".to_vec())]));
}

#[test]
fn the_lease_of_an_older_attempt_is_stale() {
    let Fixture { blobs, store, .. } = fixture();
    let old = store.lease(&OlderAttempts::before(attempt(1))).expect("leases");
    assert_eq!(store.lease(&OlderAttempts::before(attempt(1))).expect("the same again"), old);
    let new = store.lease(&OlderAttempts::before(attempt(2))).expect("leases");
    assert!(store.lease(&OlderAttempts::before(attempt(1))).is_err());
    let segments = [store_cut(&blobs, 1, &[entry(0, 0, "a", Some("1"))])];
    let (operators, to) = ([uid()], position(1));
    let request = request(&operators, &segments, &to);
    assert_eq!(store.fold(&old, None, &request).expect("answers"), FoldOutcome::Stale);
    assert_eq!(store.reset(&old, &request).expect("answers"), FoldOutcome::Stale);
    assert_eq!(store.fold(&new, None, &request).expect("answers"), FoldOutcome::Folded);
}

#[test]
fn regions_hold_leases_beside_each_other_and_only_those_of_older_ones_are_stale() {
    let Fixture { store, .. } = fixture();
    let all = |numbers: &[u32]| Arc::new(numbers.iter().map(|number| attempt(*number)).collect::<BTreeSet<_>>());
    let lease = |number, beside| store.lease(&OlderAttempts { before: attempt(number), beside: all(beside) });
    lease(2, &[1]).expect("leases");
    lease(1, &[2]).expect("in any order");
    lease(3, &[1]).expect("in the place of the second");
    assert_eq!([1, 2, 3].map(|number| store.leased(attempt(number)).is_some()), [true, false, true]);
    assert!(lease(2, &[1, 3]).is_err(), "a stale lease is never given again");
}

#[test]
fn loading_some_groups_anew_leaves_the_others_alone() {
    let Fixture { blobs, store, .. } = fixture();
    let lease = store.lease(&OlderAttempts::before(attempt(0))).expect("leases");
    let operators = [uid()];
    let old = [store_cut(
        &blobs,
        1,
        &[entry(0, 1, "a", Some("old")), entry(1, 1, "b", Some("old")), entry(0, 3, "c", Some("kept"))],
    )];
    store.fold(&lease, None, &request(&operators, &old, &position(1))).expect("folds");
    let new = [store_cut(&blobs, 2, &[entry(0, 1, "n", Some("new")), entry(0, 3, "c", Some("not loaded"))])];
    let to = position(2);
    let some = FoldRequest { operators: &operators, groups: &(0..2), segments: &new, to: &to };
    assert_eq!(store.reset(&lease, &some).expect("loads"), FoldOutcome::Folded);
    let view = StateView::new(uid(), &declarations(false), Some(Arc::clone(&store)), vec![]);
    let expected = [((0, 1, b"n".to_vec()), b"new".to_vec()), ((0, 3, b"c".to_vec()), b"kept".to_vec())];
    assert_eq!(scanned(&view), Model::from(expected));
    let at = |group| store.position(&uid(), KeyGroup(group)).expect("reads").expect("stands somewhere").position;
    assert_eq!((at(1), at(3)), (position(2), position(1)));
}

#[test]
fn a_damaged_block_is_noticed_by_readers_and_folds_and_loaded_anew() {
    let Fixture { blobs, store, .. } = fixture();
    let lease = store.lease(&OlderAttempts::before(attempt(0))).expect("leases");
    let operators = [uid()];
    let mut segments = vec![store_cut(&blobs, 1, &[entry(0, 1, "a", Some("1")), entry(0, 2, "b", Some("1"))])];
    store.fold(&lease, None, &request(&operators, &segments, &position(1))).expect("folds");
    let operator = store.operator(&uid()).expect("it was declared");
    let mut key = Vec::new();
    Section::new(operator.states[&("count".to_owned(), 1)], KeyGroup(1)).set_key(&mut key, b"");
    let mut transaction = store.env.write_txn().expect("begins");
    let mut block = operator.database.get(&transaction, &key).expect("reads").expect("the first block").to_vec();
    *block.last_mut().expect("not empty") ^= 1;
    operator.database.put(&mut transaction, &key, &block).expect("puts");
    transaction.commit().expect("commits");

    let view = StateView::new(uid(), &declarations(false), Some(Arc::clone(&store)), vec![]);
    let address = |group, key: &[u8]| EntryAddress { state: StateNumber(0), group: KeyGroup(group), key: key.to_vec() };
    let error = view.fetch(&[address(1, b"a")]).expect_err("damaged");
    assert!(error.kind == ErrorKind::Retry && error.message.contains("loaded anew"), "{error}");
    assert!(view.scan(&[address(1, b"")], &mut |_, _, _| Ok(())).is_err());
    assert_eq!(view.fetch(&[address(2, b"b")]).expect("intact"), [Some(b"1".to_vec())]);

    segments.push(store_cut(&blobs, 2, &[entry(0, 1, "c", Some("2"))]));
    let fold = store.fold(&lease, Some(&position(1)), &request(&operators, &segments[1..], &position(2)));
    assert_eq!(fold.expect("answers"), FoldOutcome::Damaged);
    let stands = |group| store.position(&uid(), KeyGroup(group)).expect("reads").map(|record| record.position);
    assert_eq!((stands(1), stands(2)), (None, Some(position(1))), "the next attempt reads the checkpoint");
    assert_eq!(store.reset(&lease, &request(&operators, &segments, &position(2))).expect("loads"), FoldOutcome::Folded);
    assert_eq!((stands(1), stands(2)), (Some(position(2)), Some(position(2))));
    let one = |group, key: &[u8], value: &[u8]| ((0, group, key.to_vec()), value.to_vec());
    assert_eq!(scanned(&view), Model::from([one(1, b"a", b"1"), one(1, b"c", b"2"), one(2, b"b", b"1")]));
}

#[test]
fn a_map_at_its_limit_loses_nothing_and_says_so() {
    let limit = LocalOptions { initial_map_bytes: 1 << 18, max_map_bytes: 1 << 20, ..LocalOptions::default() };
    let Fixture { folder, blobs, store } = fixture_with(limit);
    let lease = store.lease(&OlderAttempts::before(attempt(0))).expect("leases");
    let operators = [uid()];
    let small = [store_cut(&blobs, 1, &[entry(0, 1, "a", Some("1"))])];
    store.fold(&lease, None, &request(&operators, &small, &position(1))).expect("folds");
    let large: Vec<Change> = (0..2_000u32).map(|n| (0, 2, n.to_be_bytes().to_vec(), Some(vec![7; 1_000]))).collect();
    let large = [store_cut(&blobs, 2, &large)];
    let error = store.fold(&lease, Some(&position(1)), &request(&operators, &large, &position(2)));
    let error = error.expect_err("beyond the limit");
    assert_eq!(error.kind, ErrorKind::Retry);
    assert!(error.message.contains("limit"), "{error}");
    let view = StateView::new(uid(), &declarations(false), Some(Arc::clone(&store)), large.to_vec());
    assert_eq!(scanned(&view).len(), 2_001);
    drop((view, store));
    // With more room the same fold succeeds.
    let store = open(&folder, LocalOptions::default());
    let lease = store.lease(&OlderAttempts::before(attempt(0))).expect("leases");
    let outcome = store.fold(&lease, Some(&position(1)), &request(&operators, &large, &position(2)));
    assert_eq!(outcome.expect("folds"), FoldOutcome::Folded);
}

#[test]
fn views_read_on_while_the_map_grows_and_folds_go_on() {
    let Fixture { blobs, store, .. } = fixture();
    let lease = store.lease(&OlderAttempts::before(attempt(0))).expect("leases");
    let view = Arc::new(StateView::new(uid(), &declarations(false), Some(Arc::clone(&store)), vec![]));
    let address = EntryAddress { state: StateNumber(0), group: KeyGroup(0), key: vec![0; 4] };
    let address = std::slice::from_ref(&address);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            // Every cut writes its number under this key: what is read never goes back.
            let mut last = Vec::new();
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let value = view.fetch(address).expect("fetches").remove(0).unwrap_or_default();
                assert!(value >= last);
                last = value;
            }
        });
        let mut stands_at = None;
        for number in 1..=30u64 {
            let changes: Vec<Change> =
                (0..200u32).map(|n| (0, 0, n.to_be_bytes().to_vec(), Some(number.to_be_bytes().repeat(60)))).collect();
            let segment = [store_cut(&blobs, number * 2, &changes)];
            view.push(Arc::clone(&segment[0]));
            let to = position(number);
            let outcome = store.fold(&lease, stands_at.as_ref(), &request(&[uid()], &segment, &to));
            assert_eq!(outcome.expect("folds"), FoldOutcome::Folded);
            view.folded(&segment);
            stands_at = Some(to);
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        reader.join().expect("the reader saw nothing wrong");
    });
}

#[test]
fn a_file_that_is_no_environment_is_refused_and_can_be_discarded() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let job = JobId::from_name("job");
    let path = folder.path().join("state").join(job.to_string());
    std::fs::create_dir_all(&path).expect("makes the folder");
    std::fs::write(path.join("data.mdb"), vec![7; 16_384]).expect("writes");
    let node = Arc::new(NodeFolder::open(folder.path(), [1; 16]).expect("opens"));
    let error = LocalStore::open(&node, job, LocalOptions::default()).err().expect("damaged");
    assert!(error.message.contains("can be deleted"), "{error}");
    LocalStore::discard(&node, job).expect("deletes");
    assert!(LocalStore::open(&node, job, LocalOptions::default()).is_ok());
}

#[test]
fn a_changed_version_of_a_state_is_not_folded_over_the_old_one() {
    let Fixture { blobs, store, .. } = fixture();
    let lease = store.lease(&OlderAttempts::before(attempt(0))).expect("leases");
    let operators = [uid()];
    let old = [store_cut(&blobs, 1, &[entry(0, 1, "a", Some("1"))])];
    store.fold(&lease, None, &request(&operators, &old, &position(1))).expect("folds");
    let mut declarations = declarations(false);
    declarations[0].version = 2;
    let operator = OperatorCut { uid: uid(), declarations, keyed: vec![], operator_states: vec![] };
    let cut = Cut { number: CutNumber(2), watermark: 0, operators: vec![operator] };
    let segment = write_segment(&cut, &context());
    segment.store(blobs.as_ref(), &Failpoints::none()).expect("stores");
    let new = [Arc::new(SegmentReader::open(&blobs, &segment.reference).expect("opens"))];
    let error = store.fold(&lease, Some(&position(1)), &request(&operators, &new, &position(2)));
    assert_eq!(error.expect_err("another version").kind, ErrorKind::FixInput);
}

/// Timing of a fold; run it with `cargo test --release -p millstream-state -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, not a check"]
fn folding_a_million_entries() {
    let Fixture { blobs, store, .. } = fixture();
    let lease = store.lease(&OlderAttempts::before(attempt(0))).expect("leases");
    let mut stands_at = None;
    for number in 1..=3u64 {
        let changes: Vec<Change> = (0..1_000_000u64)
            .map(|n| {
                let key = n.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_mul(number | 1);
                (0, (n % 4) as u16, [&[0, 0], &key.to_be_bytes()[..]].concat(), Some(vec![number as u8; 9]))
            })
            .collect();
        let segment = [store_cut(&blobs, number, &changes)];
        let to = position(number);
        let start = crate::testing::thread_cpu();
        store.fold(&lease, stands_at.as_ref(), &request(&[uid()], &segment, &to)).expect("folds");
        let cpu = crate::testing::thread_cpu() - start;
        println!("fold {number}: {cpu:?} of CPU, {} bytes", store.size_bytes().expect("a file"));
        stands_at = Some(to);
    }
}
