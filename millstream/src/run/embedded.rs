//! A job in this process from its launch to its end: progress, REST server, and the savepoint that a signal asks for.

use std::sync::Arc;
use std::time::Duration;

use millstream_actors::job_master::JobHandle;
use millstream_actors::job_master::handle::JobOutcome;
use millstream_actors::launch::{EarlierRun, LaunchOptions, Launched, StartFrom, earlier_run, launch};
use millstream_actors::metrics::Manager;
use millstream_config::keys;
use millstream_runtime::element::Purpose;
use millstream_runtime::job::JobStatus;
use millstream_runtime::ports::PortError;
use millstream_service::Server;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::progress::Progress;
use super::screen::Screen;
use super::signals::Signals;
use super::{Ending, Prepared};
use crate::error::Result;
use crate::serve::figures::Figures;
use crate::serve::jobs::Jobs;
use crate::serve::measuring::{Measured, Measuring};
use crate::serve::programs::Programs;
use crate::serve::{Leader, Settings};

/// How often the live line is redrawn.
const REDRAW: Duration = Duration::from_millis(200);

/// How often a plain line is written.
const PLAIN_LINE: Duration = Duration::from_secs(1);

/// How long the REST server goes on after the end, for clients that have not yet asked what came of their request.
const LAST_ANSWERS: Duration = Duration::from_secs(3);

/// Pause before a stop is tried again: the job may just be restarting.
const STOP_AGAIN: Duration = Duration::from_millis(500);

/// What is said about a run that has ended.
pub(super) struct Ended {
    /// Id of the job.
    pub job: String,
    /// How long it took.
    pub seconds: f64,
}

/// Launches the job and waits for its end.
pub(super) async fn run(prepared: &Prepared, screen: &Screen) -> Result<(Ending, Ended)> {
    let mut signals = Signals::listen()
        .map_err(|error| PortError::retry(format!("signals of the system cannot be received: {error}")))?;
    announce(&prepared.options, screen)?;
    let Launched { handle, registry, memory, restored_from, stopwatch } =
        launch(prepared.graph.clone(), prepared.options.clone()).await?;
    let measured = Measured { registry: Arc::clone(&registry), stopwatch, state: memory };
    let mut measuring = Measuring::start(&prepared.configuration, measured, &[Manager::Job, Manager::Task]);
    if let Err(error) = measuring.answer_prometheus(&prepared.configuration).await {
        screen.message(&format!("warning: {error}; the job runs without it"));
    }
    let figures = Arc::new(Figures::new(registry, stopwatch));
    screen.message(&format!(
        "job {} ({}), parallelism {}",
        prepared.graph.name,
        handle.id(),
        prepared.graph.parallelism()
    ));
    if let Some(from) = restored_from {
        screen.message(&format!("continues from {from}"));
    }
    let server = serve(prepared, &handle, &figures, screen).await;
    let outcome = watch(&handle, &figures, &mut signals, screen).await?;
    let ended = Ended { job: handle.id().to_string(), seconds: figures.elapsed_seconds() };
    drop(measuring);
    let Some(outcome) = outcome else { return Ok((Ending::Interrupted, ended)) };
    if let Some(server) = server {
        server.shutdown(LAST_ANSWERS).await;
    }
    Ok((ending(outcome), ended))
}

/// Says what becomes of an earlier run in the same place.
fn announce(options: &LaunchOptions, screen: &Screen) -> Result<()> {
    // A store that cannot be read now is told by the launch, which tries it out and knows what to do about it.
    let Ok(earlier) = earlier_run(options) else { return Ok(()) };
    let dir = options.state_dir.display();
    match (&options.start_from, earlier) {
        (StartFrom::Latest, EarlierRun::Unfinished { job, checkpoint }) => screen.message(&match checkpoint {
            Some(checkpoint) => {
                format!("an unfinished run ({job}) is in {dir}: going on from its checkpoint {checkpoint}")
            }
            None => format!("an unfinished run ({job}) is in {dir}, without a completed checkpoint: starting over"),
        }),
        (StartFrom::Latest, EarlierRun::Over { job, .. }) => {
            screen.message(&format!("the run before ({job}) is over: replacing its output"));
        }
        (StartFrom::Nothing, EarlierRun::Unfinished { job, .. } | EarlierRun::Over { job, .. }) => {
            screen.message(&format!("starting anew: output and state of the run before ({job}) are removed"));
        }
        (StartFrom::Savepoint(path), _) => screen.message(&format!("starting from {path}")),
        _ => {}
    }
    Ok(())
}

