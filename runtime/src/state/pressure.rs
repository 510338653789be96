//! What a subtask does whose keyed state needs more memory than it may: it asks for a checkpoint, and from the cut of a
//! checkpoint on it takes in no more rows until the local store has that cut, so that entries can leave. It never stops
//! before its cut: the barrier may be behind the rows that wait.

use crate::ids::CheckpointId;

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relief {
    /// Nothing.
    None,
    /// A checkpoint is to be asked for.
    Ask,
}

/// The state of one subtask.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pressure {
    short: bool,
    asked: bool,
    /// The newest checkpoint whose cut is taken, while the local store may get it.
    under_way: Option<CheckpointId>,
}

impl Pressure {
    /// Whether memory was short when it was looked at last.
    pub fn look(&mut self, short: bool) -> Relief {
        self.short = short;
        if !short {
            self.asked = false;
        } else if self.under_way.is_none() && !self.asked {
            self.asked = true;
            return Relief::Ask;
        }
        Relief::None
    }

    /// The cut of a checkpoint is taken.
    pub fn cut(&mut self, checkpoint: CheckpointId) {
        self.under_way = Some(checkpoint);
        self.asked = false;
    }

    /// The local store has the cut, or will not get it with this checkpoint: it was aborted, or the fold has failed.
    pub fn ended(&mut self, checkpoint: CheckpointId) {
        if self.under_way.is_some_and(|under_way| under_way <= checkpoint) {
            self.under_way = None;
        }
    }

    /// Whether rows have to wait.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.short && self.under_way.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: CheckpointId = CheckpointId(1);
    const SECOND: CheckpointId = CheckpointId(2);

    #[test]
    fn it_asks_once_and_waits_from_the_cut_to_the_fold() {
        let mut pressure = Pressure::default();
        assert_eq!((pressure.look(false), pressure.holds()), (Relief::None, false));
        assert_eq!(pressure.look(true), Relief::Ask);
        assert_eq!(pressure.look(true), Relief::None, "once");
        assert!(!pressure.holds(), "the barrier may be behind what waits");
        pressure.cut(FIRST);
        assert!(pressure.holds());
        assert_eq!(pressure.look(true), Relief::None, "what helps is under way");
        pressure.look(false);
        assert!(!pressure.holds(), "others have made room");
        pressure.look(true);
        pressure.ended(FIRST);
        assert!(!pressure.holds());
        assert_eq!(pressure.look(true), Relief::Ask, "that was not enough");
    }

    #[test]
    fn whatever_happens_it_never_waits_for_what_will_not_come() {
        // Every order of events: it waits only while the newest cut has not ended.
        for orders in 0..7u32.pow(6) {
            let (mut pressure, mut newest, mut ended, mut short) = (Pressure::default(), None, None, false);
            for event in (0..6).map(|place| orders / 7u32.pow(place) % 7) {
                match event {
                    0 | 1 => {
                        short = event == 1;
                        let relief = pressure.look(short);
                        assert!(
                            relief == Relief::None || (short && newest <= ended),
                            "asks only when nothing is under way"
                        );
                    }
                    2 if newest < Some(FIRST) => {
                        newest = Some(FIRST);
                        pressure.cut(FIRST);
                    }
                    3 => {
                        newest = Some(SECOND);
                        pressure.cut(SECOND);
                        ended = ended.filter(|ended| *ended < SECOND);
                    }
                    4 => {
                        pressure.ended(FIRST);
                        ended = ended.max(newest.min(Some(FIRST)));
                    }
                    5 => {
                        pressure.ended(SECOND);
                        ended = ended.max(newest);
                    }
                    _ => {}
                }
                assert_eq!(pressure.holds(), short && newest > ended, "{orders}");
            }
        }
    }
}
