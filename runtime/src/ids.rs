//! Identities as newtypes, so that a checkpoint number never ends up where an attempt belongs.
//! Used by every layer; the text forms are Flink's (32 hex digits for jobs and vertices).

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// Number of a checkpoint or savepoint within a job; never reused.
    CheckpointId(u64)
);
number!(
    /// Term of a leader; grows with every takeover and every new process over the same job.
    Epoch(u64)
);
number!(
    /// Number of a deployment of a region within an epoch, from 0. All regions of a job draw from one counter, so that a
    /// number names one deployment of one region, and a later one of the same subtasks has a greater.
    AttemptNumber(u32)
);
number!(
    /// Position of a pipelined region among those of its graph, from 0.
    RegionId(u32)
);
number!(
    /// Which process of a node: greater than that of every process before it over the same folder.
    NodeIncarnation(u64)
);
number!(
    /// Position of a subtask within its vertex, from 0.
    SubtaskIndex(u32)
);
number!(
    /// Position of an input channel within a subtask, from 0.
    ChannelIndex(u32)
);
number!(
    /// Number of a cut in the segment chain of one subtask, from 1; grows within an attempt.
    CutNumber(u64)
);

/// Sixteen bytes shown as 32 hex digits.
macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// The id that a text stands for: the same text gives the same id on every platform.
            #[must_use]
            pub fn from_name(name: &str) -> Self {
                Self(xxh3_128(name.as_bytes()).to_be_bytes())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let malformed = || format!("'{text}' is not an id of 32 hex digits");
                if text.len() != 32 || !text.is_ascii() {
                    return Err(malformed());
                }
                let mut bytes = [0u8; 16];
                for (index, byte) in bytes.iter_mut().enumerate() {
                    *byte = u8::from_str_radix(&text[index * 2..index * 2 + 2], 16).map_err(|_| malformed())?;
                }
                Ok(Self(bytes))
            }
        }
    };
}

hex_id!(
    /// Identity of a job.
    JobId
);
hex_id!(
    /// Identity of a job vertex: a chain of operators that is deployed together.
    VertexId
);
hex_id!(
    /// Identity of a slot sharing group in REST: vertices of one group share slots.
    SlotSharingGroupId
);

/// The name that ties an operator to its state across programs and versions (Flink's `uid`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OperatorUid(pub String);

impl fmt::Display for OperatorUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A process of the cluster, by the name in its configuration or the id of its folder: it stays over restarts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub String);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One process of a node: what a restarted node is told apart by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeProcess {
    /// The node.
    pub node: NodeId,
    /// Which of its processes.
    pub incarnation: NodeIncarnation,
}

impl fmt::Display for NodeProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.node, self.incarnation)
    }
}

/// One parallel instance of a vertex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SubtaskId {
    /// The vertex.
    pub vertex: VertexId,
    /// Which of its instances.
    pub index: SubtaskIndex,
}

impl fmt::Display for SubtaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.vertex, self.index)
    }
}

/// Which deployment something belongs to; compared epoch first. Everything that can arrive late carries one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptId {
    /// Term of the leader that deployed it.
    pub epoch: Epoch,
    /// Deployment within the term.
    pub attempt: AttemptNumber,
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.attempt)
    }
}

/// The deployments of a job that are over, as one that begins sees them: those before it but for the regions that run
/// beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OlderAttempts {
    /// The deployment that begins.
    pub before: AttemptId,
    /// Those of other regions.
    pub beside: Arc<BTreeSet<AttemptId>>,
}

impl OlderAttempts {
    /// Everything before a deployment that runs alone.
    #[must_use]
    pub fn before(attempt: AttemptId) -> Self {
        Self { before: attempt, beside: Arc::default() }
    }

    /// Whether a deployment is over.
    #[must_use]
    pub fn contains(&self, attempt: AttemptId) -> bool {
        attempt < self.before && !self.beside.contains(&attempt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_ids_round_trip_and_refuse_other_text() {
        let id = JobId::from_name("fraud-detection");
        assert_eq!(id.to_string().parse::<JobId>(), Ok(id));
        assert!("xyz".parse::<JobId>().is_err());
        assert!("é".repeat(16).parse::<JobId>().is_err());
    }

    #[test]
    fn attempts_compare_epoch_first() {
        let at = |epoch, attempt| AttemptId { epoch: Epoch(epoch), attempt: AttemptNumber(attempt) };
        assert!(at(1, 9) < at(2, 0));
        assert!(at(2, 0) < at(2, 1));
    }
}
