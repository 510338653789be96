//! How many subtasks the vertices of a job may have, and how many they get with so many slots. Set by users while the job
//! runs, recorded with it, and asked by the dispatcher whenever slots come and go.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::graph::{JobGraph, JobVertex, SlotSharingGroup};
use crate::ids::VertexId;

/// How many subtasks a vertex may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParallelismBounds {
    /// At least: the job does not run with fewer. 1 or more.
    pub lower: u32,
    /// At most: as many as the vertex gets when there are slots.
    pub upper: u32,
}

/// How many subtasks vertices have.
pub type Parallelism = BTreeMap<VertexId, u32>;

/// How many subtasks the vertices of a job may have. Of a recorded one, those that a user has set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Requirements(pub BTreeMap<VertexId, ParallelismBounds>);

/// Requirements that a job cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequirementsError {
    /// Of no vertex of the job.
    #[error("the job has no vertex {vertex}; its vertices are {known}")]
    Unknown {
        /// The vertex.
        vertex: VertexId,
        /// Those that there are.
        known: String,
    },
    /// A vertex is not named.
    #[error("the requirements of vertex {vertex} ({name}) are missing: give those of all vertices")]
    Missing {
        /// The vertex.
        vertex: VertexId,
        /// Its name.
        name: String,
    },
    /// No number lies within the bounds.
    #[error("vertex {vertex} cannot have {lower} to {upper} subtasks: 1 at least, and no more at least than at most")]
    Empty {
        /// The vertex.
        vertex: VertexId,
        /// At least.
        lower: u32,
        /// At most.
        upper: u32,
    },
    /// More than there can be.
    #[error("the parallelism {upper} of vertex {vertex} ({name}) exceeds its maximum parallelism {most}: {why}")]
    TooMany {
        /// The vertex.
        vertex: VertexId,
        /// Its name.
        name: String,
        /// At most, as asked for.
        upper: u32,
        /// At most, as can be.
        most: u32,
        /// What sets it.
        why: &'static str,
    },
}

impl ParallelismBounds {
    fn of(vertex: &JobVertex) -> Self {
        Self { lower: 1, upper: vertex.parallelism }
    }

    /// These, if a number lies within them.
    ///
    /// # Errors
    /// When none does.
    pub fn checked(self, vertex: VertexId) -> Result<Self, RequirementsError> {
        let Self { lower, upper } = self;
        if lower == 0 || upper < lower { Err(RequirementsError::Empty { vertex, lower, upper }) } else { Ok(self) }
    }
}

impl Requirements {
    /// What is required of a job: what a user has set, and of other vertices what the program says. Of what a user has set
    /// for a vertex that the job no longer has nothing is left.
    #[must_use]
    pub fn of(graph: &JobGraph, set: &Self) -> Self {
        let bounds = |vertex: &JobVertex| {
            let set = set.0.get(&vertex.id).copied();
            (vertex.id, set.unwrap_or_else(|| ParallelismBounds::of(vertex)))
        };
        Self(graph.vertices.iter().map(bounds).collect())
    }

    /// The same, and nothing less than the upper bounds: for jobs that wait for all their slots.
    #[must_use]
    pub fn whole(mut self) -> Self {
        self.0.values_mut().for_each(|bounds| bounds.lower = bounds.upper);
        self
    }

    /// As many as there can be, for jobs that take all slots that there are; vertices whose number the program sets keep that.
    #[must_use]
    pub fn limitless(graph: &JobGraph) -> Self {
        let bounds = |vertex: &JobVertex| {
            let upper = if vertex.sets_parallelism { vertex.parallelism } else { vertex.most_subtasks };
            (vertex.id, ParallelismBounds { lower: 1, upper })
        };
        Self(graph.vertices.iter().map(bounds).collect())
    }

    /// The job at another parallelism: vertices whose number the program sets keep their bounds, those that cannot have as
    /// many get as many as they can.
    ///
    /// # Errors
    /// When the parallelism is 0, or more than there are key groups.
    pub fn rescaled(&self, graph: &JobGraph, parallelism: u32) -> Result<Self, RequirementsError> {
        let mut rescaled = self.clone();
        for vertex in graph.vertices.iter().filter(|vertex| !vertex.sets_parallelism) {
            let upper = if vertex.most_subtasks < u32::from(vertex.max_parallelism) {
                parallelism.min(vertex.most_subtasks)
            } else {
                parallelism
            };
            rescaled.0.insert(vertex.id, ParallelismBounds { lower: 1, upper });
        }
        rescaled.checked(graph)
    }

