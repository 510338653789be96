//! Keeps results of two runs apart: output is continued by what it was written from, replaced by a start from nothing, and
//! never added to by anything else. Used by the launch, under the lock of the state folder.

use std::sync::Arc;

use millstream_runtime::ids::JobId;
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::sink::SinkOutput;
use millstream_state::blob::Location;
use millstream_state::log::recover;
use millstream_state::savepoint::read_savepoint;

use super::{EarlierRun, LaunchOptions, StartFrom};

/// Makes the output fit what the job starts from. Answers the earlier run, if the savepoint is where its output stands:
/// the job then goes on with that run.
pub(super) fn output(
    outputs: &[Arc<dyn SinkOutput>],
    options: &LaunchOptions,
    earlier: &EarlierRun,
) -> Result<Option<JobId>, PortError> {
    match (&options.start_from, earlier) {
        (StartFrom::Nothing, _) | (StartFrom::Latest, EarlierRun::Over { .. }) => {
            outputs.iter().try_for_each(|output| output.clear())?;
        }
        (StartFrom::Latest, EarlierRun::Unfinished { .. }) => {}
        (StartFrom::Latest, EarlierRun::None) => {
            if let Some(place) = committed(outputs)? {
                return Err(PortError::fix_input(format!(
                    "{place} holds results, but {} knows of no run that wrote them: replace them with --fresh, or name another output folder",
                    options.state_dir.display()
                )));
            }
        }
        (StartFrom::Savepoint(path), _) => {
            let Some(place) = committed(outputs)? else { return Ok(None) };
            return newest_of_run(path, options, earlier)?.map(Some).ok_or_else(|| {
                PortError::fix_input(format!(
                    "{place} holds results that do not end where the savepoint {} was made: name another output folder, go on with the run that wrote them by leaving out -s, or start anew with --fresh",
                    path
                ))
            });
        }
    }
    Ok(None)
}

fn committed(outputs: &[Arc<dyn SinkOutput>]) -> Result<Option<String>, PortError> {
    for output in outputs {
        if output.has_committed()? {
            return Ok(Some(output.place()));
        }
    }
    Ok(None)
}

/// The earlier run, if the savepoint is its newest completed checkpoint: what is committed is exactly what the savepoint
/// has behind it.
fn newest_of_run(
    savepoint: &Location,
    options: &LaunchOptions,
    earlier: &EarlierRun,
) -> Result<Option<JobId>, PortError> {
    let (EarlierRun::Unfinished { job, .. } | EarlierRun::Over { job, .. }) = earlier else { return Ok(None) };
    let manifest = read_savepoint(&options.stores, savepoint)?.manifest;
    let blobs = options.stores.open(&options.checkpoints())?;
    let newest = recover(&*blobs, *job)?.retained.last().map(|retained| retained.checkpoint);
    Ok((manifest.job == *job && newest == Some(manifest.checkpoint)).then_some(*job))
}
