//! What a program sets on one operator after it has been recorded: uid, name, parallelism, chaining.

use millstream_runtime::graph::{NodeId, SlotSharingGroup};

use super::Recorder;

/// A recorded operator without an output of its own, such as a sink.
pub struct Operator {
    recorder: Recorder,
    id: NodeId,
}

impl Operator {
    pub(super) fn new(recorder: Recorder, id: NodeId) -> Self {
        Self { recorder, id }
    }

    /// Ties the operator to its state over restarts and changes of the program. Unique in the job.
    pub fn uid(self, uid: impl Into<String>) -> Self {
        let uid = uid.into();
        self.recorder.change(self.id, |node| node.uid = Some(uid));
        self
    }

    /// Shown in plans, metrics and logs.
    pub fn name(self, name: impl Into<String>) -> Self {
        let name = name.into();
        self.recorder.change(self.id, |node| node.name = name);
        self
    }

    /// Number of subtasks, instead of the job's; at least 1.
    pub fn set_parallelism(self, parallelism: u32) -> Self {
        self.recorder.change(self.id, |node| node.parallelism = Some(parallelism.max(1)));
        self
    }

    /// One subtask and never more, whatever becomes of the parallelism of the job: the operator cannot share its work.
    pub fn force_non_parallel(self) -> Self {
        self.recorder.change(self.id, |node| (node.parallelism, node.most_subtasks) = (Some(1), Some(1)));
        self
    }

    /// Whose slots the operator shares; without it, those of its inputs if they all share the same, else those of the group
    /// `default`. Operators of different groups share no slot and no subtask: the job needs the slots of all groups together.
    pub fn slot_sharing_group(self, name: impl Into<String>) -> Self {
        let group = SlotSharingGroup(name.into());
        self.recorder.change(self.id, |node| node.slot_sharing_group = Some(group));
        self
    }

    /// The operator runs in a subtask of its own: not behind its input, and nothing behind it.
    pub fn disable_chaining(self) -> Self {
        self.recorder.disable_chaining(self.id);
        self
    }

    /// The operator is not chained to what is before it.
    pub fn start_new_chain(self) -> Self {
        self.recorder.change(self.id, |node| node.chaining = false);
        self
    }
}
