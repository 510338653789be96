//! What a migrated chain says, against what the old one said.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use millstream_runtime::ids::{AttemptId, AttemptNumber, CutNumber, Epoch, JobId, OperatorUid, SubtaskIndex, VertexId};
use millstream_runtime::key::Key;
use millstream_runtime::key_group::KeyGroup;
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::state::StateNumber;
use millstream_runtime::ports::store::BlobStore;
use millstream_runtime::state::conversion::Conversion;
use millstream_runtime::state::cut::{
    Cut, Entries, KeyedSection, OperatorCut, OperatorState, Redistribution, StateDeclaration,
};
use millstream_runtime::state::keyed::{KeyedState, MapState, ValueState};
use millstream_runtime::state::schema::conversions;
use millstream_runtime::time::Timestamp;

use super::super::{SegmentReader, write_segment};
use super::*;
use crate::blob::MemoryBlobs;
use crate::failpoint::Failpoints;

fn context(attempt: u32, key_groups: Range<u16>) -> SegmentContext {
    SegmentContext {
        job: JobId::from_name("job"),
        vertex: VertexId::from_name("vertex"),
        subtask: SubtaskIndex(0),
        attempt: AttemptId { epoch: Epoch(1), attempt: AttemptNumber(attempt) },
        key_groups,
    }
}

fn uid() -> OperatorUid {
    OperatorUid("counts".to_owned())
}

fn declared(number: u16, name: &str, version: u32) -> StateDeclaration {
    StateDeclaration { number: StateNumber(number), name: name.to_owned(), version }
}

fn section(state: u16, group: u16, pairs: &[(u64, Option<u32>)]) -> KeyedSection {
    let mut entries = Entries::default();
    for (key, value) in pairs {
        let value = value.map(|value| rmp_serde::to_vec(&value).expect("a number"));
        entries.push(&key.to_be_bytes(), value.as_deref());
    }
    KeyedSection { state: StateNumber(state), group: KeyGroup(group), entries }
}

fn stored(
    blobs: &Arc<dyn BlobStore>,
    groups: Range<u16>,
    (number, watermark): (u64, Timestamp),
    keyed: Vec<KeyedSection>,
) -> Arc<SegmentReader> {
    let splits = OperatorState {
        name: "splits".to_owned(),
        version: 1,
        redistribution: Redistribution::Split,
        items: vec![b"one".to_vec()],
    };
    let operator = OperatorCut {
        uid: uid(),
        declarations: vec![declared(0, "gone", 1), declared(1, "count", 1)],
        keyed,
        operator_states: vec![splits],
    };
    let cut = Cut { number: CutNumber(number), watermark, operators: vec![operator] };
    let segment = write_segment(&cut, &context(0, groups));
    segment.store(blobs.as_ref(), &Failpoints::none()).expect("memory");
    Arc::new(SegmentReader::open(blobs, &segment.reference).expect("just written"))
}

fn migrated(
    blobs: &Arc<dyn BlobStore>,
    chain: &[Arc<SegmentReader>],
    needed: Vec<Conversion>,
    watermarks: &[Timestamp],
) -> Result<Vec<Arc<SegmentReader>>, PortError> {
    let migration = Migration {
        context: context(1, 0..8),
        conversions: &BTreeMap::from([(uid(), needed)]),
        watermarks,
        now_ms: 5_000,
        target_bytes: 1 << 20,
    };
    let references =
        migrate(Chain(chain), &migration, &mut |segment| segment.store(blobs.as_ref(), &Failpoints::none()));
    let open = |reference: SegmentRef| SegmentReader::open(blobs, &reference).map(Arc::new);
    references?.into_iter().map(open).collect()
}

fn values(chain: &[Arc<SegmentReader>], name: &str) -> BTreeMap<(u16, u64), Option<Vec<u8>>> {
    let (chain, uid) = (Chain(chain), uid());
    let mut values = BTreeMap::new();
    for group in chain.groups(&uid, name) {
        let mut entries = chain.entries(&uid, name, group);
        while entries.advance().expect("it is whole") {
            let key = u64::from_be_bytes(entries.key().try_into().expect("eight bytes"));
            values.insert((group.0, key), entries.value().map(<[u8]>::to_vec));
        }
    }
    values
}

fn encoded<V: serde::Serialize>(value: V) -> Option<Vec<u8>> {
    Some(rmp_serde::to_vec(&value).expect("it serialises"))
}

