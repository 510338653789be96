//! The paths of the server. Every path exists with and without `/v1`.
//!
//! - [`cluster`]: the cluster, its configuration, task managers, Prometheus
//! - [`jars`]: the jobs compiled into the program, and their submission
//! - [`jobs`]: jobs and their vertices
//! - [`checkpoints`]: statistics of checkpoints
//! - [`metrics`]: values by name, single and aggregated
//! - [`resources`]: how many subtasks vertices may have
//! - [`triggers`]: checkpoint, savepoint, stop, cancel

mod checkpoints;
mod cluster;
mod jars;
mod jobs;
mod metrics;
mod resources;
mod triggers;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, OriginalUri};
use axum::http::{Uri, request::Parts};
use axum::routing::{get, patch, post, put};
use tokio::sync::watch;

use crate::api::ClusterApi;
use crate::exchange::Failure;
use crate::leading::{Leading, NotLeading, leader};
use crate::operations::Operations;

/// What a server is made of.
#[derive(Clone)]
pub struct Site {
    /// Who leads.
    pub leading: watch::Receiver<Leading>,
    /// What runs in the background.
    pub operations: Arc<Operations>,
    /// Where the server listens.
    pub address: SocketAddr,
}

/// What the routes work with: there is one only while this process leads.
struct App {
    api: Arc<dyn ClusterApi>,
    operations: Arc<Operations>,
    address: SocketAddr,
}

impl FromRequestParts<Site> for App {
    type Rejection = NotLeading;

    async fn from_request_parts(parts: &mut Parts, site: &Site) -> Result<Self, NotLeading> {
        // With the prefix that nested routes do not see.
        let asked = parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |OriginalUri(uri)| uri);
        let api = leader(&site.leading.borrow(), asked)?;
        Ok(Self { api, operations: site.operations.clone(), address: site.address })
    }
}

/// All routes of a server.
pub fn router(site: Site) -> Router {
    let v1 = cluster_routes().merge(jar_routes()).merge(job_routes()).merge(vertex_routes()).merge(checkpoint_routes());
    Router::new()
        .merge(v1.clone())
        .nest("/v1", v1)
        .route("/metrics", get(cluster::prometheus))
        .fallback(unknown)
        // Flink's router does not tell a wrong method from a wrong path.
        .method_not_allowed_fallback(unknown)
        .with_state(site)
}

fn jar_routes() -> Router<Site> {
    Router::new().route("/jars", get(jars::list)).route("/jars/{jarid}/run", post(jars::run))
}

fn cluster_routes() -> Router<Site> {
    Router::new()
        .route("/config", get(cluster::dashboard_config))
        .route("/overview", get(cluster::overview))
        .route("/jobmanager/config", get(cluster::configuration))
        .route("/jobmanager/metrics", get(metrics::of_cluster))
        .route("/taskmanagers", get(cluster::task_managers))
        .route("/taskmanagers/metrics", get(metrics::of_task_managers))
        .route("/taskmanagers/{taskmanagerid}", get(cluster::task_manager))
        .route("/taskmanagers/{taskmanagerid}/metrics", get(metrics::of_task_manager))
}

fn job_routes() -> Router<Site> {
    Router::new()
        .route("/jobs", get(jobs::ids))
        .route("/jobs/overview", get(jobs::overview))
        .route("/jobs/metrics", get(metrics::of_jobs))
        .route("/jobs/{jobid}", get(jobs::details).merge(patch(triggers::cancel)))
        .route("/jobs/{jobid}/status", get(jobs::status))
        .route("/jobs/{jobid}/config", get(jobs::configuration))
        .route("/jobs/{jobid}/jobmanager/config", get(cluster::configuration_of_job))
        .route("/jobs/{jobid}/plan", get(jobs::plan))
        .route("/jobs/{jobid}/exceptions", get(jobs::exceptions))
        .route("/jobs/{jobid}/execution-result", get(jobs::execution_result))
        .route("/jobs/{jobid}/metrics", get(metrics::of_job))
        .route("/jobs/{jobid}/resource-requirements", get(resources::requirements).merge(put(resources::require)))
        .route("/jobs/{jobid}/savepoints", post(triggers::savepoint))
        .route("/jobs/{jobid}/savepoints/{triggerid}", get(triggers::savepoint_status))
        .route("/jobs/{jobid}/stop", post(triggers::stop))
}

fn vertex_routes() -> Router<Site> {
    let vertex = |path: &str| format!("/jobs/{{jobid}}/vertices/{{vertexid}}{path}");
    Router::new()
        .route(&vertex(""), get(jobs::vertex))
        .route(&vertex("/backpressure"), get(jobs::backpressure))
        .route(&vertex("/watermarks"), get(metrics::watermarks))
        .route(&vertex("/metrics"), get(metrics::of_vertex))
        .route(&vertex("/subtasks/metrics"), get(metrics::of_subtasks))
        .route(&vertex("/subtasks/{subtaskindex}"), get(jobs::subtask))
        .route(&vertex("/subtasks/{subtaskindex}/attempts/{attempt}"), get(jobs::subtask_attempt))
        .route(&vertex("/subtasks/{subtaskindex}/metrics"), get(metrics::of_subtask))
}

fn checkpoint_routes() -> Router<Site> {
    let checkpoints = |path: &str| format!("/jobs/{{jobid}}/checkpoints{path}");
    Router::new()
        .route(&checkpoints(""), get(checkpoints::statistics).merge(post(triggers::checkpoint)))
        .route(&checkpoints("/config"), get(checkpoints::configuration))
        .route(&checkpoints("/details/{checkpointid}"), get(checkpoints::details))
        .route(&checkpoints("/details/{checkpointid}/subtasks/{vertexid}"), get(checkpoints::subtasks))
        .route(&checkpoints("/{triggerid}"), get(triggers::checkpoint_status))
}

async fn unknown(_app: App, uri: Uri) -> Failure {
    Failure::not_found(format!("Not found: {}", uri.path()))
}
