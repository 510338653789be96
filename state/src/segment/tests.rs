//! Segments and chains against a plain map, and against every kind of damage.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_runtime::ids::{AttemptId, AttemptNumber, CutNumber, Epoch, JobId, OperatorUid, SubtaskIndex, VertexId};
use millstream_runtime::key_group::KeyGroup;
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::state::StateNumber;
use millstream_runtime::ports::store::BlobStore;
use millstream_runtime::state::cut::{
    Cut, Entries, KeyedSection, OperatorCut, OperatorState, Redistribution, StateDeclaration,
};
use proptest::prelude::*;

use super::*;
use crate::blob::MemoryBlobs;
use crate::failpoint::Failpoints;

fn context() -> SegmentContext {
    SegmentContext {
        job: JobId::from_name("job"),
        vertex: VertexId::from_name("vertex"),
        subtask: SubtaskIndex(0),
        attempt: AttemptId { epoch: Epoch(1), attempt: AttemptNumber(0) },
        key_groups: 0..8,
    }
}

fn uid(name: &str) -> OperatorUid {
    OperatorUid(name.to_string())
}

fn declare(number: u16, name: &str) -> StateDeclaration {
    StateDeclaration { number: StateNumber(number), name: name.to_string(), version: 1 }
}

fn section(state: u16, group: u16, pairs: &[(&[u8], Option<&[u8]>)]) -> KeyedSection {
    let mut entries = Entries::default();
    for (key, value) in pairs {
        entries.push(key, *value);
    }
    KeyedSection { state: StateNumber(state), group: KeyGroup(group), entries }
}

fn small_cut() -> Cut {
    Cut {
        number: CutNumber(1),
        watermark: 77,
        operators: vec![
            OperatorCut {
                uid: uid("b"),
                declarations: vec![declare(0, "count"), declare(1, "sum")],
                keyed: vec![
                    section(1, 3, &[(b"y", Some(b"2")), (b"x", None)]),
                    section(0, 3, &[(b"x", Some(b"1"))]),
                    section(0, 2, &[(b"z", Some(b""))]),
                ],
                operator_states: vec![],
            },
            OperatorCut {
                uid: uid("a"),
                declarations: vec![],
                keyed: vec![],
                operator_states: vec![OperatorState {
                    name: "splits".to_string(),
                    version: 300,
                    redistribution: Redistribution::Split,
                    items: vec![b"one".to_vec(), vec![]],
                }],
            },
        ],
    }
}

fn stored(blobs: &Arc<dyn BlobStore>, cut: &Cut, context: &SegmentContext) -> Arc<SegmentReader> {
    let segment = write_segment(cut, context);
    segment.store(blobs.as_ref(), &Failpoints::none()).expect("memory");
    Arc::new(SegmentReader::open(blobs, &segment.reference).expect("just written"))
}

/// Everything a segment says, as one comparable text; any read error ends it.
fn read_all(reader: &SegmentReader) -> Result<String, PortError> {
    let mut text = format!("{:?}", reader.info());
    for uid in reader.operators() {
        text += &format!("{uid} {:?} {:?}", reader.declarations(uid), reader.operator_states(uid)?);
        for declaration in reader.declarations(uid) {
            for (group, count) in reader.groups(uid, &declaration.name) {
                text += &format!("{group:?} {count}");
                let mut cursor = reader.scan(uid, &declaration.name, group).expect("it has entries");
                while cursor.advance()? {
                    text += &format!("{:?} {:?}", cursor.key(), cursor.value());
                }
            }
        }
    }
    Ok(text)
}

#[test]
fn a_cut_comes_back_from_its_segment() {
    let blobs: Arc<dyn BlobStore> = Arc::new(MemoryBlobs::new());
    let reader = stored(&blobs, &small_cut(), &context());
    assert_eq!(reader.watermark(), 77);
    assert_eq!(reader.operators().cloned().collect::<Vec<_>>(), [uid("a"), uid("b")]);
    assert_eq!(reader.operator_states(&uid("a")).expect("read"), small_cut().operators[1].operator_states);
    let get = |state: &str, group, key: &[u8]| reader.get(&uid("b"), state, KeyGroup(group), key).expect("read");
    assert_eq!(get("sum", 3, b"y"), Found::Value(b"2".to_vec()));
    assert_eq!(get("sum", 3, b"x"), Found::Tombstone);
    assert_eq!(get("count", 2, b"z"), Found::Value(vec![]));
    assert_eq!(get("count", 2, b"a"), Found::Nothing);
    assert_eq!(get("count", 2, b"zz"), Found::Nothing);
    assert_eq!(get("other", 2, b"z"), Found::Nothing);
    verify(&blobs, reader.reference()).expect("intact");
}

