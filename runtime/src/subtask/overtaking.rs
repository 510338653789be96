//! Barriers that overtake rows (FLIP-76): which one has waited long enough, and, once its cut is taken, of which channels
//! rows are still to be recorded because their own barrier has not come.

use crate::element::{Barrier, Overtaking};
use crate::ids::{ChannelIndex, CheckpointId};

/// A time-out that the subtask is to be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedTimeout {
    /// The checkpoint whose first barrier is here.
    pub checkpoint: CheckpointId,
    /// Milliseconds from now.
    pub after_ms: u64,
}

/// A cut that overtook rows and is not complete yet.
#[derive(Clone, Debug)]
struct Recording {
    checkpoint: CheckpointId,
    /// By channel: its barrier is still to come, and what comes before it is in flight.
    missing: Vec<bool>,
    /// A newer barrier came in the place of a missing one: the record will never be whole.
    lost: bool,
}

/// The barriers of one subtask that may overtake, or have.
#[derive(Clone, Debug)]
pub struct Overtakers {
    /// By channel: whether its rows may be overtaken. Where rows cannot be dealt out again, they may not.
    allowed: Vec<bool>,
    /// The newest barrier that has come and may overtake.
    newest: Option<Barrier>,
    wanted: Option<WantedTimeout>,
    /// It has waited too long, here or before.
    overdue: Option<Barrier>,
    recording: Option<Recording>,
}

impl Overtakers {
    /// None yet.
    #[must_use]
    pub fn new(allowed: Vec<bool>) -> Self {
        Self { allowed, newest: None, wanted: None, overdue: None, recording: None }
    }

    /// Whether rows of this channel may be overtaken.
    #[must_use]
    pub fn is_allowed(&self, channel: ChannelIndex) -> bool {
        self.allowed[channel.0 as usize]
    }

    /// A barrier has come, perhaps behind rows that wait.
    pub fn came(&mut self, channel: ChannelIndex, barrier: Barrier) {
        let is_newest = self.newest.is_none_or(|newest| barrier.checkpoint > newest.checkpoint);
        match barrier.overtaking {
            Overtaking::Never => {}
            Overtaking::After { timeout_ms } => {
                if is_newest {
                    self.newest = Some(barrier);
                    self.wanted = Some(WantedTimeout { checkpoint: barrier.checkpoint, after_ms: timeout_ms });
                }
            }
            Overtaking::Now => {
                if is_newest {
                    self.newest = Some(barrier);
                }
                if self.overdue.is_none_or(|overdue| barrier.checkpoint > overdue.checkpoint) {
                    self.overdue = Some(barrier);
                }
            }
        }
        self.record_ends(channel, barrier.checkpoint);
    }

    fn record_ends(&mut self, channel: ChannelIndex, checkpoint: CheckpointId) {
        let Some(recording) = &mut self.recording else { return };
        let missing = &mut recording.missing[channel.0 as usize];
        if !*missing || checkpoint < recording.checkpoint {
            return;
        }
        *missing = false;
        recording.lost |= checkpoint > recording.checkpoint;
        if !recording.lost && !recording.missing.contains(&true) {
            self.recording = None;
        }
    }

    /// A checkpoint whose record will never be whole, once.
    pub fn take_lost(&mut self) -> Option<CheckpointId> {
        self.recording.take_if(|recording| recording.lost).map(|recording| recording.checkpoint)
    }

    /// The barrier as it goes on to the next subtasks, when all of its barriers came in order.
    pub fn aligned(&mut self, barrier: Barrier) -> Barrier {
        // Where it is overdue here, the next subtasks need not wait once more.
        self.overdue.take_if(|overdue| overdue.checkpoint == barrier.checkpoint).unwrap_or(barrier)
    }

    /// The time-out to be told of, once.
    pub fn take_wanted(&mut self) -> Option<WantedTimeout> {
        self.wanted.take()
    }

    /// The time-out of a checkpoint has passed.
    pub fn time_out(&mut self, checkpoint: CheckpointId) {
        let waiting = self.newest.filter(|newest| newest.checkpoint == checkpoint);
        if let Some(barrier) = waiting {
            self.overdue = Some(Barrier { overtaking: Overtaking::Now, ..barrier });
        }
    }

    /// The barrier that has waited long enough. One after the other: while rows are recorded for one, another waits.
    #[must_use]
    pub fn overdue(&self) -> Option<Barrier> {
        self.overdue.filter(|_| self.recording.is_none())
    }

    /// The overdue barrier was taken, or need not be.
    pub fn settled(&mut self) {
        self.overdue = None;
    }

    /// A cut was taken; of these channels rows are still to be recorded.
    pub fn record(&mut self, checkpoint: CheckpointId, missing: Vec<bool>) {
        debug_assert!(self.recording.is_none(), "one after the other");
        self.recording = missing.contains(&true).then_some(Recording { checkpoint, missing, lost: false });
    }

    /// Whether rows that come on this channel now are in flight for a cut taken before.
    #[must_use]
    pub fn is_recording(&self, channel: ChannelIndex) -> bool {
        self.recording.as_ref().is_some_and(|recording| recording.missing[channel.0 as usize])
    }

    /// The checkpoint for which rows are still to be recorded.
    #[must_use]
    pub fn recording(&self) -> Option<CheckpointId> {
        self.recording.as_ref().map(|recording| recording.checkpoint)
    }

    /// The checkpoint will not complete.
    pub fn abort(&mut self, checkpoint: CheckpointId) {
        if self.recording() == Some(checkpoint) {
            self.recording = None;
        }
        if self.overdue.is_some_and(|overdue| overdue.checkpoint == checkpoint) {
            self.overdue = None;
        }
    }
}
