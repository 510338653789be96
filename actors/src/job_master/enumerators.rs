//! Enumerators: they look for splits on the blocking executor, one look at a time each, and what they find goes to the
//! readers on the same path as the triggers. For a checkpoint all must be at home. They live as long as their vertex is the
//! same and not all regions are restored; a reader that is restored gets back what it was given since the restored
//! checkpoint, with the same floor.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use millstream_runtime::checkpoint::coordinator::EnumeratorSnapshot;
use millstream_runtime::ids::{AttemptId, CheckpointId, OperatorUid, SubtaskIndex, VertexId};
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::source::{Split, SplitEnumerator};
use millstream_runtime::time::{MIN_TIMESTAMP, Timestamp};

use crate::protocol::SplitAssignment;

/// What an enumerator brings back from looking.
pub struct Discovery {
    /// The vertex it belongs to.
    pub vertex: VertexId,
    /// The enumerator itself.
    pub enumerator: Box<dyn SplitEnumerator>,
    /// New splits.
    pub splits: Result<Vec<Split>, PortError>,
}

/// Splits for all readers of a vertex.
#[derive(Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The vertex.
    pub vertex: VertexId,
    /// Splits by subtask; empty ones too, since the first assignment lets a reader begin.
    pub splits: Vec<Vec<Split>>,
    /// The first of this deployment.
    pub initial: bool,
    /// There will be no more.
    pub last: bool,
}

struct Place {
    uid: OperatorUid,
    /// The newest deployment when it was made.
    made_for: AttemptId,
    parallelism: u32,
    /// How far its source had come when it was restored.
    source_floor: Timestamp,
    /// Away while it looks.
    enumerator: Option<Box<dyn SplitEnumerator>>,
    /// Splits given out so far: the next goes to this number modulo the parallelism.
    given: u64,
    started: bool,
    interval_ms: Option<u64>,
    /// What readers were given since the newest complete checkpoint.
    uncertain: VecDeque<Given>,
}

/// Splits that a reader was given, which no complete checkpoint is known to have.
struct Given {
    reader: SubtaskIndex,
    splits: Vec<Split>,
    floor: Timestamp,
    initial: bool,
    /// The first checkpoint whose triggers went behind them.
    before: Option<CheckpointId>,
}

/// The enumerators of a job, by vertex.
#[derive(Default)]
pub struct Enumerators {
    places: BTreeMap<VertexId, Place>,
}

/// An enumerator that was made from what a checkpoint has of it.
pub struct Made {
    /// The vertex it belongs to.
    pub vertex: VertexId,
    /// Its source.
    pub uid: OperatorUid,
    /// Readers it gives splits to.
    pub parallelism: u32,
    /// How far the source had come: files found later are late against it.
    pub source_floor: Timestamp,
    /// The enumerator itself.
    pub enumerator: Box<dyn SplitEnumerator>,
}

impl Enumerators {
    /// Whether a vertex has one.
    #[must_use]
    pub fn has(&self, vertex: VertexId) -> bool {
        self.places.contains_key(&vertex)
    }

    /// Whether the one of a vertex was made for this deployment: words from before are stale.
    #[must_use]
    pub fn is_of(&self, vertex: VertexId, attempt: AttemptId) -> bool {
        self.places.get(&vertex).is_some_and(|place| place.made_for == attempt)
    }

    /// Forgets those of all other vertices.
    pub fn retain(&mut self, vertices: &BTreeSet<VertexId>) {
        self.places.retain(|vertex, _| vertices.contains(vertex));
    }

    /// Takes an enumerator in.
    pub fn add(&mut self, made: Made, made_for: AttemptId) {
        let Made { vertex, uid, parallelism, source_floor, enumerator } = made;
        let interval_ms = enumerator.discovery_interval_ms();
        let place = Place {
            uid,
            made_for,
            parallelism,
            source_floor,
            enumerator: Some(enumerator),
            given: 0,
            started: false,
            interval_ms,
            uncertain: VecDeque::new(),
        };
        self.places.insert(vertex, place);
    }

