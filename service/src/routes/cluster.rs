//! The cluster, its configuration, its task managers, and Prometheus' endpoint.

use axum::http::header;
use axum::response::IntoResponse;
use serde::Serialize;

use millstream_actors::metrics::prometheus::CONTENT_TYPE;
use millstream_actors::view::TaskManagerView;

use super::App;
use crate::exchange::{Failure, Outcome, Parameters, ok};

/// Milliseconds between two requests of a dashboard.
const REFRESH_INTERVAL_MS: u64 = 3_000;

pub(super) async fn dashboard_config(app: App) -> Outcome {
    #[derive(Serialize)]
    #[serde(rename_all = "kebab-case")]
    struct DashboardConfig {
        refresh_interval: u64,
        timezone_name: &'static str,
        timezone_offset: i32,
        flink_version: String,
        flink_revision: String,
        features: Features,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "kebab-case")]
    struct Features {
        web_submit: bool,
        web_cancel: bool,
        web_rescale: bool,
        web_history: bool,
    }
    let overview = app.api.overview().await?;
    ok(&DashboardConfig {
        refresh_interval: REFRESH_INTERVAL_MS,
        timezone_name: "Coordinated Universal Time",
        timezone_offset: 0,
        flink_version: overview.flink_version,
        flink_revision: overview.flink_commit,
        features: Features { web_submit: false, web_cancel: true, web_rescale: false, web_history: false },
    })
}

pub(super) async fn overview(app: App) -> Outcome {
    ok(&app.api.overview().await?)
}

pub(super) async fn configuration(app: App) -> Outcome {
    ok(&app.api.configuration().await?)
}

pub(super) async fn configuration_of_job(app: App, parameters: Parameters) -> Outcome {
    app.api.job_status(parameters.job()?).await?;
    ok(&app.api.configuration().await?)
}

pub(super) async fn task_managers(app: App) -> Outcome {
    #[derive(Serialize)]
    struct TaskManagers {
        taskmanagers: Vec<TaskManagerView>,
    }
    ok(&TaskManagers { taskmanagers: app.api.task_managers().await? })
}

pub(super) async fn task_manager(app: App, parameters: Parameters) -> Outcome {
    let id = parameters.text("taskmanagerid");
    let found = app.api.task_managers().await?.into_iter().find(|manager| manager.id == id);
    ok(&found.ok_or_else(|| not_found(id))?)
}

pub(super) fn not_found(id: &str) -> Failure {
    Failure::not_found(format!("Could not find TaskExecutor {id}."))
}

pub(super) async fn prometheus(app: App) -> Outcome {
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], app.api.prometheus().await?).into_response())
}