#[test]
fn every_flipped_bit_is_noticed_or_harmless() {
    let memory = MemoryBlobs::new();
    let blobs: Arc<dyn BlobStore> = Arc::new(memory.clone());
    let reader = stored(&blobs, &small_cut(), &context());
    let expected = read_all(&reader).expect("intact");
    let path = &reader.reference().path;
    for bit in 0..reader.reference().size_bytes as usize * 8 {
        let flip = |blob: &mut Vec<u8>| blob[bit / 8] ^= 1 << (bit % 8);
        memory.damage(path, flip);
        let read = SegmentReader::open(&blobs, reader.reference()).and_then(|damaged| read_all(&damaged));
        match read {
            Ok(text) => assert_eq!(text, expected, "bit {bit}"),
            Err(error) => assert!(error.message.contains(path), "{error}"),
        }
        assert!(verify(&blobs, reader.reference()).is_err(), "bit {bit}");
        memory.damage(path, flip);
    }
}

#[test]
fn every_truncation_and_every_appended_byte_is_an_error() {
    let memory = MemoryBlobs::new();
    let blobs: Arc<dyn BlobStore> = Arc::new(memory.clone());
    let segment = write_segment(&small_cut(), &context());
    let path = &segment.reference.path;
    for length in 0..segment.bytes.len() {
        memory.put(path, &[&segment.bytes[..length]]).expect("memory");
        let error = SegmentReader::open(&blobs, &segment.reference).err().expect("truncated");
        assert!(error.message.contains(path), "{error}");
        // Even a reference of the truncated size does not make it whole.
        let mut reference = segment.reference.clone();
        reference.size_bytes = length as u64;
        assert!(SegmentReader::open(&blobs, &reference).is_err(), "length {length}");
    }
    memory.put(path, &[&segment.bytes, b"x"]).expect("memory");
    let mut reference = segment.reference.clone();
    reference.size_bytes += 1;
    assert!(SegmentReader::open(&blobs, &reference).is_err());
}

#[test]
fn a_foreign_segment_under_the_name_is_noticed() {
    let blobs: Arc<dyn BlobStore> = Arc::new(MemoryBlobs::new());
    let segment = write_segment(&small_cut(), &context());
    let other = write_segment(&Cut { number: CutNumber(2), ..small_cut() }, &context());
    blobs.put(&segment.reference.path, &[&other.bytes]).expect("memory");
    let error = SegmentReader::open(&blobs, &segment.reference).err().expect("foreign");
    assert!(error.message.contains("another segment"), "{error}");
}

#[test]
fn keys_are_found_across_many_blocks() {
    let blobs: Arc<dyn BlobStore> = Arc::new(MemoryBlobs::new());
    let mut entries = Entries::default();
    for n in (0..50_000u32).rev() {
        entries.push(&(n * 2).to_be_bytes(), Some(&n.to_le_bytes()));
    }
    let keyed = vec![KeyedSection { state: StateNumber(0), group: KeyGroup(1), entries }];
    let operator = OperatorCut { uid: uid("op"), declarations: vec![declare(0, "s")], keyed, operator_states: vec![] };
    let cut = Cut { number: CutNumber(1), watermark: 0, operators: vec![operator] };
    let reader = stored(&blobs, &cut, &context());
    for n in (0..50_000u32).step_by(997) {
        let get = |key: u32| reader.get(&uid("op"), "s", KeyGroup(1), &key.to_be_bytes()).expect("read");
        assert_eq!(get(n * 2), Found::Value(n.to_le_bytes().to_vec()));
        assert_eq!(get(n * 2 + 1), Found::Nothing);
    }
    let mut cursor = reader.scan(&uid("op"), "s", KeyGroup(1)).expect("entries");
    for n in [5u32, 6, 7, 90_000, 90_001, 3, 99_998] {
        assert!(cursor.seek(&n.to_be_bytes()).expect("read"));
        assert_eq!(cursor.key(), n.next_multiple_of(2).to_be_bytes());
    }
    assert!(!cursor.seek(&99_999u32.to_be_bytes()).expect("read"));
}

