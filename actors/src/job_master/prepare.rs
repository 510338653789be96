//! What a deployment starts from, and the records that say so: the newest whole checkpoint, or an older one when that
//! repeats no output. Runs on the blocking executor, before anything is deployed.

use std::sync::Arc;

use millstream_runtime::chain::sink::TRANSACTIONS;
use millstream_runtime::ids::{AttemptId, AttemptNumber, OlderAttempts};
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::store::BlobStore;
use millstream_state::log::{
    AppendOutcome, Look, RecordKind, Restorable, RetainedCheckpoint, newest_usable, read_manifest, segments,
};
use millstream_state::segment::SegmentReader;

use super::cleaning::Cleaning;
use super::records::Ledger;
use super::restore::Restored;

/// What a deployment looks for.
pub struct Search {
    /// What the user named for the first deployment.
    pub given: Option<Restored>,
    /// The savepoint the run was started from.
    pub fallback: Option<Restored>,
    /// Going back may repeat output.
    pub consent: bool,
    /// All regions are deployed, so that all can go back to an older checkpoint.
    pub whole: bool,
    /// How closely segments are checked.
    pub look: Look,
}

/// What a deployment starts from.
pub enum Prepared {
    /// This; and what to tell the user.
    From(Option<Restored>, Vec<String>),
    /// Nothing that some regions could start from alone, says why.
    GoesBack(Vec<String>),
}

/// Finds what the deployment starts from and records it.
///
/// # Errors
/// When the store or the log refuses, or going back would repeat output without consent.
pub fn prepare(ledger: &mut Ledger, attempt: AttemptId, search: Search) -> Result<Prepared, PortError> {
    settle(ledger)?;
    let mut messages = Vec::new();
    let restored = match search.given {
        Some(given) => Some(given),
        None => {
            let found = newest_usable(&ledger.blobs, ledger.log.state(), search.look)?;
            if !found.problems.is_empty() && !search.whole {
                return Ok(Prepared::GoesBack(found.problems));
            }
            usable(ledger, found, search.consent, &mut messages)?.or(search.fallback)
        }
    };
    let checkpoint = restored.as_ref().filter(|restored| !restored.is_savepoint);
    let savepoint = restored.as_ref().filter(|restored| restored.is_savepoint);
    append(
        ledger,
        RecordKind::Restored {
            attempt,
            checkpoint: checkpoint.map(|restored| restored.manifest.checkpoint),
            savepoint: savepoint.map(|restored| restored.path.clone()),
        },
    )?;
    Ok(Prepared::From(restored, messages))
}

/// The newest checkpoint of the log that can be used, if going back to it is allowed; then it is recorded.
fn usable(
    ledger: &mut Ledger,
    found: Restorable,
    consent: bool,
    messages: &mut Vec<String>,
) -> Result<Option<Restored>, PortError> {
    let Restorable { checkpoint, problems } = found;
    if !problems.is_empty() {
        let to = checkpoint.as_ref().map(|(retained, _)| retained.checkpoint);
        let what = match to {
            Some(to) => format!("going on from checkpoint {to}, the one before"),
            None => "going on from the beginning, since no retained checkpoint is whole".to_owned(),
        };
        let passed: Vec<_> =
            ledger.log.state().retained.iter().filter(|kept| Some(kept.checkpoint) > to).cloned().collect();
        if may_have_committed(&ledger.blobs, &passed) && !consent {
            return Err(PortError::fix_input(format!(
                "{}. {what} would repeat output that it may have committed. If that is acceptable, run again with -D execution.checkpointing.allow-fallback=true; otherwise restore a savepoint with -s",
                problems.join("; ")
            )));
        }
        messages.extend(problems.iter().cloned());
        messages.push(what);
        append(ledger, RecordKind::FellBack { to, reasons: problems, consented: consent })?;
    }
    Ok(checkpoint.map(|(retained, manifest)| Restored {
        manifest: Arc::new(manifest),
        path: retained.manifest.path,
        is_savepoint: false,
    }))
}

/// Whether one of these checkpoints listed a transaction, or cannot be asked: its commits may have begun when its
/// record was written.
fn may_have_committed(blobs: &Arc<dyn BlobStore>, passed: &[RetainedCheckpoint]) -> bool {
    let listed = |retained: &RetainedCheckpoint| -> Result<bool, PortError> {
        let manifest = read_manifest(&**blobs, &retained.manifest)?;
        for newest in manifest.vertices.iter().flat_map(|vertex| &vertex.subtasks).filter_map(|s| s.segments.last()) {
            let reader = SegmentReader::open(blobs, newest)?;
            for uid in reader.operators() {
                let states = reader.operator_states(uid)?;
                if states.iter().any(|state| state.name == TRANSACTIONS && !state.items.is_empty()) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    };
    passed.iter().any(|retained| listed(retained).unwrap_or(true))
}

/// What the job leaves behind that no retained checkpoint needs, once the record of its end is durable.
#[must_use]
pub fn strays_at_the_end(ledger: &Ledger) -> Option<Cleaning> {
    let AttemptId { epoch, attempt } = ledger.log.state().attempt?;
    let end = AttemptId { epoch, attempt: AttemptNumber(attempt.0 + 1) };
    Some(strays(ledger, OlderAttempts::before(end), None))
}

/// What attempts that are over have left behind, once the record of the one that begins is durable.
#[must_use]
pub fn strays(ledger: &Ledger, older: OlderAttempts, restored: Option<&Restored>) -> Cleaning {
    let restored = restored.into_iter().flat_map(|restored| segments(&restored.manifest));
    Cleaning::Strays {
        older,
        retained: ledger.log.state().retained.clone(),
        restored: restored.map(|segment| segment.path.clone()).collect(),
    }
}

/// A deployment before this one may have ended before it was known whether its record was written; no other could follow.
fn settle(ledger: &mut Ledger) -> Result<(), PortError> {
    ledger.log.settle()?.map_or(Ok(()), certain)
}

fn append(ledger: &mut Ledger, kind: RecordKind) -> Result<(), PortError> {
    certain(ledger.log.append(kind)?)
}

fn certain(outcome: AppendOutcome) -> Result<(), PortError> {
    match outcome {
        AppendOutcome::Written(_) => Ok(()),
        AppendOutcome::Deposed { by } => Err(PortError::give_up(format!("another leader (epoch {by}) has taken over"))),
        AppendOutcome::Undecided { reason } => Err(PortError::retry(reason)),
    }
}
