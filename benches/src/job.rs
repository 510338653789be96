//! Launches a job as `run` does, in a runtime of its own, and watches it to its end.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use millstream::stream::{Environment, Parameters};
use millstream_actors::job_master::report::JobReport;
use millstream_actors::launch::{LaunchOptions, Launched, StartFrom, launch};
use millstream_actors::metrics::Registry;
use millstream_runtime::graph::chaining::{PlanOptions, plan};
use millstream_runtime::job::JobStatus;
use millstream_runtime::key_group::DEFAULT_MAX_PARALLELISM;

use crate::cases::Measured;
use crate::process::{cpu_ns, monotonic_ns};

/// How a job is run.
pub struct JobSetting<'a> {
    /// Subtasks of each operator.
    pub parallelism: u32,
    /// Milliseconds between checkpoints; `None` makes none but the last.
    pub checkpoint_ms: Option<i64>,
    /// Where state and checkpoints go.
    pub folder: &'a Path,
    /// Last changes to the options of the launch.
    pub adjust: &'a dyn Fn(&mut LaunchOptions),
}

/// A moment of the process: clock and CPU time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moment {
    /// Of the monotonic clock.
    pub at_ns: u64,
    /// CPU time used until then.
    pub cpu_ns: u64,
}

impl Moment {
    /// This moment.
    #[must_use]
    pub fn now() -> Self {
        Self { at_ns: monotonic_ns(), cpu_ns: cpu_ns() }
    }
}

/// How a job went.
pub struct JobRun {
    /// When it was launched.
    pub begun: Moment,
    /// When it had ended.
    pub ended: Moment,
    /// The last report.
    pub report: Box<JobReport>,
}

impl JobRun {
    /// What was measured of the whole of it, over so many records; the case adds its parallelism, its answer, and more.
    #[must_use]
    pub fn measured(&self, records: u64) -> Measured {
        Measured {
            records,
            seconds: (self.ended.at_ns - self.begun.at_ns) as f64 / 1e9,
            cpu_ns: self.ended.cpu_ns - self.begun.cpu_ns,
            checkpoints: self.report.checkpoints.counts().completed,
            ..Measured::default()
        }
    }
}

/// Runs the job that `record` describes to its end. `watch` sees it ten times a second.
///
/// # Errors
/// When it fails.
pub fn run(
    record: impl FnOnce(&Environment),
    setting: &JobSetting<'_>,
    watch: &mut dyn FnMut(&JobReport, &Arc<Registry>),
) -> Result<JobRun, String> {
    let record = |env: &Environment| {
        record(env);
        Ok(())
    };
    run_with(Parameters::default(), record, setting, watch)
}

/// The same for a job that has options.
///
/// # Errors
/// When it cannot be recorded or fails.
pub fn run_with(
    parameters: Parameters,
    record: impl FnOnce(&Environment) -> millstream::Result<()>,
    setting: &JobSetting<'_>,
    watch: &mut dyn FnMut(&JobReport, &Arc<Registry>),
) -> Result<JobRun, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // CPU time is read from the threads that live.
        .thread_keep_alive(Duration::from_secs(3_600))
        .build()
        .map_err(|error| error.to_string())?;
    let env = Environment::new("benchmark", setting.parallelism, parameters);
    record(&env).map_err(|error| error.to_string())?;
    let planned = PlanOptions {
        name: "benchmark".to_string(),
        parallelism: setting.parallelism,
        max_parallelism: DEFAULT_MAX_PARALLELISM,
        chaining: true,
    };
    let graph = plan(env.take_graph(), &planned).map_err(|error| error.to_string())?;
    let mut options = LaunchOptions::new(setting.folder);
    options.start_from = StartFrom::Nothing;
    options.checkpoints.interval_ms = setting.checkpoint_ms;
    (setting.adjust)(&mut options);
    runtime.block_on(async {
        let begun = Moment::now();
        let launched = launch(graph, options).await.map_err(|error| error.to_string())?;
        let (ended, report) = watch_to_end(&launched, watch).await?;
        Ok(JobRun { begun, ended, report })
    })
}

async fn watch_to_end(
    launched: &Launched,
    watch: &mut dyn FnMut(&JobReport, &Arc<Registry>),
) -> Result<(Moment, Box<JobReport>), String> {
    let mut outcome = std::pin::pin!(launched.handle.outcome());
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    loop {
        tokio::select! {
            outcome = &mut outcome => {
                let ended = Moment::now();
                let outcome = outcome.map_err(|error| error.to_string())?;
                let report = launched.handle.report().await.map_err(|error| error.to_string())?;
                watch(&report, &launched.registry);
                if outcome.status != JobStatus::Finished {
                    return Err(format!("the job ended as {:?}: {:?}", outcome.status, outcome.failure));
                }
                return Ok((ended, report));
            }
            _ = ticks.tick() => {
                if let Ok(report) = launched.handle.report().await {
                    watch(&report, &launched.registry);
                }
            }
        }
    }
}
