//! What a running job is to be at another parallelism.

use std::collections::BTreeMap;
use std::fmt;

use millstream_runtime::ids::VertexId;
use millstream_runtime::job::ParallelismBounds;

/// Another parallelism of a running job: of all vertices, of some, or of all but some.
///
/// ```
/// use millstream::client::Rescaling;
///
/// # fn main() -> Result<(), String> {
/// let source = "0123456789abcdef0123456789abcdef".parse()?;
/// let rescaling = Rescaling::to(4).vertex(source, 1, 2);
/// assert_eq!(rescaling.to_string(), "parallelism 4, 0123456789abcdef0123456789abcdef 1 to 2");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rescaling {
    pub(super) parallelism: Option<u32>,
    pub(super) vertices: BTreeMap<VertexId, ParallelismBounds>,
}

impl Rescaling {
    /// So many subtasks of each vertex of which the program does not set the number.
    #[must_use]
    pub fn to(parallelism: u32) -> Self {
        Self { parallelism: Some(parallelism), vertices: BTreeMap::new() }
    }

    /// Every vertex keeps its number, but for those that follow.
    #[must_use]
    pub fn of_vertices() -> Self {
        Self::default()
    }

    /// A vertex has at least and at most so many subtasks: the job does not run with fewer, and has fewer than the most only
    /// while there are too few slots.
    #[must_use]
    pub fn vertex(mut self, vertex: VertexId, lower: u32, upper: u32) -> Self {
        self.vertices.insert(vertex, ParallelismBounds { lower, upper });
        self
    }
}

impl From<u32> for Rescaling {
    fn from(parallelism: u32) -> Self {
        Self::to(parallelism)
    }
}

impl fmt::Display for Rescaling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let vertex = |(vertex, ParallelismBounds { lower, upper }): (&VertexId, &ParallelismBounds)| {
            format!("{vertex} {lower} to {upper}")
        };
        let all = self.parallelism.map(|parallelism| format!("parallelism {parallelism}"));
        let parts: Vec<String> = all.into_iter().chain(self.vertices.iter().map(vertex)).collect();
        f.write_str(&parts.join(", "))
    }
}