    /// These, if a job can have them.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn checked(self, graph: &JobGraph) -> Result<Self, RequirementsError> {
        if let Some(vertex) = self.0.keys().find(|id| graph.vertices.iter().all(|vertex| vertex.id != **id)) {
            return Err(RequirementsError::Unknown { vertex: *vertex, known: graph.vertices_in_words() });
        }
        for vertex in &graph.vertices {
            let (id, name) = (vertex.id, vertex.name.clone());
            let Some(bounds) = self.0.get(&id) else {
                return Err(RequirementsError::Missing { vertex: id, name });
            };
            let ParallelismBounds { upper, .. } = bounds.checked(id)?;
            let why = if upper > u32::from(vertex.max_parallelism) {
                "that is the number of its key groups (pipeline.max-parallelism), which stays what it was when the job began"
            } else {
                "it has an operator that cannot work in parallel"
            };
            let most = vertex.most_subtasks;
            if upper > most {
                return Err(RequirementsError::TooMany { vertex: id, name, upper, most, why });
            }
        }
        Ok(self)
    }

    /// The slots with which the job has all that it wants.
    #[must_use]
    pub fn slots_wanted(&self, graph: &JobGraph) -> u32 {
        self.groups(graph).iter().map(|group| group.most).fold(0, u32::saturating_add)
    }

    /// The slots without which it does not run.
    #[must_use]
    pub fn slots_needed(&self, graph: &JobGraph) -> u32 {
        self.groups(graph).iter().map(|group| group.least).fold(0, u32::saturating_add)
    }

    /// How many subtasks each vertex gets with so many slots; `None` when they are too few for the lower bounds. What is left
    /// when every slot sharing group has what it needs is shared out to them alike, and a vertex gets as many subtasks as
    /// its group has slots, within its bounds.
    #[must_use]
    pub fn parallelism(&self, graph: &JobGraph, slots: u32) -> Option<Parallelism> {
        let mut groups = self.groups(graph);
        let least = groups.iter().map(|group| group.least).fold(0, u32::saturating_add);
        let mut rest = slots.checked_sub(least)?;
        groups.sort_by_key(|group| group.most - group.least);
        let mut left = u32::try_from(groups.len()).unwrap_or(u32::MAX);
        let mut slots_of: BTreeMap<&SlotSharingGroup, u32> = BTreeMap::new();
        for group in &groups {
            let more = (rest / left).min(group.most - group.least);
            slots_of.insert(group.name, group.least + more);
            (rest, left) = (rest - more, left - 1);
        }
        let of = |vertex: &JobVertex| {
            let ParallelismBounds { lower, upper } = self.bounds(vertex);
            (vertex.id, slots_of[&vertex.slot_sharing_group].clamp(lower, upper))
        };
        Some(graph.vertices.iter().map(of).collect())
    }

    /// All that the job wants.
    #[must_use]
    pub fn upper(&self) -> Parallelism {
        self.0.iter().map(|(vertex, bounds)| (*vertex, bounds.upper)).collect()
    }

    fn bounds(&self, vertex: &JobVertex) -> ParallelismBounds {
        self.0.get(&vertex.id).copied().unwrap_or_else(|| ParallelismBounds::of(vertex))
    }

    fn groups<'a>(&self, graph: &'a JobGraph) -> Vec<Group<'a>> {
        let of = |(name, vertices): (&'a SlotSharingGroup, Vec<&JobVertex>)| {
            let bounds = vertices.into_iter().map(|vertex| self.bounds(vertex));
            bounds.fold(Group { name, least: 0, most: 0 }, |group, bounds| Group {
                name,
                least: group.least.max(bounds.lower),
                most: group.most.max(bounds.upper),
            })
        };
        graph.slot_sharing_groups().into_iter().map(of).collect()
    }
}

/// The slots that a job takes with so many subtasks of its vertices.
#[must_use]
pub fn slots_of(graph: &JobGraph, parallelism: &Parallelism) -> u32 {
    let subtasks = |vertex: &&JobVertex| parallelism.get(&vertex.id).copied().unwrap_or(vertex.parallelism);
    let groups = graph.slot_sharing_groups().into_values();
    groups.map(|group| group.iter().map(subtasks).max().unwrap_or(0)).fold(0, u32::saturating_add)
}

/// The slots of a slot sharing group, at least and at most.
struct Group<'a> {
    name: &'a SlotSharingGroup,
    least: u32,
    most: u32,
}

#[cfg(test)]
#[path = "requirements_tests.rs"]
mod tests;
