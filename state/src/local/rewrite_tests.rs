//! Rewriting the blocks of a section, against a plain map: whatever comes in whatever sizes, the entries are those of the
//! map, the blocks divide them in order, and none is larger than it must be.

use std::collections::BTreeMap;
use std::sync::Arc;

use heed::types::Bytes;
use heed::{Env, EnvOpenOptions, WithoutTls};
use millstream_runtime::ids::{AttemptId, AttemptNumber, CutNumber, Epoch, JobId, OperatorUid, SubtaskIndex, VertexId};
use millstream_runtime::key_group::KeyGroup;
use millstream_runtime::ports::state::StateNumber;
use millstream_runtime::ports::store::BlobStore;
use millstream_runtime::state::cut::{Cut, Entries, KeyedSection, OperatorCut, StateDeclaration};
use proptest::prelude::*;

use super::block::{BLOCK_BYTES, Section, kept, take_entry};
use super::rewrite::Rewriter;
use super::store::Bytemap;
use crate::blob::MemoryBlobs;
use crate::failpoint::Failpoints;
use crate::segment::{Chain, SegmentContext, SegmentReader, write_segment};

const GROUP: KeyGroup = KeyGroup(1);

fn uid() -> OperatorUid {
    OperatorUid("op".to_string())
}

type Model = BTreeMap<Vec<u8>, Vec<u8>>;
type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

fn segment(blobs: &Arc<dyn BlobStore>, number: u64, changes: &Changes) -> Arc<SegmentReader> {
    let mut entries = Entries::default();
    changes.iter().for_each(|(key, value)| entries.push(key, value.as_deref()));
    let operator = OperatorCut {
        uid: uid(),
        declarations: vec![StateDeclaration { number: StateNumber(0), name: "s".to_string(), version: 1 }],
        keyed: vec![KeyedSection { state: StateNumber(0), group: GROUP, entries }],
        operator_states: vec![],
    };
    let context = SegmentContext {
        job: JobId::from_name("job"),
        vertex: VertexId::from_name("v"),
        subtask: SubtaskIndex(0),
        attempt: AttemptId { epoch: Epoch(1), attempt: AttemptNumber(0) },
        key_groups: 0..4,
    };
    let segment = write_segment(&Cut { number: CutNumber(number), watermark: 0, operators: vec![operator] }, &context);
    segment.store(blobs.as_ref(), &Failpoints::none()).expect("stores");
    Arc::new(SegmentReader::open(blobs, &segment.reference).expect("opens"))
}

fn environment(folder: &tempfile::TempDir) -> (Env<WithoutTls>, Bytemap) {
    let mut open = EnvOpenOptions::new().read_txn_without_tls();
    open.map_size(64 << 20).max_dbs(1);
    // SAFETY: the folder is the test's own.
    let env = unsafe { open.open(folder.path()) }.expect("opens");
    let created = env.create_databases_and_commit(env.write_txn().expect("begins"), |opener, transaction| {
        let created = opener.create_database::<Bytes, Bytes>(transaction, Some("entries"));
        created.map(heed::CommitOrAbort::<_, ()>::Commit)
    });
    (env.clone(), created.expect("creates").unwrap_commit())
}

/// What the section holds, block by block: the start, and the entries.
fn blocks(env: &Env<WithoutTls>, database: Bytemap, section: Section) -> Vec<(Vec<u8>, Model)> {
    let transaction = env.read_txn().expect("begins");
    let mut blocks = Vec::new();
    let mut next = section.block_of(database, &transaction, b"").ok().expect("reads");
    next = next.or_else(|| section.block_behind(database, &transaction, b"").ok().expect("reads"));
    while let Some(block) = next {
        let (mut rest, mut entries) = (block.entries, Model::new());
        while let Some((key, value)) = take_entry(&mut rest).ok().expect("intact") {
            assert!(entries.last_key_value().is_none_or(|(last, _)| last.as_slice() < key), "in order, each once");
            entries.insert(key.to_vec(), value.to_vec());
        }
        // Larger than a page only by one entry, or by the last ones when they cannot be told apart.
        let last = kept(entries.last_key_value().expect("blocks without entries are deleted").0);
        let before: usize = entries.iter().filter(|(key, _)| kept(key) != last).map(|(k, v)| k.len() + v.len()).sum();
        let sharing = entries.keys().filter(|key| kept(key) == last).count();
        let may_be_large = entries.len() == 1 || (sharing > 1 && before <= BLOCK_BYTES);
        assert!(block.entries.len() <= BLOCK_BYTES || may_be_large, "{} bytes", block.entries.len());
        blocks.push((block.start.to_vec(), entries));
        next = section.block_behind(database, &transaction, block.start).ok().expect("reads");
    }
    blocks
}

