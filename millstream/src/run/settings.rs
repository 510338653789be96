//! From the configuration to the settings of a launch and of a plan. The one place where keys become options.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use millstream_actors::launch::{LaunchOptions, StartFrom};
use millstream_actors::task_manager::Cancellation;
use millstream_actors::view::cluster::ConfigEntry;
use millstream_config::choice::{CheckpointMode, FailoverKind, LoadBalanceMode, RestartStrategyKind};
use millstream_config::value::Limit;
use millstream_config::{Configuration, Key, keys, secret};
use millstream_runtime::checkpoint::coordinator::Options as CheckpointOptions;
use millstream_runtime::credit::CreditLimit;
use millstream_runtime::element::CheckpointingMode;
use millstream_runtime::graph::FailoverStrategy;
use millstream_runtime::graph::JobGraph;
use millstream_runtime::graph::chaining::{PlanOptions, plan};
use millstream_runtime::ids::JobId;
use millstream_runtime::job::placement::LoadBalance;
use millstream_runtime::job::{Parallelism, RestartOptions};
use millstream_state::blob::{Location, S3Options, Stores};
use millstream_state::failpoint::{self, Failpoints};

use super::memory;
use crate::error::{Error, Result};
use crate::jobs::Job;
use crate::stream::{Environment, Parameters};
use crate::watchdog;

/// Folder inside the output folder that holds log, checkpoints and local state of a run.
const STATE_FOLDER: &str = ".millstream";

/// Where a run keeps its state: the working directory, or beside its output.
pub(super) fn state_dir(job: &Job, configuration: &Configuration, output: &Path) -> PathBuf {
    let Some(working_dir) = configuration.get(&keys::WORKING_DIR) else { return output.join(STATE_FOLDER) };
    // State belongs to an output: jobs that share the folder must not take over each other's.
    let output = std::path::absolute(output).unwrap_or_else(|_| output.to_path_buf());
    let place = JobId::from_name(&output.to_string_lossy()).to_string();
    Path::new(&working_dir).join(format!("{}-{}", job.name, &place[..8]))
}

/// What is set but has no effect on a run in this process.
pub(super) fn without_effect(configuration: &Configuration) -> Vec<&'static str> {
    [
        keys::AUTO_WATERMARK_INTERVAL.name,
        keys::BUFFER_TIMEOUT.name,
        keys::CHECKPOINT_RETENTION.name,
        keys::TMP_DIRS.name,
    ]
    .into_iter()
    .filter(|key| configuration.setting(key).is_some())
    .collect()
}

/// Records the graph of a job.
pub(crate) fn graph(job: &Job, configuration: &Configuration, parameters: &Parameters) -> Result<JobGraph> {
    let limit = configuration.get(&keys::SOURCE_RATE_LIMIT).map(|limit| u64::from(limit.get()));
    let (name, parallelism) = (job_name(job, configuration), configuration.get(&keys::PARALLELISM).0);
    let environment = Environment::new(name, parallelism, parameters.clone()).with_rate_limit(limit);
    (job.build)(&environment)?;
    let graph = plan(environment.take_graph(), &plan_options(job, configuration))?;
    Ok(graph.with_parallelism(&parallelism_overrides(configuration)?)?)
}

fn parallelism_overrides(configuration: &Configuration) -> Result<Parallelism> {
    let overrides = configuration.get(&keys::PARALLELISM_OVERRIDES).0;
    let of = |(vertex, parallelism): (String, u32)| Ok((vertex.parse().map_err(Error::Usage)?, parallelism));
    overrides.into_iter().map(of).collect()
}

fn job_name(job: &Job, configuration: &Configuration) -> String {
    configuration.get(&keys::PIPELINE_NAME).unwrap_or_else(|| job.name.to_string())
}

fn plan_options(job: &Job, configuration: &Configuration) -> PlanOptions {
    PlanOptions {
        name: job_name(job, configuration),
        parallelism: configuration.get(&keys::PARALLELISM).0,
        max_parallelism: configuration.get(&keys::MAX_PARALLELISM).0,
        chaining: configuration.get(&keys::OPERATOR_CHAINING),
    }
}

