//! Metrics by name. Without `get` an answer lists names; with it, the values asked for that exist. Aggregating paths add up
//! over jobs, task managers or subtasks.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use millstream_actors::view::observation::MetricView;
use millstream_runtime::ids::{JobId, SubtaskId, SubtaskIndex};

use super::{App, cluster};
use crate::api::{ApiError, MetricsOf};
use crate::exchange::{Failure, Outcome, Parameters, ok};

type Values = BTreeMap<String, String>;

pub(super) async fn of_cluster(app: App, parameters: Parameters) -> Outcome {
    select(app.api.metrics(MetricsOf::Cluster).await?, &parameters)
}

pub(super) async fn of_job(app: App, parameters: Parameters) -> Outcome {
    select(app.api.metrics(MetricsOf::Job(parameters.job()?)).await?, &parameters)
}

pub(super) async fn of_task_manager(app: App, parameters: Parameters) -> Outcome {
    let id = parameters.text("taskmanagerid").to_string();
    select(app.api.metrics(MetricsOf::TaskManager(id)).await?, &parameters)
}

pub(super) async fn of_subtask(app: App, parameters: Parameters) -> Outcome {
    let subtask = SubtaskId { vertex: parameters.vertex()?, index: parameters.subtask()? };
    select(app.api.metrics(MetricsOf::Subtask(parameters.job()?, subtask)).await?, &parameters)
}

/// All subtasks at once, as `index.name`.
pub(super) async fn of_vertex(app: App, parameters: Parameters) -> Outcome {
    let mut values = Values::new();
    for (index, of_subtask) in of_all_subtasks(&app, &parameters).await? {
        values.extend(of_subtask.into_iter().map(|(name, value)| (format!("{index}.{name}"), value)));
    }
    select(values, &parameters)
}

pub(super) async fn watermarks(app: App, parameters: Parameters) -> Outcome {
    const WATERMARK: &str = "currentInputWatermark";
    let mut watermarks = Vec::new();
    for (index, mut values) in of_all_subtasks(&app, &parameters).await? {
        let value = values.remove(WATERMARK);
        watermarks.extend(value.map(|value| MetricView { id: format!("{index}.{WATERMARK}"), value: Some(value) }));
    }
    ok(&watermarks)
}

pub(super) async fn of_subtasks(app: App, parameters: Parameters) -> Outcome {
    let wanted = parameters.list("subtasks").map(|ranges| subtask_ranges(&ranges)).transpose()?;
    let all = of_all_subtasks(&app, &parameters).await?;
    let chosen = all.into_iter().filter(|(index, _)| wanted.as_ref().is_none_or(|wanted| wanted.contains(index)));
    aggregate(chosen.map(|(_, values)| values).collect(), &parameters)
}

pub(super) async fn of_jobs(app: App, parameters: Parameters) -> Outcome {
    let jobs: Vec<JobId> = match parameters.list("jobs") {
        Some(ids) => ids
            .into_iter()
            .map(|id| id.parse().map_err(|_| Parameters::bad_query("jobs", id)))
            .collect::<Result<_, Failure>>()?,
        None => app.api.jobs().await?.into_iter().map(|job| job.jid).collect(),
    };
    let mut all = Vec::new();
    for job in jobs {
        // A job that has ended has no metrics, one that is unknown neither: Flink leaves both out.
        all.extend(present(app.api.metrics(MetricsOf::Job(job)).await)?);
    }
    aggregate(all, &parameters)
}

pub(super) async fn of_task_managers(app: App, parameters: Parameters) -> Outcome {
    let known: BTreeSet<String> = app.api.task_managers().await?.into_iter().map(|manager| manager.id).collect();
    let chosen: Vec<String> = match parameters.list("taskmanagers") {
        Some(ids) => ids.into_iter().map(str::to_string).collect(),
        None => known.iter().cloned().collect(),
    };
    let mut all = Vec::new();
    for id in chosen {
        if !known.contains(&id) {
            return Err(cluster::not_found(&id));
        }
        all.extend(present(app.api.metrics(MetricsOf::TaskManager(id)).await)?);
    }
    aggregate(all, &parameters)
}