fn assert_holds(env: &Env<WithoutTls>, database: Bytemap, section: Section, model: &Model) {
    let blocks = blocks(env, database, section);
    for (index, (start, entries)) in blocks.iter().enumerate() {
        let end = blocks.get(index + 1).map(|(start, _)| start.as_slice());
        let belongs = |key: &[u8]| kept(key) >= start.as_slice() && end.is_none_or(|end| kept(key) < end);
        assert!(entries.keys().all(|key| belongs(key)), "entries between the starts");
    }
    let all: Model = blocks.into_iter().flat_map(|(_, entries)| entries).collect();
    assert_eq!(&all, model);
    let transaction = env.read_txn().expect("begins");
    for (key, value) in model {
        let block = section.block_of(database, &transaction, key).ok().expect("reads").expect("a block has it");
        assert_eq!(block.find(key).ok().expect("intact"), Some(value.as_slice()));
        let mut scan = section.scan(database, &transaction, key).ok().expect("reads");
        let mut found = scan.next().ok().expect("intact").expect("at least the key");
        while found.0 < key.as_slice() {
            found = scan.next().ok().expect("intact").expect("at least the key");
        }
        assert_eq!(found, (key.as_slice(), value.as_slice()));
    }
}

/// Many small entries, some large, deletions one by one and of whole ranges, and keys that LMDB cannot tell apart.
fn changes() -> impl Strategy<Value = Changes> {
    let key = prop_oneof![
        8 => (0u16..600).prop_map(|n| n.to_be_bytes().to_vec()),
        1 => (0u8..30, 506usize..509).prop_map(|(n, length)| [vec![1; length], vec![n]].concat()),
    ];
    let value = prop_oneof![
        6 => prop::collection::vec(any::<u8>(), 0..60).prop_map(Some),
        1 => (0usize..9_000).prop_map(|length| Some(vec![7; length])),
        3 => Just(None),
    ];
    let single = prop::collection::btree_map(key, value, 0..400);
    let range = (0u16..600, 1u16..400, prop_oneof![3 => Just(None), 1 => (0usize..30).prop_map(Some)]);
    let range = range.prop_map(|(from, count, length)| {
        (from..from + count).map(|n| (n.to_be_bytes().to_vec(), length.map(|length| vec![n as u8; length]))).collect()
    });
    prop_oneof![3 => single, 2 => range]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(32) })]

    #[test]
    fn blocks_hold_what_the_changes_said(rounds in prop::collection::vec((changes(), changes()), 1..10)) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (env, database) = environment(&folder);
        let blobs: Arc<dyn BlobStore> = Arc::new(MemoryBlobs::new());
        let (mut model, mut rewriter) = (Model::new(), Rewriter::default());
        let section = Section::new(3, GROUP);
        let beside = [Section::new(3, KeyGroup(0)), Section::new(3, KeyGroup(2))];
        for (number, (older, newer)) in rounds.iter().enumerate() {
            let chain = [segment(&blobs, number as u64 * 2 + 1, older), segment(&blobs, number as u64 * 2 + 2, newer)];
            for (key, value) in older.iter().chain(newer) {
                match value {
                    Some(value) => drop(model.insert(key.clone(), value.clone())),
                    None => drop(model.remove(key)),
                }
            }
            let mut transaction = env.write_txn().expect("begins");
            for section in [section, beside[number % 2]] {
                let mut merge = Chain(&chain).entries(&uid(), "s", GROUP);
                rewriter.rewrite((database, section), &mut transaction, &mut merge).ok().expect("rewrites");
            }
            transaction.commit().expect("commits");
            assert_holds(&env, database, section, &model);
        }
        // The same once more, all at once, gives the same entries.
        let once: Changes = model.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect();
        let mut transaction = env.write_txn().expect("begins");
        let all = [segment(&blobs, 100, &once)];
        for section in [section, Section::new(4, GROUP)] {
            let mut merge = Chain(&all).entries(&uid(), "s", GROUP);
            rewriter.rewrite((database, section), &mut transaction, &mut merge).ok().expect("rewrites");
        }
        transaction.commit().expect("commits");
        assert_holds(&env, database, section, &model);
        assert_holds(&env, database, Section::new(4, GROUP), &model);
    }
}
