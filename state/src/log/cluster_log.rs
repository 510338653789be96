//! The log of the cluster: who leads, which jobs there are, how they ended. Won by a candidate, owned by the leader, and
//! all that a cluster needs to go on after every process of it was lost.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_runtime::ids::{Epoch, JobId, NodeId};
use millstream_runtime::job::{Parallelism, Requirements};
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::store::BlobStore;
use serde::{Deserialize, Serialize};

use super::job_log::JobLog;
use super::record::{Digest, LogPosition, LogRecord, TerminalState, WriterNonce};
use super::slots::{AppendOutcome, Replayed, SlotLog, replay};
use crate::failpoint::Failpoints;
use crate::frame::FrameKind;
use crate::names;

/// A leader, as others find it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leader {
    /// The node.
    pub node: NodeId,
    /// Where its REST server answers, as a URL.
    pub rest: String,
}

/// Everything that a job is made from again: job functions see only this, never the files or the environment of a node.
/// Secrets are no part of it; each node has its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Digest of the executable that holds the job's functions; zeros for a job that only one process has.
    pub artefact: Digest,
    /// Name under which the executable knows the job.
    pub name: String,
    /// The job's own options, in order.
    pub parameters: Vec<(String, Option<String>)>,
    /// The configuration it was submitted with, defaults resolved.
    pub configuration: BTreeMap<String, String>,
    /// When it was submitted, milliseconds since the epoch, for users.
    pub submitted_ms: i64,
    /// How many subtasks vertices may have, where a user has set it.
    #[serde(default)]
    pub requirements: Requirements,
    /// How many subtasks vertices have where the job runs, if not as many as the program says. A cluster's log has none: the
    /// slots decide.
    #[serde(default)]
    pub parallelism: Parallelism,
}

/// What is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClusterRecord {
    /// The writer leads from here on.
    Led(Leader),
    /// A job was accepted: it runs until it has ended, whoever leads.
    Submitted {
        /// The job.
        job: JobId,
        /// What it is made from.
        record: Box<JobRecord>,
    },
    /// A job may have another parallelism: it is made from this from here on.
    Rescaled {
        /// The job.
        job: JobId,
        /// What it is made from.
        record: Box<JobRecord>,
    },
    /// A job is over and is never run again.
    Ended {
        /// The job.
        job: JobId,
        /// How it ended.
        state: TerminalState,
    },
    /// A job that is over need not be remembered any longer.
    Forgotten {
        /// The job.
        job: JobId,
    },
}

/// A job of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownJob {
    /// What it is made from.
    pub record: JobRecord,
    /// How it ended, if it has.
    pub ended: Option<TerminalState>,
}

/// What all slots up to a place say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterState {
    /// The newest slot; `None` while the log is empty.
    pub position: Option<LogPosition>,
    /// The greatest epoch in it.
    pub epoch: Epoch,
    /// The newest leader.
    pub leader: Option<Leader>,
    /// Jobs that are not forgotten.
    pub jobs: BTreeMap<JobId, KnownJob>,
}

impl ClusterState {
    /// Jobs that are not over.
    pub fn running(&self) -> impl Iterator<Item = (JobId, &JobRecord)> {
        self.jobs.iter().filter(|(_, known)| known.ended.is_none()).map(|(job, known)| (*job, &known.record))
    }
}

impl Replayed for ClusterState {
    type Kind = ClusterRecord;
    const RECORD: FrameKind = FrameKind { magic: *b"MSCLULOG", version: 1, what: "record of the cluster's log" };
    const HINT: FrameKind =
        FrameKind { magic: *b"MSCLUHNT", version: 1, what: "hint at the newest slot of the cluster's log" };

    fn position(&self) -> Option<LogPosition> {
        self.position
    }

    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn apply(&mut self, position: LogPosition, record: &LogRecord<ClusterRecord>) {
        self.position = Some(position);
        self.epoch = self.epoch.max(record.epoch);
        match &record.kind {
            ClusterRecord::Led(leader) => self.leader = Some(leader.clone()),
            ClusterRecord::Submitted { job, record } => {
                // The same job once more, by a client that had no answer, changes nothing.
                self.jobs.entry(*job).or_insert_with(|| KnownJob { record: (**record).clone(), ended: None });
            }
            ClusterRecord::Rescaled { job, record } => {
                if let Some(known) = self.jobs.get_mut(job) {
                    known.record = (**record).clone();
                }
            }
            ClusterRecord::Ended { job, state } => {
                if let Some(known) = self.jobs.get_mut(job) {
                    known.ended.get_or_insert_with(|| state.clone());
                }
            }
            ClusterRecord::Forgotten { job } => {
                self.jobs.remove(job);
            }
        }
    }
}

