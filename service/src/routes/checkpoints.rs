//! Statistics and settings of a job's checkpoints.

use millstream_actors::view::checkpoint::CheckpointView;

use super::App;
use crate::api::ApiError;
use crate::exchange::{Outcome, Parameters, ok};

pub(super) async fn statistics(app: App, parameters: Parameters) -> Outcome {
    let mut statistics = app.api.checkpoints(parameters.job()?).await?;
    // Vertices are shown with one checkpoint only.
    let latest = &mut statistics.latest;
    let single = [&mut latest.completed, &mut latest.savepoint, &mut latest.failed];
    let all = statistics.history.iter_mut().chain(single.into_iter().flatten());
    all.for_each(|checkpoint: &mut CheckpointView| checkpoint.tasks.clear());
    ok(&statistics)
}

pub(super) async fn configuration(app: App, parameters: Parameters) -> Outcome {
    ok(&app.api.checkpoint_configuration(parameters.job()?).await?)
}

pub(super) async fn details(app: App, parameters: Parameters) -> Outcome {
    let mut checkpoint = app.api.checkpoint(parameters.job()?, parameters.checkpoint()?).await?;
    for task in checkpoint.tasks.values_mut() {
        (task.subtasks, task.summary) = (None, None);
    }
    ok(&checkpoint)
}

pub(super) async fn subtasks(app: App, parameters: Parameters) -> Outcome {
    let vertex = parameters.vertex()?;
    let mut checkpoint = app.api.checkpoint(parameters.job()?, parameters.checkpoint()?).await?;
    ok(&checkpoint.tasks.remove(&vertex.to_string()).ok_or_else(|| ApiError::vertex_not_found(vertex))?)
}
