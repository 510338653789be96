//! Enumerates everything that can happen to a small machine: all orders of all events, states seen before left out.
//! For tests of the machines only.

use std::collections::BTreeSet;
use std::fmt::Debug;

use xxhash_rust::xxh3::xxh3_128;

/// A machine within a small world.
pub(crate) trait Model: Clone {
    /// Something that can happen to it.
    type Event: Clone + Debug;

    /// Everything that can happen now.
    fn events(&self) -> Vec<Self::Event>;

    /// Lets it happen, and says which invariant it broke.
    fn apply(&mut self, event: &Self::Event) -> Result<(), String>;

    /// Everything that decides about the future; two states with the same text are the same state.
    fn state(&self) -> String;

    /// Called where nothing can happen any more.
    fn at_end(&self) -> Result<(), String> {
        Ok(())
    }
}

/// What an exploration saw.
#[derive(Debug)]
pub(crate) struct Explored<E> {
    /// Different states.
    pub(crate) states: usize,
    /// Events applied.
    pub(crate) transitions: usize,
    /// States in which nothing can happen any more.
    pub(crate) ends: usize,
    /// A shortest way to a broken invariant, and which one.
    pub(crate) violation: Option<(Vec<E>, String)>,
}

/// Explores breadth first, to the end or to the first violation.
///
/// # Panics
/// Beyond `most` states: the space is larger than its author thought.
pub(crate) fn explore<M: Model>(start: M, most: usize) -> Explored<M::Event> {
    let mut seen = BTreeSet::from([xxh3_128(start.state().as_bytes())]);
    // The way to a node: its parent and the event.
    let mut ways: Vec<Option<(usize, M::Event)>> = vec![None];
    let mut frontier = vec![(0, start)];
    let mut explored = Explored { states: 1, transitions: 0, ends: 0, violation: None };
    while !frontier.is_empty() {
        let mut next = Vec::new();
        for (node, model) in frontier {
            let events = model.events();
            if events.is_empty() {
                explored.ends += 1;
                if let Err(broken) = model.at_end() {
                    explored.violation = Some((way_to(&ways, node), broken));
                    return explored;
                }
            }
            for event in events {
                let mut after = model.clone();
                explored.transitions += 1;
                let result = after.apply(&event);
                if let Err(broken) = result {
                    let mut way = way_to(&ways, node);
                    way.push(event);
                    explored.violation = Some((way, broken));
                    return explored;
                }
                if seen.insert(xxh3_128(after.state().as_bytes())) {
                    ways.push(Some((node, event)));
                    next.push((ways.len() - 1, after));
                }
            }
        }
        explored.states = seen.len();
        assert!(explored.states <= most, "more than {most} states");
        frontier = next;
    }
    explored
}

fn way_to<E: Clone>(ways: &[Option<(usize, E)>], mut node: usize) -> Vec<E> {
    let mut events = Vec::new();
    while let Some((parent, event)) = &ways[node] {
        events.push(event.clone());
        node = *parent;
    }
    events.reverse();
    events
}
