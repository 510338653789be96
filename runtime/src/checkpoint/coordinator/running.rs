//! The deployments that take part in checkpoints: those of the job's regions whose subtasks all run. Owned by the
//! coordinator.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{AttemptId, RegionId, SubtaskId};

/// A deployment of a region whose subtasks all run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionDeployment {
    /// The region.
    pub region: RegionId,
    /// The deployment.
    pub attempt: AttemptId,
    /// Its subtasks.
    pub subtasks: Vec<SubtaskId>,
}

/// The regions that run.
#[derive(Clone, Debug, Default)]
pub(super) struct Running {
    attempts: BTreeMap<RegionId, AttemptId>,
    subtasks: BTreeMap<SubtaskId, AttemptId>,
    /// Subtasks behind the end of their input.
    pub(super) ended: BTreeSet<SubtaskId>,
    /// Nothing more is triggered: the job was told to fail, or is stopped, or has its final checkpoint.
    pub(super) closed: bool,
}

impl Running {
    pub(super) fn start(&mut self, region: RegionDeployment) {
        let attempt = region.attempt;
        self.attempts.insert(region.region, attempt);
        self.subtasks.extend(region.subtasks.into_iter().map(|subtask| (subtask, attempt)));
    }

    /// Answers false if the deployment did not run.
    pub(super) fn end(&mut self, attempt: AttemptId) -> bool {
        let before = self.attempts.len();
        self.attempts.retain(|_, running| *running != attempt);
        let Self { subtasks, ended, .. } = self;
        ended.retain(|subtask| subtasks.get(subtask) != Some(&attempt));
        subtasks.retain(|_, of| *of != attempt);
        self.attempts.len() < before
    }

    pub(super) fn is_empty(&self) -> bool {
        self.attempts.is_empty()
    }

    /// Whether these are the regions that run.
    pub(super) fn are(&self, regions: &BTreeSet<RegionId>) -> bool {
        self.attempts.keys().eq(regions)
    }

    /// The deployment of a region that runs.
    pub(super) fn attempt(&self, region: RegionId) -> Option<AttemptId> {
        self.attempts.get(&region).copied()
    }

    /// The deployment that a subtask which runs belongs to.
    pub(super) fn attempt_of(&self, subtask: SubtaskId) -> Option<AttemptId> {
        self.subtasks.get(&subtask).copied()
    }

    pub(super) fn runs(&self, attempt: AttemptId) -> bool {
        self.attempts.values().any(|running| *running == attempt)
    }

    /// The deployments, oldest first.
    pub(super) fn attempts(&self) -> BTreeSet<AttemptId> {
        self.attempts.values().copied().collect()
    }

    pub(super) fn subtasks(&self) -> impl ExactSizeIterator<Item = &SubtaskId> {
        self.subtasks.keys()
    }

    /// Whether every subtask that runs is behind the end of its input.
    pub(super) fn is_at_end(&self) -> bool {
        self.ended.len() == self.subtasks.len()
    }
}
