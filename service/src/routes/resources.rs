//! How many subtasks the vertices of a running job may have.

use std::collections::BTreeMap;

use axum::body::Bytes;
use serde::{Deserialize, Serialize};

use millstream_actors::dispatcher::Wanted;
use millstream_runtime::ids::VertexId;
use millstream_runtime::job::{ParallelismBounds, Requirements};

use super::App;
use crate::exchange::{Empty, Failure, Outcome, Parameters, ok, read};

/// By vertex, as Flink writes it.
type Body = BTreeMap<String, Requirement>;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Requirement {
    parallelism: Bounds,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Bounds {
    lower_bound: u32,
    upper_bound: u32,
}

pub(super) async fn requirements(app: App, parameters: Parameters) -> Outcome {
    let told = app.api.resource_requirements(parameters.job()?).await?;
    let requirement = |(vertex, bounds): (VertexId, ParallelismBounds)| {
        let parallelism = Bounds { lower_bound: bounds.lower, upper_bound: bounds.upper };
        (vertex.to_string(), Requirement { parallelism })
    };
    ok(&told.into_iter().map(requirement).collect::<Body>())
}

/// Flink's clients name all vertices. With the query `parallelism`, which is ours, all those have it of which the program does
/// not set it, except the vertices that are named.
pub(super) async fn require(app: App, parameters: Parameters, body: Bytes) -> Outcome {
    let job = parameters.job()?;
    let parallelism = parameters.number("parallelism")?.map(u32::try_from).transpose();
    let parallelism = parallelism.map_err(|_| Failure::bad_request("the parallelism is too large"))?;
    let mut vertices = BTreeMap::new();
    for (vertex, Requirement { parallelism: Bounds { lower_bound, upper_bound } }) in read::<Body>(&body)? {
        let vertex: VertexId = vertex.parse().map_err(Failure::bad_request)?;
        let bounds = ParallelismBounds { lower: lower_bound, upper: upper_bound }.checked(vertex);
        vertices.insert(vertex, bounds.map_err(|error| Failure::bad_request(error.to_string()))?);
    }
    app.api.require_resources(job, Wanted { parallelism, vertices: Requirements(vertices) }).await?;
    ok(&Empty {})
}
