//! The command line of every program that links Millstream: reads arguments, carries out the command, and ends with the
//! exit code of what came of it.
//!
//! - [`arguments`]: what can be said
//! - [`remote`]: clients of a running program
//! - [`certificates`]: who may be a node of a cluster
//! - [`nodes`]: a node, and a cluster of them on this host
//! - [`local`]: jobs, sample data, savepoints, tables

mod arguments;
mod certificates;
mod local;
mod nodes;
mod remote;

use std::io::Write;
use std::path::PathBuf;

use clap::{CommandFactory, FromArgMatches};
use millstream_config::{Configuration, Origin, Sources, keys, load};
use millstream_runtime::ports::ErrorKind;
use tracing_subscriber::EnvFilter;

use crate::client;
use crate::error::{Error, Result};
use crate::jobs::{self, Job};
use crate::run::screen::Screen;
use crate::run::settings::stores;
use crate::run::{self, Ending, Request};
use crate::stream::Parameters;
use arguments::{Arguments, Command, Generate, Inspect, Run, Settings};

/// Wrong usage or configuration.
const USAGE: u8 = 2;
/// Input or state refused.
const REFUSED: u8 = 3;
/// The job failed, or was cancelled.
const FAILED: u8 = 1;
/// Ended by a second Ctrl-C.
const INTERRUPTED: u8 = 130;

/// Variables that begin as those of the configuration but are none of its keys.
const OTHER_VARIABLES: [&str; 2] = [remote::ADDRESS_VARIABLE, millstream_state::failpoint::VARIABLE];

/// A command that did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Own(#[from] Error),
    #[error(transparent)]
    Client(#[from] client::Error),
    /// Whoever reads standard output has enough.
    #[error("standard output is closed")]
    Closed,
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Own(error) => exit_code(error),
            Self::Client(error) => error.exit_code(),
            Self::Closed => 0,
        }
    }
}

fn exit_code(error: &Error) -> u8 {
    match error {
        Error::Usage(_) | Error::Plan(_) => USAGE,
        Error::Port(error) if error.kind == ErrorKind::Retry => FAILED,
        Error::Port(_) => REFUSED,
    }
}

/// Runs a program that offers these jobs: reads the command line and carries it out. Without arguments the first job is
/// run.
///
/// ```no_run
/// use millstream::prelude::*;
///
/// fn numbers(env: &Environment) -> millstream::Result<()> {
///     env.from_sequence("numbers", 1..=10).filter(|n| n % 2 == 0).print();
///     Ok(())
/// }
///
/// fn main() -> millstream::Result<()> {
///     millstream::main(millstream::jobs![numbers])
/// }
/// ```
///
/// Ends the process with the exit codes that `--help` names; it returns only for code 0.
///
/// # Errors
/// None at present: a failure has been told on standard error, and ends the process.
pub fn main(jobs: Vec<Job>) -> Result<()> {
    let program = program();
    // The name in help is that of the program that links the library.
    let name = program.rsplit('/').next().unwrap_or(&program).to_string();
    let command = Arguments::command().bin_name(name);
    let matches = command.get_matches();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let code = match carry_out(arguments, jobs, program) {
        Ok(code) => code,
        Err(failure) => {
            if !matches!(failure, Failure::Closed) {
                eprintln!("error: {failure}");
            }
            failure.exit_code()
        }
    };
    if code == 0 { Ok(()) } else { std::process::exit(i32::from(code)) }
}

fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "millstream".to_string())
}

fn carry_out(arguments: Arguments, jobs: Vec<Job>, program: String) -> Result<u8, Failure> {
    let done = |()| 0;
    match arguments.command {
        None => run(Run::default(), &jobs, program),
        Some(Command::Run(arguments)) => run(arguments, &jobs, program),
        Some(Command::Jobs { json }) => local::jobs(&jobs, json).map(done),
        Some(Command::Generate { what }) => generate(what).map(done),
        Some(Command::Cluster(cluster)) => nodes::cluster(cluster),
        Some(Command::Node(node)) => nodes::node(node, jobs).map(done),
        Some(Command::Certs(certs)) => certificates::make(&certs).map(done),
        Some(Command::Submit(submit)) => remote::submit(&submit, &jobs).map(done),
        Some(Command::Nodes(remote)) => remote::nodes(&remote).map(done),
        Some(Command::List(remote)) => remote::list(&remote).map(done),
        Some(Command::Describe(job)) => remote::describe(&job).map(done),
        Some(Command::Checkpoint(job)) => remote::checkpoint(&job).map(done),
        Some(Command::Savepoint(savepoint)) => match (&savepoint.inspect, &savepoint.id) {
            (Some(Inspect::Inspect { path, json, settings }), _) => {
                let configuration = configuration(settings, |warning| eprintln!("warning: {warning}"))?;
                local::inspect_savepoint(&stores(&configuration), path, *json).map(done)
            }
            (None, Some(id)) => remote::savepoint(&savepoint, id).map(done),
            (None, None) => Err(Error::usage("name a job, or `inspect` and a path").into()),
        },
        Some(Command::Stop(stop)) => remote::stop(&stop).map(done),
        Some(Command::Rescale(rescale)) => remote::rescale(&rescale).map(done),
        Some(Command::Cancel(job)) => remote::cancel(&job).map(done),
        Some(Command::Table { path, json }) => local::table(&path, json).map(done),
    }
}