type Model = BTreeMap<(&'static str, u16, Vec<u8>), Option<Vec<u8>>>;

/// States are numbered differently in odd and even cuts, and one exists only in some.
fn model_cut(number: u64, changes: &[(u8, u16, u8, Option<u8>)], model: &mut Model) -> Cut {
    let names: [&'static str; 3] = if number.is_multiple_of(2) { ["x", "y", "z"] } else { ["z", "x", "y"] };
    let declarations = (0..3).map(|n| declare(n, names[usize::from(n)])).collect();
    let mut sections: BTreeMap<(u16, u16), BTreeMap<Vec<u8>, _>> = BTreeMap::new();
    for (state, group, key, value) in changes {
        let state = u16::from(*state % 3);
        let key = vec![b'k'; usize::from(*key % 5)].into_iter().chain([*key]).collect::<Vec<u8>>();
        let value = value.map(|value| vec![value; usize::from(value % 40)]);
        sections.entry((state, *group)).or_default().insert(key.clone(), value.clone());
        model.insert((names[usize::from(state)], *group, key), value);
    }
    let keyed = sections
        .into_iter()
        .map(|((state, group), pairs)| {
            let mut entries = Entries::default();
            pairs.iter().rev().for_each(|(key, value): (_, &Option<Vec<u8>>)| entries.push(key, value.as_deref()));
            KeyedSection { state: StateNumber(state), group: KeyGroup(group), entries }
        })
        .collect();
    let items = vec![number.to_be_bytes().to_vec()];
    let state = OperatorState { name: "o".to_string(), version: 1, redistribution: Redistribution::Union, items };
    let operator = OperatorCut { uid: uid("op"), declarations, keyed, operator_states: vec![state] };
    Cut { number: CutNumber(number), watermark: number as i64, operators: vec![operator] }
}

fn chain_content(chain: &[Arc<SegmentReader>]) -> Model {
    let chain = Chain(chain);
    let mut content = Model::new();
    for name in ["x", "y", "z"] {
        for group in chain.groups(&uid("op"), name) {
            let mut entries = chain.entries(&uid("op"), name, group);
            while entries.advance().expect("read") {
                let before =
                    content.insert((name, group.0, entries.key().to_vec()), entries.value().map(<[u8]>::to_vec));
                assert_eq!(before, None, "each key once");
            }
        }
    }
    content
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]

    #[test]
    fn a_chain_says_what_its_cuts_said_before_and_after_compaction(
        cuts in prop::collection::vec(prop::collection::vec((0u8..3, 0u16..8, any::<u8>(), any::<Option<u8>>()), 0..60), 1..6),
        split in 0usize..5,
        clip_start in 0u16..8, clip_length in 0u16..8,
        target_bytes in prop::sample::select(vec![0u64, 1, 200, 1 << 20]),
    ) {
        let blobs: Arc<dyn BlobStore> = Arc::new(MemoryBlobs::new());
        let mut model = Model::new();
        let mut chain = Vec::new();
        for (index, changes) in cuts.iter().enumerate() {
            let cut = model_cut(index as u64 + 1, changes, &mut model);
            chain.push(stored(&blobs, &cut, &context()));
        }
        prop_assert_eq!(&chain_content(&chain), &model);

        // The newest part alone keeps its tombstones.
        let split = split.min(chain.len() - 1);
        let clip = clip_start..(clip_start + clip_length).min(8);
        let mut compacted = chain[..split].to_vec();
        let compaction = Compaction { context: context(), base_included: split == 0, target_bytes };
        let references = compact(Chain(&chain[split..]), &compaction, &mut |segment| {
            segment.store(blobs.as_ref(), &Failpoints::none())
        }).expect("compacts");
        for reference in &references {
            compacted.push(Arc::new(SegmentReader::open(&blobs, reference).expect("opens")));
        }
        let mut expected = model.clone();
        if split == 0 {
            expected.retain(|_, value| value.is_some());
        }
        prop_assert_eq!(&chain_content(&compacted), &expected);
        let last = compacted.last().expect("not empty");
        let states = last.operator_states(&uid("op")).expect("read");
        prop_assert_eq!(&states[0].items[0], &(cuts.len() as u64).to_be_bytes().to_vec());

        // Clipped references say less, and nothing wrong.
        let clipped: Vec<_> = compacted.iter().map(|reader| {
            let own = reader.reference();
            let key_groups = own.key_groups.start.max(clip.start)..own.key_groups.end.min(clip.end);
            let reference = millstream_runtime::checkpoint::manifest::SegmentRef { key_groups, ..own.clone() };
            Arc::new(SegmentReader::open(&blobs, &reference).expect("opens"))
        }).collect();
        expected.retain(|(_, group, _), _| clip.contains(group));
        prop_assert_eq!(&chain_content(&clipped), &expected);
    }
}

#[test]
fn a_section_whose_entries_were_all_deleted_answers_nothing() {
    let blobs: Arc<dyn BlobStore> = Arc::new(MemoryBlobs::new());
    let mut cut = small_cut();
    cut.operators[0].declarations = vec![declare(0, "gone"), declare(1, "kept")];
    cut.operators[0].keyed = vec![section(0, 1, &[(b"a", Some(b"1"))]), section(1, 1, &[(b"a", Some(b"2"))])];
    let first = stored(&blobs, &cut, &context());
    cut.number = CutNumber(2);
    cut.operators[0].keyed = vec![section(0, 1, &[(b"a", None)])];
    let second = stored(&blobs, &cut, &context());
    let compaction = Compaction { context: context(), base_included: true, target_bytes: 1 << 20 };
    let merged = compact(Chain(&[first, second]), &compaction, &mut |segment| {
        segment.store(blobs.as_ref(), &Failpoints::none())
    });
    let merged = SegmentReader::open(&blobs, &merged.expect("compacts")[0]).expect("opens");
    let operator = cut.operators[0].uid.clone();
    let get = |state| merged.get(&operator, state, KeyGroup(1), b"a").expect("reads");
    assert_eq!(get("gone"), Found::Nothing, "not what the state beside it says");
    assert_eq!(get("kept"), Found::Value(b"2".to_vec()));
}

#[test]
fn a_state_in_two_versions_is_not_merged() {
    let blobs: Arc<dyn BlobStore> = Arc::new(MemoryBlobs::new());
    let old = stored(&blobs, &small_cut(), &context());
    let mut cut = small_cut();
    cut.number = CutNumber(2);
    cut.operators[0].declarations[1].version = 2;
    let new = stored(&blobs, &cut, &context());
    let error = Chain(&[old, new]).states().expect_err("versions differ");
    assert!(error.message.contains("'sum'") && error.message.contains("version 2"), "{error}");
}

/// Timing of the write path; run it with `cargo test --release -p millstream-state -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, not a check"]
fn writing_a_million_entries() {
    let make = || {
        let mut sections: Vec<Entries> = (0..128).map(|_| Entries::default()).collect();
        let mut x = 1u64;
        for _ in 0..1_000_000u64 {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let mut key = [0u8; 10];
            key[2..].copy_from_slice(&(x >> 20).to_be_bytes());
            sections[(x >> 57) as usize].push(&key, Some(&[7; 9]));
        }
        let keyed = sections.into_iter().enumerate();
        let keyed =
            keyed.map(|(n, entries)| KeyedSection { state: StateNumber(0), group: KeyGroup(n as u16), entries });
        let declarations = vec![declare(0, "s")];
        let operator = OperatorCut { uid: uid("op"), declarations, keyed: keyed.collect(), operator_states: vec![] };
        Cut { number: CutNumber(1), watermark: 0, operators: vec![operator] }
    };
    let context = SegmentContext { key_groups: 0..128, ..context() };
    for _ in 0..7 {
        let cut = make();
        let start = crate::testing::thread_cpu();
        let segment = write_segment(&cut, &context);
        println!("{} bytes in {:?} of CPU", segment.bytes.len(), crate::testing::thread_cpu() - start);
    }
}