async fn of_all_subtasks(app: &App, parameters: &Parameters) -> Result<Vec<(u32, Values)>, Failure> {
    let (job, vertex) = (parameters.job()?, parameters.vertex()?);
    let details = app.api.vertex(job, vertex).await?;
    let mut all = Vec::new();
    for index in 0..details.parallelism {
        let subtask = SubtaskId { vertex, index: SubtaskIndex(index) };
        let values = present(app.api.metrics(MetricsOf::Subtask(job, subtask)).await)?;
        all.extend(values.map(|values| (index, values)));
    }
    Ok(all)
}

/// What is not running just now has no values; that is no error where several are asked.
fn present(values: Result<Values, ApiError>) -> Result<Option<Values>, Failure> {
    match values {
        Ok(values) => Ok(Some(values)),
        Err(ApiError::NotFound(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn select(values: Values, parameters: &Parameters) -> Outcome {
    let metrics: Vec<MetricView> = match parameters.list("get") {
        None => values.into_keys().map(|id| MetricView { id, value: None }).collect(),
        Some(names) => names
            .into_iter()
            .filter_map(|name| Some(MetricView { id: name.to_string(), value: Some(values.get(name)?.clone()) }))
            .collect(),
    };
    ok(&metrics)
}

/// `0,2-5`: single subtasks and ranges with both ends.
fn subtask_ranges(ranges: &[&str]) -> Result<BTreeSet<u32>, Failure> {
    let mut indices = BTreeSet::new();
    for range in ranges {
        let bad = || Parameters::bad_query("subtasks", range);
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().map_err(|_| bad())?, last.parse().map_err(|_| bad())?);
        // No vertex has more subtasks; a longer range would only cost memory.
        indices.extend(first..=last.min(1 << 15));
    }
    Ok(indices)
}

/// One metric over several things.
#[derive(Default, Serialize)]
struct Aggregated {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    min: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    avg: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sum: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skew: Option<f64>,
}

fn aggregate(all: Vec<Values>, parameters: &Parameters) -> Outcome {
    let Some(names) = parameters.list("get") else {
        let names: BTreeSet<String> = all.into_iter().flat_map(BTreeMap::into_keys).collect();
        let list: Vec<MetricView> = names.into_iter().map(|id| MetricView { id, value: None }).collect();
        return ok(&list);
    };
    let wanted = match parameters.list("agg") {
        None => vec!["min", "max", "avg", "sum", "skew"],
        Some(wanted) => {
            let unknown = wanted.iter().find(|name| !["min", "max", "avg", "sum", "skew"].contains(name));
            if let Some(name) = unknown {
                return Err(Parameters::bad_query("agg", name));
            }
            wanted
        }
    };
    let mut metrics = Vec::new();
    for name in names {
        let numbers: Vec<f64> = all.iter().filter_map(|values| values.get(name)?.parse().ok()).collect();
        if !numbers.is_empty() {
            metrics.push(over(name, &numbers, &wanted));
        }
    }
    ok(&metrics)
}

fn over(name: &str, numbers: &[f64], wanted: &[&str]) -> Aggregated {
    let sum: f64 = numbers.iter().sum();
    let count = numbers.len() as f64;
    let avg = sum / count;
    let given = |which: &str, value: f64| wanted.contains(&which).then_some(value);
    // FLIP-418: mean absolute deviation in percent of the mean.
    let deviation = numbers.iter().map(|number| (number - avg).abs()).sum::<f64>() / count;
    let skew = if avg == 0.0 { 0.0 } else { (deviation / avg * 100.0).clamp(0.0, 100.0) };
    Aggregated {
        id: name.to_string(),
        min: given("min", numbers.iter().copied().fold(f64::INFINITY, f64::min)),
        max: given("max", numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
        avg: given("avg", avg),
        sum: given("sum", sum),
        skew: given("skew", skew),
    }
}