#[test]
fn a_migrated_chain_has_every_state_in_one_form_and_each_key_group_its_watermark() {
    let blobs: Arc<dyn BlobStore> = Arc::new(MemoryBlobs::new());
    let pairs = [(1, Some(10)), (2, Some(20)), (3, Some(30))];
    let chain = [
        stored(&blobs, 0..4, (3, 10), vec![section(0, 2, &pairs), section(1, 2, &pairs)]),
        stored(&blobs, 4..8, (9, 20), vec![section(1, 5, &pairs)]),
        stored(&blobs, 0..4, (4, 11), vec![section(1, 2, &[(2, None), (3, Some(31))]), section(0, 2, &[(1, None)])]),
    ];
    let mut count = ValueState::<u64, String>::new("count").with_version(2).migrate_from(1, |old: u32| old.to_string());
    let schema = count.backing().schema();
    let needed = conversions(std::slice::from_ref(&schema), chain[0].declarations(&uid())).expect("it has a migration");
    let migrated = migrated(&blobs, &chain, needed, &[11, 11, 11, 11, 20, 20, 20, 20]).expect("migrates");
    let told: Vec<_> = migrated.iter().map(|one| (one.reference().key_groups.clone(), one.watermark())).collect();
    assert_eq!(told, [(0..4, 11), (4..8, 20)]);
    for segment in &migrated {
        assert_eq!(segment.declarations(&uid()), [declared(0, "gone", 1), declared(1, "count", 2)]);
        assert_eq!(segment.operator_states(&uid()).expect("read"), []);
        assert_eq!(
            (segment.reference().attempt.attempt, segment.reference().cuts),
            (AttemptNumber(1), (CutNumber(3), CutNumber(9)))
        );
    }
    let counts = [((2, 1), "10"), ((2, 3), "31"), ((5, 1), "10"), ((5, 2), "20"), ((5, 3), "30")];
    let counts: BTreeMap<_, _> = counts.into_iter().map(|(place, text)| (place, encoded(text))).collect();
    assert_eq!(values(&migrated, "count"), counts);
    let gone = BTreeMap::from([((2, 2), encoded(20)), ((2, 3), encoded(30))]);
    assert_eq!(values(&migrated, "gone"), gone, "nobody declares it: it is copied");
    let again = conversions(&[schema], migrated[0].declarations(&uid())).expect("nothing is wrong");
    assert!(again.is_empty(), "what is migrated is as it is declared");
}

#[test]
fn a_migration_that_makes_one_map_key_of_two_is_refused() {
    let blobs: Arc<dyn BlobStore> = Arc::new(MemoryBlobs::new());
    let mut entries = Entries::default();
    for (key, map_key) in [(1u64, 5u32), (1, 6), (2, 5)] {
        let mut encoded = Vec::new();
        key.encode_key(&mut encoded);
        map_key.encode_key(&mut encoded);
        entries.push(&encoded, Some(&[map_key as u8]));
    }
    let section = KeyedSection { state: StateNumber(1), group: KeyGroup(3), entries };
    let chain = [stored(&blobs, 0..8, (1, 0), vec![section])];
    let migrate_by = |upgrade: fn(u32) -> u32| {
        let map = MapState::<u64, u32, u8>::new("count").with_version(2);
        let schema = map.migrate_from(1, move |key: u32, value: u8| (upgrade(key), value)).backing().schema();
        let needed = conversions(&[schema], chain[0].declarations(&uid())).expect("it has a migration");
        migrated(&blobs, &chain, needed, &[])
    };
    // Distinct ones may come in another order.
    let reversed = migrate_by(|key| 100 - key).expect("migrates");
    let mut entries = Chain(&reversed).entries(&uid(), "count", KeyGroup(3));
    let mut seen = Vec::new();
    while entries.advance().expect("it is whole") {
        seen.push((entries.key()[7], entries.key()[11], entries.value().map(<[u8]>::to_vec)));
    }
    assert_eq!(seen, [(1, 94, Some(vec![6])), (1, 95, Some(vec![5])), (2, 95, Some(vec![5]))]);
    let error = migrate_by(|key| key / 2 / 2).err().expect("two become one");
    assert!(error.message.contains("operator 'counts', key group 3: state 'count'"), "{error}");
    assert!(error.message.contains("makes one map key of two"), "{error}");
}

/// Timing of a migration; run it with `cargo test --release -p millstream-state -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, not a check"]
fn migrating_a_million_entries() {
    let blobs: Arc<dyn BlobStore> = Arc::new(MemoryBlobs::new());
    let sections = (0..8).map(|group| {
        let pairs: Vec<_> = (0..125_000u64).map(|key| (key * 8 + u64::from(group), Some(key as u32))).collect();
        section(1, group, &pairs)
    });
    let chain = [stored(&blobs, 0..8, (1, 0), sections.collect())];
    for _ in 0..5 {
        let mut count =
            ValueState::<u64, (u64, bool)>::new("count").with_version(2).migrate_from(1, |old: u32| (old.into(), true));
        let needed =
            conversions(&[count.backing().schema()], chain[0].declarations(&uid())).expect("it has a migration");
        let start = crate::testing::thread_cpu();
        let migrated = migrated(&blobs, &chain, needed, &[]).expect("migrates");
        let bytes: u64 = migrated.iter().map(|segment| segment.reference().size_bytes).sum();
        println!("{bytes} bytes in {:?} of CPU", crate::testing::thread_cpu() - start);
    }
}