    /// How far a source had come when its enumerator was restored.
    #[must_use]
    pub fn source_floor(&self, vertex: VertexId) -> Timestamp {
        self.places.get(&vertex).map_or(MIN_TIMESTAMP, |place| place.source_floor)
    }

    /// Hands the enumerator out to look; `None` while it is away.
    pub fn take(&mut self, vertex: VertexId) -> Option<Box<dyn SplitEnumerator>> {
        self.places.get_mut(&vertex)?.enumerator.take()
    }

    /// Takes an enumerator back and deals out what it found.
    ///
    /// # Errors
    /// Why it could not look.
    pub fn returned(&mut self, discovery: Discovery) -> Result<Option<Assignment>, PortError> {
        let Discovery { vertex, enumerator, splits } = discovery;
        let Some(place) = self.places.get_mut(&vertex) else { return Ok(None) };
        place.enumerator = Some(enumerator);
        let splits = splits?;
        let initial = !place.started;
        if splits.is_empty() && !initial {
            return Ok(None);
        }
        place.started = true;
        let mut dealt = vec![Vec::new(); place.parallelism as usize];
        for split in splits {
            dealt[(place.given % u64::from(place.parallelism)) as usize].push(split);
            place.given += 1;
        }
        Ok(Some(Assignment { vertex, splits: dealt, initial, last: place.interval_ms.is_none() }))
    }

    /// Milliseconds until it looks again.
    #[must_use]
    pub fn interval_ms(&self, vertex: VertexId) -> Option<u64> {
        self.places.get(&vertex)?.interval_ms
    }

    /// Remembers what a reader is given, until a checkpoint has it.
    pub fn gave(&mut self, vertex: VertexId, reader: SubtaskIndex, assignment: &SplitAssignment) {
        let Some(place) = self.places.get_mut(&vertex) else { return };
        let SplitAssignment { splits, floor, initial, .. } = assignment.clone();
        place.uncertain.push_back(Given { reader, splits, floor, initial, before: None });
    }

    /// Snapshots of all for a checkpoint, by vertex; `None` while one is away or has not given out its first splits.
    #[must_use]
    pub fn snapshot(&mut self, checkpoint: CheckpointId) -> Option<Vec<EnumeratorSnapshot>> {
        let snapshots = self
            .places
            .iter()
            .map(|(vertex, place)| {
                let enumerator = place.enumerator.as_ref().filter(|_| place.started)?;
                Some((*vertex, place.uid.clone(), enumerator.snapshot()))
            })
            .collect::<Option<_>>()?;
        for given in self.places.values_mut().flat_map(|place| &mut place.uncertain) {
            given.before.get_or_insert(checkpoint);
        }
        Some(snapshots)
    }

    /// A checkpoint that is restored from now on is complete: readers have in it what they were given before.
    pub fn completed(&mut self, checkpoint: CheckpointId) {
        for place in self.places.values_mut() {
            place.uncertain.retain(|given| given.before.is_none_or(|before| before > checkpoint));
        }
    }