async fn serve(prepared: &Prepared, handle: &JobHandle, figures: &Arc<Figures>, screen: &Screen) -> Option<Server> {
    let configuration = &prepared.configuration;
    let settings = Settings {
        configuration: configuration.clone(),
        checkpoint_storage: prepared.options.checkpoints().to_string(),
    };
    let jobs = Jobs::Embedded { job: handle.clone(), slots: prepared.graph.slots() };
    let programs = Programs::new(&prepared.jobs, figures.now().wall_ms, None);
    let api = Leader::new(jobs, programs, Arc::clone(figures), settings);
    let (address, port) = (configuration.get(&keys::REST_ADDRESS), configuration.get(&keys::REST_PORT));
    match Server::start(&address, port, Arc::new(api)).await {
        Ok(server) => {
            screen.message(&format!("rest: http://{}", server.local_address()));
            Some(server)
        }
        Err(error) => {
            screen.message(&format!("warning: {error}; the job runs without it"));
            None
        }
    }
}

/// Shows progress until the job has ended; `None` if the user did not want to wait any longer.
async fn watch(
    handle: &JobHandle,
    figures: &Figures,
    signals: &mut Signals,
    screen: &Screen,
) -> Result<Option<JobOutcome>> {
    let mut progress = Progress::new(screen.clone());
    let mut ticks = interval(if screen.is_live() { REDRAW } else { PLAIN_LINE });
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick comes at once, before there is anything to show.
    ticks.tick().await;
    let (failed_stops, mut stop_failed) = mpsc::channel(1);
    let mut stopping = false;
    let outcome = handle.outcome();
    tokio::pin!(outcome);
    loop {
        tokio::select! {
            biased;
            outcome = &mut outcome => {
                if let Ok(report) = handle.report().await {
                    progress.finish(&report, figures);
                }
                return outcome.map(Some).map_err(|gone| PortError::give_up(gone.to_string()).into());
            }
            () = signals.next() => {
                if stopping {
                    screen.end_progress();
                    return Ok(None);
                }
                stopping = true;
                screen.message("stopping with a savepoint; once more to end at once");
                tokio::spawn(stop(handle.clone(), failed_stops.clone()));
            }
            Some(reason) = stop_failed.recv() => {
                screen.message(&format!("no savepoint yet: {reason}; trying again"));
            }
            _ = ticks.tick() => {
                if let Ok(report) = handle.report().await {
                    progress.show(&report, figures);
                }
            }
        }
    }
}

/// Asks for the savepoint until the job has ended, and tells of the first failure.
async fn stop(handle: JobHandle, failed: mpsc::Sender<String>) {
    let mut told = false;
    loop {
        let Err(reason) = handle.trigger(Purpose::StopWithSavepoint, false, None).await else { return };
        match handle.report().await {
            Ok(report) if !report.status.is_terminal() => {}
            _ => return,
        }
        if !told {
            told = true;
            // Nobody listens any more: the job has ended.
            let _ = failed.send(reason).await;
        }
        sleep(STOP_AGAIN).await;
    }
}

fn ending(outcome: JobOutcome) -> Ending {
    let failure = || outcome.failure.clone().unwrap_or_else(|| "for an unknown reason".to_string());
    match (outcome.status, &outcome.savepoint) {
        (JobStatus::Finished, Some(savepoint)) => Ending::Stopped(savepoint.clone()),
        (JobStatus::Finished, None) => Ending::Finished,
        (JobStatus::Canceled, _) => Ending::Canceled,
        (JobStatus::Failed, _) if outcome.refused => Ending::Refused(failure()),
        (JobStatus::Failed, _) => Ending::Failed(failure()),
        (other, _) => Ending::Failed(format!("the job ended {other}: another process has taken it over")),
    }
}
