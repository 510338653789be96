//! The failure detector of the first host, fed by its links and by what others report about theirs, as a job manager does.

use millstream_cluster::LinkEvent;
use millstream_runtime::ids::{NodeId, NodeProcess};
use millstream_runtime::membership::{Membership, Options, Verdict};

/// Feeds [`Membership`] with simulated time.
pub struct Watch {
    membership: Membership,
}

impl Default for Watch {
    fn default() -> Self {
        Self { membership: Membership::new(Options::default()) }
    }
}

impl Watch {
    /// A link of this host.
    pub fn link(&mut self, event: &LinkEvent) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        match event {
            LinkEvent::Up { peer, .. } => self.membership.link_up(peer, now_ms(), &mut verdicts),
            LinkEvent::Heartbeat { peer } | LinkEvent::Control { peer, .. } => {
                self.membership.heartbeat(peer, now_ms(), &mut verdicts);
            }
            LinkEvent::Down { peer, .. } => self.membership.link_down(peer, &mut verdicts),
        }
        verdicts
    }

    /// A host says how its link with another one is.
    pub fn reported(&mut self, reporter: &NodeProcess, other: &NodeId, up: bool) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        self.membership.reported(reporter, other, up, now_ms(), &mut verdicts);
        verdicts
    }

    /// Time has passed.
    pub fn tick(&mut self) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        if self.membership.next_tick_ms().is_some_and(|due_ms| due_ms <= now_ms()) {
            self.membership.tick(now_ms(), &mut verdicts);
        }
        verdicts
    }
}

fn now_ms() -> u64 {
    let elapsed = turmoil::sim_elapsed().unwrap_or_default();
    u64::try_from(elapsed.as_millis()).expect("runs are short")
}