    /// What a reader that starts anew from a checkpoint (0: from before all of this) is to be given: first whatever lets
    /// it begin. Nothing while nobody was given anything, since the first splits are still to come.
    #[must_use]
    pub fn again(&self, vertex: VertexId, reader: SubtaskIndex, restored: CheckpointId) -> Vec<SplitAssignment> {
        let Some(place) = self.places.get(&vertex).filter(|place| place.started) else { return Vec::new() };
        let last = place.interval_ms.is_none();
        let missing = place
            .uncertain
            .iter()
            .filter(|given| given.reader == reader && given.before.is_none_or(|before| before > restored));
        let again = missing.map(|given| {
            let Given { splits, floor, initial, .. } = given;
            SplitAssignment { splits: splits.clone(), initial: *initial, last, floor: *floor }
        });
        let mut again: Vec<SplitAssignment> = again.collect();
        if again.first().is_none_or(|first| !first.initial) {
            again.insert(0, SplitAssignment { splits: Vec::new(), initial: true, last, floor: MIN_TIMESTAMP });
        }
        again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;

    impl SplitEnumerator for Fixed {
        fn discover(&mut self) -> Result<Vec<Split>, PortError> {
            Ok(Vec::new())
        }
        fn discovery_interval_ms(&self) -> Option<u64> {
            Some(10)
        }
        fn snapshot(&self) -> Vec<u8> {
            vec![7]
        }
    }

    const VERTEX: VertexId = VertexId([1; 16]);

    /// The enumerator of a source with two readers.
    fn fixed() -> Enumerators {
        let mut enumerators = Enumerators::default();
        let uid = OperatorUid("s".to_owned());
        let made = Made { vertex: VERTEX, uid, parallelism: 2, source_floor: 3, enumerator: Box::new(Fixed) };
        enumerators.add(made, AttemptId::default());
        enumerators
    }

    fn split(id: &str) -> Split {
        Split { id: id.to_owned(), position: Vec::new() }
    }

    #[test]
    fn a_snapshot_waits_until_the_enumerator_is_back_and_its_splits_are_given_out() {
        let mut enumerators = fixed();
        assert!(enumerators.snapshot(CheckpointId(1)).is_none(), "the first splits are not given out");
        let enumerator = enumerators.take(VERTEX).expect("at home");
        let found = Discovery { vertex: VERTEX, enumerator, splits: Ok(vec![split("a"), split("b"), split("c")]) };
        let assignment = enumerators.returned(found).expect("it looked").expect("the first always is one");
        assert_eq!(assignment.splits, [vec![split("a"), split("c")], vec![split("b")]]);
        assert!(assignment.initial && !assignment.last);
        assert_eq!(enumerators.snapshot(CheckpointId(1)), Some(vec![(VERTEX, OperatorUid("s".to_owned()), vec![7])]));
        assert!(enumerators.take(VERTEX).is_some());
        assert!(enumerators.snapshot(CheckpointId(2)).is_none(), "away again");
    }

    #[test]
    fn a_reader_gets_back_what_it_was_given_since_the_restored_checkpoint_and_nobody_elses() {
        let mut enumerators = fixed();
        let (one, other) = (SubtaskIndex(0), SubtaskIndex(1));
        assert_eq!(enumerators.again(VERTEX, one, CheckpointId(0)), [], "its first splits are still to come");
        let enumerator = enumerators.take(VERTEX).expect("at home");
        let _first =
            enumerators.returned(Discovery { vertex: VERTEX, enumerator, splits: Ok(vec![]) }).expect("it looked");
        let given = |id: &str, initial, floor| SplitAssignment { splits: vec![split(id)], initial, last: false, floor };
        enumerators.gave(VERTEX, one, &given("a", true, 1));
        enumerators.gave(VERTEX, other, &given("b", true, 1));
        assert!(enumerators.snapshot(CheckpointId(1)).is_some());
        enumerators.gave(VERTEX, one, &given("c", false, 5));
        assert!(enumerators.snapshot(CheckpointId(2)).is_some());
        assert_eq!(enumerators.again(VERTEX, one, CheckpointId(0)), [given("a", true, 1), given("c", false, 5)]);
        let begin = SplitAssignment { splits: vec![], initial: true, last: false, floor: MIN_TIMESTAMP };
        assert_eq!(enumerators.again(VERTEX, one, CheckpointId(1)), [begin.clone(), given("c", false, 5)]);
        assert_eq!(enumerators.again(VERTEX, other, CheckpointId(1)), std::slice::from_ref(&begin));
        enumerators.completed(CheckpointId(2));
        assert_eq!(enumerators.again(VERTEX, one, CheckpointId(2)), [begin]);
    }
}
