//! How many subtasks the vertices of a running job may have.

use std::collections::BTreeMap;

use axum::body::Bytes;
use serde::{Deserialize, Serialize};

use millstream_runtime::ids::VertexId;

use super::App;
use crate::api::ParallelismBounds;
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

pub(super) async fn require(app: App, parameters: Parameters, body: Bytes) -> Outcome {
    let job = parameters.job()?;
    let mut wanted = BTreeMap::new();
    for (vertex, Requirement { parallelism: Bounds { lower_bound, upper_bound } }) in read::<Body>(&body)? {
        if lower_bound == 0 || upper_bound < lower_bound {
            return Err(Failure::bad_request(format!(
                "vertex {vertex} cannot have {lower_bound} to {upper_bound} subtasks: 1 at least, and no more at least than at most"
            )));
        }
        let id: VertexId = vertex.parse().map_err(Failure::bad_request)?;
        wanted.insert(id, ParallelismBounds { lower: lower_bound, upper: upper_bound });
    }
    app.api.require_resources(job, wanted).await?;
    ok(&Empty {})
}