fn generate(what: Generate) -> Result<(), Failure> {
    let Generate::Transactions { output, events, files, seed, rules, json } = what;
    let options = millstream_fraud::generate::Options { events, files, seed, rules };
    local::generate(&local::Transactions { output, options, json })
}

/// Prints a result.
fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|_| Failure::Closed)
}

/// Loads the configuration and tells its warnings.
fn configuration(settings: &Settings, warn: impl Fn(String)) -> Result<Configuration, Error> {
    let loaded = load(&sources(settings.config.clone(), settings.define.clone()))
        .map_err(|error| Error::usage(error.to_string()))?;
    loaded.warnings.iter().for_each(|warning| warn(warning.to_string()));
    Ok(loaded.configuration)
}

/// What a configuration is made of.
fn sources(file: Option<PathBuf>, flags: Vec<String>) -> Sources {
    // A variable that is not Unicode is none of ours.
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| !OTHER_VARIABLES.contains(&name.as_str()))
        .collect();
    Sources { file, environment, flags }
}

fn run(arguments: Run, jobs: &[Job], program: String) -> Result<u8, Failure> {
    let job = match &arguments.job {
        Some(name) => jobs::find(jobs, name)?.clone(),
        None => jobs.first().cloned().ok_or_else(|| Error::usage("this program has no jobs"))?,
    };
    let screen = Screen::new();
    let mut configuration =
        configuration(&arguments.settings, |warning| screen.message(&format!("warning: {warning}")))?;
    let flags = [
        (keys::PARALLELISM.name, arguments.parallelism),
        (keys::RECOVERY_PATH.name, arguments.savepoint),
        (keys::IGNORE_UNCLAIMED_STATE.name, arguments.allow_non_restored_state.then(|| "true".to_string())),
    ];
    for (key, value) in flags {
        let Some(value) = value else { continue };
        configuration.set(key, &value, Origin::Flag).map_err(|error| Error::usage(error.to_string()))?;
    }
    start_logging(&configuration, arguments.log.as_deref(), &screen)?;
    let parameters = Parameters::parse(&arguments.options)?;
    let (fresh, json) = (arguments.fresh, arguments.json);
    let request = Request { job, jobs: jobs.to_vec(), configuration, parameters, fresh, program, json };
    Ok(match run::run(request, &screen)? {
        Ending::Finished | Ending::Stopped(_) => 0,
        Ending::Failed(reason) => {
            screen.message(&format!("error: the job failed: {reason}"));
            FAILED
        }
        Ending::Refused(reason) => {
            screen.message(&format!("error: {reason}"));
            REFUSED
        }
        Ending::Canceled => {
            screen.message("the job was cancelled");
            FAILED
        }
        Ending::Interrupted => {
            screen.message("ended without a savepoint; the next run goes on from the newest completed checkpoint");
            INTERRUPTED
        }
    })
}

/// Logs go to standard error, between the progress. Warnings only, unless somebody asks for more.
fn start_logging(configuration: &Configuration, flag: Option<&str>, screen: &Screen) -> Result<(), Error> {
    let from_environment = std::env::var("RUST_LOG").ok().filter(|level| !level.is_empty());
    let configured = configuration.setting(keys::LOGGING_LEVEL.name).map(|setting| setting.value.clone());
    let level = flag.map(str::to_string).or(from_environment).or(configured).unwrap_or_else(|| "warn".to_string());
    let filter =
        EnvFilter::try_new(&level).map_err(|error| Error::usage(format!("'{level}' says not what to log: {error}")))?;
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(screen.clone()).with_ansi(screen.is_live());
    // A program that logs in its own way keeps it.
    let _ = subscriber.try_init();
    Ok(())
}
