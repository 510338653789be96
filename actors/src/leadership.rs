//! Who leads a cluster, as one job manager sees it: it watches the beacon of the leader, tries to win the log when that
//! stands still, takes the jobs over, and steps down when a newer leader is there. Without a store that outlives the
//! nodes, the only job manager leads at once, over a log in memory.

use std::sync::Arc;
use std::time::Duration;

use millstream_runtime::ids::Epoch;
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::store::BlobStore;
use millstream_state::log::{
    AppendOutcome, Beacon, ClusterLog, Leader, Standby, Takeover, Watched, WriterNonce, rewrite_interval_ms, take_over,
};
use tokio::sync::{Notify, watch};

use crate::dispatcher::{self, DispatcherArguments, DispatcherHandle, Scheduling, Submissions};
use crate::launch::sealed::Term;
use crate::world::{Stopwatch, World, blocking};

/// What a job manager is just now.
#[derive(Clone, Default)]
pub enum Role {
    /// No leader is known.
    #[default]
    Unknown,
    /// Another job manager leads.
    Follows(Leader),
    /// This one leads.
    Leads(DispatcherHandle),
}

/// What a candidate is made of.
pub struct Candidate {
    /// How others find it.
    pub leader: Leader,
    /// Its process.
    pub nonce: WriterNonce,
    /// Where the log of the cluster lies.
    pub log: Arc<dyn BlobStore>,
    /// How long a leader may not be heard of, in milliseconds.
    pub lease_ms: u64,
    /// The world of its jobs: their logs lie in its checkpoint store.
    pub world: World,
    /// The clock that leases are measured on.
    pub stopwatch: Stopwatch,
    /// Makes submissions from records.
    pub submissions: Arc<dyn Submissions>,
    /// How jobs get along with slots.
    pub scheduling: Scheduling,
}

/// The lead.
struct Won {
    dispatcher: DispatcherHandle,
    epoch: Epoch,
    /// Told when a record of this leader was refused.
    deposed: Arc<Notify>,
}

/// What became of trying to lead.
enum Attempt {
    Won(Box<Won>),
    /// A newer leader is there, or was a moment ago: it gets a whole lease to be heard of.
    Lost {
        to: Epoch,
    },
}

impl Candidate {
    /// Watches and leads for as long as the process lives.
    pub async fn run(self, role: watch::Sender<Role>) {
        let mut standby = Standby::new(self.lease_ms, self.world.seed, self.now_ms());
        // The newest leader that had a whole lease to be heard of.
        let mut waited_for = Epoch::default();
        loop {
            waited_for = waited_for.max(self.until_the_lead_is_free(&mut standby, &role).await);
            match self.try_to_lead(waited_for).await {
                Ok(Attempt::Won(won)) => self.lead(*won, &role).await,
                Ok(Attempt::Lost { to }) => {
                    tracing::info!(epoch = %to, "another job manager was quicker to lead");
                    waited_for = to;
                }
                Err(error) => {
                    tracing::warn!("this job manager cannot lead: {error}");
                    tokio::time::sleep(self.rewrite_interval()).await;
                }
            }
            standby.lost(self.now_ms());
        }
    }

    async fn lead(&self, won: Won, role: &watch::Sender<Role>) {
        let Won { dispatcher, epoch, deposed } = won;
        tracing::info!(%epoch, "this job manager leads");
        role.send_replace(Role::Leads(dispatcher.clone()));
        self.show_signs_of_life(epoch, &deposed).await;
        tracing::warn!(%epoch, "a newer leader is there: stepping down");
        dispatcher.step_down();
        role.send_replace(Role::Unknown);
    }

    fn now_ms(&self) -> u64 {
        self.stopwatch.elapsed_ns() / 1_000_000
    }

    fn rewrite_interval(&self) -> Duration {
        Duration::from_millis(rewrite_interval_ms(self.lease_ms))
    }

    async fn beacon(&self) -> Result<Option<Beacon>, PortError> {
        let blobs = Arc::clone(&self.log);
        blocking(&*self.world.blocking, move || Beacon::read(&*blobs)).await?
    }