/// The log of the cluster in the hands of one candidate or leader.
pub type ClusterLog = SlotLog<ClusterState>;

impl ClusterLog {
    /// Reads the log as a candidate for the next epoch. Writes nothing: [`lead`](Self::lead) before acting on it.
    ///
    /// # Errors
    /// When the store cannot answer, or a slot is damaged.
    pub fn open(blobs: Arc<dyn BlobStore>, nonce: WriterNonce, failpoints: Failpoints) -> Result<Self, PortError> {
        let state: ClusterState = replay(blobs.as_ref(), names::CLUSTER_LOG, true)?;
        let epoch = Epoch(state.epoch.0 + 1);
        Ok(Self::go_on((blobs, names::CLUSTER_LOG.to_string()), state, epoch, nonce, failpoints))
    }

    /// Tries to win the lead: the next slot with the next epoch. `Deposed` means that another candidate was quicker; it
    /// may have died since, so wait for its beacon like for any other.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn lead(&mut self, leader: &Leader) -> Result<AppendOutcome, PortError> {
        self.seal_with(&ClusterRecord::Led(leader.clone()))
    }

    /// Whether nobody has taken over, as far as the store shows now. For an idle leader, which would learn it with its
    /// next record otherwise; a busy one needs it not.
    ///
    /// # Errors
    /// When the store cannot answer.
    pub fn still_leads(&mut self) -> Result<bool, PortError> {
        let epoch = self.epoch();
        Ok(self.catch_up()?.epoch <= epoch)
    }
}

/// What the log of the cluster says, for whoever does not lead.
///
/// # Errors
/// When the store cannot answer, or a slot is damaged.
pub fn recover_cluster(blobs: &dyn BlobStore) -> Result<ClusterState, PortError> {
    replay(blobs, names::CLUSTER_LOG, true)
}

/// A job that a new leader goes on with: its log is sealed, so no older leader can write to it.
pub struct TakenJob {
    /// The job.
    pub job: JobId,
    /// What it is made from.
    pub record: JobRecord,
    /// Its log.
    pub log: JobLog,
}

/// What became of taking over the jobs.
pub enum Takeover {
    /// The jobs to go on with. Those whose own log says that they are over are recorded so in the log of the cluster.
    Taken(Vec<TakenJob>),
    /// A newer leader is there already.
    Deposed,
}

/// Seals the log of every job that is not over, before anything is done for it. Called by a candidate that has won the
/// lead; may be called again after an error.
///
/// # Errors
/// When the store cannot answer, or does not say what became of a write.
pub fn take_over(
    cluster: &mut ClusterLog,
    blobs: &Arc<dyn BlobStore>,
    nonce: WriterNonce,
    failpoints: &Failpoints,
) -> Result<Takeover, PortError> {
    let running: Vec<(JobId, JobRecord)> =
        cluster.state().running().map(|(job, record)| (job, record.clone())).collect();
    let mut taken = Vec::new();
    for (job, record) in running {
        let mut log = JobLog::open(Arc::clone(blobs), job, cluster.epoch(), nonce, failpoints.clone())?;
        match log.seal()? {
            AppendOutcome::Written(_) => {}
            AppendOutcome::Deposed { .. } => return Ok(Takeover::Deposed),
            AppendOutcome::Undecided { reason } => return Err(PortError::retry(reason)),
        }
        let Some(state) = log.state().terminal.clone() else {
            taken.push(TakenJob { job, record, log });
            continue;
        };
        // The leader before recorded the end of the job, and was lost before it could tell the cluster.
        match cluster.append(ClusterRecord::Ended { job, state })? {
            AppendOutcome::Written(_) => {}
            AppendOutcome::Deposed { .. } => return Ok(Takeover::Deposed),
            AppendOutcome::Undecided { reason } => return Err(PortError::retry(reason)),
        }
    }
    Ok(Takeover::Taken(taken))
}
