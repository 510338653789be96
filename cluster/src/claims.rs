//! Brings streams that have arrived together with the receivers that wait for them, in whatever order they come.
//! Pure: `I` is what receives, `E` how a receiver at work is told that its channel is broken, `S` is a stream.

use std::collections::BTreeMap;

use millstream_runtime::ids::NodeProcess;
use millstream_runtime::ports::transport::ChannelId;

/// What became of a stream that arrived.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrival<I, E, S> {
    /// A receiver waits for it.
    Claimed(I, S),
    /// Nobody has asked for it yet; it is kept under this ticket.
    Waits(u64),
    /// It cannot be received; says why.
    Refused(S, &'static str),
    /// There was a stream of this channel already: all of them are refused, and the receiver fails.
    Doubled(Vec<S>, Option<E>),
}

struct Stream<S> {
    ticket: u64,
    from: NodeProcess,
    stream: S,
}

/// One receiver's claim on a channel.
struct Claim<I, E> {
    from: NodeProcess,
    end: E,
    /// Taken when its stream has come.
    inlet: Option<I>,
}

/// All channels into this node.
pub(crate) struct Claims<I, E, S> {
    claims: BTreeMap<ChannelId, Claim<I, E>>,
    streams: BTreeMap<ChannelId, Stream<S>>,
    next_ticket: u64,
}

impl<I, E, S> Default for Claims<I, E, S> {
    fn default() -> Self {
        Self { claims: BTreeMap::new(), streams: BTreeMap::new(), next_ticket: 0 }
    }
}

/// The same place of two attempts.
fn same_place(one: &ChannelId, other: &ChannelId) -> bool {
    (one.job, one.receiver, one.channel) == (other.job, other.receiver, other.channel)
}

impl<I, E: Clone, S> Claims<I, E, S> {
    /// A receiver waits for a channel. Answers the stream if it has come, and the streams that are stale now.
    ///
    /// # Panics
    /// When the channel is claimed already: the task manager deploys each subtask once an attempt.
    pub(crate) fn claim(
        &mut self,
        from: NodeProcess,
        channel: ChannelId,
        inlet: I,
        end: E,
    ) -> (Option<(I, S)>, Vec<S>) {
        let stale: Vec<ChannelId> = self
            .streams
            .keys()
            .filter(|other| same_place(other, &channel) && other.attempt < channel.attempt)
            .copied()
            .collect();
        let mut refused: Vec<S> =
            stale.iter().filter_map(|other| self.streams.remove(other)).map(|old| old.stream).collect();
        let mut claim = Claim { from, end, inlet: Some(inlet) };
        let mut matched = None;
        if let Some(arrived) = self.streams.remove(&channel) {
            if arrived.from == claim.from {
                matched = claim.inlet.take().map(|inlet| (inlet, arrived.stream));
            } else {
                refused.push(arrived.stream);
            }
        }
        assert!(self.claims.insert(channel, claim).is_none(), "{channel} is claimed twice");
        (matched, refused)
    }

