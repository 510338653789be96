//! How long the barriers of a checkpoint are on their way to a subtask, and from the first to the last of them.

use millstream_runtime::ids::CheckpointId;

/// The alignment under way, as the actor sees it after each step.
#[derive(Debug, Default)]
pub struct AlignmentTimes {
    /// Since the first barrier.
    current: Option<Aligning>,
}

#[derive(Debug)]
struct Aligning {
    checkpoint: CheckpointId,
    since_ns: u64,
    processed_bytes: u64,
}

/// What an alignment came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Aligned {
    /// From the first to the last barrier.
    pub duration_ns: u64,
    /// Bytes of the rows processed in between.
    pub processed_bytes: u64,
}

impl AlignmentTimes {
    /// A step was made that took in so many bytes; `aligning` is the checkpoint whose barriers have begun to come.
    pub fn stepped(&mut self, aligning: Option<CheckpointId>, bytes: u64, now_ns: u64) {
        let Some(checkpoint) = aligning else { return };
        match &mut self.current {
            Some(current) if current.checkpoint == checkpoint => current.processed_bytes += bytes,
            Some(_) | None => self.current = Some(Aligning { checkpoint, since_ns: now_ns, processed_bytes: 0 }),
        }
    }

    /// The last barrier is here.
    pub fn completed(&mut self, checkpoint: CheckpointId, now_ns: u64) -> Aligned {
        match self.current.take() {
            Some(current) if current.checkpoint == checkpoint => Aligned {
                duration_ns: now_ns.saturating_sub(current.since_ns),
                processed_bytes: current.processed_bytes,
            },
            // The only channel, or the last of several at the same moment.
            Some(_) | None => Aligned::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alignment_lasts_from_the_first_barrier_to_the_last_of_the_same_checkpoint() {
        let mut times = AlignmentTimes::default();
        times.stepped(None, 10, 100);
        assert_eq!(times.completed(CheckpointId(1), 150), Aligned::default(), "one channel");
        times.stepped(Some(CheckpointId(2)), 10, 200);
        times.stepped(Some(CheckpointId(2)), 30, 250);
        times.stepped(Some(CheckpointId(3)), 10, 300);
        times.stepped(Some(CheckpointId(3)), 7, 310);
        assert_eq!(times.completed(CheckpointId(3), 340), Aligned { duration_ns: 40, processed_bytes: 7 });
        times.stepped(Some(CheckpointId(4)), 0, 400);
        assert_eq!(times.completed(CheckpointId(5), 500), Aligned::default(), "4 was given up");
    }
}
