//! Runs a job in this process: a cluster of one, with the same job master, actors and REST server as any other.
//!
//! - [`settings`]: configuration to options
//! - [`sample`]: input for the main job, if it has none
//! - [`memory`], [`process`]: what the process may take, and what it takes
//! - [`embedded`]: from the launch to the end, with signals
//! - [`progress`], [`summary`]: what people see meanwhile and at the end
//! - [`screen`], [`signals`], [`text`]: the terminal

mod embedded;
pub(crate) mod memory;
pub(crate) mod process;
mod progress;
pub(crate) mod sample;
pub(crate) mod screen;
pub(crate) mod settings;
pub(crate) mod signals;
mod summary;
pub(crate) mod text;

use std::path::PathBuf;
use std::time::Duration;

use millstream_actors::launch::LaunchOptions;
use millstream_config::{Configuration, keys};
use millstream_runtime::graph::JobGraph;
use millstream_runtime::ports::PortError;

use crate::error::Result;
use crate::jobs::Job;
use crate::jobs::fraud_detection::FRAUD_DETECTION;
use crate::stream::Parameters;
use screen::Screen;

/// How long blocking work may go on after the end of the job.
const LAST_WORK: Duration = Duration::from_secs(5);

/// What is to be run.
pub(crate) struct Request {
    /// The job.
    pub job: Job,
    /// All jobs of the program.
    pub jobs: Vec<Job>,
    /// Its settings, flags included.
    pub configuration: Configuration,
    /// What followed `--`.
    pub parameters: Parameters,
    /// Start from nothing.
    pub fresh: bool,
    /// How the program was called, for commands that are shown.
    pub program: String,
    /// Print the outcome as one JSON object.
    pub json: bool,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// At the end of its input.
    Finished,
    /// With a savepoint, which lies there.
    Stopped(String),
    /// By a failure that no restart followed.
    Failed(String),
    /// Input, state or settings cannot be used.
    Refused(String),
    /// Cancelled by a user.
    Canceled,
    /// The user did not want to wait for the savepoint.
    Interrupted,
}

/// A request with everything that is needed to launch it.
struct Prepared {
    job: Job,
    jobs: Vec<Job>,
    configuration: Configuration,
    parameters: Parameters,
    output: PathBuf,
    graph: JobGraph,
    options: LaunchOptions,
    program: String,
    json: bool,
}

/// Runs a job to its end.
///
/// # Errors
/// When it cannot be started.
pub(crate) fn run(request: Request, screen: &Screen) -> Result<Ending> {
    let prepared = prepare(request, screen)?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    // One thread more than the job needs at least, so that signals and REST are answered while it works.
    let threads = (prepared.graph.parallelism() as usize).min(cores).max(2);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(|error| PortError::retry(format!("threads cannot be started: {error}")))?;
    let (ending, report) = runtime.block_on(embedded::run(&prepared, screen))?;
    if matches!(ending, Ending::Interrupted) {
        runtime.shutdown_background();
    } else {
        // Files are closed and locks given back before anything is promised.
        runtime.shutdown_timeout(LAST_WORK);
    }
    conclude(&prepared, ending, &report, screen)
}

fn prepare(request: Request, screen: &Screen) -> Result<Prepared> {
    let Request { job, jobs, configuration, parameters, fresh, program, json } = request;
    for key in settings::without_effect(&configuration) {
        screen.message(&format!("warning: {key} has no effect on a run in one process"));
    }
    let parameters = sample::defaults(&job, parameters, screen)?;
    let output = parameters.get("output")?.map_or_else(|| PathBuf::from(format!("out/{}", job.name)), PathBuf::from);
    let options =
        settings::launch(&configuration, &parameters, settings::state_dir(&job, &configuration, &output), fresh)?;
    let graph = settings::graph(&job, &configuration, &parameters)?;
    Ok(Prepared { job, jobs, configuration, parameters, output, graph, options, program, json })
}

/// What is printed at the end: results and the last line on standard output, the rest on standard error.
fn conclude(prepared: &Prepared, ending: Ending, ended: &embedded::Ended, screen: &Screen) -> Result<Ending> {
    let summary = prepared.output.join("summary.json");
    let has_summary = matches!(ending, Ending::Finished) && summary.is_file();
    if prepared.json {
        let (state, savepoint) = match &ending {
            Ending::Finished => ("FINISHED", None),
            Ending::Stopped(savepoint) => ("FINISHED", Some(savepoint.clone())),
            Ending::Failed(_) | Ending::Refused(_) => ("FAILED", None),
            Ending::Canceled | Ending::Interrupted => ("CANCELED", None),
        };
        let summary = has_summary.then(|| summary.display().to_string());
        println!(
            "{}",
            serde_json::json!({ "jid": ended.job, "state": state, "savepoint": savepoint, "summary": summary })
        );
    }
    match &ending {
        Ending::Finished if !prepared.json => {
            if prepared.job.name == FRAUD_DETECTION.name {
                print!("{}", summary::of_fraud_detection(&prepared.output, &prepared.program, ended.seconds)?);
            } else {
                screen.message(&format!("{} finished in {:.2} s", prepared.job.name, ended.seconds));
            }
            if has_summary {
                println!("summary: {}", summary.display());
            }
        }
        Ending::Stopped(savepoint) => {
            screen.message(&format!(
                "stopped. To go on, also at another parallelism (-p):\n  {}",
                resume_command(prepared, savepoint)
            ));
            if !prepared.json {
                println!("savepoint: {savepoint}");
            }
        }
        _ => {}
    }
    Ok(ending)
}

/// The command that goes on from a savepoint.
fn resume_command(prepared: &Prepared, savepoint: &str) -> String {
    let mut words = vec![prepared.program.clone(), "run".to_string(), prepared.job.name.to_string()];
    for (key, value, origin) in prepared.configuration.shown() {
        let own = [keys::RECOVERY_PATH.name, keys::PARALLELISM.name].contains(&key);
        if *origin == millstream_config::Origin::Flag && !own {
            words.extend(["-D".to_string(), format!("{key}={value}")]);
        }
    }
    let parallelism = prepared.configuration.get(&keys::PARALLELISM).0;
    words.extend(["-p".to_string(), parallelism.to_string(), "-s".to_string(), savepoint.to_string()]);
    let mut options = prepared.parameters.iter().peekable();
    if options.peek().is_some() {
        words.push("--".to_string());
    }
    for (key, value) in options {
        words.push(format!("--{key}"));
        words.extend(value.map(str::to_string));
    }
    words.iter().map(|word| text::quoted(word)).collect::<Vec<_>>().join(" ")
}