pub(crate) fn launch(
    configuration: &Configuration,
    parameters: &Parameters,
    state_dir: PathBuf,
    fresh: bool,
) -> Result<LaunchOptions> {
    let savepoint = configuration.get(&keys::RECOVERY_PATH);
    let start_from = match (fresh, savepoint) {
        (true, Some(savepoint)) => {
            return Err(Error::usage(format!("--fresh starts from nothing and -s from {savepoint}: give one of them")));
        }
        (true, None) => StartFrom::Nothing,
        (false, Some(savepoint)) => StartFrom::Savepoint(Location::parse(&savepoint)?),
        (false, None) => StartFrom::Latest,
    };
    let place = |key: &Key<Option<String>>| configuration.get(key).map(|text| Location::parse(&text)).transpose();
    let savepoints = place(&keys::SAVEPOINT_DIR)?;
    let credit = CreditLimit { batches: configuration.get(&keys::BUFFERS_PER_CHANNEL).get(), ..CreditLimit::default() };
    let defaults = LaunchOptions::new(&state_dir);
    Ok(LaunchOptions {
        savepoint_dir: Some(savepoints.unwrap_or_else(|| state_dir.join("savepoints").into())),
        stores: stores(configuration),
        start_from,
        checkpoint_dir: place(&keys::CHECKPOINT_DIR)?,
        allow_fallback: configuration.get(&keys::ALLOW_FALLBACK),
        allow_non_restored_state: configuration.get(&keys::IGNORE_UNCLAIMED_STATE),
        checkpoints: checkpoints(configuration),
        restart: restart(configuration)?,
        failover: match configuration.get(&keys::FAILOVER_STRATEGY) {
            FailoverKind::Region => FailoverStrategy::Region,
            FailoverKind::Full => FailoverStrategy::Full,
        },
        credit,
        batch_rows: configuration.get(&keys::BATCH_ROWS).get() as usize,
        batch_bytes: usize::try_from(configuration.get(&keys::BATCH_BYTES).0).unwrap_or(usize::MAX),
        fold_lag: Some(configuration.get(&keys::STATE_FOLD_LAG).get()),
        balance: load_balance(configuration),
        cancellation: cancellation(configuration),
        state_memory: memory::for_state(configuration),
        properties: properties(parameters),
        guard_output: true,
        failpoints: failpoints()?,
        ..defaults
    })
}

/// How slots and subtasks are shared out to nodes.
pub(crate) fn load_balance(configuration: &Configuration) -> LoadBalance {
    match configuration.get(&keys::LOAD_BALANCE) {
        LoadBalanceMode::MinResources => LoadBalance::MinResources,
        LoadBalanceMode::Slots => LoadBalance::Slots,
        LoadBalanceMode::Tasks => LoadBalance::Tasks,
    }
}

/// How long subtasks may take to go.
pub(crate) fn cancellation(configuration: &Configuration) -> Cancellation {
    Cancellation {
        interval: configuration.get(&keys::CANCELLATION_INTERVAL),
        timeout: Some(configuration.get(&keys::CANCELLATION_TIMEOUT)).filter(|timeout| !timeout.is_zero()),
        end_process: Arc::new(watchdog::end_process),
    }
}

/// How stores are opened.
pub(crate) fn stores(configuration: &Configuration) -> Stores {
    Stores::new(S3Options {
        endpoint: configuration.get(&keys::S3_ENDPOINT),
        region: configuration.get(&keys::S3_REGION),
        access_key: configuration.get(&keys::S3_ACCESS_KEY),
        secret_key: configuration.get(&keys::S3_SECRET_KEY),
        path_style: configuration.get(&keys::S3_PATH_STYLE),
        ..S3Options::default()
    })
}

/// The options of the job, as REST shows them.
fn properties(parameters: &Parameters) -> Vec<(String, String)> {
    let shown = |key: &str, value: Option<&str>| secret::shown(key, value.unwrap_or("true")).to_string();
    parameters.iter().map(|(key, value)| (key.to_string(), shown(key, value))).collect()
}