    /// A stream has arrived.
    pub(crate) fn arrived(&mut self, from: NodeProcess, channel: ChannelId, stream: S) -> Arrival<I, E, S> {
        if let Some(claim) = self.claims.get_mut(&channel) {
            if claim.from != from {
                return Arrival::Refused(stream, "the receiver expects the channel from another process");
            }
            return match claim.inlet.take() {
                Some(inlet) => Arrival::Claimed(inlet, stream),
                None => Arrival::Doubled(vec![stream], Some(claim.end.clone())),
            };
        }
        if self.claims.keys().any(|claimed| same_place(claimed, &channel) && claimed.attempt > channel.attempt) {
            return Arrival::Refused(stream, "it belongs to an old attempt");
        }
        if let Some(first) = self.streams.remove(&channel) {
            return Arrival::Doubled(vec![first.stream, stream], None);
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.streams.insert(channel, Stream { ticket, from, stream });
        Arrival::Waits(ticket)
    }

    /// A stream has waited long enough, or its link is gone.
    pub(crate) fn expire(&mut self, channel: &ChannelId, ticket: u64) -> Option<S> {
        if self.streams.get(channel)?.ticket == ticket {
            self.streams.remove(channel).map(|kept| kept.stream)
        } else {
            None
        }
    }

    /// Takes the receiver of a claim that still waits for its stream; the claim itself stays.
    pub(crate) fn unmatched(&mut self, channel: &ChannelId) -> Option<I> {
        self.claims.get_mut(channel)?.inlet.take()
    }

    /// Claims that wait for a stream from an older process of the same node than this one.
    pub(crate) fn unmatched_older_than(&mut self, process: &NodeProcess) -> Vec<I> {
        let older = |from: &NodeProcess| from.node == process.node && from.incarnation < process.incarnation;
        self.claims.values_mut().filter(|claim| older(&claim.from)).filter_map(|claim| claim.inlet.take()).collect()
    }

    /// A receiver has given up its claim.
    pub(crate) fn withdraw(&mut self, channel: &ChannelId) {
        self.claims.remove(channel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_runtime::ids::{
        AttemptId, AttemptNumber, ChannelIndex, Epoch, JobId, NodeId, NodeIncarnation, SubtaskId, SubtaskIndex,
        VertexId,
    };

    fn channel(attempt: u32) -> ChannelId {
        let subtask = |name| SubtaskId { vertex: VertexId::from_name(name), index: SubtaskIndex(0) };
        ChannelId {
            job: JobId::from_name("job"),
            attempt: AttemptId { epoch: Epoch(1), attempt: AttemptNumber(attempt) },
            sender: subtask("map"),
            receiver: subtask("sum"),
            channel: ChannelIndex(2),
        }
    }

    fn node(name: &str, incarnation: u64) -> NodeProcess {
        NodeProcess { node: NodeId(name.to_owned()), incarnation: NodeIncarnation(incarnation) }
    }

    #[test]
    fn receiver_and_stream_find_each_other_in_either_order() {
        let mut claims = Claims::default();
        assert_eq!(claims.claim(node("a", 1), channel(1), "inlet", ()), (None, vec![]));
        assert_eq!(claims.arrived(node("a", 1), channel(1), 7), Arrival::Claimed("inlet", 7));

        let mut claims = Claims::default();
        assert_eq!(claims.arrived(node("a", 1), channel(1), 7), Arrival::Waits(0));
        assert_eq!(claims.claim(node("a", 1), channel(1), "inlet", ()), (Some(("inlet", 7)), vec![]));
        assert_eq!(claims.expire(&channel(1), 0), None, "claimed in time");
    }

    #[test]
    fn a_second_stream_of_an_attempt_is_noticed_before_and_after_the_claim() {
        let mut claims: Claims<&str, (), u32> = Claims::default();
        assert_eq!(claims.arrived(node("a", 1), channel(1), 7), Arrival::Waits(0));
        assert_eq!(claims.arrived(node("a", 1), channel(1), 8), Arrival::Doubled(vec![7, 8], None));
        claims.claim(node("a", 1), channel(1), "inlet", ());
        assert_eq!(claims.arrived(node("a", 1), channel(1), 9), Arrival::Claimed("inlet", 9));
        assert_eq!(claims.arrived(node("a", 1), channel(1), 10), Arrival::Doubled(vec![10], Some(())));
    }

    #[test]
    fn streams_of_old_attempts_and_other_processes_are_refused() {
        let mut claims = Claims::default();
        assert_eq!(claims.arrived(node("a", 1), channel(1), 7), Arrival::Waits(0));
        assert_eq!(claims.claim(node("a", 2), channel(2), "inlet", ()), (None, vec![7]), "stale since the claim");
        assert!(matches!(
            claims.arrived(node("a", 1), channel(1), 8),
            Arrival::Refused(8, "it belongs to an old attempt")
        ));
        assert!(matches!(claims.arrived(node("a", 1), channel(2), 9), Arrival::Refused(9, _)), "an old process");
        assert_eq!(claims.arrived(node("a", 2), channel(2), 10), Arrival::Claimed("inlet", 10));
    }

    #[test]
    fn a_stream_that_nobody_claims_expires_and_a_claim_can_be_given_up() {
        let mut claims = Claims::default();
        assert_eq!(claims.arrived(node("a", 1), channel(1), 7), Arrival::Waits(0));
        assert_eq!(claims.expire(&channel(1), 0), Some(7));
        assert_eq!(claims.arrived(node("a", 1), channel(1), 8), Arrival::Waits(1));
        assert_eq!(claims.expire(&channel(1), 0), None, "that was another stream");
        claims.claim(node("b", 1), channel(3), "inlet", ());
        assert_eq!(claims.unmatched_older_than(&node("b", 2)), ["inlet"]);
        claims.withdraw(&channel(3));
        assert_eq!(claims.unmatched(&channel(3)), None);
    }
}
