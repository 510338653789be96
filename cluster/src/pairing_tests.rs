//! Two nodes that dial each other, in every order of greetings, decisions, breaks and their discovery: in the end both
//! have the same link or none, and no healthy link is ever given up.

use std::collections::BTreeSet;

use super::*;
use millstream_runtime::ids::{NodeId, NodeIncarnation};

/// Node 0 has the lower id.
const DECIDER: usize = 0;

fn process(node: usize) -> NodeProcess {
    NodeProcess { node: NodeId(["a", "b"][node].to_owned()), incarnation: NodeIncarnation(1) }
}

/// What is on its way on a connection.
#[derive(Clone, Debug)]
enum Message {
    /// From the dialler.
    Hello(Option<KnownLink>),
    /// From a follower that was dialled.
    Answer(Option<KnownLink>),
    /// From the decider.
    Decision(Option<u64>),
}

#[derive(Clone, Debug)]
struct Connection {
    dialler: usize,
    broken: bool,
    message: Option<Message>,
    /// Number of the link that it is, as each node knows.
    link: [Option<u64>; 2],
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Dial(usize),
    Deliver(usize),
    Break(usize),
    /// A node notices that a connection is broken.
    Notice(usize, usize),
}

#[derive(Clone, Debug)]
struct World {
    nodes: [Pairing; 2],
    connections: Vec<Connection>,
    dials_left: [u32; 2],
    breaks_left: u32,
    has_broken: bool,
}

impl World {
    fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        for node in 0..2 {
            if self.dials_left[node] > 0 && !self.nodes[node].is_up() {
                events.push(Event::Dial(node));
            }
        }
        for (index, connection) in self.connections.iter().enumerate() {
            if connection.message.is_some() && !connection.broken {
                events.push(Event::Deliver(index));
            }
            if self.breaks_left > 0 && !connection.broken {
                events.push(Event::Break(index));
            }
            for node in 0..2 {
                if connection.broken && connection.link[node].is_some() {
                    events.push(Event::Notice(index, node));
                }
            }
        }
        events
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Dial(dialler) => {
                self.dials_left[dialler] -= 1;
                let message = Some(Message::Hello(self.nodes[dialler].known()));
                self.connections.push(Connection { dialler, broken: false, message, link: [None; 2] });
            }
            Event::Deliver(index) => self.deliver(index),
            Event::Break(index) => {
                self.breaks_left -= 1;
                self.has_broken = true;
                self.connections[index].broken = true;
            }
            Event::Notice(index, node) => {
                let number = self.connections[index].link[node].take().expect("it was a link");
                self.nodes[node].lost(&process(1 - node), number);
            }
        }
    }

    fn deliver(&mut self, index: usize) {
        let message = self.connections[index].message.take().expect("something is on its way");
        let dialled = 1 - self.connections[index].dialler;
        let follower = 1 - DECIDER;
        match message {
            Message::Hello(known) if dialled == DECIDER => self.decide(index, known.as_ref()),
            Message::Hello(_) => self.connections[index].message = Some(Message::Answer(self.nodes[follower].known())),
            Message::Answer(known) => self.decide(index, known.as_ref()),
            Message::Decision(Some(number)) => match self.nodes[follower].follow(&process(DECIDER), number) {
                Verdict::Link(number) => self.adopt(index, follower, number),
                Verdict::Second | Verdict::OldProcess => self.connections[index].broken = true,
            },
            Message::Decision(None) => self.connections[index].broken = true,
        }
    }

    fn decide(&mut self, index: usize, known: Option<&KnownLink>) {
        let healthy =
            self.connections.iter().any(|connection| !connection.broken && connection.link[DECIDER].is_some());
        match self.nodes[DECIDER].decide(&process(DECIDER), &process(1 - DECIDER), known) {
            Verdict::Link(number) => {
                assert!(!healthy, "a healthy link was given up: {self:?}");
                self.adopt(index, DECIDER, number);
                self.connections[index].message = Some(Message::Decision(Some(number)));
            }
            Verdict::Second => self.connections[index].message = Some(Message::Decision(None)),
            Verdict::OldProcess => unreachable!("no process is restarted here"),
        }
    }

    /// The connection is the link of `node` now, which closes the one before.
    fn adopt(&mut self, index: usize, node: usize, number: u64) {
        for connection in &mut self.connections {
            if connection.link[node].take().is_some() {
                connection.broken = true;
            }
        }
        self.connections[index].link[node] = Some(number);
    }

    fn check_end(&self) {
        let links: Vec<&Connection> =
            self.connections.iter().filter(|connection| connection.link != [None, None]).collect();
        let agreed = links.iter().all(|connection| !connection.broken && connection.link[0] == connection.link[1]);
        assert!(links.len() <= 1 && agreed, "{self:?}");
        assert_eq!(self.nodes[0].is_up(), self.nodes[1].is_up(), "{self:?}");
        if !self.has_broken {
            assert!(self.nodes[0].is_up(), "nothing broke, and there is no link: {self:?}");
        }
    }
}

fn explore(dials: [u32; 2], breaks_left: u32) -> usize {
    let start =
        World { nodes: Default::default(), connections: vec![], dials_left: dials, breaks_left, has_broken: false };
    let mut seen = BTreeSet::from([format!("{start:?}")]);
    let mut frontier = vec![start];
    let mut ends = 0;
    while let Some(world) = frontier.pop() {
        let events = world.events();
        // A break need not happen: what follows without one has to be right too.
        if events.iter().all(|event| matches!(event, Event::Break(_))) {
            world.check_end();
            ends += 1;
        }
        for event in events {
            let mut after = world.clone();
            after.apply(event);
            if seen.insert(format!("{after:?}")) {
                frontier.push(after);
            }
        }
    }
    ends
}

#[test]
fn in_every_order_of_dials_and_breaks_both_nodes_end_with_the_same_link() {
    assert!(explore([1, 1], 0) >= 2);
    assert!(explore([2, 2], 1) > 10);
    assert!(explore([2, 2], 2) > 100);
}

#[test]
fn a_restarted_process_replaces_the_link_of_the_one_before_and_an_old_one_is_refused() {
    let restarted = NodeProcess { incarnation: NodeIncarnation(2), ..process(1) };
    let mut decider = Pairing::default();
    assert_eq!(decider.decide(&process(0), &process(1), None), Verdict::Link(1));
    assert_eq!(decider.decide(&process(0), &restarted, None), Verdict::Link(2), "though the old link seems up");
    assert!(!decider.lost(&process(1), 1), "replaced already");
    assert_eq!(decider.decide(&process(0), &process(1), None), Verdict::OldProcess);

    let mut follower = Pairing::default();
    assert_eq!(follower.follow(&process(0), 7), Verdict::Link(7));
    let restarted = NodeProcess { incarnation: NodeIncarnation(2), ..process(0) };
    assert_eq!(follower.follow(&restarted, 1), Verdict::Link(1), "a new process counts anew");
    assert_eq!(follower.follow(&process(0), 8), Verdict::OldProcess);
}