    /// Follows whoever leads, and answers whose beacon stood still.
    async fn until_the_lead_is_free(&self, standby: &mut Standby, role: &watch::Sender<Role>) -> Epoch {
        loop {
            match self.beacon().await {
                Ok(beacon) => {
                    match standby.observe(beacon.as_ref(), self.now_ms()) {
                        Watched::TryToLead => return beacon.map(|beacon| beacon.epoch).unwrap_or_default(),
                        Watched::Wait { .. } => {}
                    }
                    if let Some(beacon) = beacon {
                        follow(role, beacon.leader);
                    }
                }
                Err(error) => tracing::warn!("the beacon of the leader cannot be read: {error}"),
            }
            tokio::time::sleep(self.rewrite_interval() / 2).await;
        }
    }

    /// Wins the next slot of the cluster's log, then seals the logs of the jobs: nothing is done for them before.
    async fn try_to_lead(&self, waited_for: Epoch) -> Result<Attempt, PortError> {
        let (log, leader, nonce) = (Arc::clone(&self.log), self.leader.clone(), self.nonce);
        let (jobs, failpoints) = (Arc::clone(&self.world.blobs), self.world.failpoints.clone());
        let won = blocking(&*self.world.blocking, move || {
            let mut cluster = ClusterLog::open(log, nonce, failpoints.clone())?;
            let newest = cluster.state().epoch;
            if newest > waited_for {
                // It leads since a moment ago, and has not shown a sign of life yet.
                return Ok(Err(newest));
            }
            match cluster.lead(&leader)? {
                AppendOutcome::Written(_) => {}
                AppendOutcome::Deposed { by } => return Ok(Err(by)),
                AppendOutcome::Undecided { reason } => return Err(PortError::retry(reason)),
            }
            match take_over(&mut cluster, &jobs, nonce, &failpoints)? {
                Takeover::Taken(taken) => Ok(Ok((cluster, taken))),
                Takeover::Deposed => Ok(Err(cluster.epoch())),
            }
        });
        let (log, taken) = match won.await?? {
            Ok(won) => won,
            Err(to) => return Ok(Attempt::Lost { to }),
        };
        let epoch = log.epoch();
        let deposed = Arc::new(Notify::new());
        let told = Arc::clone(&deposed);
        let arguments = DispatcherArguments {
            log,
            term: Term { epoch, nonce: self.nonce },
            taken,
            world: self.world.clone(),
            stopwatch: self.stopwatch,
            submissions: Arc::clone(&self.submissions),
            scheduling: self.scheduling,
            deposed: Arc::new(move || told.notify_one()),
        };
        Ok(Attempt::Won(Box::new(Won { dispatcher: dispatcher::start(arguments).await?, epoch, deposed })))
    }

    /// Shows signs of life until a newer leader is there: the dispatcher finds out by a record, and this by the beacon.
    async fn show_signs_of_life(&self, epoch: Epoch, deposed: &Notify) {
        let mut beacon = Beacon { epoch, writer: self.nonce, count: 0, leader: self.leader.clone() };
        loop {
            let blobs = Arc::clone(&self.log);
            let shown = blocking(&*self.world.blocking, move || {
                let shown = show(&mut beacon, &*blobs);
                (beacon, shown)
            });
            // Only a process that is shutting down runs nothing.
            let Ok((returned, shown)) = shown.await else { return };
            beacon = returned;
            match shown {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => tracing::warn!("no sign of life could be written: {error}"),
            }
            tokio::select! {
                biased;
                () = deposed.notified() => return,
                () = tokio::time::sleep(self.rewrite_interval()) => {}
            }
        }
    }
}

/// Shows the next sign of life; false when a newer leader is there. Having slept through a lease, a leader must not hide the
/// signs of life of the next one.
fn show(beacon: &mut Beacon, blobs: &dyn BlobStore) -> Result<bool, PortError> {
    let newest = Beacon::read(blobs)?.map(|newest| newest.epoch);
    if newest.is_some_and(|newest| newest > beacon.epoch) {
        return Ok(false);
    }
    beacon.write(blobs)?;
    Ok(true)
}

fn follow(role: &watch::Sender<Role>, leader: Leader) {
    role.send_if_modified(|role| {
        let known = matches!(role, Role::Follows(known) if *known == leader);
        if !known {
            *role = Role::Follows(leader);
        }
        !known
    });
}