pub(crate) fn failpoints() -> Result<Failpoints> {
    match std::env::var(failpoint::VARIABLE) {
        Ok(setting) if !setting.is_empty() => Failpoints::parse(&setting).map_err(Error::Usage),
        _ => Ok(Failpoints::none()),
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn checkpoints(configuration: &Configuration) -> CheckpointOptions {
    let interval = configuration.get(&keys::CHECKPOINT_INTERVAL);
    CheckpointOptions {
        interval_ms: (!interval.is_zero()).then(|| millis(interval).max(1)),
        timeout_ms: millis(configuration.get(&keys::CHECKPOINT_TIMEOUT)),
        min_pause_ms: millis(configuration.get(&keys::CHECKPOINT_MIN_PAUSE)),
        max_concurrent: configuration.get(&keys::MAX_CONCURRENT_CHECKPOINTS).get(),
        tolerable_failed: Some(configuration.get(&keys::TOLERABLE_FAILED_CHECKPOINTS)),
        num_retained: configuration.get(&keys::NUM_RETAINED_CHECKPOINTS).0,
        mode: match configuration.get(&keys::CHECKPOINT_MODE) {
            CheckpointMode::ExactlyOnce => CheckpointingMode::ExactlyOnce,
            CheckpointMode::AtLeastOnce => CheckpointingMode::AtLeastOnce,
        },
        aligned_timeout_ms: configuration.get(&keys::UNALIGNED_CHECKPOINTS).then(|| {
            u64::try_from(configuration.get(&keys::ALIGNED_CHECKPOINT_TIMEOUT).as_millis()).unwrap_or(u64::MAX)
        }),
        history_size: configuration.get(&keys::CHECKPOINT_HISTORY).get() as usize,
        ..CheckpointOptions::default()
    }
}

fn restart(configuration: &Configuration) -> Result<RestartOptions> {
    let get = |key| millis(configuration.get(key));
    let at_most = |limit: Limit| match limit {
        Limit::AtMost(attempts) => Some(attempts),
        Limit::Infinite => None,
    };
    let strategy = match configuration.get(&keys::RESTART_STRATEGY) {
        RestartStrategyKind::None => RestartOptions::None,
        RestartStrategyKind::FixedDelay => RestartOptions::FixedDelay {
            attempts: at_most(configuration.get(&keys::FIXED_DELAY_ATTEMPTS)).unwrap_or(u32::MAX),
            delay_ms: get(&keys::FIXED_DELAY_DELAY),
        },
        RestartStrategyKind::FailureRate => RestartOptions::FailureRate {
            max_failures_per_interval: configuration.get(&keys::FAILURE_RATE_MAX_FAILURES).get(),
            interval_ms: get(&keys::FAILURE_RATE_INTERVAL),
            delay_ms: get(&keys::FAILURE_RATE_DELAY),
        },
        RestartStrategyKind::ExponentialDelay => RestartOptions::ExponentialDelay {
            immediate_restarts: configuration.get(&keys::EXPONENTIAL_IMMEDIATE),
            initial_ms: get(&keys::EXPONENTIAL_INITIAL_BACKOFF),
            max_ms: get(&keys::EXPONENTIAL_MAX_BACKOFF),
            multiplier: configuration.get(&keys::EXPONENTIAL_MULTIPLIER).0,
            jitter_factor: configuration.get(&keys::EXPONENTIAL_JITTER).0,
            reset_threshold_ms: get(&keys::EXPONENTIAL_RESET_THRESHOLD),
            attempts_before_reset: at_most(configuration.get(&keys::EXPONENTIAL_ATTEMPTS)),
        },
    };
    strategy.validate().map_err(|reason| Error::usage(format!("restart-strategy: {reason}")))?;
    Ok(strategy)
}

/// The restart strategy in words, as REST shows it.
pub(crate) fn restart_in_words(configuration: &Configuration) -> String {
    match configuration.get(&keys::RESTART_STRATEGY) {
        RestartStrategyKind::None => "none",
        RestartStrategyKind::FixedDelay => "fixed-delay",
        RestartStrategyKind::FailureRate => "failure-rate",
        RestartStrategyKind::ExponentialDelay => "exponential-delay",
    }
    .to_string()
}

/// All keys with the values in force, as `/jobmanager/config` shows them.
pub(crate) fn entries(configuration: &Configuration) -> Vec<ConfigEntry> {
    let mut entries: Vec<ConfigEntry> = keys::ALL
        .iter()
        .filter(|key| !key.default.is_empty() && configuration.setting(key.name).is_none())
        .map(|key| ConfigEntry { key: key.name.to_string(), value: key.default.to_string() })
        .collect();
    entries.extend(
        configuration.shown().map(|(key, value, _)| ConfigEntry { key: key.to_string(), value: value.to_string() }),
    );
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    entries
}
