//! Enumerators of a deployment: they look for splits on the blocking executor, one look at a time each, and what they
//! find goes to the readers on the same path as the triggers. For a checkpoint all must be at home.

use std::collections::BTreeMap;

use millstream_runtime::ids::OperatorUid;
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::source::{Split, SplitEnumerator};

/// What an enumerator brings back from looking.
pub struct Discovery {
    /// The vertex it belongs to.
    pub vertex: usize,
    /// The enumerator itself.
    pub enumerator: Box<dyn SplitEnumerator>,
    /// New splits.
    pub splits: Result<Vec<Split>, PortError>,
}

/// Splits for one reader.
#[derive(Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The vertex.
    pub vertex: usize,
    /// Splits by subtask; empty ones too, since the first assignment lets a reader begin.
    pub splits: Vec<Vec<Split>>,
    /// The first of this deployment.
    pub initial: bool,
    /// There will be no more.
    pub last: bool,
}

struct Place {
    uid: OperatorUid,
    parallelism: u32,
    /// Away while it looks.
    enumerator: Option<Box<dyn SplitEnumerator>>,
    /// Splits given out so far: the next goes to this number modulo the parallelism.
    given: u64,
    started: bool,
    interval_ms: Option<u64>,
}

/// The enumerators of one deployment, by vertex.
#[derive(Default)]
pub struct Enumerators {
    places: BTreeMap<usize, Place>,
}

impl Enumerators {
    /// Takes an enumerator in.
    pub fn add(&mut self, vertex: usize, uid: OperatorUid, parallelism: u32, enumerator: Box<dyn SplitEnumerator>) {
        let interval_ms = enumerator.discovery_interval_ms();
        let place = Place { uid, parallelism, enumerator: Some(enumerator), given: 0, started: false, interval_ms };
        self.places.insert(vertex, place);
    }

    /// Vertices with an enumerator.
    pub fn vertices(&self) -> impl Iterator<Item = usize> {
        self.places.keys().copied()
    }

    /// Hands the enumerator out to look; `None` while it is away.
    pub fn take(&mut self, vertex: usize) -> Option<Box<dyn SplitEnumerator>> {
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
    pub fn interval_ms(&self, vertex: usize) -> Option<u64> {
        self.places.get(&vertex)?.interval_ms
    }

    /// Snapshots of all, by vertex; `None` while one is away or has not given out its first splits.
    #[must_use]
    pub fn snapshot(&self) -> Option<Vec<(usize, OperatorUid, Vec<u8>)>> {
        self.places
            .iter()
            .map(|(vertex, place)| {
                let enumerator = place.enumerator.as_ref().filter(|_| place.started)?;
                Some((*vertex, place.uid.clone(), enumerator.snapshot()))
            })
            .collect()
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

    fn split(id: &str) -> Split {
        Split { id: id.to_owned(), position: Vec::new() }
    }

    #[test]
    fn a_snapshot_waits_until_the_enumerator_is_back_and_its_splits_are_given_out() {
        let mut enumerators = Enumerators::default();
        enumerators.add(0, OperatorUid("s".to_owned()), 2, Box::new(Fixed));
        assert!(enumerators.snapshot().is_none(), "the first splits are not given out");
        let enumerator = enumerators.take(0).expect("at home");
        let found = Discovery { vertex: 0, enumerator, splits: Ok(vec![split("a"), split("b"), split("c")]) };
        let assignment = enumerators.returned(found).expect("it looked").expect("the first always is one");
        assert_eq!(assignment.splits, [vec![split("a"), split("c")], vec![split("b")]]);
        assert!(assignment.initial && !assignment.last);
        assert_eq!(enumerators.snapshot(), Some(vec![(0, OperatorUid("s".to_owned()), vec![7])]));
        assert!(enumerators.take(0).is_some());
        assert!(enumerators.snapshot().is_none(), "away again");
    }
}
