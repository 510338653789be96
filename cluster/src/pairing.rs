//! At most one link per pair of nodes, though both may dial at the same time and notice a break at different times.
//! A pure machine, one per peer.
//!
//! The node with the lower id *decides* about every connection between the two, whoever dialled it, and numbers those
//! it makes the link. The other *follows*. As one node sees all connections of the pair, none is decided twice. A
//! connection that the decider meets while it has a link is a second one that was dialled in ignorance of the first,
//! and refused, unless its peer knows the present link and says that it is down: then the decider has yet to notice.

use millstream_runtime::ids::NodeProcess;

use crate::wire::hello::KnownLink;

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is the link of this number now; an older one is to be closed.
    Link(u64),
    /// There is a link already.
    Second,
    /// A newer process of that node has been here.
    OldProcess,
}

/// What this node knows of its links with one peer node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pairing {
    /// The newest process of the peer that was seen.
    peer: Option<NodeProcess>,
    /// Number of the newest link with that process.
    last: u64,
    up: bool,
}

impl Pairing {
    /// For a greeting of the peer.
    pub(crate) fn known(&self) -> Option<KnownLink> {
        self.peer.clone().map(|with| KnownLink { with, number: self.last, up: self.up })
    }

    /// Whether there is a link.
    pub(crate) fn is_up(&self) -> bool {
        self.up
    }

    /// Decides about a connection with this process, which said what it knows of links with this one.
    pub(crate) fn decide(&mut self, own: &NodeProcess, peer: &NodeProcess, theirs: Option<&KnownLink>) -> Verdict {
        if self.is_old(peer) {
            return Verdict::OldProcess;
        }
        let same_process = self.peer.as_ref() == Some(peer);
        let lost_there = theirs.is_some_and(|known| known.with == *own && known.number == self.last && !known.up);
        if same_process && self.up && !lost_there {
            return Verdict::Second;
        }
        self.peer = Some(peer.clone());
        self.last += 1;
        self.up = true;
        Verdict::Link(self.last)
    }

    /// Follows the peer's decision that a connection is link `number`.
    pub(crate) fn follow(&mut self, peer: &NodeProcess, number: u64) -> Verdict {
        if self.is_old(peer) {
            return Verdict::OldProcess;
        }
        if self.peer.as_ref() == Some(peer) && number <= self.last {
            return Verdict::Second;
        }
        self.peer = Some(peer.clone());
        self.last = number;
        self.up = true;
        Verdict::Link(number)
    }

    /// A link is down; false when a newer one has taken its place.
    pub(crate) fn lost(&mut self, peer: &NodeProcess, number: u64) -> bool {
        let current = self.up && self.last == number && self.peer.as_ref() == Some(peer);
        if current {
            self.up = false;
        }
        current
    }

    fn is_old(&self, peer: &NodeProcess) -> bool {
        self.peer.as_ref().is_some_and(|known| peer.incarnation < known.incarnation)
    }
}

#[cfg(test)]
#[path = "pairing_tests.rs"]
mod tests;
